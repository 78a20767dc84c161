"""Many pairs: skip what is finished and unchanged, go on after a failure, stay within the memory, tell it all.

Each job is a `geolift` process of its own, so that neither memory nor a crash passes from one pair to the next.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from geolift.batch.children import BUSY, ENDED, NOT_BEGUN, Place, place
from geolift.batch.manifest import Job
from geolift.errors import GeoliftError, InputError
from geolift.provenance.sidecar import read_sidecar, sidecar_path, write_json
from geolift.provenance.staleness import change_since
from geolift.runtime.machine import available_cpus, memory_limit_bytes
from geolift.settings import Settings
from geolift.settings.values import band_text
from geolift.writer import is_being_written, recover

Status = Literal["done", "skipped", "failed", "stopped"]
STAGES = {
    "reading": (0.0, 0.05), "sampling": (0.05, 0.1), "training": (0.1, 0.4), "refining": (0.4, 0.5),
    "writing": (0.5, 1.0),
}  # fmt: skip
SAFE_SHARE_OF_MEMORY = 0.5


@dataclass(frozen=True)
class State:
    """What a job finds: nothing, its finished product, one that has become stale, or somebody else's file."""

    kind: Literal["missing", "finished", "stale", "foreign"]
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended. ``code`` is an exit code of geolift; ``scores`` are there if it had a reference."""

    row: int
    output: str
    status: Status
    code: int = 0
    message: str = ""
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    scores: dict[str, float] | None = None
    command: tuple[str, ...] = ()


class Watcher(Protocol):
    """Who wants to see the jobs go by; called from several threads."""

    def started(self, job: Job, reason: str) -> None:
        """See a job begin, and why it does if its output was there."""

    def progressed(self, job: Job, stage: str, fraction: float) -> None:
        """See how much of a job is done, 0 to 1."""

    def warned(self, job: Job, text: str) -> None:
        """Hear a job's warning."""

    def ended(self, job: Job, outcome: Outcome) -> None:
        """See a job end."""


@dataclass(frozen=True)
class Options:
    """How a batch is run. ``memory_bytes`` is what all jobs together may use; None = a safe share of the machine.

    ``scheduler``: the Dask cluster whose workers the jobs run beside; ``memory_bytes`` is then what each may use, None
    = its share of its worker's.
    """

    jobs: int = 1
    memory_bytes: int | None = None
    require: tuple[str, ...] = ()
    summary: Path | None = None
    scheduler: str | None = None

    @property
    def sharers(self) -> int:
        """Jobs that share this machine."""
        return self.jobs if self.scheduler is None else 1


# -- what is there already --------------------------------------------------------------------------------------------


def state_of(job: Job) -> State:
    """Tell what a job finds under its output's name, by comparing the sidecar with the present."""
    assert job.settings is not None
    if job.settings.overwrite:
        return State("missing")
    recover(job.output.parent)
    if not job.output.exists():
        others = [file for file in job.side_products.values() if file.exists()]
        return State("foreign", f"{others[0]}:") if others else State("missing")
    try:
        facts = read_sidecar(sidecar_path(job.output))
    except InputError:
        facts = {}
    if "inputs" not in facts or "settings" not in facts:
        return State("foreign", f"{job.output}: no sidecar of geolift tells how it was made, and it")
    change = change_since(facts, job.output, job.inputs, job.settings, job.side_products)
    return State("stale", change) if change else State("finished")


# -- running ----------------------------------------------------------------------------------------------------------


class _Budget:
    """The memory that jobs may use at the same time; a job larger than all of it runs alone."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._used = 0
        self._changed = threading.Condition()
        self._closed = False

    @contextmanager
    def share(self, wanted_bytes: int) -> Iterator[bool]:
        """Wait for the memory; False if the batch was stopped meanwhile."""
        wanted = min(wanted_bytes, self.limit_bytes)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._used + wanted <= self.limit_bytes)
            self._used += wanted
        try:
            yield not self._closed
        finally:
            with self._changed:
                self._used -= wanted
                self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


@dataclass(kw_only=True)
class _Batch:
    """The state that the jobs of one batch share."""

    jobs: Sequence[Job]
    options: Options
    watcher: Watcher
    budget: _Budget
    place: Place
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    begun: set[int] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopping: bool = False

    @property
    def producers(self) -> dict[str, int]:
        """Model file → row that saves it."""
        return {job.produced_model: job.row for job in self.jobs if job.produced_model}


def run(jobs: Sequence[Job], options: Options, watcher: Watcher) -> list[Outcome]:
    """Run the jobs; return how each ended, in the manifest's order.

    When interrupted, the running jobs are ended (they leave nothing behind), the summary is written, and the
    interruption goes on.
    """
    with place(options.scheduler) as where:
        return _run(jobs, options, watcher, where)


def _run(jobs: Sequence[Job], options: Options, watcher: Watcher, where: Place) -> list[Outcome]:
    limit = options.memory_bytes or int(SAFE_SHARE_OF_MEMORY * memory_limit_bytes())
    batch = _Batch(jobs=jobs, options=options, watcher=watcher, budget=_Budget(limit), place=where)
    ends = {job.row: threading.Event() for job in jobs}
    # Jobs that wait for another's model come last: whoever waits, the one waited for has begun.
    order = sorted(jobs, key=lambda job: job.inputs.get("model") in batch.producers)
    pool = ThreadPoolExecutor(options.jobs, thread_name_prefix="batch")
    try:
        futures = [pool.submit(_finish, batch, job, ends) for job in order]
        _wait(futures)
    except BaseException:
        batch.stopping = True
        batch.budget.close()
        batch.place.stop()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        _write_summary(batch)
    return [batch.outcomes[job.row] for job in jobs]


def _wait(futures: Sequence[Future[None]]) -> None:
    """Wait in short steps, so that a signal is heard at once on every system; a bug in a job is raised."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=0.5)
        for future in done:
            future.result()


