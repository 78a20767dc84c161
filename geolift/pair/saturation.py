"""Saturation of an image: many pixels at one largest value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

LEAST_SHARE, LEAST_PIXELS = 0.002, 12
"""A band is saturated if so many of its pixels hold its largest value …"""

PILED_UP = 4.0
"""… and so many times more than lie in the next half a hundredth of its range, or hold the next value."""


@dataclass(frozen=True, eq=False)
class Saturation:
    """Where the bands of an image end.

    Parameters
    ----------
    level
        (c,) value at and above which a band is saturated; infinite where it is not.
    share
        (c,) part of its pixels that are.
    """

    level: NDArray[np.float64]
    share: NDArray[np.float64]

    @property
    def found(self) -> bool:
        """Whether any band is saturated."""
        return bool(np.isfinite(self.level).any())

    def touched(self, image: FloatArray) -> FloatArray:
        """1 where any band of an image (c, y, x) is saturated, 0 elsewhere, NaN where it is invalid: (1, y, x)."""
        at = (image >= self.level.astype(np.float32)[:, None, None]).any(axis=0)
        return np.where(np.isfinite(image).all(axis=0), at.astype(np.float32), np.float32(np.nan))[None]


def find_saturation(pixels: FloatArray) -> Saturation:
    """Look at the pixels (c, n) of an image; NaN = invalid.

    Examples
    --------
    >>> values = np.minimum(np.linspace(0, 1, 1000, dtype=np.float32), 0.9)[None]
    >>> found = find_saturation(values)
    >>> round(float(found.level[0]), 3), round(float(found.share[0]), 2)
    (0.9, 0.1)
    """
    levels, shares = [], []
    for band in pixels:
        values = band[np.isfinite(band)]
        level, share = _saturated(values) if values.size else (np.inf, 0.0)
        levels.append(level)
        shares.append(share)
    return Saturation(np.array(levels, np.float64), np.array(shares, np.float64))


def _saturated(values: FloatArray) -> tuple[float, float]:
    """Level and share of one band; infinite if it does not end abruptly."""
    top = float(values.max())
    spread = top - float(np.quantile(values, 0.01))
    edge = top - 1e-6 * max(abs(top), spread)  # encoding may round one value into two neighbours
    at = int((values >= edge).sum())
    below = values[values < edge]
    if spread <= 0 or not below.size:
        return np.inf, 0.0
    near = int((below >= min(top - 0.005 * spread, float(below.max()))).sum())
    if at < max(LEAST_PIXELS, LEAST_SHARE * values.size) or at < PILED_UP * near:
        return np.inf, 0.0
    return edge, at / values.size
