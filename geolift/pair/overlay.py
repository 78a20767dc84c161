"""HSI and MSI brought to one place: the MSI on a fine grid nested in the HSI's, window by window.

The HSI is never resampled. Where the MSI's own pixels nest in the HSI's they are taken as they are; else they are
warped once, cubic, invalid pixels kept out of the kernel.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio.warp
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling

from geolift.datamodel.alignment import bounds_on, coordinates_on, relative, window_of
from geolift.datamodel.cube import grid_of, rasterio_crs, window_values
from geolift.pair.coregistration.cubic import brought_to
from geolift.pair.coregistration.shift_field import WanderingShift

if TYPE_CHECKING:
    from geolift.pair.held import Held

NEST_TOLERANCE_PX = 1e-3
WARP_PAD_PX = 6
MAX_EVIDENCE_PX = 250_000
"""LR pixels used to compare the two sensors at most; a larger scene is judged by its central part."""

MAX_EVIDENCE_FINE_PX = 400_000_000
"""The same in fine pixels: what is read."""

BAND_FINE_PX = 8192
"""Columns of fine pixels read at once where a whole overlay is read: between grids that are turned against each other
the rows of a wider band would lie in too many rows of the MSI's blocks."""

ROWS_KEPT = 2
"""Rows of blocks kept: the window below may begin above the last of them where the grids are turned."""

