"""The directory of a TIFF file: where its blocks are, and how it is replaced when the blocks have come.

GDAL writes the block directory when it closes a file, so a killed run leaves nothing but zeros. Here GDAL makes an
empty file with all its metadata; compressed blocks are appended to it in any order; a new directory, a copy of the
first with the blocks' places, is written behind them, and one pointer in the header makes it valid.
TIFF 6.0 (Adobe, 1992), section 2; BigTIFF: libtiff's design note, 2007.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

WIDTH, HEIGHT, BANDS_PER_PIXEL, ROWS_PER_STRIP, PLANAR = 256, 257, 277, 278, 284
STRIP_OFFSETS, STRIP_SIZES, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_SIZES = 273, 279, 322, 323, 324, 325
GDAL_METADATA = 42112
ASCII, UINT16, UINT32, UINT64 = 2, 3, 4, 16
DTYPES = {1: "u1", ASCII: "S1", UINT16: "<u2", UINT32: "<u4", UINT64: "<u8"}
SEPARATE = 2


@dataclass(frozen=True)
class Flavour:
    """Sizes in a classic or a BigTIFF file: the header's pointer, counts of entries, an entry, an offset."""

    pointer_at: int
    count: str
    entry: str
    offset: str
    offset_type: int

    @property
    def inline_bytes(self) -> int:
        """Bytes of a value that fit into an entry."""
        return struct.calcsize(self.offset)


CLASSIC = Flavour(4, "<H", "<HHI4s", "<I", UINT32)
BIG = Flavour(8, "<Q", "<HHQ8s", "<Q", UINT64)


class NotATiffError(ValueError):
    """The bytes are no little-endian TIFF with a directory."""


