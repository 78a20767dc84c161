"""Masks brought to an image's own grid: cloud, shadow, saturation, or what the user says."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox
from scipy import ndimage

from geolift.datamodel.alignment import bounds_on, positions_on, window_of
from geolift.datamodel.cube import bands_of, grid_of, make_cube, window_values
from geolift.errors import InputError
from geolift.readers.masks import read_mask


def mask_of(cube: xr.DataArray, choice: str, dilate: int = 0) -> da.Array | None:
    """Return what not to use of an image, lazily: bool (y, x) on its own grid and chunks; None = all may be used.

    Raises InputError if the mask file is missing, no raster, or of another place.

    ``choice``: ``auto`` the product's own quality layers, ``none``, or a raster file whose non-zero pixels are masked.
    ``dilate``: grow masked areas by so many pixels of the image.
    """
    mask = read_mask(cube, choice)
    if mask is None:
        return None
    grid, mask_grid = grid_of(cube), grid_of(mask)
    if choice != "auto":
        _require_common_ground(grid, mask_grid, choice, str(cube.attrs.get("source", "the image")))
    data = da.asarray(cube.data)

    def block(block_info: Any = None) -> np.ndarray:
        (row, row_end), (col, col_end) = block_info[None]["array-location"]
        return mask_window(grid, mask, mask_grid, slice(row, row_end), slice(col, col_end), dilate)

    flags: da.Array = da.map_blocks(block, chunks=data.chunks[1:], dtype=bool, meta=np.empty((0, 0), bool))
    return flags


def _require_common_ground(grid: GeoBox, mask: GeoBox, name: str, source: str) -> None:
    """Refuse a mask file that reaches no pixel of the image: it would mask nothing, and nobody would notice."""
    along = mask.affine
    upright = along.b == 0 and along.d == 0 and along.e < 0
    if upright and window_of(grid, bounds_on(mask, grid)) is None:
        raise InputError(
            f"{name}: covers no pixel of {source}; a mask of the same place is needed. Is its CRS right? "
            "--mask none goes without."
        )


def mask_window(
    grid: GeoBox, mask: xr.DataArray, mask_grid: GeoBox, rows: slice, cols: slice, dilate: int
) -> np.ndarray:
    """Bring a mask to a window of a grid by its nearest pixels, and grow it; where it does not reach: False."""
    top, left = max(0, rows.start - dilate), max(0, cols.start - dilate)
    bottom, right = min(grid.shape[0], rows.stop + dilate), min(grid.shape[1], cols.stop + dilate)
    part = grid[top:bottom, left:right]
    row, col = (np.floor(p).astype(np.int64) for p in positions_on(part, mask_grid))
    inside = (row >= 0) & (row < mask_grid.shape[0]) & (col >= 0) & (col < mask_grid.shape[1])
    if not inside.any():
        return np.zeros((rows.stop - rows.start, cols.stop - cols.start), bool)
    row, col = np.clip(row, 0, mask_grid.shape[0] - 1), np.clip(col, 0, mask_grid.shape[1] - 1)
    first_row, first_col = int(row.min()), int(col.min())
    window = (slice(first_row, int(row.max()) + 1), slice(first_col, int(col.max()) + 1))
    values = window_values(mask.data[None], *window)[0]
    found = values[row - first_row, col - first_col] & inside
    if dilate:
        found = ndimage.binary_dilation(found, iterations=dilate)
    return np.asarray(found[rows.start - top : rows.stop - top, cols.start - left : cols.stop - left], dtype=bool)


def without(cube: xr.DataArray, mask: da.Array | None) -> xr.DataArray:
    """Return an image with masked pixels invalid in all bands."""
    if mask is None:
        return cube
    data = da.where(mask[None], np.float32(np.nan), da.asarray(cube.data))
    return make_cube(data, grid=grid_of(cube), bands=bands_of(cube), attrs=cube.attrs)
