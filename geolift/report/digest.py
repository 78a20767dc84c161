"""The run in short: the few facts that a reader wants first, each with what it means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from geolift.report import words
from geolift.report.agreements import Agreements
from geolift.report.evidence import Legend

FAR_FROM_MSI = 0.05
"""A larger difference from the MSI, in parts of its mean, asks for a look."""


@dataclass(frozen=True)
class Fact:
    """A figure or a verdict: what about, what, what it means, and whether it asks for a look."""

    subject: str
    outcome: str
    meaning: str
    alarming: bool = False


def digest(
    findings: dict[str, Any] | None,
    coregistration: dict[str, Any] | None,
    agreements: Agreements | None,
    legend: Sequence[Legend],
) -> list[Fact]:
    """Return the run in short; what was not measured is left out."""
    return [
        *_verdict(findings),
        *_shift(coregistration),
        *_agreement(agreements),
        *_trusted(legend),
    ]


def _verdict(findings: dict[str, Any] | None) -> list[Fact]:
    if not findings or not findings["verdict"]:
        return []
    alarming = [found["title"] for found in findings["verdict"] if found["alarming"]]
    settled = [found["title"] for found in findings["verdict"] if found.get("settled")]
    if alarming:
        return [Fact("The pair", alarming[0], "See the cross-sensor check.", alarming=True)]
    if settled:
        return [Fact("The pair", "Fits, after correction", f"{settled[0]}: settled when it was read.")]
    return [Fact("The pair", words.VERDICTS["ok"], "Scale, offset, band order, place and time fit.")]


def _shift(told: dict[str, Any] | None) -> list[Fact]:
    if told is None:
        return []
    weak = not told.get("reliable", True)
    meaning = "The evidence is weak." if weak else "In pixels of the MSI."
    return [Fact("Shift of the HSI", words.shift(told), meaning, alarming=weak)]


def _agreement(found: Agreements | None) -> list[Fact]:
    facts = []
    if found is not None and found.msi is not None and found.msi.n_pixels:
        share = found.msi.rmse / float(found.msi.mean_per_band.mean())
        meaning = "Usual difference (RMSE) in parts of the mean; about 1 % is good."
        facts.append(Fact("Against the MSI", words.percent(share), meaning, alarming=share > FAR_FROM_MSI))
    if found is not None and found.hsi is not None and found.hsi.n_pixels:
        angle = f"{words.number(found.hsi.sam_deg, 2)}°"
        facts.append(Fact("Against the HSI", angle, "Mean angle between the spectra of product and HSI."))
    return facts


def _trusted(legend: Sequence[Legend]) -> list[Fact]:
    if not legend:
        return []
    return [Fact("Pixels without a mark", words.percent(legend[0].share), "The map below shows the others.")]
