"""What was understood of the inputs, as rows of a table."""

from __future__ import annotations

from typing import Any

from geolift.report.words import moment, number


def input_rows(facts: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Return a table of the inputs: what about, then one cell per input, HSI before MSI."""
    plan = facts.get("plan", {})
    told = [plan[key] for key in ("hsi", "msi") if key in plan]
    if len(told) < 2:
        return []
    stored = [facts.get("inputs", {}).get(key, {}) for key in ("hsi", "msi")]
    rows = [
        ("file", [str(file["source"]) for file in told]),
        ("size", [f"{file['bands']} bands, {file['shape'][0]} × {file['shape'][1]} pixels" for file in told]),
        ("CRS", [file.get("crs") or "none" for file in told]),
        ("acquired", [moment(file.get("acquired")) or "not told" for file in told]),
        ("values", [_values(file) for file in told]),
        ("wavelengths from", [file.get("wavelengths_from") or "the sensor's response" for file in told]),
        ("on disk", [_on_disk(fact) for fact in stored]),
    ]
    return [(name, cells) for name, cells in rows if any(cells)]


def _values(file: dict[str, Any]) -> str:
    def one(value: Any, neutral: str) -> str:
        return neutral if value is None else ("per band" if isinstance(value, list) else number(value, 6))

    text = f"{file.get('quantity', 'unknown')}, {file.get('dtype')}, × {one(file.get('scale'), '1')}"
    offset = file.get("offset")
    text += "" if offset in (None, 0, 0.0) else f" + {one(offset, '0')}"
    nodata = file.get("nodata")
    return text + ("" if nodata is None else f", nodata {one(nodata, '')}")


def _on_disk(fact: dict[str, Any]) -> str:
    size = fact.get("size")
    return "" if size is None else f"{number(size / 1e6, 3)} MB, changed {moment(fact.get('modified'))}"
