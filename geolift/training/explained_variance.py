"""How far the MSI determines the spectra at all: what it tells of each HSI band, on held-out pixels of the HSI.

With y_b the value of band b and ŷ_b what a model learned elsewhere makes of the pixel's MSI bands, the share of
variance explained and the information, were both normal, are

    R²_b = 1 − Σ (y_b − ŷ_b)² / Σ (y_b − ȳ_b)²,   I_b = −½ log2(1 − R²_b) bits,

where ȳ_b is the mean of the pixels learned from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geolift.training.training_set import Floats, TrainingSet, position_hash

DoubleArray = NDArray[np.float64]

FOLDS = 5
BLOCK_PX = 6
FEWEST_PIXELS = 40
MOST_PIXELS = 4096
LEAST_LEFT = 1e-6
"""Of the variance: float32 spectra carry no more than ten bits."""


@dataclass(frozen=True, eq=False)
class ExplainedVariance:
    """What the MSI's bands tell of each HSI band.

    Parameters
    ----------
    explained
        (C,) share of the variance on held-out pixels: 1 = determined, 0 = nothing known but the mean, below 0 =
        misleading. Noise of the HSI counts as not determined; a band that does not vary has 0.
    held_out
        Pixels it was measured on.
    """

    explained: DoubleArray
    held_out: int

    @property
    def bits(self) -> DoubleArray:
        """(C,) mutual information per pixel, as of normal variables."""
        return 0.5 * np.log2(1 / np.clip(1 - self.explained, LEAST_LEFT, 1))


def measure_explained_variance(
    training: TrainingSet, refit: Callable[[TrainingSet], Callable[[Floats], Floats]], seed: int = 0
) -> ExplainedVariance | None:
    """Learn without each fold of blocks in turn and look how well the fold's spectra are met.

    ``training``: at most ``MOST_PIXELS`` of its pixels are used, spread by a seeded hash. ``refit``: learns from a
    part; returns a function from (n, c) MSI values to (n, C) spectra. Returns None if there are too few pixels to hold
    some out.

    Examples
    --------
    Bands that are a multiple of the MSI's band are determined, one that is constant tells nothing:

    >>> side = np.arange(20)
    >>> rows, cols = np.repeat(side, 20), np.tile(side, 20)
    >>> one = np.sin(rows * 7 + cols)[:, None]
    >>> spectra = np.hstack([one, 3 * one, np.ones_like(one)]).astype(np.float32)
    >>> weights = np.array([[1, 0, 0]], np.float32)
    >>> found = measure_explained_variance(
    ...     TrainingSet(spectra, spectra, weights, rows, cols), lambda part: lambda msi: msi * [1, 3, 0] + [0, 0, 1]
    ... )
    >>> found.explained.round(3).tolist(), found.bits.round(1).tolist()
    ([1.0, 1.0, 0.0], [10.0, 10.0, 0.0])
    """
    if len(training.spectra) > MOST_PIXELS:
        order = np.argsort(position_hash(training.rows, training.cols, seed), kind="stable")
        training = training.subset(np.sort(order[:MOST_PIXELS]))
    fold = position_hash(training.rows // BLOCK_PX, training.cols // BLOCK_PX, seed) % FOLDS
    left = np.zeros(training.spectra.shape[1])
    all_of_it = np.zeros_like(left)
    held_out, rng = 0, np.random.default_rng(seed)
    for index in range(FOLDS):
        out = fold == index
        if not out.any() or np.count_nonzero(~out) < FEWEST_PIXELS // 2:
            continue
        learned_from, held = training.subset(~out), training.subset(out)
        spectra = held.spectra.astype(np.float64)
        left += np.square(spectra - refit(learned_from)(held.seen(rng))).sum(axis=0)
        all_of_it += np.square(spectra - learned_from.spectra.mean(axis=0, dtype=np.float64)).sum(axis=0)
        held_out += len(spectra)
    if held_out < FEWEST_PIXELS:
        return None
    varies = all_of_it > 0
    return ExplainedVariance(np.where(varies, 1 - left / np.where(varies, all_of_it, 1), 0), held_out)
