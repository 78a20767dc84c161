"""Whether a run can begin: everything that can be told before the first number is computed, here and for --dry-run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from geolift.errors import InputError
from geolift.pipeline.touched_files import Output, require_untouched
from geolift.readers.shared_raster import is_virtual
from geolift.readers.source_files import files_of_input
from geolift.runtime.progress import warn
from geolift.settings import ApplySettings, FuseSettings
from geolift.writer import Cluster, Stamps, ignored_options, require_packages, stamps_of

if TYPE_CHECKING:
    from geolift.network.engine import Engine

Streamed = TypeVar("Streamed", FuseSettings, ApplySettings)

MOST_MEMBERS = 20_000
"""A product has hundreds of files; a disk that is named as a folder has millions."""


def require_ready(
    inputs: Iterable[str], output: Path, beside: Iterable[Path], settings: FuseSettings | ApplySettings
) -> FilesRead:
    """Refuse a run that would end at once, or after all its work; return what it will read.

    Raises UsageError, InputError, OutputExistsError, ResourceError.

    ``inputs``: the images, or the model and the image. ``beside``: side products.
    """
    named = _files_named(settings)
    for option, path in named.items():
        if not Path(path).exists() and not (option == "mask" and is_virtual(path)):  # tables are local files
            raise InputError(f"--{option} {path}: no such file")
    outputs = [Output(output, told=True), *(Output(path) for path in beside)]
    require_untouched([*inputs, *named.values()], outputs, overwrite=settings.overwrite)
    require_packages(settings.of)
    if settings.scheduler is not None:
        Cluster(settings.scheduler).require_workers()
    return FilesRead.of([*inputs, *named.values()])


@dataclass(frozen=True)
class FilesRead:
    """The local files that a run reads, with size and time of each when it began."""

    stamps: Stamps

    @classmethod
    def of(cls, names: Iterable[str]) -> FilesRead:
        """Look at everything that inputs consist of; of very large folders at a part."""
        files = set[Path]()
        for name in names:
            some, folders = files_of_input(name)
            members = (member for folder in folders for member in folder.rglob("*"))
            files |= some | {member for member in islice(members, MOST_MEMBERS) if member.is_file()}
        return cls(stamps_of(files))

    def require_unchanged(self) -> None:
        """Refuse a product of which nobody knows what it was made from. Raises InputError."""
        now = stamps_of(map(Path, self.stamps))
        for name, stamp in self.stamps.items():
            if now.get(name) != stamp:
                what = "is gone" if name not in now else "has changed"
                raise InputError(f"{name}: {what} while it was read, so nothing was written; run again")


def absolute(name: str) -> str:
    """Return a local file's absolute name, which means the same in the folder where a worker runs; others as is."""
    return str(Path(name).absolute()) if not is_virtual(name) and Path(name).exists() else name


def _files_named(settings: FuseSettings | ApplySettings) -> dict[str, str]:
    """Return the files that options name for reading."""
    found = {name: getattr(settings, name, None) for name in ("srf", "wavelengths", "mask")}
    words = ("auto", "none")
    return {name: str(value) for name, value in found.items() if value is not None and str(value) not in words}


def settle_device(settings: Streamed) -> tuple[Engine, Streamed]:
    """Settle what computes, and tell what is ignored; the settings too, so that a resumed run computes alike."""
    from geolift.network.engine import choose_engine

    warn(*ignored_options(settings))
    engine = choose_engine(settings.device, settings.precision, warn)
    return engine, settings.model_copy(update={"device": engine.device, "precision": engine.precision})
