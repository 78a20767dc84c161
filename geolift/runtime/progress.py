"""Who wants to know how the work goes."""

from __future__ import annotations

from typing import Protocol


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


SILENT = Silent()