def _finish(batch: _Batch, job: Job, ends: Mapping[int, threading.Event]) -> None:
    producer = batch.producers.get(job.inputs.get("model", ""))
    if producer is not None:
        ends[producer].wait()
    started = time.monotonic()
    try:
        outcome = _outcome(batch, job, producer)
    finally:
        ends[job.row].set()
    outcome = replace(outcome, seconds=round(time.monotonic() - started, 2))
    with batch.lock:
        batch.outcomes[job.row] = outcome
    batch.watcher.ended(job, outcome)
    # A summary that cannot be written is told at the end; the work goes on.
    with suppress(GeoliftError):
        _write_summary(batch)


def _outcome(batch: _Batch, job: Job, producer: int | None) -> Outcome:
    if batch.stopping:
        return _ended(job, "stopped", "not begun", NOT_BEGUN)
    if job.error is not None:
        return _ended(job, "failed", str(job.error), job.error.exit_code)
    if producer is not None and batch.outcomes[producer].code:
        message = f"its model was not made: row {producer} failed"
        return _ended(job, "failed", message, batch.outcomes[producer].code)
    state = state_of(job)
    if state.kind == "foreign":
        return _ended(job, "failed", f"{state.reason} exists already. Pass --overwrite to replace it.", 4)
    if state.kind == "finished":
        return _judged(batch, job, _ended(job, "skipped", "finished and unchanged"))
    busy = _ended(job, "skipped", BUSY)
    if is_being_written(job.output):
        return busy
    # The child says better what is wrong with the folder.
    with suppress(OSError):
        job.output.parent.mkdir(parents=True, exist_ok=True)
    made = _made(batch, job, state.reason)
    # Two batches on one manifest meet at a pair that neither had begun when it looked.
    return _judged(batch, job, busy if BUSY in made.message and made.code else made)


def _ended(job: Job, status: Status, message: str, code: int = 0, **facts: Any) -> Outcome:
    return Outcome(row=job.row, output=str(job.output), status=status, message=message, code=code, **facts)


def _begin(batch: _Batch, job: Job, reason: str) -> None:
    with batch.lock:
        first = job.row not in batch.begun
        batch.begun.add(job.row)
    if first:
        batch.watcher.started(job, reason)


def _made(batch: _Batch, job: Job, reason: str) -> Outcome:
    begun = partial(_begin, batch, job, reason)
    command = command_of(job, batch.options, batch.budget.limit_bytes)
    wanted = 0
    if batch.options.sharers > 1:
        plan = _call(batch, job, [*command, "--dry-run"], begun)
        if plan.code:
            return _called(job, plan, command)
        wanted = int(plan.document.get("cost", {}).get("memory_bytes", 0))
    with batch.budget.share(wanted) as go:
        if not go:
            return _ended(job, "stopped", "not begun", NOT_BEGUN)
        return _called(job, _call(batch, job, command, begun, tell=True), command)


def command_of(job: Job, options: Options, memory_bytes: int) -> list[str]:
    """Return the `geolift` command line of a job, without ``geolift`` itself."""
    assert job.settings is not None
    flags = [flag for name in sorted(job.settings.model_fields_set) for flag in _flags(name, job.settings)]
    given = job.settings.model_fields_set
    if options.sharers > 1 and "threads" not in given:
        flags.append(f"--threads={max(1, available_cpus() // options.sharers)}")
    if "memory" not in given and (options.sharers > 1 or options.memory_bytes is not None):
        flags.append(f"--memory={memory_bytes // options.sharers // 1_000_000}MB")
    # What may be replaced has been decided here.
    flags = [flag for flag in flags if flag not in ("--overwrite", "--no-overwrite")]
    first, msi = job.sources
    words = [first, msi] if isinstance(msi, str) else [first, *(f"--msi={band}" for band in msi)]
    return [job.verb, *words, f"--output={job.output}", *flags, "--overwrite"]


