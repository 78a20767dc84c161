"""The files that stand beside a raster and speak for it, told by their names."""

from __future__ import annotations

import json
from pathlib import Path

from geolift.writer.formats import is_envi, is_raster
from geolift.writer.styles import is_our_style

BEHIND = (".aux.xml", ".ovr", ".msk")
"""Put behind a raster's whole name by GDAL: statistics, overviews, a mask."""


def sidecar_of(path: Path) -> Path:
    """Return the name of a product's sidecar."""
    return path.with_suffix(".json")


def companions(path: Path) -> list[Path]:
    """Return what a run writes or removes beside an output of that name, whether it is there or not.

    A style that somebody made in QGIS stays, and so is not among them.
    """
    if not is_raster(path):
        return []
    style = path.with_suffix(".qml")
    return [
        *([path.with_suffix(".hdr")] if is_envi(path) else []),
        *(path.with_name(path.name + suffix) for suffix in BEHIND),
        *([style] if not style.exists() or is_our_style(style) else []),
    ]


def is_sidecar_of(file: Path, product: Path) -> bool:
    """Tell whether a JSON file is the sidecar of a product of that name."""
    return described_by(file) == product.name


def described_by(file: Path) -> str | None:
    """Return the name of the product whose sidecar a JSON file is; None if it is no sidecar of geolift."""
    try:
        item = json.loads(file.read_text(encoding="utf-8"))
        if not any(str(key).startswith("geolift:") for key in item["properties"]):
            return None
        return Path(str(item["assets"]["data"]["href"])).name
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
