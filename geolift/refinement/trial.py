"""A trial of two training sets on HSI pixels that neither of them has seen.

Blocks of HSI pixels are held out, with a gap around them: fits on what is left of either set are applied to the fine
MSI there and seen through the footprint; the difference from the HSI tells which set teaches more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geolift.network.inference import predict_block
from geolift.network.model import SpectralModel
from geolift.refinement.footprint import DoubleArray, Footprint
from geolift.refinement.pair import Pair, Window
from geolift.training.training_set import Floats, Ints, TrainingSet, position_hash

BLOCK_LR, SMALL_BLOCK_LR, SMALL_LR = 6, 3, 20
"""Edge of the blocks; the small one where a scene has fewer than so many HSI pixels across."""

KINDS = (0, 3)
"""Of the four kinds of blocks, (even or odd row) · 2 + (even or odd column), those held out in turn."""

GAP_LR = 1
TRIAL_PIXELS, FEWEST_PIXELS = 2048, 12
"""Most and fewest pixels of a trial fit."""

NOISE_PIXELS = 512
"""Training pixels on which the noise that a fit amplifies is measured."""

MOST_WINDOWS, WINDOW_LR = 4, 24
"""Windows in which the fits are applied, and their edge in HSI pixels."""

MOST_FINE_PX = MOST_WINDOWS * (12 * WINDOW_LR) ** 2
"""Fine pixels in these windows; at large ratios there are fewer windows."""

AT_ONCE_PX = 1_000_000
"""Fine pixels of a window whose product is held at once; at large ratios it is seen in strips."""

Fit = Callable[[TrainingSet], SpectralModel]
Locate = Callable[[Ints, Ints], tuple[Ints, Ints]]
"""From rows and columns of a pair to those of the HSI that training pixels are counted in."""


@dataclass(frozen=True)
class Told:
    """What a trial tells.

    Parameters
    ----------
    gain, doubt
        Share by which the mean length of the error falls from the first set to the second, and its standard error over
        the blocks. The length, not its square: a few pixels far from what was learned would decide alone.
    pixels
        HSI pixels held out.
    """

    gain: float
    doubt: float
    pixels: int


def run_trial(
    pair: Pair, first: TrainingSet, second: TrainingSet, footprint: Footprint, fit: Fit, locate: Locate, seed: int = 0
) -> Told:
    """Fit both sets without the held-out blocks and compare their errors there.

    HSI pixels average the noise of the MSI away, the product does not: what each fit makes of that noise at a fine
    pixel is added to its errors in quadrature.

    ``first``, ``second``: their rows and columns are those of HSI pixels. ``locate``: tells which these are for a pixel
    of the pair.
    """
    edge = BLOCK_LR if min(pair.shape) >= SMALL_LR else SMALL_BLOCK_LR
    trials = []
    for kind in KINDS:
        parts = [data.subset(~_near(data, edge, kind)).thinned(TRIAL_PIXELS, seed) for data in (first, second)]
        if min(len(part.rows) for part in parts) < FEWEST_PIXELS:
            continue
        models = [fit(part) for part in parts]
        trials.append((kind, models, np.array([amplified_noise(model, first, seed) for model in models])))
    if not trials:
        return Told(0.0, np.inf, 0)
    blocks, errors = [], []
    for rows, cols in _windows(pair, seed):
        view = _read(pair, footprint.margin_lr, rows, cols)
        for kind, models, noise in trials:
            found = np.stack([_error(*view, model, footprint) for model in models])
            found = np.hypot(found, noise[:, None, None])
            y, x = np.nonzero(np.isfinite(found).all(axis=0))
            down, across = locate(y + rows.start, x + cols.start)
            inside = _kind_of(down, across, edge) == kind
            errors.append(found[:, y[inside], x[inside]])
            blocks.append(np.stack([down[inside] // edge, across[inside] // edge]))
    return _summed(np.concatenate(errors, axis=1), np.concatenate(blocks, axis=1))


def amplified_noise(model: SpectralModel, training: TrainingSet, seed: int) -> float:
    """Root mean square length of what a model makes of the MSI's noise, on at most `NOISE_PIXELS` training pixels."""
    if training.msi_noise is None:
        return 0.0
    values = training.simulated[:: max(1, len(training.rows) // NOISE_PIXELS)]
    drawn = np.random.default_rng(seed).standard_normal(values.shape)
    noisy = (values + drawn * training.msi_noise).astype(np.float32)
    change = model.predict(noisy).astype(np.float64) - model.predict(values.astype(np.float32))
    return float(np.sqrt(np.square(change).sum(axis=1).mean()))


def _summed(errors: DoubleArray, blocks: Ints) -> Told:
    """Gain and doubt of errors (2, n) in blocks (2, n): neighbours in a block are alike."""
    total = float(errors[0].sum())
    if not total:
        return Told(0.0, np.inf, errors.shape[1])
    _, block = np.unique(blocks, axis=1, return_inverse=True)
    gains = np.bincount(block.ravel(), errors[0] - errors[1])
    return Told(float(gains.sum()) / total, float(gains.std()) * len(gains) ** 0.5 / total, errors.shape[1])


def _kind_of(rows: Ints, cols: Ints, edge: int) -> Ints:
    """Which of the four kinds of blocks HSI pixels lie in."""
    return np.asarray(rows // edge % 2 * 2 + cols // edge % 2)


def _near(data: TrainingSet, edge: int, kind: int) -> NDArray[np.bool_]:
    """(n,) whether a pixel lies in or beside a block of a kind."""
    steps = range(-GAP_LR, GAP_LR + 1)
    kinds = [_kind_of(data.rows + dy, data.cols + dx, edge) for dy in steps for dx in steps]
    return np.asarray((np.stack(kinds) == kind).any(axis=0))


def _windows(pair: Pair, seed: int) -> list[Window]:
    """The scene, or windows spread over it by a hash of their place."""
    height, width = pair.shape
    most = max(1, min(MOST_WINDOWS, MOST_FINE_PX // (pair.ratio * WINDOW_LR) ** 2))
    if height * width <= most * WINDOW_LR**2:
        return [(slice(0, height), slice(0, width))]
    corners = np.array([(y, x) for y in range(0, height, WINDOW_LR) for x in range(0, width, WINDOW_LR)])
    order = np.argsort(position_hash(corners[:, 0], corners[:, 1], seed), kind="stable")[:most]
    return [
        (slice(int(y), min(int(y) + WINDOW_LR, height)), slice(int(x), min(int(x) + WINDOW_LR, width)))
        for y, x in corners[order]
    ]


def _read(pair: Pair, margin: int, rows: slice, cols: slice) -> tuple[Floats, Floats]:
    """The HSI (C, h, w) of a window, and the fine MSI of it and a margin of so many HSI pixels."""
    fine = pair.msi(rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start, margin)
    return pair.hsi(rows, cols), fine


def _error(hsi: Floats, fine: Floats, model: SpectralModel, footprint: Footprint) -> DoubleArray:
    """(h, w) length of what a model's product, seen through the footprint, leaves of the HSI; NaN = unknown."""
    margin, ratio = footprint.margin_lr, footprint.ratio
    if fine[0].size <= AT_ONCE_PX:
        seen = footprint.degrade(predict_block(model, fine), margin)
    else:

        def read(row: int, count: int) -> Floats:
            first = (row + margin) * ratio
            return predict_block(model, np.ascontiguousarray(fine[:, first : first + count * ratio]))

        strip = max(1, AT_ONCE_PX // (fine.shape[2] * ratio))
        seen = footprint.degrade_by_rows(read, (hsi.shape[1], hsi.shape[2]), strip)
    return np.asarray(np.sqrt(np.square(hsi - seen).sum(axis=0)), np.float64)
