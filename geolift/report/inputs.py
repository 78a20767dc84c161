"""What was understood of the inputs, as rows of a table."""

from __future__ import annotations

from pydantic import JsonValue

from geolift.provenance.record import ImageFacts, InputFile, RunRecord
from geolift.report.words import moment, number


def input_rows(record: RunRecord) -> list[tuple[str, list[str]]]:
    """Return a table of the inputs: what about, then one cell per input, HSI before MSI."""
    if record.plan is None:
        return []
    told = [record.plan.hsi, record.plan.msi]
    stored = [record.inputs.get(key, InputFile()) for key in ("hsi", "msi")]
    rows = [
        ("file", [str(file.source) for file in told]),
        ("size", [f"{file.bands} bands, {file.shape[0]} × {file.shape[1]} pixels" for file in told]),
        ("CRS", [file.crs or "none" for file in told]),
        ("acquired", [moment(file.acquired) or "not told" for file in told]),
        ("values", [_values(file) for file in told]),
        ("wavelengths from", [file.wavelengths_from or "the sensor's response" for file in told]),
        ("on disk", [_on_disk(fact) for fact in stored]),
    ]
    return [(name, cells) for name, cells in rows if any(cells)]


def _values(file: ImageFacts) -> str:
    def one(value: JsonValue, neutral: str) -> str:
        return neutral if value is None else ("per band" if isinstance(value, list) else number(value, 6))

    text = f"{file.quantity or 'unknown'}, {file.dtype}, × {one(file.scale, '1')}"
    text += "" if file.offset in (None, 0, 0.0) else f" + {one(file.offset, '0')}"
    return text + ("" if file.nodata is None else f", nodata {one(file.nodata, '')}")


def _on_disk(file: InputFile) -> str:
    return "" if file.size is None else f"{number(file.size / 1e6, 3)} MB, changed {moment(file.modified)}"
