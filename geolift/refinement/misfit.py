"""What the sensors disagree about where both see: faults of one of them, told from what the MSI cannot see.

The residual r = Y − D A(M) holds two things. One is what the refinement is for: the error of the inversion in what the
MSI cannot see. The other is a fault, of either image: cloud, change, shadow, saturation, a shift of one place against
the other, a dead column, a jittered line. A fault also shows in the *misfit* v = S Y − D M, to which the error of the
inversion adds nothing. Therefore

* r is freed of what follows from v: r − G v, with G the common regression of r on v (robust, shrunk by its evidence);
* as far as its surroundings predict v by offset and gain, it is kept: where the sensors differ by material, by field or
  over the scene (response, season, haze, view angle, terrain), the fault is the MSI's radiometry, which the HSI sets
  right. A shift leaves either sign on either side of an edge, a stripe is not seen from the next column;
* HSI pixels whose v lies far from what is usual are outliers and take no part in anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geolift.degradation.sampling import FloatArray
from geolift.pair.robust import mad_sigma, robust_line

DoubleArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

OUTLIER_SIGMA = 8.0
"""HSI pixels whose misfit is so many robust standard deviations, rms over the bands, are outliers."""

BOUNDED_SIGMA = 2.0
"""Beyond so many standard deviations a pixel gains no more influence on the regression of r on v."""

SMOOTH_SIGMA_LR, TRUNCATE = 1.0, 3.0
"""Gaussian window of the local relation between the sensors, in HSI pixels, and where it ends, in its sigmas."""

ENOUGH_EXPLAINED = 0.3
"""Share of the misfit that the local relation must predict where a pixel's whole line, and whole column, are left out,
for all of it to be kept; less is kept in part."""

PULL = np.array([0.002, 0.1, 0.1, 0.1])
"""Pull of offset, gain and shift (y, x) of the local relation towards zero, in parts of the local weight."""

HALO_LR = int(TRUNCATE * SMOOTH_SIGMA_LR + 0.5) + 1
"""HSI pixels around a block that its cleaning takes into account."""

FEWEST_PIXELS = 36

QUIET_SHARE, QUIET_NORMAL, QUIET_EXCESS = 0.3, 0.38532, 1.5
"""Share of quiet pixels, what as many of a standard normal distribution stay below in size, and how heavy its tails
may be."""


@dataclass(frozen=True, eq=False, kw_only=True)
class MisfitModel:
    """How the misfit is told apart, the same for the whole scene.

    Parameters
    ----------
    slope, intercept, line_sigma
        (c,) the common line of v over D M, and the robust standard deviation around it.
    sigma
        (c,) robust standard deviation of what the local relation leaves of v.
    level, spread
        (c,) mean of D M and (c, 3) standard deviations of D M and its gradient (y, x): the local relation's units.
    kept
        (c,) share of the smooth part of v that stays in the residual, 0 … 1.
    regression
        (K, c) G, less the mean share that is kept.
    """

    slope: DoubleArray
    intercept: DoubleArray
    line_sigma: DoubleArray
    sigma: DoubleArray
    level: DoubleArray
    spread: DoubleArray
    kept: DoubleArray
    regression: DoubleArray

    def cleaned(self, residual: FloatArray, misfit: FloatArray, seen: FloatArray) -> tuple[FloatArray, BoolArray]:
        """Free the residual of what follows from the misfit.

        ``residual``: (K, h, w), NaN = invalid. ``misfit``, ``seen``: (c, h, w) v and D M, NaN = invalid.

        Returns
        -------
        tuple
            The residual, NaN also at outliers, and where they are.
        """
        rest, outliers = self._told_apart(misfit, seen)
        follows = np.einsum("kc,cyx->kyx", self.regression, np.where(np.isfinite(rest), rest, 0.0))
        return np.where(outliers, np.float32(np.nan), residual - follows.astype(np.float32)), outliers

    def _told_apart(self, misfit: FloatArray, seen: FloatArray) -> tuple[DoubleArray, BoolArray]:
        """What the local relation leaves of the misfit (c, h, w), and the outliers."""
        weight = self.weight(misfit, seen)
        smooth = local_relation(misfit, seen, weight, self.level, self.spread)
        outliers = size_of(misfit - smooth, self.sigma) > OUTLIER_SIGMA
        return misfit - self.kept[:, None, None] * smooth, outliers

    def weight(self, misfit: FloatArray, seen: FloatArray) -> DoubleArray:
        """(h, w) Tukey's weight of the distance from the common line; zero where invalid."""
        shape = (-1, 1, 1)
        left = misfit - self.slope.reshape(shape) * seen - self.intercept.reshape(shape)
        size = size_of(left, self.line_sigma)
        return np.where(np.isfinite(size), np.square(np.clip(1 - np.square(size / OUTLIER_SIGMA), 0, None)), 0.0)


