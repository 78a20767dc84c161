"""The stages of a run as a person follows them: a bar for the one at work, a line with its time for each that ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import click

SLOW_S = 5.0
"""A log hears of a stage again only after so long."""
NAME_WIDTH = 12
ALMOST = 0.9999


def ended_line(stage: str, seconds: float, detail: str = "") -> str:
    """Return the line that is left of a stage.

    >>> ended_line("training", 12.34, "loss 0.0038")
    'training       12.3 s  loss 0.0038'
    """
    return f"{stage:<{NAME_WIDTH}} {seconds:6.1f} s  {detail}".rstrip()


@dataclass
class Stage:
    """The stage at work: its name, since when, how far it is, and what it last said of itself."""

    name: str
    started: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)
    detail: str = ""
    percent: int = -1

    @property
    def seconds(self) -> float:
        """How long it has been at work."""
        return time.monotonic() - self.started

    def left(self, fraction: float) -> str:
        """Guess how long it still takes; empty where that cannot be told yet."""
        if not 0.0 < fraction < 1.0 or self.seconds < 1.0:
            return ""
        return f"about {self.seconds * (1 - fraction) / fraction:.0f} s left"

    def is_quiet(self) -> bool:
        """Tell whether a log has heard nothing of it for a while; asking counts as telling."""
        if time.monotonic() - self.told < SLOW_S:
            return False
        self.told = time.monotonic()
        return True


@dataclass
class Ticks:
    """GDAL's own progress, which QGIS and scripts know: ``0...10...20`` to ``100 - done.``, on one line."""

    told: int = -1

    def show(self, fraction: float) -> None:
        """Write what has come since the last time: a dot for every 2.5 %, a number for every 10."""
        for tick in range(self.told + 1, int(40 * fraction) + 1):
            text = "." if tick % 4 else "100 - done.\n" if tick == 40 else str(tick // 4 * 10)
            click.echo(text, err=True, nl=False)
            self.told = tick

    def end(self) -> None:
        """Leave the line, finished or not."""
        if 0 <= self.told < 40:
            click.echo(err=True)
        self.told = -1


class Bar:
    """The moving line at the bottom of a terminal: a spinner until the first stage, then that stage's bar."""

    def __init__(self, title: str) -> None:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

        self._progress: Any = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=RichConsole(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task(title, total=None, detail="")
        self._progress.start()

    def show(self, stage: Stage, fraction: float, is_new: bool) -> None:
        """Draw a stage."""
        if is_new:
            self._progress.remove_task(self._task)
            self._task = self._progress.add_task(f"{stage.name:<{NAME_WIDTH}}", total=1.0, detail="")
        said = ", ".join(filter(None, (stage.detail, stage.left(fraction))))
        # Never whole: rich stops the clock of a bar that is, while what follows its stage goes on.
        self._progress.update(self._task, completed=min(fraction, ALMOST), detail=said)

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        return int(self._progress.console.width)

    @property
    def print(self) -> Callable[[str], None]:
        """What writes a line above the bar, unbroken and as it is."""
        return lambda text: self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Take the bar off the screen."""
        self._progress.stop()
