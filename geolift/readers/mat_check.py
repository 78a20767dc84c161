"""Whether a MATLAB file of version 5 to 7 is whole: SciPy crashes on some that are damaged instead of saying so.

Format: MathWorks, MAT-File Format (R2024a), "Level 5 MAT-File Format".
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from geolift.errors import InputError

HEADER_BYTES = 128
MATRIX, COMPRESSED = 14, 15
ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8, 16: 1, 17: 2, 18: 4}
"""Bytes of an item by data type."""
NUMERIC_CLASSES = range(6, 16)
COMPLEX_FLAG = 0x0800
MOST_AXES = 32


def sound_variables(path: str) -> list[str] | None:
    """List the numeric variables of a file of version 5 to 7, checked; None for another version.

    Raises InputError if a variable's parts do not fit each other or the file.
    """
    raw = Path(path).read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(raw[126:128])
    if len(raw) < HEADER_BYTES or order is None:
        return None
    names, place = [], HEADER_BYTES
    try:
        while place + 8 <= len(raw):
            kind, size = struct.unpack_from(f"{order}II", raw, place)
            if size > len(raw) - place - 8:
                raise ValueError(f"a variable of {size} bytes reaches beyond its end")
            body = raw[place + 8 : place + 8 + size]
            name = _variable(zlib.decompress(body)[8:] if kind == COMPRESSED else body, order, kind)
            if name:
                names.append(name)
            place += 8 + size
    except (ValueError, struct.error, zlib.error, OverflowError, MemoryError) as error:
        raise InputError(f"{path}: not a MATLAB file that can be read: {error}. Is it damaged?") from error
    return names


def _variable(body: bytes, order: str, kind: int) -> str | None:
    """Check one matrix; its name, or None for what holds no numbers."""
    if kind not in (MATRIX, COMPRESSED):
        raise ValueError(f"an element of the unknown type {kind}")
    flags, place, flag_kind = _element(body, 0, order)
    if flag_kind != 6 or len(flags) < 8:
        raise ValueError("a variable without flags")
    (word,) = struct.unpack_from(f"{order}I", flags)
    if word & 0xFF not in NUMERIC_CLASSES:
        return None
    shape, place, shape_kind = _element(body, place, order)
    if shape_kind != 5 or not 4 <= len(shape) <= 4 * MOST_AXES:
        raise ValueError("a variable without dimensions")
    sizes = np.frombuffer(shape, f"{order}i4")
    if (sizes < 0).any():
        raise ValueError(f"a variable of the shape {tuple(sizes.tolist())}")
    name, place, name_kind = _element(body, place, order)
    if name_kind not in (1, 2, 16):
        raise ValueError("a variable without a name")
    count = int(np.prod(sizes.astype(object)))
    for _ in range(2 if word & COMPLEX_FLAG else 1):
        data, place, data_kind = _element(body, place, order)
        if data_kind not in ITEM_BYTES or len(data) != count * ITEM_BYTES[data_kind]:
            raise ValueError(f"{len(data)} bytes for a variable of the shape {tuple(sizes.tolist())}")
    return name.decode("latin-1")


def _element(body: bytes, place: int, order: str) -> tuple[bytes, int, int]:
    """Return an element's data, where the next begins, and its type; small ones stand in their tag."""
    (word,) = struct.unpack_from(f"{order}I", body, place)
    small = word >> 16
    if small:
        if small > 4:
            raise ValueError(f"a small element of {small} bytes")
        return body[place + 4 : place + 4 + small], place + 8, word & 0xFFFF
    (size,) = struct.unpack_from(f"{order}I", body, place + 4)
    if size > len(body) - place - 8:
        raise ValueError(f"an element of {size} bytes reaches beyond its variable")
    return body[place + 8 : place + 8 + size], place + 8 + size + -size % 8, word
