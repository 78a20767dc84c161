"""Tiles computed on a Dask cluster, written by its workers where they see the file, else here."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import queue
import socket
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from geolift.errors import GeoliftError, InputError, ResourceError, UsageError
from geolift.runtime.machine import BLOCK_CACHE_MB, keep_freed_memory
from geolift.runtime.scratch import Piece, lent
from geolift.writer.executor import TileWork
from geolift.writer.journal import Packed
from geolift.writer.tiff import write_at
from geolift.writer.tiles import Tile

CONNECT_TIMEOUT_S = 30
STALL_S = 30.0
"""So long may nothing happen: no worker that runs, no scheduler that answers."""
LOOK_EVERY_S = 2.0
WAY_OUT = "--resume goes on with what is finished."
NOISY = ("distributed", "distributed.client", "distributed.worker", "tornado", "asyncio")
TILES_PER_THREAD = 2
"""Tiles under way for each thread of the cluster: one computed, one waiting, so that no thread waits for the net."""

ZARR_THREADS = ("ZARR_THREADING__MAX_WORKERS", "ZARR_ASYNC__CONCURRENCY")
"""Zarr asks for them when it is imported. Left alone it compresses on all cores, those of other workers too."""

_work_of_this_process: dict[str, TileWork] = {}
_loading = threading.Lock()


def compute_tile(shipped: bytes, digest: str, tile: Tile, pieces: Sequence[Piece]) -> Packed:
    """Compute a tile in a worker, which unpacks the model and the way to the input once.

    ``shipped`` comes as a task of its own: the scheduler sends it to each worker once, and can make it again if every
    worker that had it is gone. ``pieces``: what the tile reads of arrays that stay where the command runs. Raises
    GeoliftError whatever goes wrong with files there, in one line that names the worker.
    """
    from distributed import get_worker

    with _loading:
        if digest not in _work_of_this_process:
            import cloudpickle  # type: ignore[import-untyped]

            os.environ.setdefault("GDAL_CACHEMAX", str(BLOCK_CACHE_MB))
            for name in ZARR_THREADS:
                os.environ.setdefault(name, str(get_worker().state.nthreads))
            keep_freed_memory()
            _work_of_this_process.clear()
            work, stamps = cloudpickle.loads(shipped)
            require_same_files(stamps, get_worker().address)
            _work_of_this_process[digest] = work
        work = _work_of_this_process[digest]
    try:
        with lent(pieces):
            return work(tile)
    except GeoliftError as error:
        told = type(error)(*error.args)
    except OSError as error:
        told = ResourceError(f"worker {get_worker().address}: {str(error).splitlines()[0]}")
    raise told  # alone: what compiled libraries raised before it cannot travel, and nothing would arrive but its text


def without_content(packed: Packed) -> Packed:
    """What the command is to know of a tile whose bytes stay with a worker."""
    return replace(packed, content=None)


def write_blocks(file: str, packed: Packed, sizes: tuple[int, ...], position: int) -> None:
    """Write a tile's blocks into the growing file, from a worker that sees it. Raises ResourceError."""
    from distributed import get_worker

    assert packed.content is not None
    if packed.sizes != sizes:
        raise ResourceError(
            f"a tile computed again by {get_worker().address} is another; use one type of CPU. {WAY_OUT}"
        )
    try:
        with Path(file).open("r+b", buffering=0) as stream:
            write_at(stream, packed.content.data, position)
    except OSError as error:
        raise ResourceError(f"{file}: worker {get_worker().address} cannot write it: {error.strerror}") from None


def _sees(stamps: Stamps) -> bool:
    return all(os.access(name, os.W_OK) for name in stamps) and stamps_of(map(Path, stamps)) == stamps


Stamps = Mapping[str, tuple[int, int]]
"""File → bytes and whole second of its last change: finer times do not survive every file server."""


def stamps_of(files: Iterable[Path]) -> Stamps:
    """Return what tells files from others of the same name."""
    found = {str(file): file.stat() for file in files if file.is_file()}
    return {name: (stat.st_size, int(stat.st_mtime)) for name, stat in found.items()}


