"""One thread for the matrix products of NumPy and SciPy, so that sums do not depend on the machine."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

SETTERS = (
    "scipy_openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
    "MKL_Set_Num_Threads",
)
"""Of the BLAS libraries that NumPy and SciPy are built with, wheels or conda; others keep their threads."""

NAMES = ("openblas", "mkl_rt")

Control = tuple[Callable[[], int], Callable[[int], None]]
"""What tells a library's number of threads, and what sets it."""

_guard = threading.Lock()
_depth = 0
_found: tuple[int, Sequence[Control]] = (0, ())
_outside: list[int] = []


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep every BLAS of this process on one thread.

    Libraries share their number of threads among all that call them: what was found when the first of several
    concurrent blocks began is restored when the last of them ends. Threads of our own do what can be done at once.
    """
    global _depth, _outside
    with _guard:
        if _depth == 0:
            _outside = set_blas_threads(1)
        _depth += 1
    try:
        yield
    finally:
        with _guard:
            _depth -= 1
            if _depth == 0:
                for (_, restore), count in zip(_found[1], _outside, strict=True):
                    restore(count)


def set_blas_threads(count: int) -> list[int]:
    """Set the number of threads of each library; returns those before."""
    global _found
    loaded = len(sys.modules)  # whatever has been imported since may have loaded another library
    if _found[0] != loaded:
        _found = loaded, [control for path in _libraries() if (control := _control(path)) is not None]
    before = [tell() for tell, _ in _found[1]]
    for _, change in _found[1]:
        change(count)
    return before


def _libraries() -> list[str]:
    """Paths of the libraries loaded; where the system does not list them, of those beside NumPy and SciPy."""
    maps = Path("/proc/self/maps")
    if maps.exists():
        mapped = {line.split(maxsplit=5)[5].strip() for line in maps.read_text().splitlines() if line.count("/")}
        return sorted(path for path in mapped if any(name in Path(path).name for name in NAMES))
    roots = [Path(sys.modules[name].__file__ or "").parent for name in ("numpy", "scipy") if name in sys.modules]
    folders = [folder for root in roots for folder in (root.with_name(f"{root.name}.libs"), root / ".dylibs")]
    return sorted(str(file) for folder in folders for name in NAMES for file in folder.glob(f"*{name}*"))


def _control(path: str) -> Control | None:
    with suppress(OSError):
        library = ctypes.CDLL(path)
        for name in SETTERS:
            if hasattr(library, name):
                getter = name.replace("set_num", "get_num").replace("Set_Num", "Get_Max")
                return getattr(library, getter), getattr(library, name)
    return None
