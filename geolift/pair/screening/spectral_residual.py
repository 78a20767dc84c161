"""What a band holds that the other bands do not tell: mostly its own noise, and what a fault of the band adds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RIDGE = 1e-4
"""Added to each band's variance, as a share of it: bands that repeat each other must not divide by zero."""

CLIP_SIGMA = 4.0


def spectral_residual(spectra: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return what of each band a regression on all other bands leaves.

    The residuals of all regressions follow from the inverse of the covariance matrix at once (Roger & Arnold,
    doi:10.1080/01431169608948763; Bioucas-Dias & Nascimento, doi:10.1109/TGRS.2008.918089).

    ``spectra``: (B, n) finite values.

    Returns
    -------
    residual
        (B, n) in the unit of the values; 0 in bands that hold one value.
    """
    centred = np.asarray(spectra, np.float64) - spectra.mean(axis=1, keepdims=True, dtype=np.float64)
    spread = centred.std(axis=1, keepdims=True)
    varied = spread[:, 0] > 1e-9 * max(float(spread.max(initial=0.0)), 1e-30)
    out = np.zeros(centred.shape)
    scaled = centred[varied] / spread[varied]
    covariance = scaled @ scaled.T / max(1, scaled.shape[1])
    covariance[np.diag_indices_from(covariance)] += RIDGE
    precision = np.linalg.inv(covariance)
    out[varied] = (precision @ scaled) / np.diag(precision)[:, None] * spread[varied]
    return np.asarray(out)


def noise_pattern(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the residual of an image in units of its scatter per band, large values clipped, 0 where invalid.

    ``values``: (B, y, x), NaN = invalid.
    """
    valid = np.isfinite(values).all(axis=0)
    out = np.zeros(values.shape)
    if valid.sum() > len(values):
        residual = spectral_residual(values[:, valid])
        sigma = 1.4826 * np.median(np.abs(residual), axis=1, keepdims=True)
        out[:, valid] = np.clip(residual / np.where(sigma > 0, sigma, 1.0), -CLIP_SIGMA, CLIP_SIGMA)
    return out
