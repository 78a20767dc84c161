"""Ordinary faults of real pairs, planted: each takes a scene and gives the pair that its sensors would have delivered.

A fault is a function of a `Pair` without fault and a strength; it returns what it changes. Strengths are low, middle
and high. Lengths are in MSI pixels, angles in degrees, everything else as the name says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from geolift.degradation.degrade import block_mean

RATIO = 3
FWHM_PER_SIGMA = 2.3548
BLUE_NM, SWIR_NM = 490.0, 1300.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Pair:
    """A scene and what two sensors see of it.

    Parameters
    ----------
    truth
        (band, y, x) reflectance, NaN = invalid.
    wavelength_nm, msi_nm
        Centres of the HSI's and of the MSI's bands.
    weights
        (msi band, band) spectral response of the MSI.
    hsi, msi
        (band, y / 3, x / 3) and (msi band, y, x), as delivered.
    touched
        (y, x) pixels whose MSI values the fault changes beyond repair; none where it changes all a little.
    moved_truth
        The truth in the MSI's geometry, where that is another one.
    rng
        For what is random.
    """

    truth: np.ndarray
    wavelength_nm: np.ndarray
    msi_nm: np.ndarray
    weights: np.ndarray
    hsi: np.ndarray
    msi: np.ndarray
    touched: np.ndarray
    moved_truth: np.ndarray | None
    rng: np.random.Generator


def flawless(truth: np.ndarray, wavelength_nm: np.ndarray, msi_nm: np.ndarray, weights: np.ndarray, seed: int) -> Pair:
    """Return the pair that faultless sensors deliver."""
    return Pair(
        truth=truth, wavelength_nm=wavelength_nm, msi_nm=msi_nm, weights=weights, hsi=coarse(truth),
        msi=np.tensordot(weights.astype(np.float32), truth, 1), touched=np.zeros(truth.shape[1:], bool),
        moved_truth=None, rng=np.random.default_rng(seed),
    )  # fmt: skip


def coarse(truth: np.ndarray, along: float = 1.0, across: float = 1.0) -> np.ndarray:
    """Blur with a Gaussian whose FWHM is so many coarse pixels, and average over each block."""
    sigma = np.array([along, across]) * RATIO / FWHM_PER_SIGMA
    return np.stack([block_mean(blurred(band, sigma), RATIO) for band in truth]).astype(np.float32)


def blurred(image: np.ndarray, sigma: np.ndarray | float) -> np.ndarray:
    """Blur (y, x); invalid pixels stay so and speak for nobody."""
    valid = np.isfinite(image)
    weight = ndimage.gaussian_filter(valid.astype(np.float32), sigma)
    total = ndimage.gaussian_filter(np.where(valid, image, 0).astype(np.float32), sigma)
    return np.where(valid, total / np.maximum(weight, 1e-6), np.float32(np.nan))


def field(pair: Pair, length: float) -> np.ndarray:
    """A smooth random field (y, x) of mean zero and variance one."""
    drawn = ndimage.gaussian_filter(pair.rng.standard_normal(pair.truth.shape[1:]), length)
    return (drawn - drawn.mean()) / drawn.std()


def blobs(pair: Pair, share: float, length: float) -> np.ndarray:
    """Patches (y, x) that cover this share."""
    drawn = field(pair, length)
    return drawn > np.quantile(drawn, 1 - share)


def moved(images: np.ndarray, dy: np.ndarray | float, dx: np.ndarray | float) -> np.ndarray:
    """Resample (n, y, x) at pixels moved by dy, dx; cubic, invalid where a neighbour is."""
    rows, cols = np.mgrid[: images.shape[1], : images.shape[2]].astype(float)
    at = np.stack(np.broadcast_arrays(rows + dy, cols + dx))
    valid = np.isfinite(images).all(axis=0)
    nearest = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    filled = images[:, nearest[0], nearest[1]]
    out = np.stack([ndimage.map_coordinates(band, at, order=3, mode="nearest") for band in filled])
    out[:, ndimage.map_coordinates(valid.astype(np.float32), at, order=1, mode="nearest") < 0.99] = np.nan
    return out.astype(np.float32)


def in_other_geometry(pair: Pair, dy: np.ndarray | float, dx: np.ndarray | float) -> Pair:
    """Move the MSI; the product lies on its grid, so it is judged by the truth moved likewise."""
    return replace(pair, msi=moved(pair.msi, dy, dx), moved_truth=moved(pair.truth, dy, dx))


def scattered(pair: Pair) -> np.ndarray:
    """How strongly haze scatters each MSI band, (band, 1, 1)."""
    return ((BLUE_NM / pair.msi_nm) ** 1.3)[:, None, None]


def across(pair: Pair) -> np.ndarray:
    """-1 at the left border to 1 at the right one, (1, x)."""
    return np.linspace(-1, 1, pair.truth.shape[2])[None]


def bands_noise(pair: Pair, image: np.ndarray, snr: float) -> np.ndarray:
    """White noise with each band's mean over ``snr`` as its standard deviation."""
    level = np.nanmean(image, axis=(1, 2), keepdims=True) / snr
    return (image + level * pair.rng.standard_normal(image.shape)).astype(np.float32)


