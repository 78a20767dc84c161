"""What makes a finished raster quick and good to look at: overviews and statistics.

None of it touches a pixel. The overviews are a file of their own, since GDAL and QGIS look for it beside a raster
and a raster without it is complete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.windows import Window

from geolift.runtime.system import gdal_threads
from geolift.settings import WritingSettings
from geolift.writer.description import quiet_without_georeference
from geolift.writer.tiles import Tile, tiles_of

QUICK_PX = 4096
"""A raster up to this edge is drawn in a fifth of a second from its own blocks; a larger one gets overviews."""
FIRST_FACTOR = 4
"""Half-size overviews would cost a quarter of the disk and save little; from 4 on all together cost a twelfth."""
LAST_PX = 512
CELL_PX, CELLS, STEP = 256, 9, 4
OVERVIEW_OPTIONS = {
    "TIFF_USE_OVR": "TRUE",
    "COMPRESS_OVERVIEW": "ZSTD",
    "ZSTD_LEVEL_OVERVIEW": "1",
    "INTERLEAVE_OVERVIEW": "BAND",
    "BIGTIFF_OVERVIEW": "IF_SAFER",
    "GDAL_TIFF_OVR_BLOCKSIZE": "256",
}


def overview_factors(shape: tuple[int, int], settings: WritingSettings) -> list[int]:
    """Return by how much each overview of a raster (rows, cols) is smaller; none for what has its own way (COG)."""
    edge = max(shape)
    if settings.overviews == "none" or settings.of not in ("GTiff", "ENVI") or edge <= QUICK_PX:
        return []
    factors = [FIRST_FACTOR]
    while edge / factors[-1] > LAST_PX:
        factors.append(2 * factors[-1])
    return factors


def build_overviews(file: Path, factors: list[int], threads: int) -> None:
    """Average a finished raster into FILE.ovr; invalid pixels take no part in a mean."""
    file.with_name(file.name + ".ovr").unlink(missing_ok=True)
    options = rasterio.Env(**OVERVIEW_OPTIONS, GDAL_NUM_THREADS=gdal_threads(threads))
    with quiet_without_georeference(), options, rasterio.open(file, "r+") as target:
        target.build_overviews(factors, Resampling.average)


def cells_of(raster: tuple[int, int]) -> list[Tile]:
    """Return cells spread over a raster (rows, cols), on a grid of their own: they depend on nothing but its size."""
    cells = tiles_of(raster, (CELL_PX, CELL_PX))
    chosen = np.unique(np.linspace(0, len(cells) - 1, min(CELLS, len(cells))).round().astype(int))
    return [cells[i] for i in chosen]


def thinned(cell: np.ndarray) -> np.ndarray:
    """Return some of the pixels of a cell (band, y, x)."""
    return cell[:, ::STEP, ::STEP].copy()


def cells_seen(cells: Sequence[Tile], tile: Tile, stored: np.ndarray) -> dict[Tile, np.ndarray]:
    """Return the cells that lie within a tile (band, y, x), thinned: reading them again would cost more."""
    found = {}
    for cell in cells:
        row, col = cell.row - tile.row, cell.col - tile.col
        if 0 <= row <= tile.rows - cell.rows and 0 <= col <= tile.cols - cell.cols:
            found[cell] = thinned(stored[:, row : row + cell.rows, col : col + cell.cols])
    return found


def sample(file: Path, seen: Mapping[Tile, np.ndarray], threads: int = 1) -> np.ndarray:
    """Return stored numbers from cells spread over a raster, (band, n) float32, NaN = invalid.

    ``seen``: what is known of cells; the others are read.
    """
    options = rasterio.Env(GDAL_NUM_THREADS=gdal_threads(threads))
    with quiet_without_georeference(), options, rasterio.open(file) as source:
        parts = []
        for cell in cells_of(source.shape):
            known = seen.get(cell)
            if known is None:
                known = thinned(source.read(window=Window(cell.col, cell.row, cell.cols, cell.rows)))
            values = known.reshape(source.count, -1).astype(np.float32)
            values[values == np.float32(source.nodata)] = np.nan
            parts.append(values)
    return np.concatenate(parts, axis=1)


def statistics(sampled: np.ndarray) -> list[dict[str, str]]:
    """Return GDAL's statistics items of each band of a sample (band, n); none for a band without a valid value."""
    found = []
    for values in sampled:
        valid = values[np.isfinite(values)].astype(np.float64)
        numbers = {} if valid.size == 0 else {
            "MINIMUM": valid.min(),
            "MAXIMUM": valid.max(),
            "MEAN": valid.mean(),
            "STDDEV": valid.std(),
            "VALID_PERCENT": 100 * valid.size / values.size,
        }  # fmt: skip
        items = {f"STATISTICS_{name}": f"{number:.10g}" for name, number in numbers.items()}
        found.append(items | {"STATISTICS_APPROXIMATE": "YES"} if items else {})
    return found
