"""What a command says while it works: progress, plan and warnings on stderr, the result alone on stdout."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import click

from geolift.cli.interrupts import raise_interrupt


def _finite(value: object) -> object:
    """Turn what is not finite into null: a statistic of an image of one value is no number, and NaN is no JSON."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Console:
    """One voice in five manners: a bar for people, plain lines for logs, JSON lines for programs, or silence."""

    def __init__(self, mode: str, *, quiet: bool = False, verbose: int = 0, as_json: bool = False) -> None:
        if quiet and mode != "json":
            mode = "none"
        if mode == "auto":
            mode = "bar" if sys.stderr.isatty() else "plain"
        self.mode = mode
        self.quiet = quiet
        self.verbose = verbose
        self.as_json = as_json
        self._stage = ""
        self._started = time.monotonic()
        self._shown = -1
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Console:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def progress(self, stage: str, fraction: float, detail: str = "") -> None:
        """Tell how much of a stage is done (0 to 1), with a short detail such as the loss."""
        raise_interrupt()
        percent = int(100 * min(max(fraction, 0.0), 1.0))
        if stage != self._stage:
            self._stage, self._started, self._shown = stage, time.monotonic(), -1
        if self.mode == "json":
            if percent != self._shown:
                self._line({"event": "progress", "stage": stage, "pct": percent, "detail": detail})
        elif self.mode == "plain":
            if percent // 25 != self._shown // 25 or self._shown < 0:
                click.echo(
                    f"{stage} {percent:3d} % {', '.join(filter(None, (detail, self._left(fraction))))}".rstrip(),
                    err=True,
                )
        elif self.mode == "bar":
            self._draw(stage, fraction, detail)
        self._shown = percent

    def _left(self, fraction: float) -> str:
        spent = time.monotonic() - self._started
        if fraction <= 0.0 or fraction >= 1.0 or spent < 1.0:
            return ""
        return f"about {spent * (1 - fraction) / fraction:.0f} s left"

    def _draw(self, stage: str, fraction: float, detail: str) -> None:
        if self._bar is None:
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description:<10}"),
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[detail]}"),
                console=RichConsole(stderr=True),
            )
            self._bar.start()
        if self._task is None or self._task[0] != stage:
            self._task = (stage, self._bar.add_task(stage, total=1.0, detail=detail))
        self._bar.update(self._task[1], completed=fraction, detail=detail)

    def note(self, text: str, level: int = 0) -> None:
        """Say something worth knowing (``level`` 1 and above only with as many -v)."""
        if self.mode == "json" or self.quiet or level > self.verbose:
            return
        self._print(text)

    def warn(self, text: str) -> None:
        """Say what had to be assumed or looks wrong."""
        if self.mode == "json":
            self._line({"event": "warning", "message": text})
        elif not self.quiet:
            self._print(f"warning: {text}")

    def _print(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(text, err=True)

    def result(self, text: str, document: Mapping[str, Any]) -> None:
        """Print the result: text, or with --json the document."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self.mode == "json":
            self._line({"event": "result", **document})
        click.echo(json.dumps(_finite(document), indent=2, allow_nan=False) if self.as_json else text)

    @staticmethod
    def _line(event: Mapping[str, Any]) -> None:
        click.echo(json.dumps(_finite(event), allow_nan=False), err=True)
