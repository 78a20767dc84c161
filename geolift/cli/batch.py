"""`geolift batch`: many pairs from one manifest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pydantic import Field

from geolift.cli.command import command
from geolift.cli.console import Console
from geolift.cli.options import dry_run_option, run_options, settings_options
from geolift.cli.stages import Ticks
from geolift.errors import PartlyFailed, UsageError
from geolift.settings import FuseSettings
from geolift.settings.base import shown

if TYPE_CHECKING:
    from geolift.batch.jobs import Outcome
    from geolift.batch.manifest import Job


class BatchSettings(FuseSettings):
    """Everything `geolift batch` can be told: the options of every row that does not set them, and its own."""

    jobs: int | None = Field(
        None,
        ge=1,
        description="Pairs worked on at the same time, each a process of its own. Default: 1; all on a cluster.",
    )
    scheduler: str | None = Field(
        None,
        description="Dask cluster beside whose workers the pairs run: tcp://HOST:PORT or a scheduler FILE.json.",
        json_schema_extra=shown("ADDRESS|FILE"),
    )
    summary: Path | None = Field(None, description="Write the summary as JSON here, anew after every pair.")


@command("batch")
@click.argument("manifest", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--require",
    multiple=True,
    metavar="RULE",
    help='A pair fails with code 6 unless its product keeps the rule against its reference: "sam<3"; repeatable.',
)
@settings_options(BatchSettings)
@dry_run_option
@run_options
def batch_command(
    manifest: Path, require: tuple[str, ...], settings: BatchSettings, dry_run: bool, console: Console
) -> None:
    """Fuse every pair of MANIFEST: a CSV or TOML with hsi, msi, out and any option of `geolift fuse`.

    Paths are relative to the manifest. Finished and unchanged pairs are skipped, a failure does not stop the others,
    and the same command goes on where a killed one ended. A row with a model instead of an hsi applies that saved
    model; a reference is what the product is measured against. Options given here hold for the rows that leave them
    open; --memory is what all jobs together may take, each pair on a cluster. Exits with 0, or with the code of the
    first pair that failed.

    \b
    Examples:
      geolift batch pairs.csv --sensor sentinel2 --jobs 4 --memory 16GB
      geolift batch pairs.toml --require "sam<3" --summary night.json
      geolift batch pairs.csv --scheduler tcp://10.0.0.1:8786
    """
    from geolift.batch.manifest import read_manifest

    own = set(BatchSettings.model_fields) - set(FuseSettings.model_fields) | {"memory", "scheduler"}
    common = {name: getattr(settings, name) for name in settings.model_fields_set - own}
    jobs = read_manifest(manifest, common)
    if settings.summary is not None:
        _require_free_summary(settings.summary, manifest, jobs, overwrite=settings.overwrite)
    run_jobs(jobs, settings, console, require=require, dry_run=dry_run)


def _require_free_summary(summary: Path, manifest: Path, jobs: Sequence[Job], *, overwrite: bool) -> None:
    """Refuse a summary in the place of a product or of anything else that is there, but for an earlier summary."""
    from geolift.pipeline.touched_files import Output, require_untouched

    outputs = [Output(job.output, told=True) for job in jobs]
    if summary.resolve() in {path.resolve() for output in outputs for path in (output.path, *output.beside)}:
        raise UsageError(f"--summary {summary}: is a product of this batch, or its sidecar; give it another name")
    if not _is_summary(summary):
        read = [manifest, *(name for job in jobs for name in (*job.inputs.values(), job.reference))]
        require_untouched(read if summary.exists() else [], [Output(summary)], overwrite=overwrite)


def _is_summary(path: Path) -> bool:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and {"counts", "rows", "waiting"} <= set(found)


def run_jobs(
    jobs: Sequence[Job],
    settings: BatchSettings,
    console: Console,
    *,
    require: tuple[str, ...] = (),
    dry_run: bool = False,
) -> None:
    """Run jobs, show them, print the table, and raise PartlyFailed if any failed."""
    from geolift.batch import jobs as batch_jobs
    from geolift.metrics import quality_gate

    for rule in require:
        quality_gate.parse(rule)
    unmeasured = [job.row for job in jobs if require and job.reference is None]
    if unmeasured:
        raise UsageError(f"--require: row {unmeasured[0]} has no reference to be measured against")
    if dry_run:
        rows = [_intention(job) for job in jobs]
        console.result("\n".join(f"{r['row']:4}  {r['output']}: {r['will']}" for r in rows), {"rows": rows})
        return
    at_once = settings.jobs or (1 if settings.scheduler is None else len(jobs))
    options = batch_jobs.Options(at_once, settings.memory, require, settings.summary, settings.scheduler)
    with _View(console, len(jobs)) as view:
        outcomes = batch_jobs.run(jobs, options, view)
    document = batch_jobs.report(outcomes)
    console.result("\n".join(_table(outcomes)), document)
    failed = [outcome.row for outcome in outcomes if outcome.code]
    if failed:
        listed = ", ".join(map(str, failed))
        raise PartlyFailed(f"{len(failed)} of {len(outcomes)} pairs failed: row {listed}", document["exit_code"])


def _intention(job: Job) -> dict[str, Any]:
    from geolift.batch import jobs as batch_jobs

    if job.error is not None:
        will = f"fail: {job.error}"
    else:
        state = batch_jobs.state_of(job)
        words = {"missing": job.verb, "finished": "skip, finished and unchanged", "stale": f"redo, {state.reason}"}
        will = words.get(state.kind, f"fail: {state.reason} exists already")
    return {"row": job.row, "output": str(job.output), "will": will}


def _table(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the summary as a person reads it; also what a log keeps."""
    width = max(len(Path(outcome.output).name) for outcome in outcomes)
    lines = [f"{'row':>4}  {'output':<{width}}  {'status':<8} {'code':>4} {'seconds':>8}"]
    for outcome in outcomes:
        scores = outcome.scores or {}
        measured = ", ".join(
            f"{name} {scores[key]:.2f} {unit}"
            for name, key, unit in (("PSNR", "psnr_db", "dB"), ("SAM", "sam_deg", "°"))
            if key in scores
        )
        note = outcome.message or measured
        line = (
            f"{outcome.row:4}  {Path(outcome.output).name:<{width}}  {outcome.status:<8} "
            f"{outcome.code:4} {outcome.seconds:8.1f}  {note}"
        )
        lines.append(line.rstrip())
    return lines


