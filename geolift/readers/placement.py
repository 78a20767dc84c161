"""Grids as readers give them: rotations of nothing left out, rows from the north, columns from the west."""

from __future__ import annotations

from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geolift.readers.source import BandIndices, Stored

ROTATION_OF_NOTHING_PX = 1e-3
"""A rotation that moves no corner of the image by so many pixels is a rest of arithmetic."""


class Turned:
    """A raster whose rows run from south to north, or columns from east to west, seen the usual way round.

    Each window is a view of the window read, no copy.
    """

    def __init__(self, stored: Stored, rows: bool, cols: bool) -> None:
        self._stored, self._rows, self._cols = stored, rows, cols
        self.path, self.layout = stored.path, stored.layout

    def read(self, rows: slice, cols: slice, bands: BandIndices | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Return a window (band, y, x) of stored numbers, and where it is valid."""
        height, width = self.layout.shape
        y = slice(height - rows.stop, height - rows.start) if self._rows else rows
        x = slice(width - cols.stop, width - cols.start) if self._cols else cols
        stored, valid = self._stored.read(y, x, bands)
        step = (slice(None, None, -1 if self._rows else 1), slice(None, None, -1 if self._cols else 1))
        return stored[..., step[0], step[1]], None if valid is None else valid[..., step[0], step[1]]


def usual(stored: Stored, grid: GeoBox) -> tuple[Stored, GeoBox]:
    """Turn a raster so that its rows run from the north and its columns from the west; others stay as they are."""
    straight = unrotated(grid)
    a, b, c, d, e, f = tuple(straight.affine)[:6]
    south_up, mirrored = e > 0, a < 0
    if b or d or straight.affine.is_identity or not (south_up or mirrored):
        return stored, straight
    rows, cols = straight.shape
    affine = Affine(abs(a), 0.0, c + a * cols if mirrored else c, 0.0, -abs(e), f + e * rows if south_up else f)
    return Turned(stored, south_up, mirrored), GeoBox(straight.shape, affine, straight.crs)


def unrotated(grid: GeoBox) -> GeoBox:
    """Leave out a rotation that moves no pixel of the image visibly, such as 360° or 1e-16."""
    a, b, c, d, e, f = tuple(grid.affine)[:6]
    if (b == 0 and d == 0) or a == 0 or e == 0:
        return grid
    rows, cols = grid.shape
    if max(abs(b) * rows / abs(a), abs(d) * cols / abs(e)) >= ROTATION_OF_NOTHING_PX:
        return grid
    return GeoBox(grid.shape, Affine(a, 0.0, c, 0.0, e, f), grid.crs)


def georeference_of(source: Any) -> str | None:
    """Tell what an open rasterio dataset has instead of a transform: ``gcps``, ``rpcs``, or nothing."""
    if not source.transform.is_identity:
        return None
    if source.gcps[0]:
        return "gcps"
    return "rpcs" if source.rpcs is not None else None
