"""Cloud, shadow and change that a run marks, or would, as a finding of the cross-sensor check."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from geolift.pair.checks import CheckResult, Finding
from geolift.pair.comparison import Comparison
from geolift.pair.fine_msi import telling_window
from geolift.pair.scene_pair import ScenePair
from geolift.pipeline.refining import changed_ground, fusion_pair

MARKED = "cloud-or-change"
"""Code of the finding."""

WINDOW_LR = 64
"""Edge of the window whose spectra tell the HSI's noise, in HSI pixels."""

NOT_ASKED = ("no-overlap", "other-place", "sensor", "band-order")
"""Findings after which nothing can be said of the ground."""


def with_marked(result: CheckResult, part: float) -> CheckResult:
    """Add to a check that a part of the fine pixels gives way to what the HSI shows; nothing where that is known."""
    if not part or any(finding.code == MARKED for finding in result.verdict):
        return result
    text = (
        f"at {max(part, 0.001):.1%} of the pixels the MSI does not show the ground that the HSI saw: clouds, shadow, "
        "or change between the two dates; the product shows there what the HSI does, no sharper than it, and --qa "
        "marks it as differing; what a mask hides is left out instead"
    )
    found = Finding(MARKED, text, "--mask FILE", settled=True)
    return replace(result, verdict=(*(f for f in result.verdict if f.code != "ok"), found))


def would_mark(pair: ScenePair, compared: Comparison, result: CheckResult) -> float:
    """Return the part of the fine pixels over which the pair was compared that `geolift fuse` would mark."""
    from geolift.training.methods.subspace import find_subspace

    if not compared.located or any(finding.code in NOT_ASKED for finding in result.verdict):
        return 0.0
    spectra = telling_window(pair, compared, WINDOW_LR)[0].reshape(len(pair.learned_bands), -1)
    spectra = spectra[:, np.isfinite(spectra).all(axis=0)].T
    if len(spectra) == 0:
        return 0.0
    images = fusion_pair(pair, compared.overlay, compared)
    change = changed_ground(images, compared, find_subspace(spectra), None, 1)
    return 0.0 if change is None else change.part
