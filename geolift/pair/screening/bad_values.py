"""Single values that no sensor measured: fills that were not declared, saturation, bit errors.

A value is judged by the size of its band (and of the bands around it) and by its own spectrum, so that bright roofs,
glint and water at or below zero stay what they are: data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

SPIKE = 3.0
"""A suspect value exceeds what is usual around its band so many times."""

BELOW = 1.0
"""A suspect negative value lies so many times the usual level below zero."""

ABSURD = 50.0
"""Beyond so many times the usual level, no spectrum excuses a value."""

SAME = 3
"""One number in so many bands of a pixel, far off the usual level, is a fill or saturation."""

LEVEL_PERCENT = 99.0
LEVEL_BANDS, AROUND_BANDS = 11, 31
"""Bands whose median level counts, and bands around that may lend theirs: absorption ends within them."""

NEIGHBOURS = (-3, -2, -1, 1, 2, 3)
ODD_BAND = 8.0
"""A band whose level is so many times that of the bands around holds bad values mostly."""

MOST_MENDED = 0.1
"""Share of a pixel's bands that may be mended; beyond it, the pixel is left out."""

FEWEST_MENDED = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class ValueLimits:
    """What is usual in each band, bands in the order of their wavelengths.

    Parameters
    ----------
    level
        (B,) the 99th percentile of the absolute values, not less than in the bands around, robust against single
        bands that hold nothing else but bad values.
    typical
        (B,) the median spectrum.
    """

    level: NDArray[np.float64]
    typical: NDArray[np.float64]


def value_limits(sample: FloatArray) -> ValueLimits:
    """Learn what is usual in each band from a sample of pixels.

    ``sample``: (B, n) values, bands in the order of their wavelengths, NaN = invalid.
    """
    with np.errstate(all="ignore"):
        own = _quantile(np.sort(np.where(np.isfinite(sample), np.abs(sample), np.nan), axis=1), LEVEL_PERCENT)
        typical = _quantile(np.sort(np.where(np.isfinite(sample), sample, np.nan), axis=1), 50.0)
    around = ndimage.median_filter(own, min(LEVEL_BANDS, 2 * own.size - 1), mode="nearest")
    around = ndimage.maximum_filter1d(around, AROUND_BANDS, mode="nearest")
    # A band of bad values alone must not be the measure of its own values.
    level = np.where(own <= ODD_BAND * around, np.maximum(own, around), around)
    return ValueLimits(level=level, typical=typical)


def _quantile(ordered: FloatArray, percent: float) -> NDArray[np.float64]:
    """Return a percentile (B,) of ascending rows whose invalid values stand last; 0 for rows without values."""
    counts = np.isfinite(ordered).sum(axis=1)
    at = np.minimum((percent / 100.0 * np.maximum(counts - 1, 0)).round().astype(int), ordered.shape[1] - 1)
    return np.where(counts > 0, ordered[np.arange(len(ordered)), at], 0.0).astype(np.float64)


def find_bad_values(values: FloatArray, limits: ValueLimits) -> BoolArray | None:
    """Find the values that no sensor measured; None if there are none.

    ``values``: (B, ...) bands in the order of their wavelengths; NaN = invalid.

    Returns
    -------
    bad
        Shape of ``values``. True: spikes against the pixel's spectral neighbours that are far off all that is usual,
        one far-off number in several bands of a pixel, infinite values, and missing values in pixels whose other
        bands are there.
    """
    flat = values.reshape(len(values), -1)
    # NaN compares as False: missing values are counted apart.
    with np.errstate(invalid="ignore"):
        high = flat > (SPIKE * limits.level)[:, None].astype(np.float32)
        low = flat < (-BELOW * limits.level)[:, None].astype(np.float32)
    suspect = high | low
    missing = ~np.isfinite(flat)
    holes = missing.sum(axis=0)
    holed = (holes > 0) & (holes < len(flat))
    constant = _constant_spectra(flat)
    pixels = np.flatnonzero(suspect.any(axis=0) | holed | constant)
    if pixels.size == 0:
        return None
    spectra = flat[:, pixels].astype(np.float64)
    bad = _judge(spectra, suspect[:, pixels], limits) | (missing[:, pixels] & holed[pixels])
    bad |= constant[pixels]
    if not bad.any():
        return None
    found = np.zeros(flat.shape, bool)
    found[:, pixels] = bad
    return found.reshape(values.shape)


def _constant_spectra(flat: FloatArray) -> BoolArray:
    """Find pixels (n,) that hold one number in all bands: nothing on the ground looks so.

    But zero: products cut dark pixels off there, and a pixel without light does no harm.
    """
    constant = (flat[0] == flat[-1]) & (flat[0] != 0)
    pixels = np.flatnonzero(constant)
    constant[pixels] = (flat[:, pixels] == flat[0, pixels]).all(axis=0)
    return np.asarray(constant)


