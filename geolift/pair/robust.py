"""Robust lines between two images of one scene: fits that clouds, change and edges do not pull away."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

DoubleArray = NDArray[np.float64]

MAD_TO_SIGMA = 1.4826
"""Median absolute deviation to standard deviation, for a normal distribution."""

_INNER, _INNER_NORMAL = 0.45, 0.59776
_SAMPLE, _PAIRS = 300, 250
_ENOUGH = 4_000

_LEAST_OWN = 0.3
"""Percentile of residuals that tells a line's worth where two thirds of the points may be outliers."""

_CORE, _CORE_NORMAL, _CORE_SIGMA, _CORE_CUT = 0.2, 0.25335, 2.5, 0.911
"""The core begins with a fifth of the residuals and ends at 2.5 sigma, where a normal variance is cut to 0.911."""

_TUKEY = 4.685
"""Residuals beyond this many sigma do not count (95 % efficiency for normal errors)."""


def mad_sigma(values: NDArray[np.floating], axis: int | None = None) -> DoubleArray:
    """Standard deviation of zero-mean values from their median absolute value.

    Examples
    --------
    >>> float(mad_sigma(np.array([-1.0, 0.0, 1.0, 100.0, 1.0])))
    1.4826
    """
    return np.asarray(MAD_TO_SIGMA * np.median(np.abs(values), axis=axis), np.float64)


def robust_line(x: NDArray[np.floating], y: NDArray[np.floating], *, few: bool = False) -> tuple[float, float, float]:
    """Fit y = slope x + intercept where nearly half of the points may be outliers, wherever they lie.

    The line through two points that leaves the smallest 45th percentile of residuals is found first
    (least quantile of squares, a fixed sample of pairs); Tukey's biweight then uses all that fits it.

    ``few``: only a third of the points may be the scene's own; where more are outliers and alike, theirs is the line.

    Returns
    -------
    tuple
        Slope, intercept, and the standard deviation of the residuals of the points that fit.

    References
    ----------
    P. J. Rousseeuw, Least median of squares regression, JASA 79, 1984, doi:10.1080/01621459.1984.10477105.

    Examples
    --------
    >>> x = np.linspace(0.0, 1.0, 11)
    >>> y = 2.0 * x + 0.5
    >>> y[:4] += 9.0
    >>> slope, intercept, scale = robust_line(x, y)
    >>> round(slope, 6), round(intercept, 6)
    (2.0, 0.5)
    """
    step = max(1, x.size // _ENOUGH)
    x, y = (np.asarray(v, np.float64).ravel()[::step] for v in (x, y))
    scale_of = core_sigma if few else _inner_sigma
    slope, intercept = _least_quantile_line(x, y, _LEAST_OWN if few else _INNER)
    floor = 1e-9 * max(float(np.abs(y).max(initial=0.0)), 1e-12)
    for _ in range(8):
        residual = y - slope * x - intercept
        scale = max(scale_of(residual), floor)
        weight = np.clip(1.0 - (residual / (_TUKEY * scale)) ** 2, 0.0, None) ** 2
        slope, intercept = _weighted_line(x, y, weight)
    return slope, intercept, max(scale_of(y - slope * x - intercept), floor)


def _inner_sigma(residual: DoubleArray) -> float:
    """Standard deviation from the 45th percentile of |residual|, so that a good half tells it."""
    rank = int(_INNER * (residual.size - 1))
    return float(np.partition(np.abs(residual), rank)[rank] / _INNER_NORMAL)


def core_sigma(residual: DoubleArray) -> float:
    """Standard deviation of the core of residuals, of which two thirds may be outliers.

    Residuals within 2.5 sigma of what their smallest fifth tells say it anew, until it rests.
    """
    size = np.abs(residual)
    inner, sigma = _inner_sigma(residual), float(np.quantile(size, _CORE)) / _CORE_NORMAL
    for _ in range(20):
        core = size[size <= _CORE_SIGMA * sigma]
        before, sigma = sigma, float(np.sqrt(np.square(core).mean() / _CORE_CUT))
        if abs(sigma - before) <= 1e-3 * before:
            break
    return min(inner, sigma)


def _least_quantile_line(x: DoubleArray, y: DoubleArray, share: float) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    chosen = rng.permutation(x.size)[:_SAMPLE]
    xs, ys = x[chosen], y[chosen]
    first, second = rng.integers(0, xs.size, (2, _PAIRS))
    run = xs[second] - xs[first]
    apart = np.abs(run) > 0.2 * np.std(xs)
    slopes = (ys[second] - ys[first])[apart] / run[apart]
    if slopes.size == 0:
        return 0.0, float(np.median(ys)) if ys.size else 0.0
    intercepts = ys[first][apart] - slopes * xs[first][apart]
    residual = np.abs(ys - slopes[:, None] * xs - intercepts[:, None])
    count = min(int(share * xs.size), xs.size - 1)
    best = int(np.argmin(np.partition(residual, count, axis=1)[:, count]))
    return float(slopes[best]), float(intercepts[best])


def _weighted_line(x: DoubleArray, y: DoubleArray, weight: DoubleArray) -> tuple[float, float]:
    total = weight.sum()
    mean_x, mean_y = (weight * x).sum() / total, (weight * y).sum() / total
    power = (weight * (x - mean_x) ** 2).sum()
    slope = float((weight * (x - mean_x) * (y - mean_y)).sum() / power) if power > 0 else 0.0
    return slope, float(mean_y - slope * mean_x)


def outlier_pixels(
    seen: NDArray[np.float32], other: NDArray[np.float32], limit_sigma: float = 4.0, *, few: bool = False
) -> NDArray[np.bool_]:
    """Mark pixels of ``other`` that do not belong to the scene in ``seen``: clouds, shadow, change.

    A pixel is an outlier when, in the median over the bands, its 3 x 3 neighbourhood lies more than
    ``limit_sigma`` from the robust line through the band; edges, which misregistration moves both ways,
    mostly cancel in the neighbourhood. A few per cent of a clean scene are marked too.

    Parameters
    ----------
    seen, other
        (c, h, w), NaN = invalid in either.
    limit_sigma
        Distance from the line in standard deviations of the pixels that fit it.
    few
        See `robust_line`.

    Returns
    -------
    NDArray
        (h, w) bool; False where invalid.
    """
    valid = ~(np.isnan(seen).any(axis=0) | np.isnan(other).any(axis=0))
    if valid.sum() < 9:
        return np.zeros(valid.shape, np.bool_)
    share = np.maximum(ndimage.uniform_filter(valid.astype(np.float64), 3, mode="constant"), 1e-3)
    distance = []
    for x, y in zip(seen, other, strict=True):
        slope, intercept, _ = robust_line(x[valid], y[valid], few=few)
        residual = np.where(valid, y - slope * x - intercept, 0.0)
        mean = ndimage.uniform_filter(residual, 3, mode="constant") / share
        distance.append(np.abs(mean) / max((core_sigma if few else _inner_sigma)(mean[valid]), 1e-12))
    return np.asarray((np.median(distance, axis=0) > limit_sigma) & valid)
