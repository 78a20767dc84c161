"""The radiometric relation between the real MSI and the one simulated from the HSI.

Fitted on the HSI's pixels after co-registration, applied to the MSI before inference. Four models of
growing freedom compete on held-out blocks: none, a gain per band, a gain and offset per band, and an
affine map across the bands. The simplest one that is not clearly beaten wins, and a relation that would
move the MSI by less than a few tenths of a per cent is not applied at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geolift.pair.robust import foreign_pixels, mad_sigma

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
Mode = Literal["auto", "off", "gain", "affine"]
Model = Literal["identity", "gain", "gain-offset", "affine"]

MODELS: tuple[Model, ...] = ("identity", "gain", "gain-offset", "affine")
"""From the least to the most freedom."""

MIN_GAIN = 0.05
"""The MSI is left alone unless a relation lowers the held-out error by this part of it."""

NEXT_GAIN = 0.003
"""The same for an offset beside a gain: once a relation is needed, an offset costs nothing."""

CROSS_GAIN = 0.05
"""The same for cross terms, which lower the error of a clean pair a little by averaging its noise."""

MIN_Z = 2.0
"""... and by so many standard errors over the held-out pixels."""

MIN_EFFECT = 0.01
"""A relation that changes the MSI by less than this part of its mean is left out by ``auto``."""

MIN_EXPLAINED = 0.2
"""``auto`` leaves the MSI alone when the best relation explains less of the held-out variance than this."""

RIDGE = 1e-3
"""Pull of the affine map towards the gain and offset per band, in units of the bands' variance."""

_FOLDS = 5
_MAX_PIXELS = 30_000
_MOST_STEPS, _AT_REST = 8, 1e-6
_PIXELS_PER_COEFFICIENT = 8


@dataclass(frozen=True)
class Harmonization:
    """An affine map from the MSI's values to what the HSI makes of them.

    Parameters
    ----------
    model
        The model chosen.
    matrix
        (c, c): harmonised = matrix @ msi + offset.
    offset
        (c,): in the unit of the simulated MSI.
    heldout_error
        Relative RMS error of each model that was tried, on blocks that did not take part in the fit.
    inlier_fraction
        Part of the valid LR pixels that fit the relation: no cloud, change or edge.
    n_pixels
        LR pixels valid in both.
    reason
        One sentence: why this model.
    """

    model: Model
    matrix: DoubleArray
    offset: DoubleArray
    heldout_error: dict[Model, float]
    inlier_fraction: float
    n_pixels: int
    reason: str

    @property
    def is_identity(self) -> bool:
        """Whether the MSI stays as it is."""
        return self.model == "identity"

    def apply(self, msi: FloatArray) -> FloatArray:
        """Map MSI values (c, ...) onto the scale of the simulated MSI; NaN stays NaN.

        Under the affine model a pixel that is invalid in one band becomes invalid in all.
        """
        if self.is_identity:
            return msi
        shape = (-1, *[1] * (msi.ndim - 1))
        offset = self.offset.astype(np.float32).reshape(shape)
        if self.model != "affine":
            return np.asarray(msi * np.diag(self.matrix).astype(np.float32).reshape(shape) + offset)
        # Summed band by band: a matrix product may round a pixel differently in a tile of another shape (law 1).
        mapped = np.zeros_like(msi, dtype=np.float32)
        for band, weights in enumerate(self.matrix.astype(np.float32)):
            for weight, values in zip(weights, msi, strict=True):
                mapped[band] += weight * values
        return np.asarray(mapped + offset)


