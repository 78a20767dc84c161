"""Many pairs on a Dask cluster: one pair per task, failures told at the end.

    python examples/batch_on_dask.py MANIFEST.csv [tcp://SCHEDULER:8786]

The manifest is the one of `geolift batch`. On one machine use that command; this is for a cluster whose workers see the
same disk. Without an address a small cluster of this machine's own processes is started. To spread one large scene over
a cluster instead of many scenes, see `geolift fuse --scheduler`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from distributed import Client, as_completed

from geolift.batch import jobs as batch_jobs
from geolift.batch.manifest import Job, read_manifest
from geolift.errors import GeoliftError


def fuse_pair(job: Job) -> str:
    """Do one job on a worker; return its output."""
    from geolift.pipeline import files

    if job.error is not None:
        raise job.error
    settings = job.settings.model_copy(update={"threads": 1, "overwrite": True})
    work = files.fuse_files if job.verb == "fuse" else files.apply_files
    return str(work(*job.sources, job.output, settings).output)


def main(manifest: Path, scheduler: str | None = None) -> dict[str, str]:
    """Run the jobs that are not finished; return what became of each output."""
    jobs = read_manifest(manifest)
    todo = [job for job in jobs if job.error or batch_jobs.state_of(job).kind in ("missing", "stale")]
    told = {str(job.output): "finished before" for job in jobs if job not in todo}
    # One thread per worker: geolift's own threads and Dask's would otherwise share the same cores twice.
    own = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with Client(scheduler) if scheduler else Client(**own) as client:
        for job in todo:
            job.output.parent.mkdir(parents=True, exist_ok=True)
        # Pure tasks are remembered by their arguments; a job must be done anew when its inputs have changed.
        futures = {client.submit(fuse_pair, job, pure=False): job for job in todo}
        for future in as_completed(futures):
            output = str(futures[future].output)
            try:
                told[output] = f"done: {future.result()}"
            except GeoliftError as error:
                told[output] = f"failed: {error}"
            print(f"{output}: {told[output]}")
    return told


if __name__ == "__main__":
    ended = main(Path(sys.argv[1]), *sys.argv[2:3])
    sys.exit(any(text.startswith("failed") for text in ended.values()))
