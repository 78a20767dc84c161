"""The whole pipeline against its two floors, computing alone and writing alone, in one run on the same cores."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from common import MSI_BANDS, SENSOR, Clock, arguments, geolift, in_threads, make_hsi, make_msi, table

from geolift.network.inference import encode_block
from geolift.network.pixels import Placing
from geolift.pipeline.trained import Trained, inverted, load_trained
from geolift.readers import open_cube
from geolift.runtime.machine import available_cpus
from geolift.settings import ApplySettings
from geolift.writer import Encoding, write_cube

TILE = 256


def compute_alone(trained: Trained, msi: np.ndarray, encoding: Encoding, tiles: int, threads: int) -> Clock:
    """The network over tiles in memory, to stored numbers; they are thrown away."""
    block = np.ascontiguousarray(msi[:, :TILE, :TILE])
    placing = Placing(trained.good, len(trained.bands))
    with Clock() as clock:
        in_threads(threads, [lambda: encode_block(trained.model, block, encoding, placing)] * tiles)
    return clock


def write_alone(path: Path, stored: np.ndarray, edge: int, threads: int) -> Clock:
    """The same bytes through GDAL's own writer with its threads, from a tile in memory."""
    size = edge * TILE
    options: dict[str, Any] = {"compress": "ZSTD", "zstd_level": 1, "interleave": "band", "num_threads": threads}
    shape = {"count": len(stored), "height": size, "width": size, "dtype": "int16", "bigtiff": "yes"}
    with Clock() as clock:
        blocks = {"tiled": True, "blockxsize": TILE, "blockysize": TILE}
        with rasterio.open(
            path, "w", driver="GTiff", transform=rasterio.Affine.scale(2), **shape, **blocks, **options
        ) as f:
            for row in range(edge):
                for col in range(edge):
                    f.write(stored, window=((row * TILE, (row + 1) * TILE), (col * TILE, (col + 1) * TILE)))
    path.unlink()
    return clock


def main() -> None:
    """Measure."""
    given = arguments(__doc__ or "", bands=200, tiles=12, repeats=3)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        size = given.tiles * TILE
        hsi = make_hsi(folder / "hsi.tif", given.bands, 300)
        msi = make_msi(folder / "msi.tif", given.bands, size)
        model = folder / "model.safetensors"
        geolift("train", hsi, "--sensor", SENSOR, "--msi-bands", ",".join(MSI_BANDS), "-o", model, "--overwrite", "-q")
        trained, threads = load_trained(model), available_cpus()
        settings = ApplySettings(overwrite=True)
        encoding = Encoding.of(settings, 1e-4)
        values = open_cube(msi).values
        placing = Placing(trained.good, len(trained.bands))
        stored, _ = encode_block(trained.model, values[:, :TILE, :TILE], encoding, placing)
        rows = []
        for _ in range(given.repeats):
            compute = compute_alone(trained, values, encoding, given.tiles**2, threads)
            write = write_alone(folder / "w.tif", stored, given.tiles, threads)
            (folder / "out.tif").unlink(missing_ok=True)  # taking an old file off the disk belongs to neither floor
            with Clock() as whole:
                fused = inverted(open_cube(msi, None, TILE), (0, 1, 2, 3), trained, settings)
                out = folder / "out.tif"
                write_cube(fused.cube, out, settings, encoding=encoding, threads=threads, source=fused.source)
            pixels = size * size / 1e6
            rows.append(
                {
                    "compute Mpx/s": pixels / compute.wall_s,
                    "write Mpx/s": pixels / write.wall_s,
                    "pipeline Mpx/s": pixels / whole.wall_s,
                    "share of floors": (compute.wall_s + write.wall_s) / whole.wall_s,
                    "the same in CPU time": (compute.cpu_s + write.cpu_s) / whole.cpu_s,
                    "write GB/s": pixels * given.bands * 2e-3 / write.wall_s,
                }
            )
        table(rows, given.json)


if __name__ == "__main__":
    main()
