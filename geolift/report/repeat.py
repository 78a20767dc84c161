"""The commands that repeat a run, told from its sidecar."""

from __future__ import annotations

import shlex

from pydantic import JsonValue

from geolift.provenance.record import RunRecord
from geolift.report.scene import input_paths
from geolift.settings import FuseSettings
from geolift.settings.values import band_text

NOT_REPEATED = {"overwrite", "config"}


def commands(record: RunRecord, sidecar: str) -> list[str]:
    """Return the commands that repeat the run: as it was typed, and from the sidecar."""
    model, hsi, msi = (input_paths(record, kind) for kind in ("model", "hsi", "msi"))
    name = "apply" if model else "fuse"
    if not msi or not (model or hsi):
        return []
    several = [word for path in msi for word in ("--msi", path)]
    words = ["geolift", name, *(model or hsi), *(msi if len(msi) == 1 else several), "-o", record.output]
    for key, value in record.settings.items():
        words += _option(key, value)
    typed = " ".join(shlex.quote(word) for word in words)
    again = f"geolift fuse --config {shlex.quote(sidecar)} --overwrite"
    return [typed, again] if name == "fuse" else [typed]


def _option(key: str, value: JsonValue) -> list[str]:
    """Return an option as it is typed, or nothing where it has its default."""
    field = FuseSettings.model_fields.get(key)
    if key in NOT_REPEATED or value is None or field is None or value == _plain(field.default):
        return []
    flag = f"--{key.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    listed = value if isinstance(value, list) else [value]
    if key == "co":
        return [word for option in listed for word in ("--co", str(option))]
    if key == "bands":
        return [flag, band_text([int(str(band)) for band in listed])]
    text = ",".join(map(str, listed))
    return [f"{flag}={text}"] if text.startswith("-") else [flag, text]


def _plain(default: object) -> object:
    return list(default) if isinstance(default, tuple) else default
