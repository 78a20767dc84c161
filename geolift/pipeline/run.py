"""A run: what it was told, what it warned of, and where it keeps what it learned."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from geolift.runtime import progress
from geolift.runtime.machine import available_cpus
from geolift.settings import FuseSettings


@dataclass(frozen=True, eq=False, kw_only=True)
class Run:
    """What a fusion was told, and what it warned of.

    Parameters
    ----------
    settings
        Every option in force.
    output
        Where the product will be written; None in memory.
    kept_model
        Where the model is kept for a run that may have to be resumed, and taken from if it is there; None = nowhere.
    warnings
        Everything that the listener was warned of, in order.
    """

    settings: FuseSettings
    output: Path | None = None
    kept_model: Path | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def threads(self) -> int:
        """Threads that may compute at once."""
        return self.settings.threads or available_cpus()

    @cached_property
    def device(self) -> str:
        """The torch device that trains the network. Raises ResourceError if the one asked for is not there."""
        from geolift.network.engine import choose_engine

        return choose_engine(self.settings.device).device

    @property
    def scratch_folder(self) -> Path | None:
        """Where large intermediate arrays go; None = memory."""
        return None if self.kept_model is None else self.kept_model.parent

    def warn(self, *texts: str) -> None:
        """Tell the listener, and keep it for sidecar and report."""
        progress.warn(*texts)
        self.warnings.extend(texts)
