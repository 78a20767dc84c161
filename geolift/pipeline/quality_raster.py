"""Where not to trust the product: the quality bits of every pixel, and the pixels that no HSI pixel covers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geolift.datamodel.alignment import covered
from geolift.datamodel.cube import Bands, make_cube
from geolift.datamodel.quality import quality_bits
from geolift.pair.comparison import Comparison
from geolift.pair.scene_pair import ScenePair
from geolift.pipeline.trained import TileChange, TileCorrection, Trained

STRIP_ROWS = 512

LEAST_SHARE = 0.5
"""Pixels that get less of the correction count as not refined."""


@dataclass(frozen=True, eq=False)
class HsiCoverage:
    """Where the HSI is valid: its grid, moved by the shift that is applied, and bool (y, x) on it."""

    grid: GeoBox
    valid: np.ndarray

    def missing(self, grid: GeoBox) -> np.ndarray:
        """Tell which pixels of a grid have their centre on no valid HSI pixel: bool of the grid's shape."""
        return np.asarray(~covered(grid, self.grid, self.valid))

    def count_missing(self, grid: GeoBox) -> int:
        """Count them, strip by strip."""
        height = int(grid.shape[0])
        strips = (grid[row : min(row + STRIP_ROWS, height), :] for row in range(0, height, STRIP_ROWS))
        return sum(int(self.missing(strip).sum()) for strip in strips)


def hsi_coverage(pair: ScenePair, valid: np.ndarray, compared: Comparison | None) -> HsiCoverage:
    """Return where the HSI is valid (y, x), moved by the shift that was applied."""
    grid = pair.hsi_grid
    if compared is None or compared.applied_px == (0.0, 0.0):
        return HsiCoverage(grid, valid)
    overlay = compared.overlay
    move_x, move_y = overlay.shift_units(*overlay.fine_shift(*compared.applied_px))
    return HsiCoverage(GeoBox(grid.shape, Affine.translation(move_x, move_y) * grid.affine, grid.crs), valid)


def quality_raster(
    pair: ScenePair,
    trained: Trained,
    compared: Comparison | None,
    coverage: HsiCoverage,
    correction: TileCorrection | None = None,
    change: TileChange | None = None,
) -> xr.DataArray:
    """Put the quality bits of every output pixel on the product's grid, lazily (1, y, x)."""
    # Unmasked: a pixel that has no value is told from one that is hidden.
    data = da.asarray(pair.msi.data)[list(pair.spectra.msi_bands)][:, pair.region.rows, pair.region.cols]
    grid, relation = pair.region.grid, None if compared is None else compared.harmonization
    doubtful = compared is None or (compared.shift is not None and not compared.shift.reliable)

    def block(values: np.ndarray, hidden: np.ndarray, block_info: Any = None) -> np.ndarray:
        (_, _), (row, row_end), (col, col_end) = block_info[None]["array-location"]
        differs = not_refined = None
        if correction is not None:
            share, differs = correction.withheld(slice(row, row_end), slice(col, col_end))
            not_refined = share < LEAST_SHARE
        harmonised = values if relation is None else relation.apply(values)
        if change is not None:
            changed = change.differs(slice(row, row_end), slice(col, col_end))
            differs = changed if differs is None else differs | changed
            harmonised = change.applied(harmonised, (row, col))
        bits = quality_bits(
            nodata=~np.isfinite(values).all(axis=0),
            masked=hidden[0],
            out_of_range=trained.model.out_of_range(harmonised),
            outside_hsi=coverage.missing(grid[row:row_end, col:col_end]),
            low_confidence=doubtful,
            differs=differs,
            not_refined=not_refined,
        )
        return bits[None].astype(np.float32)

    flags = data.map_blocks(
        block,
        pair.product_mask[None].rechunk((1, *data.chunks[1:])),
        chunks=((1,), *data.chunks[1:]),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )
    unknown = np.array([np.nan])
    return make_cube(flags, grid=grid, bands=Bands(("qa",), unknown, unknown, np.array([True])))
