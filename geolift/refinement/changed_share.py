"""Which fine pixels explain that an HSI pixel shows other ground than the MSI does.

Where the ground changed, or a cloud hides it, the MSI m must give way to what the HSI shows, u, its own simulated MSI
read between its pixels: m̃ = m + z (u − m), 0 ≤ z ≤ 1 (the matting equation). Seen through the footprint D the whole
must become what the HSI saw, so that the misfit v = S y − D m is D z (u − m) but for noise and for the detail that u
lacks. z is the least that explains v, alike on either side of where the MSI shows no edge:

    min ½ Σ mean_b (v − D z (u − m))² / var + Σ λ z + ½ Σ w (z_p − z_q)²,
    var = σ² + τ² D∘D z,   w = κ / (1 + (Δm / τ)²)

by projected gradients with momentum (Beck and Teboulle, doi:10.1137/080716542) under a diagonal majoriser; λ falls
where z is large (Candès, Wakin and Boyd, doi:10.1007/s00041-008-9045-x).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geolift.degradation.sampling import LOST_WEIGHT, FloatArray
from geolift.pair.robust import mad_sigma
from geolift.refinement.footprint import DoubleArray, Footprint

BoolArray = NDArray[np.bool_]

COST, COST_OFFSET, USUAL = 0.05, 0.3, 2.0
"""λ of a pixel that is to give way, in log likelihood; what is added to z where λ is weighed anew; and from how many
times the usual |u − m| on λ grows with it: else a few bright pixels would explain most at least cost."""

SMOOTHNESS = 1.0
"""κ: what neighbours lose that differ, where the MSI has no edge between them."""

ROUNDS, STEPS = 2, 30

UNEXPLAINED = 2.0
"""Root mean square of what is left of v, in standard deviations, above which no change of ground explains it. Where it
was one, 1.3 at most; a faulty HSI pixel leaves more, for its neighbours see part of that ground too."""

LEAST_PRESENT = 0.5
"""HSI pixels that see less valid MSI are not compared."""

REACHED = 0.05
"""Fine pixels belong to the HSI pixels that see them with so much of the largest weight."""

STEP_LR = 0.25
"""Steps in which the surroundings of an HSI pixel are looked through, in HSI pixels."""

BACK_PROJECTIONS = 6
"""Steps after which the HSI, read between its pixels and seen through the footprint, is itself."""


@dataclass(frozen=True, eq=False)
class Scatter:
    """Standard deviations (c,) of what is usual.

    Parameters
    ----------
    sigma
        Of v where nothing changed.
    detail
        Of the fine MSI from what is made of it seen coarsely.
    shift_lr
        (2,) of what an HSI pixel may be off its place, y and x, in HSI pixels.
    """

    sigma: FloatArray
    detail: FloatArray
    shift_lr: tuple[float, float]


class Sight:
    """The footprint on a window of (h, w) HSI pixels, whose fine image reaches a margin of them further."""

    def __init__(self, footprint: Footprint, shape: tuple[int, int], margin: int) -> None:
        self.shape = shape
        self.along = [_weights(footprint, axis, size, margin) for axis, size in enumerate(shape)]
        self.between = [_between(footprint, axis, size, margin) for axis, size in enumerate(shape)]

    def seen(self, images: FloatArray) -> FloatArray:
        """D: fine images (…, H, W) on HSI pixels (…, h, w)."""
        return np.asarray(self.along[0] @ images @ self.along[1].T)

    def seen_squared(self, image: FloatArray) -> FloatArray:
        """D∘D: the weights squared."""
        return np.asarray(np.square(self.along[0]) @ image @ np.square(self.along[1]).T)

    def returned(self, values: FloatArray) -> FloatArray:
        """Dᵀ."""
        return np.asarray(self.along[0].T @ values @ self.along[1])

    def interpolated(self, values: FloatArray) -> FloatArray:
        """Values (…, h, w), each at the centre of what its pixel sees, between them (…, H, W)."""
        return np.asarray(self.between[0] @ values @ self.between[1].T)

    def consistent(self, values: FloatArray) -> FloatArray:
        """Values (c, h, w) that, interpolated and seen through the footprint, are those given; NaN = unknown."""
        known = np.isfinite(values).all(axis=0)
        nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
        found = values[:, nearest[0], nearest[1]]
        for _ in range(BACK_PROJECTIONS):
            found = found + np.where(known, values - self.seen(self.interpolated(found)), np.float32(0))
        return np.asarray(found, np.float32)


def _weights(footprint: Footprint, axis: int, size: int, margin: int) -> FloatArray:
    ratio, weights = footprint.ratio, footprint.weights[axis]
    matrix = np.zeros((size, (size + 2 * margin) * ratio), np.float32)
    for pixel in range(size):
        first = (pixel + margin) * ratio + footprint.start_px[axis]
        low, high = max(0, first), min(matrix.shape[1], first + len(weights))
        matrix[pixel, low:high] = weights[low - first : high - first]
    return matrix


def _between(footprint: Footprint, axis: int, size: int, margin: int) -> FloatArray:
    places = (np.arange((size + 2 * margin) * footprint.ratio) + 0.5) / footprint.ratio - 0.5 - margin
    low, share = neighbours(places - centre_lr(footprint, axis), size)
    matrix = np.zeros((len(places), size), np.float32)
    np.add.at(matrix, (np.arange(len(places)), low), 1 - share)
    np.add.at(matrix, (np.arange(len(places)), np.minimum(low + 1, size - 1)), share)
    return matrix


def centre_lr(footprint: Footprint, axis: int) -> float:
    """Centre of what an HSI pixel sees, from its own, in HSI pixels."""
    return float(footprint.offsets_lr(axis) @ footprint.weights[axis])


def neighbours(places: DoubleArray, size: int) -> tuple[NDArray[np.intp], FloatArray]:
    """The pixel below each place in 0 … size − 1, and how far the place lies towards the next one."""
    inside = np.clip(places, 0, size - 1)
    low = np.minimum(inside.astype(np.intp), max(size - 2, 0))
    return low, (inside - low).astype(np.float32)


def misfit_size(misfit: FloatArray, variance: FloatArray) -> FloatArray:
    """(h, w) root mean square over the bands of a misfit (c, h, w) in its standard deviations."""
    return np.asarray(np.sqrt((np.square(misfit) / variance).mean(axis=0)))


def least_near(
    simulated: FloatArray, coarse: FloatArray, variance: FloatArray, asked: BoolArray, reach_lr: float
) -> FloatArray:
    """Least size (n,) of the misfit of HSI pixels asked for with what lies within a reach of them in the MSI.

    ``simulated``, ``coarse``, ``variance``: (c, h, w).
    """
    rows, cols = np.nonzero(asked)
    own, spread = simulated[:, rows, cols], variance[:, rows, cols]
    steps = np.arange(-int(reach_lr / STEP_LR), int(reach_lr / STEP_LR) + 1) * STEP_LR
    least = np.full(len(rows), np.inf, np.float32)
    for dy, dx in product(steps, steps):
        where = rows + dy, cols + dx
        there = np.stack([ndimage.map_coordinates(band, where, order=1, mode="nearest") for band in coarse])
        least = np.minimum(least, misfit_size(own - there, spread))
    return least


def variance_unchanged(scatter: Scatter, present: FloatArray, simulated: FloatArray) -> FloatArray:
    """(c, h, w) of v where nothing changed.

    The noise, more where the simulated MSI (c, h, w) is steep, for its pixels may be off their places; what is not
    seen, of weight 1 − ``present``, differs by its detail.
    """
    unseen = np.where(present < 1 - LOST_WEIGHT, 1 - present, np.float32(0))
    variance = np.square(scatter.sigma)[:, None, None] + np.square(unseen * scatter.detail[:, None, None])
    for off, slope in zip(scatter.shift_lr, slopes(simulated), strict=True):
        variance = variance + np.square(np.float32(off) * slope)
    return np.asarray(variance, np.float32)


def shift_lr(misfit: NDArray[np.floating], slope: FloatArray) -> float:
    """Robust standard deviation, in HSI pixels, of the shifts that explain misfits (c, n) on the steeper half."""
    shifts = shifts_of(misfit, slope)
    return float(mad_sigma(shifts[np.isfinite(shifts)])) if np.isfinite(shifts).any() else 0.0


def shifts_of(misfit: NDArray[np.floating], slope: FloatArray) -> FloatArray:
    """Shift in HSI pixels that explains each misfit (c, …) best, NaN on the less steep half."""
    power = np.square(slope).sum(axis=0)
    steep = power > np.median(power[np.isfinite(misfit[0])]) if np.isfinite(misfit[0]).any() else power < 0
    return np.where(steep, (misfit * slope).sum(axis=0) / np.maximum(power, 1e-30), np.nan).astype(np.float32)


def slopes(images: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Slope (c, h, w) along y and x per HSI pixel; zero beside invalid pixels."""
    found = [np.gradient(images, axis=axis) if images.shape[axis] > 1 else np.zeros_like(images) for axis in (1, 2)]
    return np.nan_to_num(found[0], copy=False), np.nan_to_num(found[1], copy=False)


