"""Which values are on the wrong scale: factors of ten, Landsat's numbers, a lost or doubled offset."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from geolift.pair.checks.pair import DoubleArray, Finding, PairedPixels, Reading, fit_lines

# Calibrated by benchmarks/check_injection.py: atmospheres move gains by tens of per cent, offsets by hundredths.
OFFSETS = (0.1, -0.1)
OFFSET_COST = 1.0
OFFSET_TOLERANCE = 0.045
GAIN_SIGMA, OFFSET_SIGMA = 0.25, 0.02
IMPLAUSIBLE = (3e-5, 3e4)
PLAUSIBLE_GAIN = (0.2, 5.0)
ONE_FACTOR, NEAR_A_HUNDRED, COUNTS_TOLERANCE = 3.0, 0.2, 0.15


def find_scale_or_offset(pair: PairedPixels, known: Reading) -> list[Finding]:
    """A factor of a power of ten, Landsat's numbers taken for reflectance, or a lost or doubled offset.

    Behind a wrong factor an offset may be wrong too: counts that were never turned into reflectance have both.
    """
    slope, value, middle = fit_lines(pair)
    factor = float(np.median(slope))
    if factor <= 0:
        return []
    if not known.reflectance:
        return [_scale_finding(pair, factor, -4, known)] if _reflectance_in_counts(pair, slope) else []
    power = _wrong_power(pair, slope, known)
    if power is not None:
        rescaled, known_then = _rescaled(pair, power, known)
        offset = _offset(rescaled, *fit_lines(rescaled), known_then)
        return [_scale_finding(pair, factor, power, known, also_offset=bool(offset)), *offset]
    intercept = value - slope * middle
    if 2.5 < np.median(slope) < 5.0 and 0.5 < np.median(intercept) < 0.95:
        return [_landsat_finding(float(np.median(slope)), float(np.median(intercept)))]
    if PLAUSIBLE_GAIN[0] < factor < PLAUSIBLE_GAIN[1]:
        return _offset(pair, slope, value, middle, known)
    return []


def odd_gain(pair: PairedPixels) -> str:
    """Say by how much the images differ beyond what atmospheres do, whatever the reason; empty if they do not."""
    slope = fit_lines(pair)[0]
    gain = float(np.median(slope))
    if PLAUSIBLE_GAIN[0] < gain < PLAUSIBLE_GAIN[1]:
        return ""
    return f"the MSI's values are {_plain(gain)} times the HSI's, which --harmonize auto (the default) evens out"


def _wrong_power(pair: PairedPixels, slope: DoubleArray, known: Reading) -> int | None:
    """Power of ten that was lost or applied twice between the images; None if the factor is no such power."""
    factor = float(np.median(slope))
    if not IMPLAUSIBLE[0] < factor < IMPLAUSIBLE[1] and not _plausible(pair.seen):
        return round(math.log10(factor) / 4) * 4
    power = round(math.log10(factor))
    if abs(power) in (2, 4, 8) and abs(math.log10(factor) - power) < 0.4 and not _other_unit(slope, power, known):
        return power
    return None


def _reflectance_in_counts(pair: PairedPixels, slope: DoubleArray) -> bool:
    """Whether HSI values of an unknown kind are ten thousand times an MSI that can be reflectance, in every band."""
    near = slope.min() > 0 and float(np.abs(np.log10(slope) + 4).max()) < COUNTS_TOLERANCE
    return near and _plausible(pair.seen) and not _plausible(pair.simulated)


def _rescaled(pair: PairedPixels, power: int, known: Reading) -> tuple[PairedPixels, Reading]:
    """The pair, and how it is read, once the option for the scale is given."""
    if _side(pair) == "hsi":
        size = 10.0**-power
        then = replace(known, hsi_scale=known.hsi_scale / size, hsi_offset=known.hsi_offset / size)
        return replace(pair, simulated=pair.simulated / size), then
    size = 10.0**power
    then = replace(known, msi_scale=known.msi_scale / size, msi_offset=known.msi_offset / size)
    return replace(pair, seen=pair.seen / size), then


def _side(pair: PairedPixels) -> str:
    """Which image to rescale: the MSI, unless its values alone can be reflectance."""
    return "hsi" if _plausible(pair.seen) and not _plausible(pair.simulated) else "msi"


def _other_unit(slope: DoubleArray, power: int, known: Reading) -> bool:
    """Whether about a hundred is no lost scale: 8-bit counts have any gain, bands of another quantity not the same."""
    shared = bool(slope.min() > 0 and slope.max() < ONE_FACTOR * slope.min())
    off = abs(math.log10(float(np.median(slope))) - power)
    return abs(power) == 2 and (known.msi_bytes or not shared or off > NEAR_A_HUNDRED)


def _plausible(values: DoubleArray) -> bool:
    """Whether values can be reflectance."""
    return bool(0.002 < np.median(np.abs(values)) < 1.5)


def _scale_finding(
    pair: PairedPixels, factor: float, power: int, known: Reading, *, also_offset: bool = False
) -> Finding:
    """Name the factor; an offset that was applied is rescaled with it, unless that is to be corrected too."""
    which = _side(pair)
    size = 10.0 ** (power if which == "msi" else -power)
    scale, offset = (known.msi_scale, known.msi_offset) if which == "msi" else (known.hsi_scale, known.hsi_offset)
    name = which.upper()
    relation = f"the MSI's values are {_plain(factor)} times those simulated from the HSI"
    if size > 1:
        why = f"the {name}'s scale factor of {1 / size:g} was not applied"
    else:
        why = f"the {name} was divided by {1 / size:g} once too often"
    option = f"--{which}-scale {scale / size:.6g}"
    if offset and not also_offset:
        option += f" --{which}-offset {offset / size:.6g}"
    return Finding("scale", f"{relation} in all bands: {why}", option)


def _plain(factor: float) -> str:
    """Return a factor without an exponent, to two digits: 10000, 0.00011."""
    return np.format_float_positional(float(f"{factor:.2g}"), trim="-")


def _landsat_finding(slope: float, intercept: float) -> Finding:
    return Finding(
        "scale",
        f"the MSI's values are {slope:.2f} times those simulated from the HSI plus {intercept:.2f}: numbers of Landsat "
        "Collection 2 were read as reflectance times 10000",
        "--msi-scale 2.75e-05 --msi-offset -0.2",
    )


def _offset(
    pair: PairedPixels, slope: DoubleArray, value: DoubleArray, middle: DoubleArray, known: Reading
) -> list[Finding]:
    """A common offset near plus or minus 0.1 explains the bands, and none does not."""
    r = np.diag(pair.correlation)
    cost = {c: _offset_cost(c, slope, value, middle, r) for c in (0.0, *OFFSETS)}
    grid = np.linspace(-0.25, 0.25, 101)
    free = float(grid[np.argmin([_offset_cost(c, slope, value, middle, r) for c in grid])])
    best = min(OFFSETS, key=lambda c: cost[c])
    if cost[0.0] - cost[best] < OFFSET_COST or abs(free - best) > OFFSET_TOLERANCE:
        return []
    return [_offset_finding(pair, best, free, known)]


def _offset_cost(offset: float, slope: DoubleArray, value: DoubleArray, middle: DoubleArray, r: DoubleArray) -> float:
    """How strained the bands are under a common offset: each may choose its gain, at a price."""
    gain = np.geomspace(0.3, 3.0, 121)[:, None]
    slope_sigma = np.maximum(slope, 0.1) * (0.06 + 0.8 * (1.0 - r))
    strain = ((slope - gain) / slope_sigma) ** 2
    strain = strain + ((value - gain * middle - offset) / OFFSET_SIGMA) ** 2 + (np.log(gain) / GAIN_SIGMA) ** 2
    return float(np.minimum(strain, 25.0).min(axis=0).mean())


def _offset_finding(pair: PairedPixels, offset: float, found: float, known: Reading) -> Finding:
    dark_hsi = float(np.quantile(pair.simulated, 0.01))
    dark_msi = float(np.quantile(pair.seen, 0.01))
    at_hsi = offset > 0 and dark_hsi < -0.03 and dark_msi > -0.03
    side = "darker" if offset < 0 else "brighter"
    text = f"the MSI's values are {abs(found):.2f} {side} than those simulated from the HSI in all bands"
    if at_hsi:
        hsi_offset = known.hsi_offset + offset
        why = f"the HSI's darkest pixels are at {dark_hsi:.2f}, so it is the HSI that is too dark"
        return Finding("offset", f"{text}: {why}", f"--hsi-offset {hsi_offset:.6g}")
    why = (
        "as if the offset of -1000 that Sentinel-2 has since processing baseline 04.00 had not been applied"
        if offset > 0
        else "as if the offset of -1000 that Sentinel-2 has since processing baseline 04.00 had been applied twice"
    )
    return Finding("offset", f"{text}: {why}", f"--msi-offset {known.msi_offset - offset:.6g}")