def clean(pair: Pair, _: float) -> Pair:
    """No fault."""
    return pair


def cloud(pair: Pair, share: float) -> Pair:
    """Clouds over this share, and their shadows."""
    clouds = blobs(pair, share, 8)
    shadow = np.roll(clouds, (12, 9), (0, 1)) & ~clouds
    thickness = ndimage.gaussian_filter(clouds.astype(np.float32), 1.5)
    thickness = np.where(clouds, np.maximum(thickness, 0.5), 0.6 * thickness)
    white = np.where(pair.msi_nm < SWIR_NM, 0.75, 0.35)[:, None, None]
    msi = np.where(shadow, 0.35 * pair.msi, pair.msi) * (1 - thickness) + thickness * white
    return replace(pair, msi=msi.astype(np.float32), touched=ndimage.binary_dilation(clouds | shadow, iterations=3))


def shadow(pair: Pair, share: float) -> Pair:
    """Cast shadow over this share."""
    where = blobs(pair, share, 8)
    dark = 0.30 + 0.15 * (BLUE_NM / pair.msi_nm)[:, None, None]
    return replace(pair, msi=np.where(where, dark * pair.msi, pair.msi).astype(np.float32), touched=where)


def change(pair: Pair, share: float) -> Pair:
    """Other ground on this share when the MSI was taken."""
    where, (rows, cols) = blobs(pair, share, 6), pair.truth.shape[1:]
    other = np.roll(pair.msi, (rows // 3, cols // 4), (1, 2))
    return replace(pair, msi=np.where(where, other, pair.msi), touched=where)


def saturation(pair: Pair, percentile: float) -> Pair:
    """An MSI that saturates at this percentile of each band."""
    limit = np.nanpercentile(pair.msi, percentile, axis=(1, 2))[:, None, None]
    return replace(pair, msi=np.minimum(pair.msi, limit), touched=(pair.msi > limit).any(axis=0))


def gamma(pair: Pair, power: float) -> Pair:
    """MSI values to this power, the bands' means kept."""
    bent = np.maximum(pair.msi, 1e-4) ** power
    means = [np.nanmean(image, axis=(1, 2), keepdims=True) for image in (pair.msi, bent)]
    return replace(pair, msi=(bent * means[0] / means[1]).astype(np.float32))


def gains(pair: Pair, spread: float) -> Pair:
    """A gain and a small offset of its own for each MSI band."""
    drawn = pair.rng.standard_normal((2, len(pair.msi), 1, 1))
    return replace(pair, msi=(pair.msi * (1 + spread * drawn[0]) + 0.1 * spread * drawn[1]).astype(np.float32))


def haze(pair: Pair, thickness: float) -> Pair:
    """Haze that grows across the scene."""
    where = np.clip(0.5 + 0.5 * across(pair) + 0.15 * field(pair, 25), 0, 1.3)
    path = thickness * where * scattered(pair)
    return replace(pair, msi=(pair.msi * (1 - 1.2 * path) + path).astype(np.float32))


def brdf(pair: Pair, slope: float) -> Pair:
    """A brightness that varies with the angle of view, more so at short wavelengths."""
    by_band = np.linspace(1.3, 0.7, len(pair.msi))[:, None, None]
    return replace(pair, msi=(pair.msi * (1 + slope * across(pair) * by_band)).astype(np.float32))


def shading(pair: Pair, relief: float) -> Pair:
    """Topographic shading of the MSI alone."""
    return replace(pair, msi=(pair.msi * np.clip(1 + relief * field(pair, 5), 0.2, 2)).astype(np.float32))


def msi_noise(pair: Pair, snr: float) -> Pair:
    """Noise of the MSI."""
    return replace(pair, msi=bands_noise(pair, pair.msi, snr))


def shift(pair: Pair, pixels: float) -> Pair:
    """A shift of the whole MSI."""
    return in_other_geometry(pair, 0.8 * pixels, -0.6 * pixels)


def rotation(pair: Pair, degrees: float) -> Pair:
    """A rotation of the MSI about its centre."""
    angle, (rows, cols) = np.radians(degrees), pair.truth.shape[1:]
    y, x = np.mgrid[:rows, :cols] - np.array([rows / 2, cols / 2])[:, None, None]
    turn = np.cos(angle) - 1, np.sin(angle)
    return in_other_geometry(pair, y * turn[0] + x * turn[1], x * turn[0] - y * turn[1])


def warp(pair: Pair, rms: float) -> Pair:
    """A shift that varies over the scene, as terrain makes it."""
    return in_other_geometry(pair, field(pair, 12) * rms / 2**0.5, field(pair, 12) * rms / 2**0.5)


def msi_jitter(pair: Pair, rms: float) -> Pair:
    """Lines of the MSI that lie apart."""
    lines = ndimage.gaussian_filter1d(pair.rng.standard_normal(pair.truth.shape[1]), 0.7)
    return in_other_geometry(pair, 0.0, (lines / lines.std() * rms)[:, None])


def band_shift(pair: Pair, rms: float) -> Pair:
    """MSI bands that lie apart."""
    drawn = pair.rng.standard_normal((len(pair.msi), 2)) * rms / 2**0.5
    return replace(pair, msi=np.concatenate([moved(pair.msi[i : i + 1], *d) for i, d in enumerate(drawn)]))


def coarse_bands(pair: Pair, factor: float) -> Pair:
    """Every MSI band beside the first ones and the widest repeats pixels of a coarser grid."""
    msi, edge = pair.msi.copy(), int(factor)
    rows, cols = (size // edge * edge for size in msi.shape[1:])
    for band in range(3, len(msi)):
        mean = block_mean(msi[band, :rows, :cols], edge)
        msi[band, :rows, :cols] = mean.repeat(edge, 0).repeat(edge, 1)
    return replace(pair, msi=msi)


def dead_columns(pair: Pair, count: float) -> Pair:
    """Columns of the HSI that hold zeros."""
    hsi = pair.hsi.copy()
    columns = pair.rng.choice(hsi.shape[2], int(count), replace=False)
    hsi[:, :, columns] = np.where(np.isfinite(hsi[:, :, columns]), 0, np.nan)
    return replace(pair, hsi=hsi)


def stripes(pair: Pair, spread: float) -> Pair:
    """A gain of its own for each column and band of the HSI."""
    gain = 1 + spread * pair.rng.standard_normal((len(pair.hsi), 1, pair.hsi.shape[2]))
    return replace(pair, hsi=(pair.hsi * gain).astype(np.float32))


def hsi_jitter(pair: Pair, rms_lr: float) -> Pair:
    """Lines of the HSI that lie apart, by so many of its pixels."""
    lines = pair.rng.standard_normal(pair.hsi.shape[1]) * rms_lr * RATIO
    along = np.zeros(pair.truth.shape[1])
    along[: len(lines) * RATIO] = lines.repeat(RATIO)
    return replace(pair, hsi=coarse(moved(pair.truth, 0.0, along[:, None])))


def keystone(pair: Pair, width_lr: float) -> Pair:
    """HSI bands that lie apart, by so many of its pixels from the first to the last wavelength."""
    place = (pair.wavelength_nm - pair.wavelength_nm.min()) / np.ptp(pair.wavelength_nm) - 0.5
    apart = [moved(pair.truth[i : i + 1], 0.0, width_lr * RATIO * p) for i, p in enumerate(place)]
    return replace(pair, hsi=coarse(np.concatenate(apart)))


def smile(pair: Pair, nm: float) -> Pair:
    """HSI centres that bend across the columns, by so many nanometres."""
    order = np.argsort(pair.wavelength_nm)
    bend = nm * (2 * np.square(across(pair)[0]) - 1)
    seen = np.full_like(pair.truth, np.nan)
    for column, by in enumerate(bend):
        spectra = pair.truth[order, :, column]
        for row in np.flatnonzero(np.isfinite(spectra).all(axis=0)):
            seen[:, row, column] = np.interp(pair.wavelength_nm + by, pair.wavelength_nm[order], spectra[:, row])
    return replace(pair, hsi=coarse(seen))


def hsi_noise(pair: Pair, snr: float) -> Pair:
    """Noise of the HSI."""
    return replace(pair, hsi=bands_noise(pair, pair.hsi, snr))


def bad_value(pair: Pair, value: float) -> Pair:
    """One value in one band of one HSI pixel."""
    hsi = pair.hsi.copy()
    hsi[len(hsi) // 3, hsi.shape[1] // 2, hsi.shape[2] // 2] = value
    return replace(pair, hsi=hsi)


def mild_mix(pair: Pair, times: float) -> Pair:
    """A little of everything, as real pairs have it."""
    pair = in_other_geometry(
        pair, field(pair, 12) * 0.21 * times + 0.4 * times, field(pair, 12) * 0.21 * times - 0.3 * times
    )
    for fault, strength in ((band_shift, 0.21), (gains, 0.04), (haze, 0.01), (brdf, 0.02), (change, 0.03)):
        pair = fault(pair, strength * times)
    return hsi_noise(stripes(msi_noise(pair, 150), 0.005 * times), 100)


FAULTS: dict[str, tuple[Callable[[Pair, float], Pair], tuple[float, ...]]] = {
    "none": (clean, (0,)),
    "a little of everything": (mild_mix, (0.5, 1, 2)),
    "cloud and its shadow (share)": (cloud, (0.03, 0.1, 0.25)),
    "cast shadow (share)": (shadow, (0.05, 0.15, 0.3)),
    "change (share)": (change, (0.05, 0.15, 0.3)),
    "MSI saturates (percentile)": (saturation, (99.5, 97, 90)),
    "MSI values to a power": (gamma, (0.95, 0.85, 0.7)),
    "gains of the MSI bands": (gains, (0.03, 0.1, 0.25)),
    "haze across the scene": (haze, (0.01, 0.04, 0.1)),
    "BRDF across the scene": (brdf, (0.02, 0.06, 0.15)),
    "topographic shading": (shading, (0.05, 0.15, 0.3)),
    "noise of the MSI (SNR)": (msi_noise, (100, 40, 15)),
    "shift (MSI pixels)": (shift, (0.5, 1.5, 4)),
    "rotation (degrees)": (rotation, (0.1, 0.3, 1)),
    "terrain (MSI pixels rms)": (warp, (0.3, 0.7, 1.5)),
    "MSI lines apart (MSI pixels rms)": (msi_jitter, (0.2, 0.5, 1)),
    "MSI bands apart (MSI pixels rms)": (band_shift, (0.2, 0.5, 1.2)),
    "MSI bands on a coarser grid (factor)": (coarse_bands, (2, 3, 4)),
    "dead columns of the HSI": (dead_columns, (1, 3, 6)),
    "stripes of the HSI": (stripes, (0.005, 0.02, 0.06)),
    "HSI lines apart (HSI pixels rms)": (hsi_jitter, (0.1, 0.3, 0.6)),
    "HSI keystone (HSI pixels)": (keystone, (0.1, 0.3, 0.7)),
    "HSI smile (nm)": (smile, (1, 3, 6)),
    "noise of the HSI (SNR)": (hsi_noise, (100, 40, 15)),
    "one bad value of the HSI": (bad_value, (100.0, -9999.0, 6.5535)),
}
