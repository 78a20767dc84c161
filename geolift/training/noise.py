"""Noise of images, estimated from the images alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.special import gammaincinv  # scipy.stats takes a second at every start

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]

QUIET_SHARE = 0.02
"""Quantile of the blocks, by power, that counts as noise alone."""


UNSHARED_SHARE = 0.1
UNSHARED_FREEDOM = 1.6
"""Independent values of an 8 × 8 block that each regressor costs: the mask makes neighbours alike."""

SHARES = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Quantiles of the blocks tried. Less than two in a hundred may be clipped or filled and without noise."""

FEWEST_BLOCKS = 8
"""Blocks below a quantile that is believed."""

STRIDE_PX, FACET_PX = 4, 7

ROUGH_FREEDOM, ROUGH_LOST = (64.5, 18.4), (2.9, 0.29)
"""Expected sum and degrees of freedom of the power of an 8 × 8 block of the rough part of white noise of variance one,
and what each band regressed on costs: 2500 blocks each of white noise in 1 to 10 bands."""

MOST_BANDS = 12
"""More bands are divided, so that a regression never explains the noise itself."""

INTERPOLATED = -0.1
"""Correlation of neighbours in the rough part of quiet blocks: −0.67 in white noise, −0.62 to −0.29 in 105 images, 0.09
to 0.30 in their bands interpolated from twice the pixel size."""


def quiet_noise(image: FloatArray) -> DoubleArray:
    """Estimate the noise of each band of an image (band, y, x) from its quietest 8 × 8 blocks.

    The Laplacian-like mask is blind to constant, linear and quadratic shape; what it leaves in quiet blocks is noise.

    References
    ----------
    J. Immerkær, Fast noise variance estimation, Comput. Vis. Image Underst. 64(2), 1996, doi:10.1006/cviu.1996.0060.
    """
    blocks = _rough_blocks(image)
    if not len(blocks):
        return np.zeros(len(image))
    return np.asarray(np.sqrt(np.quantile(np.square(blocks).mean(axis=2), QUIET_SHARE, axis=0)))


def unshared_noise(image: FloatArray) -> DoubleArray:
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
    unexplained = _unexplained(np.einsum("nci,ndi->ncd", blocks, blocks) / values)
    freedom = 1.0 - UNSHARED_FREEDOM * (bands - 1) / values
    return np.asarray(np.sqrt(np.quantile(unexplained / freedom, UNSHARED_SHARE, axis=0)))


