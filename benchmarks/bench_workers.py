"""One single-threaded worker process of a Dask cluster against two: one GeoTIFF writer, and Zarr shards."""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path

from common import MSI_BANDS, SENSOR, Clock, arguments, geolift, make_hsi, make_msi, table
from distributed import LocalCluster

from geolift.pipeline.files import apply_files
from geolift.settings import ApplySettings


def spent(cluster: LocalCluster) -> float:
    """Return the CPU seconds of all workers so far; they tell more than wall time where cores are busy."""
    with cluster.get_client() as client:
        return float(sum(client.run(time.process_time).values()))


def main() -> None:
    """Measure."""
    given = arguments(__doc__ or "", bands=200, size=1536, workers=2)
    rows = []
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        hsi, model = make_hsi(folder / "hsi.tif", given.bands, 300), folder / "model.safetensors"
        geolift("train", hsi, "--sensor", SENSOR, "--msi-bands", ",".join(MSI_BANDS), "-o", model, "--overwrite", "-q")
        msi, small = make_msi(folder / "msi.tif", given.bands, given.size), make_msi(folder / "s.tif", given.bands, 512)
        one: dict[str, float] = {}
        for workers in range(1, given.workers + 1):
            made = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
            with LocalCluster(**made) as cluster:
                for of, suffix in (("GTiff", ".tif"), ("Zarr", ".zarr")):
                    settings = ApplySettings(overwrite=True, scheduler=cluster.scheduler_address, of=of)
                    apply_files(model, small, folder / f"warm-{of}{suffix}", settings)  # imports are not the matter
                    before = spent(cluster)
                    with Clock() as clock:
                        apply_files(model, msi, folder / f"{workers}-{of}{suffix}", settings)
                    theirs = spent(cluster) - before
                    gain = one.setdefault(of, clock.wall_s) / clock.wall_s
                    row = {"of": of, "workers": workers, "wall s": clock.wall_s, "times one": gain}
                    rows.append(row | {"CPU s of workers": theirs, "of writer and scheduler": clock.cpu_s})
    table(rows, given.json)


if __name__ == "__main__":
    main()
