# SPDX-License-Identifier: GPL-2.0-or-later
# mypy: disable-error-code="import-not-found,import-untyped,misc,no-untyped-call"
"""The algorithms of the toolbox: each fills a command line from its form, runs it, and hands over the result."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from processing.core.ProcessingConfig import ProcessingConfig
from qgis.core import (
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingOutputNumber,
    QgsProcessingOutputString,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)
from qgis.PyQt.QtCore import QCoreApplication, QThread
from qgis.PyQt.QtGui import QIcon

from . import forms, runner
from .style import prepare_layer

# What share of the bar each stage takes, from and to; a stage that is not listed leaves the bar where it is.
STAGES = {
    "surveying": (0, 10),
    "reading": (0, 5),
    "comparing": (5, 10),
    "sampling": (10, 15),
    "training": (15, 40),
    "refining": (40, 50),
    "calibrating": (50, 52),
    "abundances": (50, 52),
    "uncertainty": (52, 65),
    "writing": (52, 99),
    "measuring": (10, 100),
    "spectra": (0, 100),
}
ENVI_SUFFIXES = (".img", ".dat", ".bsq")
HSI = ("HSI", "Hyperspectral image (HSI)", "The cube with the many bands: a raster, or the main file of a product.")
MSI = ("MSI", "Multispectral image (MSI)", "The image with the fine pixels. The result lies on its grid.")


class GeoliftAlgorithm(QgsProcessingAlgorithm):
    """What all of them share."""

    command = ""
    title = ""
    words = ""
    rasters: ClassVar[tuple[tuple[str, str, str], ...]] = ()
    basic: ClassVar[tuple[str, ...]] = ("sensor", "msi_bands")
    target = ""

    def __init__(self) -> None:
        super().__init__()
        self.facts = forms.installed()
        self.about = self.facts["commands"].get(self.command, {"help": "", "options": []})

    # -- what QGIS asks of every algorithm; the names are its own

    def createInstance(self) -> Any:
        """Return a fresh one."""
        return type(self)()

    def name(self) -> str:
        """Return the part behind the colon in geolift:fuse."""
        return self.command

    def displayName(self) -> str:
        """Return what the toolbox shows."""
        return self.title

    def icon(self) -> Any:
        """Return the toolbox's picture."""
        return QIcon(str(Path(__file__).parent / "icon.svg"))

    def shortHelpString(self) -> str:
        """Return the text beside the form."""
        return self.about["help"] or f"{self.title}. {runner.NOT_FOUND}"

    def tags(self) -> list[str]:
        """Return what people search for."""
        return self.words.split()

    def initAlgorithm(self, config: Any = None) -> None:
        """Build the form."""
        for name, label, text in self.rasters:
            field = QgsProcessingParameterRasterLayer(name, label)
            field.setHelp(text)
            self.addParameter(field)
        self.add_own()
        options = self.about["options"]
        for option in options:
            if option["name"] in self.basic:
                self.addParameter(forms.parameter(option, advanced=False))
        # Outputs stand below all else in the form: the main one first.
        self.add_output()
        for option in options:
            if option["name"] not in self.basic:
                self.addParameter(forms.parameter(option, advanced=True))

    def checkParameterValues(self, parameters: Mapping[str, object], context: Any) -> tuple[bool, str]:
        """Accept a file that QGIS cannot draw: geolift reads products that are no single raster to GDAL."""
        files = {name for name in (*(field[0] for field in self.rasters), "PLACES") if is_file(parameters.get(name))}
        for field in self.parameterDefinitions():
            if field.name() not in files and not field.checkValueIsAcceptable(parameters.get(field.name()), context):
                return False, f"{field.description()}: the value cannot be used"
        return True, ""

    def processAlgorithm(self, parameters: Mapping[str, object], context: Any, feedback: Any) -> dict[str, object]:
        """Run geolift."""
        words = [self.command, *(self._source(name, parameters, context) for name, _, _ in self.rasters)]
        words += self.own_words(parameters, context)
        for option in self.about["options"]:
            words += forms.flags(option, self, parameters, context)
        words = _one_response(words)
        words += self.output_words(parameters, context, words)
        self.spoken_words = words
        result = self._run(words, feedback)
        return self.outcome(result, parameters, context)

    # -- what the five fill in

    def add_own(self) -> None:
        """Add fields that are no options of the command."""

    def add_output(self) -> None:
        """Add the output's field."""
        label, kinds = "Result as JSON", "JSON files (*.json)"
        self.addParameter(QgsProcessingParameterFileDestination("OUTPUT", label, kinds, None, True, False))

    def own_words(self, parameters: Mapping[str, object], context: Any) -> list[str]:
        """Return the words of the fields that are no options."""
        return []

    def output_words(self, parameters: Mapping[str, object], context: Any, words: list[str]) -> list[str]:
        """Return the words that name the output."""
        return []

    def outcome(self, result: Any, parameters: Mapping[str, object], context: Any) -> dict[str, object]:
        """Write the result where the form says; return what QGIS shows and hands on."""
        target = self.parameterAsFileOutput(parameters, "OUTPUT", context)
        if not target:
            return {}
        Path(target).write_text(json.dumps(result.document, indent=2), encoding="utf-8")
        return {"OUTPUT": target}

    # -- the work

    def require_output(self) -> None:
        """Refuse to hand over what is not there."""
        if not Path(self.target).exists():
            raise QgsProcessingException(f"{self.target}: geolift said it was done, but the file is not there.")

    def _source(self, name: str, parameters: Mapping[str, object], context: Any) -> str:
        """Return the file behind a field: a path as it was typed, or a layer's."""
        if is_file(parameters.get(name)):
            return str(parameters[name])
        layer = self.parameterAsRasterLayer(parameters, name, context)
        if layer is None:
            raise QgsProcessingException(self.invalidRasterError(parameters, name))
        if layer.providerType() != "gdal":
            raise QgsProcessingException(
                f"{layer.name()} comes from {layer.providerType()}; geolift needs a raster in a file."
            )
        return str(layer.source())

    def _run(self, words: list[str], feedback: Any) -> Any:
        environment = runner.child_environment(os.environ)
        setting = ProcessingConfig.getSetting(forms.EXECUTABLE_SETTING) or ""
        try:
            start = runner.find(str(setting), self.facts["command"], environment)
            feedback.pushCommandInfo(runner.spoken(["geolift", *words]))
            # Under `qgis run` the command ends when QGIS does, or when its stdin is closed to cancel it.
            command = [*start, "qgis", "run", *words, "--progress", "json"]
            result = runner.run(command, environment, _Listener(feedback), lambda: _cancelled(feedback))
        except runner.RunError as failure:
            raise QgsProcessingException(str(failure)) from failure
        except runner.Cancelled:
            raise QgsProcessingException("Cancelled; nothing was written.") from None
        if result.text:
            feedback.pushInfo(result.text)
        feedback.setProgress(100)
        return result


