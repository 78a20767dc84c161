"""What stands on disk when `fuse --overwrite` dies, or is refused, at each of its file-system calls.

A product with sidecar, quality raster, model and report is replaced by another one. The run is repeated once for each
call that changes the file system, and in front of that call the process is killed, or the call fails with ENOSPC or
EIO. Then it is looked at what is there: at once (nothing may stand beside what it does not belong to), after another
command has looked at the folder (the older set or the newer one, whole), and after the same command was given again
(the newer set, and nothing else).

    python tools/crash_matrix.py                     every format, fault and call
    python tools/crash_matrix.py --formats ENVI --faults kill --every 3

Needs a POSIX system: each run is a fork of this process, in which everything is computed already.
"""

from __future__ import annotations

import argparse
import collections
import errno
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "helpers"))

from safetensors.numpy import load_file
from scenes import make_pair

from geolift.pipeline import files
from geolift.pipeline.touched_files import recover_beside
from geolift.report import page
from geolift.settings import FuseSettings

FORMATS = {"GTiff": "p.tif", "COG": "p.tif", "ENVI": "p.img", "Zarr": "p.zarr"}
FAULTS = ("kill", "ENOSPC", "EIO")
SIDE = {"qa": "q.tif", "save_model": "m.safetensors", "report": "r.html"}
CHANGING = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link"}
PATCHED = ("write", "fsync", "ftruncate")
"""Of `os`: Python tells no auditor of them."""


@dataclass(frozen=True)
class Case:
    """One run that dies or fails in front of its ``call``-th change of the file system."""

    of: str
    fault: str
    call: int


