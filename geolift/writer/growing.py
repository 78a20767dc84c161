"""Files that grow tile by tile: a GeoTIFF of appended blocks, an ENVI file of rows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from affine import Affine
from rasterio.io import MemoryFile

from geolift.datamodel.encoding import Counts
from geolift.errors import ResourceError
from geolift.writer.description import quiet_without_georeference
from geolift.writer.journal import Entry, Packed, checksum_of
from geolift.writer.tiff import Directory, NotATiffError, join_blocks, write_at
from geolift.writer.tiles import Tile


class Packer(Protocol):
    """Turns a tile's stored numbers into bytes of the file; runs in the workers, so it travels."""

    def __call__(self, tile: Tile, stored: np.ndarray, counts: Counts) -> Packed:
        """Pack one tile (band, y, x)."""


class Growing(Protocol):
    """A file that takes packed tiles in any order."""

    def put(self, packed: Packed) -> Entry:
        """Write one tile and tell where it is."""

    def take_back(self, entry: Entry, *, surely: bool) -> bool:
        """Accept a tile that an earlier run wrote, if its bytes are there."""

    def begin(self) -> None:
        """Prepare for `put`, after all that is there was taken back."""

    def finish(self) -> None:
        """Make the file valid and bring it to the disk."""

    def close(self) -> None:
        """Let go of the file."""

    @property
    def stream(self) -> BinaryIO | None:
        """The open file, to be synced with the journal; None if workers write."""


# -- GeoTIFF ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TiffPacker:
    """Lets GDAL compress a tile as a small GeoTIFF in memory, and takes the blocks out of it."""

    options: dict[str, Any]

    def __call__(self, tile: Tile, stored: np.ndarray, counts: Counts) -> Packed:
        """Pack one tile (band, y, x)."""
        size = {"count": stored.shape[0], "height": tile.rows, "width": tile.cols}
        with MemoryFile() as memory:
            with memory.open(**self.options, **size) as target:
                target.write(stored)
            content = memoryview(memory.getbuffer())
            offsets, sizes = (part.ravel().tolist() for part in Directory.read(content).blocks())
            blocks = join_blocks(content, offsets, sizes)
            content.release()
        return Packed(tile=tile, counts=counts, content=blocks, sizes=tuple(sizes), checksum=checksum_of(blocks.data))


# What shapes a block's bytes; size, place and metadata belong to the whole file alone.
NOT_FOR_TILES = ("count", "height", "width", "crs", "transform", "BIGTIFF", "SPARSE_OK", "NUM_THREADS")


