"""The one gate through which readers take numbers and documents from metadata.

Metadata are written by many programs and damaged on the way. What is no number where one is needed ends here, in one
line with file, field and value.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from geolift.errors import InputError

LONGEST_SHOWN = 60
LARGEST_DOCUMENT = 200_000_000
"""Bytes of an XML or JSON file that is read as metadata; larger ones are something else."""


def shown(value: object) -> str:
    """Write a value as messages do: short, quoted, without control characters.

    >>> shown("1.5\\x1b[31m"), shown(None)
    ("'1.5?[31m'", 'missing')
    """
    if value is None:
        return "missing"
    text = "".join(c if c.isprintable() else "?" for c in str(value).strip())
    return repr(text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…")


def number(value: object, file: object, field: str) -> float:
    """Return a finite number from metadata. Raises InputError if it is missing, no number, or not finite."""
    try:
        found = float(value.decode("ascii") if isinstance(value, bytes) else value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        found = float("nan")
    if not np.isfinite(found):
        raise InputError(f"{file}: {field} is {shown(value)}; a number is needed. Is the metadata damaged?")
    return found


def inside(name: str, file: object) -> str:
    """Return the name of a product's file as its metadata give it; refuse one that leads out of the folder.

    >>> inside("GRANULE/B02.jp2", "m.xml")
    'GRANULE/B02.jp2'
    """
    parts = re.split(r"[/\\]", name)
    if ".." in parts or not parts[0] or ":" in parts[0]:
        raise InputError(f"{file}: names the file {shown(name)}, which does not lie in the product's folder")
    return name


def optional_number(value: object, file: object, field: str) -> float | None:
    """Return a number, or None for what is missing or blank. Raises InputError for anything else."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    return number(value, file, field)


def positive(value: object, file: object, field: str) -> float:
    """Return a number above 0, such as a scale or a pixel size. Raises InputError for anything else."""
    found = number(value, file, field)
    if found <= 0:
        raise InputError(f"{file}: {field} is {shown(value)}; a number above 0 is needed. Is the metadata damaged?")
    return found


def integer(value: object, file: object, field: str) -> int:
    """Return a whole number. Raises InputError for anything else."""
    found = number(value, file, field)
    if found != int(found):
        raise InputError(f"{file}: {field} is {shown(value)}; a whole number is needed. Is the metadata damaged?")
    return int(found)


def numbers(values: Iterable[object], file: object, field: str) -> np.ndarray:
    """Return a list of finite numbers as float64 (n,). Raises InputError that tells the first that is none."""
    return np.array([number(value, file, f"{field}, entry {i}") for i, value in enumerate(values, 1)], np.float64)


def listed(text: str, file: object, field: str) -> list[float]:
    """Read a list in any brackets, separated by commas, semicolons or space.

    >>> listed("{400.1, 405}", "a.hdr", "wavelength"), listed("[400.1 405]", "a.hdr", "wavelength")
    ([400.1, 405.0], [400.1, 405.0])
    """
    parts = [part for part in re.split(r"[\s,;]+", text.strip().strip("{}[]()")) if part]
    return [float(v) for v in numbers(parts, file, field)]


def xml_root(path: Any) -> ET.Element:
    """Parse an XML file. Raises InputError if it cannot be read or is none."""
    try:
        if isinstance(path, Path) and path.stat().st_size > LARGEST_DOCUMENT:
            raise InputError(f"{path}: too large for metadata")
        return ET.fromstring(path.read_bytes())
    except (ET.ParseError, OSError, ValueError, LookupError) as error:
        raise InputError(f"{path}: cannot be read as XML: {str(error).splitlines()[0]}") from error


def xml_text(root: ET.Element, path: str) -> str | None:
    """Return the text of the first element at a path, without space around it; None if there is none."""
    text = root.findtext(path)
    return text.strip() if text and text.strip() else None


def xml_number(root: ET.Element, path: str, file: object, neutral: float) -> float:
    """Return the number that the first element at a path holds; ``neutral`` if there is no such element.

    Raises InputError if it holds something else.
    """
    text = root.findtext(path)
    return neutral if text is None else number(text, file, path.removeprefix(".//"))


def json_document(text: str | bytes, file: object) -> dict[str, Any]:
    """Parse a JSON object. Raises InputError if it is none."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: cannot be read as JSON: {str(error).splitlines()[0]}") from error
    if not isinstance(document, dict):
        raise InputError(f"{file}: a JSON object is needed, this is {shown(type(document).__name__)}")
    return document
