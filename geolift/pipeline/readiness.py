"""Whether a run can begin: everything that can be told before the first number is computed, here and for --dry-run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from geolift.errors import InputError
from geolift.pipeline.touched_files import Output, require_untouched
from geolift.readers.shared_raster import is_virtual
from geolift.runtime.progress import Listener
from geolift.settings import ApplySettings, FuseSettings
from geolift.writer import Cluster, require_packages

if TYPE_CHECKING:
    from geolift.network.engine import Engine

Streamed = TypeVar("Streamed", FuseSettings, ApplySettings)


def require_ready(
    inputs: Iterable[str], output: Path, beside: Iterable[Path], settings: FuseSettings | ApplySettings
) -> None:
    """Refuse a run that would end at once, or after all its work.

    Parameters
    ----------
    inputs
        The images, or the model and the image.
    beside
        Side products.

    Raises
    ------
    UsageError, InputError, OutputExistsError, ResourceError
    """
    named = _files_named(settings)
    for option, path in named.items():
        if not is_virtual(path) and not Path(path).exists():
            raise InputError(f"--{option} {path}: no such file")
    outputs = [Output(output, told=True), *(Output(path) for path in beside)]
    require_untouched([*inputs, *named.values()], outputs, overwrite=settings.overwrite)
    require_packages(settings.of)
    if settings.scheduler is not None:
        Cluster(settings.scheduler).require_workers()


def _files_named(settings: FuseSettings | ApplySettings) -> dict[str, str]:
    """Return the files that options name for reading."""
    found = {name: getattr(settings, name, None) for name in ("srf", "wavelengths", "mask")}
    words = ("auto", "none")
    return {name: str(value) for name, value in found.items() if value is not None and str(value) not in words}


def settle_device(settings: Streamed, listener: Listener) -> tuple[Engine, Streamed]:
    """Settle what computes; the settings with it, so that a resumed run computes with the same."""
    from geolift.network.engine import choose_engine

    engine = choose_engine(settings.device, settings.precision, listener.warn)
    return engine, settings.model_copy(update={"device": engine.device, "precision": engine.precision})