def _judge(spectra: NDArray[np.float64], suspect: BoolArray, limits: ValueLimits) -> BoolArray:
    """Tell which suspect values (B, n) are bad."""
    count = len(spectra)
    at = np.abs(np.arange(count)[:, None] + np.array(NEIGHBOURS))
    at = np.clip(np.where(at >= count, 2 * (count - 1) - at, at), 0, count - 1)
    with np.errstate(all="ignore"):
        known = np.where(np.isfinite(spectra), spectra, np.nan)
        calm = np.where(suspect, np.nan, known)
        around = _median_over_axis1(calm[at])
        around = np.where(np.isfinite(around), around, _median_over_axis1(known[at]))
        around = np.where(np.isfinite(around), around, 0.0)
        scale = np.maximum(np.maximum(limits.level[:, None], np.abs(around)), _brightness(known))
        spike = suspect & (np.abs(spectra - around) > np.where(spectra > 0, SPIKE - 1.0, BELOW) * scale)
        absurd = suspect & (np.abs(spectra) > ABSURD * limits.level[:, None])
    return spike | absurd | _repeated(spectra, suspect, limits)


def _brightness(spectra: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the upper quartile (n,) of each spectrum's absolute values: a bright roof is bright in most bands."""
    ordered = np.sort(np.abs(spectra), axis=0)
    counts = np.isfinite(ordered).sum(axis=0)
    at = np.maximum((0.75 * (counts - 1)).round().astype(int), 0)
    return np.asarray(np.nan_to_num(np.take_along_axis(ordered, at[None], axis=0)[0]))


def _median_over_axis1(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median along axis 1 without NaN; NaN where nothing is left."""
    ordered = np.sort(values, axis=1)
    counts = np.isfinite(ordered).sum(axis=1, keepdims=True)
    lower = np.take_along_axis(ordered, np.maximum(counts - 1, 0) // 2, axis=1)
    upper = np.take_along_axis(ordered, np.minimum(counts // 2, ordered.shape[1] - 1), axis=1)
    return np.asarray((0.5 * (lower + upper))[:, 0])


def _repeated(spectra: NDArray[np.float64], suspect: BoolArray, limits: ValueLimits) -> BoolArray:
    """Find suspect values (B, n) that stand in several bands of their pixel, and that its other bands deny."""
    out = np.zeros_like(suspect)
    if len(spectra) < SAME:
        return out
    ordered = np.sort(np.where(suspect, spectra, np.nan), axis=0)
    same = ordered[SAME - 1 :] == ordered[: 1 - SAME]
    bands = np.arange(len(spectra))
    for pixel in np.flatnonzero(same.any(axis=0)):
        spectrum = spectra[:, pixel]
        for number in np.unique(ordered[SAME - 1 :, pixel][same[:, pixel]]):
            equal = suspect[:, pixel] & (spectrum == number)
            others = np.flatnonzero(np.isfinite(spectrum) & (spectrum != number))
            if others.size >= len(spectra) // 2:
                around = np.interp(bands[equal], others, spectrum[others])
                scale = np.maximum(limits.level[equal], np.abs(around))
                scale = np.maximum(scale, _brightness(spectrum[others, None])[0])
                equal[equal] = np.abs(number - around) > (SPIKE - 1.0 if number > 0 else BELOW) * scale
            out[:, pixel] |= equal
    return out


def most_mended(bands: int) -> int:
    """Return how many of a pixel's bands may be set right by the others."""
    return max(FEWEST_MENDED, int(MOST_MENDED * bands))


def mend_values(values: FloatArray, bad: BoolArray, limits: ValueLimits) -> FloatArray:
    """Replace bad values by what the pixel's other bands say, or leave the pixel out where too few are left.

    Between the nearest good bands of the pixel its ratio to the median spectrum is interpolated, so that absorption
    bands keep their depth.

    ``values``: (B, ...) bands in the order of their wavelengths. ``bad``: same shape, from `find_bad_values`.

    Returns
    -------
    mended
        A copy; NaN in all bands where more than a tenth of the pixel's bands were bad.
    """
    mended = np.array(values, np.float32)
    flat, wrong = mended.reshape(len(values), -1), bad.reshape(len(values), -1)
    most = most_mended(len(flat))
    floor = 1e-3 * max(float(np.median(limits.level)), 1e-30)
    positive = limits.typical > floor
    bands = np.arange(len(flat))
    for pixel in np.flatnonzero(wrong.any(axis=0)):
        hit = wrong[:, pixel]
        good = ~hit & np.isfinite(flat[:, pixel])
        if hit.sum() > most or good.sum() < 2:
            flat[:, pixel] = np.nan
            continue
        for band in np.flatnonzero(hit):
            near = np.flatnonzero(good & positive) if positive[band] else np.flatnonzero(good)
            weight = limits.typical if positive[band] and near.size >= 2 else np.ones(len(flat))
            near = near if near.size >= 2 else np.flatnonzero(good)
            ratio = np.interp(band, bands[near], flat[near, pixel] / weight[near])
            flat[band, pixel] = ratio * weight[band]
    return mended
