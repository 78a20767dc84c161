"""The cross-sensor check of a pair: what could be wrong, in words, with the option that repairs it."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TypedDict, cast

import numpy as np
import xarray as xr

from geolift.datamodel.cube import REFLECTANCE, UnitsNote, window_values
from geolift.degradation.degrade import apply_srf
from geolift.errors import GeoliftError, TrustError
from geolift.pair.checks import Candidate, CheckResult, Finding, Reading, check_pair
from geolift.pair.checks.findings import FOREIGN_FRACTION
from geolift.pair.checks.relation import (
    coarse_findings,
    geometry_findings,
    radiometry_findings,
    saturation_findings,
    smile_findings,
)
from geolift.pair.comparison import Comparison
from geolift.pair.robust import outlier_pixels
from geolift.pair.scene_pair import ScenePair
from geolift.pair.screening.findings import Screening
from geolift.pair.smile import STRIPS, Smile, derivative_weights, find_smile
from geolift.srf import SpectralResponse, list_sensors, twins_of
from geolift.srf.weights import SrfWeights

MAX_CHECKED_PX = 65_536
"""LR pixels the candidates are simulated for; a larger overlap is judged by its central part."""

FEWEST_CANDIDATE_BANDS = 3

CURVED_SIGMA = 6.0
"""Distance from a curve that counts as cloud or change: a mean of bent values is not the bent mean of values."""


SMILE_PX = 40_000
"""HSI pixels, whole lines, in which a smile is looked for."""

VISIBLE = 0.1
"""Cloud, shadow and change differ by this part of a band's mean, in the median over the bands; mixed pixels do not."""


def check(pair: ScenePair, compared: Comparison, threads: int = 1) -> CheckResult:
    """Check a compared pair for the mistakes that make a plausible, wrong product.

    Parameters
    ----------
    threads
        Candidate sensors looked at at once.
    """
    rows, cols = _central(compared.simulated.shape[1:])
    overlap = compared.overlay
    window = (
        slice(overlap.rows.start + rows.start, overlap.rows.start + rows.stop),
        slice(overlap.cols.start + cols.start, overlap.cols.start + cols.stop),
    )
    result = check_pair(
        compared.simulated[:, rows, cols],
        compared.degraded[:, rows, cols],
        pair.spectra.msi_names,
        compared.shift,
        overlap.ratio,
        sensor=pair.spectra.sensor,
        candidates=simulate_candidates(pair, window),
        reading=_reading(pair.hsi, pair.msi),
        threads=threads,
    )
    if compared.harmonization.curve is not None:
        result = _without_false_cloud(result, compared, (rows, cols))
    names = pair.spectra.msi_names
    first = (
        *_units(pair.hsi, pair.msi, compared),
        *_faults(pair.screening),
        *coarse_findings(None if compared.adjustment is None else compared.adjustment.coarse, names),
        *saturation_findings(compared.saturation, names),
        *geometry_findings(compared.geometry, names),
        *smile_findings(_smile(pair, compared)),
        *radiometry_findings(compared.harmonization),
    )
    if not first:
        return result
    return replace(result, verdict=(*first, *(f for f in result.verdict if f.code != "ok")))


def _without_false_cloud(result: CheckResult, compared: Comparison, window: tuple[slice, slice]) -> CheckResult:
    """Take back that pixels do not follow one relation, where they follow a curve."""
    simulated, degraded = (image[:, *window] for image in (compared.simulated, compared.degraded))
    valid = np.isfinite(simulated).all(axis=0) & np.isfinite(degraded).all(axis=0)
    straight = compared.harmonization.apply(degraded)
    level = np.nanmean(np.abs(simulated), axis=(1, 2), keepdims=True)
    visible = np.median(np.abs(straight[:, valid] - simulated[:, valid]) / level[:, :, 0], axis=0) > VISIBLE
    outliers = outlier_pixels(simulated, straight, CURVED_SIGMA)[valid] & visible
    if outliers.sum() >= FOREIGN_FRACTION * valid.sum():
        return result
    kept = tuple(finding for finding in result.verdict if finding.code != "cloud-or-change")
    return replace(result, verdict=kept)


def _faults(screening: Screening) -> list[Finding]:
    """Return the faults of the HSI as findings; what was set right or left out is settled."""
    return [Finding(fault.code, fault.text, settled=fault.action != "told") for fault in screening.faults]


def _units(hsi: xr.DataArray, msi: xr.DataArray, compared: Comparison) -> list[Finding]:
    """Tell which units were not what a file says, and whether the two images hold different quantities."""
    notes = [note for cube in (hsi, msi) for note in cube.attrs.get("warnings", []) if isinstance(note, UnitsNote)]
    findings = [Finding("units", str(note), settled=True) for note in notes]
    quantities = [cube.attrs.get("quantity", "unknown") for cube in (hsi, msi)]
    if "unknown" not in quantities and quantities[0] != quantities[1]:
        fitted = not compared.harmonization.is_identity
        text = f"the HSI holds {quantities[0]}, the MSI {quantities[1]}; the product holds {quantities[0]}, and "
        text += "the MSI is fitted to the HSI" if fitted else "nothing fits the MSI to the HSI"
        findings.append(Finding("units", text, "" if fitted else "--harmonize gain", settled=fitted))
    return findings


