"""What others allow this process: control groups of both versions, Slurm, ulimit."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc/self")
UNLIMITED = 2**60
"""Version 1 writes the largest number that fits for "no limit"."""


@dataclass(frozen=True)
class Mount:
    """A mounted hierarchy of control groups: version 2 has no controllers of its own name.

    ``root``: the group that is seen at ``point``; in a container often not the machine's.
    """

    controllers: frozenset[str]
    root: str
    point: Path


USUAL = [
    Mount(frozenset(), "/", Path("/sys/fs/cgroup")),
    Mount(frozenset({"memory"}), "/", Path("/sys/fs/cgroup/memory")),
    Mount(frozenset({"cpu"}), "/", Path("/sys/fs/cgroup/cpu")),
]
"""Where they are if the system does not tell."""


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _mounts(proc: Path) -> Iterator[Mount]:
    """Give the hierarchies of control groups, as proc(5) describes mountinfo."""
    for line in _text(proc / "mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        left, right = before.split(), after.split()
        if len(left) >= 5 and len(right) >= 3 and right[0] in ("cgroup", "cgroup2"):
            named = frozenset(right[2].split(",")) if right[0] == "cgroup" else frozenset()
            yield Mount(named, _unescaped(left[3]), Path(_unescaped(left[4])))


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def group_folders(controller: str, proc: Path = PROC) -> list[Path]:
    """List this process's control group for a controller and all groups around it, of both versions."""
    mounts, found = list(_mounts(proc)) or USUAL, []
    for line in _text(proc / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        names, _, group = rest.partition(":")
        wanted = frozenset(filter(None, names.split(",")))
        for mount in mounts:
            is_it = controller in mount.controllers and controller in wanted if wanted else not mount.controllers
            if is_it:
                # A container sees its own group as the root, under whatever name the machine gave it.
                inside = os.path.relpath(group, mount.root) if group.startswith(mount.root) else "."
                own = mount.point / ("." if inside.startswith("..") else inside)
                found += [folder for folder in (own, *own.parents) if folder.is_relative_to(mount.point)]
    return list(dict.fromkeys(found))


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split() if word.isdecimal()]


def memory_limits(proc: Path = PROC, environment: Mapping[str, str] = os.environ) -> list[int]:
    """Return every limit of memory in bytes that holds for this process."""
    names = ("memory.max", "memory.high", "memory.limit_in_bytes")
    files = [folder / name for folder in group_folders("memory", proc) for name in names]
    found = [number for file in files for number in _numbers(_text(file))]
    return [n for n in (*found, *_slurm_memory(environment), *_ulimits()) if 0 < n < UNLIMITED]


def _slurm_memory(environment: Mapping[str, str]) -> list[int]:
    """Return what Slurm gave a job on this node; megabytes of 2**20 bytes, as sbatch(1) counts."""
    node, cpu, cpus = (environment.get(f"SLURM_{name}", "") for name in ("MEM_PER_NODE", "MEM_PER_CPU", "CPUS_ON_NODE"))
    found = [int(node) << 20] if node.isdecimal() else []
    return found + ([int(cpu) * int(cpus) << 20] if cpu.isdecimal() and cpus.isdecimal() else [])


def _ulimits() -> list[int]:
    try:
        import resource
    except ImportError:  # Windows
        return []
    kinds = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    return [soft for soft, _ in map(resource.getrlimit, kinds) if soft != resource.RLIM_INFINITY]


def cpu_shares(proc: Path = PROC, environment: Mapping[str, str] = os.environ) -> list[float]:
    """Return how many CPUs' time each limit leaves this process."""
    found = []
    for folder in group_folders("cpu", proc):
        quota = _numbers(_text(folder / "cpu.max"))
        if len(quota) < 2:
            quota = [*_numbers(_text(folder / "cpu.cfs_quota_us")), *_numbers(_text(folder / "cpu.cfs_period_us"))]
        if len(quota) == 2 and quota[1] > 0:
            found.append(quota[0] / quota[1])
    told = environment.get("SLURM_CPUS_PER_TASK", "")
    return found + ([float(told)] if told.isdecimal() and int(told) > 0 else [])
