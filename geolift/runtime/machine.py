"""What this machine allows: CPUs, memory, disk."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from typing import Any

from geolift.runtime import limits

BLOCK_CACHE_MB = 128
"""GDAL's cache of decoded blocks in a command, where memory is not scarce: a row of blocks of a Sentinel-2 tile."""

BLOCK_CACHE_SHARE, SCARCE_SHARE, SCARCE_BYTES = 0.04, 0.025, 2 * 10**9
"""Of a run's memory, and of one in which no row of blocks of a Sentinel-2 tile would fit in any case."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MMAP_FROM_BYTES = 32 * 2**20
"""The largest that glibc's own rule comes to, and with it twice as much at the end of the heap; malloc.h."""


def block_cache_bytes(budget_bytes: int) -> int:
    """Return what GDAL's block cache may take of a run's memory; it fills up on large scenes only."""
    share = SCARCE_SHARE if budget_bytes <= SCARCE_BYTES else BLOCK_CACHE_SHARE
    return min(BLOCK_CACHE_MB * 10**6, int(share * budget_bytes))


def limit_block_cache(budget_bytes: int) -> None:
    """Set GDAL's block cache for a run, unless the user has; GDAL asks for it when it first reads a block."""
    if os.environ.get("GDAL_CACHEMAX") == str(BLOCK_CACHE_MB):
        os.environ["GDAL_CACHEMAX"] = str(block_cache_bytes(budget_bytes) // 10**6)


def _psutil() -> Any:
    """Import psutil when memory is asked for: training counts CPUs where only numpy and torch are installed."""
    import psutil

    return psutil


def available_cpus() -> int:
    """Count the CPUs this process may use: its affinity, or what control groups or Slurm give it if that is less."""
    counts = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    counts += [max(1, round(share)) for share in limits.cpu_shares()]
    return min(counts)


def memory_limit_bytes() -> int:
    """Return the memory this process may use: the machine's, or what control groups, Slurm or ulimit give if less."""
    return min([int(_psutil().virtual_memory().total), *limits.memory_limits()])


def spare_memory_bytes() -> int:
    """Return what a run takes unless told otherwise: half of what is allowed, and no more than most of what is free."""
    return min(memory_limit_bytes() // 2, int(0.8 * _psutil().virtual_memory().available))


def give_back_memory() -> None:
    """Return freed memory to the system, which glibc keeps from one stage of a run to the next; nothing elsewhere.

    References
    ----------
    malloc_trim(3).
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)


def keep_freed_memory() -> None:
    """Let glibc use freed memory again for arrays up to 32 MB, in place of having each mapped and cleared anew.

    It learns to by itself, unless somebody has set one of its parameters, as Dask's nannies do for their workers:
    the system's part of a tile's work then triples.

    References
    ----------
    mallopt(3): M_MMAP_THRESHOLD, "dynamic mmap threshold".
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # another C library than glibc
            library = ctypes.CDLL(None)
            library.mallopt(M_MMAP_THRESHOLD, MMAP_FROM_BYTES)
            library.mallopt(M_TRIM_THRESHOLD, 2 * MMAP_FROM_BYTES)
