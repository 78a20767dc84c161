"""Columns and lines of the detector that are dead: one number all along, where their neighbours see the ground."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

FEWEST_VALUES = 8
"""Values along a column or line that must be equal to the last digit."""

FEWEST_LIVING = 0.5
"""Share of the columns that must hold more than one number: else the band is constant, not the column."""

MANY_BANDS = 0.3
"""A column that is dead in so many of its bands is left out; single bands are mended."""

NEAREST = 4


def dead_columns(low: FloatArray, high: FloatArray, count: NDArray[np.integer]) -> BoolArray:
    """Find dead columns from what each holds; lines likewise.

    ``low``, ``high``: (B, n) smallest and largest valid value of each column and band, NaN where nothing is valid.
    ``count``: (B, n) valid values.

    Returns
    -------
    dead
        (B, n) True where a column holds one number in a band and its neighbours do not: a number that none of the
        nearest living columns reaches, or any number where many bands of the column are so.
    """
    constant = np.asarray((low == high) & (count >= FEWEST_VALUES))
    if not constant.any():
        return constant
    living = (low < high) & (count >= FEWEST_VALUES)
    known = (count >= FEWEST_VALUES).sum(axis=1)
    constant &= (living.sum(axis=1) >= FEWEST_LIVING * np.maximum(known, 1))[:, None]
    throughout = constant.mean(axis=0) >= MANY_BANDS
    out = np.asarray(constant & throughout)
    for band, column in zip(*np.nonzero(constant & ~throughout), strict=True):
        alive = np.flatnonzero(living[band])
        near = alive[np.argsort(np.abs(alive - column), kind="stable")[:NEAREST]]
        value = low[band, column]
        out[band, column] = value < low[band, near].min() or value > high[band, near].max()
    return out


def left_out(dead: BoolArray) -> BoolArray:
    """Return which columns (n,) are dead in so many bands that nothing of them is kept."""
    return np.asarray(dead.mean(axis=0) >= MANY_BANDS)
