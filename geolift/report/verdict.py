"""The run in one sentence for whoever has to decide: can it be used, for what, where not; and what speaks against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from geolift.report import words

Grade = Literal["usable", "with care", "look first"]

GUESSED = 0.5
"""Below this share of explained variance a band of the product shows what is usual, not what is there."""

ASSUMPTIONS = (" assumed", " is taken for ", " left out", " count as bad", "from the MSI's name", "by its name")
"""What marks a warning as something that was settled without asking, rather than something wrong."""

NEVER_COMPARED = "The two images could not be compared"


@dataclass(frozen=True)
class Verdict:
    """What to make of a run: its grade, the sentence, and its warnings, the heaviest first."""

    grade: Grade
    sentence: str
    warnings: tuple[str, ...]


def findings_of(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the cross-sensor check found, each with its title and whether it asks for a look.

    Parameters
    ----------
    facts
        The sidecar's ``geolift:…`` properties, the prefix taken off.
    """
    moved = bool((facts.get("coregistration") or {}).get("applied"))
    return [
        {
            **found,
            "title": words.VERDICTS.get(found["code"], found["code"]),
            "alarming": not (
                found["code"] in words.HARMLESS or found.get("settled") or (found["code"] == "shift" and moved)
            ),
        }
        for found in (facts.get("check") or {"verdict": []})["verdict"]
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


def verdict(facts: dict[str, Any]) -> Verdict:
    """Judge a run by what it recorded of itself.

    Parameters
    ----------
    facts
        The sidecar's ``geolift:…`` properties, the prefix taken off; of `apply` as well, which knows less.
    """
    alarms = [found for found in findings_of(facts) if found["alarming"]]
    warnings = by_weight(facts.get("warnings", []), [found["message"] for found in alarms])
    serious = [text for text in warnings if not any(mark in text for mark in ASSUMPTIONS)]
    compared = facts.get("check") is not None
    if alarms:
        what = ", ".join(dict.fromkeys(str(found["title"])[:1].lower() + str(found["title"])[1:] for found in alarms))
        return Verdict("look first", f"Do not use it before you have looked: {what}.", warnings)
    if not compared:
        why = NEVER_COMPARED if "hsi" in facts.get("inputs", {}) else "The model was not compared with this image"
        return Verdict("with care", f"{why}; use it where you know the ground.{_where_not(facts)}", warnings)
    if serious or not (facts.get("coregistration") or {}).get("reliable", True):
        text = f"Usable with care, for what the warnings leave untouched.{_where_not(facts)}"
        return Verdict("with care", text, warnings)
    return Verdict("usable", f"Usable: nothing wrong was found with this pair.{_where_not(facts)}", warnings)


def _where_not(facts: dict[str, Any]) -> str:
    """Say for which part of the spectrum the product is no measurement: a sentence after a space, or nothing."""
    told = facts.get("information")
    if not told:
        return ""
    share = np.asarray([np.nan if value is None else value for value in told["explained"]], np.float64)
    guessed = np.flatnonzero(share < GUESSED)
    if guessed.size == 0:
        return " The MSI's bands determine all of its bands well enough for maps and spectra."
    part = words.percent(guessed.size / np.isfinite(share).sum())
    centres = np.asarray(told["wavelength_nm"], np.float64)[guessed]
    return (
        f" Not for fine features between {centres.min():.0f} and {centres.max():.0f} nm: the MSI's bands determine "
        f"{part} of the HSI bands, there, by less than half."
    )
