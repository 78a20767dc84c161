"""Which tiles are finished: one line each, in a file beside the growing output."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from geolift.datamodel.encoding import Counts
from geolift.writer.tiles import Tile

SYNC_EVERY_S = 1.0
"""The disk is kept busy while tiles are computed, so that little is left to wait for at the end."""

MARK = b'{"synced"'


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A finished tile as it goes into the file.

    ``content``: its bytes (n,), None if they are on disk already, from ``position`` on in a file of blocks. ``sizes``:
    bytes of each block in it, in file order. ``seen``: what is kept of cells within it for statistics.
    """

    tile: Tile
    counts: Counts
    content: np.ndarray | None
    sizes: tuple[int, ...]
    checksum: int
    seen: dict[Tile, np.ndarray] = field(default_factory=dict)
    position: int = 0


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
    a thread brings file and journal to the disk, and a mark tells which lines survive the machine then; other
    tiles are believed if their checksum is right. A mark speaks for the lines of its own run alone: what an earlier run
    noted and lost is not on the disk because this one syncs.
    """

    def __init__(self, file: Path) -> None:
        there = file.read_bytes() if file.exists() else b""
        self._stream = file.open("ab", buffering=0)
        self._stream.truncate(there.rfind(b"\n") + 1)  # a torn last line would spoil the next
        self._first = self._lines = there.count(b"\n")
        self._syncing = ThreadPoolExecutor(1, thread_name_prefix="geolift-sync")
        self._sync: Future[None] | None = None
        self._synced_at = time.monotonic()
        self._covered = 0

    def add(self, entry: Entry, data: BinaryIO | None) -> None:
        """Note a finished tile; ``data`` is the file its bytes went to, None if workers wrote them.

        Raises OSError if the disk did not take what was given to it before.
        """
        self._line(asdict(entry))
        if self._sync is not None and self._sync.done():
            self._sync.result()
            self._line({"synced": [self._first, self._covered]})
            self._sync = None
        if data is not None and self._sync is None and time.monotonic() - self._synced_at > SYNC_EVERY_S:
            self._covered, self._synced_at = self._lines, time.monotonic()
            self._sync = self._syncing.submit(_to_disk, data.fileno(), self._stream.fileno())

    def close(self) -> None:
        """Close the file, when the disk has what is on its way. Raises OSError if it did not take it."""
        self._syncing.shutdown(wait=True)
        self._stream.close()
        if self._sync is not None:
            self._sync.result()  # the system tells of a failure once: a later fsync would not

    def _line(self, content: dict[str, object]) -> None:
        view = memoryview(json.dumps(content, separators=(",", ":")).encode() + b"\n")
        while view:
            view = view[self._stream.write(view) :]
        self._lines += 1


def _to_disk(*files: int) -> None:
    for file in files:
        os.fsync(file)


def read_journal(file: Path) -> Iterator[tuple[Entry, bool]]:
    """Give the finished tiles in order, each with whether it was surely on disk; a torn last line is left out."""
    lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
    surely = {i for line in lines if line.startswith(MARK) for i in range(*json.loads(line)["synced"])}
    for index, line in enumerate(lines):
        if line.startswith(MARK):
            continue
        try:
            raw = json.loads(line)
            tile, counts = Tile(**raw.pop("tile")), Counts(**raw.pop("counts"))
            yield (
                Entry(tile, counts, int(raw["position"]), tuple(raw["sizes"]), int(raw["checksum"])),
                index in surely,
            )
        except (ValueError, KeyError, TypeError):
            return
