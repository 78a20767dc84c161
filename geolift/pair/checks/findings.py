"""The cross-sensor check: names the likely mistake in a pair, in words and with the option to add.

The MSI degraded to the HSI's pixels is held against the MSI simulated from the HSI, band by band. Each
test asks one question (right place? right order? right scale? right offset? right sensor? aligned?
clear?) and speaks only beyond what different atmospheres, dates and noise do to a clean pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from geolift.pair.checks.identity import (
    find_doubts,
    find_order,
    find_rival,
    find_usual_order,
    fit_candidates,
    order_finding,
    sensor_finding,
)
from geolift.pair.checks.pair import (
    BandCheck,
    Candidate,
    CheckResult,
    Finding,
    FloatArray,
    PairedPixels,
    Reading,
    is_flat,
    pair_pixels,
)
from geolift.pair.checks.place import find_place_doubt
from geolift.pair.checks.values import find_scale_or_offset, odd_gain
from geolift.pair.coregistration import ShiftEstimate
from geolift.pair.robust import robust_line

# Calibrated by benchmarks/check_injection.py: no alarm on the clean pairs, every planted mistake named.
SHIFT_LR = 0.5
FOREIGN_FRACTION = 0.18


def check_pair(
    simulated: FloatArray,
    degraded_msi: FloatArray,
    band_names: Sequence[str],
    shift: ShiftEstimate | None,
    ratio: float,
    *,
    sensor: str = "",
    candidates: Mapping[str, Candidate] | None = None,
    reading: Reading | None = None,
    threads: int = 1,
) -> CheckResult:
    """Check a pair for the mistakes that make a plausible, wrong product.

    Parameters
    ----------
    simulated, degraded_msi
        (c, h, w) float32 on the HSI's grid, after the shift if one was applied; NaN = invalid.
    band_names
        Names of the c bands, in the order of the arrays.
    shift
        The shift found, None if it was not looked for.
    ratio
        MSI pixels per HSI pixel.
    sensor
        The sensor named by the user or the metadata.
    candidates
        What other sensors would have seen, by sensor; under the named sensor's own key, all its bands.
    reading
        How the values were read.
    threads
        Candidates looked at at once.
    """
    known = reading or Reading()
    names = tuple(band_names)
    pair = pair_pixels(simulated, degraded_msi, names)
    if pair is None:
        return CheckResult((_nothing_common(simulated, degraded_msi, names),), (), 0, 0.0)
    flat = _flat_bands(pair)
    alive = not any(all(is_flat(band) for band in images) for images in (pair.simulated, pair.seen))
    place = find_place_doubt(simulated, degraded_msi, pair, shift) if alive else None
    if not alive or place is not None:
        verdict = (*flat, place) if place is not None else tuple(flat)
        return CheckResult(verdict, _table(pair), int(pair.own.sum()), pair.outlier_fraction)
    findings: list[Finding] = []
    order = find_order(pair)
    fits = fit_candidates(pair, sensor, candidates or {}, threads)
    rival = find_rival(pair, order, candidates or {}, fits)
    if rival is None:
        order = find_usual_order(pair, order)
    if rival is not None and not rival.twin:
        findings.append(sensor_finding(pair, sensor, rival))
    elif order is not None:
        findings.append(order_finding(pair, order))
        pair = pair_pixels(simulated[order], degraded_msi, tuple(names[i] for i in order)) or pair
    values = find_scale_or_offset(pair, known)
    findings += values
    findings += _shift(shift, ratio)
    findings += _clouds(pair)
    if not findings:
        findings += find_doubts(pair, sensor, candidates or {}, fits, known, rival)
    findings = flat + findings
    if not findings:
        findings.append(_ok(pair))
    elif not values and known.reflectance and (odd := odd_gain(pair)):
        text = f"{odd}; whether they are reflectance in another unit, counts or radiance, the images cannot tell"
        findings.append(Finding("undetermined", text))
    bands = _table(pair_pixels(simulated, degraded_msi, names) or pair)
    return CheckResult(tuple(findings), bands, int(pair.own.sum()), pair.outlier_fraction)


def _table(pair: PairedPixels) -> tuple[BandCheck, ...]:
    rows = []
    for band, name in enumerate(pair.names):
        slope, intercept, _ = robust_line(pair.simulated[band], pair.seen[band])
        best = pair.names[int(np.argmax(pair.correlation[band]))]
        rows.append(BandCheck(name, slope, intercept, float(pair.correlation[band, band]), best))
    return tuple(rows)


def _nothing_common(simulated: FloatArray, degraded: FloatArray, names: tuple[str, ...]) -> Finding:
    """Too few common pixels; where single bands of the MSI are empty, these are the reason."""
    seen = np.isfinite(simulated).all(axis=0)
    empty = [name for name, band in zip(names, degraded, strict=True) if not np.isfinite(band[seen]).any()]
    if seen.any() and empty and len(empty) < len(names):
        text = (
            f"the MSI's {', '.join(empty)} is nodata wherever the HSI is valid, and a pixel counts only if all bands "
        )
        return Finding("no-overlap", text + "are valid; give a file without that band, or one in which it is filled")
    text = "the images overlap, but too few pixels are valid in both; look at the nodata values (`geolift info FILE`) "
    text += "and at the mask (--mask none leaves it out)"
    return Finding("no-overlap", text)


def _flat_bands(pair: PairedPixels) -> list[Finding]:
    """Bands that hold one value throughout: dead, filled, or not what they are called."""
    sides = [
        (side, [name for name, band in zip(pair.names, images, strict=True) if is_flat(band)])
        for side, images in (("MSI", pair.seen), ("MSI simulated from the HSI", pair.simulated))
    ]
    return [
        Finding(
            "undetermined",
            f"the {side} holds one value at all compared pixels in {', '.join(flat)}, so nothing tells whether that is "
            "right; look whether it is dead or filled (`geolift info FILE`)",
        )
        for side, flat in sides
        if flat
    ]


def _shift(shift: ShiftEstimate | None, ratio: float) -> list[Finding]:
    """The HSI lies half an HSI pixel or more beside the MSI."""
    if shift is None or not shift.reliable:
        return []
    size = float(np.hypot(shift.dy, shift.dx))
    error = float(np.hypot(shift.sigma_dy, shift.sigma_dx))
    if size < max(SHIFT_LR * ratio, 1.0) or size < 3.0 * error:
        return []
    return [
        Finding(
            "shift",
            f"the HSI lies {size:.1f} MSI pixels off the MSI: moving it {_way(shift)} raises their agreement from "
            f"{shift.agreement_before:.2f} to {shift.agreement_after:.2f}; --coregister auto, the default of "
            "`geolift fuse`, corrects this by itself",
            f"--coregister {_number(shift.dy)},{_number(shift.dx)}",
        )
    ]


def _number(pixels: float) -> str:
    """Return two digits behind the point, and no minus before a zero."""
    return f"{round(pixels, 2) + 0.0:.2f}"


def _way(shift: ShiftEstimate) -> str:
    down, right = "up" if shift.dy < 0 else "down", "left" if shift.dx < 0 else "right"
    return f"{abs(shift.dy):.2f} pixels {down} and {abs(shift.dx):.2f} {right}"


def _clouds(pair: PairedPixels) -> list[Finding]:
    if pair.outlier_fraction < FOREIGN_FRACTION:
        return []
    return [
        Finding(
            "cloud-or-change",
            f"{pair.outlier_core:.0%} of the compared pixels do not follow the others: clouds, shadow, or "
            "change between the two dates; give a raster that is not zero where they are, or use a clearer image",
            "--mask FILE",
        )
    ]


def _ok(pair: PairedPixels) -> Finding:
    r = np.diag(pair.correlation)
    text = (
        f"no mistake found: the MSI's bands correlate {r.min():.3f} to {r.max():.3f} with those simulated from the HSI"
    )
    odd = odd_gain(pair)
    return Finding("ok", f"{text}; {odd}" if odd else text)
