"""Bands of one image that lie apart by fractions of a pixel, brought onto each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from geolift.degradation.sampling import axis_kernel

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]


def move_band(band: FloatArray, dy: float, dx: float) -> FloatArray:
    """Read an image (y, x) at every pixel's place plus (dy, dx), by Lagrange's interpolation of nine pixels an axis.

    A pixel that is NaN stays so; in the sums the value read nearest stands for NaN neighbours. Each pixel is summed by
    itself, so that it does not depend on the window (law 1).

    Examples
    --------
    >>> ramp = np.arange(12, dtype=np.float32)[None].repeat(3, axis=0)
    >>> move_band(ramp, 0.0, 0.25)[1, 5:7].tolist()
    [5.25, 6.25]
    """
    moved = _moved_along(_moved_along(band, dy, 0), dx, 1)
    moved = np.where(np.isfinite(moved), moved, band)
    return np.where(np.isfinite(band), moved, np.float32(np.nan)).astype(np.float32)


def _moved_along(image: FloatArray, shift: float, axis: int) -> FloatArray:
    if shift == 0.0:
        return image
    kernel = axis_kernel(1, shift, 0.0)
    taps = kernel.taps[0]
    nearest = _offset(image, round(shift), axis)
    total = np.zeros_like(image)
    for tap, weight in enumerate(taps):
        if abs(weight) > 1e-12:
            values = _offset(image, kernel.start_px + tap, axis)
            total += np.float32(weight) * np.where(np.isnan(values), nearest, values)
    return total


def _offset(image: FloatArray, by: int, axis: int) -> FloatArray:
    """The image at so many pixels further along an axis; NaN beyond it."""
    out = np.full_like(image, np.nan)
    size = image.shape[axis]
    low, high = max(0, -by), min(size, size - by)
    if low < high:
        target, source = [slice(None)] * 2, [slice(None)] * 2
        target[axis], source[axis] = slice(low, high), slice(low + by, high + by)
        out[tuple(target)] = image[tuple(source)]
    return out


def lost_by_moving(
    windows: Sequence[FloatArray], shifts_px: DoubleArray, relation: Callable[[FloatArray], FloatArray]
) -> DoubleArray:
    """RMS (c,) of the detail that bands have lost by being moved: as much as moving them back and forth takes again.

    Beside bands that kept theirs it is noise: what tells spectra apart by it makes them up.

    Parameters
    ----------
    windows
        Images (c, y, x) after they were moved.
    shifts_px
        (c, 2) by which they were.
    relation
        Applied to the images before anything is made of them; the loss is told in its unit.
    """
    lost = []
    for window in windows:
        moves = [(band, *map(float, shift)) for band, shift in zip(window, shifts_px, strict=True)]
        again = np.stack([move_band(move_band(band, -dy, -dx), dy, dx) for band, dy, dx in moves])
        lost.append((relation(window) - relation(again)).reshape(len(window), -1))
    return np.asarray(np.sqrt(np.nanmean(np.square(np.concatenate(lost, axis=1), dtype=np.float64), axis=1)))


def reach_px(shifts_px: DoubleArray) -> int:
    """Pixels around a window that are read for these shifts."""
    kernels = [axis_kernel(1, float(shift), 0.0) for shift in np.unique(shifts_px)]
    return int(max(max(-k.start_px, k.start_px + k.taps.shape[1]) for k in kernels))