def require_same_files(stamps: Stamps, worker: str) -> None:
    """Refuse a machine that does not see the run's files, or others under their names. Raises InputError."""
    for name, stamp in stamps.items():
        here = stamps_of([Path(name)]).get(name)
        if here is None:
            raise InputError(f"{name}: worker {worker} does not see it; put it where all workers read it")
        if here != stamp:
            raise InputError(f"{name}: worker {worker} sees another file of that name; put it where all see the same")


def _same(shipped: bytes) -> bytes:
    return shipped


def _version() -> str:
    from importlib.metadata import version

    return version("geolift")


class _Pulse:
    """Whether a cluster still works: workers that run and are heard of; told apart by this machine's own clock."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self._heard: dict[str, tuple[float, float]] = {}
        self._sound_at = time.monotonic()

    def require(self, address: str) -> None:
        """Raise ResourceError where for so long no worker ran, or the scheduler did not answer."""
        now = time.monotonic()
        states = []
        if self.client.status == "running":
            for name, facts in _workers_of(self.client).items():
                seen = float(facts.get("last_seen", 0.0))
                if self._heard.get(name, (-1.0, 0.0))[0] != seen:
                    self._heard[name] = (seen, now)
                states.append("lost" if now - self._heard[name][1] > STALL_S else str(facts.get("status", "running")))
        if "running" in states:
            self._sound_at = now
        elif now - self._sound_at > STALL_S:
            raise ResourceError(f"{address}: {_stalled(states, self.client.status)}. {WAY_OUT}")


def _workers_of(client: Any) -> dict[str, Any]:
    try:
        return dict(client.scheduler_info(n_workers=-1)["workers"])
    except TypeError:  # before distributed 2025.4
        return dict(client.scheduler_info()["workers"])
    except (OSError, KeyError, TimeoutError):
        return {}


def _stalled(states: list[str], client_status: str) -> str:
    if client_status != "running":
        return f"the scheduler is lost; it did not come back within {STALL_S:.0f} s"
    if not states:
        return f"all workers are gone, and none came back within {STALL_S:.0f} s"
    if "paused" in states:
        return f"for {STALL_S:.0f} s no worker has run: they are paused by their memory limit. Give them more memory"
    return f"for {STALL_S:.0f} s no worker has answered: {', '.join(sorted(set(states)))}"


class _Tiles:
    """The tiles of one run on their way through the workers.

    Where all workers see the growing file they write its blocks themselves: a tile then stays with its worker, this
    process hears of its sizes and tells where it belongs. Else its bytes come here.
    """

    def __init__(self, client: Any, work: TileWork, files: Iterable[Path]) -> None:
        import cloudpickle

        self.client, self.lend = client, work.lend
        blob = cloudpickle.dumps((replace(work, lend=None, target=None), stamps_of(files)))
        self.digest = hashlib.sha256(blob).hexdigest()
        self.shipped = client.submit(_same, blob, key=f"geolift-work-{self.digest}", retries=10)
        seen = work.target is not None and all(client.run(_sees, stamps_of([work.target.file])).values())
        self.target = work.target if seen else None
        self.ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.under_way: dict[Any, tuple[Any, Packed | None]] = {}
        """Future → the one that keeps the tile's bytes, and what is known of the tile once it is being written."""

    def submit(self, tile: Tile) -> None:
        """Have a tile computed."""
        key = f"geolift-tile-{self.digest[:16]}-{tile.row}-{tile.col}"
        pieces = [] if self.lend is None else self.lend(tile)
        kept = self.client.submit(compute_tile, self.shipped, self.digest, tile, pieces, key=key)
        told = kept if self.target is None else self.client.submit(without_content, kept, key=f"{key}-known")
        self._follow(told, kept, None)

    def _follow(self, future: Any, kept: Any, known: Packed | None) -> None:
        self.under_way[future] = kept, known
        future.add_done_callback(self.ended.put)

    def taken(self, future: Any, result: Any) -> Packed | None:
        """Take a result; return the tile if it is finished."""
        kept, known = self.under_way.pop(future)
        future.release()
        if self.target is None:
            packed: Packed = result
            return packed
        if known is not None:
            kept.release()
            return known
        known = replace(result, position=self.target.reserve(sum(result.sizes)))
        arguments = str(self.target.file), kept, known.sizes, known.position
        self._follow(self.client.submit(write_blocks, *arguments, key=f"{kept.key}-written"), kept, known)
        return None