class Faults:
    """Counts the changes of the file system below a folder, and lets one of them fail."""

    def __init__(self, folder: Path, fault: str, call: int) -> None:
        self.folder, self.fault, self.call = str(folder), fault, call
        self.count, self.names = 0, list[str]()
        self.on = False

    def install(self) -> None:
        """Watch from now on, for as long as this process lives."""
        sys.addaudithook(self._heard)
        for name in PATCHED:
            setattr(os, name, self._watched(name, getattr(os, name)))
        self.on = True

    def _heard(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            path, _, flags = args
            if not isinstance(path, str) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
            self._struck(event, path)
        elif event in CHANGING:
            self._struck(event, os.fsdecode(args[0]) if not isinstance(args[0], int) else self.folder)

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(descriptor: int, *args: Any) -> Any:
            if self.on and descriptor > 2:
                self._struck(name, str(Path(f"/proc/self/fd/{descriptor}").readlink()))
            return call(descriptor, *args)

        return watched

    def _struck(self, event: str, path: str) -> None:
        if not str(Path.cwd() / path).startswith(self.folder):
            return
        self.count += 1
        self.names.append(f"{event} {os.path.relpath(path, self.folder)}")
        if self.count != self.call:
            return
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        number = getattr(errno, self.fault)
        raise OSError(number, os.strerror(number), path)


@cache
def _computed(folder: Path, dtype: str) -> Any:
    """Do everything up to the pixels once; forks have it."""
    from geolift.pipeline.fusion import fuse_cubes
    from geolift.pipeline.run import Run

    pair, settings = folder / "in", _settings(folder, "GTiff", dtype)
    return fuse_cubes(*files.open_pair(pair / "hsi.tif", pair / "msi.tif", settings), Run(settings=settings))


def _settings(folder: Path, of: str, dtype: str) -> FuseSettings:
    side = {name: folder / file for name, file in SIDE.items()}
    quick: dict[str, Any] = {"method": "linear", "refine": "off", "coregister": "off", "harmonize": "off"}
    return FuseSettings(sensor="sentinel-2a", of=of, dtype=dtype, overwrite=True, **quick, **side)  # type: ignore[arg-type]


def fuse(folder: Path, of: str, dtype: str) -> None:
    """Make the product with all that goes with it; nothing is computed that a fork has from its parent."""
    pair, fusion = folder.parent / "in", _computed(folder.parent, dtype)
    with ExitStack() as replaced:
        for module, name, known in (
            (files, "open_pair", (None, None)),
            (files, "fuse_cubes", fusion),
            (page, "render", f"<html>{dtype}</html>"),
        ):
            replaced.enter_context(mock.patch.object(module, name, return_value=known))
        files.fuse_files(pair / "hsi.tif", pair / "msi.tif", folder / FORMATS[of], _settings(folder, of, dtype))


def forked(action: Callable[[], None]) -> int:
    """Do something in a fork; return how it ended: 0, 7 for an error that is told, minus the signal."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            action()
            code = 0
        except OSError as error:
            code = getattr(error, "exit_code", 1)
        except BaseException as error:
            code = getattr(error, "exit_code", 1)
            if code == 1:
                sys.excepthook(type(error), error, error.__traceback__)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def contents(folder: Path) -> dict[str, str]:
    """Return name → what is in it, of all that is not hidden; the dtype where that tells old from new."""
    return {path.name: _known(path) for path in sorted(folder.iterdir()) if not path.name.startswith(".")}


def _known(path: Path) -> str:
    if path.suffix == ".json":
        return str(json.loads(path.read_text(encoding="utf-8"))["properties"]["geolift:settings"]["dtype"])
    if path.suffix == ".html":
        return path.read_text(encoding="utf-8")
    if path.suffix == ".safetensors":  # whose header is in no order
        tensors = sorted((name, array.tobytes()) for name, array in load_file(path).items())
        return hashlib.sha256(repr(tensors).encode()).hexdigest()
    parts = [path] if path.is_file() else sorted(part for part in path.rglob("*") if part.is_file())
    return hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()


@dataclass(frozen=True)
class Stand:
    """The two sets that a format may leave: name → content."""

    old: dict[str, str]
    new: dict[str, str]

    def mixed(self, found: dict[str, str]) -> bool:
        """Tell whether files of both sets stand side by side, or one that is of neither."""
        only_old = any(value == self.old.get(name) != self.new.get(name) for name, value in found.items())
        only_new = any(value == self.new.get(name) != self.old.get(name) for name, value in found.items())
        strange = any(value not in (self.old.get(name), self.new.get(name)) for name, value in found.items())
        return strange or (only_old and only_new)

    def whole(self, found: dict[str, str]) -> bool:
        """Tell whether it is one of the two, with all its files."""
        return found in (self.old, self.new)


@contextmanager
def stage() -> Iterator[Path]:
    """Yield a folder with a pair of images, for all cases."""
    memory = Path("/dev/shm")  # where fsync costs nothing
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        make_pair(Path(name) / "in", rows=24, cols=24)
        yield Path(name)


def stand_of(base: Path, of: str) -> Stand:
    """Make both sets once; the older one is kept for the cases to begin with."""
    folder = base / "out"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    fuse(folder, of, "int16")
    old = contents(folder)
    shutil.rmtree(base / of, ignore_errors=True)
    shutil.copytree(folder, base / of)
    fuse(folder, of, "float32")
    return Stand(old, contents(folder))


def calls_of(base: Path, of: str) -> list[str]:
    """List the changes of the file system that a run makes."""
    folder = _begun(base, of)
    told = base / "calls"

    def counted() -> None:
        faults = Faults(folder, "kill", -1)
        faults.install()
        fuse(folder, of, "float32")
        faults.on = False
        told.write_text("\n".join(faults.names), encoding="utf-8")

    assert forked(counted) == 0
    return told.read_text(encoding="utf-8").splitlines()


def _begun(base: Path, of: str) -> Path:
    folder = base / "out"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base / of, folder)
    return folder


def problems(base: Path, case: Case, stand: Stand) -> list[str]:
    """Run one case; return what is wrong, in words."""
    folder = _begun(base, case.of)

    def struck() -> None:
        Faults(folder, case.fault, case.call).install()
        fuse(folder, case.of, "float32")

    code = forked(struck)
    found = []
    expected = (-signal.SIGKILL,) if case.fault == "kill" else (0, 7)
    if code not in expected:
        found.append(f"ended with {code}")
    if stand.mixed(contents(folder)):
        found.append(f"mixed at once: {contents(folder)}")
    if case.fault != "kill" and code == 0 and contents(folder) != stand.new:
        found.append("said done, and is not")
    if forked(lambda: recover_beside([folder / FORMATS[case.of]])) or not stand.whole(contents(folder)):
        found.append(f"not whole after another command: {sorted(contents(folder))}")
    if forked(lambda: fuse(folder, case.of, "float32")) or contents(folder) != stand.new:
        found.append("the same command again does not make the newer set")
    hidden = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    return found + ([f"left over: {hidden}"] if hidden else [])


def main() -> int:
    """Run the matrix and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--every", type=int, default=1, help="only each n-th call")
    given = parser.parse_args()
    wrong, tried = collections.Counter[str](), 0
    with stage() as base:
        for of in given.formats.split(","):
            stand, calls = stand_of(base, of), calls_of(base, of)
            for fault in given.faults.split(","):
                for call in range(1, len(calls) + 1, given.every):
                    tried += 1
                    for text in problems(base, Case(of, fault, call), stand):
                        wrong[of] += 1
                        print(f"{of} {fault} before {call} ({calls[call - 1]}): {text}", flush=True)
            print(f"{of}: {len(calls)} calls, {wrong[of]} problems", flush=True)
    print(f"{tried} runs, {sum(wrong.values())} problems")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
