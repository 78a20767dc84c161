"""Noise of images, estimated from the images alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]

QUIET_SHARE = 0.02
"""Quantile of the blocks, by power, that counts as noise alone."""


def quiet_noise(image: FloatArray, share: float = QUIET_SHARE) -> DoubleArray:
    """Estimate the noise of each band of an image (band, y, x) from its quietest 8 × 8 blocks.

    The Laplacian-like mask is blind to constant, linear and quadratic shape; what it leaves in quiet blocks is noise.

    References
    ----------
    J. Immerkær, Fast noise variance estimation, Comput. Vis. Image Underst. 64(2), 1996, doi:10.1006/cviu.1996.0060.
    """
    left = image[:, :, :-2] - 2 * image[:, :, 1:-1] + image[:, :, 2:]
    rough = (left[:, :-2] - 2 * left[:, 1:-1] + left[:, 2:]) / 6.0
    rows, cols = (size // 8 * 8 for size in rough.shape[1:])
    if not rows or not cols:
        return np.zeros(len(image))
    blocks = rough[:, :rows, :cols].reshape(len(image), rows // 8, 8, cols // 8, 8)
    power = np.square(blocks.astype(np.float64)).mean(axis=(2, 4)).reshape(len(image), -1)
    power = power[:, np.isfinite(power).all(axis=0)]
    return np.sqrt(np.quantile(power, share, axis=1)) if power.size else np.zeros(len(image))


def noise_sigma(spectra: FloatArray) -> DoubleArray:
    """Estimate each band's noise (C,) from what its spectral neighbours do not explain.

    References
    ----------
    R. E. Roger, J. F. Arnold, Reliably estimating the noise in AVIRIS hyperspectral images, Int. J. Remote Sens.
    17(10), 1996, doi:10.1080/01431169608948750.
    """
    values = spectra.astype(np.float64) - spectra.mean(axis=0, dtype=np.float64)
    pixels, count = values.shape
    # einsum, not a matrix product: its sums do not depend on the number of BLAS threads.
    near = [np.einsum("nb,nb->b", values[:, : count - lag], values[:, lag:]) / pixels for lag in range(5)]

    def covariance(one: int, other: int) -> float:
        low, lag = min(one, other), abs(one - other)
        return float(near[lag][low])

    sigma = np.zeros(count)
    for band in range(count):
        neighbours = [b for b in range(band - 2, band + 3) if 0 <= b < count and b != band]
        if len(neighbours) < 2 or pixels <= 2 * len(neighbours):
            continue
        between = np.array([[covariance(i, j) for j in neighbours] for i in neighbours])
        towards = np.array([covariance(i, band) for i in neighbours])
        weights = np.linalg.pinv(between, rcond=1e-10, hermitian=True) @ towards
        left = covariance(band, band) - weights @ towards
        sigma[band] = np.sqrt(max(left, 0.0) / (1.0 + weights @ weights))
    return sigma
