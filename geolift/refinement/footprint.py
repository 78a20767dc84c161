"""What an HSI pixel sees of the fine image: weights along both axes, fitted blindly.

Seen through the right weights, the fine MSI becomes the MSI simulated from the HSI. That is enough to find them:
no PSF has to be known. A Gaussian is where the search begins; where enough pixels speak, the weights take the
shape that the data ask for, which matters more than the width once the rest of the model is good.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geolift.degradation.sampling import (
    LOST_WEIGHT,
    FloatArray,
    axis_kernel,
    pad_for_sampling,
    sample_columns,
    sample_rows,
)
from geolift.pair.robust import mad_sigma
from geolift.runtime.blas import one_blas_thread

DoubleArray = NDArray[np.float64]

REACH_SIGMA = 2.6
"""Half width of the weights beside the pixel itself, in sigmas of the blur that the search found."""

ROUNDS = 6
SMOOTHNESS, NEARNESS, SUM_TO_ONE = 1e-2, 1e-3, 1e4
"""Strength of the wishes: smooth weights, near the Gaussian, summing to one; in parts of the mean power of the data."""

EQUATIONS_PER_WEIGHT = 4
"""With fewer equations per unknown the Gaussian stays."""

OUTLIER_SIGMA = 4.0
"""LR pixels this far off count as cloud or change and are left out."""

QUIET_SHARE, FOREIGN_OVER_QUIET = 0.3, 4.0
"""The same in units of what the quietest 30 % of the pixels stay below: holds where cloud hides half of the scene."""


@dataclass(frozen=True, eq=False)
class Footprint:
    """Separable weights with which one HSI pixel sees the fine image.

    Parameters
    ----------
    ratio
        Fine pixels per HSI pixel.
    start_px
        (y, x): fine pixel of the first weight, counted from the first fine pixel of the same HSI pixel. A residual
        shift between the images is part of it.
    weights
        (y, x): float64, each summing to one.
    fitted
        Whether the weights have the shape the data ask for, or the Gaussian's.
    """

    ratio: int
    start_px: tuple[int, int]
    weights: tuple[DoubleArray, DoubleArray]
    fitted: bool = True

    @property
    def margin_lr(self) -> int:
        """HSI pixels of fine image that must be read around a window."""
        reach = (
            max(-start, start + len(weights) - self.ratio)
            for start, weights in zip(self.start_px, self.weights, strict=True)
        )
        return int(np.ceil(max(*reach, 0) / self.ratio))

    def offsets_lr(self, axis: int) -> DoubleArray:
        """Places of the weights of an axis, from the centre of the HSI pixel, in HSI pixels."""
        places = self.start_px[axis] + np.arange(len(self.weights[axis])) + 0.5
        return np.asarray(places / self.ratio - 0.5, np.float64)

    def fwhm_lr(self, axis: int) -> float:
        """Full width at half maximum of a Gaussian of the same variance, in HSI pixels."""
        offsets, weights = self.offsets_lr(axis), self.weights[axis]
        mean = float(weights @ offsets)
        return float(np.sqrt(8 * np.log(2) * max(weights @ np.square(offsets - mean), 0.0)))

    def degrade(self, images: FloatArray, margin: int) -> FloatArray:
        """See a fine image through the weights.

        ``images``: (n, (h + 2 margin) ratio, (w + 2 margin) ratio) float32; NaN = invalid in all n. ``margin``: HSI
        pixels by which it reaches beyond the window on every side.

        Returns
        -------
        FloatArray
            (n, h, w); NaN where more than 2 % of the weight falls on invalid pixels.
        """
        lost = np.isnan(images[0])
        seen = self._read(np.where(lost, np.float32(0), images) if lost.any() else images, margin)
        if not lost.any() and margin >= self.margin_lr:
            return seen
        whole = np.ones((1, *lost.shape), np.float32)
        present = self._read(np.where(lost, np.float32(0), whole), margin)
        found: FloatArray = np.where(present >= 1 - LOST_WEIGHT, seen / np.maximum(present, 0.5), np.float32(np.nan))
        return found

    def moved(self, axis: int, step_px: int) -> Footprint:
        """Return it further by fine pixels along an axis."""
        start = list(self.start_px)
        start[axis] += step_px
        return replace(self, start_px=(start[0], start[1]))

    def degrade_by_rows(self, read: Callable[[int, int], FloatArray], shape: tuple[int, int], strip: int) -> FloatArray:
        """See a fine image that comes strip by strip; as `degrade`.

        Parameters
        ----------
        read
            First row and number of HSI pixels, the first from -`margin_lr` on, to (n, rows ratio, (w + 2 `margin_lr`)
            ratio).
        shape
            (h, w).
        strip
            Rows of HSI pixels at once.
        """
        ratio, margin, (height, width) = self.ratio, self.margin_lr, shape
        (start_y, start_x), (along_y, along_x) = self.start_px, self.weights
        parts: list[FloatArray] = []
        for row in range(-margin, height + margin, strip):
            fine = read(row, min(strip, height + margin - row))
            lost = np.isnan(fine[0])
            seen = np.concatenate([np.where(lost, np.float32(0), fine), ~lost[None]], dtype=np.float32)
            parts.append(sample_columns(seen, margin * ratio + start_x, ratio, width, along_x[None])[0])
        across = np.concatenate(parts, axis=1)
        seen = sample_rows(across, margin * ratio + start_y, ratio, height, along_y[None])[0]
        present = seen[-1:]
        found: FloatArray = np.where(
            present >= 1 - LOST_WEIGHT, seen[:-1] / np.maximum(present, 0.5), np.float32(np.nan)
        )
        return found

    def _read(self, images: FloatArray, margin: int) -> FloatArray:
        padded, origin = pad_for_sampling(images, self.ratio, margin, self.margin_lr * self.ratio, 0.0)
        height, width = (size // self.ratio - 2 * margin for size in images.shape[1:])
        (start_y, start_x), (along_y, along_x) = self.start_px, self.weights
        part = sample_rows(padded, origin + start_y, self.ratio, height, along_y[None])[0]
        return np.asarray(sample_columns(part, origin + start_x, self.ratio, width, along_x[None])[0], np.float32)


def gaussian_footprint(
    ratio: int, shift_px: tuple[float, float], blur_sigma_px: tuple[float, float], reach_sigma: float = REACH_SIGMA
) -> Footprint:
    """Return the footprint of a Gaussian blur beside the pixel's own average, moved by a shift, in fine pixels."""
    starts, weights = [], []
    for shift, sigma in zip(shift_px, blur_sigma_px, strict=True):
        kernel = axis_kernel(ratio, shift, sigma * sigma)
        reach = int(np.ceil(reach_sigma * sigma)) + 1
        start = round(shift) - reach
        taps = np.zeros(ratio + 2 * reach)
        first = kernel.start_px - start
        low, high = max(0, first), min(len(taps), first + kernel.taps.shape[1])
        taps[low:high] = kernel.taps[0, low - first : high - first]
        starts.append(start)
        weights.append(taps / taps.sum())
    return Footprint(ratio, (starts[0], starts[1]), (weights[0], weights[1]), fitted=False)


