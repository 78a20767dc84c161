"""What this machine allows: CPUs, memory, disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil

CGROUP_FILES = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def available_cpus() -> int:
    """Count the CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_limit_bytes() -> int:
    """Return the memory this process may use: the machine's, or its control group's if that is less."""
    limit = int(psutil.virtual_memory().total)
    for file in CGROUP_FILES:
        try:
            text = file.read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            limit = min(limit, int(text))
    return limit


def free_disk_bytes(folder: Path) -> int:
    """Return the bytes free in a folder's file system."""
    return shutil.disk_usage(folder).free
