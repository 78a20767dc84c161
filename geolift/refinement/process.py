"""What the inversion leaves of the HSI, as a Gaussian process over place and MSI value.

The product A of the per-pixel inversion misses the truth by e. In the noise-whitened subspace, per component,

    e(p, x) = a(x) g_0(p) + Σ_m φ_m(x) g_m(p),   cov g_0 = s ρ(ℓ_0),   cov g_m = s γ ρ(ℓ_m),   ρ(ℓ) = exp(−d² / 2ℓ²)

a correction in proportion to a(x) that varies with the place p and, ever more slowly, with how it depends on the MSI
values x: a material that the MSI cannot tell from another is usually the same material across a field or a roof. The
HSI shows e through its footprint D, with noise: r = D e + n. Expectation given r is area-to-point kriging with
spatially varying coefficients.

References
----------
P. C. Kyriakidis, Geogr. Anal. 36(3), 2004, doi:10.1111/j.1538-4632.2004.tb01135.x (area to point).
A. E. Gelfand et al., JASA 98, 2003, doi:10.1198/016214503000000170 (spatially varying coefficients).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from itertools import chain, product

import numpy as np

from geolift.degradation.sampling import FloatArray
from geolift.refinement import evidence
from geolift.refinement.evidence import Fit, Window
from geolift.refinement.footprint import DoubleArray, Footprint
from geolift.runtime.blas import one_blas_thread

LENGTHS_LR = (0.5, 0.75, 1.0, 1.5)
GUIDED_LENGTHS_LR = (2.0, 4.0)
GUIDED_SHARES = (0.03, 0.1, 0.3, 1.0)
STRENGTHS = tuple(10.0 ** (step / 4) for step in range(-6, 15))
NOISES = (1.0, 1.5, 2.5, 4.0, 8.0)
"""Noise of the residual per component; one is that of the HSI itself, more is what the footprint does not explain."""

CUT_SIGMA = 3.0
"""Correlations end so many lengths away."""

TRIED_TOGETHER = 200
"""Most pixels taken together while lengths are tried, for the work grows with their cube: the likelihood is then
that of the windows' pieces, each for itself."""

LEAST_GAIN_NATS = 2.0
"""A component whose log likelihood gains less is left alone."""


@dataclass(frozen=True, eq=False)
class ResidualProcess:
    """The process with its parameters chosen.

    Parameters
    ----------
    footprint
        How the HSI sees the fine image.
    length_lr, guided_length_lr
        ℓ_0 and ℓ_m in HSI pixels.
    guided_share
        γ; zero where there is nothing to guide by.
    rotation
        (K, K): the residual's own components, in its columns.
    strength, noise
        (K,) variances s and of n, per component; a strength of zero leaves the component alone.
    trust
        (K,) share of the correction that whole columns and lines, left out, confirm; 0 … 1.
    band_trust
        (C,) the same of each band of the spectra, where single pixels are left out. Both: one for all where not asked.
    """

    footprint: Footprint
    length_lr: float
    guided_length_lr: float
    guided_share: float
    rotation: DoubleArray
    strength: DoubleArray
    noise: DoubleArray
    trust: DoubleArray = field(default_factory=lambda: np.ones(1))
    band_trust: DoubleArray = field(default_factory=lambda: np.ones(1))

    @property
    def lengths(self) -> tuple[float, float, float]:
        """ℓ_0, ℓ_m and γ."""
        return self.length_lr, self.guided_length_lr, self.guided_share

    @property
    def halo_lr(self) -> int:
        """HSI pixels around a block that its solution takes into account.

        The own term's reach: nearer pixels screen what lies beyond, of the guided terms too (M. L. Stein, The
        screening effect in kriging, Ann. Statist. 30(1), 2002).
        """
        return self.reach_lr(self.length_lr)

    def reach_lr(self, length_lr: float) -> int:
        """HSI pixels by which the correction of a pixel may look away from it."""
        return int(np.ceil(CUT_SIGMA * length_lr)) + self.footprint.margin_lr

    @property
    def terms(self) -> list[tuple[float, float, slice]]:
        """Length, share and factors of the terms of e: the own one, and those guided by the MSI."""
        own = (self.length_lr, 1.0, slice(0, 1))
        return [own, (self.guided_length_lr, self.guided_share, slice(1, None))] if self.guided_share else [own]


