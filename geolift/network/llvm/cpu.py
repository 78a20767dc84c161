"""What of this CPU decides about the code that is written for it."""

from __future__ import annotations

import ctypes
import functools
import sys
from dataclasses import dataclass

try:
    from llvmlite import binding
except (ImportError, OSError):  # networks then run in torch
    binding = None

VECTORS = 3
"""Vectors of pixels in a block."""


@dataclass(frozen=True)
class Cpu:
    """What of a CPU matters here.

    Parameters
    ----------
    lanes
        float32 in a vector.
    units
        Outputs whose sums stay in registers at once.
    tiles
        Whether it multiplies tiles of bfloat16 (AMX).
    """

    lanes: int
    units: int
    tiles: bool = False

    @property
    def name(self) -> str:
        """What vectors and tiles of this kind are called."""
        return {16: "AVX-512", 8: "AVX2", 4: "NEON"}[self.lanes] + (" and AMX" if self.tiles else "")

    @property
    def pixels(self) -> int:
        """Pixels of a block."""
        return VECTORS * self.lanes


AVX512, AVX2, NEON = Cpu(16, 8), Cpu(8, 4), Cpu(4, 8)


@functools.cache
def this_cpu() -> Cpu | None:
    """The CPU at hand; None where it has no fused multiply-add, or LLVM is not there or may not write code."""
    if binding is None:
        return None
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    try:
        binding.check_jit_execution()
    except OSError:
        return None
    machine, has = binding.get_process_triple().split("-")[0], binding.get_host_cpu_features().get
    if machine in ("aarch64", "arm64"):
        return NEON
    if has("avx512f") and has("avx512bw"):
        allowed = bool(has("amx-bf16") and has("avx512bf16") and _allow_tiles())
        return Cpu(AVX512.lanes, AVX512.units, allowed)
    return AVX2 if has("avx2") and has("fma") else None


def _allow_tiles() -> bool:
    """Ask Linux for the use of AMX's tiles, which a process may use only then; whether it may.

    References
    ----------
    https://docs.kernel.org/arch/x86/xstate.html
    """
    if not sys.platform.startswith("linux"):
        return False
    number_of_arch_prctl, ask_for_state, tile_data = 158, 0x1023, 18
    return bool(ctypes.CDLL(None).syscall(number_of_arch_prctl, ask_for_state, tile_data) == 0)
