"""Tiles computed on a Dask cluster, written here."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from geolift.errors import ResourceError, UsageError
from geolift.runtime.machine import BLOCK_CACHE_MB, keep_freed_memory
from geolift.writer.crew import TileWork
from geolift.writer.journal import Packed
from geolift.writer.tiles import Tile

CONNECT_TIMEOUT_S = 30
TILES_PER_THREAD = 2
"""Tiles under way for each thread of the cluster: one computed, one waiting, so that no thread waits for the net."""

ZARR_THREADS = ("ZARR_THREADING__MAX_WORKERS", "ZARR_ASYNC__CONCURRENCY")
"""Zarr asks for them when it is imported. Left alone it compresses on all cores, those of other workers too."""

_work_of_this_process: dict[str, TileWork] = {}
_loading = threading.Lock()


def compute_tile(shipped: bytes, digest: str, tile: Tile) -> Packed:
    """Compute a tile in a worker, which unpacks the model and the way to the input once.

    ``shipped`` comes as a task of its own: the scheduler sends it to each worker once, and can make it again if every
    worker that had it is gone.
    """
    with _loading:
        if digest not in _work_of_this_process:
            import cloudpickle  # type: ignore[import-untyped]
            from distributed import get_worker

            os.environ.setdefault("GDAL_CACHEMAX", str(BLOCK_CACHE_MB))
            for name in ZARR_THREADS:
                os.environ.setdefault(name, str(get_worker().state.nthreads))
            keep_freed_memory()
            _work_of_this_process.clear()
            _work_of_this_process[digest] = cloudpickle.loads(shipped)
        work = _work_of_this_process[digest]
    return work(tile)


def _same(shipped: bytes) -> bytes:
    return shipped


@dataclass(frozen=True)
class Cluster:
    """The workers of a Dask cluster; ``address``: tcp://HOST:PORT or a scheduler file.

    Tiles come as they are finished. A worker that dies costs the tiles it had under way.
    """

    address: str

    def work(self, work: TileWork, tiles: Sequence[Tile]) -> Iterator[Packed]:
        """Give every tile once, in any order.

        Raises
        ------
        UsageError, ResourceError
            If the cluster cannot be used, or its workers die again and again.
        """
        import cloudpickle
        from distributed import KilledWorker
        from distributed import as_completed as completed

        as_completed: Any = completed

        with self._client() as client:
            blob = cloudpickle.dumps(work)
            digest = hashlib.sha256(blob).hexdigest()
            shipped = client.submit(_same, blob, key=f"geolift-work-{digest}", retries=10)
            waiting = iter(tiles)

            def submit(tile: Tile) -> Any:
                key = f"geolift-tile-{digest[:16]}-{tile.row}-{tile.col}"
                return client.submit(compute_tile, shipped, digest, tile, key=key)

            window = max(2, TILES_PER_THREAD * sum(client.nthreads().values()))
            first = [submit(tile) for tile in islice(waiting, window)]
            under_way = as_completed(first, loop=client.loop)
            try:
                for future in under_way:
                    packed = future.result()
                    future.release()
                    for tile in waiting:
                        under_way.add(submit(tile))
                        break
                    yield packed
            except KilledWorker as error:
                raise ResourceError(
                    f"{self.address}: workers died again and again over one tile: out of memory or of time. Give them "
                    "more memory, or pass a smaller --tile-size; --resume goes on with what is finished."
                ) from error

    def require_workers(self) -> None:
        """Refuse a cluster that is not there or has no worker, before anything is computed.

        Raises
        ------
        UsageError, ResourceError
        """
        if find_spec("distributed") is None:
            raise UsageError("--scheduler needs the package distributed: pip install 'geolift[cluster]'")
        host, _, port = self._address().rpartition("/")[2].rpartition(":")
        if self._address().startswith(("tcp://", "tls://")) and port.isdigit():
            try:  # a client would try again and again for as long as it is told to wait
                socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
            except OSError as error:
                raise ResourceError(
                    f"--scheduler {self.address}: no scheduler answers there: {error.strerror or error}"
                ) from error
        self._client().close()

    def _address(self) -> str:
        """Return the scheduler's address, which a scheduler file tells."""
        if "://" in self.address:
            return self.address
        try:
            return str(json.loads(Path(self.address).read_text(encoding="utf-8"))["address"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"--scheduler {self.address}: neither tcp://HOST:PORT nor a scheduler file: {error}"
            ) from error

    def _client(self) -> Any:
        import distributed

        place = {"address": self.address} if "://" in self.address else {"scheduler_file": self.address}
        try:
            make_client: Any = distributed.Client
            client = make_client(**place, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
            client.wait_for_workers(1, timeout=CONNECT_TIMEOUT_S)
        except (OSError, TimeoutError, ValueError) as error:
            raise ResourceError(
                f"--scheduler {self.address}: no cluster with workers answers within {CONNECT_TIMEOUT_S} s: {error}"
            ) from error
        return client