@dataclass(frozen=True)
class Cluster:
    """The workers of a Dask cluster; ``address``: tcp://HOST:PORT or a scheduler file.

    Tiles come as they are finished. A worker that dies costs the tiles it had under way. ``files``: what the run
    reads; a worker that sees other files under these names is refused.
    """

    address: str
    files: tuple[Path, ...] = ()

    def work(self, work: TileWork, tiles: Sequence[Tile]) -> Iterator[Packed]:
        """Give every tile once, in any order.

        Raises UsageError, InputError, ResourceError if the cluster cannot be used, its workers do not see the files,
        die again and again, or do nothing.
        """
        with self.client() as client:
            run = _Tiles(client, work, self.files)
            waiting, pulse = iter(tiles), _Pulse(client)

            def submit(count: int) -> None:
                for tile in islice(waiting, count):
                    run.submit(tile)

            submit(max(2, TILES_PER_THREAD * sum(client.nthreads().values())))
            while run.under_way:
                try:
                    future = run.ended.get(timeout=LOOK_EVERY_S)
                except queue.Empty:
                    pulse.require(self.address)
                    continue
                packed = run.taken(future, self._result(future, pulse))
                if packed is not None:
                    submit(1)
                    yield packed

    def _result(self, future: Any, pulse: _Pulse) -> Any:
        from concurrent.futures import CancelledError

        from distributed import KilledWorker

        try:
            while True:
                try:
                    return future.result(timeout=LOOK_EVERY_S)
                except TimeoutError:  # its worker died with the result, which another one computes again
                    pulse.require(self.address)
        except GeoliftError:
            raise
        except KilledWorker as error:
            raise ResourceError(
                f"{self.address}: workers died again and again over one tile: out of memory or of time. Give them "
                f"more memory, or pass a smaller --tile-size. {WAY_OUT}"
            ) from error
        except (OSError, CancelledError) as error:
            raise ResourceError(f"{self.address}: the scheduler is lost ({type(error).__name__}). {WAY_OUT}") from error

    def require_workers(self) -> None:
        """Refuse a cluster that is not there, has no worker or other versions, before anything is computed.

        Raises UsageError, ResourceError.
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
        with self.client() as client:
            try:
                versions = {str(found) for found in client.run(_version).values()}
            except Exception as error:  # whatever a worker without geolift, or with another one, answers
                raise ResourceError(
                    f"--scheduler {self.address}: the workers cannot run geolift: {str(error).splitlines()[0]}"
                ) from error
        if versions != {_version()}:
            raise ResourceError(
                f"--scheduler {self.address}: the workers have geolift {', '.join(sorted(versions))}, this is "
                f"{_version()}; install one version everywhere"
            )

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

    def client(self) -> Any:
        """Connect to the scheduler and wait for a worker. Raises ResourceError."""
        import distributed

        for name in NOISY:  # what they have to say is said in one line
            logging.getLogger(name).setLevel(logging.CRITICAL)
        place = {"address": self.address} if "://" in self.address else {"scheduler_file": self.address}
        try:
            make_client: Any = distributed.Client
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of other versions, which are judged by what they do
                client = make_client(**place, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
            client.wait_for_workers(1, timeout=CONNECT_TIMEOUT_S)
        except (OSError, TimeoutError, ValueError) as error:
            raise ResourceError(
                f"--scheduler {self.address}: no cluster with workers answers within {CONNECT_TIMEOUT_S} s: {error}"
            ) from error
        return client