def fit_footprint(windows: Sequence[tuple[FloatArray, FloatArray]], start: Footprint, margin: int) -> Footprint:
    """Fit the weights to windows of the two sensors by alternating least squares.

    ``windows``: pairs: simulated MSI (c, h, w) and harmonised fine MSI (c, (h + 2 margin) ratio, (w + 2 margin) ratio),
    NaN = invalid. ``start``: where to begin, and what is kept where the windows hold too few pixels that see valid
    pixels only.
    """
    scale = np.nanstd(np.concatenate([fine.reshape(len(fine), -1) for _, fine in windows], axis=1), axis=1)
    scaled = (1.0 / np.maximum(scale, 1e-12)).astype(np.float32)[:, None, None]
    pairs = [(low * scaled, np.nan_to_num(fine * scaled)) for low, fine in windows]
    seen_whole = [np.isfinite(low).all(axis=0) & _wholly_seen(fine, start, margin) for low, fine in windows]
    use = _inliers(pairs, start, margin, seen_whole)  # a cloud would bend the first round, and all that follow from it
    unknowns = sum(len(weights) for weights in start.weights)
    if sum(int(chosen.sum()) for chosen in use) * len(scale) < EQUATIONS_PER_WEIGHT * unknowns:
        return start
    current = start
    for turn in range(ROUNDS):
        for axis in (0, 1):
            parts = [_equations(low, fine, current, axis, margin) for low, fine in pairs]
            table = np.concatenate(
                [t[:, :, chosen].reshape(len(t), -1) for (t, _), chosen in zip(parts, use, strict=True)], axis=1
            )
            seen = np.concatenate([s[:, chosen].ravel() for (_, s), chosen in zip(parts, use, strict=True)])
            current = _solved(table.astype(np.float64), seen.astype(np.float64), start, current, axis)
        if turn % 2:
            pairs = _weighed(pairs, current, margin, use)
            use = _inliers(pairs, current, margin, seen_whole)
    return current