class _View:
    """What is seen of a batch while it runs: a live table, plain lines, JSON lines, or nothing."""

    def __init__(self, console: Console, total: int) -> None:
        self.console = console
        self.total = total
        self.shares: dict[int, float] = {}
        self._live: Any = None
        self._ticks = Ticks()
        self._tasks: dict[int, Any] = {}

    def __enter__(self) -> _View:
        self.console.settle()
        if self.console.mode == "bar":
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

            self._live = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[stage]:<9}"),
                TimeElapsedColumn(),
                console=RichConsole(stderr=True),
            )
            self._tasks[0] = self._live.add_task(f"all {self.total} pairs", total=self.total, stage="")
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ticks.end()
        if self._live is not None:
            self._live.stop()

    def started(self, job: Job, reason: str) -> None:
        """See a job begin."""
        if self._live is not None:
            label = f"{job.row:4}  {job.output.name}"
            self._tasks[job.row] = self._live.add_task(label, total=1.0, stage="")
        self._tell(
            {"event": "row", "row": job.row, "output": str(job.output), "status": "started", "message": reason},
            f"[{job.row}/{self.total}] {job.output.name}: begins" + (f", {reason}" if reason else ""),
        )

    def progressed(self, job: Job, stage: str, fraction: float) -> None:
        """See how much of a job is done."""
        self.shares[job.row] = fraction
        if self._live is not None:
            self._live.update(self._tasks[job.row], completed=fraction, stage=stage)
        self._overall(stage, job.row)

    def _overall(self, stage: str, row: int) -> None:
        done = sum(self.shares.values())
        if self._live is not None:
            self._live.update(self._tasks[0], completed=done)
        elif self.console.mode == "json":
            percent = int(100 * done / self.total)
            click.echo(json.dumps({"event": "progress", "stage": stage, "pct": percent, "row": row}), err=True)
        elif self.console.mode == "gdal":
            self._ticks.show(done / self.total)

    def warned(self, job: Job, text: str) -> None:
        """Hear a job's warning."""
        if self.console.quiet:
            return
        self._tell(
            {"event": "warning", "row": job.row, "message": text},
            f"[{job.row}/{self.total}] {job.output.name}: warning: {text}",
        )

    def ended(self, job: Job, outcome: Outcome) -> None:
        """See a job end."""
        self.shares[job.row] = 1.0
        if self._live is not None and job.row in self._tasks:
            self._live.remove_task(self._tasks.pop(job.row))
        self._tell(
            {
                "event": "row",
                "row": job.row,
                "output": str(job.output),
                "status": outcome.status,
                "code": outcome.code,
                "message": outcome.message,
                "seconds": outcome.seconds,
            },
            f"[{job.row}/{self.total}] {job.output.name}: {outcome.status} after {outcome.seconds:.1f} s"
            + (f": {outcome.message}" if outcome.message else ""),
        )
        self._overall("", job.row)

    def _tell(self, event: dict[str, Any], text: str) -> None:
        if self.console.mode == "json":
            click.echo(json.dumps(event), err=True)
        elif self._live is not None:
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        elif self.console.mode == "plain" or (self.console.mode == "gdal" and event["event"] == "warning"):
            self._ticks.end()
            click.echo(text, err=True)
