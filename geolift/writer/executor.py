"""Who computes the tiles: threads of this process. See `cluster` for other machines."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from geolift.datamodel.encoding import Counts, Encoding
from geolift.runtime.scratch import Piece
from geolift.writer.growing import Packer
from geolift.writer.journal import Packed
from geolift.writer.tiles import Tile, TileValues
from geolift.writer.viewing import cells_seen

Lend = Callable[[Tile], list[Piece]]
"""What a tile reads of arrays that do not travel with the work."""


class Encode(Protocol):
    """How stored numbers are made of the values of a tile; it travels to workers."""

    def __call__(self, values: np.ndarray, tile: Tile, encoding: Encoding) -> tuple[np.ndarray, Counts]:
        """Encode (band, y, x); the bands are those of the product."""


@dataclass(frozen=True, eq=False)
class TileSource:
    """What tiles are made from where that is not the product's own values, and how.

    Parameters
    ----------
    data
        Lazy (band, y, x), with the rows and columns of the product.
    encode
        Makes a tile's stored numbers of the values of ``data``: the same as encoding the product's values gives.
    lend
        For executors on other machines.
    """

    data: Any
    encode: Encode
    lend: Lend | None = None


def encode_values(values: np.ndarray, tile: Tile, encoding: Encoding) -> tuple[np.ndarray, Counts]:
    """Encode the product's own values."""
    return encoding.encode_block(values)


@dataclass(frozen=True, eq=False)
class Target:
    """A file to whose end blocks are appended, by whoever sees it. ``reserve`` gives so many bytes of it to a tile."""

    file: Path
    reserve: Callable[[int], int]


@dataclass(frozen=True)
class TileWork:
    """Everything done for one tile away from the writer: compute, encode, compress, and keep what ``cells`` show.

    ``lend`` and ``target``: for executors on other machines.
    """

    values: TileValues
    encoding: Encoding
    packer: Packer
    encode: Encode = encode_values
    cells: Sequence[Tile] = ()
    lend: Lend | None = None
    target: Target | None = None

    def __call__(self, tile: Tile) -> Packed:
        """Do it."""
        stored, counts = self.encode(self.values(tile), tile, self.encoding)
        packed, seen = self.packer(tile, stored, counts), cells_seen(self.cells, tile, stored)
        return replace(packed, seen=seen) if seen else packed


class Executor(Protocol):
    """Computes tiles and hands them over as the writer takes them."""

    def work(self, work: TileWork, tiles: Sequence[Tile]) -> Iterator[Packed]:
        """Give every tile once, in any order, with a bounded number of them under way."""


@dataclass(frozen=True)
class Threads:
    """Threads of this process; tiles come in order, so that the file does not depend on their number.

    ``waiting``: finished tiles that may wait for the writer, beyond one for each thread under way.
    """

    count: int
    waiting: int = 1

    def work(self, work: TileWork, tiles: Sequence[Tile]) -> Iterator[Packed]:
        """Give the tiles in their order."""
        pool = ThreadPoolExecutor(self.count, thread_name_prefix="geolift-tile")
        under_way: deque[Future[Packed]] = deque()
        try:
            for tile in tiles:
                under_way.append(pool.submit(work, tile))
                if len(under_way) >= self.count + self.waiting:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