@dataclass(frozen=True)
class Directory:
    """The first directory of a little-endian TIFF.

    ``entries``: tag → (type, count, raw value or offset), as in the file.
    """

    flavour: Flavour
    entries: dict[int, tuple[int, int, bytes]]
    values: dict[int, np.ndarray]

    @classmethod
    def read(cls, content: memoryview | bytes) -> Directory:
        """Read it from a file's content, which may be a memory map. Raises NotATiffError."""
        try:
            flavour = {b"II\x2a\x00": CLASSIC, b"II\x2b\x00": BIG}[bytes(content[:4])]
            (at,) = struct.unpack_from(flavour.offset, content, flavour.pointer_at)
            (count,) = struct.unpack_from(flavour.count, content, at)
            start = at + struct.calcsize(flavour.count)
            size = struct.calcsize(flavour.entry)
            entries = {}
            for index in range(count):
                tag, kind, number, raw = struct.unpack_from(flavour.entry, content, start + index * size)
                entries[tag] = (kind, number, raw)
            values = {tag: _values(content, flavour, *entry) for tag, entry in entries.items() if entry[0] in DTYPES}
        except (KeyError, struct.error, ValueError) as error:
            raise NotATiffError(f"no readable TIFF directory: {error}") from error
        return cls(flavour, entries, values)

    @property
    def block_shape(self) -> tuple[int, int]:
        """Rows and columns of a block: a tile, or a strip of whole rows."""
        if TILE_WIDTH in self.values:
            return int(self.values[TILE_HEIGHT][0]), int(self.values[TILE_WIDTH][0])
        return min(int(self.values[ROWS_PER_STRIP][0]), self.shape[0]), self.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the raster."""
        return int(self.values[HEIGHT][0]), int(self.values[WIDTH][0])

    @property
    def planes(self) -> int:
        """How many separate planes of blocks there are: one per band, or one of whole pixels."""
        separate = PLANAR in self.values and int(self.values[PLANAR][0]) == SEPARATE
        return int(self.values[BANDS_PER_PIXEL][0]) if separate else 1

    @property
    def block_grid(self) -> tuple[int, int, int]:
        """Planes, rows and columns of blocks, the order in which a TIFF lists them."""
        (rows, cols), (height, width) = self.shape, self.block_shape
        return self.planes, -(-rows // height), -(-cols // width)

    def blocks(self) -> tuple[np.ndarray, np.ndarray]:
        """Return offset and size of each block in the file, shaped as ``block_grid``; 0 = not there."""
        tiled = TILE_OFFSETS in self.entries
        pair = (TILE_OFFSETS, TILE_SIZES) if tiled else (STRIP_OFFSETS, STRIP_SIZES)
        grid = self.block_grid
        found = []
        for tag in pair:
            values = self.values.get(tag, np.zeros(0))
            if values.size != np.prod(grid):
                values = np.zeros(int(np.prod(grid)))
            found.append(values.astype(np.int64).reshape(grid))
        return found[0], found[1]

    def replacing_blocks(self, stream: BinaryIO, offsets: np.ndarray, sizes: np.ndarray, end: int) -> None:
        """Write a directory with new blocks behind the file's ``end`` and make it the first one.

        Until the last few bytes are written the file keeps its old directory.
        """
        tiled = TILE_OFFSETS in self.entries or TILE_WIDTH in self.entries
        tags = (TILE_OFFSETS, TILE_SIZES) if tiled else (STRIP_OFFSETS, STRIP_SIZES)
        kind = self.flavour.offset_type
        if end + 32 * offsets.size + 2**20 > 2 ** (8 * self.flavour.inline_bytes):
            raise OSError("the file outgrows the classic TIFF's 4 GB; pass --co BIGTIFF=YES")
        new = {tag: (kind, v.astype(DTYPES[kind]).tobytes()) for tag, v in zip(tags, (offsets, sizes), strict=True)}
        self._replacing(stream, new, end)

    @property
    def metadata(self) -> str:
        """GDAL's metadata as XML; empty if there are none."""
        return self.values.get(GDAL_METADATA, np.zeros(0, "S1")).tobytes().rstrip(b"\0").decode()

    def replacing_metadata(self, stream: BinaryIO, metadata: str, end: int) -> None:
        """Write a directory with other metadata behind the file's ``end`` and make it the first one."""
        self._replacing(stream, {GDAL_METADATA: (ASCII, metadata.encode() + b"\0")}, end)

    def _replacing(self, stream: BinaryIO, new: dict[int, tuple[int, bytes]], end: int) -> None:
        flavour, entries, tail = self.flavour, dict(self.entries), bytearray(b"\0" * (-end % 16))
        for tag, (kind, raw) in new.items():
            place = raw if len(raw) <= flavour.inline_bytes else struct.pack(flavour.offset, end + len(tail))
            tail += b"" if place is raw else raw
            tail += b"\0" * (-len(tail) % 16)
            count = len(raw) // np.dtype(DTYPES[kind]).itemsize
            entries[tag] = (kind, count, place.ljust(flavour.inline_bytes, b"\0"))
        tail += b"\0" * (-(end + len(tail)) % 16)
        at = end + len(tail)
        tail += struct.pack(flavour.count, len(entries))
        for tag in sorted(entries):
            tail += struct.pack(flavour.entry, tag, *entries[tag])
        tail += struct.pack(flavour.offset, 0)
        write_at(stream, tail, end)
        os.fsync(stream.fileno())
        write_at(stream, struct.pack(flavour.offset, at), flavour.pointer_at)
        os.fsync(stream.fileno())


def _values(content: memoryview | bytes, flavour: Flavour, kind: int, count: int, raw: bytes) -> np.ndarray:
    dtype = np.dtype(DTYPES[kind])
    if count * dtype.itemsize <= flavour.inline_bytes:
        return np.frombuffer(raw, dtype, count)
    (at,) = struct.unpack(flavour.offset, raw)
    return np.frombuffer(content, dtype, count, at)


def write_at(stream: BinaryIO, content: bytes | bytearray | memoryview, position: int) -> None:
    """Write all bytes at a position of an unbuffered file; the system may take them in several goes."""
    stream.seek(position)
    view = memoryview(content).cast("B")
    while view:
        view = view[stream.write(view) :]


def join_blocks(content: memoryview, offsets: Sequence[int], sizes: Sequence[int]) -> np.ndarray:
    """Return the blocks of a file one behind the other, as bytes (n,); one copy where they lie so already.

    NumPy copies without holding up other threads, as bytes would.
    """
    there, starts, lengths = np.frombuffer(content, np.uint8), np.asarray(offsets), np.asarray(sizes)
    if np.array_equal(starts[1:], (starts + lengths)[:-1]):
        return there[int(starts[0]) : int(starts[-1] + lengths[-1])].copy()
    return np.concatenate([there[at : at + size] for at, size in zip(offsets, sizes, strict=True)])
