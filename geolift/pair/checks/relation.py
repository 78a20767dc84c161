"""What geometry and radiometry of a pair have beyond one shift and one line, as findings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from geolift.pair.checks.pair import Finding
from geolift.pair.coarse_bands import CoarseBands
from geolift.pair.geometry import Geometry
from geolift.pair.harmonization import Harmonization
from geolift.pair.saturation import Saturation
from geolift.pair.smile import Smile

MOST_NAMED = 4
"""Bands named in one sentence."""

TOLD_APART_PX, TOLD_WANDERING_PX, TOLD_VARIATION = 0.1, 0.1, 0.02
"""Less is set right without a word."""

LINES_REACH_LR = 1.0
"""A neighbourhood narrower than this along one axis is a line or a column."""


def coarse_findings(coarse: CoarseBands | None, names: Sequence[str]) -> list[Finding]:
    """Bands of the MSI that are coarser than their pixels; they are sharpened."""
    if coarse is None:
        return []
    fine = ", ".join(name for name, grid in zip(names, coarse.grids, strict=True) if grid is None)
    listed: dict[str, list[str]] = {}
    for name, grid in zip(names, coarse.grids, strict=True):
        if grid is not None:
            how = {"repeated": "repeated", "blurred": "smoothed"}.get(grid.kind, f"interpolated ({grid.kind})")
            listed.setdefault(f"{grid.factor:g} times as coarse, {how}", []).append(name)
    what = "; ".join(f"{', '.join(bands)} {how}" for how, bands in listed.items())
    text = f"bands of the MSI are coarser than its pixels: {what}; what detail {fine} tell of them is added before "
    return [Finding("resampled", f"{text}anything else, the rest counts as noise", settled=True)]


def geometry_findings(geometry: Geometry | None, names: Sequence[str]) -> list[Finding]:
    """Bands that lie apart, and a shift that wanders; both are set right."""
    if geometry is None:
        return []
    found = []
    shifts = geometry.band_shifts_px
    if shifts is not None and np.hypot(*shifts.T).max() > TOLD_APART_PX:
        size = np.hypot(*shifts.T)
        worst = [int(band) for band in np.argsort(-size)[:MOST_NAMED] if size[band] > TOLD_APART_PX]
        listed = ", ".join(
            f"{names[band]} by {shifts[band, 0]:+.2f} down {shifts[band, 1]:+.2f} right" for band in worst
        )
        text = (
            f"bands of the MSI lie apart, in MSI pixels: {listed}; they are moved onto each other before anything else"
        )
        found.append(Finding("band-shift", f"{text}; --coregister off leaves them", settled=True))
    if geometry.wandering is not None and geometry.wandering.rms_px > TOLD_WANDERING_PX:
        wandering = geometry.wandering
        down, across = wandering.reach_lr
        cause = "terrain, attitude or a rotation"
        if min(down, across) < LINES_REACH_LR:
            cause = "lines that jitter" if down < across else "columns that jitter"
        text = (
            f"the shift wanders over the scene by {wandering.rms_px:.2f} MSI pixels (RMS, up to "
            f"{wandering.largest_px:.1f}), as by {cause}; it is followed where refinement holds the product against "
            "the HSI, and the product stays on the MSI's grid; --coregister DY,DX takes one shift for all"
        )
        found.append(Finding("local-shift", text, settled=True))
    if geometry.keystone is not None:
        keystone = geometry.keystone
        where = ("down", "right")[keystone.axis]
        text = (
            f"bands of the HSI lie apart (keystone): the one at {keystone.last_nm:.0f} nm lies {keystone.span_lr:+.2f} "
            f"HSI pixels {where} of the one at {keystone.first_nm:.0f} nm, seen from the MSI, whose own bands agree; "
            "they are left as they are: spectra at borders mix their sides; ask for a product of the HSI with its "
            "bands aligned"
        )
        found.append(Finding("keystone", text, settled=True))
    return found


def smile_findings(smile: Smile | None) -> list[Finding]:
    """Centre wavelengths of the HSI that differ across the track."""
    if smile is None:
        return []
    text = (
        "the HSI's centre wavelengths differ across its columns (smile): those of the outermost lie about "
        f"{smile.curvature_nm:+.1f} nm from the middle one's, seen from the MSI; they are left as they are; ask for a "
        "product of the HSI that is corrected for smile"
    )
    return [Finding("smile", text, settled=True)]


def radiometry_findings(relation: Harmonization) -> list[Finding]:
    """A relation that is no line, and one that varies over the scene; both are followed."""
    found = []
    if relation.curve is not None:
        what = "a power (gamma)" if relation.curve.name == "power" else "a curve"
        text = f"the MSI's values follow those simulated from the HSI by {what}, not by a line; it is undone"
        found.append(Finding("non-linear", f"{text}; --harmonize affine keeps to a line", settled=True))
    if relation.local is not None and relation.local.size > TOLD_VARIATION:
        cause = "shading" if relation.local.variation.kind == "common-gain" else "haze, the view's angle or season"
        text = (
            f"the relation of the images varies over the scene by {relation.local.size:.0%} of the MSI's values (RMS "
            f"of the band that varies most), as by {cause}; it is followed"
        )
        found.append(Finding("haze", f"{text}; --harmonize affine takes one relation for all", settled=True))
    return found


def saturation_findings(saturation: Saturation | None, names: Sequence[str]) -> list[Finding]:
    """Bands of the MSI that end at one largest value."""
    if saturation is None or not saturation.found:
        return []
    bands = [int(b) for b in np.argsort(-saturation.share) if np.isfinite(saturation.level[b])]
    listed = ", ".join(f"{names[b]} {saturation.share[b]:.1%} at {saturation.level[b]:.4g}" for b in bands[:MOST_NAMED])
    more = "" if len(bands) <= MOST_NAMED else f" and {len(bands) - MOST_NAMED} more bands"
    text = (
        f"the MSI is saturated: {listed}{more} hold their largest value; they take no part in any fit, and the product "
        "is not to be trusted there; give a mask of them, or an image with another gain"
    )
    return [Finding("saturation", text, "--mask FILE", settled=True)]