def _flags(name: str, settings: Settings) -> list[str]:
    """Write one option the way the command line takes it."""
    value, flag = getattr(settings, name), f"--{name.replace('_', '-')}"
    if value is None:
        return []
    if isinstance(value, bool):
        return [flag if value else f"--no-{name.replace('_', '-')}"]
    if name == "co":
        return [f"{flag}={option}" for option in value]
    if name == "bands":
        return [f"{flag}={band_text(value)}"]
    if isinstance(value, list | tuple):
        return [f"{flag}={','.join(str(item) for item in value)}"]
    return [f"{flag}={value}"]


# -- children ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Call:
    """What a child process said."""

    code: int
    message: str
    warnings: tuple[str, ...]
    document: dict[str, Any]


def _call(
    batch: _Batch, job: Job, arguments: Sequence[str], begun: Callable[[], None] = lambda: None, *, tell: bool = False
) -> _Call:
    """Run one geolift command as a child and read its JSON lines."""
    said = _Said(batch.watcher if tell else None, job)
    code = batch.place.run(arguments, said.hear, begun)
    message = said.message
    if code < 0:
        message = f"killed by signal {-code}; if memory was short, pass fewer --jobs or a smaller --memory"
        code = 128 - code
    return _Call(code, message or said.other.removeprefix("Error: "), tuple(said.warnings), said.document)


@dataclass
class _Said:
    """What a child says, told to a watcher as it comes."""

    watcher: Watcher | None
    job: Job
    message: str = ""
    other: str = ""
    warnings: list[str] = field(default_factory=list)
    document: dict[str, Any] = field(default_factory=dict)

    def hear(self, line: str) -> None:
        try:
            event = json.loads(line)
            kind = event.get("event")
        except (ValueError, AttributeError):
            # A traceback, or click's usage message: its last line says what happened.
            self.other = line.strip() or self.other
            return
        if kind == "progress":
            if self.watcher is not None and event["stage"] in STAGES:
                low, high = STAGES[event["stage"]]
                self.watcher.progressed(self.job, event["stage"], low + (high - low) * event["pct"] / 100)
        elif kind == "warning":
            self.warnings.append(event["message"])
            if self.watcher is not None:
                self.watcher.warned(self.job, event["message"])
        elif kind == "error":
            self.message = event["message"]
        elif kind == "result":
            self.document = event


def _called(job: Job, call: _Call, command: Sequence[str]) -> Outcome:
    status: Status = "done" if call.code == 0 else ("stopped" if call.code in ENDED else "failed")
    message = call.message if call.code else ""
    return _ended(job, status, message, call.code, warnings=call.warnings, command=("geolift", *command))


def _judged(batch: _Batch, job: Job, outcome: Outcome) -> Outcome:
    """Measure a product against its reference, if it has one, and hold it to the rules."""
    if outcome.code or job.reference is None:
        return outcome
    rules = [f"--require={rule}" for rule in batch.options.require]
    call = _call(batch, job, ["evaluate", str(job.output), job.reference, *rules])
    scores = {
        name: call.document[name]
        for name in ("rmse", "psnr_db", "ssim", "uiqi", "ergas", "sam_deg")
        if isinstance(call.document.get(name), int | float)
    }
    judged = replace(outcome, scores=scores or None)
    return replace(judged, status="failed", code=call.code, message=call.message) if call.code else judged


# -- telling ----------------------------------------------------------------------------------------------------------


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """Return the code of the first job that failed, in the manifest's order; 0 if none did."""
    return next((outcome.code for outcome in outcomes if outcome.code), 0)


def report(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the batch's summary as plain JSON types."""
    counts = {status: sum(o.status == status for o in outcomes) for status in ("done", "skipped", "failed", "stopped")}
    rows = [asdict(outcome) for outcome in outcomes]
    return {"counts": counts, "exit_code": exit_code(outcomes), "rows": rows}


def _write_summary(batch: _Batch) -> None:
    """Write the summary as it stands; after every job, so that a kill leaves the last one."""
    if batch.options.summary is None:
        return
    with batch.lock:
        known = [batch.outcomes[job.row] for job in batch.jobs if job.row in batch.outcomes]
        begun = {outcome.row for outcome in known}
        document = report(known) | {"waiting": [job.row for job in batch.jobs if job.row not in begun]}
        write_json(batch.options.summary, document)
