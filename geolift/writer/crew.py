"""Who computes the tiles: threads of this process. See `cluster` for other machines."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from geolift.writer.encoding import Encoding
from geolift.writer.growing import Packer
from geolift.writer.journal import Packed
from geolift.writer.tiles import Tile, TileValues


@dataclass(frozen=True)
class TileWork:
    """Everything done for one tile away from the writer: compute, encode, compress."""

    values: TileValues
    encoding: Encoding
    packer: Packer

    def __call__(self, tile: Tile) -> Packed:
        """Do it."""
        stored, counts = self.encoding.encode_block(self.values(tile))
        return self.packer(tile, stored, counts)


class Crew(Protocol):
    """Computes tiles and hands them over as the writer takes them."""

    def work(self, work: TileWork, tiles: Sequence[Tile]) -> Iterator[Packed]:
        """Give every tile once, in any order, with a bounded number of them under way."""
        ...


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
