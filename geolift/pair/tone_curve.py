"""Monotone curves between two images of one scene: a gamma, a stretch, anything that a line does not follow.

Two families: one power for all bands, which is what a gamma is and goes on sensibly beyond the values that were seen,
and a monotone spline per band, which follows any shape that bends gently.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from geolift.pair.robust import mad_sigma, robust_line

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]

POWERS = np.exp(np.linspace(-np.log(2.5), np.log(2.5), 11))
"""Powers that are tried; the best is then interpolated between them."""

POWER_BANDS, POWER_PIXELS = 3, 400
"""Bands and pixels that tell the power: the residuals of robust lines are compared, fifteen per band."""

KNOTS = 6
"""Quantiles at which a spline may bend."""

STIFFNESS = 0.03
"""Penalty on a spline's bends, in parts of the power of the data."""

POWER_WIDTH = 4e-3
"""So closely is the power found."""

POWER_INLIERS = 8.0
"""Standard deviations from the robust lines at the best of the powers within which pixels refine it."""

TABLE = 65
"""Points of the table in which a curve is kept; linear between them, to a thousandth of the range."""


@dataclass(frozen=True, eq=False)
class ToneCurve:
    """A rising piecewise linear curve per band, continued by its first and last slope.

    Parameters
    ----------
    seen, wanted
        (c, k): from these values to those; rising along k.
    name
        ``power`` or ``spline``.
    """

    seen: DoubleArray
    wanted: DoubleArray
    name: str

    def apply(self, msi: NDArray[np.floating]) -> FloatArray:
        """Map MSI values (c, ...), pixel by pixel; NaN stays NaN.

        Examples
        --------
        >>> curve = ToneCurve(np.array([[0.0, 1.0, 2.0]]), np.array([[0.0, 1.0, 4.0]]), "spline")
        >>> curve.apply(np.array([[-1.0, 0.5, 3.0]], np.float32)).tolist()
        [[-1.0, 0.5, 7.0]]
        """
        return np.stack([_along(band, x, y) for band, x, y in zip(msi, self.seen, self.wanted, strict=True)])

    def undo(self, values: NDArray[np.floating]) -> FloatArray:
        """Map back: the MSI values that give these."""
        return ToneCurve(self.wanted, self.seen, self.name).apply(values)


def _along(values: NDArray[np.floating], x: DoubleArray, y: DoubleArray) -> FloatArray:
    mapped = np.interp(values, x, y)
    for beyond, at, slope in (
        (values < x[0], 0, (y[1] - y[0]) / (x[1] - x[0])),
        (values > x[-1], -1, (y[-1] - y[-2]) / (x[-1] - x[-2])),
    ):
        if beyond.any():
            mapped[beyond] = y[at] + slope * (values[beyond] - x[at])
    return np.asarray(mapped, np.float32)


