"""On what a network runs, and in which numbers: the CPU or a CUDA device, fp32 or bfloat16."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from geolift.errors import ResourceError
from geolift.network.formula import Precision
from geolift.network.llvm.cpu import this_cpu

if TYPE_CHECKING:
    import torch

GPU_DRIVERS = {"win32": ("nvcuda.dll",), "linux": ("libcuda.so.1", "libamdhip64.so")}
"""Without one of these libraries torch has no GPU to see."""

_guard = threading.Lock()
_guard_depth = 0
_threads_outside = 1
_mine = threading.local()


@dataclass(frozen=True)
class Engine:
    """What computes. ``name``: of the GPU, "" for a CPU."""

    device: str = "cpu"
    precision: Precision = "fp32"
    name: str = ""

    def to_json(self) -> dict[str, str]:
        """Return plain types, for the sidecar."""
        return asdict(self)


ON_CPU = Engine()


def choose_engine(device: str, precision: Precision = "fp32", warn: Callable[[str], None] | None = None) -> Engine:
    """Settle ``auto`` and what this machine has not got.

    Raises ResourceError for ``cuda`` where torch sees no such device.

    ``device``: ``auto`` takes a CUDA device if torch sees one. ``precision``: bf16 is taken where it is fast, else
    fp32, with a warning.
    """
    name = "" if device == "cpu" else gpu_name()
    if device == "cuda" and not name:
        torch = require_torch("--device cuda")
        built = "this torch is built without CUDA" if torch.version.cuda is None else "no CUDA device answers"
        raise ResourceError(
            f"--device cuda: {built}. Pass --device cpu, or install a torch for CUDA on a machine with one."
        )
    if name:
        return Engine("cuda", precision, name)
    if precision == "bf16" and not cpu_has_bf16():
        if warn is not None:
            warn("--precision bf16: geolift needs AMX for it, which this CPU has not got; fp32 is used")
        precision = "fp32"
    return Engine("cpu", precision)


def gpu_name() -> str:
    """Name of the CUDA device that torch sees, or "". Where no driver is installed torch need not be asked, which takes
    seconds to import."""
    if "torch" not in sys.modules and not _has_gpu_driver():
        return ""
    if importlib.util.find_spec("torch") is None:
        return ""
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else ""


def _has_gpu_driver() -> bool:
    for library in GPU_DRIVERS.get(sys.platform, ()):
        with suppress(OSError):
            ctypes.CDLL(library)
            return True
    return False


def require_torch(user: str) -> Any:
    """Import torch for a user of it, as a message names it. Raises ResourceError where it is not installed."""
    try:
        import torch
    except ImportError as error:
        raise ResourceError(
            f"{user} needs torch, which cannot be imported ({error}). Install it: pip install torch"
        ) from error
    return torch


def cpu_has_bf16() -> bool:
    """Tell whether the network's products in bfloat16 are compiled for this CPU: where it has tiles for them (AMX)."""
    cpu = this_cpu()
    return cpu is not None and cpu.tiles


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Run torch's kernels of this thread on one thread, so that sums do not depend on the machine.

    ``torch.set_num_threads`` is global in part (MKL) and per thread in part (OpenMP). The number found
    when the first of several concurrent blocks begins is restored when the last of them ends; worker
    threads that ran a block keep one thread for themselves.
    """
    import torch

    global _guard_depth, _threads_outside
    with _guard:
        if _guard_depth == 0:
            _threads_outside = torch.get_num_threads()
        _guard_depth += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _guard:
            _guard_depth -= 1
            if _guard_depth == 0:
                torch.set_num_threads(_threads_outside)


def alone_on(device: torch.device) -> AbstractContextManager[Any]:
    """Let a CUDA device work for this thread beside what it does for others; a CPU gives it one thread."""
    if device.type != "cuda":
        return one_torch_thread()
    import torch

    streams: dict[torch.device, Any] = _mine.__dict__.setdefault("streams", {})
    if device not in streams:
        streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return torch.cuda.stream(streams[device])
