"""The run in short: the few facts that a reader wants first, each with what it means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from geolift.provenance.record import CoregistrationFacts
from geolift.report import words
from geolift.report.agreements import Agreements
from geolift.report.evidence import Legend
from geolift.report.verdict import Finding

FAR_FROM_MSI, NEAR_MSI = 0.05, 0.01
"""A larger difference from the MSI, in parts of its mean, asks for a look; a smaller one is good."""

FAR_FROM_HSI_DEG, NEAR_HSI_DEG = 3.0, 1.0
"""The same for the angle between the spectra of product and HSI."""

WORSE = 3.0
"""Times the error of the others from which pixels out of range ask for a look."""

FEWEST_PIXELS = 5
"""HSI pixels below which an error is no measurement."""


@dataclass(frozen=True)
class Fact:
    """A figure or a verdict: what about, what, what it means, and whether it asks for a look."""

    subject: str
    outcome: str
    meaning: str
    alarming: bool = False


def digest(
    findings: Sequence[Finding] | None,
    coregistration: CoregistrationFacts | None,
    agreements: Agreements | None,
    legend: Sequence[Legend],
    usual_error: float | None = None,
) -> list[Fact]:
    """Return the run in short, each figure with its yardstick; what was not measured is left out.

    ``usual_error``: median standard error in parts of the mean value.
    """
    return [
        *_verdict(findings),
        *_shift(coregistration),
        *_agreement(agreements),
        *_error(usual_error),
        *_trusted(legend),
        *_extrapolated(agreements, legend),
    ]


def _verdict(findings: Sequence[Finding] | None) -> list[Fact]:
    if not findings:
        return []
    alarming = [found.title for found in findings if found.alarming]
    settled = [found.title for found in findings if found.settled]
    if alarming:
        return [Fact("The pair", alarming[0], "See the cross-sensor check.", alarming=True)]
    if settled:
        return [Fact("The pair", "Fits, after correction", f"{settled[0]}: settled when it was read.")]
    return [Fact("The pair", words.VERDICTS["ok"], "Scale, offset, band order, place and time fit.")]


def _shift(told: CoregistrationFacts | None) -> list[Fact]:
    if told is None:
        return []
    weak = told.reliable is False
    meaning = "The evidence is weak." if weak else "In MSI pixels; a rest below 0.1 does not show in the product."
    return [Fact("Shift of the HSI", words.shift(told), meaning, alarming=weak)]


def _agreement(found: Agreements | None) -> list[Fact]:
    facts = []
    if found is not None and found.msi is not None and found.msi.n_pixels:
        share = found.msi.rmse / float(found.msi.mean_per_band.mean())
        meaning = (
            f"Usual difference (RMSE) in parts of the mean: {words.percent(NEAR_MSI)} is good, above "
            f"{words.percent(FAR_FROM_MSI)} something is wrong."
        )
        facts.append(Fact("Against the MSI", words.percent(share), meaning, alarming=share > FAR_FROM_MSI))
    if found is not None and found.hsi is not None and found.hsi.n_pixels:
        angle = f"{words.number(found.hsi.sam_deg, 2)}°"
        meaning = (
            f"Mean angle between the spectra, the HSI's noise included: {NEAR_HSI_DEG:g}° is good, above "
            f"{FAR_FROM_HSI_DEG:g}° look at the curves."
        )
        facts.append(Fact("Against the HSI", angle, meaning, alarming=found.hsi.sam_deg > FAR_FROM_HSI_DEG))
    return facts


def _error(share: float | None) -> list[Fact]:
    if share is None:
        return []
    meaning = "Median standard error in parts of the mean: two values in three lie within it."
    return [Fact("Usual error of a value", f"± {words.percent(share)}", meaning)]


def _extrapolated(found: Agreements | None, legend: Sequence[Legend]) -> list[Fact]:
    """Say how many pixels lie beyond what was learned, and how much worse they are."""
    share = next((entry.share for entry in legend if entry.meaning.startswith("out of range")), 0.0)
    if not share:
        return []
    meaning = "Brighter or darker than anything learned; their error could not be measured."
    ratio = error_ratio(found)
    if ratio is not None:
        meaning = (
            "Brighter or darker than anything learned; against the HSI their error is "
            f"{words.times(ratio)} that of the others."
        )
    return [Fact("Pixels out of range", words.percent(share), meaning, alarming=ratio is not None and ratio > WORSE)]


def error_ratio(found: Agreements | None) -> float | None:
    """Return how many times larger the difference from the HSI is where the product extrapolates; None if unknown."""
    parts = (None, None) if found is None else (found.extrapolated, found.within)
    if parts[0] is None or parts[1] is None or min(part.n_pixels for part in parts if part is not None) < FEWEST_PIXELS:
        return None
    return parts[0].rmse / parts[1].rmse if parts[1].rmse > 0 else None


def _trusted(legend: Sequence[Legend]) -> list[Fact]:
    if not legend:
        return []
    return [Fact("Pixels without a mark", words.percent(legend[0].share), "The map below shows the others.")]
