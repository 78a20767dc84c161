# SPDX-License-Identifier: GPL-2.0-or-later
# mypy: disable-error-code="import-not-found,import-untyped,misc,no-untyped-call"
"""How a product looks when QGIS loads it: a telling name, and red, green, blue by wavelength."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsContrastEnhancement,
    QgsMultiBandColorRenderer,
    QgsProcessingLayerPostProcessorInterface,
    QgsRasterMinMaxOrigin,
)

# Centres of red, green and blue in nm.
RGB_NM = (660.0, 560.0, 480.0)
FARTHEST_NM = 60.0
# QGIS keeps a pointer to a layer's post-processor, Python must keep the object.
_kept: list[Any] = []


class Colours(QgsProcessingLayerPostProcessorInterface):
    """Sets the bands that are drawn."""

    def __init__(self, bands: tuple[int, int, int]) -> None:
        super().__init__()
        self.bands = bands

    def postProcessLayer(self, layer: Any, context: Any, feedback: Any) -> None:
        """Draw the layer in natural colours, stretched between its 2 and 98 percentiles."""
        layer.setRenderer(QgsMultiBandColorRenderer(layer.dataProvider(), *self.bands))
        layer.setContrastEnhancement(
            QgsContrastEnhancement.StretchToMinimumMaximum, QgsRasterMinMaxOrigin.CumulativeCut
        )
        layer.triggerRepaint()


def prepare_layer(context: Any, path: str, name: str) -> None:
    """Tell QGIS how to name and draw a product, if it is going to load it."""
    if not context.willLoadLayerOnCompletion(path):
        return
    details = context.layerToLoadOnCompletionDetails(path)
    details.name = name
    bands = natural_bands(Path(path).with_suffix(".json"))
    if bands:
        _kept.append(Colours(bands))
        details.setPostProcessor(_kept[-1])


def natural_bands(sidecar: Path) -> tuple[int, int, int] | None:
    """Return the 1-based good bands nearest to red, green and blue; None if one is not covered."""
    try:
        described = json.loads(sidecar.read_text(encoding="utf-8"))["assets"]["data"]["eo:bands"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    centres = [
        (1000 * band["center_wavelength"], number)
        for number, band in enumerate(described, start=1)
        if "center_wavelength" in band and band.get("geolift:good", True)
    ]
    chosen = []
    for wanted in RGB_NM:
        centre, number = min(centres, key=lambda band: abs(band[0] - wanted), default=(1e9, 0))
        if abs(centre - wanted) > FARTHEST_NM:
            return None
        chosen.append(number)
    return chosen[0], chosen[1], chosen[2]