def changed_share(
    sight: Sight,
    msi: FloatArray,
    shown: FloatArray,
    misfit: FloatArray,
    suspects: BoolArray,
    variance: Callable[[FloatArray], FloatArray],
    detail: FloatArray,
) -> FloatArray:
    """Share z (H, W) of the fine pixels that gives way to what the HSI shows.

    Parameters
    ----------
    msi, shown
        (c, H, W) the MSI, NaN = invalid, and the HSI's simulated MSI read there.
    misfit
        (c, h, w), NaN = unknown.
    suspects
        (h, w) HSI pixels whose misfit wants explaining.
    variance
        From the weight (h, w) with which valid pixels are seen to the variance of the misfit where nothing changed.
    detail
        (c,) see `Scatter`.
    """
    valid = np.asarray(np.isfinite(msi).all(axis=0))
    values = np.where(valid, msi, np.float32(0))
    near = ndimage.binary_dilation(suspects, np.ones((3, 3), bool))
    peak = float(sight.along[0].max() * sight.along[1].max())
    allowed = valid & (sight.returned(near.astype(np.float32)) > 1e-3 * peak)
    first = _Matting(sight, values, valid, shown - values, misfit, variance, detail)
    share = first.solved(allowed)
    unexplained = first.unexplained(share, suspects)
    if not unexplained.any():
        return share
    return first.solved(allowed & (sight.returned(unexplained.astype(np.float32)) < REACHED * peak))