Values = Callable[[slice, slice], np.ndarray]
"""Values (band, y, x) of a window of the MSI."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Overlay:
    """The part of the HSI's grid that the MSI covers, and how to read the MSI there.

    Parameters
    ----------
    rows, cols
        Window of the HSI's grid.
    grid
        That window's grid.
    ratio
        Fine pixels along one HSI pixel: the GSD ratio, rounded.
    msi
        The used bands of the MSI, lazy, (band, y, x).
    wandering
        By how much the shift differs over the overlay from the one of the whole; `read` undoes it.
    px
        Fine pixels of the MSI along a pixel that is read: more than one where it is averaged.
    held
        What `read` takes the MSI from in place of the image; see `geolift.pair.held`.
    """

    rows: slice
    cols: slice
    grid: GeoBox
    ratio: int
    msi: xr.DataArray
    wandering: WanderingShift | None = None
    px: float = 1.0
    held: Held | None = None
    _kept: threading.local = field(default_factory=threading.local, init=False, repr=False)

    @property
    def finest(self) -> Overlay:
        """The same with the MSI's own pixels, read from the image."""
        wandering = None if self.wandering is None else self.wandering.scaled(self.px)
        return replace(self, ratio=round(self.ratio * self.px), px=1.0, held=None, wandering=wandering)

    def fine_grid(self, row: int, col: int, height: int, width: int, margin: int) -> GeoBox:
        """Return the nested grid of a window of LR pixels (counted in the overlay), with a margin of LR pixels."""
        affine = self.grid.affine * Affine.translation(col - margin, row - margin) * Affine.scale(1.0 / self.ratio)
        shape = ((height + 2 * margin) * self.ratio, (width + 2 * margin) * self.ratio)
        return GeoBox(shape, affine, self.grid.crs)

    def read(self, row: int, col: int, height: int, width: int, margin: int) -> np.ndarray:
        """Return the MSI (band, y, x) on the nested grid of a window of LR pixels, NaN = invalid or outside."""
        if self.wandering is None:
            return self.read_plain(row, col, height, width, margin)
        more = margin + int(np.ceil((self.wandering.largest_px + 2) / self.ratio))
        fine = self.read_plain(row, col, height, width, more)
        skipped = (more - margin) * self.ratio
        inner = tuple(slice(skipped, size - skipped) for size in fine.shape[1:])
        rows, cols = (
            (first - margin) + (np.arange(part.stop - part.start) + 0.5) / self.ratio - 0.5
            for first, part in zip((row, col), inner, strict=True)
        )
        dy, dx = self.wandering.at(*np.meshgrid(rows, cols, indexing="ij"))
        return brought_to(fine, dy, dx, (inner[0], inner[1]))

    def read_plain(self, row: int, col: int, height: int, width: int, margin: int) -> np.ndarray:
        """Return the same where the MSI has it, whatever the shift does."""
        if self.held is not None:
            return self.held.read(row, col, height, width, margin)
        target = self.fine_grid(row, col, height, width, margin)
        source, shape = grid_of(self.msi), self.msi.shape
        nested = _nested_offset(source, target)
        if nested is not None:
            return _padded(self._values, shape, nested, target.shape)
        return _warped(self._values, shape, source, target)

    def _values(self, rows: slice, cols: slice) -> np.ndarray:
        """Read a window of the MSI; of the window before, this thread keeps the last rows of blocks."""
        if not hasattr(self._kept, "blocks"):
            self._kept.blocks = _LastBlocks(self.msi.data)
        values: np.ndarray = self._kept.blocks.read(rows, cols)
        return values

    def beyond(self, row: int, col: int, height: int, width: int, margin: int) -> np.ndarray:
        """Tell which fine pixels (y, x) of a window lie beyond the MSI's image; none, where the grids do not nest."""
        target = self.fine_grid(row, col, height, width, margin)
        nested = _nested_offset(grid_of(self.msi), target)
        if nested is None:
            return np.zeros(target.shape, bool)
        (first_row, first_col), (rows, cols) = nested, self.msi.shape[1:]
        down, across = first_row + np.arange(target.shape[0]), first_col + np.arange(target.shape[1])
        inside = ((down >= 0) & (down < rows))[:, None] & ((across >= 0) & (across < cols))
        return np.asarray(~inside)

    def shift_units(self, dy: float, dx: float) -> tuple[float, float]:
        """Turn a shift in fine pixels (dy down, dx right) into units of the HSI's CRS: (x, y)."""
        return dx * self.grid.affine.a / self.ratio, dy * self.grid.affine.e / self.ratio

    def shift_msi_px(self, dy: float, dx: float) -> tuple[float, float]:
        """Turn a shift in fine pixels into pixels of the MSI's own grid, (dy, dx), at the overlay's centre."""
        source = grid_of(self.msi)
        rows, cols = self.grid.shape
        x, y = self.grid.affine * (cols / 2, rows / 2)
        move_x, move_y = self.shift_units(dy, dx)
        xs, ys = np.array([x, x + move_x]), np.array([y, y + move_y])
        px, py = ~source.affine * coordinates_on(source, self.grid.crs, xs, ys)
        return float(py[1] - py[0]), float(px[1] - px[0])

    def fine_shift(self, dy: float, dx: float) -> tuple[float, float]:
        """Turn a shift in MSI pixels into fine pixels; the inverse of `shift_msi_px`."""
        basis = np.array([self.shift_msi_px(1.0, 0.0), self.shift_msi_px(0.0, 1.0)]).T
        solved = np.linalg.solve(basis, np.array([dy, dx]))
        return float(solved[0]), float(solved[1])


def overlay(hsi: xr.DataArray, msi: xr.DataArray, ratio: float, *, whole: bool = False) -> Overlay | None:
    """Lay the MSI over the HSI; None if no whole part of the HSI lies under it.

    Only the central part of a large overlap is taken, or the ``whole``.
    """
    grid = grid_of(hsi)
    window = window_of(grid, bounds_on(grid_of(msi), grid))
    if window is None:
        return None
    fine = max(1, round(ratio))
    rows, cols = window if whole else _central(window, fine)
    return Overlay(rows=rows, cols=cols, grid=grid[rows, cols], ratio=fine, msi=msi)


