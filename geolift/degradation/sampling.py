"""The MSI seen through the HSI's pixels: blur, average and sample at a sub-pixel shift in one step.

The model of one LR pixel along one axis is ``box(ratio) * gaussian(variance)``, centred on the HSI
pixel plus a shift. All three act as one short kernel per axis, so the fine image is never resampled:
it is read through the kernel at the shifted place, and the derivatives of the result with respect to
shift and blur come from the derivatives of the kernel.

Conventions: the fine image is nested in the LR grid (``ratio`` pixels per LR pixel) and reaches
``margin`` LR pixels beyond it on every side. A shift (dy, dx) in fine pixels is the motion that brings
the HSI onto the MSI: LR pixel (0, 0) sees the fine pixels around ``margin * ratio + dy``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ive

FloatArray = NDArray[np.float32]

LOBES = 4
"""Half width of the interpolator that realises the fractional part of a shift, in fine pixels."""

_LAGRANGE: NDArray[np.float64] = np.asarray(
    np.linalg.inv(np.vander(np.arange(-LOBES, LOBES + 1, dtype=np.float64), increasing=True)), np.float64
)
"""(power, tap): coefficients of the Lagrange polynomials on the taps -LOBES ... LOBES."""

LOST_WEIGHT = 0.02
"""An LR pixel counts while no more than this part of its kernel falls on invalid fine pixels."""

_ONE_THREAD = 250_000
"""Multiplications in one matrix product up to which OpenBLAS stays on one thread (its limit is 262 144)."""

_BLOCK = 8
"""LR pixels per matrix product: long enough for BLAS, short enough not to multiply zeros."""


@dataclass(frozen=True)
class AxisKernel:
    """What one axis of an LR pixel sees of the fine image.

    Parameters
    ----------
    start_px
        Fine pixel of the first tap, counted from the first fine pixel of the same LR pixel.
    taps
        (3, n) float64: the weights, which sum to one; their derivative with respect to the shift per
        fine pixel; their derivative with respect to the variance of the blur per fine pixel squared.
    """

    start_px: int
    taps: NDArray[np.float64]


@lru_cache(maxsize=256)
def axis_kernel(ratio: int, shift_px: float, variance_px2: float) -> AxisKernel:
    """Return the kernel of an LR pixel moved by ``shift_px`` and blurred by ``variance_px2``.

    The Gaussian is the discrete one (exp(-t) I_k(t)), whose variance is exact however small it is; a
    whole shift without blur gives the plain block mean.

    References
    ----------
    T. Lindeberg, Scale-space for discrete signals, IEEE TPAMI 12(3), 1990, doi:10.1109/34.49051, eq. 18.

    Examples
    --------
    >>> axis_kernel(3, 0.0, 0.0).taps[0].round(3)[axis_kernel(3, 0.0, 0.0).taps[0] != 0]
    array([0.333, 0.333, 0.333])
    """
    whole = round(shift_px)
    fraction, d_fraction = _fractional_delay(shift_px - whole)
    gauss, d_gauss = _discrete_gaussian(variance_px2)
    box = np.full(ratio, 1.0 / ratio)
    blurred = np.convolve(box, gauss)
    taps = np.stack(
        [
            np.convolve(blurred, fraction),
            np.convolve(blurred, d_fraction),
            np.convolve(np.convolve(box, d_gauss), fraction),
        ]
    )
    return AxisKernel(whole - LOBES - gauss.size // 2, taps)


def _fractional_delay(delta: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights that read an image at ``delta`` (|delta| <= 0.5), and their derivative.

    Lagrange's: exact for polynomials, so the delay itself is unbiased. A windowed sinc is off by 0.01
    pixel at a quarter of a pixel, five times the error of the fit.
    """
    power = np.arange(2 * LOBES + 1)
    weight = delta**power @ _LAGRANGE
    slope = np.concatenate([[0.0], power[1:] * delta ** power[:-1]]) @ _LAGRANGE
    return weight, slope


