"""Who wants to know how the work goes; who hears it is settled once for a run and not handed from step to step."""

from __future__ import annotations

import html
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol

REDRAW_S = 0.2


class Listener(Protocol):
    """Who wants to know how the work goes."""

    def progress(self, stage: str, fraction: float, detail: str = "") -> None:
        """Hear how much of a stage is done, 0 to 1."""

    def warn(self, text: str) -> None:
        """Hear what had to be assumed or looks wrong."""


class Silent:
    """A listener that wants to know nothing."""

    def progress(self, stage: str, fraction: float, detail: str = "") -> None:
        """Hear nothing."""

    def warn(self, text: str) -> None:
        """Hear nothing."""


class Notebook:
    """Shows a notebook's cell how the work goes: a bar for each stage, its time, and what was warned of."""

    def __init__(self) -> None:
        self._stages: dict[str, tuple[float, float, str]] = {}
        self._started: dict[str, float] = {}
        self._warnings: list[str] = []
        self._drawn = 0.0
        self._display: Any = None

    def progress(self, stage: str, fraction: float, detail: str = "") -> None:
        """Show how much of a stage is done."""
        now = time.monotonic()
        started = self._started.setdefault(stage, now)
        self._stages[stage] = (min(max(fraction, 0.0), 1.0), now - started, detail)
        if fraction >= 1.0 or now - self._drawn > REDRAW_S:
            self._draw()

    def warn(self, text: str) -> None:
        """Show a warning below the bars."""
        self._warnings.append(text)
        self._draw()

    def as_html(self) -> str:
        """Return what is shown."""
        rows = "".join(
            f"<tr><td>{html.escape(stage)}</td><td><progress max='1' value='{share:.3f}'></progress></td>"
            f"<td>{seconds:.1f} s</td><td>{html.escape(detail)}</td></tr>"
            for stage, (share, seconds, detail) in self._stages.items()
        )
        notes = "".join(f"<li>{html.escape(text)}</li>" for text in self._warnings)
        return f"<table>{rows}</table>" + (f"<ul>{notes}</ul>" if notes else "")

    def _draw(self) -> None:
        screen: Any = importlib.import_module("IPython.display")
        self._drawn = time.monotonic()
        picture = screen.HTML(self.as_html())
        if self._display is None:
            self._display = screen.display(picture, display_id=True)
        else:
            self._display.update(picture)


class Automatic:
    """Shows progress in a notebook, and is silent everywhere else; each run has a display of its own."""

    def __init__(self) -> None:
        self._cell: Any = None
        self._shown: Listener = Silent()

    def progress(self, stage: str, fraction: float, detail: str = "") -> None:
        """Hear how much of a stage is done, 0 to 1."""
        self._of_this_cell().progress(stage, fraction, detail)

    def warn(self, text: str) -> None:
        """Hear what had to be assumed or looks wrong."""
        self._of_this_cell().warn(text)

    def _of_this_cell(self) -> Listener:
        cell = running_cell()
        if cell != self._cell:
            self._cell, self._shown = cell, Silent() if cell is None else Notebook()
        return self._shown


def running_cell() -> int | None:
    """Return the number of the notebook's cell that runs; None where no notebook does."""
    interactive = sys.modules.get("IPython")
    shell = interactive.get_ipython() if interactive is not None else None
    if shell is None or type(shell).__name__ != "ZMQInteractiveShell":
        return None
    return int(shell.execution_count)


SILENT = Silent()
AUTO = Automatic()
_HEARS: ContextVar[Listener] = ContextVar("geolift.listener", default=AUTO)


@contextmanager
def heard_by(listener: Listener | None) -> Iterator[None]:
    """Tell a listener how the work inside goes; None: whoever hears it already, at first a notebook's cell."""
    token = _HEARS.set(_HEARS.get() if listener is None else listener)
    try:
        yield
    finally:
        _HEARS.reset(token)


def warn(*texts: str) -> None:
    """Tell what had to be assumed or looks wrong."""
    for text in texts:
        _HEARS.get().warn(text)


def advance(stage: str, fraction: float, detail: str = "") -> None:
    """Tell how much of a stage is done, 0 to 1."""
    _HEARS.get().progress(stage, fraction, detail)


def of_stage(stage: str) -> Callable[..., None]:
    """Return `advance` of one stage, for the threads too, which do not know who listens."""
    return partial(_HEARS.get().progress, stage)