class GrowingTiff:
    """A GeoTIFF whose blocks are appended; GDAL has made it with all metadata and no blocks."""

    def __init__(self, file: Path, profile: dict[str, Any]) -> None:
        self.file = file
        try:
            self._directory = Directory.read(file.read_bytes() if file.stat().st_size < 2**28 else _mapped(file))
        except NotATiffError as error:
            raise ResourceError(f"{file.name}: was not created whole; is the disk full? ({error})") from error
        options = {key: value for key, value in profile.items() if key not in NOT_FOR_TILES}
        # Any transform keeps rasterio from warning of none; silencing warnings is not safe in threads.
        self.packer = TiffPacker(options | {"BIGTIFF": "NO", "transform": Affine.scale(2.0)})
        self._offsets, self._sizes = (np.zeros(self._directory.block_grid, np.int64) for _ in range(2))
        self.stream: BinaryIO = file.open("r+b", buffering=0)
        self._known_bytes = file.stat().st_size
        self._end = 0

    def take_back(self, entry: Entry, *, surely: bool) -> bool:
        """Accept a tile that an earlier run wrote, if its bytes are there."""
        if entry.end > self._known_bytes:
            return False
        if not surely:
            self.stream.seek(entry.position)
            if checksum_of(self.stream.read(entry.end - entry.position)) != entry.checksum:
                return False
        self._note(entry)
        return True

    def begin(self) -> None:
        """Cut off what no finished tile owns."""
        had_directory = bool(self._directory.blocks()[1].any())
        if had_directory or not self._end:
            # Behind the metadata, or behind the directory of a run that ended just before its file got its name.
            self._end = -(-self._known_bytes // 16) * 16
        self.stream.truncate(self._end)

    def put(self, packed: Packed) -> Entry:
        """Append the blocks of one tile, or note those that a worker has appended."""
        position = packed.position if packed.content is None else self.reserve(sum(packed.sizes))
        if packed.content is not None:
            write_at(self.stream, packed.content.data, position)
        entry = Entry(packed.tile, packed.counts, position, packed.sizes, packed.checksum)
        self._note(entry)
        return entry

    def reserve(self, count: int) -> int:
        """Give bytes at the file's end to a tile; return where they begin."""
        self._end += count
        return self._end - count

    def _note(self, entry: Entry) -> None:
        tile, (height, width) = entry.tile, self._directory.block_shape
        rows = slice(tile.row // height, -(-(tile.row + tile.rows) // height))
        cols = slice(tile.col // width, -(-(tile.col + tile.cols) // width))
        window = (slice(None), rows, cols)
        sizes = np.asarray(entry.sizes, np.int64).reshape(self._sizes[window].shape)
        ends = entry.position + np.cumsum(sizes.ravel()).reshape(sizes.shape)
        self._sizes[window], self._offsets[window] = sizes, ends - sizes
        self._end = max(self._end, entry.end)

    def finish(self) -> None:
        """Write the directory of the blocks; until then the file reads as empty."""
        if not self._sizes.all():
            raise ResourceError(f"{self.file.name}: blocks are missing; this is a bug")
        self._directory.replacing_blocks(self.stream, self._offsets, self._sizes, self._end)

    def close(self) -> None:
        """Let go of the file."""
        self.stream.close()


def _mapped(file: Path) -> memoryview:
    content: Any = np.memmap(file, np.uint8, "r")
    return memoryview(content)


def blocks_on_disk(file: Path) -> bool:
    """Tell whether every block of a TIFF lies within the file."""
    directory = Directory.read(_mapped(file))
    offsets, sizes = directory.blocks()
    return bool(sizes.all() and (offsets + sizes).max() <= file.stat().st_size)


def add_band_items(file: Path, items: Sequence[Mapping[str, str]]) -> None:
    """Add metadata items to the bands of a finished TIFF; what it had under these names goes."""
    directory = Directory.read(_mapped(file))
    names = {name for band in items for name in band}
    kept = [line for line in directory.metadata.splitlines() if not any(f'name="{name}"' in line for name in names)]
    added = [
        f'  <Item name="{name}" sample="{band}">{escape(value)}</Item>'
        for band, pairs in enumerate(items)
        for name, value in pairs.items()
    ]
    if not added or not kept:
        return
    with file.open("r+b", buffering=0) as stream:
        text = "\n".join([*kept[:-1], *added, kept[-1], ""])
        directory.replacing_metadata(stream, text, file.stat().st_size)


# -- ENVI -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RowPacker:
    """Puts a tile of whole rows into the order of an ENVI file."""

    interleave: str

    def __call__(self, tile: Tile, stored: np.ndarray, counts: Counts) -> Packed:
        """Pack one tile (band, y, x)."""
        order = {"BSQ": (0, 1, 2), "BIL": (1, 0, 2), "BIP": (1, 2, 0)}[self.interleave]
        rows = np.ascontiguousarray(stored.transpose(order)).astype(stored.dtype.newbyteorder("<"), copy=False)
        content = rows.reshape(-1).view(np.uint8)
        return Packed(
            tile=tile, counts=counts, content=content, sizes=(len(content),), checksum=checksum_of(content.data)
        )


class GrowingEnvi:
    """The data file of an ENVI raster, into which tiles of whole rows are written where they belong."""

    def __init__(self, file: Path, profile: dict[str, Any]) -> None:
        interleave = str(profile["INTERLEAVE"]).upper()
        self.packer = RowPacker(interleave)
        itemsize = np.dtype(profile["dtype"]).itemsize
        self._bands, self._rows = int(profile["count"]), int(profile["height"])
        self._row_bytes = int(profile["width"]) * itemsize
        self._planar = interleave == "BSQ"
        self.stream: BinaryIO = file.open("r+b", buffering=0)

    def _runs(self, tile: Tile) -> list[tuple[int, int]]:
        """Position and length of the pieces a tile has in the file."""
        if not self._planar:
            width = self._row_bytes * self._bands
            return [(tile.row * width, tile.rows * width)]
        length = tile.rows * self._row_bytes
        return [((band * self._rows + tile.row) * self._row_bytes, length) for band in range(self._bands)]

    def take_back(self, entry: Entry, *, surely: bool) -> bool:
        """Accept a tile that an earlier run wrote, if its bytes are there."""
        if surely:
            return True
        pieces = []
        for position, length in self._runs(entry.tile):
            self.stream.seek(position)
            pieces.append(self.stream.read(length))
        return checksum_of(b"".join(pieces)) == entry.checksum

    def begin(self) -> None:
        """Give the file its size."""
        self.stream.truncate(self._rows * self._row_bytes * self._bands)

    def put(self, packed: Packed) -> Entry:
        """Write the rows of one tile."""
        assert packed.content is not None
        view, done = packed.content.data.cast("B"), 0
        for position, length in self._runs(packed.tile):
            write_at(self.stream, view[done : done + length], position)
            done += length
        return Entry(packed.tile, packed.counts, 0, packed.sizes, packed.checksum)

    def finish(self) -> None:
        """Bring the file to the disk."""
        os.fsync(self.stream.fileno())

    def close(self) -> None:
        """Let go of the file."""
        self.stream.close()


def verify(file: Path, expected: tuple[int, int, int], itemsize: int) -> None:
    """Reopen a finished file: bands, rows and columns as intended, every block on disk. Raises ResourceError."""
    with quiet_without_georeference(), rasterio.open(file) as source:
        found = (source.count, *source.shape)
        driver = source.driver
    if found != expected:
        raise ResourceError(f"{file.name}: written as {found}, which is not the plan, {expected}")
    complete = file.stat().st_size >= np.prod(expected) * itemsize if driver == "ENVI" else blocks_on_disk(file)
    if not complete:
        raise ResourceError(f"{file.name}: blocks are missing on disk; is the disk full?")
