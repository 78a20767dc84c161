"""Many pairs on the nodes that a queueing system lends: `geolift batch` on a cluster made by dask-jobqueue.

    python examples/batch_on_queue.py SLURM MANIFEST.csv [options of geolift batch]

SLURM, PBS, SGE, LSF, OAR, HTCondor or Moab (`pip install dask-jobqueue`); "Local" is two processes of this machine. The
nodes must see the files of the manifest. When the queue ends the job of this script, run it again: it goes on with what
is missing.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from distributed import LocalCluster


def lent(system: str) -> Any:
    """Return a cluster in whose jobs eight pairs run at once, each with one thread and 4 GB."""
    if system == "Local":
        return LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    import dask_jobqueue

    cluster = getattr(dask_jobqueue, f"{system}Cluster")(
        cores=8,
        processes=8,
        memory="32GB",
        walltime="04:00:00",
        # Workers leave before the queue ends them; their pairs are begun anew elsewhere.
        worker_extra_args=["--lifetime", "225m", "--lifetime-stagger", "10m"],
    )
    cluster.adapt(minimum_jobs=1, maximum_jobs=20)
    return cluster


def main(system: str, *arguments: str) -> int:
    """Run the batch; return its exit code."""
    with lent(system) as cluster:
        command = ["batch", *arguments, "--scheduler", cluster.scheduler_address]
        return subprocess.run([sys.executable, "-m", "geolift", *command], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
