"""The files of a run get their names together: all of them or none, however the run ends.

A rename is atomic for one file, not for a product with its header, sidecar and side products. So a log beside the
output says first what is to be renamed; a run that dies in between is completed from it at the next start. In between,
no file stands beside one that it does not belong to: companions that go are taken away before data are replaced, and
new ones come after them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from geolift.errors import ResourceError
from geolift.runtime.interrupts import held
from geolift.runtime.system import open_locked, sync_folder

LOG, POINTER, LOCK = "publish.json", "main.json", "lock"
NEW, OLD = "new", "old"


def draft_folder(path: Path) -> Path:
    """Return the folder in which an output grows."""
    return path.with_name(f".{path.name}.parts")


def is_draft_folder(folder: Path) -> bool:
    """Tell it by its name."""
    return folder.name.startswith(".") and folder.name.endswith(".parts")


@dataclass(frozen=True, kw_only=True)
class Renaming:
    """One name of a set, and what becomes of it.

    Parameters
    ----------
    draft
        The hidden folder beside the file, where the new one is and the older one is put until all is done.
    name
        The file's name from now on.
    made
        Whether there is a new file; without one, an older file of that name only goes.
    data
        Whether it is what the others belong to: it is replaced in one step, and only while they are away.
    there
        Whether there was an older one when the set was complete.
    """

    draft: Path
    name: str
    made: bool
    data: bool
    there: bool

    @property
    def target(self) -> Path:
        """Where the file has its name."""
        return self.draft.parent / self.name

    @property
    def new(self) -> Path:
        """The new file until it has its name."""
        return self.draft / NEW / self.name

    @property
    def old(self) -> Path:
        """The older file until all is done."""
        return self.draft / OLD / self.name

    @property
    def done(self) -> bool:
        """Whether the new file has its name already."""
        return self.made and not os.path.lexists(self.new)

    def take_away(self) -> None:
        """Put the older file aside."""
        if self.there and not self.done and not os.path.lexists(self.old) and os.path.lexists(self.target):
            self.old.parent.mkdir(exist_ok=True)
            self.target.rename(self.old)

    def put(self) -> None:
        """Give the new file its name."""
        if not self.made or self.done:
            return
        if self.target.is_dir() or self.new.is_dir():  # a Zarr store: folders are not replaced in one step
            self.take_away()
        elif self.data and self.there and not os.path.lexists(self.old):
            self.old.parent.mkdir(exist_ok=True)
            with contextlib.suppress(OSError):  # for `put_back` alone; not every file system has links
                os.link(self.target, self.old)
        self.new.replace(self.target)

    def put_back(self) -> None:
        """Give the older file its name again, or take the new one away where there was none."""
        if os.path.lexists(self.old):
            if self.target.is_dir():
                self.target.rename(self.new)
            self.old.replace(self.target)
        elif self.done and not self.there:
            self.target.rename(self.new)

    @property
    def reversible(self) -> bool:
        """Whether the older file, if there was one, is still there under one name or the other."""
        return not (self.there and self.done) or os.path.lexists(self.old)


def publish(main: Path, renamings: Sequence[Renaming]) -> None:
    """Carry out the renamings of a finished set; signals wait until that is done.

    Raises OSError if the file system refuses; what stands there is then the older set; ResourceError if it refuses to
    go back as well; the next start completes the set.

    ``main``: the draft folder of the main output, where the log is kept.
    """
    log = main / LOG
    with held():
        _write_log(log, renamings)
        try:
            try:
                _complete(renamings)
            except OSError:
                _complete(renamings)  # each step tells by what is there whether it is done
        except OSError as error:
            if all(one.reversible for one in renamings) and _went_back(log, renamings):
                raise
            raise ResourceError(
                f"{renamings[0].target}: complete, but not all of its files could be given their names: "
                f"{error.strerror or error}. The next geolift command on it does that."
            ) from error
        with contextlib.suppress(OSError):  # a log of what is done does no harm
            log.unlink()


def _went_back(log: Path, renamings: Sequence[Renaming]) -> bool:
    try:
        for one in reversed(renamings):
            one.put_back()
        log.unlink()
    except OSError:
        return False
    return True


def _complete(renamings: Sequence[Renaming]) -> None:
    companions = [one for one in renamings if not one.data]
    for one in companions:
        one.take_away()
    for one in (*(one for one in renamings if one.data), *companions):
        one.put()
    for folder in {one.target.parent for one in renamings}:
        sync_folder(folder)


def _relative(path: Path, base: Path) -> str:
    return os.path.relpath(path.resolve(), base.resolve())


def _write_log(log: Path, renamings: Sequence[Renaming]) -> None:
    """Write what is to be done; paths relative to the log, so that a folder that is moved is no obstacle."""
    main = log.parent
    for draft in {one.draft for one in renamings} - {main}:
        (draft / POINTER).write_text(json.dumps(_relative(main, draft)), encoding="utf-8")
    files = [
        {"draft": _relative(one.draft, main), "name": one.name, "made": one.made, "data": one.data, "there": one.there}
        for one in renamings
    ]
    part = log.with_suffix(".part")
    with part.open("w", encoding="utf-8") as stream:
        json.dump({"files": files}, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(log)
    sync_folder(main)


def is_being_written(path: Path) -> bool:
    """Tell whether a run that is alive writes an output."""
    file = draft_folder(path) / LOCK
    if not file.exists():
        return False
    try:
        descriptor = open_locked(file)
    except OSError:
        return False
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is None


# -- at the next start ------------------------------------------------------------------------------------------------


def recover(folder: Path) -> list[Path]:
    """Complete what runs that died left half renamed in a folder; return the data files concerned.

    Sets of runs that are alive are left to them. Raises ResourceError if the files cannot be renamed here.
    """
    completed = []
    for log in _logs_of(folder):
        lock = None
        try:
            lock = open_locked(log.parent / LOCK)
            if lock is not None and log.exists():
                completed += _recovered(log)
        except OSError as error:
            raise ResourceError(
                f"{log.parent}: a run died while its files got their names, and this cannot be completed here: "
                f"{error.strerror or error}. Run geolift once where that folder can be written."
            ) from error
        finally:
            if lock is not None:
                os.close(lock)
    return completed


def _logs_of(folder: Path) -> list[Path]:
    try:
        drafts = sorted(entry for entry in folder.iterdir() if is_draft_folder(entry))
    except OSError:
        return []
    mains = [main for draft in drafts for main in (draft, _main_of(draft)) if main is not None]
    return [main / LOG for main in dict.fromkeys(mains) if (main / LOG).is_file()]


def _main_of(draft: Path) -> Path | None:
    """Return the draft folder of the set's main output, as a side product's draft knows it."""
    try:
        text = json.loads((draft / POINTER).read_text(encoding="utf-8"))
        main = (draft / text).resolve()
    except (OSError, ValueError, TypeError):
        return None
    return main if is_draft_folder(main) else None


def _recovered(log: Path) -> list[Path]:
    try:
        renamings = list(_read_log(log))
    except (ValueError, KeyError, TypeError):
        return []  # nothing that was written here
    _complete(renamings)
    log.unlink()
    for draft in {one.draft for one in renamings}:
        shutil.rmtree(draft, ignore_errors=True)
    return [one.target for one in renamings if one.data]


def _read_log(log: Path) -> Iterator[Renaming]:
    """Read a log; it speaks for its own folder, and for drafts elsewhere that say that they belong to it."""
    main = log.parent.resolve()
    for entry in json.loads(log.read_text(encoding="utf-8"))["files"]:
        draft, name = (main / entry["draft"]).resolve(), Path(entry["name"]).name
        if not is_draft_folder(draft) or (draft != main and draft.is_dir() and _main_of(draft) != main):
            raise ValueError(f"{draft} does not belong to it")
        flags = {key: bool(entry[key]) for key in ("made", "data", "there")}
        yield Renaming(draft=draft, name=name, **flags)
