"""Where the pixels of one grid lie on another: windows, footprints, positions."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from pyproj.exceptions import ProjError

from geolift.errors import InputError

SNAP_PX = 1e-6
POSITION_STEP_PX = 32
METRES_PER_DEGREE = 111_320.0
TURN = 360.0
"""Degrees; the unit that geographic CRSs of images have."""


UNPLACED = {
    "gcps": "placed by ground control points (GCPs) alone, without a transform; resample it onto a map grid first: "
    "gdalwarp -tps -t_srs EPSG:… IN OUT",
    "rpcs": "placed by rational polynomials (RPCs) alone, without a transform; orthorectify it first: "
    "gdalwarp -rpc -to RPC_DEM=dem.tif -t_srs EPSG:… IN OUT",
}


def require_north_up(grid: GeoBox, source: str, georeference: str | None = None) -> None:
    """Refuse grids that geolift does not fuse, by name.

    Raises InputError if the grid has no CRS, is not georeferenced, rotated or south-up.

    ``georeference``: what the file has instead of a transform: ``gcps`` or ``rpcs``.
    """
    affine = grid.affine
    if affine.is_identity and georeference in UNPLACED:
        raise InputError(f"{source}: {UNPLACED[georeference]}")
    if affine.is_identity:
        raise InputError(f"{source}: not georeferenced (no transform); set one with gdal_edit.py -a_ullr")
    if grid.crs is None:
        raise InputError(f"{source}: no CRS; needed to place it. Pass --hsi-crs or --msi-crs EPSG:…")
    if affine.b != 0 or affine.d != 0:
        angle = np.degrees(np.arctan2(affine.d, affine.a))
        raise InputError(
            f"{source}: the grid is rotated by {angle:.3g}°; needed is a north-up one. "
            "Bring it there first: gdalwarp -t_srs its CRS -r near IN OUT."
        )
    if affine.e > 0 or affine.a < 0:
        raise InputError(
            f"{source}: rows run from south to north (or columns from east to west); needed is a north-up grid. "
            "Open it with geolift.open, which turns it, or bring it there first: gdalwarp IN OUT."
        )


def bounds_in(grid: GeoBox, crs: CRS | None) -> tuple[float, float, float, float]:
    """Return the bounding box (left, bottom, right, top) of a grid's footprint in another CRS.

    Where it crosses the 180th meridian, ``right`` is beyond 180°.
    """
    affine, (rows, cols) = grid.affine, grid.shape
    left, bottom, right, top = affine.c, affine.f + rows * affine.e, affine.c + cols * affine.a, affine.f
    if grid.crs == crs:
        return left, bottom, right, top
    # Points along the edges, so that curved borders keep their extremes.
    found = transformer(grid.crs, crs).transform_bounds(left, bottom, right, top, densify_pts=64)
    left, bottom, right, top = (float(v) for v in found)
    return left, bottom, right + TURN * (left > right), top


def bounds_on(grid: GeoBox, other: GeoBox) -> tuple[float, float, float, float]:
    """Return the bounding box of a grid's footprint in the CRS of another, in its turn of longitude."""
    left, bottom, right, top = bounds_in(grid, other.crs)
    turn = float(turn_to(other, (left + right) / 2))
    return left + turn, bottom, right + turn, top


def turn_to(grid: GeoBox, x: np.ndarray | float) -> np.ndarray:
    """Return the whole turns in degrees that bring longitudes next to a grid's: 0 for a CRS that is not geographic.

    179.9° and −180.1° are one meridian: neighbours across the 180th may be written either way.
    """
    if grid.crs is None or not grid.crs.geographic:
        return np.zeros(np.shape(x))
    middle = grid.affine.c + grid.affine.a * grid.shape[1] / 2
    return np.asarray(TURN * np.round((middle - np.asarray(x)) / TURN))