class _Listener:
    """Turns geolift's events into QGIS's bar and log."""

    def __init__(self, feedback: Any) -> None:
        self.feedback = feedback
        self.stage = ""
        self.reached = 0.0

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "warning":
            self.feedback.pushWarning(str(event.get("message", "")))
        elif event["event"] == "summary":
            self.feedback.pushInfo("\n".join(map(str, event.get("lines", []))))
        elif event["event"] == "progress":
            stage = str(event.get("stage", ""))
            if stage != self.stage:
                self.stage = stage
                self.feedback.setProgressText(stage.capitalize())
            if stage in STAGES:
                low, high = STAGES[stage]
                self.reached = max(self.reached, low + (high - low) * float(event.get("pct", 0)) / 100)
                self.feedback.setProgress(self.reached)


def _cancelled(feedback: Any) -> bool:
    application = QCoreApplication.instance()
    # Called from the main thread (a script), the button's click is seen only if events are let in.
    if application is not None and QThread.currentThread() == application.thread():
        application.processEvents()
    return bool(feedback.isCanceled())


def is_file(value: Any) -> bool:
    """Tell whether a field holds the path of a file, not a layer."""
    return isinstance(value, str) and Path(value).exists()


def _one_response(words: list[str]) -> list[str]:
    """Leave out the drop-down's sensor where an own response is given."""
    own = any(word.startswith("--srf=") for word in words)
    return [word for word in words if not (own and word.startswith("--sensor="))]


class _Producer(GeoliftAlgorithm):
    """An algorithm whose result is a raster."""

    def add_output(self) -> None:
        """Add the output's field."""
        self.addParameter(QgsProcessingParameterRasterDestination("OUTPUT", "Fused"))

    def output_words(self, parameters: Mapping[str, object], context: Any, words: list[str]) -> list[str]:
        """Name the output; its suffix tells the format unless the form does."""
        self.target = self.parameterAsOutputLayer(parameters, "OUTPUT", context)
        told = any(word.startswith("--of=") for word in words)
        envi = Path(self.target).suffix.lower() in ENVI_SUFFIXES and not told
        # QGIS has asked before it names a file that exists.
        return [f"--output={self.target}", "--overwrite", *(["--of=ENVI"] if envi else [])]

    def outcome(self, result: Any, parameters: Mapping[str, object], context: Any) -> dict[str, object]:
        """Hand the raster over, named and coloured."""
        self.require_output()
        stem = Path(self._source(self.rasters[0][0] if self.command == "fuse" else "MSI", parameters, context)).stem
        prepare_layer(context, self.target, f"{stem} fused")
        return {"OUTPUT": self.target, **self.side_products(context)}

    def side_products(self, context: Any) -> dict[str, str]:
        """Return the further outputs that the form asked for; name and draw those that are rasters."""
        made = {}
        for option in self.about["options"]:
            flag = f"--{option['name'].replace('_', '-')}="
            for word in self.spoken_words if option["kind"] in ("new raster", "new file") else ():
                if word.startswith(flag):
                    made[option["name"].upper()] = word.removeprefix(flag)
                    prepare_layer(context, word.removeprefix(flag), forms.label_of(option["name"]))
        return made