def quiet_sigma(misfit: NDArray[np.floating]) -> DoubleArray:
    """Standard deviation (c,) of misfits (c, n) of which up to half may be faults.

    From the median of their sizes, and not more than 1.5 times what their quietest 30 % tell.
    """
    quiet = np.quantile(np.abs(misfit), QUIET_SHARE, axis=1) / QUIET_NORMAL
    return np.asarray(np.minimum(mad_sigma(misfit, axis=1), QUIET_EXCESS * quiet), np.float64)


def size_of(misfit: NDArray[np.floating], sigma: DoubleArray) -> DoubleArray:
    """(h, w) root mean square over the bands of a misfit in its standard deviations."""
    return np.asarray(np.sqrt(np.square(misfit / sigma[:, None, None]).mean(axis=0)), np.float64)


def fit_misfit(
    windows: Sequence[tuple[FloatArray, FloatArray, FloatArray]], least_sigma: DoubleArray
) -> MisfitModel | None:
    """Learn from windows how the residual follows the misfit; None where too few pixels are valid.

    ``windows``: triples: residual (K, h, w), misfit (c, h, w) and D M (c, h, w), NaN = invalid. ``least_sigma``: (c,)
    standard deviation below which a misfit is noise.
    """
    valid = [np.asarray(np.isfinite(r).all(axis=0) & np.isfinite(v).all(axis=0)) for r, v, _ in windows]
    if sum(int(part.sum()) for part in valid) < FEWEST_PIXELS:
        return None
    misfit = np.concatenate([v[:, part] for (_, v, _), part in zip(windows, valid, strict=True)], axis=1)
    seen = np.concatenate([m[:, part] for (_, _, m), part in zip(windows, valid, strict=True)], axis=1)
    lines = np.array([robust_line(x, y)[:2] for x, y in zip(seen, misfit, strict=True)])
    left = misfit - lines[:, :1] * seen - lines[:, 1:]
    gradients = [np.stack(_gradient(m)) for _, _, m in windows]
    steep = np.concatenate([g[:, :, part] for g, part in zip(gradients, valid, strict=True)], axis=2).std(axis=2)
    spread = np.concatenate([seen.std(axis=1)[:, None], steep.T], axis=1)
    start = MisfitModel(
        slope=lines[:, 0],
        intercept=lines[:, 1],
        line_sigma=np.maximum(quiet_sigma(left), least_sigma),
        sigma=np.maximum(quiet_sigma(left), least_sigma),
        level=seen.mean(axis=1, dtype=np.float64),
        spread=np.maximum(spread.astype(np.float64), 1e-12),
        kept=np.zeros(len(seen)),
        regression=np.zeros((len(windows[0][0]), len(seen))),
    )
    return _regressed(start, windows, valid, least_sigma)


def _regressed(
    start: MisfitModel,
    windows: Sequence[tuple[FloatArray, FloatArray, FloatArray]],
    valid: list[BoolArray],
    least_sigma: DoubleArray,
) -> MisfitModel:
    weights = [start.weight(v, m) for _, v, m in windows]
    smooth, *held_out = (
        np.concatenate(
            [
                local_relation(v, m, weight, start.level, start.spread, left_out)[:, part]
                for (_, v, m), weight, part in zip(windows, weights, valid, strict=True)
            ],
            axis=1,
        )
        for left_out in (None, 0, 1)
    )
    misfit = np.concatenate([v[:, part] for (_, v, _), part in zip(windows, valid, strict=True)], axis=1)
    residual = np.concatenate([r[:, part] for (r, _, _), part in zip(windows, valid, strict=True)], axis=1)
    weight = np.concatenate([w[part] for w, part in zip(weights, valid, strict=True)])
    sigma = np.maximum(quiet_sigma(misfit - smooth), least_sigma)
    kept = np.min([kept_share(misfit.astype(np.float64), found, weight) for found in held_out], axis=0)
    rest = misfit - kept[:, None] * smooth
    regression = bounded_regression(residual.astype(np.float64), rest, np.maximum(quiet_sigma(rest), least_sigma))
    # The local relation follows no detail; what it cannot follow is like what it can.
    regression *= 1.0 - kept.mean()
    fields = {name: getattr(start, name) for name in ("slope", "intercept", "line_sigma", "level", "spread")}
    return MisfitModel(sigma=sigma, kept=kept, regression=regression, **fields)


