"""What a fusion found, as the plain types of its sidecar."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geolift.pair.checks import crosscheck

if TYPE_CHECKING:
    from geolift.pipeline.fusion import Fusion


def fusion_facts(fusion: Fusion) -> dict[str, object]:
    """Return plan, comparison, refinement, calibration and check of a fusion."""
    facts: dict[str, object] = {
        "plan": fusion.plan.to_json(),
        "pixels_without_hsi": fusion.pixels_without_hsi,
        "warnings": list(fusion.warnings),
    }
    if fusion.compared is not None:
        facts["coregistration"] = fusion.compared.shift_json()
        facts["harmonization"] = fusion.compared.harmonization_json()
    if fusion.refined is not None:
        facts["refinement"] = fusion.refined.to_json()
    if fusion.errors is not None:
        facts["uncertainty"] = {
            "median_sigma": float(np.median(fusion.errors.typical)),
            "sharpening": fusion.errors.sharpening,
            "held_out_pixels": fusion.errors.held_out,
            "refined_share": fusion.errors.refined_share,
            "needed_one_level_down": fusion.errors.needed,
        }
    if fusion.information is not None:
        facts["information"] = {
            "wavelength_nm": fusion.trained.facts.hsi.wavelength_nm,
            "explained": fusion.trained.in_places(fusion.information.explained),
            "bits": fusion.trained.in_places(fusion.information.bits),
            "held_out_pixels": fusion.information.held_out,
        }
    facts["screening"] = fusion.screening.to_json()
    facts["fault_maps"] = [found.to_json() for found in fusion.fault_maps]
    if fusion.check is not None:
        facts["check"] = crosscheck.document(fusion.check)
    return facts