def least_noise(images: Sequence[FloatArray]) -> DoubleArray:
    """Return the noise (band,), a standard deviation, of images (band, y, x) of one sensor, of one band or many.

    Texture only adds to the noise. Among several upper bounds the least is returned: what the other bands do not
    explain of 8 × 8 blocks of the rough part and of what a quadratic leaves of 7 × 7 pixels, at several quantiles over
    the blocks, each divided by the quantile that noise alone would have. The noise of a band
    interpolated from twice the pixel size is alike in neighbours: there, every second pixel tells.
    """
    groups = max(1, -(-len(images[0]) // MOST_BANDS))
    found = np.zeros(len(images[0]))
    for first in range(groups):
        found[first::groups] = _least_noise([image[first::groups] for image in images])
    return found


def _least_noise(images: Sequence[FloatArray]) -> DoubleArray:
    bands = len(images[0])
    values, freedom = (known - lost * (bands - 1) for known, lost in zip(ROUGH_FREEDOM, ROUGH_LOST, strict=True))
    starts = (0, STRIDE_PX)
    shifted = [image[:, y:, x:] for image in images for y in starts for x in starts]
    blocks = np.concatenate([_rough_blocks(part) for part in shifted])
    rough = _bound(blocks, values, freedom)
    spread = [image[:, y::2, x::2] for image in images for y in (0, 1) for x in (0, 1)]
    apart = _bound(np.concatenate([_rough_blocks(part) for part in spread]), values, freedom)
    left = np.concatenate([_left_by_quadratic(image) for image in images])
    within = left.shape[2] - bands + 1
    bound = np.fmin(rough, _bound(left, within, within))
    known = np.where(_quiet_correlation(blocks) > INTERPOLATED, apart, bound)
    return np.asarray(np.where(np.isfinite(known), known, 0.0))


def interpolated_bands(images: Sequence[FloatArray]) -> NDArray[np.bool_]:
    """Tell which bands (band,) of images (band, y, x) are smoother than their pixels, as bands interpolated are.

    They are in each quarter of an image: a cloud is smooth, too.
    """
    parts = []
    for image in images:
        down, across = (size // 2 for size in image.shape[1:])
        parts += [image[:, y, x] for y in _halves(down) for x in _halves(across)]
    told = [_quiet_correlation(blocks) for part in parts if len(blocks := _rough_blocks(part))]
    if not told:
        return np.zeros(len(images[0]), bool)
    return np.asarray(np.min(told, axis=0) > INTERPOLATED)


def _halves(middle: int) -> tuple[slice, slice]:
    return slice(0, middle), slice(middle, None)


def _bound(blocks: DoubleArray, values: float, freedom: float) -> DoubleArray:
    """Return the noise (band,) of blocks (n, band, values) as if all texture were noise; NaN without blocks.

    ``values`` is what the unexplained power of white noise of variance one sums up to in a block, ``freedom`` that of
    the χ² it is distributed as.
    """
    blocks = blocks[(np.square(blocks).sum(axis=2) > 0).all(axis=1)]
    if not len(blocks):
        return np.full(blocks.shape[1], np.nan)
    power = _unexplained(np.einsum("nci,ndi->ncd", blocks, blocks)) * (freedom / values)
    shares = [share for share in SHARES if share * len(blocks) >= FEWEST_BLOCKS] or SHARES[-1:]
    chi_square = 2 * gammaincinv(freedom / 2, shares)
    variance = np.quantile(power, shares, axis=0) / chi_square[:, None]
    return np.asarray(np.sqrt(variance.min(axis=0)))


def _quiet_correlation(blocks: DoubleArray) -> DoubleArray:
    """(band,) correlation of pixels beside each other in the quietest of rough blocks (n, band, 64)."""
    count = max(1, int(SHARES[0] * len(blocks)))
    found = []
    for band in blocks.transpose(1, 0, 2):
        power = np.square(band).sum(axis=1)
        quiet = band[np.argsort(power + np.where(power > 0, 0, np.inf), kind="stable")[:count]].reshape(-1, 8, 8)
        beside = 0.5 * ((quiet[:, :, 1:] * quiet[:, :, :-1]).sum() + (quiet[:, 1:] * quiet[:, :-1]).sum())
        found.append(beside / max(float(np.square(quiet).sum()) * 7 / 8, 1e-30))
    return np.asarray(found)


def _unexplained(gram: DoubleArray) -> DoubleArray:
    """(n, band) what a regression on the other bands leaves of each band's power, from the products (n, band, band)."""
    bands = gram.shape[1]
    level = np.trace(gram, axis1=1, axis2=2)[:, None, None] / bands
    return np.asarray(1.0 / np.diagonal(np.linalg.inv(gram + (1e-9 * level + 1e-30) * np.eye(bands)), axis1=1, axis2=2))


def _left_by_quadratic(image: FloatArray) -> DoubleArray:
    """(n, band, 43) of windows of 7 × 7 valid pixels, in an orthonormal basis of what no quadratic surface reaches."""
    if min(image.shape[1:]) < FACET_PX:
        return np.zeros((0, len(image), FACET_PX**2 - 6))
    y, x = np.mgrid[:FACET_PX, :FACET_PX].reshape(2, -1) / (FACET_PX - 1) - 0.5
    surfaces = np.stack([np.ones_like(y), y, x, y * y, x * y, x * x], axis=1)
    beyond = np.linalg.svd(surfaces)[0][:, surfaces.shape[1] :]
    windows = sliding_window_view(image, (FACET_PX, FACET_PX), axis=(1, 2))[:, ::STRIDE_PX, ::STRIDE_PX]
    blocks = windows.transpose(1, 2, 0, 3, 4).reshape(-1, len(image), FACET_PX**2).astype(np.float64)
    return np.asarray(blocks[np.isfinite(blocks).all(axis=(1, 2))] @ beyond)


def _rough_blocks(image: FloatArray) -> DoubleArray:
    """(n, band, 64) blocks of 8 × 8 valid pixels of what remains beside constant, linear and quadratic shape."""
    left = image[:, :, :-2] - 2 * image[:, :, 1:-1] + image[:, :, 2:]
    rough = (left[:, :-2] - 2 * left[:, 1:-1] + left[:, 2:]) / 6.0
    rows, cols = (size // 8 * 8 for size in rough.shape[1:])
    cut = rough[:, :rows, :cols].reshape(len(image), rows // 8, 8, cols // 8, 8)
    blocks = cut.transpose(1, 3, 0, 2, 4).reshape(-1, len(image), 64).astype(np.float64)
    return np.asarray(blocks[np.isfinite(blocks).all(axis=(1, 2))])
