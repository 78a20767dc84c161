"""Degradations of Wald's protocol: blur, block means, noise and spectral response, as HyperBench makes them.

Everything here follows the arithmetic of HyperBench 0.1.0 (Shah and Duarte), so that figures can be laid
side by side; where masks or raster borders ask for more than HyperBench does, the docstring says what.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geolift.errors import UsageError

FloatArray = NDArray[np.floating[Any]]
Array64 = NDArray[np.float64]
Boundary = Literal["zero", "renormalize"]

_CHUNK_VALUES = 1 << 22  # values of a cube that one spectral product touches at a time: 32 MB of float64
_MIN_CONDITION = 0.05  # below this share of |weights|, a signed kernel's renormalisation is cancellation


def _convolve(image: Array64, kernel: Array64) -> Array64:
    """Convolve with zeros outside the image; two 1-D passes where the kernel is separable, else by FFT."""
    left, strength, right = np.linalg.svd(kernel)
    if strength.size == 1 or strength[1] <= 1e-14 * strength[0]:
        rows = ndimage.convolve1d(image, left[:, 0] * strength[0], axis=0, mode="constant")
        result = ndimage.convolve1d(rows, right[0], axis=1, mode="constant")
    else:
        from scipy import signal  # brings scipy.stats along: a second at every start

        result = signal.oaconvolve(image, kernel, mode="same")
    return np.asarray(result, dtype=np.float64)


def blur(band: FloatArray, kernel: Array64, boundary: Boundary = "zero") -> FloatArray:
    """Convolve one band with a PSF, without letting invalid pixels leak into valid ones.

    Parameters
    ----------
    band
        Shape (rows, cols), NaN = invalid.
    kernel
        Odd sizes, sum 1. A convolution: the kernel is mirrored, as in HyperBench.
    boundary
        What lies outside the image. `zero`: zeros, as in HyperBench, which darkens a margin as wide as the
        kernel's radius. `renormalize`: nothing, the weights inside the image are scaled to sum 1.

    Returns
    -------
    blurred
        Shape and dtype of `band`. Invalid pixels stay NaN. At a valid pixel the weights of its invalid
        neighbours are shared among the valid ones. With a signed kernel (`sinc`) whose valid weights nearly
        cancel (sum below 5 % of their absolute sum), or no valid weight at all, the pixel becomes NaN.
    """
    if kernel.ndim != 2 or kernel.shape[0] % 2 == 0 or kernel.shape[1] % 2 == 0:
        raise UsageError(f"The PSF kernel has shape {kernel.shape}; both sizes must be odd, so that it has a centre.")
    valid = np.isfinite(band)
    total = _convolve(np.where(valid, band, 0.0).astype(np.float64), kernel)
    if boundary == "renormalize" or not valid.all():
        weight, magnitude = _valid_weight(valid, kernel, boundary)
        usable = valid & (weight > _MIN_CONDITION * magnitude)
        total = np.divide(total, weight, out=np.full_like(total, np.nan), where=usable)
    return total.astype(band.dtype)


def _valid_weight(valid: NDArray[np.bool_], kernel: Array64, boundary: Boundary) -> tuple[Array64, Array64]:
    """Return the sum of the kernel's weights, and of their magnitudes, on what counts as valid."""
    outside_counts = boundary == "zero"
    counted = (~valid if outside_counts else valid).astype(np.float64)
    weight = _convolve(counted, kernel)
    if outside_counts:
        weight = kernel.sum() - weight
    if kernel.min() >= 0:
        # Rounding of an FFT must not pass for weight where there is none.
        return weight, np.where(weight > 1e-12, weight, np.inf)
    magnitude = _convolve(counted, np.abs(kernel))
    if outside_counts:
        magnitude = np.abs(kernel).sum() - magnitude
    return weight, np.maximum(magnitude, 1e-12)