def fit_harmonization(simulated: FloatArray, degraded_msi: FloatArray, mode: Mode = "auto") -> Harmonization:
    """Fit the relation that maps the MSI onto the MSI simulated from the HSI.

    Parameters
    ----------
    simulated, degraded_msi
        (c, h, w) float32 on the HSI's grid, after co-registration; NaN = invalid.
    mode
        ``auto`` lets held-out blocks decide; ``off`` keeps the MSI; ``gain`` fits one factor per band;
        ``affine`` an affine map across the bands, or per band where the pixels do not suffice.

    Raises
    ------
    ValueError
        If the shapes differ or the mode is unknown.

    References
    ----------
    P. J. Huber, Robust estimation of a location parameter, Ann. Math. Stat. 35, 1964,
    doi:10.1214/aoms/1177703732.
    """
    if simulated.shape != degraded_msi.shape:
        raise ValueError(f"simulated has shape {simulated.shape}, degraded_msi {degraded_msi.shape}")
    if mode not in ("auto", "off", "gain", "affine"):
        raise ValueError(f"mode is {mode!r}; one of auto, off, gain, affine is needed")
    valid = np.asarray(~(np.isnan(simulated).any(axis=0) | np.isnan(degraded_msi).any(axis=0)))
    count, bands = int(valid.sum()), simulated.shape[0]
    if mode == "off":
        return _unchanged(bands, {}, 0.0, count, "switched off")
    if count < 12:
        return _unchanged(bands, {}, 0.0, count, f"only {count} pixels are valid in both images")
    foreign = foreign_pixels(simulated, degraded_msi)
    own = _thinned(valid & ~foreign if foreign.sum() < 0.6 * count else valid)
    wanted, seen = simulated[:, own].astype(np.float64), degraded_msi[:, own].astype(np.float64)
    folds = _block_folds(own)
    models = _affordable(bands, own.sum())
    errors = {model: _heldout(wanted, seen, folds, model) for model in models}
    table = {model: float(np.sqrt(np.mean(error))) for model, error in errors.items()}
    model, reason = _choose(errors, mode)
    matrix, offset, weights = _fit(wanted, seen, model)
    inliers = float((weights > 0.5).mean() * (1.0 - foreign.sum() / count))
    if mode == "auto" and model != "identity":
        explained = 1.0 - table[model] ** 2 / max(_spread(wanted), 1e-20)
        if explained < MIN_EXPLAINED:
            why = f"even the best relation explains only {max(explained, 0.0):.0%} of the contrast"
            return _unchanged(bands, table, inliers, count, why)
        effect = _effect(matrix, offset, seen)
        if effect < MIN_EFFECT:
            return _unchanged(bands, table, inliers, count, f"the {model} relation would change it by {effect:.1%}")
    return Harmonization(model, matrix, offset, table, inliers, count, reason)


def _unchanged(bands: int, table: dict[Model, float], inliers: float, count: int, reason: str) -> Harmonization:
    return Harmonization("identity", np.eye(bands), np.zeros(bands), table, inliers, count, reason)


