"""Normal equations as sums over pixels, and what can be learned from the sums alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DoubleArray = NDArray[np.float64]

CHUNK_PIXELS = 2048
"""Rows whose products are summed at once. Fixed, so that sums do not depend on the number of threads."""

CHUNKS_AT_ONCE = 8
RIDGES = tuple(10.0 ** (step / 2) for step in range(-10, 8))
LARGEST_LINEAR_SHARE = 0.75
PRIOR_PIXELS = 0.5
"""Of 0 to 10 the one of fewest losses against least squares: on nine scenes of 9 to 324 pixels with 4, 8 and 10 MSI
bands the best lay between 0.3 and 1.8, whatever their number. Held-out coarse pixels cannot tell (docs/method.md)."""


@dataclass(frozen=True, eq=False)
class NormalSums:
    """Σ w φφᵀ (F, F), Σ w φtᵀ (F, K), Σ w ttᵀ (K, K), Σ w."""

    gram: DoubleArray
    moment: DoubleArray
    power: DoubleArray
    weight: float

    def __sub__(self, other: NormalSums) -> NormalSums:
        return NormalSums(
            self.gram - other.gram, self.moment - other.moment, self.power - other.power, self.weight - other.weight
        )

    @classmethod
    def total(cls, parts: Sequence[NormalSums]) -> NormalSums:
        """The sum, in the given order."""
        gram, moment, power = parts[0].gram.copy(), parts[0].moment.copy(), parts[0].power.copy()
        for part in parts[1:]:
            gram += part.gram
            moment += part.moment
            power += part.power
        return cls(gram, moment, power, sum(part.weight for part in parts))

    def product(self, one: DoubleArray, other: DoubleArray, metric: DoubleArray) -> float:
        """Σ w rᵀ M s of the residuals r = t − oneᵀφ and s = t − otherᵀφ of two linear heads (F, K)."""
        cross = self.power - one.T @ self.moment - self.moment.T @ other + one.T @ self.gram @ other
        return float((metric * cross).sum())


@dataclass(frozen=True, eq=False)
class RidgeFit:
    """Linear head (F, K) and, per component, the ridge and its degrees of freedom."""

    head: DoubleArray
    ridges: DoubleArray
    freedom: DoubleArray


def accumulate(
    mapping: Callable[[DoubleArray], DoubleArray],
    inputs: DoubleArray,
    targets: DoubleArray,
    weights: DoubleArray,
    pool: ThreadPoolExecutor,
) -> NormalSums:
    """Sums over (n, c) inputs and (n, K) targets, in fixed chunks and fixed order."""

    def sums(start: int) -> NormalSums:
        part = slice(start, start + CHUNK_PIXELS)
        phi, goal, weight = mapping(inputs[part]), targets[part], weights[part, None]
        weighted = (phi * weight).T
        return NormalSums(weighted @ phi, weighted @ goal, (goal * weight).T @ goal, float(weight.sum()))

    starts = range(0, len(inputs), CHUNK_PIXELS)
    total: NormalSums | None = None
    for first in range(0, len(starts), CHUNKS_AT_ONCE):  # in waves: every sum is a large matrix
        parts = list(pool.map(sums, starts[first : first + CHUNKS_AT_ONCE]))
        total = NormalSums.total(parts if total is None else [total, *parts])
    if total is None:
        raise ValueError("no pixels to sum over")
    return total


def solve(sums: NormalSums) -> RidgeFit:
    """Ridge regression; the ridge of each component is that of highest evidence.

    With weights β ~ N(0, σ²/λ), noise σ² and eigenvalues e of the Gram matrix the log evidence is, up to a
    constant, −½ (n log q(λ) + Σ log(1 + e/λ)) with q the penalised residual sum of squares.

    References
    ----------
    D. J. C. MacKay, Bayesian interpolation, Neural Comput. 4(3), 1992, doi:10.1162/neco.1992.4.3.415.
    """
    values, vectors = np.linalg.eigh(sums.gram)
    values = np.maximum(values, 0.0)
    rotated = vectors.T @ sums.moment
    power = np.diagonal(sums.power)
    left = np.stack([power - (np.square(rotated) / (values + ridge)[:, None]).sum(axis=0) for ridge in RIDGES])
    left = np.maximum(left, 1e-12 * np.maximum(power, 1e-30))
    complexity = np.array([np.log1p(values / ridge).sum() for ridge in RIDGES])
    best = (sums.weight * np.log(left / sums.weight) + complexity[:, None]).argmin(axis=0)
    ridges = np.array(RIDGES)[best]
    shrunk = values[:, None] + ridges
    return RidgeFit(vectors @ (rotated / shrunk), ridges, (values[:, None] / shrunk).sum(axis=0))


def steady_line(sums: NormalSums, noise: DoubleArray, rows: int) -> DoubleArray:
    """(rows, K) linear head on the last features, a constant being the last one; zeros for the features before them.

    Least squares for inputs that will be noisy, their covariance ``noise`` (c, c) being added for every pixel, with a
    prior of mean zero that weighs as much as ``PRIOR_PIXELS`` pixels: fine pixels lie five to ten times as far from the
    mean as those learned from, and what few pixels tell of a slope is multiplied by that.
    """
    head = np.zeros((rows, sums.moment.shape[1]))
    gram = sums.gram.copy()
    gram[:-1, :-1] += sums.weight * noise + PRIOR_PIXELS * np.eye(len(noise))
    head[-len(gram) :] = np.linalg.solve(gram, sums.moment)
    return head


def held_out_share(
    folds: Sequence[tuple[NormalSums, NormalSums]], line: Callable[[NormalSums], DoubleArray], metric: DoubleArray
) -> float:
    """The share of a line, 0 … 0.75, whose blend with ridge regression errs least on held-out folds.

    ``folds``: per fold the sums of ridge regression and those of the line, ``line``: its head (F, K) from the latter,
    ``metric``: (K, K): squared errors are rᵀ M r.
    """
    ridge_total = NormalSums.total([ridge for ridge, _ in folds])
    plain_total = NormalSums.total([plain for _, plain in folds])
    gap = both = 0.0
    for held, plain in folds:
        ridge = solve(ridge_total - held).head
        linear = line(plain_total - plain)
        # |r + s (l − r)|² is least at s = ⟨r, r − l⟩ / |r − l|²
        own = held.product(ridge, ridge, metric)
        cross = held.product(ridge, linear, metric)
        gap += own - cross
        both += own - 2 * cross + held.product(linear, linear, metric)
    return min(max(gap / both, 0.0), LARGEST_LINEAR_SHARE) if both > 0 else 0.0
