"""Which tiles are finished: one line each, in a file beside the growing output."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from geolift.writer.encoding import Counts
from geolift.writer.tiles import Tile

SYNC_EVERY_S = 5.0


@dataclass(frozen=True)
class Packed:
    """A finished tile as it goes into the file.

    ``content``: its bytes, None if they are on disk already. ``sizes``: bytes of each block in it, in file order.
    """

    tile: Tile
    counts: Counts
    content: bytes | memoryview | None
    sizes: tuple[int, ...]
    checksum: int


@dataclass(frozen=True)
class Entry:
    """What the journal knows of a finished tile; ``position``: where its bytes begin in the file."""

    tile: Tile
    counts: Counts
    position: int
    sizes: tuple[int, ...]
    checksum: int

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.position + sum(self.sizes)


def checksum_of(content: bytes | memoryview) -> int:
    """Sum the content's 64-bit words: finds lost pages after a power cut, at the speed of memory."""
    view = memoryview(content).cast("B")
    whole = len(view) // 8 * 8
    words = np.frombuffer(view[:whole], "<u8")
    return (int(words.sum(dtype=np.uint64)) + int.from_bytes(view[whole:], "little")) % 2**64


class Journal:
    """An append-only list of finished tiles.

    A line is written as soon as the tile's bytes are with the system, which survives the process. From time to time
    file and journal are brought to the disk and a mark tells so; tiles before the mark survive the machine, tiles
    behind it are believed if their checksum is right.
    """

    def __init__(self, file: Path) -> None:
        self._stream = file.open("ab", buffering=0)
        self._synced_at = time.monotonic()

    def add(self, entry: Entry, data: BinaryIO | None) -> None:
        """Note a finished tile; ``data`` is the file its bytes went to, None if workers wrote them."""
        self._line(asdict(entry))
        if data is not None and time.monotonic() - self._synced_at > SYNC_EVERY_S:
            os.fsync(data.fileno())
            self._line({"synced": True})
            os.fsync(self._stream.fileno())
            self._synced_at = time.monotonic()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _line(self, content: dict[str, Any]) -> None:
        view = memoryview(json.dumps(content, separators=(",", ":")).encode() + b"\n")
        while view:
            view = view[self._stream.write(view) :]


def read_journal(file: Path) -> Iterator[tuple[Entry, bool]]:
    """Give the finished tiles in order, each with whether it was surely on disk; a torn last line is left out."""
    lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
    last_mark = max((i for i, line in enumerate(lines) if line.startswith(b'{"synced"')), default=-1)
    for index, line in enumerate(lines):
        if line.startswith(b'{"synced"'):
            continue
        try:
            raw = json.loads(line)
            tile, counts = Tile(**raw.pop("tile")), Counts(**raw.pop("counts"))
            yield (
                Entry(tile, counts, int(raw["position"]), tuple(raw["sizes"]), int(raw["checksum"])),
                index < last_mark,
            )
        except (ValueError, KeyError, TypeError):
            return
