"""What real pairs do, as a table: what was looked for, whether it was found, what it costs, what was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from geolift.provenance.record import RefinementFacts
from geolift.report import words
from geolift.report.images import Picture
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
    """One line of the table: ``state`` is "not found", "settled" or "found"; ``picture`` shows where it lies."""

    title: str
    state: str
    message: str
    effect: str
    option: str = ""
    picture: Picture | None = None

    @property
    def alarming(self) -> bool:
        """Whether it asks for a look."""
        return self.state == "found"


def nuisances(
    findings: Sequence[Finding] | None,
    refinement: RefinementFacts | None = None,
    pictures: Mapping[str, Sequence[Picture]] | None = None,
) -> list[Nuisance]:
    """Return what the check looked for, in its order, then what else it found.

    Parameters
    ----------
    findings
        As `geolift.report.verdict.findings_of` gives them; None where no check was made.
    refinement
        Which pixels it left out, if it looked for them.
    pictures
        Where the faults lie, by their codes.
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
        told = [
            Nuisance(
                title,
                "found" if finding.alarming else "settled",
                words.sentence(finding.message),
                effect,
                finding.option if finding.alarming else "",
            )
            for finding in found.get(code, [])
        ]
        if code == "cloud-or-change" and not told:
            told = _left_out(title, effect, refinement)
        shown = iter((pictures or {}).get(code, ()))
        told = [replace(line, picture=next(shown, None)) for line in told]
        lines += told or [Nuisance(title, "not found", "", effect)]
    return lines


def _left_out(title: str, effect: str, refinement: RefinementFacts | None) -> list[Nuisance]:
    """Tell of the few pixels at which the sensors differ, too few for a finding of the check."""
    if refinement is None:
        return []
    hidden, changed = (float(share or 0.0) for share in (refinement.differing_share, refinement.changed_share))
    parts = []
    if hidden >= words.TOLD_SHARE:
        parts.append(f"{words.percent(hidden)} of the HSI pixels do not fit the MSI and take no part in the refinement")
    if changed >= words.TOLD_SHARE:
        parts.append(f"{words.percent(changed)} of the pixels show what the HSI saw, no sharper than it")
    return [Nuisance(title, "settled", words.sentence("; ".join(parts)), effect)] if parts else []
