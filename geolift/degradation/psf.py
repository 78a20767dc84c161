"""Point spread functions: HyperBench's ten, and a Gaussian of a width."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

from geolift.errors import UsageError

Array64 = NDArray[np.float64]

_FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))


def _gaussian(x: Array64, y: Array64, sigma: float) -> Array64:
    return np.exp(-(x**2 + y**2) / (2 * sigma**2))


def _kolmogorov(x: Array64, y: Array64, sigma: float) -> Array64:
    return np.exp(-((np.hypot(x, y) / sigma) ** (5 / 3)))


def _airy(x: Array64, y: Array64, sigma: float) -> Array64:
    # HyperBench takes the modified Bessel function K1 where an Airy disk has J1, and 1 at the centre:
    # a ring, not a disk. Kept as it is, because its figures are made with it.
    z = 2.33811 * np.hypot(x, y) / sigma
    off_centre = z > 0
    safe = np.where(off_centre, z, 1.0)
    return np.where(off_centre, (2 * special.kv(1, safe) / safe) ** 2, 1.0)


def _moffat(x: Array64, y: Array64, sigma: float) -> Array64:
    return (1 + (x**2 + y**2) / sigma**2) ** -3.5


def _sinc(x: Array64, y: Array64, sigma: float) -> Array64:
    return np.sinc(np.hypot(x, y) / sigma)


def _lorentzian2(x: Array64, y: Array64, sigma: float) -> Array64:
    return 1 / (1 + (x**2 + y**2) ** 2 / sigma**4)


def _hermite(x: Array64, y: Array64, sigma: float) -> Array64:
    return _gaussian(x, y, sigma) * 2 * np.hypot(x, y) / sigma  # the first Hermite polynomial is 2t


def _parabolic(x: Array64, y: Array64, sigma: float) -> Array64:
    return np.maximum(0.0, 1 - (x**2 + y**2) / sigma**2)


def _gabor(x: Array64, y: Array64, sigma: float) -> Array64:
    # Its carrier of one pixel is 1 at every pixel centre, so what remains is a Gaussian twice as long in y.
    return np.exp(-0.5 * (x**2 + 0.25 * y**2) / sigma**2) * np.cos(2 * np.pi * x)


def _delta(x: Array64, y: Array64, sigma: float) -> Array64:
    return np.where((x == 0) & (y == 0), 1.0, 0.0)


_PSFS: dict[str, Callable[[Array64, Array64, float], Array64]] = {
    "gaussian": _gaussian,
    "kolmogorov": _kolmogorov,
    "airy": _airy,
    "moffat": _moffat,
    "sinc": _sinc,
    "lorentzian2": _lorentzian2,
    "hermite": _hermite,
    "parabolic": _parabolic,
    "gabor": _gabor,
    "delta": _delta,
}
PSF_NAMES: tuple[str, ...] = tuple(_PSFS)
"""HyperBench's ten point spread functions."""


def psf_kernel(name: str, sigma: float = 3.4, radius: int = 7) -> Array64:
    """Return one of HyperBench's ten point spread functions on the pixel grid.

    Parameters
    ----------
    name
        One of `PSF_NAMES`.
    sigma
        Width in high-resolution pixels; each function reads it in its own way (`delta` ignores it).
    radius
        The kernel reaches this many high-resolution pixels from its centre.

    Returns
    -------
    kernel
        Shape (2 radius + 1, 2 radius + 1), sum 1. `sinc` has negative values; `hermite` is zero at its
        centre and `airy` a ring, as in HyperBench.

    Raises
    ------
    UsageError
        Unknown name, a sigma that is not positive, a negative radius, or a kernel whose sum vanishes.

    Examples
    --------
    >>> kernel = psf_kernel("moffat")
    >>> kernel.shape, bool(np.isclose(kernel.sum(), 1))
    ((15, 15), True)
    """
    if name not in _PSFS:
        raise UsageError(f"PSF {name!r} is not known. Choose one of {', '.join(PSF_NAMES)}.")
    if not (np.isfinite(sigma) and sigma > 0):
        raise UsageError(f"PSF sigma is {sigma}; it must be a positive number of high-resolution pixels.")
    if radius < 0:
        raise UsageError(f"PSF radius is {radius}; it must be zero or more high-resolution pixels.")
    axis = np.arange(-radius, radius + 1, dtype=np.float64)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    values = _PSFS[name](x, y, float(sigma))
    total = float(values.sum())
    if not np.isfinite(total) or abs(total) < 1e-12:
        raise UsageError(f"PSF {name} with sigma {sigma} and radius {radius} sums to {total}; use another sigma.")
    return values / total


def gaussian_kernel_for_fwhm(fwhm_px: float) -> Array64:
    """Return a Gaussian kernel of a full width at half maximum, cut at four sigma.

    ``fwhm_px``: in high-resolution pixels. The ratio, as in `geolift simulate`, means a PSF as wide as the LR pixel.

    Returns
    -------
    kernel
        Shape (2 radius + 1, 2 radius + 1) with radius = ceil(4 sigma), sum 1.
    """
    if not (np.isfinite(fwhm_px) and fwhm_px > 0):
        raise UsageError(f"The PSF's FWHM is {fwhm_px}; it must be a positive number of pixels.")
    sigma = fwhm_px / _FWHM_PER_SIGMA
    return psf_kernel("gaussian", sigma=sigma, radius=int(np.ceil(4 * sigma)))
