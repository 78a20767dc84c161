"""How far the product may be from the truth: a standard error per pixel and band, calibrated on held-out LR pixels.

Models trained without some blocks of the scene are asked there; their residuals, on plain and on sharpened pixels,
say how large errors are and at which MSI values they are larger:

    sigma_b(x) = f · n · k · s_b · h(u(x)),   u(x) = wᵀ [z, |z|, |z|₂ / √c],   z = K^(−½) (x − m)

with m, K mean and covariance of the training pixels' MSI values x, c their number of bands. w is a ridge regression
of the logarithm of the residual, typical over the bands, h a table of quantiles over u. Sharpened pixels
y + a (y − local mean) stand for the fine pixels, which are more contrasted than the HSI's; a is chosen so that their
spread is that of the real MSI. s_b and h are medians and quantiles, so that the interval ± sigma holds 68 %. The same
job one level down, where the HSI plays the truth (`geolift.uncertainty.reduced_resolution`), tells n, what s_b h must
be multiplied by there to hold 68 %, and f, what refinement leaves of the error. k is what neither shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geolift.network.model import SpectralModel
from geolift.training.methods.subspace import Subspace, subspace_of
from geolift.training.training_set import TrainingSet, position_hash

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
Refit = Callable[[TrainingSet], SpectralModel]

STATED_SHARE = 0.6827
"""What ± one sigma holds of a normal distribution."""

FOLDS = 5
FEW_PX = 1500
"""With fewer HSI pixels every fifth of the scene is held out in turn, else one fifth."""

BLOCK_PX, SMALL_BLOCK_PX, SMALL_PX = 6, 3, 400
"""Edge of the blocks that are held out, and that where fewer HSI pixels are."""

MAX_SHARPENING = 5.0
BINS = 12
MIN_BIN_PX = 40
MIN_HELD_OUT_PX = 8
FARTHEST = 6.0
"""z is cut at so many standard deviations."""

LEAST_LEFT = 0.1
"""Share of the residual's power that is left when the HSI's noise is taken off."""

RIDGE = 0.03

FINE_OVER_REDUCED, FINE_OVER_SHARPENED = 0.95, 1.04
"""k where it was assessed at reduced resolution, and where it was not (then n is 1). Below one: models there learn from
fewer pixels. Chosen on scenes with a truth: 68 % in geometric mean over twelve of them, 98 products; without one scene
in turn they would be 0.94 to 0.96 and 1.02 to 1.07 (benchmarks/uncertainty_coverage.py)."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Models that have not seen parts of the scene.

    Parameters
    ----------
    fold
        (n,) part of the scene of each training pixel.
    models
        Per part held out, the model trained without it.
    """

    fold: NDArray[np.int64]
    models: dict[int, SpectralModel]


@dataclass(frozen=True, eq=False, kw_only=True)
class ErrorModel:
    """The standard error of a product as a function of the harmonised MSI pixel.

    Parameters
    ----------
    centre, whitening
        (c,), (c, c): z = whitening @ (x − centre).
    slopes
        (2 c + 1,) w.
    knots, growth
        Values of u and the factor h there; constant beyond the ends.
    band_sigma
        (C,) s_b, in the product's unit.
    sharpening
        The a that makes LR pixels as contrasted as the MSI's.
    held_out
        LR pixels it was calibrated on.
    refined_share
        f, 0 … 1.
    needed
        n; None without an assessment at reduced resolution.
    """

    centre: DoubleArray
    whitening: DoubleArray
    slopes: DoubleArray
    knots: DoubleArray
    growth: DoubleArray
    band_sigma: DoubleArray
    sharpening: float
    held_out: int
    refined_share: float = 1.0
    needed: float | None = None

    def score(self, msi: FloatArray) -> DoubleArray:
        """Return u (…) of MSI values (c, …), summed term by term so that no pixel depends on its neighbours."""
        total = np.zeros(msi.shape[1:])
        for slope, values in zip(self.slopes, _traits(msi, self.centre, self.whitening), strict=True):
            total += slope * values
        return total

    def sigma(self, msi: FloatArray) -> FloatArray:
        """Return the standard error (C, …) at harmonised MSI values (c, …); NaN where the MSI is invalid."""
        sigma = self.relative(msi)
        sigma *= self.level
        return sigma.astype(np.float32)

    def relative(self, msi: FloatArray) -> DoubleArray:
        """Return s_b h (C, …), as the held-out pixels have it, at MSI values (c, …)."""
        factor = np.interp(self.score(msi), self.knots, self.growth)
        return np.asarray(self.band_sigma.reshape((-1,) + (1,) * (msi.ndim - 1)) * factor)

    @property
    def level(self) -> float:
        """f n k: what the error of held-out pixels is multiplied by."""
        scale = FINE_OVER_SHARPENED if self.needed is None else FINE_OVER_REDUCED * self.needed
        return self.refined_share * scale

    @property
    def typical(self) -> DoubleArray:
        """(C,) the standard error of each band where h is one."""
        return self.band_sigma * self.level


def folds_of(training: TrainingSet, seed: int) -> NDArray[np.int64]:
    """(n,) part of the scene, 0 … 4, of each pixel: whole blocks, so that held-out pixels have no trained twins."""
    edge = BLOCK_PX if len(training.rows) >= SMALL_PX else SMALL_BLOCK_PX
    hashes = position_hash(training.rows // edge, training.cols // edge, seed + 1)
    return np.asarray(np.floor(hashes.astype(np.float64) * (FOLDS / 2.0**64)).clip(0, FOLDS - 1), np.int64)


def hold_out(training: TrainingSet, refit: Refit, seed: int = 0, most_folds: int = FOLDS) -> HeldOut | None:
    """Train without each of at most so many parts of the scene; None if there are too few pixels to hold any out."""
    fold = folds_of(training, seed)
    tried = [part for part in range(most_folds) if np.any(fold == part)]
    if np.isin(fold, tried).sum() < MIN_HELD_OUT_PX or any((fold != part).sum() < MIN_HELD_OUT_PX for part in tried):
        return None
    return HeldOut(fold, {part: refit(training.subset(fold != part)) for part in tried})


def fit_errors(
    training: TrainingSet, refit: Refit, msi_spread: DoubleArray | None, seed: int = 0, observed: Observed | None = None
) -> ErrorModel | None:
    """Calibrate the error model with models trained for it; see `calibrated`. None if there are too few pixels.

    ``refit``: trains the same method on another training set.
    """
    held_out = hold_out(training, refit, seed, FOLDS if len(training.rows) < FEW_PX else 1)
    return None if held_out is None else calibrated(training, held_out, msi_spread, seed, observed)


@dataclass(frozen=True, eq=False)
class Observed:
    """What the real MSI shows of the training pixels: (n, c) values and means of the 3 × 3 around, NaN = unknown.

    The simulated MSI follows from the HSI; the real one differs from it by whatever is wrong with the pair.
    """

    values: FloatArray
    neighbour_means: FloatArray

    @property
    def known(self) -> NDArray[np.bool_]:
        """(n,) where all is known."""
        return np.asarray(np.isfinite(self.values + self.neighbour_means).all(axis=1))

    def at(self, chosen: NDArray[np.bool_]) -> Observed:
        """Of some of the pixels."""
        return Observed(self.values[chosen], self.neighbour_means[chosen])


def observed_pixels(
    degraded: FloatArray, rows: NDArray[np.int64], cols: NDArray[np.int64], corner: tuple[int, int] = (0, 0)
) -> Observed:
    """Look pixels up in the harmonised MSI (c, h, w) as an HSI pixel sees it, whose first pixel is ``corner``."""
    bands, height, width = degraded.shape
    y, x = rows - corner[0] + 1, cols - corner[1] + 1
    inside = (y > 0) & (y <= height) & (x > 0) & (x <= width)
    y, x = np.where(inside, y, 0), np.where(inside, x, 0)
    framed = np.full((bands, height + 2, width + 2), np.nan, np.float32)
    framed[:, 1:-1, 1:-1] = degraded
    around = np.stack([framed[:, y + dy, x + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1) if inside.any()])
    valid = np.isfinite(around)
    means = np.where(valid, around, 0).sum(axis=0) / np.maximum(valid.sum(axis=0), 1)
    return Observed(framed[:, y, x].T, means.T.astype(np.float32))


def calibrated(
    training: TrainingSet,
    held_out: HeldOut,
    msi_spread: DoubleArray | None,
    seed: int = 0,
    observed: Observed | None = None,
) -> ErrorModel:
    """Calibrate the error model on what models say of pixels that they have not seen, as noisy as the MSI is.

    ``msi_spread``: (c,) standard deviation of the harmonised MSI where it overlaps the HSI; None = no sharpening.
    ``observed``: of the training pixels; None, or too few of them known = the MSI is simulated, as if nothing were
    wrong.
    """
    asked_of = {part: held_out.fold == part for part in held_out.models}
    if observed is not None:
        known = {part: chosen & observed.known for part, chosen in asked_of.items()}
        enough = sum(int(chosen.sum()) for chosen in known.values()) >= MIN_HELD_OUT_PX
        asked_of, observed = (known, observed) if enough else (asked_of, None)
    sharpening = 0.0 if msi_spread is None else matching_sharpening(training, msi_spread)
    amounts = sorted({0.0, sharpening / 2, sharpening})
    subspace = subspace_of(training)
    rng = np.random.default_rng(seed)
    asked = [
        _ask(model, training.subset(chosen), None if observed is None else observed.at(chosen), amounts, subspace, rng)
        for part, model in held_out.models.items()
        if (chosen := asked_of[part]).any()
    ]
    simulated, residual = (np.concatenate(arrays) for arrays in zip(*asked, strict=True))
    band_sigma = np.maximum(np.quantile(residual, STATED_SHARE, axis=0), 1e-12)
    centre, whitening = _whitening(training.simulated)
    relative = residual / band_sigma
    msi = np.ascontiguousarray(simulated.T)
    slopes = _slopes(_traits(msi, centre, whitening), np.log(np.median(relative, axis=1) + 1e-3))
    count = len(residual) // len(amounts)
    plain = ErrorModel(
        centre=centre,
        whitening=whitening,
        slopes=slopes,
        knots=np.zeros(1),
        growth=np.ones(1),
        band_sigma=band_sigma,
        sharpening=sharpening,
        held_out=count,
    )
    knots, growth = _growth(plain.score(msi), relative)
    return replace(plain, knots=knots, growth=growth)


def _ask(
    model: SpectralModel,
    held: TrainingSet,
    observed: Observed | None,
    amounts: list[float],
    subspace: Subspace,
    rng: np.random.Generator,
) -> tuple[FloatArray, DoubleArray]:
    """MSI values (n, c) and size of the residuals (n, C) of held-out pixels, sharpened by several amounts."""
    msi_noise = 0.0 if held.msi_noise is None else held.msi_noise
    asked, residuals = [], []
    for amount in amounts:
        spectra = held.spectra + np.float32(amount) * (held.spectra - held.neighbour_means)
        if observed is None:
            simulated = held.simulate(spectra)
        else:
            simulated = observed.values + np.float32(amount) * (observed.values - observed.neighbour_means)
        seen = simulated + msi_noise * rng.standard_normal(simulated.shape)
        residual = model.predict(seen.astype(np.float32)).astype(np.float64) - subspace.projected(spectra)
        # The HSI's noise, amplified by sharpening, is in these residuals but no error of the product: leave the rest.
        power = np.square(residual).mean(axis=0)
        rest = np.maximum(power - noise_gain(amount) * np.square(subspace.projected_noise), LEAST_LEFT * power)
        asked.append(simulated)
        residuals.append(np.abs(residual) * np.sqrt(rest / np.maximum(power, 1e-30)))
    return np.concatenate(asked), np.concatenate(residuals)


def matching_sharpening(training: TrainingSet, msi_spread: DoubleArray) -> float:
    """Return the a in 0 … 5 that gives sharpened LR pixels the spread of the fine MSI, median over the bands.

    Var(x + a d) = Var(x) + 2 a Cov(x, d) + a² Var(d), with d the pixel minus its neighbourhood's mean.
    """
    x = training.simulated.astype(np.float64)
    d = x - training.simulate(training.neighbour_means)
    amounts = np.linspace(0.0, MAX_SHARPENING, 101)
    wanted = []
    for band in range(x.shape[1]):
        covariance = np.cov(x[:, band], d[:, band])
        spread = covariance[0, 0] + 2 * amounts * covariance[0, 1] + amounts**2 * covariance[1, 1]
        wanted.append(amounts[int(np.argmin(np.abs(spread - msi_spread[band] ** 2)))])
    return float(np.median(wanted))


def noise_gain(amount: float) -> float:
    """Return by how much y + a (y − mean of 3 × 3) multiplies the variance of white noise.

    >>> noise_gain(0.0)
    1.0
    """
    return (1.0 + amount * 8.0 / 9.0) ** 2 + 8.0 * (amount / 9.0) ** 2


def _whitening(simulated: FloatArray) -> tuple[DoubleArray, DoubleArray]:
    values = simulated.astype(np.float64)
    centre = values.mean(axis=0)
    covariance = np.atleast_2d(np.cov(values.T))
    eigenvalues, vectors = np.linalg.eigh(covariance)
    # Directions without variance would make any pixel infinitely far.
    floor = max(1e-4 * float(eigenvalues[-1]), 1e-20)
    return centre, (vectors / np.sqrt(np.maximum(eigenvalues, floor))).T


def _traits(msi: FloatArray, centre: DoubleArray, whitening: DoubleArray) -> list[DoubleArray]:
    """z, |z| and the RMS of z, each (…), of MSI values (c, …)."""
    offset = msi.astype(np.float64) - centre.reshape((-1,) + (1,) * (msi.ndim - 1))
    along = []
    for row in whitening:
        part = np.zeros(msi.shape[1:])
        for weight, values in zip(row, offset, strict=True):
            part += weight * values
        along.append(np.clip(part, -FARTHEST, FARTHEST))
    power = np.zeros(msi.shape[1:])
    for part in along:
        power += part * part
    return [*along, *(np.abs(part) for part in along), np.sqrt(power / len(along))]


def _slopes(traits: list[DoubleArray], logarithm: DoubleArray) -> DoubleArray:
    """(2 c + 1,) ridge regression of the logarithm of relative residuals on the traits (n,), each scaled to one."""
    table = np.stack(traits)
    scale = np.maximum(table.std(axis=1), 1e-9)
    scaled = (table - table.mean(axis=1, keepdims=True)) / scale[:, None]
    gram = np.einsum("in,jn->ij", scaled, scaled) / table.shape[1] + RIDGE * np.eye(len(table))
    wanted = np.einsum("in,n->i", scaled, logarithm - logarithm.mean()) / table.shape[1]
    return np.asarray(np.linalg.solve(gram, wanted) / scale, np.float64)


def _growth(score: DoubleArray, relative: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """Return how the 68 % quantile of relative residuals grows with the score: bins of equal count, rising."""
    order = np.argsort(score, kind="stable")
    bins = int(np.clip(len(order) // MIN_BIN_PX, 1, BINS))
    parts = np.array_split(order, bins)
    knots = np.array([np.median(score[part]) for part in parts])
    growth = np.array([np.quantile(relative[part], STATED_SHARE) for part in parts])
    return knots, np.maximum.accumulate(growth)
