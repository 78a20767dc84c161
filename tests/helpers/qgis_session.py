"""Runs inside QGIS's own Python: geolift's algorithms as a user of PyQGIS meets them; prints what happened as JSON.

The test starts it with a folder that holds hsi.tif, msi.tif, a model, and a large pair.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from qgis.core import QgsApplication, QgsProcessingContext, QgsProcessingFeedback, QgsProject, QgsRasterLayer

FOLDER = Path(sys.argv[1])
PLUGINS = Path(os.environ["QGIS_CUSTOM_CONFIG_PATH"]) / "profiles" / "default" / "python" / "plugins"


class Feedback(QgsProcessingFeedback):
    """Remembers what it hears, and cancels at a stage."""

    def __init__(self, cancel_at: str = "") -> None:
        super().__init__(False)
        self.cancel_at = cancel_at
        self.heard: dict[str, list[Any]] = {"errors": [], "warnings": [], "stages": [], "info": []}
        self.shares: list[float] = []
        self.progressChanged.connect(self.shares.append)

    def reportError(self, error: str, fatalError: bool = False) -> None:
        self.heard["errors"].append(error)

    def pushWarning(self, warning: str) -> None:
        self.heard["warnings"].append(warning)

    def pushInfo(self, info: str) -> None:
        self.heard["info"].append(info)

    def setProgressText(self, text: str) -> None:
        self.heard["stages"].append(text)
        if text == self.cancel_at:
            self.cancel()


def run(name: str, cancel_at: str = "", load: bool = False, **parameters: Any) -> dict[str, Any]:
    context, feedback = QgsProcessingContext(), Feedback(cancel_at)
    context.setProject(QgsProject.instance())
    if load:
        details = QgsProcessingContext.LayerDetails("Fused", QgsProject.instance(), "OUTPUT")
        context.addLayerToLoadOnCompletion(parameters["OUTPUT"], details)
    algorithm = QgsApplication.processingRegistry().createAlgorithmById(f"geolift:{name}")
    usable, why = algorithm.checkParameterValues(parameters, context)
    results, ok = algorithm.run(parameters, context, feedback) if usable else ({}, False)
    told = {**feedback.heard, "ok": ok, "results": results, "why": why, "shares": feedback.shares}
    if load:
        details = context.layersToLoadOnCompletion()[parameters["OUTPUT"]]
        # Processing loads a result without the style beside it, then calls the post-processor.
        bare = QgsRasterLayer.LayerOptions(loadDefaultStyle=False)
        layer = QgsRasterLayer(parameters["OUTPUT"], details.name, "gdal", bare)
        details.postProcessor().postProcessLayer(layer, context, feedback)
        drawn = layer.renderer()
        left = Path(parameters["OUTPUT"] + ".aux.xml").exists()
        told["layer"] = {
            "left": left,
            "name": details.name,
            "bands": [drawn.redBand(), drawn.greenBand(), drawn.blueBand()],
        }
    return told


def opened(path: Path) -> dict[str, Any]:
    """What a user sees who drags the file into QGIS."""
    drawn = QgsRasterLayer(str(path), "dragged").renderer()
    red = drawn.redContrastEnhancement()
    return {
        "bands": [drawn.redBand(), drawn.greenBand(), drawn.blueBand()],
        "red": [red.minimumValue(), red.maximumValue()],
    }


def main() -> None:
    application = QgsApplication([], False)
    application.initQgis()
    sys.path[:0] = [str(PLUGINS), "/usr/share/qgis/python/plugins"]
    from processing.core.Processing import Processing

    Processing.initialize()
    import geolift  # the plugin: QGIS's Python does not know the package

    plugin = geolift.classFactory(None)
    plugin.initProcessing()
    # What a QGIS on another system may set for itself; geolift's own process must not meet it.
    os.environ.update(PYTHONHOME="/nowhere", PYTHONPATH="/nowhere", PROJ_LIB="/nowhere", GDAL_DATA="/nowhere")
    pair = {"HSI": str(FOLDER / "hsi.tif"), "MSI": str(FOLDER / "msi.tif"), "SENSOR": "sentinel-2a"}
    layer = QgsRasterLayer(pair["MSI"], "a layer of the project")
    QgsProject.instance().addMapLayer(layer)
    model, out = str(FOLDER / "model.safetensors"), FOLDER / "out"
    told = {
        "apply": run("apply", MODEL=model, MSI=layer.id(), OUTPUT=str(out / "applied.tif"), load=True),
        "window": run(
            "apply", MODEL=model, MSI=pair["MSI"], OUTPUT=str(out / "w.img"), DTYPE="float32",
            BOUNDS="364095,364195,5809865,5809965 [EPSG:32633]",
        ),
        "evaluate": run(
            "evaluate", PRODUCT=str(out / "applied.tif"), REFERENCE=str(out / "applied.tif"),
            REQUIRE="sam<1; ssim>0.9", OUTPUT=str(out / "scores.json"),
        ),
        "gate": run("evaluate", PRODUCT=str(out / "applied.tif"), REFERENCE=str(out / "applied.tif"), REQUIRE="ssim>2"),
        "bands": run(
            "fuse", **{**pair, "MSI": str(FOLDER / "B02.tif")}, OUTPUT=str(out / "bands.tif"),
            MSI_FILES=[str(FOLDER / f"{name}.tif") for name in ("B03", "B04", "B08")],
        ),
        "check": run("check", **pair),
        "info": run("info", INPUT=pair["HSI"], OUTPUT=str(out / "info.json")),
        "failed": run("fuse", **{**pair, "HSI": pair["MSI"]}, OUTPUT=str(out / "failed.tif")),
        "missing": run("fuse", **{**pair, "HSI": str(FOLDER / "nowhere.tif")}, OUTPUT=str(out / "missing.tif")),
    }  # fmt: skip
    large = {
        "HSI": str(FOLDER / "large" / "hsi.tif"),
        "MSI": str(FOLDER / "large" / "msi.tif"),
        "SENSOR": "sentinel-2a",
    }
    (FOLDER / "cancelled").mkdir()
    told["cancelled"] = run("fuse", cancel_at="Training", **large, OUTPUT=str(FOLDER / "cancelled" / "c.tif"))
    told["opened"] = opened(out / "bands.tif")
    plugin.unload()
    print(json.dumps(told))
    sys.stdout.flush()
    # QGIS 3.22 may crash while Python takes it apart; all has been said.
    os._exit(0)


main()
