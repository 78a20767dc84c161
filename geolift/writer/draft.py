"""The hidden folder beside an output in which it grows; the output gets its name when it is complete."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geolift.errors import GeoliftError, InputError, OutputExistsError, ResourceError, UsageError
from geolift.writer.viewing import is_our_style

try:
    import fcntl
except ImportError:  # Windows: two runs with one output are not told from each other
    fcntl = None  # type: ignore[assignment]

IDENTITY, JOURNAL, MODEL, LOCK = "run.json", "journal.jsonl", "model.safetensors", "lock"


@dataclass(frozen=True)
class Draft:
    """An output on its way. ``resumed``: an earlier run of the same identity left parts of it."""

    path: Path
    folder: Path
    resumed: bool
    keep: bool

    @property
    def data(self) -> Path:
        """The growing file."""
        return self.folder / f"data{self.path.suffix}"

    @property
    def converted(self) -> Path:
        """The finished file in its last format, where that is made from `data` in a second step."""
        return self.folder / f"converted{self.path.suffix}"

    @property
    def finished(self) -> Path:
        """The file that gets the output's name."""
        return self.converted if self.converted.exists() else self.data

    @property
    def style(self) -> Path:
        """How QGIS draws the file."""
        return self.folder / "style.qml"

    def publish(self) -> None:
        """Give the finished file its name; the data file last, since its name is what people wait for.

        What an older file of that name had beside it goes with it, but not a style that somebody made in QGIS.
        """
        data = self.finished
        header, style = data.with_suffix(".hdr"), self.path.with_suffix(".qml")
        with disk_errors(self.path):
            if header.exists():
                header.replace(self.path.with_suffix(".hdr"))
            for suffix in (".aux.xml", ".ovr"):
                _replace_or_remove(data.with_name(data.name + suffix), self.path.with_name(self.path.name + suffix))
            if is_our_style(style) or not style.exists():
                _replace_or_remove(self.style, style)
            if self.path.is_dir():  # an older Zarr store, gone with the draft
                self.path.replace(self.folder / "replaced")
            data.replace(self.path)

    @property
    def journal(self) -> Path:
        """The list of finished tiles."""
        return self.folder / JOURNAL

    @property
    def model(self) -> Path:
        """Where a run keeps its trained model, so that its second half has the same."""
        return self.folder / MODEL


def _replace_or_remove(new: Path, old: Path) -> None:
    if new.exists():
        new.replace(old)
    else:
        old.unlink(missing_ok=True)


def check_output(path: Path, overwrite: bool, inputs: tuple[str, ...] = ()) -> None:
    """Refuse an output that exists, is an input, or whose folder cannot be written.

    Raises
    ------
    OutputExistsError, UsageError, ResourceError
    """
    folder = path.parent
    if not folder.is_dir():
        raise ResourceError(f"{path}: the folder {folder} does not exist; create it first")
    if path.is_dir() and not (path / "zarr.json").exists():
        raise UsageError(f"{path}: is a folder; name a file in it")
    if any(Path(name).exists() and path.exists() and path.samefile(name) for name in inputs):
        raise UsageError(f"{path}: is an input; give the output another name")
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path}: exists already. Pass --overwrite to replace it.")
    if not os.access(folder, os.W_OK):
        raise ResourceError(f"{path}: the folder {folder} cannot be written")


def draft_folder(path: Path) -> Path:
    """Return the folder in which an output grows."""
    return path.with_name(f".{path.name}.parts")


@contextmanager
def draft_of(path: Path, identity: Mapping[str, Any] | None = None, *, resume: bool = False) -> Iterator[Draft]:
    """Open the draft of an output; it is removed at the end, or kept for ``--resume`` if the run breaks off.

    Parameters
    ----------
    identity : mapping
        Whatever the pixels depend on: inputs, options, versions; JSON-able. A draft of another identity is refused.
    resume : bool
        Go on with what an earlier run left; keep what this one leaves.

    Raises
    ------
    UsageError, InputError
        If what is there comes from other options, versions or inputs.
    ResourceError
        If another run is writing the same output, or the folder cannot be written.
    """
    folder = draft_folder(path)
    with disk_errors(path):
        folder.mkdir(exist_ok=True)
        lock = _locked(path, folder / LOCK)
    finished = False
    try:
        resumed = resume and (folder / IDENTITY).exists()
        if resumed:
            _require_same(path, folder, identity or {})
        else:
            with disk_errors(path):
                _empty(folder)
                (folder / IDENTITY).write_text(json.dumps(identity or {}, indent=1), encoding="utf-8")
        yield Draft(path, folder, resumed, resume)
        finished = True
    except (UsageError, InputError):
        finished = not resume
        raise
    finally:
        if finished or not (resume and _worth_keeping(folder)):
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _worth_keeping(folder: Path) -> bool:
    return (folder / MODEL).exists() or (folder / JOURNAL).exists()


def _empty(folder: Path) -> None:
    for item in folder.iterdir():
        if item.name == LOCK:
            continue
        if item.is_dir():
            shutil.rmtree(item)
        else:
            item.unlink()


def _locked(path: Path, file: Path) -> int:
    """Take the draft for this process alone; the system gives it back when the process ends, however it ends."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    if fcntl is None:
        return descriptor
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ResourceError(
            f"{path}: another run is writing it. Wait for that run, or give this one another output."
        ) from None
    except OSError:
        pass  # file systems without locks: the user must know what else runs
    return descriptor


def _require_same(path: Path, folder: Path, identity: Mapping[str, Any]) -> None:
    try:
        before = json.loads((folder / IDENTITY).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: its {IDENTITY} cannot be read ({error}). Run without --resume.") from error
    now = json.loads(json.dumps(identity))
    for kind, error_type, way_out in (
        ("inputs", InputError, "Start afresh: leave out --resume."),
        ("options", UsageError, "Repeat with the same options, or start afresh: leave out --resume."),
        ("versions", UsageError, "Install what was there, or start afresh: leave out --resume."),
    ):
        old, new = before.get(kind, {}), now.get(kind, {})
        changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        if changed:
            name = changed[0]
            raise error_type(
                f"{path}: cannot be resumed, {kind} changed: {name} was {_short(old.get(name))} and is now "
                f"{_short(new.get(name))}. {way_out}"
            )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}…"


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Tell a full disk or a lost folder from a bug."""
    from rasterio.errors import RasterioError

    try:
        yield
    except GeoliftError:
        raise
    except (RasterioError, OSError) as error:
        free = 0
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(path.parent).free
        raise ResourceError(
            f"{path}: cannot be written: {str(error).splitlines()[0]}. {free / 1e9:.2f} GB are free there."
        ) from error
