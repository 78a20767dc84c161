"""Resuming: what a broken run has finished is kept and never computed again, and only the same run may go on."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import rasterio
from affine import Affine
from command_line import run
from odc.geo.geobox import GeoBox
from scenes import make_pair

from geolift.datamodel.cube import Bands, make_cube
from geolift.datamodel.encoding import Counts
from geolift.errors import InputError, OutputExistsError, ResourceError, UsageError
from geolift.pipeline.files import fuse_files
from geolift.settings import FuseSettings, WritingSettings
from geolift.writer import Draft, Encoding, Threads, draft_folder, draft_of, write_cube
from geolift.writer.executor import TileWork
from geolift.writer.journal import Entry, Journal, Packed, read_journal
from geolift.writer.tiles import Tile

ROWS, COLS, COUNT = 100, 130, 3
BANDS = Bands(tuple("abc"), np.array([490.0, 560.0, 660.0]), np.full(3, 20.0), np.ones(3, bool))
GRID = GeoBox((ROWS, COLS), Affine(10, 0, 4e5, 0, -10, 5e6), "EPSG:32633")
VALUES = np.random.default_rng(0).integers(0, 9000, (COUNT, ROWS, COLS)).astype(np.float32) * np.float32(1e-4)
FORMATS = {
    "GTiff": ("a.tif", ("BLOCKXSIZE=32", "BLOCKYSIZE=32")),
    "striped": ("a.tif", ("TILED=NO", "BLOCKYSIZE=8")),
    "pixel": ("a.tif", ("INTERLEAVE=PIXEL", "BLOCKXSIZE=32", "BLOCKYSIZE=32", "COMPRESS=DEFLATE", "PREDICTOR=2")),
    "ENVI": ("a.img", ()),
}


class Broken(Exception):
    """The run ends here."""


class BreakingExecutor:
    """Gives some tiles, then breaks off; remembers what it computed."""

    def __init__(self, give: int | None = None) -> None:
        self.give = give
        self.computed: list[Tile] = []

    def work(self, work: TileWork, tiles: Sequence[Tile]) -> Iterator[Packed]:
        for done, packed in enumerate(Threads(1).work(work, tiles)):
            if done == self.give:
                raise Broken
            self.computed.append(packed.tile)
            yield packed


def written(
    path: Path, co: tuple[str, ...], executor: BreakingExecutor, identity: object = 0, **options: object
) -> object:
    settings = WritingSettings(of="ENVI" if path.suffix == ".img" else "GTiff", co=co, **options)  # type: ignore[arg-type]
    lazy = da.from_array(VALUES, chunks=(3, 40, 40))
    with draft_of(path, {"options": {"identity": identity}}, resume=True) as draft:
        report = write_cube(
            make_cube(lazy, grid=GRID, bands=BANDS),
            path,
            settings,
            encoding=Encoding.of(settings, 1e-4),
            tile_size=32,
            draft=draft,
            executor=executor,
        )
        draft.publish()
    return report


def content(path: Path) -> tuple[np.ndarray, str]:
    with rasterio.open(path) as source:
        tags = [source.tags(), [source.tags(b) for b in source.indexes], source.descriptions, source.crs.to_wkt()]
        return source.read(), json.dumps([tags, source.transform[:6], source.scales, source.nodata])


@pytest.mark.parametrize("kind", list(FORMATS))
def test_a_resumed_file_is_the_file_and_no_tile_is_computed_twice(tmp_path: Path, kind: str) -> None:
    name, co = FORMATS[kind]
    whole = tmp_path / "whole" / name
    whole.parent.mkdir()
    everything = BreakingExecutor()
    written(whole, co, everything)
    path = tmp_path / name
    computed: list[Tile] = []
    for give in (0, 2, 1, 1):
        executor = BreakingExecutor(give)
        with pytest.raises(Broken):
            written(path, co, executor)
        computed += executor.computed
        assert not path.exists()
    last = BreakingExecutor()
    report = written(path, co, last)
    assert sorted(map(repr, computed + last.computed)) == sorted(map(repr, everything.computed))
    assert (report.n_tiles_resumed, report.counts.n_values) == (4, VALUES.size)  # type: ignore[attr-defined]
    assert np.array_equal(content(path)[0], content(whole)[0])
    assert content(path)[1] == content(whole)[1]
    assert np.array_equal(content(path)[0], np.rint(VALUES / 1e-4))
    assert not draft_folder(path).exists()


@pytest.mark.parametrize("kind", ["GTiff", "ENVI"])
def test_bytes_lost_in_a_power_cut_are_computed_again(tmp_path: Path, kind: str) -> None:
    name, co = FORMATS[kind]
    path = tmp_path / name
    with pytest.raises(Broken):
        written(path, co, BreakingExecutor(3))
    data = draft_folder(path) / "new" / path.name
    size = data.stat().st_size
    with data.open("r+b") as stream:  # the last pages never reached the disk
        stream.seek(size - 512 if kind == "GTiff" else COLS * 2 * 3)
        stream.write(b"\0" * 512)
    executor = BreakingExecutor()
    report = written(path, co, executor)
    assert report.n_tiles_resumed < 3  # type: ignore[attr-defined]
    assert np.array_equal(content(path)[0], np.rint(VALUES / 1e-4))


def test_a_torn_last_line_of_the_journal_costs_one_tile(tmp_path: Path) -> None:
    name, co = FORMATS["GTiff"]
    path = tmp_path / name
    with pytest.raises(Broken):
        written(path, co, BreakingExecutor(5))
    journal = draft_folder(path) / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    with pytest.raises(Broken):
        written(path, co, BreakingExecutor(2))
    report = written(path, co, BreakingExecutor())
    assert report.n_tiles_resumed == 6  # type: ignore[attr-defined]
    assert np.array_equal(content(path)[0], np.rint(VALUES / 1e-4))


def test_a_disk_that_fails_beside_the_work_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr("geolift.writer.journal.SYNC_EVERY_S", -1.0)
    monkeypatch.setattr("os.fsync", full_disk)
    journal = Journal(tmp_path / "journal.jsonl")
    with (tmp_path / "data").open("wb") as data:
        journal.add(Entry(Tile(0, 0, 32, 32), Counts(), 0, (100,), 1), data)
        with pytest.raises(OSError, match="no space left"):
            journal.close()


def test_tiles_noted_while_the_disk_is_busy_are_not_taken_for_surely_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow_disk(_: int) -> None:
        begun.set()
        assert go_on.wait(30)

    monkeypatch.setattr("geolift.writer.journal.SYNC_EVERY_S", -1.0)
    monkeypatch.setattr("os.fsync", slow_disk)
    journal = Journal(tmp_path / "journal.jsonl")
    with (tmp_path / "data").open("wb") as data:
        entries = [Entry(Tile(0, 32 * i, 32, 32), Counts(), 100 * i, (100,), i) for i in range(3)]
        journal.add(entries[0], data)
        assert begun.wait(30)
        journal.add(entries[1], data)
        go_on.set()
        time.sleep(0.2)
        journal.add(entries[2], data)
        journal.close()
    noted = [(entries[0], True), (entries[1], False), (entries[2], False)]
    assert list(read_journal(tmp_path / "journal.jsonl")) == noted
    # A later run brings its own tiles to the disk, not those that this one may have lost.
    later = Journal(tmp_path / "journal.jsonl")
    with (tmp_path / "data").open("wb") as data:
        later.add(entries[0], data)
        time.sleep(0.2)
        later.add(entries[1], data)
        later.close()
    assert list(read_journal(tmp_path / "journal.jsonl")) == [*noted, (entries[0], True), (entries[1], False)]


@pytest.mark.parametrize("kind", list(FORMATS))
def test_a_run_killed_just_before_its_file_got_its_name_goes_on(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: Draft) -> None:
        raise Broken

    name, co = FORMATS[kind]
    path = tmp_path / name
    for _ in range(2):
        with monkeypatch.context() as patch, pytest.raises(Broken):
            patch.setattr(Draft, "publish", killed)
            written(path, co, BreakingExecutor())
    executor = BreakingExecutor()
    written(path, co, executor)
    assert executor.computed == []
    assert np.array_equal(content(path)[0], np.rint(VALUES / 1e-4))


def test_other_options_are_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    name, co = FORMATS["GTiff"]
    path = tmp_path / name
    with pytest.raises(Broken):
        written(path, co, BreakingExecutor(5))
    with pytest.raises(UsageError, match=r"identity was 0 and is now 1.*leave out --resume"):
        written(path, co, BreakingExecutor(), identity=1)
    assert written(path, co, BreakingExecutor()).n_tiles_resumed == 5  # type: ignore[attr-defined]


def test_without_resume_a_broken_run_leaves_nothing_and_begins_afresh(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with pytest.raises(Broken):
        written(path, (), BreakingExecutor(0))
    with pytest.raises(Broken), draft_of(path, {}) as draft:
        assert not draft.resumed
        assert not draft.finished.exists()
        raise Broken
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="locks as POSIX has them")
def test_two_runs_may_not_write_one_output(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with draft_of(path, {}), pytest.raises(ResourceError, match="another run is writing it"), draft_of(path, {}):
        pass
    with draft_of(path, {}):
        pass


# -- the real command -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_run_goes_on_to_the_same_pixels_and_refuses_another_input(tmp_path: Path) -> None:
    pair = make_pair(tmp_path / "in", rows=132, cols=132)
    options = ("--sensor", "sentinel-2a", "--max-train-pixels", "200", "--tile-size", "16")
    options = (*options, "--co", "BLOCKXSIZE=16", "--co", "BLOCKYSIZE=16", "--progress", "json")
    assert run("fuse", pair.hsi, pair.msi, *options, "-o", "whole.tif", cwd=tmp_path).returncode == 0
    out = tmp_path / "cut.tif"
    words = ("fuse", pair.hsi, pair.msi, *options, "-o", out, "--resume")
    arguments = [sys.executable, "-m", "geolift", *map(str, words)]
    for stop, number in ((10, signal.SIGKILL), (50, signal.SIGTERM)):
        with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            for line in process.stderr:
                event = json.loads(line)
                if event.get("stage") == "writing" and event["pct"] >= stop:
                    process.send_signal(number)
                    break
            process.stderr.read()
        assert not out.exists()
    journal = draft_folder(out) / "journal.jsonl"
    finished = journal.read_bytes().count(b'"tile"')
    assert finished >= 81 // 2 - 2
    touched = pair.msi.stat()
    os.utime(pair.msi, ns=(touched.st_atime_ns, time.time_ns()))
    refused = run(*words, cwd=tmp_path)
    assert refused.returncode == InputError.exit_code, refused.stderr
    assert "inputs changed: msi" in refused.stderr
    os.utime(pair.msi, ns=(touched.st_atime_ns, touched.st_mtime_ns))
    assert run(*words, cwd=tmp_path).returncode == 0
    pixels, metadata = content(out)
    expected, expected_metadata = content(tmp_path / "whole.tif")
    assert np.array_equal(pixels, expected)
    assert metadata == expected_metadata
    facts, whole = (json.loads((tmp_path / f"{name}.json").read_text())["properties"] for name in ("cut", "whole"))
    for key in ("geolift:written", "geolift:model", "geolift:training_curve", "geolift:choices"):
        assert facts[key] == whole[key]


def test_a_run_killed_after_its_file_got_its_name_is_told_finished_and_another_run_is_not(tmp_path: Path) -> None:
    pair = make_pair(tmp_path / "in", rows=96, cols=96)
    out, report = tmp_path / "out.tif", tmp_path / "out.html"
    settings = FuseSettings(sensor="sentinel-2a", method="linear", resume=True, report=report)
    first = fuse_files(pair.hsi, pair.msi, out, settings)
    made = out.stat().st_mtime_ns
    # What a kill between the product and the report leaves.
    report.unlink()
    draft_folder(out).mkdir()
    (draft_folder(out) / "model.safetensors").write_bytes(b"left behind")
    again = fuse_files(pair.hsi, pair.msi, out, settings)
    assert out.stat().st_mtime_ns == made
    assert report.exists()
    assert not draft_folder(out).exists()
    assert again.sidecar["properties"]["geolift:choices"] == first.sidecar["properties"]["geolift:choices"]
    fuse_files(pair.hsi, pair.msi, out, settings)  # the report is younger than the sidecar now
    assert out.stat().st_mtime_ns == made
    for other in ({"seed": 1}, {"resume": False}):
        with pytest.raises(OutputExistsError):
            fuse_files(pair.hsi, pair.msi, out, settings.model_copy(update=other))
    with out.open("ab") as stream:
        stream.write(b"no longer the file that was written")
    with pytest.raises(OutputExistsError):
        fuse_files(pair.hsi, pair.msi, out, settings)
