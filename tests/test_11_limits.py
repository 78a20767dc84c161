"""What a process may use: control groups of both versions at any depth, in containers, Slurm."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from geolift.errors import ResourceError
from geolift.runtime.limits import cpu_shares, memory_limits
from geolift.runtime.scratch import scratch_folder

V1 = "36 25 0:31 {root} {point} rw - cgroup cgroup rw,memory\n"
V2 = "36 25 0:31 {root} {point} rw - cgroup2 cgroup2 rw\n"


def machine(folder: Path, mounts: str, groups: str, files: dict[str, str]) -> Path:
    """Write what /proc and the mounted control groups would say."""
    proc, point = folder / "proc", folder / "cg"
    proc.mkdir()
    (proc / "mountinfo").write_text(mounts.replace("{point}", str(point)), encoding="utf-8")
    (proc / "cgroup").write_text(groups, encoding="utf-8")
    for name, text in files.items():
        (point / name).parent.mkdir(parents=True, exist_ok=True)
        (point / name).write_text(text, encoding="utf-8")
    return proc


def least(proc: Path, **environment: str) -> int | None:
    return min((n for n in memory_limits(proc, environment) if n < 2**50), default=None)


def test_a_group_of_version_1_is_found_at_its_depth_and_no_limit_is_none(tmp_path: Path) -> None:
    files = {"job/step/memory.limit_in_bytes": "1500000000\n", "memory.limit_in_bytes": "9223372036854771712\n"}
    mounts = V1.replace("{root}", "/")
    proc = machine(tmp_path, mounts, "5:memory:/job/step\n4:cpu:/\n", files)
    assert least(proc) == 1_500_000_000


def test_a_group_around_the_own_one_counts(tmp_path: Path) -> None:
    files = {"a/memory.max": "2000000000\n", "a/b/memory.max": "max\n", "a/b/memory.high": "1800000000\n"}
    assert least(machine(tmp_path, V2.replace("{root}", "/"), "0::/a/b\n", files)) == 1_800_000_000


@pytest.mark.parametrize("group", ["/docker/1f", "/"])
def test_a_container_sees_its_own_group_as_the_root(tmp_path: Path, group: str) -> None:
    mounts = V2.replace("{root}", "/docker/1f")
    assert least(machine(tmp_path, mounts, f"0::{group}\n", {"memory.max": "700000000"})) == 700_000_000


def test_slurm_tells_memory_by_node_or_by_cpu(tmp_path: Path) -> None:
    proc = machine(tmp_path, "", "", {})
    assert least(proc, SLURM_MEM_PER_NODE="2000") == 2000 * 2**20
    assert least(proc, SLURM_MEM_PER_CPU="500", SLURM_CPUS_ON_NODE="3") == 1500 * 2**20


def test_a_quota_of_cpu_time_counts_as_cpus(tmp_path: Path) -> None:
    proc = machine(tmp_path, V2.replace("{root}", "/"), "0::/a\n", {"a/cpu.max": "150000 100000\n"})
    assert cpu_shares(proc, {}) == [1.5]
    assert cpu_shares(proc, {"SLURM_CPUS_PER_TASK": "4"}) == [1.5, 4.0]


def test_no_folder_for_temporary_files_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(ResourceError, match="set TMPDIR"), scratch_folder():
        pass
