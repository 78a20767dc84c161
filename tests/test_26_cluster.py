"""What a cluster's faults become: one line, before a tile counts or when nothing happens any more."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from distributed import core

from geolift.errors import InputError, ResourceError, UsageError
from geolift.writer import Cluster, cluster, stamps_of
from geolift.writer.tiles import Tile


def test_a_worker_that_sees_no_file_or_another_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "msi.tif"
    file.write_bytes(b"1234")
    stamps = stamps_of([file])
    cluster.require_same_files(stamps, "tcp://w")
    os.utime(file, (1, 1))
    with pytest.raises(InputError, match=r"tcp://w sees another file"):
        cluster.require_same_files(stamps, "tcp://w")
    file.unlink()
    with pytest.raises(InputError, match="does not see it"):
        cluster.require_same_files(stamps, "tcp://w")


def test_an_error_of_a_worker_travels_though_what_caused_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    class OfLibrary(Exception):
        def __reduce__(self) -> str:
            raise TypeError("stays in its process")

    def read(_: Tile) -> None:
        try:
            raise OfLibrary
        except OfLibrary as error:
            raise InputError("a.tif: cannot be read") from error

    monkeypatch.setitem(cluster._work_of_this_process, "digest", read)
    with pytest.raises(InputError, match=r"a\.tif") as told:
        cluster.compute_tile(b"", "digest", Tile(0, 0, 1, 1), ())
    arrived = pickle.loads(core.error_message(told.value)["exception"].data)
    assert isinstance(arrived, InputError)


class Client:
    """A client of a cluster whose workers are what a test says; one that says it runs is not heard of."""

    def __init__(self, status: str = "running", **workers: str) -> None:
        self.status, self.workers, self.beats = status, workers, 0

    def scheduler_info(self, n_workers: int = 5) -> dict[str, Any]:
        self.beats += 1
        beats = {name: 0 if status == "running" else self.beats for name, status in self.workers.items()}
        return {"workers": {name: {"status": s, "last_seen": float(beats[name])} for name, s in self.workers.items()}}


@pytest.mark.parametrize(
    ("client", "word"),
    [
        (Client("closed"), "scheduler is lost"),
        (Client(), "all workers are gone"),
        (Client(a="paused", b="paused"), "memory limit"),
        (Client(a="closing"), "no worker has answered"),
        (Client(a="running"), "no worker has answered"),  # it says so, and has not been heard of since
    ],
)
def test_a_stall_of_30_s_ends_the_run_and_says_why(client: Client, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(cluster.time, "monotonic", lambda: now[0])
    pulse = cluster._Pulse(client)
    pulse.require("tcp://s")
    now[0] += cluster.STALL_S - 1
    pulse.require("tcp://s")
    now[0] += cluster.STALL_S + 2
    with pytest.raises(ResourceError, match=word) as told:
        pulse.require("tcp://s")
        now[0] += cluster.STALL_S + 2
        pulse.require("tcp://s")
    assert "--resume" in str(told.value)


def test_no_scheduler_and_no_scheduler_file_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="no scheduler answers"):
        Cluster("tcp://127.0.0.1:9").require_workers()
    for content in ("", "[]", "not json", "{}"):
        (tmp_path / "s.json").write_text(content, encoding="utf-8")
        with pytest.raises(UsageError, match="scheduler file"):
            Cluster(str(tmp_path / "s.json")).require_workers()
