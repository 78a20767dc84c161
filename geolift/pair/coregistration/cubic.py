"""Images read between their pixels by cubic convolution.

Keys, IEEE Trans. ASSP 29 (1981), doi:10.1109/TASSP.1981.1163711, a = -1/2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geolift.degradation.sampling import FloatArray

DoubleArray = NDArray[np.float64]


def resample(image: FloatArray, y: DoubleArray, x: DoubleArray) -> FloatArray:
    """Read an image (band, h, w) at positions (rows, cols) between its pixels.

    A position whose 4 x 4 neighbourhood is not valid throughout, or reaches beyond the image, becomes NaN.
    """
    top, left = np.floor(y), np.floor(x)
    height, width = image.shape[1:]
    out = _convolved(image, y, x)
    out[:, (top < 1) | (left < 1) | (top + 2 >= height) | (left + 2 >= width)] = np.nan
    return out


def brought_to(fine: FloatArray, dy: DoubleArray, dx: DoubleArray, inner: tuple[slice, slice]) -> FloatArray:
    """Read a fine image (c, y, x) at its pixels' places plus (dy, dx), those of an inner window.

    Where the sixteen pixels around a place are not all valid, its nearest stands for them.
    """
    rows, cols = np.mgrid[inner].astype(np.float64)
    y, x = rows + dy, cols + dx
    height, width = fine.shape[1:]
    out = _convolved(fine, y, x)
    near_y, near_x = (np.clip(np.rint(p).astype(np.intp), 0, size - 1) for p, size in ((y, height), (x, width)))
    broken = ~np.isfinite(out).all(axis=0)
    out[:, broken] = fine[:, near_y[broken], near_x[broken]]
    return out


def _convolved(image: FloatArray, y: DoubleArray, x: DoubleArray) -> FloatArray:
    """(band, rows, cols), the image's border repeated beyond it."""
    top, left = np.floor(y).astype(np.intp), np.floor(x).astype(np.intp)
    height, width = image.shape[1:]
    out = np.zeros((len(image), *y.shape), np.float32)
    for i, weight_y in enumerate(_weights(y - top)):
        rows = np.clip(top + i - 1, 0, height - 1)
        for j, weight_x in enumerate(_weights(x - left)):
            cols = np.clip(left + j - 1, 0, width - 1)
            out += (weight_y * weight_x).astype(np.float32) * image[:, rows, cols]
    return out


def _weights(t: DoubleArray) -> tuple[DoubleArray, ...]:
    """Weights of the four neighbours at a position t, 0 … 1, between the middle two."""
    return (
        -0.5 * t + t**2 - 0.5 * t**3,
        1.0 - 2.5 * t**2 + 1.5 * t**3,
        0.5 * t + 2.0 * t**2 - 1.5 * t**3,
        -0.5 * t**2 + 0.5 * t**3,
    )
