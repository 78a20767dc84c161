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