def _smile(pair: ScenePair, compared: Comparison) -> Smile | None:
    """Look for a smile of the HSI in whole lines of the middle of the scene."""
    overlap, (height, width) = compared.overlay, compared.simulated.shape[1:]
    kept = min(height, max(STRIPS, SMILE_PX // width))
    rows = slice((height - kept) // 2, (height - kept) // 2 + kept)
    there = slice(overlap.rows.start + rows.start, overlap.rows.start + rows.stop)
    spectra = window_values(pair.hsi.data, there, overlap.cols)[pair.learned_bands]
    centres = np.asarray(pair.spectra.bands.wavelength_nm[list(pair.spectra.good)], np.float64)
    slopes = apply_srf(spectra, derivative_weights(pair.spectra.weights, centres))
    return find_smile(compared.simulated[:, rows], compared.degraded[:, rows], slopes)


def _central(shape: tuple[int, ...]) -> tuple[slice, slice]:
    height, width = shape
    shrink = min(1.0, float(np.sqrt(MAX_CHECKED_PX / (height * width))))
    kept = [max(1, int(size * shrink)) for size in (height, width)]
    first = [(size - part) // 2 for size, part in zip((height, width), kept, strict=True)]
    return slice(first[0], first[0] + kept[0]), slice(first[1], first[1] + kept[1])


def simulate_candidates(pair: ScenePair, window: tuple[slice, slice]) -> dict[str, Candidate]:
    """Simulate what other sensors with a product of as many bands would have seen, and all bands of the named one."""
    spectra = pair.spectra
    centres, widths = spectra.bands.wavelength_nm[list(spectra.good)], spectra.bands.fwhm_nm[list(spectra.good)]
    values = window_values(pair.hsi.data, *window)[pair.learned_bands]
    weighed: dict[str, SrfWeights] = {}
    for sensor in list_sensors():
        response = SpectralResponse.from_library(sensor)
        own = sensor == spectra.sensor
        count = len(spectra.msi_names)
        if not own and (count not in response.orders or count < FEWEST_CANDIDATE_BANDS):
            continue
        names = response.band_names if own else response.order_for(count)
        try:
            weights = response.select(names).weights(centres, widths)
        except GeoliftError:
            continue  # this HSI cannot see that sensor's bands
        if not own and len(weights.band_names) < count:
            continue
        weighed[sensor] = weights
    if not weighed:
        return {}
    twins, ends = twins_of(spectra.sensor), np.cumsum([len(weights.band_names) for weights in weighed.values()])
    images = np.split(apply_srf(values, np.concatenate([weights.weights for weights in weighed.values()])), ends[:-1])
    return {
        sensor: Candidate(weights.band_names, simulated, sensor in twins)
        for (sensor, weights), simulated in zip(weighed.items(), images, strict=True)
    }


def _reading(hsi: xr.DataArray, msi: xr.DataArray) -> Reading:
    def number(cube: xr.DataArray, key: str, neutral: float) -> float:
        value = cube.attrs.get(key, neutral)
        return float(value) if isinstance(value, int | float) else neutral

    return Reading(
        msi_scale=number(msi, "scale", 1.0),
        msi_offset=number(msi, "offset", 0.0),
        hsi_scale=number(hsi, "scale", 1.0),
        hsi_offset=number(hsi, "offset", 0.0),
        sensor_known=msi.attrs.get("sensor") is not None,
        # A band description is somebody's word; only a product's own metadata settles which band is which.
        bands_known=msi.attrs.get("product") is not None,
        reflectance=hsi.attrs.get("quantity") == REFLECTANCE,
        msi_bytes=msi.attrs.get("dtype") in ("uint8", "int8"),
    )


class FindingDocument(TypedDict):
    """A finding as JSON has it."""

    code: str
    message: str
    option: str
    settled: bool


class CheckDocument(TypedDict):
    """What `geolift check --json` prints, whatever was found."""

    verdict: list[FindingDocument]
    bands: list[dict[str, str | float]]
    pixels: int
    outlier_fraction: float


def document(result: CheckResult) -> CheckDocument:
    """Return the stable document of `geolift check --json`."""
    return {
        "verdict": [cast(FindingDocument, asdict(finding)) for finding in result.verdict],
        "bands": [asdict(band) for band in result.bands],
        "pixels": result.n_pixels,
        "outlier_fraction": result.outlier_fraction,
    }


def sentence(finding: Finding) -> str:
    """Return a finding as one line."""
    return f"{finding.code}: {finding.message}" + (f" [{finding.option}]" if finding.option else "")


def lines(document: CheckDocument) -> list[str]:
    """Return the document as a person reads it: what is wrong, or that nothing is; then what cannot be told."""
    wrong = [f for f in document["verdict"] if f["code"] not in ("ok", "undetermined")]
    text = [f"{f['code']}: {f['message']}" + (f"\n  add: {f['option']}" if f["option"] else "") for f in wrong]
    if all(f["settled"] for f in wrong):
        nothing = "nothing found that needs a hand" if wrong else "nothing wrong found"
        text.insert(0, nothing if document["pixels"] else "nothing could be compared")
    text += [f["message"] for f in document["verdict"] if f["code"] == "ok"]
    open_questions = [f for f in document["verdict"] if f["code"] == "undetermined"]
    if open_questions:
        told = [f["message"] + (f" ({f['option']})" if f["option"] else "") for f in open_questions]
        text.append(f"what the images cannot tell: {'; '.join(told)}")
    if document["bands"]:
        text.append(f"{'band':12} {'slope':>9} {'intercept':>10} {'r':>7}  best match")
    text += [
        f"{b['name']:12} {b['slope']:9.4f} {b['intercept']:10.4f} {b['r']:7.4f}  {b['best_match']}"
        for b in document["bands"]
    ]
    return text


def enforce(result: CheckResult) -> None:
    """Raise TrustError if anything was found that needs a hand."""
    if result.alarms:
        raise TrustError(
            "the cross-sensor check found: "
            + "; ".join(sentence(f) for f in result.alarms)
            + ". Mend it as said, or leave out --strict to be warned only."
        )
