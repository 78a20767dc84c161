"""Whether fusing pays: the job done one level down, where the HSI is the truth, against the HSI interpolated alone.

The HSI coarsened by two is the HSI there, and the real MSI, as the HSI's pixels see it, the MSI. What interpolating
misses grows with the ratio; where structure is alike at all scales, each octave adds as much to its square.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from geolift.degradation.degrade import degrade
from geolift.degradation.psf import gaussian_kernel_for_fwhm
from geolift.network.inference import predict_block
from geolift.refinement import refine_arrays
from geolift.training.methods.subspace import find_subspace
from geolift.training.training_set import training_set_from_cube
from geolift.uncertainty.calibration import DoubleArray, FloatArray, Refit
from geolift.uncertainty.reduced_resolution import FACTOR, FWHM_PER_SIGMA

FEWEST_PX = 49
"""With fewer HSI pixels nothing can be said."""

CLEARLY_BETTER = 0.8
"""An inversion that leaves so little of what interpolating misses needs no refinement to pay."""

CLEARLY_WORSE = 1.25
"""A product whose error or angle is so many times that of the interpolated HSI is not to be had without a word."""


@dataclass(frozen=True)
class Worth:
    """Error (RMS) and mean spectral angle of the fused HSI over those of the interpolated one, at the pair's ratio."""

    error: float
    angle: float

    @property
    def is_none(self) -> bool:
        """Whether interpolating is as good: one measure loses what the other gains, or loses clearly."""
        return self.error * self.angle >= 1.0 or max(self.error, self.angle) >= CLEARLY_WORSE


def weigh_against_interpolation(
    hsi: FloatArray,
    msi: FloatArray,
    weights: FloatArray,
    refit: Refit,
    blur_sigma_lr: float,
    msi_noise: DoubleArray,
    ratio: float,
    seed: int = 0,
) -> Worth | None:
    """Fuse and interpolate one level down; None where there are too few pixels to tell.

    Parameters
    ----------
    hsi, msi
        (C, h, w) good bands and (c, h, w) the harmonised MSI as the HSI's pixels see it, NaN = invalid.
    weights
        (c, C) SRF weights.
    refit
        Trains the method on a training set.
    blur_sigma_lr
        Of the HSI beside its pixel's average, in HSI pixels.
    msi_noise
        (c,) standard deviation of the MSI's noise at its own pixels.
    ratio
        Of the pair.
    """
    rows, cols = (size // FACTOR * FACTOR for size in hsi.shape[1:])
    truth, seen = (np.asarray(image[:, :rows, :cols], np.float32) for image in (hsi, msi))
    valid = np.isfinite(truth).all(axis=0) & np.isfinite(seen).all(axis=0)
    if valid.sum() < FEWEST_PX:
        return None
    kernel = gaussian_kernel_for_fwhm(FWHM_PER_SIGMA * FACTOR * max(blur_sigma_lr, 0.1))
    low = degrade(truth, kernel, FACTOR, "renormalize")
    training = training_set_from_cube(low, weights, msi_noise)
    if len(training.rows) < FEWEST_PX // FACTOR**2:
        return None
    model = refit(training)
    noise = msi_noise[:, None, None] * np.random.default_rng(seed).standard_normal(seen.shape)
    fine = np.asarray(seen + noise, np.float32)
    plain = predict_block(model, fine)
    alone = _interpolated(low)
    grown = float(np.sqrt(np.log2(max(ratio, FACTOR))))
    known = valid & np.isfinite(alone).all(axis=0) & np.isfinite(plain).all(axis=0)
    right = _without_noise(truth[:, known])

    def worth(product: FloatArray) -> Worth:
        ours, theirs = (_missed(image[:, known], right) for image in (product, alone))
        return Worth(*(one / max(grown * other, 1e-12) for one, other in zip(ours, theirs, strict=True)))

    first = worth(plain)
    if max(first.error, first.angle) < CLEARLY_BETTER:
        return first
    refined, _ = refine_arrays(model, training, low, fine, plain)
    return worth(np.where(np.isfinite(refined), refined, plain))


def _interpolated(low: FloatArray) -> FloatArray:
    """(C, y, x) at the finer pixels by cubic splines, NaN where the coarse pixel is."""
    valid = np.isfinite(low).all(axis=0)
    if not valid.any():
        return np.full((len(low), *(FACTOR * size for size in valid.shape)), np.nan, np.float32)
    nearest = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    filled = low[:, nearest[0], nearest[1]]
    fine = np.stack([ndimage.zoom(band, FACTOR, order=3, mode="nearest", grid_mode=True) for band in filled])
    return np.where(valid.repeat(FACTOR, 0).repeat(FACTOR, 1), fine, np.float32(np.nan))


def _without_noise(spectra: FloatArray) -> DoubleArray:
    """Spectra (C, n) without what is noise of the HSI: it would count as an error of either product."""
    space = find_subspace(spectra.T, spare=True)
    centred = spectra - space.mean[:, None]
    return np.asarray(space.mean[:, None] + space.decode @ (space.encode.T @ centred))


def _missed(product: FloatArray, right: DoubleArray) -> tuple[float, float]:
    """RMS error and mean angle of (C, n) spectra."""
    product = product.astype(np.float64)
    length = np.linalg.norm(product, axis=0) * np.linalg.norm(right, axis=0)
    angle = np.arccos(np.clip((product * right).sum(axis=0) / np.maximum(length, 1e-12), -1.0, 1.0))
    return float(np.sqrt(np.square(product - right).mean())), float(angle.mean())
