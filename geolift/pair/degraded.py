"""The MSI brought to the HSI's pixels over a whole overlay: each row of fine pixels is read once at any ratio."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from geolift.degradation.sampling import (
    LOST_WEIGHT,
    AxisKernel,
    FloatArray,
    axis_kernel,
    degrade_msi,
    sample_columns,
    sample_rows,
)
from geolift.pair.coregistration.windows import Window, cut_window
from geolift.pair.overlay import BAND_FINE_PX, Overlay

STRIP_PX = 2_000_000
"""Fine pixels read at once, or one row of HSI pixels."""

PIECE_FINE_PX, PIECE_LR = 2048, 32
"""Edge of the squares that are read where the shift varies: in fine pixels, and at least in HSI pixels, so that the
margin of two HSI pixels around them adds no more than a quarter."""

Read = Callable[[int, int, int, int], FloatArray]
"""Rows and columns of HSI pixels (row, col, height, width), which may lie outside the overlay, to fine pixels."""


def degrade_by_rows(
    read: Read, shape: tuple[int, int], ratio: int, shift_px: tuple[float, float], blur_sigma_px: tuple[float, float]
) -> FloatArray:
    """Gaussian blur, block mean and sub-pixel shift in one step, as `degrade_msi`, of an image of any size.

    Each strip of fine rows is sampled along the columns when it is read. What is left of it is as narrow as the HSI,
    and waits until all rows that an HSI pixel sees are there.

    ``read``: gives (c, height ratio, width ratio) float32, NaN = invalid or beyond the image. ``shape``: (h, w) in HSI
    pixels.

    Returns
    -------
    array (c, h, w) float32
        NaN where more than 2 % of a kernel's weight falls on invalid pixels.
    """
    height, width = shape
    down, across = (axis_kernel(ratio, s, b * b) for s, b in zip(shift_px, blur_sigma_px, strict=True))
    first_row, last_row = _reach(down, ratio, height)
    first_col, last_col = _reach(across, ratio, width)
    strip = max(1, STRIP_PX // (ratio * ratio * (last_col - first_col)))
    rows = _RowsAtHand(down, ratio, first_row * ratio)
    levels, parts, done = _Levels(), [], 0
    for row in range(first_row, last_row, strip):
        fine = read(row, first_col, min(strip, last_row - row), last_col - first_col)
        invalid = np.isnan(fine)
        levels.add(fine, invalid)
        rows.add(*_along_columns(fine, invalid, across, -first_col * ratio, ratio, width))
        ready = min(height, rows.complete())
        if ready > done:
            parts.append(rows.sampled(done, ready))
            done = ready
    seen, missing, lost = (np.concatenate(images, axis=1) for images in zip(*parts, strict=True))
    whole = seen + missing * levels.mean()[:, None, None]
    return np.asarray(np.where(lost > LOST_WEIGHT, np.nan, whole), np.float32)


def degrade_overlay(overlap: Overlay, shift_px: tuple[float, float], blur_sigma_px: tuple[float, float]) -> FloatArray:
    """Degrade the MSI to an overlay's grid (c, h, w), a band of columns after the other; see `degrade_by_rows`."""
    height, width = overlap.grid.shape
    edge = max(1, BAND_FINE_PX // overlap.ratio)
    out = np.empty((overlap.msi.shape[0], height, width), np.float32)
    for first in range(0, width, edge):
        cols = slice(first, min(first + edge, width))
        read = _from_column(overlap, first)
        out[:, :, cols] = degrade_by_rows(read, (height, cols.stop - first), overlap.ratio, shift_px, blur_sigma_px)
    return out


def degrade_along(
    overlap: Overlay, shift_in: Callable[[Window], tuple[float, float]], blur_sigma_px: tuple[float, float], edge: int
) -> FloatArray:
    """Degrade the MSI to an overlay's grid (c, h, w) at a shift that differs from block to block.

    ``shift_in``: (dy, dx) in fine pixels of a window of the overlay. ``edge``: of the blocks, in HSI pixels.
    """
    height, width = overlap.grid.shape
    ratio, out = overlap.ratio, np.empty((overlap.msi.shape[0], height, width), np.float32)
    for blocks in _squares(height, width, edge, max(PIECE_LR, PIECE_FINE_PX // ratio)):
        moves = [(block, shift_in(block)) for block in blocks]
        kernels = [axis_kernel(ratio, s, b * b) for _, move in moves for s, b in zip(move, blur_sigma_px, strict=True)]
        margin = max(max(-first, last - 1) for first, last in (_reach(kernel, ratio, 1) for kernel in kernels))
        top, left = blocks[0].y, blocks[0].x
        bottom, right = blocks[-1].y + blocks[-1].height, blocks[-1].x + blocks[-1].width
        fine = overlap.read(top, left, bottom - top, right - left, margin)
        for block, move in moves:
            inner = Window(block.y - top, block.x - left, block.height, block.width)
            target, part = cut_window(out[:, top:bottom, left:right], fine, ratio, margin, inner)
            target[...] = degrade_msi(part, ratio, margin, move, blur_sigma_px)
    return out


def _squares(height: int, width: int, edge: int, side: int) -> Iterator[list[Window]]:
    """Blocks of an edge, square by square: what is read around a square is read again for its neighbours."""
    side = -(-side // edge) * edge
    for top, left in product(range(0, height, side), range(0, width, side)):
        corners = product(range(top, min(top + side, height), edge), range(left, min(left + side, width), edge))
        yield [Window(y, x, min(edge, height - y), min(edge, width - x)) for y, x in corners]


def _from_column(overlap: Overlay, first: int) -> Read:
    """Read with columns counted from another first one."""
    return lambda row, col, height, width: overlap.read(row, first + col, height, width, 0)


def _reach(kernel: AxisKernel, ratio: int, count: int) -> tuple[int, int]:
    """First and last (exclusive) HSI pixels of what the kernels of so many see."""
    end = (count - 1) * ratio + kernel.start_px + kernel.taps.shape[1]
    return kernel.start_px // ratio, -(-end // ratio)


def _along_columns(
    fine: FloatArray, invalid: NDArray[np.bool_], kernel: AxisKernel, origin: int, ratio: int, width: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """What columns see: values (c, rows, w), weight missing and absolute weight lost to invalid pixels."""
    first, taps = origin + kernel.start_px, kernel.taps[:1]

    def seen(image: FloatArray, weights: NDArray[np.float64]) -> FloatArray:
        return np.asarray(sample_columns(image, first, ratio, width, weights)[0])

    if not invalid.any():
        none = np.zeros((1, 1, 1), np.float32)
        return seen(fine, taps), none, none
    hidden = invalid.astype(np.float32)
    values = np.where(invalid, np.float32(0), fine)
    return seen(values, taps), seen(hidden, taps), seen(hidden, np.abs(taps))


class _RowsAtHand:
    """Fine rows, already sampled along the columns, that HSI pixels still to come may see."""

    def __init__(self, kernel: AxisKernel, ratio: int, first_px: int) -> None:
        self._kernel, self._ratio, self._first_px = kernel, ratio, first_px
        self._images: list[FloatArray] = []

    def add(self, *images: FloatArray) -> None:
        """Append rows of values, missing and lost weight."""
        wide = [np.broadcast_to(image, images[0].shape) for image in images]
        kept = self._images or [image[:, :0] for image in wide]
        self._images = [np.concatenate(pair, axis=1) for pair in zip(kept, wide, strict=True)]

    def complete(self) -> int:
        """HSI rows, counted from the first of the overlay, whose fine rows have all been added."""
        end = self._first_px + self._images[0].shape[1]
        return int((end - self._kernel.start_px - self._kernel.taps.shape[1]) // self._ratio) + 1

    def sampled(self, first: int, last: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Sample HSI rows first … last − 1 and let go of what no later one sees."""
        taps, offset = self._kernel.taps[:1], first * self._ratio + self._kernel.start_px - self._first_px
        weights = (taps, taps, np.abs(taps))
        seen, missing, lost = (
            sample_rows(image, offset, self._ratio, last - first, w)[0]
            if image.any()
            else _nothing(image, last - first)
            for image, w in zip(self._images, weights, strict=True)
        )
        spent = last * self._ratio + self._kernel.start_px - self._first_px
        self._images = [image[:, spent:] for image in self._images]
        self._first_px += spent
        return seen, missing, lost


def _nothing(image: FloatArray, rows: int) -> FloatArray:
    return np.zeros((len(image), rows, image.shape[2]), np.float32)


class _Levels:
    """Mean of the valid pixels of each band, which stands in for the few invalid ones that a kernel may see."""

    def __init__(self) -> None:
        self._sum: NDArray[np.float64] | float = 0.0
        self._count: NDArray[np.float64] | float = 0.0

    def add(self, fine: FloatArray, invalid: NDArray[np.bool_]) -> None:
        """Count the pixels of a strip (c, y, x)."""
        self._sum = self._sum + np.nansum(fine, axis=(1, 2), dtype=np.float64)
        self._count = self._count + (invalid.shape[1] * invalid.shape[2] - np.count_nonzero(invalid, axis=(1, 2)))

    def mean(self) -> FloatArray:
        """(c,)."""
        return np.asarray(self._sum / np.maximum(self._count, 1.0), np.float32)
