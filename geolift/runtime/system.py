"""What operating systems do differently: locks, folders brought to the disk, processes that are alive.

Everything that only POSIX systems or only Windows has stands here, so that the rest of geolift runs on both.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path
from typing import Any

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


def lock(descriptor: int) -> bool:
    """Take an open file for this process alone; False if another one has it.

    The system gives it back when the process ends, however it ends. File systems without locks let everybody have it:
    there the user must know what else runs.
    """
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True
    return True


def open_locked(file: Path) -> int | None:
    """Open a file and take it for this process; None if another process has it.

    A file that was removed while it was being opened, by the process that had it, is opened anew.
    """
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        if not lock(descriptor):
            os.close(descriptor)
            return None
        with contextlib.suppress(OSError):
            if sys.platform == "win32" or os.path.samestat(os.fstat(descriptor), os.stat(file)):  # noqa: PTH116
                return descriptor
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk, where the system can: a rename survives a power cut only then."""
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


_forked = False


def gdal_threads(count: int) -> str:
    """Return how many threads to ask of GDAL: in a forked child one, as its pool's threads stayed with the parent."""
    return "1" if _forked else str(count)


def _forget_threads() -> None:
    """In a forked child: let go of pools whose threads stayed with the parent, where one would wait for ever."""
    global _forked
    _forked = True
    dask: Any = sys.modules.get("dask.threaded")
    if dask is not None:
        dask.default_pool = None
        dask.pools.clear()
        dask.main_thread = threading.current_thread()
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)  # more would be asked of OpenMP's lost team


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
