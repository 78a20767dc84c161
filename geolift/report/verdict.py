"""The run in one sentence for whoever has to decide: can it be used, for what, where not; and what speaks against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from geolift.provenance.record import ExplainedVarianceFacts, RunRecord
from geolift.report import words

Grade = Literal["usable", "with care", "look first"]

GUESSED = 0.5
"""Below this share of explained variance a band of the product shows what is usual, not what is there."""

ASSUMPTIONS = (" assumed", " is taken for ", " left out", " count as bad", "from the MSI's name", "by its name")
"""What marks a warning as something that was settled without asking, rather than something wrong."""

NEVER_COMPARED = "The two images could not be compared"


@dataclass(frozen=True)
class Verdict:
    """What to make of a run: its grade, the sentence, which begins with it, and its warnings, the heaviest first."""

    grade: Grade
    sentence: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A finding of the cross-sensor check, with its title and whether it asks for a look."""

    code: str
    message: str
    option: str = ""
    settled: bool = False
    alarming: bool

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return words.VERDICTS.get(self.code, self.code)


def findings_of(record: RunRecord) -> list[Finding] | None:
    """Return what the cross-sensor check found; None where there was none."""
    if record.check is None:
        return None
    moved = record.coregistration is not None and record.coregistration.applied
    return [
        Finding(
            code=found.code,
            message=found.message,
            option=found.option or "",
            settled=found.settled,
            alarming=not (found.code in words.HARMLESS or found.settled or (found.code == "shift" and moved)),
        )
        for found in record.check.verdict
    ]


def by_weight(texts: Sequence[str], alarms: Sequence[str] = ()) -> tuple[str, ...]:
    """Return warnings, each once: what the check found wrong, what else is wrong, what was assumed.

    ``alarms``: messages of the check's findings; a warning that repeats one stands for it.

    >>> by_weight(["msi.tif: 4 bands: B02 … assumed", "harmonisation left: too few", "scale: ×2"], ["×2"])
    ('scale: ×2', 'harmonisation left: too few', 'msi.tif: 4 bands: B02 … assumed')
    """

    def weight(text: str) -> int:
        if any(alarm in text for alarm in alarms):
            return 0
        return 2 if any(mark in text for mark in ASSUMPTIONS) else 1

    return tuple(sorted(dict.fromkeys(texts), key=weight))


def verdict(record: RunRecord) -> Verdict:
    """Judge a run by what it recorded of itself; `apply` knows less."""
    alarms = [found for found in findings_of(record) or () if found.alarming]
    warnings = by_weight(record.warnings, [found.message for found in alarms])
    serious = [text for text in warnings if not any(mark in text for mark in ASSUMPTIONS)]
    if alarms:
        what = ", ".join(dict.fromkeys(found.title[:1].lower() + found.title[1:] for found in alarms))
        return Verdict("look first", f"Look first: do not use it before you have seen to this: {what}.", warnings)
    not_for = _not_for(record)
    but = f", but not for {', nor for '.join(not_for)}" if not_for else ""
    if record.check is None:
        why = NEVER_COMPARED if "hsi" in record.inputs else "The model was not compared with this image"
        sentence = f"Usable with care for maps and spectra of ground that you know{but}. {why}."
        return Verdict("with care", sentence, warnings)
    if serious or (record.coregistration is not None and record.coregistration.reliable is False):
        sentence = f"Usable with care for maps and spectra of what the warnings leave untouched{but}."
        return Verdict("with care", sentence, warnings)
    sentence = f"Usable for maps and spectra{but}. Nothing wrong was found with this pair."
    return Verdict("usable", sentence, warnings)


def _not_for(record: RunRecord) -> list[str]:
    """Say what the product is no measurement of: which part of the spectrum, and which pixels."""
    parts = [] if record.information is None else _guessed(record.information)
    share = 0.0 if record.refinement is None else float(record.refinement.changed_share or 0.0)
    if share >= words.TOLD_SHARE:
        parts.append(
            f"detail finer than the HSI's in the {words.percent(share)} of its pixels where the MSI shows other ground "
            "(cloud, shadow or change)"
        )
    return parts


def _guessed(told: ExplainedVarianceFacts) -> list[str]:
    """Tell the bands that show what is usual rather than what is there; nothing where all are determined."""
    share = np.asarray(told.explained, np.float64)
    guessed = np.flatnonzero(share < GUESSED)
    if guessed.size == 0:
        return []
    centres = np.asarray(told.wavelength_nm, np.float64)[guessed]
    where = f"between {centres.min():.0f} and {centres.max():.0f} nm" if guessed.size > 1 else f"at {centres[0]:.0f} nm"
    part = words.percent(guessed.size / np.isfinite(share).sum())
    return [f"fine features {where}, where the MSI's bands determine {part} of the HSI bands by less than half"]
