"""ENVI headers, read as they are: whatever their encoding, also beside a raster of another format."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from geolift.errors import InputError
from geolift.readers import gate

SUFFIX = ".hdr"
DATA_SUFFIXES = ("", ".img", ".dat", ".bsq", ".bil", ".bip", ".raw", ".bin", ".envi")
FIELD = re.compile(r"^[ \t]*([^=;\n{}]+?)[ \t]*=[ \t]*(\{[^}]*\}?|[^\n]*)", re.MULTILINE)
LARGEST_HEADER = 20_000_000
ITEM_BYTES = {1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 6: 8, 9: 16, 12: 2, 13: 4, 14: 8, 15: 8}
"""Bytes of a value by ENVI's `data type`."""
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"E\0N\0", "utf-16-le"),
    (b"\0E\0N", "utf-16-be"),
)


@dataclass(frozen=True)
class EnviHeader:
    """A header's text from the letters ENVI on, and its fields, names in small letters with underscores.

    ``readable_by_gdal``: those letters stand at its very beginning, where GDAL wants them.
    """

    path: Path
    fields: Mapping[str, str]
    text: str
    readable_by_gdal: bool

    def whole(self, field: str) -> int | None:
        """Return a whole number; None if the field is missing or blank. Raises InputError for anything else."""
        value = self.fields.get(field, "").strip()
        return gate.integer(value, self.path, field.replace("_", " ")) if value else None

    def shape(self) -> tuple[int | None, int | None, int | None]:
        """Return bands, lines, samples as far as they are told."""
        return self.whole("bands"), self.whole("lines"), self.whole("samples")


def parse(path: Path) -> EnviHeader | None:
    """Read a header; None if the file is none or cannot be read."""
    try:
        if path.stat().st_size > LARGEST_HEADER:
            return None
        raw = path.read_bytes()
    except OSError:
        return None
    text = _decoded(raw).lstrip("\ufeff \t\r\n")
    if not text.upper().startswith("ENVI"):
        return None
    return EnviHeader(path, fields_of(text), f"ENVI{text[4:]}", raw.startswith(b"ENVI"))


def _decoded(raw: bytes) -> str:
    start = raw[:4].upper()
    for mark, encoding in MARKS:
        if start.startswith(mark):
            return raw.decode(encoding, "replace")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def fields_of(text: str) -> dict[str, str]:
    """Return the fields of a header's text.

    >>> fields_of("ENVI\\nbands = 2\\nwavelength = {400,\\n 500}")
    {'bands': '2', 'wavelength': '{400,\\n 500}'}
    """
    unified = text.replace("\r\n", "\n").replace("\r", "\n")
    return {name_of(m[1]): m[2].strip() for m in FIELD.finditer(unified)}


def name_of(field: str) -> str:
    """Bring the ways to write a field's name to one."""
    return re.sub(r"\s+", "_", field.strip().lower())


def beside(path: str) -> EnviHeader | None:
    """Find the header of a file: NAME.hdr or NAME.suffix.hdr in its folder, in any case; None if there is none."""
    place = Path(path)
    if not place.is_file():
        return None
    wanted = {f"{place.name}{SUFFIX}".lower(), f"{place.stem}{SUFFIX}".lower()}
    try:
        found = sorted(f for f in place.parent.iterdir() if f.suffix.lower() == SUFFIX and f.name.lower() in wanted)
    except OSError:
        return None
    headers = (parse(file) for file in sorted(found, key=lambda f: -len(f.name)))
    return next((header for header in headers if header is not None), None)


def data_file(path: str) -> str:
    """Accept a header for its data: the file of its name without suffix or with any other.

    Raises InputError if the data is missing, or it is not plain which file it is.
    """
    header = Path(path)
    if header.suffix.lower() != SUFFIX or not header.is_file():
        return path
    stem = header.with_suffix("").name.lower()
    files = [f for f in sorted(header.parent.iterdir()) if f.is_file() and f.suffix.lower() != SUFFIX]
    named = [f for f in files if f.name.lower() == stem or f.stem.lower() == stem]
    usual = [f for f in named if f.name.lower() == stem or f.suffix.lower() in DATA_SUFFIXES]
    chosen = usual or [f for f in named if f.suffix.lower() not in (".xml", ".json", ".txt", ".csv", ".qml", ".enp")]
    if len(chosen) == 1 or usual:
        return str(min(chosen, key=lambda f: _rank(f, stem)))
    if chosen:
        names = ", ".join(f.name for f in chosen)
        raise InputError(f"{path}: an ENVI header, and its data may be any of {names}; name the data file itself")
    raise InputError(f"{path}: an ENVI header without its data; looked for {header.stem} with .img, .dat, .bsq, …")


def _rank(file: Path, stem: str) -> int:
    suffix = "" if file.name.lower() == stem else file.suffix.lower()
    return DATA_SUFFIXES.index(suffix) if suffix in DATA_SUFFIXES else len(DATA_SUFFIXES)


def require_whole(header: EnviHeader, data: str) -> None:
    """Refuse data that are shorter or longer than their header says. Raises InputError with both sizes."""
    _require_sound(header)
    compressed = header.fields.get("file_compression", "0").strip() not in ("", "0")
    item = ITEM_BYTES.get(header.whole("data_type") or 0)
    bands, lines, samples = header.shape()
    told = header.fields.get("file_type", "ENVI Standard").lower()
    framed = "major_frame_offsets" in header.fields or "minor_frame_offsets" in header.fields
    if compressed or framed or item is None or "envi" not in told or None in (bands, lines, samples):
        return
    offset = header.whole("header_offset") or 0
    expected = offset + int(bands) * int(lines) * int(samples) * item  # type: ignore[arg-type]
    actual = Path(data).stat().st_size
    if actual != expected:
        word = "shorter" if actual < expected else "longer"
        raise InputError(
            f"{data}: {actual} bytes, {word} than the {expected} of its header {header.path.name} ({lines} lines × "
            f"{samples} samples × {bands} bands × {item} bytes{f' after {offset}' if offset else ''}). "
            "Is the file cut off, or the header another file's?"
        )


def _require_sound(header: EnviHeader) -> None:
    """Refuse a header without what raw data cannot be read without; GDAL would assume bytes in one band."""
    needed = ("samples", "lines", "bands", "data_type", "interleave")
    missing = [field.replace("_", " ") for field in needed if not header.fields.get(field, "").strip()]
    if missing:
        raise InputError(f"{header.path}: says nothing of {', '.join(missing)}; is the header cut off?")
    interleave = header.fields["interleave"].strip().lower()
    kind, order = header.whole("data_type"), header.whole("byte_order") or 0
    for value, field, known in (
        (interleave, "interleave", ("bsq", "bil", "bip")),
        (kind, "data type", tuple(ITEM_BYTES)),
        (order, "byte order", (0, 1)),
    ):
        if value not in known:
            raise InputError(f"{header.path}: {field} is {value}; {', '.join(map(str, known))} are known")


def ignore_values(text: str | None, file: object) -> tuple[float, ...]:
    """Read `data ignore value`: blank or a word for nothing is none; braces may hold one number or one per band.

    Raises InputError if it is something else.
    """
    inner = (text or "").strip().strip("{}").strip()
    if inner.lower() in ("", "none", "null", "n/a"):
        return ()
    parts = [part for part in re.split(r"[\s,;]+", inner) if part]
    return tuple(
        float("nan") if part.lower() in ("nan", "-nan") else gate.number(part, file, "data ignore value")
        for part in parts
    )