def covariance(footprint: Footprint, axis: int, length_lr: float, distance_lr: DoubleArray) -> DoubleArray:
    """D ρ Dᵀ along one axis, at distances between HSI pixels."""
    offsets, weights = footprint.offsets_lr(axis), footprint.weights[axis]
    apart = distance_lr[..., None, None] + offsets[:, None] - offsets
    return np.asarray(np.einsum("...ij,i,j->...", np.exp(-0.5 * np.square(apart / length_lr)), weights, weights))


def cross_covariance(footprint: Footprint, axis: int, length_lr: float, distance_lr: DoubleArray) -> DoubleArray:
    """ρ Dᵀ along one axis: between a point and HSI pixels, at their distances (point − pixel centre)."""
    apart = distance_lr[..., None] - footprint.offsets_lr(axis)
    return np.asarray(np.exp(-0.5 * np.square(apart / length_lr)) @ footprint.weights[axis])


def fit_process(
    windows: Sequence[tuple[FloatArray, FloatArray]],
    footprint: Footprint,
    decode: DoubleArray,
    threads: int = 1,
    lengths: tuple[float, float, float] | None = None,
) -> tuple[ResidualProcess, float, float]:
    """Choose the parameters by marginal likelihood, and judge them on pixels left out.

    Parameters
    ----------
    windows
        Pairs: residual (K, h, w) in the whitened subspace and factors (1 + M, h, w), NaN = invalid.
    decode
        (C, K): from the whitened subspace to spectra.
    lengths
        ℓ_0, ℓ_m and γ where they are known already: trying them out is what takes the time.

    Returns
    -------
    process, explained, doubt
        The share of the residual's squared error that is predicted at HSI pixels from the others (each left out
        in turn), noise included, and the standard error of that share.
    """
    pixels = np.concatenate([r[:, np.isfinite(r[0])] for r, _ in windows], axis=1).astype(np.float64)
    _, vectors = np.linalg.eigh(np.einsum("kn,ln->kl", pixels, pixels) / pixels.shape[1])
    rotation = vectors[:, ::-1] * np.where(vectors[:, ::-1].sum(axis=0) < 0, -1.0, 1.0)
    parts = [_window(residual, factors, rotation) for residual, factors in windows]
    with one_blas_thread(), ThreadPoolExecutor(threads) as pool:
        if lengths is None:
            lengths = _likeliest_lengths([piece for part in parts for piece in _pieces(part)], footprint, pool)
        own, guided, share = lengths
        grams = [_covariance(part, footprint, own, part.factors[:1]) for part in parts]
        if share:
            for part, gram in zip(parts, grams, strict=True):
                gram += share * _covariance(part, footprint, guided, part.factors[1:])
        fit = _best_strengths(parts, grams, pool)
    return _judged(lengths, fit, parts, footprint, rotation, decode)


def _pieces(part: Window) -> list[Window]:
    """A window cut across its longer side until few pixels are together."""
    if len(part.rows) <= TRIED_TOGETHER:
        return [part]
    along = part.rows if np.ptp(part.rows) >= np.ptp(part.cols) else part.cols
    low = along < np.median(along)
    if not low.any():
        return [part]
    halves = [Window(part.rows[k], part.cols[k], part.residual[:, k], part.factors[:, k]) for k in (low, ~low)]
    return [piece for half in halves for piece in _pieces(half)]


