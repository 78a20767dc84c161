"""What real pairs do, as a table: what was looked for, whether it was found, what it costs, what was done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from geolift.report import words
from geolift.report.verdict import Finding

EFFECTS = {
    "offset": "every spectrum is too bright or too dark by a constant",
    "scale": "every spectrum is too large or too small by a factor",
    "units": "radiance stands where reflectance is expected, or the other way round",
    "band-order": "spectra are made from the wrong bands and look plausible",
    "sensor": "the spectral response is another one's: errors at steep parts of the spectra",
    "shift": "borders carry the spectra of their neighbours",
    "cloud-or-change": "what was clouded or has changed spoils what is learned",
    "bad-values": "a band or a pixel is lost, or spoils its neighbours",
    "stripes": "columns show through every band of the product",
    "noisy-bands": "these bands show noise as if it were ground",
    "keystone": "spectra at borders mix what lies side by side",
    "resampled": "detail that is not there, errors that are too small",
    "band-shift": "coloured fringes along every border",
    "local-shift": "borders carry the spectra of their neighbours in parts of the scene",
    "non-linear": "dark and bright ground come out too dark or too bright",
    "haze": "part of the scene is too bright",
    "saturation": "the brightest ground is guessed",
    "no-gain": "the HSI, interpolated, is as good",
}
"""What each fault does to a product that nobody checked."""

ALWAYS = ("offset", "scale", "units", "band-order", "sensor", "shift", "cloud-or-change")
"""What the cross-sensor check always looks for; what the options let it look for is told where it was found."""


@dataclass(frozen=True)
class Nuisance:
    """One line of the table: ``state`` is "not found", "settled" or "found"."""

    title: str
    state: str
    message: str
    effect: str
    option: str = ""

    @property
    def alarming(self) -> bool:
        """Whether it asks for a look."""
        return self.state == "found"


def nuisances(findings: Sequence[Finding] | None) -> list[Nuisance]:
    """Return what the check looked for, in its order, then what else it found.

    Parameters
    ----------
    findings
        As `geolift.report.verdict.findings_of` gives them; None where no check was made.
    """
    if findings is None:
        return []
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.code not in words.HARMLESS:
            found.setdefault(finding.code, []).append(finding)
    lines = []
    for code in dict.fromkeys([*ALWAYS, *found]):
        title, effect = words.VERDICTS.get(code, code.replace("-", " ")), EFFECTS.get(code, "")
        lines += [
            Nuisance(
                title,
                "found" if finding.alarming else "settled",
                words.sentence(finding.message),
                effect,
                finding.option if finding.alarming else "",
            )
            for finding in found.get(code, [])
        ] or [Nuisance(title, "not found", "", effect)]
    return lines
