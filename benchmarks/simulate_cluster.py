"""A run on a cluster as events: one scheduler, many workers, one writer (or a store that all workers write to).

Each tile is submitted (the scheduler is busy for ``dispatch_s``), computed by the worker with the shortest queue
(``compute_s``), and written (``write_s``) by one server: the command that appends to the GeoTIFF, or the store that
takes the workers' shards. As in `geolift.writer.cluster`, two tiles for each worker are under way, and the next one is
submitted when the writer takes a finished one. Deterministic: the seed draws the spread of the computing times.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass

TILES_PER_WORKER = 2


@dataclass(frozen=True)
class Load:
    """Seconds per tile: of the scheduler, of a worker (log-normal with ``spread``), of the writer."""

    dispatch_s: float
    compute_s: float
    write_s: float
    spread: float = 0.1

    def bound(self, workers: int) -> tuple[float, str]:
        """Return the tiles per second that cannot be exceeded, and by what."""
        limits = {"workers": (workers, self.compute_s), "writer": (1, self.write_s), "scheduler": (1, self.dispatch_s)}
        rates = {name: servers / cost if cost else float("inf") for name, (servers, cost) in limits.items()}
        name = min(rates, key=lambda key: rates[key])
        return rates[name], name


@dataclass(frozen=True)
class Outcome:
    """How long a run took, and the share of it in which writer and workers were busy."""

    seconds: float
    tiles_per_s: float
    writer_busy: float
    workers_busy: float


def simulate(tiles: int, workers: int, load: Load, seed: int = 0) -> Outcome:
    """Play a run of so many tiles, event by event."""
    draw = random.Random(seed)
    costs = [load.compute_s * draw.lognormvariate(-(load.spread**2) / 2, load.spread) for _ in range(tiles)]
    queues: list[deque[int]] = [deque() for _ in range(workers)]
    lengths = [(0, worker) for worker in range(workers)]  # a heap that may hold stale entries
    held = [0] * workers
    events: list[tuple[float, int, str, int, int]] = []
    finished: deque[int] = deque()
    scheduler_free = now = 0.0
    submitted = written = number = 0
    writing = False

    def at(time: float, kind: str, worker: int, tile: int) -> None:
        nonlocal number
        heapq.heappush(events, (time, number := number + 1, kind, worker, tile))

    def submit() -> None:
        nonlocal submitted, scheduler_free
        if submitted < tiles:
            scheduler_free = max(scheduler_free, now) + load.dispatch_s
            at(scheduler_free, "arrives", -1, submitted)
            submitted += 1

    def take() -> None:
        nonlocal writing
        if finished and not writing:
            writing = True
            submit()
            at(now + load.write_s, "written", -1, finished.popleft())

    def hold(worker: int, change: int) -> None:
        held[worker] += change
        heapq.heappush(lengths, (held[worker], worker))

    for _ in range(TILES_PER_WORKER * workers):
        submit()
    while events:
        now, _, kind, worker, tile = heapq.heappop(events)
        if kind == "arrives":
            while lengths[0][0] != held[lengths[0][1]]:
                heapq.heappop(lengths)
            worker = lengths[0][1]
            queues[worker].append(tile)
            hold(worker, 1)
            if len(queues[worker]) == 1:
                at(now + costs[tile], "computed", worker, tile)
        elif kind == "computed":
            queues[worker].popleft()
            hold(worker, -1)
            if queues[worker]:
                at(now + costs[queues[worker][0]], "computed", worker, queues[worker][0])
            finished.append(tile)
            take()
        else:
            writing, written = False, written + 1
            take()
    return Outcome(now, written / now, written * load.write_s / now, sum(costs) / (workers * now))
