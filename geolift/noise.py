"""Noise of images, estimated from the images alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]

QUIET_SHARE = 0.02
"""Quantile of the blocks, by power, that counts as noise alone."""


UNSHARED_SHARE = 0.1
UNSHARED_FREEDOM = 1.6
"""Independent values of an 8 × 8 block that each regressor costs: the mask makes neighbours alike."""


def quiet_noise(image: FloatArray, share: float = QUIET_SHARE) -> DoubleArray:
    """Estimate the noise of each band of an image (band, y, x) from its quietest 8 × 8 blocks.

    The Laplacian-like mask is blind to constant, linear and quadratic shape; what it leaves in quiet blocks is noise.

    References
    ----------
    J. Immerkær, Fast noise variance estimation, Comput. Vis. Image Underst. 64(2), 1996, doi:10.1006/cviu.1996.0060.
    """
    blocks = _rough_blocks(image)
    if not len(blocks):
        return np.zeros(len(image))
    return np.asarray(np.sqrt(np.quantile(np.square(blocks).mean(axis=2), share, axis=0)))


def unshared_noise(image: FloatArray, share: float = UNSHARED_SHARE) -> DoubleArray:
    """Estimate the noise of each band of an image (band, y, x): what the other bands do not explain of quiet blocks.

    Texture that hides noise from `quiet_noise` is mostly common to the bands; noise is not.

    References
    ----------
    R. E. Roger, J. F. Arnold, Reliably estimating the noise in AVIRIS hyperspectral images, Int. J. Remote Sens.
    17(10), 1996, doi:10.1080/01431169608948750; here with the other bands only, on the rough part of the image.
    """
    blocks = _rough_blocks(image)
    if not len(blocks):
        return np.zeros(len(image))
    bands, values = blocks.shape[1:]
    gram = np.einsum("nci,ndi->ncd", blocks, blocks) / values
    level = np.trace(gram, axis1=1, axis2=2)[:, None, None] / bands
    unexplained = 1.0 / np.diagonal(np.linalg.inv(gram + (1e-9 * level + 1e-30) * np.eye(bands)), axis1=1, axis2=2)
    freedom = 1.0 - UNSHARED_FREEDOM * (bands - 1) / values
    return np.asarray(np.sqrt(np.quantile(unexplained / freedom, share, axis=0)))


def _rough_blocks(image: FloatArray) -> DoubleArray:
    """(n, band, 64) blocks of 8 × 8 valid pixels of what remains beside constant, linear and quadratic shape."""
    left = image[:, :, :-2] - 2 * image[:, :, 1:-1] + image[:, :, 2:]
    rough = (left[:, :-2] - 2 * left[:, 1:-1] + left[:, 2:]) / 6.0
    rows, cols = (size // 8 * 8 for size in rough.shape[1:])
    cut = rough[:, :rows, :cols].reshape(len(image), rows // 8, 8, cols // 8, 8)
    blocks = cut.transpose(1, 3, 0, 2, 4).reshape(-1, len(image), 64).astype(np.float64)
    return np.asarray(blocks[np.isfinite(blocks).all(axis=(1, 2))])
