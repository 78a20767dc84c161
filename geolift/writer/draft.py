"""The hidden folder beside an output in which it grows; the output gets its name when it is complete."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geolift.errors import GeoliftError, InputError, OutputExistsError, ResourceError, UsageError, cleaned
from geolift.runtime.interrupts import Terminated, held
from geolift.runtime.system import open_locked
from geolift.writer.companions import companions, is_sidecar_of, sidecar_of
from geolift.writer.publication import LOCK, LOG, NEW, Renaming, draft_folder, publish, recover

IDENTITY, JOURNAL, MODEL, BESIDE = "run.json", "journal.jsonl", "model.safetensors", "beside.json"
PLAIN = "plain"


@dataclass(frozen=True)
class Draft:
    """An output on its way. ``resumed``: an earlier run of the same identity left parts of it."""

    path: Path
    folder: Path
    resumed: bool

    @property
    def finished(self) -> Path:
        """The file that gets the output's name; its companions are beside it, under their names."""
        return self.folder / NEW / self.path.name

    @property
    def plain(self) -> Path:
        """The file in the format that grows, where the last format is made from it in a second step."""
        return self.folder / PLAIN / self.path.name

    def beside(self, name: Path) -> Path:
        """Return where a file grows that will stand beside the output under that name."""
        return self.folder / NEW / name.name

    def publish(self, others: Sequence[Draft] = ()) -> None:
        """Give the finished file and all that belongs to it their names; see `publication`.

        What an older file of that name had beside it goes with it, but not a style that somebody made in QGIS.

        ``others``: side products of the same run: all of the set get their names, or none.
        """
        with disk_errors(self.path):
            publish(self.folder, [one for draft in (self, *others) for one in draft._renamings(main=draft is self)])

    def _renamings(self, main: bool) -> list[Renaming]:
        """Say what becomes of the output's name and of those beside it; ``main``: others of the set belong to it."""
        beside = companions(self.path)
        sidecar = sidecar_of(self.path)
        if self.beside(sidecar).exists() or is_sidecar_of(sidecar, self.path):
            beside.append(sidecar)
        names = [name for name in beside if self.beside(name).exists() or os.path.lexists(name)]
        return [
            Renaming(
                draft=self.folder,
                name=name.name,
                made=self.beside(name).exists(),
                data=main and name == self.path and self.finished.exists(),
                there=os.path.lexists(name),
            )
            for name in dict.fromkeys((self.path, *names))
        ]

    @property
    def journal(self) -> Path:
        """The list of finished tiles."""
        return self.folder / JOURNAL

    @property
    def model(self) -> Path:
        """Where a run keeps its trained model, so that its second half has the same."""
        return self.folder / MODEL


def check_output(path: Path, overwrite: bool) -> None:
    """Refuse an output that exists, or whose folder cannot be written.

    Raises OutputExistsError, UsageError, ResourceError.
    """
    folder = path.parent
    if not folder.is_dir():
        raise ResourceError(f"{path}: the folder {folder} does not exist; create it first")
    if path.is_dir() and not is_store(path):
        raise UsageError(f"{path}: is a folder; name a file in it")
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path}: exists already. Pass --overwrite to replace it.")
    if not os.access(folder, os.W_OK):
        raise ResourceError(f"{path}: the folder {folder} cannot be written")


def is_store(folder: Path) -> bool:
    """Tell whether a folder is a Zarr store, which is an output and not a place for one."""
    if (folder / ".zgroup").exists():
        return True
    try:  # the sidecar of a product called zarr is no store
        return "zarr_format" in json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


@contextmanager
def draft_of(path: Path, identity: Mapping[str, Any] | None = None, *, resume: bool = False) -> Iterator[Draft]:
    """Open the draft of an output; it is removed at the end, or kept for ``--resume`` if the run breaks off.

    Raises UsageError or InputError if what is there comes from other options, versions or inputs; ResourceError if
    another run is writing the same output, or the folder cannot be written.

    ``identity``: whatever the pixels depend on: inputs, options, versions; JSON-able. A draft of another identity is
    refused. ``resume``: go on with what an earlier run left; keep what this one leaves.
    """
    folder, lock, finished = draft_folder(path), None, False
    recover(path.parent)
    try:
        with held(), disk_errors(path):
            folder.mkdir(exist_ok=True)
            lock = _locked(path, folder / LOCK)
        resumed = resume and (folder / IDENTITY).exists()
        if resumed:
            _require_same(path, folder, identity or {})
        else:
            with disk_errors(path):
                _empty(folder)
                (folder / IDENTITY).write_text(json.dumps(cleaned(identity or {}), indent=1), encoding="utf-8")
        with disk_errors(path):
            (folder / NEW).mkdir(exist_ok=True)
        yield Draft(path, folder, resumed)
        finished = True
    except (UsageError, InputError):
        finished = not resume
        raise
    except (KeyboardInterrupt, Terminated) as error:
        error.add_note(_left(path, folder, resume))
        raise
    finally:
        with held():
            # A log that is still there says what the next start has to complete.
            if (
                lock is not None
                and not (folder / LOG).exists()
                and (finished or not (resume and _worth_keeping(folder)))
            ):
                shutil.rmtree(folder, ignore_errors=True)
            if lock is not None:
                os.close(lock)


def _left(path: Path, folder: Path, resume: bool) -> str:
    """Tell what is on disk of an output that was interrupted."""
    if not (folder / NEW / path.name).exists() and path.exists() and (folder / LOG).exists():
        return f"{path.name} is complete"
    kept = "what is finished is kept for --resume" if resume and _worth_keeping(folder) else "no output was left behind"
    return f"{kept}; the older {path.name} stands" if path.exists() else kept


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
    descriptor = open_locked(file)
    if descriptor is None:
        raise ResourceError(f"{path}: another run is writing it. Wait for that run, or give this one another output.")
    return descriptor


def _require_same(path: Path, folder: Path, identity: Mapping[str, Any]) -> None:
    try:
        before = json.loads((folder / IDENTITY).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: its {IDENTITY} cannot be read ({error}). Run without --resume.") from error
    now = json.loads(json.dumps(cleaned(identity)))
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
