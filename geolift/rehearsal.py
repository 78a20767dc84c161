"""What the refinement is worth, measured where the truth is known: the same job one level down.

The HSI plays the truth (Wald's protocol): coarsened by two through its own footprint it is the HSI, through the
sensor's spectral response the MSI. The error of the refined product over that of the plain one is what refinement
leaves there; on 32 products of twelve scenes with a truth it was within 0.11 of the share left on the real level.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from geolift.degrade import apply_srf, degrade, gaussian_kernel_for_fwhm
from geolift.inference import predict_block
from geolift.methods.subspace import find_subspace
from geolift.refinement import refine_arrays
from geolift.training_set import training_set_from_cube
from geolift.uncertainty import STATED_SHARE, DoubleArray, FloatArray, Refit

FACTOR = 2
WINDOW_PX = 64
"""Edge of the part of a large HSI that is rehearsed on."""

FEWEST_PX = 400
"""With fewer HSI pixels nothing is rehearsed: a quarter of them would have to teach and to judge."""

FWHM_PER_SIGMA = float(np.sqrt(8 * np.log(2)))


def refined_share(
    hsi: FloatArray,
    weights: NDArray[np.float32],
    refit: Refit,
    blur_sigma_lr: tuple[float, float],
    msi_noise: DoubleArray | None = None,
    seed: int = 0,
) -> float:
    """Return the error of the refined product over that of the plain one, at most 1, one level down.

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

    Returns
    -------
    float
        One where there are too few pixels to tell.
    """
    rows, cols = (size // FACTOR * FACTOR for size in hsi.shape[1:])
    truth = np.asarray(hsi[:, :rows, :cols], np.float32)
    valid = np.isfinite(truth).all(axis=0)
    if valid.sum() < FEWEST_PX:
        return 1.0
    rng = np.random.default_rng(seed)
    noise = find_subspace(torch.from_numpy(truth[:, valid].T.astype(np.float64))).noise.numpy()
    fwhm = FWHM_PER_SIGMA * FACTOR * max(float(np.mean(blur_sigma_lr)), 0.1)
    low = _with_noise(degrade(truth, gaussian_kernel_for_fwhm(fwhm), FACTOR, "renormalize"), noise, rng)
    msi = apply_srf(truth, weights.astype(np.float64))
    msi = _with_noise(msi, np.zeros(len(msi)) if msi_noise is None else msi_noise, rng)
    training = training_set_from_cube(low, weights)
    model = refit(training)
    plain = predict_block(model, msi)
    refined, _ = refine_arrays(model, training, low, msi, plain.copy(), forced=True)
    known = valid & np.isfinite(refined).all(axis=0) & np.isfinite(plain).all(axis=0)
    left, error = ((product - truth)[:, known] for product in (refined, plain))
    return min(1.0, _share_left(left, error))


def _with_noise(cube: FloatArray, sigma: DoubleArray, rng: np.random.Generator) -> FloatArray:
    return np.asarray(cube + sigma[:, None, None] * rng.standard_normal(cube.shape), np.float32)


def _share_left(left: FloatArray, error: FloatArray) -> float:
    """Return what 68 % of the errors (C, n) left stay below, each in units of the error of its band before.

    Relative, because every band has a stated error of its own: bright bands must not speak for the others. The HSI's
    own noise is in both.
    """
    typical = np.maximum(np.quantile(np.abs(error), STATED_SHARE, axis=1, keepdims=True), 1e-12)
    return float(np.quantile(np.abs(left) / typical, STATED_SHARE))