def find_power(wanted: DoubleArray, seen: DoubleArray) -> tuple[float, float]:
    """Tell the power of the seen values (c, n) that is nearest to a line with the wanted ones, whatever clouds do.

    Also by how much it narrows the residuals, in nats per band.

    The lines are robust, so that up to two fifths of the pixels may follow another relation.
    """
    step = max(1, seen.shape[1] // POWER_PIXELS)
    bands = np.linspace(0, len(seen) - 1, min(POWER_BANDS, len(seen))).round().astype(int)
    lines = [[robust_line(_positive(seen[b, ::step]) ** p, wanted[b, ::step]) for p in POWERS] for b in bands]
    loss = np.log([[scale for _, _, scale in line] for line in lines]).mean(axis=0)
    best = int(np.argmin(loss))
    x, y = _positive(seen[bands][:, ::step]), wanted[bands][:, ::step]
    slope, level, scale = np.array([line[best] for line in lines]).T[..., None]
    follows = (np.abs(y - slope * x ** POWERS[best] - level) < POWER_INLIERS * scale).all(axis=0)
    if follows.sum() < y.shape[1] / 3:
        follows[:] = True
    power = _refined_power(y[:, follows], x[:, follows], POWERS[max(best - 1, 0)], POWERS[min(best + 1, len(loss) - 1)])
    return power, float(loss[POWERS.size // 2] - loss[best])


def _refined_power(wanted: DoubleArray, seen: DoubleArray, low: float, high: float) -> float:
    """Tell the power between two after which lines leave least, by golden section."""

    def loss(power: float) -> float:
        x, y = (v - v.mean(axis=1, keepdims=True) for v in (seen**power, wanted))
        left = 1.0 - (x * y).sum(axis=1) ** 2 / np.maximum((x**2).sum(axis=1) * (y**2).sum(axis=1), 1e-300)
        return float(np.log(np.maximum(left, 1e-12)).mean())

    part = (5**0.5 - 1) / 2
    inner = {power: loss(power) for power in (high - part * (high - low), low + part * (high - low))}
    while high - low > POWER_WIDTH:
        (one, left), (two, right) = sorted(inner.items())
        if left <= right:
            high, new, kept = two, two - part * (two - low), one
        else:
            low, new, kept = one, one + part * (high - one), two
        inner = {kept: inner[kept], new: loss(new)}
    return min(inner, key=inner.__getitem__)


def curvature(wanted: DoubleArray, predicted: DoubleArray) -> float:
    """Bend of what a line leaves (c, n), largest band: middle against both ends, in parts of its standard deviation."""
    bends = []
    for values, residual in zip(predicted, wanted - predicted, strict=True):
        edges = np.quantile(values, (0.2, 0.4, 0.6, 0.8))
        groups = np.searchsorted(edges, values)
        low, middle, high = (np.median(residual[groups == k]) if (groups == k).any() else 0.0 for k in (0, 2, 4))
        bends.append(abs(low - 2 * middle + high) / 4 / max(float(mad_sigma(residual)), 1e-12))
    return float(max(bends))


def _positive(values: DoubleArray) -> DoubleArray:
    return np.maximum(values, 1e-3 * max(float(np.abs(values).mean()), 1e-12))


def power_curve(seen: DoubleArray, power: float) -> ToneCurve:
    """Raise the seen values (c, n) to a power, each band scaled so that its mean stays: a line is to follow."""
    tables = []
    for band in seen:
        level = max(float(np.abs(band).mean()), 1e-12)
        last = max(1.5 * float(band.max()), 2 * level)
        # from nothing, which stays nothing, and denser where the curve bends most
        x = level * np.linspace(0.0, (last / level) ** 0.5, TABLE) ** 2
        tables.append((x, level * (x / level) ** power))
    x, y = (np.array(part, np.float64) for part in zip(*tables, strict=True))
    return ToneCurve(x, y, "power")


def spline_curve(wanted: DoubleArray, seen: DoubleArray, weights: DoubleArray) -> ToneCurve:
    """Fit a monotone spline per band: quadratic I-splines with coefficients that are not negative.

    ``wanted``, ``seen``: (c, n). ``weights``: (n,) of the pixels.

    References
    ----------
    J. O. Ramsay, Monotone regression splines in action, Statistical Science 3(4), 1988, doi:10.1214/ss/1177012761.
    """
    tables = [_spline(y, x, weights) for y, x in zip(wanted, seen, strict=True)]
    x, y = (np.array(part, np.float64) for part in zip(*tables, strict=True))
    return ToneCurve(x, y, "spline")


def _spline(wanted: DoubleArray, seen: DoubleArray, weights: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """Return the table of one band."""
    knots = np.unique(np.quantile(seen, np.linspace(0.005, 0.995, KNOTS)))
    if knots.size < 3 or knots[-1] - knots[0] <= 1e-9 * np.abs(knots).max():
        level = float(np.abs(seen).max()) + 1e-12
        line = np.linspace(-level, level, TABLE)
        return line, line
    basis = rising_hinges(seen, knots)
    share = weights / weights.sum()
    centre = basis @ share
    centred = basis - centre[:, None]
    gram = (centred * share) @ centred.T
    right = (centred * share) @ (wanted - wanted @ share)
    bends = np.diff(np.eye(len(basis)), axis=0)
    gram += STIFFNESS * np.trace(gram) / len(basis) * (bends.T @ bends) + 1e-9 * np.trace(gram) * np.eye(len(basis))
    slopes = np.linalg.solve(gram, right)
    if slopes.min() < 0:
        from scipy.optimize import nnls  # a quarter of a second

        root = np.linalg.cholesky(gram)
        slopes, _ = nnls(root.T, np.linalg.solve(root, right))
    # a flat stretch cannot be undone, and is hardly what a sensor does
    slopes = np.maximum(slopes, 0.02 * max(float(slopes.max()), 1e-12))
    x = np.linspace(knots[0], knots[-1], TABLE)
    return x, slopes @ (rising_hinges(x, knots) - centre[:, None]) + float(wanted @ share)


def rising_hinges(values: DoubleArray, knots: DoubleArray) -> DoubleArray:
    """I-splines of order two: (k, n), each the integral of a hat around a knot, whose sum is the value itself.

    Beyond the outer knots they go on as lines.

    Examples
    --------
    >>> knots = np.array([0.0, 1.0, 3.0])
    >>> rising_hinges(np.array([-1.0, 0.5, 2.0, 4.0]), knots).sum(axis=0).tolist()
    [-1.0, 0.5, 2.0, 4.0]
    """
    inner = np.clip(values, knots[0], knots[-1])
    out = np.zeros((knots.size, values.size))
    for left, (a, b) in enumerate(pairwise(knots)):
        t = np.clip((inner - a) / (b - a), 0.0, 1.0)
        out[left] += (b - a) * (t - t**2 / 2)
        out[left + 1] += (b - a) * t**2 / 2
    out[0] += knots[0] + np.minimum(values - knots[0], 0.0)
    out[-1] += np.maximum(values - knots[-1], 0.0)
    return out