def kept_share(misfit: DoubleArray, held_out: DoubleArray, weight: DoubleArray) -> DoubleArray:
    """Share (c,) of the misfit that its surroundings confirm: slope of v (c, n) on its held-out prediction."""
    power = np.maximum((weight * np.square(misfit)).sum(axis=1), 1e-300)
    slope = (weight * misfit * held_out).sum(axis=1) / np.maximum((weight * np.square(held_out)).sum(axis=1), 1e-300)
    slope = np.clip(slope, 0.0, 1.0)
    left = (weight * np.square(misfit - slope[:, None] * held_out)).sum(axis=1)
    return np.asarray(slope * np.clip((1.0 - left / power) / ENOUGH_EXPLAINED, 0.0, 1.0))


def bounded_regression(residual: DoubleArray, misfit: DoubleArray, sigma: DoubleArray) -> DoubleArray:
    """Regression (K, c) of residuals (K, n) on misfits (c, n), shrunk by what chance alone would explain of each.

    Pixels beyond `BOUNDED_SIGMA` weigh less, so that none gains more influence than one there has. The share of
    chance is that of James and Stein (1961): c σ² of the sum of squares explained.
    """
    size = np.sqrt(np.square(misfit / sigma[:, None]).mean(axis=0))
    weight = np.square(np.minimum(1.0, BOUNDED_SIGMA / np.maximum(size, 1e-12)))
    power = np.einsum("cn,n,dn->cd", misfit, weight, misfit)
    power += 1e-9 * np.trace(power) / len(power) * np.eye(len(power))
    found = np.linalg.solve(power, np.einsum("cn,n,kn->ck", misfit, weight, residual)).T
    fit = np.einsum("kc,cn->kn", found, misfit)
    explained = (weight * np.square(fit)).sum(axis=1)
    left = (weight * np.square(residual - fit)).sum(axis=1) / max(weight.sum() - len(power), 1.0)
    shrunk = np.clip(1.0 - len(power) * left / np.maximum(explained, 1e-300), 0.0, 1.0)
    return np.asarray(shrunk[:, None] * found)


def local_relation(
    misfit: FloatArray,
    seen: FloatArray,
    weight: DoubleArray,
    level: DoubleArray,
    spread: DoubleArray,
    left_out: int | None = None,
) -> DoubleArray:
    """Offset and gain between the sensors around every HSI pixel, as a misfit (c, h, w).

    In Gaussian windows each band of v is regressed on one, on D M and on its gradient; the gradient's part, a local
    shift, is left out of the result. A pixel's own row (``left_out`` 0) or column (1) takes no part in what is said of
    it.
    """
    fit = np.empty(misfit.shape, np.float64)
    for band, (values, image) in enumerate(zip(misfit, seen, strict=True)):
        valid = np.isfinite(values) & np.isfinite(image)
        own = np.where(valid, weight, 0.0)
        y = np.where(valid, values, 0.0).astype(np.float64)
        steep = _gradient(image[None])
        columns = [np.where(valid, image - level[band], 0.0), steep[0][0], steep[1][0]]
        table = [np.ones_like(y), *(column / scale for column, scale in zip(columns, spread[band], strict=True))]
        total = np.maximum(_around(own, left_out), 1e-3)
        power, seen_by = np.empty((*y.shape, 4, 4)), np.empty((*y.shape, 4, 1))
        for i, one in enumerate(table):
            seen_by[..., i, 0] = _around(own * one * y, left_out)
            for j, other in enumerate(table[: i + 1]):
                power[..., i, j] = power[..., j, i] = _around(own * one * other, left_out)
        power += total[..., None, None] * np.diag(PULL)
        found = np.linalg.solve(power, seen_by)[..., 0]
        fit[band] = found[..., 0] + found[..., 1] * table[1]
    return fit


def _around(image: DoubleArray, left_out: int | None) -> DoubleArray:
    """Gaussian mean around every pixel (h, w), zeros beyond, without its own row (0) or column (1)."""
    radius = int(TRUNCATE * SMOOTH_SIGMA_LR + 0.5)
    kernel = np.exp(-0.5 * np.square(np.arange(-radius, radius + 1) / SMOOTH_SIGMA_LR))
    kernel /= kernel.sum()
    others = np.where(np.arange(-radius, radius + 1) == 0, 0.0, kernel)
    for axis in (0, 1):
        image = ndimage.correlate1d(image, others if axis == left_out else kernel, axis=axis, mode="constant")
    return np.asarray(image, np.float64)


def _gradient(images: FloatArray) -> tuple[DoubleArray, DoubleArray]:
    """Slope (c, h, w) along y and x per HSI pixel; zero where a neighbour is invalid."""
    slopes = []
    for axis in (1, 2):
        slope = np.gradient(images.astype(np.float64), axis=axis) if images.shape[axis] > 1 else np.zeros(images.shape)
        slopes.append(np.nan_to_num(slope, copy=False))
    return slopes[0], slopes[1]