class _Matting:
    """The equations of a window."""

    def __init__(
        self,
        sight: Sight,
        msi: FloatArray,
        valid: BoolArray,
        change: FloatArray,
        misfit: FloatArray,
        variance: Callable[[FloatArray], FloatArray],
        detail: FloatArray,
    ) -> None:
        self.sight, self.change, self.known = sight, change, np.isfinite(misfit[0])
        self.misfit = np.asarray(np.where(self.known, misfit, 0), np.float32)
        present = sight.seen(valid.astype(np.float32))
        self.present = np.asarray(np.maximum(present, LEAST_PRESENT), np.float32)
        self.detail = np.square(detail)[:, None, None]
        self.noise = variance(present)
        self.ties = [
            SMOOTHNESS / (1 + (np.square(np.diff(msi, axis=axis)) / self.detail).mean(axis=0)) for axis in (1, 2)
        ]

    def variance(self, share: FloatArray) -> FloatArray:
        """(c, h, w) of the misfit where so much gives way."""
        return np.asarray(self.noise + self.detail * self.sight.seen_squared(share))

    def solved(self, allowed: BoolArray) -> FloatArray:
        """z (H, W), zero where it is not allowed to be more."""
        change = np.asarray(np.where(allowed, self.change, 0), np.float32)
        size = np.sqrt((np.square(change) / self.detail).mean(axis=0))
        usual = float(np.median(size[allowed])) if allowed.any() else 0.0
        least = np.asarray(COST * np.maximum(1, size / max(USUAL * usual, 1e-30)), np.float32)
        share, cost = np.zeros(allowed.shape, np.float32), least
        assumed = np.asarray(0.5 * allowed, np.float32)
        for _ in range(ROUNDS):
            weight = np.where(self.known, 1 / (len(change) * self.present * self.variance(assumed)), 0)
            share = self._descended(share, allowed, change, weight.astype(np.float32), cost)
            assumed, cost = share, np.asarray(least * (1 + COST_OFFSET) / (share + COST_OFFSET), np.float32)
        return share

    def _descended(
        self, share: FloatArray, allowed: BoolArray, change: FloatArray, weight: FloatArray, cost: FloatArray
    ) -> FloatArray:
        sight, size = self.sight, np.abs(change)
        steepest = (sight.returned(weight / self.present * sight.seen(size)) * size).sum(axis=0) + np.float32(
            8 * SMOOTHNESS
        )
        ahead, momentum = share, 1.0
        for _ in range(STEPS):
            left = weight * (sight.seen(ahead * change) / self.present - self.misfit)
            slope = (sight.returned(left) * change).sum(axis=0) + cost + self._tension(ahead)
            new = np.where(allowed, np.clip(ahead - slope / steepest, 0, 1), np.float32(0))
            after = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            ahead = new + np.float32((momentum - 1) / after) * (new - share)
            share, momentum = new, after
        return np.asarray(share, np.float32)

    def _tension(self, share: FloatArray) -> FloatArray:
        """Slope of what neighbours lose that differ."""
        pull = np.zeros_like(share)
        down, across = (tie * np.diff(share, axis=axis) for axis, tie in enumerate(self.ties))
        pull[1:] += down
        pull[:-1] -= down
        pull[:, 1:] += across
        pull[:, :-1] -= across
        return pull

    def unexplained(self, share: FloatArray, suspects: BoolArray) -> BoolArray:
        """HSI pixels (h, w) whose misfit does not follow."""
        after = misfit_size(self.misfit - self.sight.seen(share * self.change) / self.present, self.variance(share))
        before = misfit_size(self.misfit, self.variance(share))
        return np.asarray(self.known & (after > UNEXPLAINED) & (suspects | (after > before)))
