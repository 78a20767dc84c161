# SPDX-License-Identifier: GPL-2.0-or-later
# mypy: disable-error-code="import-not-found,import-untyped,misc,no-untyped-call"
"""How a product looks when QGIS loads it: a telling name, and the colours that geolift wrote beside it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from qgis.core import QgsDataProvider, QgsProcessingLayerPostProcessorInterface

# QGIS keeps a pointer to a layer's post-processor, Python must keep the object.
_kept: list[Any] = []


class Colours(QgsProcessingLayerPostProcessorInterface):
    """Opens a result anew with the .qml beside it.

    Processing opens layers without their style. To draw one it then counts a histogram, which GDAL writes into
    FILE.aux.xml when the file is closed; opening anew closes it, so that nothing is left behind.
    """

    def __init__(self, beside: Path) -> None:
        super().__init__()
        self.beside = beside
        self.was_there = beside.exists()

    def postProcessLayer(self, layer: Any, context: Any, feedback: Any) -> None:
        """Draw the layer as its .qml says; as QGIS likes, where there is none."""
        layer.setDataSource(layer.source(), layer.name(), "gdal", QgsDataProvider.ProviderOptions(), True)
        if not self.was_there:
            with contextlib.suppress(OSError):
                self.beside.unlink()
        layer.triggerRepaint()


def prepare_layer(context: Any, path: str, name: str) -> None:
    """Tell QGIS how to name and draw a product, if it is going to load it."""
    if not context.willLoadLayerOnCompletion(path):
        return
    details = context.layerToLoadOnCompletionDetails(path)
    details.name = name
    _kept.append(Colours(Path(path + ".aux.xml")))
    details.setPostProcessor(_kept[-1])