def block_mean(image: FloatArray, ratio: int) -> FloatArray:
    """Average each ratio × ratio block; rows and columns beyond whole blocks are cropped at bottom and right.

    ``image``: shape (..., rows, cols), NaN = invalid. ``ratio``: block size in pixels.

    Returns
    -------
    means
        Shape (..., rows // ratio, cols // ratio), dtype of `image`; NaN where any of a block is.

    Raises
    ------
    UsageError
        A ratio below 1, or larger than the image.

    Examples
    --------
    >>> block_mean(np.arange(16.0).reshape(4, 4), 2)
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
    """
    rows, cols = image.shape[-2:]
    if ratio < 1 or rows < ratio or cols < ratio:
        raise UsageError(f"Ratio {ratio} does not fit an image of {rows} × {cols} pixels; use 1 to {min(rows, cols)}.")
    lr_rows, lr_cols = rows // ratio, cols // ratio
    whole = image[..., : lr_rows * ratio, : lr_cols * ratio]
    blocks = whole.reshape(*image.shape[:-2], lr_rows, ratio, lr_cols, ratio)
    with np.errstate(invalid="ignore"):
        means = np.asarray(blocks.mean(axis=(-3, -1), dtype=np.float64))
    means[~np.isfinite(means)] = np.nan
    return np.asarray(means, dtype=image.dtype)


def degrade(cube: FloatArray, kernel: Array64, ratio: int, boundary: Boundary = "zero") -> FloatArray:
    """Blur every band and average it over ratio × ratio blocks: HyperBench without its noise.

    Parameters
    ----------
    cube
        Shape (band, y, x), NaN = invalid.
    kernel, boundary
        See `blur`.
    ratio
        High-resolution pixels along one side of a low-resolution pixel.

    Returns
    -------
    degraded
        Shape (band, y // ratio, x // ratio), dtype of `cube`.
    """
    bands = [block_mean(blur(band, kernel, boundary), ratio) for band in cube]
    return np.stack(bands).astype(cube.dtype, copy=False)


def add_noise(values: FloatArray, snr_db: float, rng: np.random.Generator) -> FloatArray:
    """Add white Gaussian noise of a signal-to-noise ratio in power decibels, per band.

    The noise's variance is mean(values²) / 10^(snr_db / 10), as in HyperBench: the signal's power counts its
    mean. For a cube the draws come in (y, x, band) order, so a generator of the same seed gives HyperBench's
    noise. A band handled alone draws from its own generator; give each band its own seed.

    Parameters
    ----------
    values
        Shape (y, x) for one band or (band, y, x), NaN = invalid and left out of the power.
    snr_db
        Power ratio in dB; `inf` means no noise.
    rng
        Source of the noise. As many values are drawn whatever the mask.

    Returns
    -------
    noisy
        Shape and dtype of `values`; NaN stays NaN.
    """
    if np.isnan(snr_db) or snr_db == -np.inf:
        raise UsageError(f"The SNR is {snr_db} dB; it must be a number, or inf for none.")
    cube = values[np.newaxis] if values.ndim == 2 else values
    draws = np.moveaxis(rng.standard_normal((*cube.shape[1:], cube.shape[0])), -1, 0)
    noisy = np.empty_like(cube)
    for index, band in enumerate(cube):
        valid = np.isfinite(band)
        power = float(np.square(band, dtype=np.float64).mean(where=valid)) if valid.any() else 0.0
        noisy[index] = np.where(valid, band + draws[index] * np.sqrt(power / 10 ** (snr_db / 10)), np.nan)
    return noisy.reshape(values.shape)


