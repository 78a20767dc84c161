"""On what a network runs, and in which numbers: the CPU or a CUDA device, fp32 or bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

from geolift.errors import ResourceError
from geolift.network import Precision


@dataclass(frozen=True)
class Engine:
    """What computes. ``name``: of the GPU, "" for a CPU."""

    device: str = "cpu"
    precision: Precision = "fp32"
    name: str = ""

    def to_json(self) -> dict[str, str]:
        """Return plain types, for the sidecar."""
        return asdict(self)


def choose_engine(device: str, precision: Precision = "fp32", warn: Callable[[str], None] | None = None) -> Engine:
    """Settle ``auto`` and what this machine has not got.

    Parameters
    ----------
    device
        ``auto`` takes a CUDA device if torch sees one.
    precision
        bf16 is taken where it is fast, else fp32, with a warning.

    Raises
    ------
    ResourceError
        For ``cuda`` where torch sees no such device.
    """
    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        built = "this torch is built without CUDA" if torch.version.cuda is None else "no CUDA device answers"
        raise ResourceError(
            f"--device cuda: {built}. Pass --device cpu, or install a torch for CUDA on a machine with one."
        )
    if cuda and device != "cpu":
        return Engine("cuda", precision, torch.cuda.get_device_name())
    if precision == "bf16" and not cpu_has_bf16():
        if warn is not None:
            warn("--precision bf16: this CPU has no bfloat16 units, where it would be slower; fp32 is used")
        precision = "fp32"
    return Engine("cpu", precision)


def cpu_has_bf16() -> bool:
    """Tell whether the CPU multiplies bfloat16 matrices by itself (AVX-512 BF16 or AMX)."""
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in known)
