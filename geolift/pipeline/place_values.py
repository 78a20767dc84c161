"""What an image holds at points and in polygons: mean, spread and number of pixels, read block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from geolift.datamodel.cube import grid_of, window_values

STRIP_PX = 1 << 16
"""Pixels of a polygon's window that are looked at at once."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PlaceValues:
    """Values at n places; NaN = nothing valid there.

    ``mean``, ``spread`` (n, band): over the valid pixels of a place, the standard deviation NaN below two of them;
    ``pixels`` (n,): pixels that lie in it, valid or not.
    """

    mean: np.ndarray
    spread: np.ndarray
    pixels: np.ndarray


def values_at(cube: xr.DataArray, geometries: Sequence[BaseGeometry]) -> PlaceValues:
    """Read an image at places.

    A point has the pixel that it lies in; a polygon the pixels whose centres lie in it, or, where it is smaller than
    that, the pixel under a point inside it.

    ``cube``: DataArray (band, y, x). ``geometries``: points and polygons, in the cube's CRS.

    Examples
    --------
    >>> from geolift.datamodel.cube import Bands, make_cube
    >>> bands = Bands(("b",), np.full(1, 500.0), np.full(1, 10.0), np.ones(1, bool))
    >>> grid = GeoBox((2, 2), Affine(10, 0, 0, 0, -10, 20), None)
    >>> image = make_cube(np.array([[[1.0, 2.0], [3.0, 4.0]]]), grid=grid, bands=bands)
    >>> found = values_at(image, [shapely.Point(15, 5), shapely.box(0, 0, 20, 20), shapely.Point(-1, 5)])
    >>> found.mean[:, 0].tolist(), found.pixels.tolist()
    ([4.0, 2.5, nan], [1, 4, 0])
    """
    grid, count = grid_of(cube), cube.sizes["band"]
    mean, spread = (np.full((len(geometries), count), np.nan) for _ in range(2))
    pixels = np.zeros(len(geometries), np.int64)
    for place in _by_block(geometries, grid, cube):
        number, total, square, valid = 0, np.zeros(count), np.zeros(count), np.zeros(count)
        for values in pixels_in(cube, geometries[place], grid):
            finite = np.isfinite(values)
            known = np.where(finite, values, 0.0).astype(np.float64)
            number += values.shape[1]
            total += known.sum(axis=1)
            square += (known**2).sum(axis=1)
            valid += finite.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean[place] = total / valid
            variance = np.maximum(square / valid - mean[place] ** 2, 0.0)
        spread[place] = np.where(valid > 1, np.sqrt(variance), np.nan)
        pixels[place] = number
    return PlaceValues(mean=mean, spread=spread, pixels=pixels)


def _by_block(geometries: Sequence[BaseGeometry], grid: GeoBox, cube: xr.DataArray) -> list[int]:
    """Return the places in the order of the blocks they lie in, so that a block is read once."""
    chunk = max(1, cube.data.chunks[1][0] if hasattr(cube.data, "chunks") else grid.shape[0])

    def key(place: int) -> tuple[int, float]:
        col, row = ~grid.affine * (geometries[place].centroid.x, geometries[place].centroid.y)
        return int(row // chunk), col

    return sorted(range(len(geometries)), key=key)


def pixels_in(cube: xr.DataArray, geometry: BaseGeometry, grid: GeoBox) -> Iterator[np.ndarray]:
    """Yield the pixels (band, n) of an image that lie in a geometry; nothing outside the image."""
    inside = 0
    if geometry.geom_type != "Point":
        for rows, cols, mask in _masks(geometry, grid):
            if mask.any():
                inside += int(mask.sum())
                yield window_values(cube.data, rows, cols)[:, mask]
    if inside == 0:
        point = geometry if geometry.geom_type == "Point" else geometry.representative_point()
        col, row = (int(np.floor(at)) for at in ~grid.affine * (point.x, point.y))
        if 0 <= row < grid.shape[0] and 0 <= col < grid.shape[1]:
            yield window_values(cube.data, slice(row, row + 1), slice(col, col + 1))[:, 0]


def _masks(geometry: BaseGeometry, grid: GeoBox) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Yield strips of rows (rows, cols, mask) of a polygon's window on a grid."""
    outline = shapely.transform(geometry, lambda xy: np.column_stack(_on_grid(grid.affine, xy[:, 0], xy[:, 1])))
    left, top, right, bottom = outline.bounds
    cols = slice(max(0, int(np.floor(left))), min(int(grid.shape[1]), int(np.ceil(right))))
    first, last = max(0, int(np.floor(top))), min(int(grid.shape[0]), int(np.ceil(bottom)))
    if cols.start >= cols.stop:
        return
    step = max(1, STRIP_PX // (cols.stop - cols.start))
    shapely.prepare(outline)
    for row in range(first, last, step):
        rows = slice(row, min(last, row + step))
        x, y = np.meshgrid(np.arange(cols.start, cols.stop) + 0.5, np.arange(rows.start, rows.stop) + 0.5)
        yield rows, cols, shapely.contains_xy(outline, x, y)


def _on_grid(affine: Affine, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return columns and rows, in pixels from the upper left corner."""
    inverse = ~affine
    return inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f