class Fuse(_Producer):
    """`geolift fuse`."""

    command = "fuse"
    title = "Fuse"
    words = "hyperspectral multispectral fusion pansharpening sharpen enmap prisma emit sentinel"
    rasters = (HSI, MSI)

    def add_own(self) -> None:
        """Add the field for an MSI whose bands are files."""
        label = "Further files of the MSI, if each band is one"
        field = QgsProcessingParameterMultipleLayers("MSI_FILES", label, QgsProcessing.TypeRaster, None, True)
        field.setHelp("The MSI above is then the first band, these are the others, in order.")
        field.setFlags(field.flags() | QgsProcessingParameterDefinition.FlagAdvanced)
        self.addParameter(field)

    def own_words(self, parameters: Mapping[str, object], context: Any) -> list[str]:
        """Return the further files."""
        layers = self.parameterAsLayerList(parameters, "MSI_FILES", context) or []
        return [f"--msi={layer.source()}" for layer in layers]

    def _run(self, words: list[str], feedback: Any) -> Any:
        command, hsi, msi, *rest = words
        first = f"--msi={msi}" if any(word.startswith("--msi=") for word in rest) else msi
        return super()._run([command, hsi, first, *rest], feedback)


class Apply(_Producer):
    """`geolift apply`."""

    command = "apply"
    title = "Apply a saved model"
    words = "hyperspectral model inference tiles"
    rasters = (MSI,)

    def add_own(self) -> None:
        """Add the model's field."""
        field = QgsProcessingParameterFile("MODEL", "Model", fileFilter="Models (*.safetensors)")
        field.setHelp("What Fuse saved, or `geolift train`.")
        self.addParameter(field)

    def processAlgorithm(self, parameters: Mapping[str, object], context: Any, feedback: Any) -> dict[str, object]:
        """Run geolift; the model stands before the MSI on its command line."""
        self.model = self.parameterAsFile(parameters, "MODEL", context)
        return super().processAlgorithm(parameters, context, feedback)

    def _run(self, words: list[str], feedback: Any) -> Any:
        return super()._run([words[0], self.model, *words[1:]], feedback)


class Check(GeoliftAlgorithm):
    """`geolift check`."""

    command = "check"
    title = "Check a pair"
    words = "scale offset band order shift overlap sanity"
    rasters = (HSI, MSI)

    def add_output(self) -> None:
        """Add the verdict."""
        super().add_output()
        self.addOutput(QgsProcessingOutputString("VERDICT", "Verdict"))

    def outcome(self, result: Any, parameters: Mapping[str, object], context: Any) -> dict[str, object]:
        """Return the codes of the verdict as well, each once, for models."""
        codes = dict.fromkeys(str(finding.get("code")) for finding in result.document.get("verdict", []))
        return {**super().outcome(result, parameters, context), "VERDICT": ",".join(codes)}


class Evaluate(GeoliftAlgorithm):
    """`geolift evaluate`."""

    command = "evaluate"
    title = "Evaluate a product"
    words = "rmse psnr ssim uiqi ergas sam quality"
    rasters = (
        ("PRODUCT", "Product", "What is to be measured."),
        ("REFERENCE", "Reference", "What it is measured against."),
    )
    basic = ("ratio",)
    measures: ClassVar[tuple[str, ...]] = ("rmse", "psnr_db", "ssim", "uiqi", "ergas", "sam_deg")

    def add_own(self) -> None:
        """Add the rules."""
        field = QgsProcessingParameterString("REQUIRE", "Rules that must hold", optional=True)
        field.setHelp("For example sam<3; psnr>35. The algorithm fails unless they hold.")
        self.addParameter(field)

    def own_words(self, parameters: Mapping[str, object], context: Any) -> list[str]:
        """Return the rules."""
        rules = self.parameterAsString(parameters, "REQUIRE", context) or ""
        return [f"--require={rule.strip()}" for rule in rules.split(";") if rule.strip()]

    def add_output(self) -> None:
        """Add the measures."""
        super().add_output()
        for measure in self.measures:
            self.addOutput(QgsProcessingOutputNumber(measure.upper(), measure))

    def outcome(self, result: Any, parameters: Mapping[str, object], context: Any) -> dict[str, object]:
        """Return the measures as well, for models."""
        numbers = {m.upper(): result.document[m] for m in self.measures if m in result.document}
        return {**super().outcome(result, parameters, context), **numbers}


class Info(GeoliftAlgorithm):
    """`geolift info`."""

    command = "info"
    title = "Info"
    words = "wavelength scale nodata metadata"
    rasters = (("INPUT", "File", "A raster, or the main file of a product."),)
    basic = ()


ALGORITHMS = (Fuse, Check, Apply, Evaluate, Info)
