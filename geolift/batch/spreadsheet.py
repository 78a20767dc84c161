"""Tables as offices save them: any usual encoding, any separator, blank rows, and the row to name in a message."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from geolift.errors import InputError

SEPARATORS = ",;\t"
WORKBOOKS = {b"PK\x03\x04": "an Excel or LibreOffice workbook", b"\xd0\xcf\x11\xe0": "an old Excel workbook"}
LARGEST_BYTES = 100_000_000


@dataclass(frozen=True)
class Table:
    """Named columns and their rows of text.

    ``lines``: for each row, its number in the file, counted from 1 as editors and spreadsheets do.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]


def read_text(path: Path) -> str:
    """Read text in the encoding it says, or else in UTF-8, or else in Windows' Western one.

    Raises InputError if it cannot be read, or is no text.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise InputError(f"{path}: {path.stat().st_size / 1e6:.0f} MB are no list of pairs")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    for magic, name in WORKBOOKS.items():
        if content.startswith(magic):
            raise InputError(f'{path}: {name}; save it as "CSV UTF-8" (File, Save As) and give that file')
    text = _decoded(content)
    if "\0" in text:
        raise InputError(f'{path}: no text; a CSV is expected, such as a spreadsheet saves as "CSV UTF-8"')
    return text


def _decoded(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    if content[1::2].count(0) > len(content) // 4:  # without a mark: every other byte of Western text is zero
        return content.decode("utf-16-le", errors="replace")
    if content[::2].count(0) > len(content) // 4:
        return content.decode("utf-16-be", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Five bytes mean nothing in cp1252; latin-1 knows them all.
        undefined = any(byte in content for byte in b"\x81\x8d\x8f\x90\x9d")
        return content.decode("latin-1" if undefined else "cp1252")


def read_table(path: Path) -> Table:
    """Read a CSV with a header; blank rows and lines that begin with # are passed over.

    Raises InputError if it cannot be read as one.
    """
    text = read_text(path)
    lines = text.splitlines(keepends=True)
    separator = None
    if lines and lines[0].strip().lower().startswith("sep=") and len(lines[0].strip()) <= 5:
        separator = lines[0].strip("\r\n")[4:] or None
        lines = ["\n", *lines[1:]]
    first = next((line for line in lines if _says_something(line)), "")
    separator = separator or max(SEPARATORS, key=first.count)
    reader = csv.reader(
        io.StringIO("".join(lines), newline=""), delimiter=separator, skipinitialspace=separator != "\t"
    )
    rows, numbers = [], []
    start = 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row) and not row[0].startswith("#"):
                rows.append(tuple(cell.strip() for cell in row))
                numbers.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: cannot be read as CSV: {error}") from error
    if not rows:
        return Table((), (), ())
    return Table(rows[0], tuple(rows[1:]), tuple(numbers[1:]))


def _says_something(line: str) -> bool:
    return bool(line.strip(" ,;\t\r\n")) and not line.startswith("#")


def require_as_wide(path: Path, table: Table, names: Sequence[str]) -> None:
    """Refuse a row with more cells than there are columns, and a name that is there twice. Raises InputError."""
    for row, line in zip(table.rows, table.lines, strict=True):
        if len(row) > len(names) and any(row[len(names) :]):
            raise InputError(
                f"{path}: line {line}: {len(row)} cells under {len(names)} columns; "
                "put lists such as B02,B03 into quotes"
            )
    named = [name for name in names if name]
    if len(set(named)) != len(named):
        raise InputError(f"{path}: a column is named twice among {', '.join(named)}")