def coordinates_on(grid: GeoBox, crs: CRS | None, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Bring coordinates from ``crs`` to a grid's own CRS, in the grid's turn of longitude."""
    if crs != grid.crs:
        x, y = transformer(crs, grid.crs).transform(x, y)
    return np.asarray(x + turn_to(grid, x)), np.asarray(y)


def relative(grid: GeoBox, other: GeoBox) -> Affine:
    """Return the transformation from the pixels of a grid to those of another of the same CRS."""
    middle = grid.affine.c + grid.affine.a * grid.shape[1] / 2
    moved: Affine = Affine.translation(float(turn_to(other, middle)), 0.0) * grid.affine
    placed: Affine = ~other.affine * moved
    return placed


@functools.lru_cache(maxsize=32)
def _transformer(source: str, target: str) -> Transformer:
    try:
        return Transformer.from_crs(source, target, always_xy=True)
    except ProjError as error:
        names = " and ".join(repr(CRS(wkt).proj.name) for wkt in (source, target))
        raise InputError(
            f"there is no transformation between the CRSs {names}: a local or arbitrary one has no known place on "
            "Earth. Give both files one CRS (--hsi-crs, --msi-crs), or georeference the local one."
        ) from error


def transformer(source: CRS | None, target: CRS | None) -> Transformer:
    """Return the transformation between two CRSs, x before y.

    Raises InputError if one is missing, or they cannot be transformed into each other.
    """
    if source is None or target is None:
        raise InputError("a grid without CRS cannot be placed on another. Pass --hsi-crs or --msi-crs EPSG:…")
    return _transformer(source.wkt, target.wkt)


def window_of(grid: GeoBox, bounds: tuple[float, float, float, float]) -> tuple[slice, slice] | None:
    """Return the window of whole pixels of a north-up grid that covers ``bounds``; None if they do not meet.

    Edges that agree with a pixel edge within 1e-6 pixel count as agreeing.
    """
    left, bottom, right, top = bounds
    inverse = ~grid.affine
    col_first, row_first = inverse * (left, top)
    col_last, row_last = inverse * (right, bottom)
    rows, cols = grid.shape
    row0, row1 = _whole(row_first, row_last, rows)
    col0, col1 = _whole(col_first, col_last, cols)
    if row0 >= row1 or col0 >= col1:
        return None
    return slice(row0, row1), slice(col0, col1)


def _whole(first: float, last: float, count: int) -> tuple[int, int]:
    return max(0, int(np.floor(first + SNAP_PX))), min(count, int(np.ceil(last - SNAP_PX)))


def positions_on(grid: GeoBox, other: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    """Tell where the pixel centres of ``grid`` lie on ``other``.

    Returns
    -------
    rows, cols : float64 arrays, broadcastable to ``grid.shape``
        In pixels of ``other``; its first pixel's centre is at (0.5, 0.5). One column and one row vector where
        both share a CRS; else full arrays, exact every 32 pixels and linear between (errors far below a pixel).
    """
    height, width = grid.shape
    if grid.crs == other.crs:
        to_other = relative(grid, other)
        rows = to_other.f + to_other.e * (np.arange(height) + 0.5)
        cols = to_other.c + to_other.a * (np.arange(width) + 0.5)
        return rows[:, None], cols[None, :]
    knots_y = _knots(height)
    knots_x = _knots(width)
    xs, ys = coordinates_on(other, grid.crs, *(grid.affine * np.meshgrid(knots_x, knots_y)))
    cols, rows = ~other.affine * (xs, ys)
    centres_y, centres_x = np.arange(height) + 0.5, np.arange(width) + 0.5
    return (
        _interpolated(rows, knots_y, knots_x, centres_y, centres_x),
        _interpolated(cols, knots_y, knots_x, centres_y, centres_x),
    )


def _knots(count: int) -> np.ndarray:
    return np.unique(np.r_[np.arange(0.5, count, POSITION_STEP_PX), count - 0.5])


def _interpolated(
    values: np.ndarray, knots_y: np.ndarray, knots_x: np.ndarray, y: np.ndarray, x: np.ndarray
) -> np.ndarray:
    along_x = np.stack([np.interp(x, knots_x, row) for row in values])
    return np.stack([np.interp(y, knots_y, column) for column in along_x.T], axis=1)


def covered(grid: GeoBox, other: GeoBox, valid: np.ndarray) -> np.ndarray:
    """Tell which pixels of ``grid`` have their centre in a valid pixel of ``other``.

    Parameters
    ----------
    valid : bool array of ``other.shape``

    Returns
    -------
    bool array of ``grid.shape``
    """
    rows, cols = positions_on(grid, other)
    row, col = np.floor(rows).astype(np.int64), np.floor(cols).astype(np.int64)
    inside = (row >= 0) & (row < other.shape[0]) & (col >= 0) & (col < other.shape[1])
    found = valid[np.clip(row, 0, other.shape[0] - 1), np.clip(col, 0, other.shape[1] - 1)]
    return np.asarray(found & inside)


def gsd_m(grid: GeoBox) -> float:
    """Return the pixel size in metres (geometric mean of both edges; degrees at the grid's middle latitude)."""
    edge = float(np.sqrt(abs(grid.affine.a * grid.affine.e)))
    if grid.crs is None or not grid.crs.geographic:
        return edge
    middle = grid.affine.f + grid.affine.e * grid.shape[0] / 2
    return float(edge * METRES_PER_DEGREE * np.sqrt(np.cos(np.radians(middle))))


def gsd_ratio(coarse: GeoBox, fine: GeoBox) -> float:
    """Return how many fine pixels lie along one coarse pixel, measured at the coarse grid's centre."""
    if coarse.crs == fine.crs:
        return float(np.sqrt(abs(coarse.affine.a * coarse.affine.e / (fine.affine.a * fine.affine.e))))
    cols, rows = np.array([-0.5, 0.5, 0.5, -0.5]), np.array([-0.5, -0.5, 0.5, 0.5])
    corners = coarse.affine * (cols + coarse.shape[1] / 2, rows + coarse.shape[0] / 2)
    xs, ys = coordinates_on(fine, coarse.crs, *corners)
    area = 0.5 * abs(np.dot(xs, np.roll(ys, -1)) - np.dot(ys, np.roll(xs, -1)))
    return float(np.sqrt(area / abs(fine.affine.a * fine.affine.e)))
