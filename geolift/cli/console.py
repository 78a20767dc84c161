"""What a command says while it works: progress, plan and warnings on stderr, the result alone on stdout."""

from __future__ import annotations

import json
import math
import sys
import textwrap
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import click

from geolift.cli.stages import Bar, Stage, Ticks, ended_line
from geolift.errors import clean, cleaned
from geolift.runtime.interrupts import raise_interrupt


def _finite(value: object) -> object:
    """Turn what is not finite into null: a statistic of an image of one value is no number, and NaN is no JSON."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Console:
    """One voice in several manners: a bar for people, plain lines for logs, JSON or GDAL's ticks for programs."""

    def __init__(
        self, mode: str, *, quiet: bool = False, verbose: int = 0, as_json: bool = False, title: str = ""
    ) -> None:
        if quiet and mode != "json":
            mode = "none"
        if mode == "auto":
            mode = "bar" if sys.stderr.isatty() else "plain"
        self.mode = mode
        self.quiet = quiet
        self.verbose = verbose
        self.as_json = as_json
        self._title = title
        self._stage: Stage | None = None
        self._bar: Bar | None = None
        self._ticks = Ticks()
        # A person reads them in the end, a log as they come.
        self._warnings: list[str] = []

    def __enter__(self) -> Console:
        if self.mode == "bar":
            self._bar = Bar(self._title or "starting")
        elif self.mode in ("plain", "gdal") and self._title:
            self._print(self._title)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stage = None  # it did not end
        self.settle()

    def progress(self, stage: str, fraction: float, detail: str = "") -> None:
        """Tell how much of a stage is done (0 to 1), with a short detail such as the loss."""
        raise_interrupt()
        fraction = min(max(fraction, 0.0), 1.0)
        is_new = self._stage is None or self._stage.name != stage
        if is_new:
            self._end_stage()
            self._stage = Stage(stage)
        now = self._stage
        assert now is not None
        percent, before, now.detail = int(100 * fraction), now.percent, detail or now.detail
        now.percent = percent
        if self.mode == "json" and percent != before:
            self._line({"event": "progress", "stage": stage, "pct": percent, "detail": detail})
        elif self.mode == "plain" and percent < 100 and now.is_quiet():
            click.echo(
                f"{stage} {percent} % {', '.join(filter(None, (detail, now.left(fraction))))}".rstrip(), err=True
            )
        elif self.mode == "gdal":
            if is_new:
                self._print(stage)
            self._ticks.show(fraction)
        elif self._bar is not None:
            self._bar.show(now, fraction, is_new)

    def _end_stage(self) -> None:
        if self._stage is not None and self.mode in ("bar", "plain"):
            self._print(ended_line(self._stage.name, self._stage.seconds, self._stage.detail))
        self._ticks.end()
        self._stage = None

    def settle(self) -> None:
        """End what moves, and say what was held back."""
        self._end_stage()
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        for text in self._warnings:
            self._print(f"warning: {text}")
        self._warnings.clear()

    def note(self, text: str, level: int = 0) -> None:
        """Say something worth knowing (``level`` 1 and above only with as many -v)."""
        if self.mode == "json" or self.quiet or level > self.verbose:
            return
        self._print(text)

    def warn(self, text: str) -> None:
        """Say what had to be assumed or looks wrong."""
        if self.mode == "json":
            self._line({"event": "warning", "message": clean(text)})
        elif self.mode == "bar" and self._bar is not None:
            self._warnings.append(text)
        elif not self.quiet:
            self._print(f"warning: {text}")

    def summary(self, lines: Sequence[str]) -> None:
        """Say what came out, for a person; it stands for the warnings that were held back."""
        if self.mode == "json":
            self._line({"event": "summary", "lines": [clean(line) for line in lines]})
        if self.mode in ("json", "none"):
            return
        if not self.verbose:
            self._warnings.clear()
        width = self._bar.width if self._bar is not None else 0
        self.settle()
        for line in lines:
            self._print(_wrapped(line, width) if width else line)

    def _print(self, text: str) -> None:
        text = clean(text)
        if self._bar is not None:
            self._bar.print(text)
        else:
            self._ticks.end()
            click.echo(text, err=True)

    def result(self, text: str, document: Mapping[str, Any]) -> None:
        """Print the result: text, or with --json the document."""
        self.settle()
        if self.mode == "json":
            self._line({"event": "result", **cleaned(document)})
        document = cleaned(_finite(document))
        click.echo(json.dumps(document, indent=2, allow_nan=False) if self.as_json else clean(text))

    @staticmethod
    def _line(event: Mapping[str, Any]) -> None:
        click.echo(json.dumps(_finite(event), allow_nan=False), err=True)


def _wrapped(line: str, width: int) -> str:
    """Break a line of a summary at spaces only, so that no path is cut, under its second column."""
    second = len(line) - len(line.partition(" ")[2].lstrip())
    return textwrap.fill(line, width, subsequent_indent=" " * second, break_long_words=False, break_on_hyphens=False)
