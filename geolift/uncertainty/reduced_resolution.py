"""What is stated and what refinement is worth, measured where the truth is known: the same job one level down.

The HSI plays the truth (Wald's protocol): coarsened by two through its own footprint it is the HSI, through the
sensor's spectral response the MSI. Models trained without a part of the scene are asked there: on coarse pixels, to
state an error as ever, and on fine ones, to see how large it truly is. If the product is refined, so is one here, and
its error over that of the plain one is what refinement leaves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geolift.degradation.degrade import apply_srf, degrade
from geolift.degradation.psf import gaussian_kernel_for_fwhm
from geolift.network.inference import predict_block
from geolift.refinement import learn_arrays_twice, refine_arrays
from geolift.training.methods.subspace import Subspace, find_subspace
from geolift.training.training_set import TrainingSet, training_set_from_cube
from geolift.uncertainty.calibration import (
    FOLDS,
    LEAST_LEFT,
    STATED_SHARE,
    DoubleArray,
    ErrorModel,
    FloatArray,
    HeldOut,
    Observed,
    Refit,
    calibrated,
    hold_out,
    observed_pixels,
)

FACTOR = 2
WINDOW_PX = 64
"""Edge of the part of a large HSI that is assessed."""

FEWEST_PX = 400
"""With fewer HSI pixels nothing is assessed: a quarter of them would have to teach and to judge."""

ENOUGH_PX = 400
"""Parts of the scene are held out in turn until so many coarse pixels are: of a whole window two parts of five, so that
two models are to be trained."""

FWHM_PER_SIGMA = float(np.sqrt(8 * np.log(2)))


@dataclass(frozen=True)
class ReducedResolution:
    """What was found one level down.

    Parameters
    ----------
    needed
        What the standard error of coarse pixels must be multiplied by to hold 68 % of the errors of fine ones, neither
        of them seen by the model that is asked.
    refined_share
        The error of the refined product over that of the plain one, at most 1.
    """

    needed: float
    refined_share: float


@dataclass(frozen=True, eq=False)
class _Stage:
    """The level below: truth (C, y, x), HSI (C, y/2, x/2), MSI (c, y, x), and the subspace of the truth."""

    truth: FloatArray
    hsi: FloatArray
    msi: FloatArray
    subspace: Subspace
    training: TrainingSet
    observed: Observed | None


def assess_at_reduced_resolution(
    hsi: FloatArray,
    weights: NDArray[np.float32],
    refit: Refit,
    blur_sigma_lr: tuple[float, float],
    msi_noise: DoubleArray | None = None,
    *,
    refined: bool,
    degraded: FloatArray | None = None,
    trial: Refit | None = None,
    seed: int = 0,
) -> ReducedResolution | None:
    """Do the job one level down; None where there are too few pixels to tell.

    Parameters
    ----------
    hsi
        (C, h, w) good bands of the HSI or a window of it, NaN = invalid.
    weights
        (c, C) SRF weights.
    refit
        Trains the method on a training set.
    blur_sigma_lr
        (y, x) blur of the HSI beside its pixel's average, in HSI pixels.
    msi_noise
        (c,) standard deviation of the MSI's noise; None = none.
    refined
        Whether the product is refined; otherwise its share is 1.
    degraded
        (c, h, w) the harmonised MSI as HSI pixels see it, NaN = invalid: with all that is wrong with the pair. None =
        the MSI is simulated.
    trial
        If the product was learned twice, the form of the method for a trial: then so is the one here.
    """
    if np.isfinite(hsi).all(axis=0).sum() < FEWEST_PX:
        return None
    seen = np.zeros(len(weights)) if msi_noise is None else msi_noise
    stage = _stage(hsi, weights, blur_sigma_lr, seen, degraded, np.random.default_rng(seed))
    parts = int(np.clip(np.ceil(FOLDS * ENOUGH_PX / len(stage.training.rows)), 1, FOLDS))
    held_out = hold_out(stage.training, refit, seed, parts)
    if held_out is None:
        return None
    spread = np.nanstd(stage.msi.reshape(len(stage.msi), -1), axis=1)
    errors = calibrated(stage.training, held_out, spread, seed, stage.observed)
    needed = _needed(stage, held_out, errors)
    if needed is None:
        return None
    return ReducedResolution(needed, _refined_share(stage, refit, trial) if refined else 1.0)


def _stage(
    hsi: FloatArray,
    weights: NDArray[np.float32],
    blur_sigma_lr: tuple[float, float],
    msi_noise: DoubleArray,
    degraded: FloatArray | None,
    rng: np.random.Generator,
) -> _Stage:
    rows, cols = (size // FACTOR * FACTOR for size in hsi.shape[1:])
    truth = np.asarray(hsi[:, :rows, :cols], np.float32)
    valid = np.isfinite(truth).all(axis=0)
    subspace = find_subspace(truth[:, valid].T)
    fwhm = FWHM_PER_SIGMA * FACTOR * max(float(np.mean(blur_sigma_lr)), 0.1)
    kernel = gaussian_kernel_for_fwhm(fwhm)
    low = _with_noise(degrade(truth, kernel, FACTOR, "renormalize"), subspace.noise, rng)
    training = training_set_from_cube(low, weights, msi_noise)
    if degraded is None:
        msi = _with_noise(apply_srf(truth, weights.astype(np.float64)), msi_noise, rng)
        return _Stage(truth, low, msi, subspace, training, None)
    seen = np.asarray(degraded[:, :rows, :cols], np.float32)
    observed = observed_pixels(degrade(seen, kernel, FACTOR, "renormalize"), training.rows, training.cols)
    return _Stage(truth, low, _with_noise(seen, msi_noise, rng), subspace, training, observed)


def _with_noise(cube: FloatArray, sigma: DoubleArray, rng: np.random.Generator) -> FloatArray:
    return np.asarray(cube + sigma[:, None, None] * rng.standard_normal(cube.shape), np.float32)


def _needed(stage: _Stage, held_out: HeldOut, errors: ErrorModel) -> float | None:
    """Return what 68 % of the true errors stay below, in units of the stated ones; all bands and pixels alike.

    The noise of the HSI that plays the truth is no error of the product: it is left out, as in the calibration.
    """
    product = _unseen(stage, held_out)
    known = np.isfinite(product).all(axis=0) & np.isfinite(stage.truth).all(axis=0)
    if not known.any():
        return None
    power = np.square(product[:, known].T - stage.subspace.projected(stage.truth[:, known].T)).T
    rest = np.maximum(power - np.square(stage.subspace.projected_noise)[:, None], LEAST_LEFT * power)
    return float(np.quantile(np.sqrt(rest) / errors.relative(stage.msi[:, known]), STATED_SHARE))


def _unseen(stage: _Stage, held_out: HeldOut) -> FloatArray:
    """(C, y, x) fine pixels by the model that has not seen the coarse one around them; NaN where all models have."""
    training = stage.training
    part = np.full(stage.hsi.shape[1:], -1)
    part[training.rows, training.cols] = held_out.fold
    fine = part.repeat(FACTOR, axis=0).repeat(FACTOR, axis=1)
    found = np.full(stage.truth.shape, np.nan, np.float32)
    for held, model in held_out.models.items():
        found[:, fine == held] = predict_block(model, stage.msi)[:, fine == held]
    return found


def _refined_share(stage: _Stage, refit: Refit, trial: Refit | None) -> float:
    """Return what 68 % of the errors left stay below, each in units of the error of its band before; at most 1.

    Relative, because every band has a stated error of its own: bright bands must not speak for the others. The HSI's
    own noise is in both.
    """
    model = refit(stage.training)
    plain = predict_block(model, stage.msi)
    refined, done = refine_arrays(model, stage.training, stage.hsi, stage.msi, plain.copy(), forced=True)
    if trial is not None:
        again, _ = learn_arrays_twice(model, stage.training, stage.hsi, stage.msi, done, fit=refit, trial=trial)
        refined = refined if again is None else again
    known = np.isfinite(refined).all(axis=0) & np.isfinite(plain).all(axis=0) & np.isfinite(stage.truth).all(axis=0)
    left, error = (np.abs((product - stage.truth)[:, known]) for product in (refined, plain))
    typical = np.maximum(np.quantile(error, STATED_SHARE, axis=1, keepdims=True), 1e-12)
    return min(1.0, float(np.quantile(left / typical, STATED_SHARE)))