def without_outliers(
    windows: Sequence[tuple[FloatArray, FloatArray]], footprint: Footprint, margin: int
) -> list[FloatArray]:
    """The fine images of windows (see `fit_footprint`), NaN where an HSI pixel lies far from what is seen of them."""
    seen = [np.asarray(np.isfinite(footprint.degrade(fine, margin)).all(axis=0)) for _, fine in windows]
    known = [np.asarray(np.isfinite(low).all(axis=0) & part) for (low, _), part in zip(windows, seen, strict=True)]
    if not any(part.any() for part in known):
        return [fine for _, fine in windows]
    inliers = _inliers(_weighed(windows, footprint, margin, known), footprint, margin, known)
    cleaned = []
    for (_, fine), valid, own in zip(windows, seen, inliers, strict=True):
        outliers = np.pad(valid & ~own, margin, mode="edge")
        hidden = outliers.repeat(footprint.ratio, axis=0).repeat(footprint.ratio, axis=1)
        cleaned.append(np.where(hidden, np.float32(np.nan), fine))
    return cleaned


def _wholly_seen(fine: FloatArray, start: Footprint, margin: int) -> NDArray[np.bool_]:
    """Tell which HSI pixels see valid fine pixels only."""
    along_y, along_x = (np.full(len(weights), 1.0 / len(weights)) for weights in start.weights)
    flat = Footprint(start.ratio, start.start_px, (along_y, along_x))
    hidden: FloatArray = np.where(np.isfinite(fine).all(axis=0, keepdims=True), np.float32(0), np.float32(1))
    extra = max(0, start.margin_lr - margin)
    width = extra * start.ratio
    hidden = np.pad(hidden, ((0, 0), (width, width), (width, width)), constant_values=1.0)
    return np.asarray(flat.degrade(hidden, margin + extra)[0] < 1e-6)


def _equations(
    low: FloatArray, fine: FloatArray, current: Footprint, axis: int, margin: int
) -> tuple[FloatArray, FloatArray]:
    """The fine image seen through the other axis's weights, at every place of this axis's: (weight, c, h, w)."""
    if axis == 1:
        turned = Footprint(current.ratio, current.start_px[::-1], current.weights[::-1])
        table, seen = _equations(low.swapaxes(1, 2), fine.swapaxes(1, 2), turned, 0, margin)
        return table.swapaxes(2, 3), seen.swapaxes(1, 2)
    ratio, height, width = current.ratio, low.shape[1], low.shape[2]
    padded, origin = pad_for_sampling(fine, ratio, margin, current.margin_lr * ratio, 0.0)
    across = sample_columns(padded, origin + current.start_px[1], ratio, width, current.weights[1][None])[0]
    first, last = origin + current.start_px[0], (height - 1) * ratio + 1
    taps = range(len(current.weights[0]))
    return np.stack([across[:, first + tap : first + tap + last : ratio] for tap in taps]), low


def _solved(table: DoubleArray, seen: DoubleArray, start: Footprint, current: Footprint, axis: int) -> Footprint:
    """Least squares for the weights of one axis, drawn towards smooth weights near the first ones, summing to one."""
    prior = start.weights[axis]
    with one_blas_thread():
        power, wanted = table @ table.T, table @ (seen - prior @ table)
    bends = np.diff(np.eye(len(prior)), 2, axis=0)
    wishes = SMOOTHNESS * bends.T @ bends + NEARNESS * np.eye(len(prior)) + SUM_TO_ONE
    change = np.linalg.solve(power + np.trace(power) / len(prior) * wishes, wanted)
    both = [*current.weights]
    both[axis] = (prior + change) / (prior + change).sum()
    return Footprint(current.ratio, current.start_px, (both[0], both[1]))


def _weighed(
    pairs: Sequence[tuple[FloatArray, FloatArray]], current: Footprint, margin: int, use: list[NDArray[np.bool_]]
) -> list[tuple[FloatArray, FloatArray]]:
    """Scale every band by what the model leaves of it, so that a noisy one counts less."""
    left = [(low - current.degrade(fine, margin))[:, chosen] for (low, fine), chosen in zip(pairs, use, strict=True)]
    error = np.sqrt(np.square(np.concatenate(left, axis=1)).mean(axis=1))
    weight = (1.0 / np.maximum(error, 1e-6)).astype(np.float32)[:, None, None]
    return [(low * weight, fine * weight) for low, fine in pairs]


def _inliers(
    pairs: Sequence[tuple[FloatArray, FloatArray]], current: Footprint, margin: int, use: list[NDArray[np.bool_]]
) -> list[NDArray[np.bool_]]:
    """Leave out the HSI pixels that the model misses by far."""
    left = [np.sqrt(np.square(low - current.degrade(fine, margin)).mean(axis=0)) for low, fine in pairs]
    known = np.concatenate([part[chosen] for part, chosen in zip(left, use, strict=True)])
    limit = min(
        np.median(known) + OUTLIER_SIGMA * float(mad_sigma(known - np.median(known))),
        FOREIGN_OVER_QUIET * np.quantile(known, QUIET_SHARE),
    )
    return [chosen & (part <= limit) for chosen, part in zip(use, left, strict=True)]
