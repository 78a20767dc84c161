"""STAC items beside band files: scale, offset, spacecraft and time of COGs whose pixels do not tell them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SENTINEL_2_OFFSET = -0.1
OFFSET_SINCE_BASELINE = 4.0
LARGEST_BYTES = 5_000_000


@dataclass(frozen=True)
class Item:
    """What an item says of the files: per file scale, offset and nodata (None = unsaid), and of the scene."""

    path: Path
    scales: tuple[float | None, ...]
    offsets: tuple[float | None, ...]
    nodata: tuple[float | None, ...]
    platform: str
    acquired: str


def item_of(paths: Sequence[str]) -> Item | None:
    """Find the STAC item in the files' folder whose assets have the names of all files; None if there is none."""
    names = [Path(path).name for path in paths]
    for file in sorted(Path(paths[0]).parent.glob("*.json")):
        document = _read(file)
        assets = {Path(str(a.get("href", ""))).name: a for a in _assets(document)}
        if all(name in assets for name in names):
            return _understood(file, document, [assets[name] for name in names])
    return None


def _read(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > LARGEST_BYTES:
            return {}
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _assets(document: dict[str, Any]) -> list[dict[str, Any]]:
    found = document.get("assets")
    return [asset for asset in found.values() if isinstance(asset, dict)] if isinstance(found, dict) else []


def _understood(file: Path, document: dict[str, Any], assets: list[dict[str, Any]]) -> Item:
    properties = document.get("properties", {})
    bands = [(asset.get("raster:bands") or [{}])[0] for asset in assets]
    offsets = tuple(_sentinel_2_offset(properties, _number(band.get("offset"))) for band in bands)
    return Item(
        file,
        tuple(_number(band.get("scale")) for band in bands),
        offsets,
        tuple(_number(band.get("nodata")) for band in bands),
        str(properties.get("platform", "")),
        str(properties.get("datetime", "")),
    )


def _sentinel_2_offset(properties: dict[str, Any], declared: float | None) -> float | None:
    """Settle the offset: catalogues list -0.1 also where it is in the pixels already, or do not list it at all."""
    if properties.get("earthsearch:boa_offset_applied") is True:
        return 0.0
    baseline = _number(properties.get("s2:processing_baseline"))
    if declared is None and baseline is not None:
        return SENTINEL_2_OFFSET if baseline >= OFFSET_SINCE_BASELINE else 0.0
    return declared


def _number(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None