def apply_srf(cube: FloatArray, weights: Array64) -> FloatArray:
    """Make multispectral bands as weighted sums of hyperspectral ones.

    Raises UsageError if the weights are for another number of bands.

    ``cube``: shape (hsi band, y, x), NaN = invalid. ``weights``: shape (msi band, hsi band).

    Returns
    -------
    msi
        Shape (msi band, y, x), dtype of `cube`; NaN where any band of non-zero weight is invalid.
    """
    weights = np.asarray(weights, dtype=np.float64)
    n_bands, rows, cols = cube.shape
    if weights.ndim != 2 or weights.shape[1] != n_bands:
        raise UsageError(f"SRF weights have shape {weights.shape}; the cube has {n_bands} bands to weight.")
    seen = np.flatnonzero(weights.any(axis=0))
    weights = weights[:, seen]
    msi = np.empty((len(weights), rows, cols), dtype=cube.dtype)
    step = max(1, _CHUNK_VALUES // max(1, len(seen) * cols))
    for start in range(0, rows, step):
        block = cube[seen, start : start + step].reshape(len(seen), -1).astype(np.float64)
        invalid = ~np.isfinite(block)
        if not invalid.any():
            mixed = weights @ block
        else:
            mixed = weights @ np.where(invalid, 0.0, block)
            mixed[(weights != 0).astype(np.float32) @ invalid.astype(np.float32) > 0] = np.nan
        msi[:, start : start + step] = mixed.reshape(len(weights), -1, cols)
    return msi


# HyperBench's instruments as (centre, lower edge, upper edge) in nm: IKONOS without and with its near
# infrared, WorldView-2, WorldView-3.
_IKONOS = ((480, 421, 539), (552, 480, 624), (666, 602, 729), (803, 713, 893))
_WORLDVIEW_2 = (
    (427, 396, 458), (478, 442, 515), (546, 506, 586), (608, 584, 632),
    (659, 624, 694), (724, 699, 749), (833, 765, 901), (949, 856, 1043),
)  # fmt: skip
_WORLDVIEW_3 = (
    (426, 397, 454), (481, 445, 517), (547, 507, 586), (605, 580, 629),
    (661, 626, 696), (724, 698, 749), (832, 765, 899), (948, 857, 1039),
    (1210, 1184, 1235), (1572, 1546, 1598), (1661, 1636, 1686), (1730, 1702, 1759),
    (2164, 2137, 2191), (2203, 2174, 2232), (2260, 2228, 2292), (2329, 2285, 2373),
)  # fmt: skip
_INSTRUMENTS = {3: _IKONOS[:3], 4: _IKONOS, 8: _WORLDVIEW_2, 16: _WORLDVIEW_3}
_WIDTHS_PER_SIGMA = 4.2


def generated_wavelengths_nm(n_msi_bands: int, n_hsi_bands: int) -> Array64:
    """Return the wavelengths that HyperBench gives to the bands of a scene, whatever they really are.

    They are spread evenly from the lowest to the highest edge of the 3-, 4-, 8- or 16-band instrument.
    """
    if n_msi_bands not in _INSTRUMENTS:
        raise UsageError(f"HyperBench has no {n_msi_bands}-band instrument; choose 3, 4, 8 or 16 bands.")
    if n_hsi_bands < 1:
        raise UsageError(f"The scene has {n_hsi_bands} bands; at least one is needed.")
    edges = np.asarray(_INSTRUMENTS[n_msi_bands], dtype=np.float64)
    return np.linspace(edges[:, 1].min(), edges[:, 2].max(), n_hsi_bands)


def gaussian_srf(n_msi_bands: int, n_hsi_bands: int) -> Array64:
    """Return HyperBench's Gaussian spectral response of 3, 4, 8 or 16 bands as weights of the scene's bands.

    Each row is a Gaussian around a band's centre, sigma = (upper edge − lower edge) / 4.2, on the
    wavelengths of `generated_wavelengths_nm`.

    Returns
    -------
    weights
        Shape (msi band, hsi band); rows sum to 1.

    Raises
    ------
    UsageError
        Another number of bands, or so few scene bands that a row has no weight.

    Examples
    --------
    >>> bool(np.allclose(gaussian_srf(4, 191).sum(axis=1), 1))
    True
    """
    wavelengths_nm = generated_wavelengths_nm(n_msi_bands, n_hsi_bands)
    centre, low, high = np.asarray(_INSTRUMENTS[n_msi_bands], dtype=np.float64).T[:, :, np.newaxis]
    response = np.exp(-0.5 * ((wavelengths_nm - centre) * _WIDTHS_PER_SIGMA / (high - low)) ** 2)
    total = response.sum(axis=1, keepdims=True)
    if total.min() <= 1e-12:
        raise UsageError(f"{n_hsi_bands} bands are too few for HyperBench's {n_msi_bands}-band SRF: a row is empty.")
    return np.asarray(response / total)


def normalize_scene(cube: FloatArray, low_percent: float = 1.0, high_percent: float = 99.0) -> NDArray[np.float32]:
    """Stretch a scene to [0, 1] between two percentiles of all its values, bit for bit as HyperBench does.

    HyperBench clips first and divides in float32, so saturated values may come out one rounding below 1.

    ``cube``: shape (band, y, x); NaN = invalid, left out of the percentiles and kept.
    """
    values = np.asarray(cube, dtype=np.float32)
    valid = values[np.isfinite(values)]
    if valid.size == 0:
        return np.full_like(values, np.nan)
    low, high = np.percentile(valid, [low_percent, high_percent])
    span = np.float32(max(float(high - low), 1e-12))
    clipped = np.clip(np.where(np.isfinite(values), values, np.nan), np.float32(low), np.float32(high))
    return np.asarray((clipped - np.float32(low)) / span, dtype=np.float32)
