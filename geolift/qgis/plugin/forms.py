# SPDX-License-Identifier: GPL-2.0-or-later
# mypy: disable-error-code="import-not-found,import-untyped,misc,no-untyped-call"
"""From geolift's options to a form in QGIS, and from the filled form to a command line.

`geolift qgis install` writes commands.json beside this file: every option with its kind, default, choices and help, so
that the forms say what the installed geolift says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from qgis.core import (
    QgsProcessingParameterBoolean,
    QgsProcessingParameterCrs,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterString,
)

EXECUTABLE_SETTING = "GEOLIFT_EXECUTABLE"
COMMANDS = Path(__file__).parent / "commands.json"
LABELS = {
    "sensor": "Sensor of the MSI (empty: told by the file)",
    "msi_bands": "Bands of the MSI file, in order (empty: told by the file)",
    "save_model": "Trained model, for Apply",
    "srf": "Own spectral response (CSV) instead of a sensor",
    "of": "Format",
    "co": "Creation options (NAME=VALUE, between semicolons)",
    "dtype": "Data type",
    "qa": "Quality raster",
    "uncertainty": "Standard error of every band",
    "report": "Report (HTML)",
}
CAPITALS = {"hsi": "HSI", "msi": "MSI", "crs": "CRS", "srf": "SRF", "snr": "SNR", "gpu": "GPU", "qa": "QA"}


READ_BY = {
    "choice": "parameterAsEnumString",
    "boolean": "parameterAsBoolean",
    "integer": "parameterAsInt",
    "number": "parameterAsDouble",
}
"""Which of QGIS's methods reads a kind of field; the others are read as text, or below."""


class Option(TypedDict, total=False):
    """An option of a command; ``default`` None where it has none, choices and filter of the kinds that have them."""

    name: str
    kind: str
    default: Any
    help: str
    choices: list[str]
    filter: str


class Command(TypedDict):
    """A command: its help, and its options in their order."""

    help: str
    options: list[Option]


class Installed(TypedDict):
    """What `geolift qgis install` wrote: the version, how geolift is started, and its commands."""

    version: str
    command: list[str]
    commands: dict[str, Command]


def installed() -> Installed:
    """Return what `geolift qgis install` wrote."""
    try:
        known: Installed = json.loads(COMMANDS.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"version": "", "command": [], "commands": {}}
    return known


def label_of(name: str) -> str:
    """Return an option's name as people write it."""
    words = [CAPITALS.get(word, word) for word in name.split("_")]
    text = LABELS.get(name, " ".join(words))
    return text[0].upper() + text[1:]


def parameter(option: Option, *, advanced: bool) -> Any:
    """Return the form's field for an option."""
    made = _made(option["name"].upper(), label_of(option["name"]), option)
    made.setHelp(option["help"])
    if advanced:
        made.setFlags(made.flags() | QgsProcessingParameterDefinition.FlagAdvanced)
    return made


def _made(name: str, label: str, option: Option) -> Any:
    kind, default = option["kind"], option["default"]
    if kind == "choice":
        made = QgsProcessingParameterEnum(
            name, label, options=option["choices"], defaultValue=default, optional=default is None
        )
        made.setUsesStaticStrings(True)
        return made
    if kind == "boolean":
        return QgsProcessingParameterBoolean(name, label, defaultValue=default)
    if kind in ("integer", "number"):
        whole = kind == "integer"
        numbers = QgsProcessingParameterNumber.Integer if whole else QgsProcessingParameterNumber.Double
        return QgsProcessingParameterNumber(name, label, type=numbers, defaultValue=default, optional=default is None)
    if kind == "file":
        return QgsProcessingParameterFile(name, label, optional=True)
    if kind == "new raster":
        return QgsProcessingParameterRasterDestination(name, label, None, True, False)
    if kind == "new file":
        return QgsProcessingParameterFileDestination(name, label, option["filter"], None, True, False)
    if kind == "extent":
        return QgsProcessingParameterExtent(name, label, optional=True)
    if kind == "crs":
        return QgsProcessingParameterCrs(name, label, optional=True)
    return QgsProcessingParameterString(name, label, defaultValue=default, optional=True)


def flags(option: Option, algorithm: Any, parameters: Mapping[str, object], context: Any) -> list[str]:
    """Return an option as the command line takes it; nothing where the form leaves the default."""
    name, flag = option["name"].upper(), "--" + option["name"].replace("_", "-")
    value = _value(option, algorithm, parameters, context, name)
    if value is None or value == "" or value == option["default"]:
        return []
    if option["kind"] == "boolean":
        return [flag if value else "--no-" + flag[2:]]
    if option["name"] == "co":
        return [f"{flag}={part.strip()}" for part in str(value).split(";") if part.strip()]
    return [f"{flag}={value}"]


def _value(option: Option, algorithm: Any, parameters: Mapping[str, object], context: Any, name: str) -> Any:
    kind = option["kind"]
    if kind in ("new raster", "new file"):
        ask = algorithm.parameterAsOutputLayer if kind == "new raster" else algorithm.parameterAsFileOutput
        return ask(parameters, name, context)
    if is_null(parameters.get(name)):
        return None
    if kind == "extent":
        return _bounds(algorithm, parameters, name, context)
    if kind == "crs":
        crs = algorithm.parameterAsCrs(parameters, name, context)
        return (crs.authid() or crs.toWkt()) if crs.isValid() else None
    return getattr(algorithm, READ_BY.get(kind, "parameterAsString"))(parameters, name, context)


def _bounds(algorithm: Any, parameters: Mapping[str, object], name: str, context: Any) -> str | None:
    layer = algorithm.parameterAsRasterLayer(parameters, "MSI", context)
    if layer is not None and layer.isValid():
        box = algorithm.parameterAsExtent(parameters, name, context, layer.crs())
    else:
        box = algorithm.parameterAsExtent(parameters, name, context)
    if box.isNull() or box.isEmpty():
        return None
    return ",".join(repr(v) for v in (box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum()))


def is_null(value: Any) -> bool:
    """Tell whether a field was left empty; QGIS 3 has a null of its own."""
    return value is None or (hasattr(value, "isNull") and not hasattr(value, "xMinimum") and bool(value.isNull()))
