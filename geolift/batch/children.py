"""A `geolift` command as a process of its own, on this machine or on a worker of a Dask cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from geolift.errors import ResourceError
from geolift.writer import Cluster

PATIENCE_S = 20.0
LOOK_EVERY_S = 0.5
BUSY = "another run is writing it"
BUSY_PAUSES_S = (5.0, 10.0, 20.0)
"""So long the process of a worker that died may take to hear of it and to let go of its output."""
ENDED = (130, 143)
NOT_BEGUN = 143

Hear = Callable[[str], None]


class Place(Protocol):
    """Where commands run; used by several threads."""

    def run(self, arguments: Sequence[str], hear: Hear, begun: Callable[[], None]) -> int:
        """Run a command to its end and return its exit code; ``hear`` gets the lines of its stderr."""

    def stop(self) -> None:
        """End what runs and begin nothing more."""


@contextmanager
def place(scheduler: str | None) -> Iterator[Place]:
    """Yield this machine, or the cluster of a scheduler's address or file. Raises UsageError, ResourceError."""
    if scheduler is None:
        yield Here()
        return
    cluster = Cluster(scheduler)
    cluster.require_workers()
    with cluster.client() as client:
        yield OnWorkers(client, scheduler)


def _started(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    # What concerns the rows is on their command lines; GEOLIFT_FUSE_* must not slip in between.
    own = {name: value for name, value in os.environ.items() if not name.startswith("GEOLIFT_")}
    return subprocess.Popen(
        [sys.executable, "-m", "geolift.cli.watchdog", *arguments, "--progress", "json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=own | {"PYTHONIOENCODING": "utf-8"} | dict(environment or {}),
    )


def _listened(child: subprocess.Popen[str], hear: Hear) -> int:
    """Hear a child to its end; if that fails it ends, for its stdin is closed."""
    assert child.stdin is not None
    assert child.stderr is not None
    try:
        for line in child.stderr:
            hear(line)
        return child.wait()
    finally:
        child.stdin.close()
        child.stderr.close()


class Here:
    """Processes of this machine."""

    def __init__(self) -> None:
        self._children: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._stopping = False

    def run(self, arguments: Sequence[str], hear: Hear, begun: Callable[[], None]) -> int:
        """See Place."""
        with self._lock:
            if self._stopping:
                return NOT_BEGUN
            child = _started(arguments)
            self._children.add(child)
        try:
            begun()
            return _listened(child, hear)
        finally:
            with self._lock:
                self._children.discard(child)

    def stop(self) -> None:
        """See Place."""
        with self._lock:
            self._stopping = True
            children = list(self._children)
        for child in children:
            child.terminate()
        deadline = time.monotonic() + PATIENCE_S
        for child in children:
            try:
                child.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()


# -- on a cluster -----------------------------------------------------------------------------------------------------


def _on_worker(arguments: Sequence[str], topic: str) -> tuple[int, list[str]]:
    """Run a command beside a worker; return its exit code and what it said, but the progress, which goes ahead.

    The child ends with the worker, by its stdin, and when nobody waits for it any more. What the system ended
    otherwise than for want of memory (a job's time is over) is begun anew on another worker.
    """
    from distributed import Reschedule, get_worker

    worker: Any = get_worker()
    key = str(worker.get_current_task())
    limit = worker.memory_manager.memory_limit
    environment = {} if limit is None else _own("MEMORY", f"{int(limit) // worker.state.nthreads // 1_000_000}MB")
    # One thread for each of the worker's, unless the row says otherwise.
    child = _started(arguments, environment | _own("THREADS", "1"))
    worker.log_event(topic, {"key": key, "line": None})
    over, lines = threading.Event(), []

    def watch() -> None:
        while not over.wait(LOOK_EVERY_S):
            task = worker.state.tasks.get(key)
            unwanted = task is None or task.state != "executing"
            if unwanted or worker.status.name not in ("running", "paused"):
                child.terminate()
                return

    def hear(line: str) -> None:
        if '"event": "progress"' in line:
            worker.log_event(topic, {"key": key, "line": line})
        else:
            lines.append(line)

    threading.Thread(target=watch, daemon=True).start()
    try:
        code = _listened(child, hear)
    finally:
        over.set()
    if code in ENDED:
        raise Reschedule
    return code, lines


def _own(name: str, value: str) -> dict[str, str]:
    return {f"GEOLIFT_{verb}_{name}": value for verb in ("FUSE", "APPLY")}


class OnWorkers:
    """Processes beside the workers of a Dask cluster, as many to each as it has threads; the others wait."""

    def __init__(self, client: Any, address: str) -> None:
        self._client, self._address = client, address
        self._topic = f"geolift-batch-{uuid.uuid4().hex}"
        self._heard: dict[str, tuple[Hear, Callable[[], None]]] = {}
        self._futures: set[Any] = set()
        self._stopping = False
        client.subscribe_topic(self._topic, self._tell)

    def run(self, arguments: Sequence[str], hear: Hear, begun: Callable[[], None]) -> int:
        """See Place."""
        for pause in (*BUSY_PAUSES_S, 0.0):
            code, lines = self._run(arguments, hear, begun)
            if not pause or not any(BUSY in line for line in lines):
                break
            time.sleep(pause)
        for line in lines:
            hear(line)
        return code

    def _run(self, arguments: Sequence[str], hear: Hear, begun: Callable[[], None]) -> tuple[int, list[str]]:
        from concurrent.futures import CancelledError

        from distributed import KilledWorker

        if self._stopping:
            return NOT_BEGUN, []
        key = f"{self._topic}-{uuid.uuid4().hex}"
        self._heard[key] = hear, begun
        future = self._client.submit(_on_worker, tuple(arguments), self._topic, key=key)
        self._futures.add(future)
        try:
            code, lines = future.result()
            return int(code), list(lines)
        except KilledWorker:
            wrong = "workers died again and again over this pair: out of memory or of time. Give them more memory"
        except (OSError, CancelledError) as error:
            if self._stopping:
                return NOT_BEGUN, []
            wrong = (
                f"{self._address}: the scheduler is lost, or a worker cannot begin ({type(error).__name__}: {error})"
            )
        finally:
            self._futures.discard(future)
            del self._heard[key]
        return ResourceError.exit_code, [json.dumps({"event": "error", "message": wrong})]

    def _tell(self, event: tuple[float, Mapping[str, Any]]) -> None:
        told = event[1]
        hear, begun = self._heard.get(told["key"], (None, None))
        if told["line"] is None:
            if begun is not None:
                begun()
        elif hear is not None:
            hear(told["line"])

    def stop(self) -> None:
        """See Place; the workers hear of it within a second."""
        self._stopping = True
        self._client.cancel(list(self._futures), force=True)