def _thinned(own: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep a regular grid of the pixels where there are more than the fit needs."""
    step = max(1, int(np.sqrt(own.sum() / _MAX_PIXELS)))
    kept = np.zeros_like(own)
    kept[::step, ::step] = own[::step, ::step]
    return kept


def _affordable(bands: int, pixels: int) -> list[Model]:
    """Models with enough pixels per coefficient."""
    coefficients = {"identity": 0, "gain": 1, "gain-offset": 2, "affine": bands + 1}
    return [m for m in MODELS if coefficients[m] * _PIXELS_PER_COEFFICIENT <= pixels * 0.8]


def _block_folds(own: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Number of the held-out fold of each own pixel: square blocks, dealt so that neighbours differ."""
    rows, columns = np.nonzero(own)
    side = max(2, round(min(own.shape) / 8))
    return np.asarray((rows // side * 2 + columns // side) % _FOLDS, np.intp)


def _heldout(wanted: DoubleArray, seen: DoubleArray, folds: NDArray[np.intp], model: Model) -> DoubleArray:
    """Squared relative error of each own pixel, predicted without its fold, mean over the bands.

    Residuals are capped at the robust scale of the identity's or their own, so that what is left of
    clouds and edges does not decide.
    """
    predicted = np.empty_like(wanted)
    for fold in range(_FOLDS):
        out = folds == fold
        if out.all() or not out.any():
            matrix, offset, _ = _fit(wanted, seen, model)
        else:
            matrix, offset, _ = _fit(wanted[:, ~out], seen[:, ~out], model)
        predicted[:, out] = matrix @ seen[:, out] + offset[:, None]
    residual = wanted - predicted
    level = np.maximum(np.abs(wanted).mean(axis=1), 1e-12)[:, None]
    cap = 4.0 * mad_sigma(residual, axis=1)[:, None]
    return np.asarray(((np.minimum(np.abs(residual), cap) / level) ** 2).mean(axis=0))


def _choose(errors: dict[Model, DoubleArray], mode: Mode) -> tuple[Model, str]:
    """Climb from the simplest model while the next pays."""
    if mode == "gain":
        return "gain", "asked for"
    if mode == "affine":
        best: Model = "affine" if "affine" in errors else "gain-offset" if "gain-offset" in errors else "gain"
        return best, "asked for" if best == "affine" else "asked for; too few pixels for a map across bands"
    chosen: Model = "identity"
    for model in list(errors)[1:]:
        least = MIN_GAIN if chosen == "identity" else CROSS_GAIN if model == "affine" else NEXT_GAIN
        if _pays(errors[chosen], errors[model], least):
            chosen = model
    before, after = (float(np.sqrt(errors[m].mean())) for m in ("identity", chosen))
    if chosen == "identity":
        return chosen, f"no relation lowers the held-out error of {before:.1%} clearly"
    return chosen, f"lowers the held-out error from {before:.1%} to {after:.1%}"


def _pays(old: DoubleArray, new: DoubleArray, least: float) -> bool:
    """Whether the held-out error falls by a part worth having and beyond chance."""
    gain = old - new
    chance = gain.std() / np.sqrt(max(1.0, gain.size / 2.0))  # a blur makes neighbours alike
    return bool(np.sqrt(new.mean()) < (1 - least) * np.sqrt(old.mean()) and gain.mean() > MIN_Z * chance)


def _spread(wanted: DoubleArray) -> float:
    """Relative variance of the simulated MSI, mean over the bands: what a constant would leave."""
    level = np.maximum(np.abs(wanted).mean(axis=1), 1e-12)
    return float((wanted.var(axis=1) / level**2).mean())


def _effect(matrix: DoubleArray, offset: DoubleArray, seen: DoubleArray) -> float:
    """RMS change of the MSI relative to its mean, largest band."""
    change = matrix @ seen + offset[:, None] - seen
    level = np.maximum(np.abs(seen).mean(axis=1), 1e-12)
    return float((np.sqrt((change**2).mean(axis=1)) / level).max())


def _fit(wanted: DoubleArray, seen: DoubleArray, model: Model) -> tuple[DoubleArray, DoubleArray, DoubleArray]:
    """Fit one model by iteratively reweighted least squares; returns matrix, offset and pixel weights."""
    bands, pixels = wanted.shape
    matrix, offset = np.eye(bands), np.zeros(bands)
    weights, level = np.ones(pixels), np.abs(seen).mean(axis=1)
    if model == "identity":
        return matrix, offset, _pixel_weights(wanted - seen)
    for step in range(_MOST_STEPS):
        before = matrix, offset
        if model == "gain":
            matrix = np.diag((weights * seen * wanted).sum(axis=1) / _positive((weights * seen**2).sum(axis=1)))
        else:
            matrix, offset = _weighted_lines(wanted, seen, weights)
            if model == "affine":
                matrix, offset = _weighted_affine(wanted, seen, weights, matrix)
        weights = _pixel_weights(wanted - matrix @ seen - offset[:, None])
        moved = np.abs((matrix - before[0]) @ level + offset - before[1])
        if step and (moved <= _AT_REST * level).all():
            break
    return matrix, offset, weights


def _pixel_weights(residual: DoubleArray) -> DoubleArray:
    """Huber weights on the residual of all bands together."""
    scale = np.maximum(mad_sigma(residual, axis=1), 1e-12)[:, None]
    size = np.sqrt(((residual / scale) ** 2).mean(axis=0))
    return np.asarray(1.345 / np.maximum(size, 1.345))


def _positive(values: DoubleArray) -> DoubleArray:
    return np.maximum(values, 1e-20)


def _weighted_lines(wanted: DoubleArray, seen: DoubleArray, weights: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """One line per band."""
    share = weights / weights.sum()
    mean_w, mean_s = wanted @ share, seen @ share
    centred = seen - mean_s[:, None]
    power = _positive((share * centred**2).sum(axis=1))
    slope = (share * centred * (wanted - mean_w[:, None])).sum(axis=1) / power
    return np.diag(slope), mean_w - slope * mean_s


def _weighted_affine(
    wanted: DoubleArray, seen: DoubleArray, weights: DoubleArray, prior: DoubleArray
) -> tuple[DoubleArray, DoubleArray]:
    """Affine map across bands, ridge towards one line per band."""
    share = weights / weights.sum()
    mean_w, mean_s = wanted @ share, seen @ share
    centred = seen - mean_s[:, None]
    left = wanted - mean_w[:, None] - prior @ centred
    covariance = (centred * share) @ centred.T
    ridge = RIDGE * np.diag(_positive(np.diag(covariance)))
    extra = np.linalg.solve(covariance + ridge, (centred * share) @ left.T).T
    matrix = prior + extra
    return matrix, mean_w - matrix @ mean_s
