"""TIFF files that end before their last strip, tile or tag: GDAL fills or ignores what is missing without an error."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from geolift.errors import InputError

ORDERS = {b"II": "<", b"MM": ">"}
CLASSIC, BIG = 42, 43
STRIPS, STRIP_BYTES, TILES, TILE_BYTES = 273, 279, 324, 325
ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value by TIFF's field type."""
UNSIGNED = {3: "u2", 4: "u4", 16: "u8"}
MOST_ENTRIES = 4096


def require_whole_tiff(source: Any, path: str) -> None:
    """Refuse a local TIFF whose blocks or tags reach beyond the file's end. Raises InputError with both sizes.

    Parameters
    ----------
    source : open rasterio dataset
    """
    if source.driver not in ("GTiff", "COG") or not Path(path).is_file():
        return
    actual = Path(path).stat().st_size
    with Path(path).open("rb") as stream:
        try:
            expected = _expected_end(stream)
        except (struct.error, ValueError, OverflowError):
            return  # a layout of its own, which GDAL opened all the same
    if expected is not None and expected > actual:
        raise InputError(
            f"{path}: {actual} bytes, but its strips, tiles and tags reach to byte {expected}. Is the file cut off? "
            "Copy or download it again."
        )


def _expected_end(stream: BinaryIO) -> int | None:
    """Return where the last block or tag of the full-resolution image ends; None if the file is no TIFF."""
    order = ORDERS.get(stream.read(2))
    if order is None:
        return None
    (version,) = struct.unpack(f"{order}H", stream.read(2))
    if version not in (CLASSIC, BIG):
        return None
    big = version == BIG
    if big:
        stream.seek(8)
    (directory,) = struct.unpack(order + ("Q" if big else "I"), stream.read(8 if big else 4))
    stream.seek(directory)
    (count,) = struct.unpack(order + ("Q" if big else "H"), stream.read(8 if big else 2))
    if count > MOST_ENTRIES:
        return None
    size = 20 if big else 12
    entries = {}
    for _ in range(count):
        entry = stream.read(size)
        (tag,) = struct.unpack_from(f"{order}H", entry)
        entries[tag] = entry
    end = max((_end_of_tag(entry, order, big) for entry in entries.values()), default=0)
    if end > stream.seek(0, 2):
        return end
    for first, lengths in ((STRIPS, STRIP_BYTES), (TILES, TILE_BYTES)):
        if first in entries and lengths in entries:
            offsets, sizes = (_values(stream, entries[tag], order, big) for tag in (first, lengths))
            if offsets.size and offsets.size == sizes.size:
                end = max(end, int((offsets + sizes)[sizes > 0].max(initial=0)))
    return end


def _end_of_tag(entry: bytes, order: str, big: bool) -> int:
    """Return where the values of a tag end that stand elsewhere in the file; 0 if they stand in the entry."""
    kind, count = struct.unpack_from(order + ("HQ" if big else "HI"), entry, 2)
    length = count * ITEM_BYTES.get(kind, 0)
    inline = entry[12 if big else 8 :]
    if length <= len(inline):
        return 0
    (offset,) = struct.unpack(order + ("Q" if big else "I"), inline)
    return int(offset + length)


def _values(stream: BinaryIO, entry: bytes, order: str, big: bool) -> np.ndarray:
    kind, count = struct.unpack_from(order + ("HQ" if big else "HI"), entry, 2)
    dtype = np.dtype(order + UNSIGNED[kind]) if kind in UNSIGNED else None
    if dtype is None:
        return np.empty(0, np.int64)
    inline = entry[12 if big else 8 :]
    if count * dtype.itemsize <= len(inline):
        return np.frombuffer(inline, dtype, count).astype(np.int64)
    (offset,) = struct.unpack(order + ("Q" if big else "I"), inline)
    stream.seek(offset)
    return np.frombuffer(stream.read(count * dtype.itemsize), dtype, count).astype(np.int64)