def _discrete_gaussian(variance: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Discrete Gaussian of the given variance and its derivative with respect to the variance."""
    radius = int(np.ceil(3.5 * np.sqrt(variance))) + 1
    order = np.arange(-radius - 1, radius + 2)
    full = ive(np.abs(order), variance)
    gauss = full[1:-1].copy()
    gauss[0], gauss[-1] = full[:2].sum(), full[-2:].sum()  # the tails stay, so the sum stays one
    total = gauss.sum()
    slope = 0.5 * (full[:-2] + full[2:]) - full[1:-1]
    return gauss / total, slope - slope.mean()


def sample_rows(image: FloatArray, first_px: int, ratio: int, count: int, taps: NDArray[np.float64]) -> FloatArray:
    """Read ``count`` LR rows of a fine image (..., y, x) through ``taps`` (k, n); returns (k, ..., count, x).

    Row i uses the fine rows from ``first_px + i * ratio`` on, all of which must lie in the image.
    """
    kernels, width = taps.shape
    size = min(_BLOCK, count)
    matrix = np.zeros((kernels, size, (size - 1) * ratio + width), np.float32)
    for row in range(size):
        matrix[:, row, row * ratio : row * ratio + width] = taps
    flat = matrix.reshape(kernels * size, -1)
    out = np.empty((*image.shape[:-2], kernels, count, image.shape[-1]), np.float32)
    for begin in [*range(0, count - size, size), count - size]:
        top = first_px + begin * ratio
        seen, read = image[..., top : top + flat.shape[1], :], out[..., begin : begin + size, :]
        if kernels == 1:
            _multiply(flat, seen, read[..., 0, :, :])
        else:
            part = np.empty((*image.shape[:-2], len(flat), image.shape[-1]), np.float32)
            _multiply(flat, seen, part)
            read[...] = part.reshape(read.shape)
    return np.moveaxis(out, -3, 0)


def _multiply(matrix: FloatArray, stack: FloatArray, out: FloatArray) -> None:
    """Multiply a matrix with each image of a stack, in pieces that BLAS does not share among threads.

    So the sum does not depend on the number of threads, and a busy machine does not slow it tenfold.
    """
    piece = max(8, _ONE_THREAD // matrix.size // 8 * 8)
    for left in range(0, stack.shape[-1], piece):
        np.matmul(matrix, stack[..., left : left + piece], out=out[..., left : left + piece])


def area_mean(image: FloatArray, ratio: int, kept: int) -> FloatArray:
    """Average a fine image (..., h ratio, w ratio) to ``kept`` pixels along each LR pixel: (..., h kept, w kept).

    Fine pixels that lie in two count by their parts. A mean is that of the valid pixels, NaN with less than half.
    The mean of an LR pixel stays what it was.

    Examples
    --------
    >>> area_mean(np.arange(3, dtype=np.float32)[None, None].repeat(3, 1), 3, 2)[0, 0]
    array([0.3333333, 1.6666666], dtype=float32)
    """
    if kept == ratio:
        return image
    ends = np.arange(kept + 1)[:, None] * ratio / kept
    covered = np.clip(ends - np.arange(ratio), 0, 1)
    weights = (np.diff(covered, axis=0) * kept / ratio).astype(np.float32)
    invalid = np.isnan(image)
    if not invalid.any():
        return _averaged(image, weights)
    share = _averaged((~invalid).astype(np.float32), weights)
    total = _averaged(np.where(invalid, np.float32(0), image), weights)
    return np.asarray(np.where(share < 0.5, np.nan, total / np.maximum(share, 1e-6)), np.float32)


def _averaged(image: FloatArray, weights: FloatArray) -> FloatArray:
    """Apply weights (kept, ratio) along y, then along x."""
    kept, ratio = weights.shape
    for _ in range(2):
        *stack, height, width = image.shape
        out = np.empty((*stack, height // ratio, kept, width), np.float32)
        _multiply(weights, image.reshape(*stack, height // ratio, ratio, width), out)
        image = np.ascontiguousarray(out.reshape(*stack, -1, width).swapaxes(-1, -2))
    return image


def sample_columns(image: FloatArray, first_px: int, ratio: int, count: int, taps: NDArray[np.float64]) -> FloatArray:
    """Read ``count`` LR columns of a fine image; as :func:`sample_rows`, returns (k, ..., y, count)."""
    turned = sample_rows(image.swapaxes(-1, -2), first_px, ratio, count, taps)
    return turned.swapaxes(-1, -2)


def pad_for_sampling(
    msi_fine: FloatArray, ratio: int, margin: int, reach_px: int, value: float = np.nan
) -> tuple[FloatArray, int]:
    """Add pixels, invalid ones, around the fine image until kernels may reach ``reach_px`` beyond the LR grid.

    Returns the image and the fine pixel at which LR pixel (0, 0) begins.
    """
    extra = max(0, reach_px - margin * ratio)
    if extra == 0:
        return msi_fine, margin * ratio
    width = [(0, 0)] * (msi_fine.ndim - 2) + [(extra, extra), (extra, extra)]
    return np.pad(msi_fine, width, constant_values=value), margin * ratio + extra


def degrade_msi(
    msi_fine: FloatArray,
    ratio: int,
    margin: int,
    shift_px: tuple[float, float] = (0.0, 0.0),
    blur_sigma_px: tuple[float, float] = (0.0, 0.0),
) -> FloatArray:
    """Bring the fine MSI to the HSI's pixels: Gaussian blur, block mean, read at a sub-pixel shift.

    Parameters
    ----------
    msi_fine
        (c, (h + 2 margin) ratio, (w + 2 margin) ratio) float32, NaN = invalid.
    ratio
        Fine pixels per LR pixel.
    margin
        LR pixels by which the fine image reaches beyond the LR grid on every side.
    shift_px
        (dy, dx) in fine pixels: the motion that brings the HSI onto the MSI.
    blur_sigma_px
        Standard deviations (y, x) of the Gaussian that acts beside the block mean, in fine pixels.

    Returns
    -------
    FloatArray
        (c, h, w) float32; NaN where more than 2 % of the kernel's weight falls on invalid fine pixels.

    Examples
    --------
    >>> ramp = np.arange(12, dtype=np.float32)[None, :, None] * np.ones((1, 1, 12), np.float32)
    >>> degrade_msi(ramp, 3, 1, shift_px=(1.0, 0.0))[0, :, 0]
    array([5., 8.], dtype=float32)
    """
    kernels = [axis_kernel(ratio, s, b * b) for s, b in zip(shift_px, blur_sigma_px, strict=True)]
    reach = max(max(-k.start_px, k.start_px + k.taps.shape[1] - ratio) for k in kernels)
    padded, origin = pad_for_sampling(msi_fine, ratio, margin, reach)
    height = msi_fine.shape[-2] // ratio - 2 * margin
    width = msi_fine.shape[-1] // ratio - 2 * margin
    invalid = np.isnan(padded)
    first_y, first_x = (origin + k.start_px for k in kernels)
    taps_y, taps_x = (k.taps[:1] for k in kernels)

    def read(image: FloatArray, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> FloatArray:
        part = sample_rows(image, first_y, ratio, height, rows)[0]
        return np.asarray(sample_columns(part, first_x, ratio, width, columns)[0], np.float32)

    if not invalid.any():
        return read(padded, taps_y, taps_x)
    count = np.maximum((~invalid).sum(axis=(-2, -1), keepdims=True), 1)
    level = (np.nansum(padded, axis=(-2, -1), keepdims=True, dtype=np.float64) / count).astype(np.float32)
    lost = read(invalid.astype(np.float32), np.abs(taps_y), np.abs(taps_x))
    seen = read(np.where(invalid, 0.0, padded - level).astype(np.float32), taps_y, taps_x)
    return np.asarray(np.where(lost > LOST_WEIGHT, np.nan, seen + level), np.float32)