def _central(window: tuple[slice, slice], ratio: int) -> tuple[slice, slice]:
    """Cut a window to its central part if it has more pixels than are compared."""
    height, width = (part.stop - part.start for part in window)
    most = min(MAX_EVIDENCE_PX, MAX_EVIDENCE_FINE_PX // ratio**2)
    if height * width <= most:
        return window
    shrink = np.sqrt(most / (height * width))
    cut = []
    for part, size in zip(window, (height, width), strict=True):
        kept = int(size * shrink)
        first = part.start + (size - kept) // 2
        cut.append(slice(first, first + kept))
    return cut[0], cut[1]


def _nested_offset(source: GeoBox, target: GeoBox) -> tuple[int, int] | None:
    """Return where the target's first pixel lies on the source, in whole pixels, if the two grids coincide."""
    if source.crs != target.crs:
        return None
    to_source = relative(target, source)
    rows, cols = target.shape
    stretch = max(abs(to_source.a - 1) * cols, abs(to_source.e - 1) * rows, abs(to_source.b), abs(to_source.d))
    row, col = round(to_source.f), round(to_source.c)
    if stretch > NEST_TOLERANCE_PX or max(abs(to_source.f - row), abs(to_source.c - col)) > NEST_TOLERANCE_PX:
        return None
    return row, col


class _LastBlocks:
    """Windows of a lazy image in whole blocks, of which the last rows are kept for a window that goes on below."""

    def __init__(self, data: Any) -> None:
        self._data, self._first, self._cols = data, 0, slice(0, 0)
        self._last = np.empty((data.shape[0], 0, 0), np.float32)
        self._ends = [np.cumsum([0, *sizes]) for sizes in data.chunks[1:]] if hasattr(data, "chunks") else None

    def read(self, rows: slice, cols: slice) -> np.ndarray:
        """Values (band, y, x) of a window."""
        if self._ends is None:
            return window_values(self._data, rows, cols)
        (first, last), columns = (_outer(part, ends) for part, ends in zip((rows, cols), self._ends, strict=True))
        whole, stop = slice(*columns), self._first + self._last.shape[1]
        if whole == self._cols and self._first <= rows.start < stop:
            first, parts = self._first, [self._last]
            if last > stop:
                parts.append(window_values(self._data, slice(stop, last), whole))
            values = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        else:
            values = window_values(self._data, slice(first, last), whole)
        edges = self._ends[0][(self._ends[0] >= first) & (self._ends[0] < first + values.shape[1])]
        start = int(edges[-ROWS_KEPT:][0])
        self._first, self._cols, self._last = start, whole, np.array(values[:, start - first :])
        return values[:, rows.start - first : rows.stop - first, cols.start - columns[0] : cols.stop - columns[0]]


def _outer(part: slice, ends: np.ndarray) -> tuple[int, int]:
    """First and last edge of the blocks that a part of an axis lies in."""
    first, last = np.searchsorted(ends, part.start, "right") - 1, np.searchsorted(ends, part.stop, "left")
    return int(ends[first]), int(ends[last])


def _padded(values: Values, whole: tuple[int, ...], offset: tuple[int, int], shape: Any) -> np.ndarray:
    """Read a window that may reach beyond the image of shape ``whole``; NaN there."""
    row, col = offset
    out = np.full((whole[0], *shape), np.nan, np.float32)
    top, left = max(0, row), max(0, col)
    bottom, right = min(whole[1], row + shape[0]), min(whole[2], col + shape[1])
    if top < bottom and left < right:
        part = values(slice(top, bottom), slice(left, right))
        out[:, top - row : bottom - row, left - col : right - col] = part
    return out


def _warped(values: Values, whole: tuple[int, ...], source: GeoBox, target: GeoBox) -> np.ndarray:
    """Warp the part of the MSI under a grid, all bands on one valid mask, with no error tolerance."""
    out = np.full((whole[0], *target.shape), np.nan, np.float32)
    window = window_of(source, bounds_on(target, source))
    if window is None:
        return out
    rows, cols = (
        slice(max(0, part.start - WARP_PAD_PX), min(size, part.stop + WARP_PAD_PX))
        for part, size in zip(window, whole[1:], strict=True)
    )
    seen = values(rows, cols)
    seen = np.where(np.isfinite(seen).all(axis=0), seen, np.float32(np.nan)).astype(np.float32)
    rasterio.warp.reproject(
        seen,
        out,
        src_transform=source[rows, cols].affine,
        src_crs=rasterio_crs(source),
        dst_transform=target.affine,
        dst_crs=rasterio_crs(target),
        src_nodata=np.nan,
        dst_nodata=np.nan,
        resampling=Resampling.cubic,
        tolerance=0,
    )
    return out
