"""What the rasters look like: decimated pictures, spectra of single pixels; never a whole cube in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geolift.datamodel.alignment import positions_on
from geolift.datamodel.cube import Bands, blocks_of, grid_of, window_values

RGB_NM = (660.0, 560.0, 480.0)
FALSE_COLOUR_NM = (860.0, 660.0, 560.0)
NEAR_NM = 60.0


@dataclass(frozen=True, eq=False)
class View:
    """A decimated look at a window of a grid: every ``step``-th pixel; ``grid`` is that of the picked pixels."""

    rows: np.ndarray
    cols: np.ndarray
    step: int
    grid: GeoBox

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the picture."""
        return len(self.rows), len(self.cols)


def view_of(grid: GeoBox, longest_px: int, window: tuple[slice, slice] | None = None) -> View:
    """Look at a grid, or a window of it, with at most ``longest_px`` pixels along an edge.

    >>> view = view_of(GeoBox((90, 60), Affine(10, 0, 0, 0, -10, 0), None), 30)
    >>> view.shape, view.step, tuple(view.grid.affine * (0.5, 0.5))
    ((30, 20), 3, (15.0, -15.0))
    """
    rows, cols = window or (slice(0, grid.shape[0]), slice(0, grid.shape[1]))
    step = max(1, int(np.ceil(max(rows.stop - rows.start, cols.stop - cols.start) / longest_px)))
    first = min(step // 2, rows.stop - rows.start - 1, cols.stop - cols.start - 1)
    picked_rows = np.arange(rows.start + first, rows.stop, step)
    picked_cols = np.arange(cols.start + first, cols.stop, step)
    corner = Affine.translation(picked_cols[0] + 0.5 - step / 2, picked_rows[0] + 0.5 - step / 2)
    affine = grid.affine * corner * Affine.scale(step)
    return View(picked_rows, picked_cols, step, GeoBox((len(picked_rows), len(picked_cols)), affine, grid.crs))


def nearest_bands(bands: Bands, targets_nm: tuple[float, ...]) -> list[int] | None:
    """Return the 0-based good bands nearest to some wavelengths, or None if one has none near."""
    centres = np.where(bands.good, bands.wavelength_nm, np.nan)
    if not np.isfinite(centres).any():
        return None
    picked = [int(np.nanargmin(np.abs(centres - target))) for target in targets_nm]
    near = all(abs(centres[band] - target) < NEAR_NM for band, target in zip(picked, targets_nm, strict=True))
    return picked if near and len(set(picked)) == len(targets_nm) else None


def seen_on(
    view: View, data: Any, grid: GeoBox, bands: list[int] | None = None, shift_px: tuple[float, float] = (0.0, 0.0)
) -> np.ndarray:
    """Read a lazy array (band, y, x) at a view's pixels: the nearest pixel's values, NaN where there is none.

    Parameters
    ----------
    data, grid
        The array, on its own grid, in any CRS.
    bands
        Which of its bands; all by default.
    shift_px
        (dy, dx) in pixels of the view's full grid by which the array counts as moved.
    """
    moved = GeoBox(
        view.grid.shape,
        view.grid.affine * Affine.translation(-shift_px[1] / view.step, -shift_px[0] / view.step),
        view.grid.crs,
    )
    rows, cols = np.broadcast_arrays(*(np.floor(at).astype(np.int64) for at in positions_on(moved, grid)))
    chosen = list(range(data.shape[0])) if bands is None else bands
    out = np.full((len(chosen), *view.shape), np.nan, np.float32)
    for block_rows, block_cols in blocks_of(data):
        inside = (rows >= block_rows.start) & (rows < block_rows.stop)
        inside &= (cols >= block_cols.start) & (cols < block_cols.stop)
        if not inside.any():
            continue
        r, c = rows[inside], cols[inside]
        part = window_values(data, slice(r.min(), r.max() + 1), slice(c.min(), c.max() + 1))
        out[:, inside] = part[chosen][:, r - r.min(), c - c.min()]
    return out


def spectrum_at(cube: xr.DataArray, grid: GeoBox, row: float, col: float) -> np.ndarray | None:
    """Return the spectrum (band,) of the cube's pixel under a position on another grid; None outside.

    ``row``, ``col``: in pixels of ``grid``, whose first pixel's centre is at (0.5, 0.5).
    """
    point = GeoBox((1, 1), grid.affine * Affine.translation(col - 0.5, row - 0.5), grid.crs)
    at_row, at_col = (int(np.floor(np.ravel(at)[0])) for at in positions_on(point, grid_of(cube)))
    if not (0 <= at_row < cube.sizes["y"] and 0 <= at_col < cube.sizes["x"]):
        return None
    return window_values(cube.data, slice(at_row, at_row + 1), slice(at_col, at_col + 1))[:, 0, 0]