def _likeliest_lengths(pieces: Sequence[Window], footprint: Footprint, pool: Executor) -> tuple[float, float, float]:
    """ℓ_0 of the own term alone, then ℓ_m and γ of the guided ones beside it."""

    @cache
    def covariances(length: float, first: int, last: int | None) -> list[DoubleArray]:
        return [_covariance(piece, footprint, length, piece.factors[first:last]) for piece in pieces]

    def lost(lengths: tuple[float, float, float]) -> float:
        length, guided, share = lengths
        grams = covariances(length, 0, 1)
        if share:
            grams = [own + share * term for own, term in zip(grams, covariances(guided, 1, None), strict=True)]
        return float(_best_strengths(pieces, grams, pool).lost.sum())

    alone = min(((length, 0.0, 0.0) for length in LENGTHS_LR), key=lost)
    guides = product(GUIDED_LENGTHS_LR, GUIDED_SHARES) if len(pieces[0].factors) > 1 else ()
    return min(chain([alone], ((alone[0], *guide) for guide in guides)), key=lost)


def _judged(
    lengths: tuple[float, float, float],
    fit: Fit,
    parts: Sequence[Window],
    footprint: Footprint,
    rotation: DoubleArray,
    decode: DoubleArray,
) -> tuple[ResidualProcess, float, float]:
    """The process, its components and bands trusted as far as they are confirmed, and what it predicts."""
    strength = np.where(_without(parts) - fit.lost > LEAST_GAIN_NATS, fit.strength, 0.0)
    trust = evidence.confirmed_components(parts, fit, strength)
    strength = np.where(trust > 0, strength, 0.0)
    predicted = evidence.left_out(parts, fit, strength, trust)
    bands = evidence.confirmed_bands(parts, predicted, decode @ rotation)
    process = ResidualProcess(footprint, *lengths, rotation, strength, fit.noise, trust, bands)
    return process, *evidence.explained_share(parts, predicted, decode @ rotation)


def _covariance(window: Window, footprint: Footprint, length_lr: float, factors: DoubleArray) -> DoubleArray:
    """(n, n) covariance of a term at strength one."""
    span = np.arange(max(window.rows.max(), window.cols.max()) + 1.0)
    along = [covariance(footprint, axis, length_lr, span) for axis in (0, 1)]
    apart_y, apart_x = (np.abs(v[:, None] - v) for v in (window.rows, window.cols))
    return np.asarray(along[0][apart_y] * along[1][apart_x] * np.einsum("mi,mj->ij", factors, factors))


def _window(residual: FloatArray, factors: FloatArray, rotation: DoubleArray) -> Window:
    rows, cols = np.nonzero(np.isfinite(residual[0]))
    values = rotation.T @ residual[:, rows, cols].astype(np.float64)
    return Window(rows, cols, values, factors[:, rows, cols].astype(np.float64))


def _best_strengths(parts: Sequence[Window], grams: Sequence[DoubleArray], pool: Executor) -> Fit:
    """Per component the strength and noise of highest likelihood, over all windows."""
    choices = np.array([(s, n) for s in STRENGTHS for n in NOISES])
    strength, noise = choices[:, :1], choices[:, 1:]

    def judged(part: Window, gram: DoubleArray) -> tuple[tuple[DoubleArray, DoubleArray], DoubleArray]:
        values, vectors = np.linalg.eigh(gram)
        values = np.maximum(values, 0.0)
        power = np.square(vectors.T @ part.residual.T)
        spread = strength * values + noise
        return (values, vectors), 0.5 * (np.log(spread).sum(axis=1, keepdims=True) + (1.0 / spread) @ power)

    systems, lost = zip(*pool.map(judged, parts, grams), strict=True)
    total = np.sum(lost, axis=0)
    best = total.argmin(axis=0)
    picked = choices[best]
    return Fit(total[best, np.arange(len(best))], picked[:, 0], picked[:, 1], list(systems))


def _without(parts: Sequence[Window]) -> DoubleArray:
    """Log likelihood lost per component by noise alone."""
    count = sum(part.residual.shape[1] for part in parts)
    power = np.sum([np.square(part.residual).sum(axis=1) for part in parts], axis=0)
    return np.asarray(np.min([0.5 * (count * np.log(n) + power / n) for n in NOISES], axis=0))
