"""Many pairs: finished ones are skipped, broken ones do not stop the others, a kill costs only what was running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from command_line import run
from scenes import make_pair

from geolift import writer
from geolift.batch import jobs as batch_jobs
from geolift.batch.manifest import Job, application_jobs, read_manifest
from geolift.cli.batch import BatchSettings, run_jobs
from geolift.cli.console import Console
from geolift.errors import InputError, UsageError
from geolift.provenance.sidecar import dump_settings, input_facts, sidecar_path, write_json
from geolift.settings import ApplySettings, FuseSettings
from geolift.writer import draft_of

GEOLIFT = (sys.executable, "-m", "geolift")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with hsi.tif, msi.tif and a model learned from them."""
    folder = tmp_path_factory.mktemp("Über alles")
    pair = make_pair(folder)
    done = run(
        "train", pair.hsi, "--sensor", "s2a", "--msi-bands", "B02,B03,B04,B08", "--max-train-pixels", "64",
        "-o", "model.safetensors", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def write_rows(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


# -- what a manifest says ---------------------------------------------------------------------------------------------


def test_a_table_as_a_spreadsheet_saves_it_is_understood(tmp_path: Path) -> None:
    rows = [
        "HSI;MSI;Out;Sensor;tile-size;overwrite",
        "ä b/h.tif;m.tif;r.tif;s2a;;ja",
        ";;;;;",
        "h.tif;m.tif;q.tif;;64;yes",
    ]
    (tmp_path / "m.csv").write_bytes("\ufeff".encode() + "\r\n".join(rows).encode())
    first, second = read_manifest(tmp_path / "m.csv", {"sensor": "wv3", "tile_size": 128})
    assert first.error is not None
    assert "overwrite" in str(first.error)
    assert first.inputs["hsi"] == str(tmp_path / "ä b" / "h.tif")
    assert isinstance(second.settings, FuseSettings)
    assert (second.settings.sensor, second.settings.tile_size, second.settings.overwrite) == ("wv3", 64, True)


def test_toml_carries_options_for_all_pairs_and_lists(tmp_path: Path) -> None:
    write_rows(
        tmp_path / "m.toml",
        'sensor = "s2a"\ndtype = "float32"\nsrf = "ignored.csv"',
        '[[pair]]\nhsi = "h.tif"\nmsi = "m.tif"\nout = "o/r.tif"\nsensor = "s2b"',
        'msi-bands = ["B2", "B3"]\nbands = "1-3"',
        '[[pair]]\nmodel = "a.safetensors"\nmsi = "/vsicurl/https://example.org/m.tif"',
    )
    fused, applied = read_manifest(tmp_path / "m.toml", {"dtype": "uint16"})
    assert isinstance(fused.settings, FuseSettings)
    assert fused.settings.model_dump(include={"sensor", "srf", "dtype", "msi_bands", "bands"}) == {
        "sensor": "s2b", "srf": None, "dtype": "uint16", "msi_bands": ("B2", "B3"), "bands": (1, 2, 3)
    }  # fmt: skip
    assert applied.verb == "apply"
    assert isinstance(applied.settings, ApplySettings)
    assert applied.inputs["msi"] == "/vsicurl/https://example.org/m.tif"
    assert applied.output == tmp_path / "m_fused.tif"


def test_an_msi_of_single_band_files_is_a_list(tmp_path: Path) -> None:
    rows = ["hsi,msi,out,model", "h,a.tif;b c.tif; d.tif,o,", ",a.tif;b.tif,p,m"]
    fused, applied = read_manifest(write_rows(tmp_path / "m.csv", *rows))
    bands = tuple(str(tmp_path / name) for name in ("a.tif", "b c.tif", "d.tif"))
    assert dict(fused.inputs) == {"hsi": str(tmp_path / "h"), **dict(zip(("msi", "msi1", "msi2"), bands, strict=True))}
    assert fused.sources == (str(tmp_path / "h"), bands)
    words = batch_jobs.command_of(fused, batch_jobs.Options(), 10**9)
    assert words[1:5] == [str(tmp_path / "h"), *(f"--msi={band}" for band in bands)]
    assert "one file or folder" in str(applied.error)
    signed = ["https://a.b/1.tif?signed=a;b&sig=c", "https://a.b/2.tif?signed=a;b&sig=c"]
    (fused,) = read_manifest(write_rows(tmp_path / "m.csv", "hsi,msi,out", f"h,{'; '.join(signed)},o"))
    assert fused.sources[1] == tuple(signed)


def test_files_named_by_options_are_relative_to_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "own.csv").touch()
    manifest = write_rows(tmp_path / "m.csv", "hsi,msi,out,srf,save-model", "h,m,o,own.csv,a.safetensors")
    (job,) = read_manifest(manifest)
    assert isinstance(job.settings, FuseSettings)
    assert job.settings.srf == tmp_path / "own.csv"
    assert job.produced_model == str(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        (["hsi,msi,out,sensro", "a,b,c,s2a"], "sensor"),
        (["hsi,msi,out"], "no pair"),
        (["hsi,msi,out,msi-bands", "a,b,c,B02,B03"], "quotes"),
        (["hsi,msi,hsi", "a,b,c"], "twice"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(tmp_path: Path, lines: list[str], word: str) -> None:
    with pytest.raises(InputError, match=word):
        read_manifest(write_rows(tmp_path / "m.csv", *lines))


def test_a_row_in_error_does_not_concern_the_others(tmp_path: Path) -> None:
    rows = ["h,m,a.tif,,", "h,,b.tif,,", "h,m,a.tif,,", "h,m,d.tif,x.safetensors,", ",m,e.tif,x.safetensors,affine"]
    jobs = read_manifest(write_rows(tmp_path / "m.csv", "hsi,msi,out,model,harmonize", *rows))
    words = [None if job.error is None else str(job.error) for job in jobs]
    assert words[0] is None
    assert [job.error.exit_code for job in jobs if job.error] == [2, 2, 2, 2]
    for word, part in zip(words[1:], ("no msi", "row 1 already", "exclude", "saved model"), strict=True):
        assert word is not None
        assert part in word


def test_a_command_line_says_what_the_row_says(tmp_path: Path) -> None:
    """What the command line is parsed to equals the row's settings, whatever the options."""
    from click.testing import CliRunner

    from geolift.cli import options

    given = {
        "sensor": "s2a", "msi_bands": "B2,B3", "bounds": "-1.5,2,3,4", "bands": "1-2,5", "co": "A=1;B=2",
        "nodata": "-5", "drop_bad_bands": "no", "tile_size": "64", "hsi_offset": "-0.1", "dtype": "float32",
    }  # fmt: skip
    header, row = ",".join(given), ",".join(f'"{value}"' for value in given.values())
    (job,) = read_manifest(write_rows(tmp_path / "m.csv", f"hsi,msi,out,{header}", f"h,m,o,{row}"))
    seen = []

    import click

    @click.command()
    @click.argument("inputs", nargs=-1)
    @click.option("--output")
    @options.settings_options(FuseSettings)
    def command(inputs: tuple[str, ...], output: str, settings: FuseSettings) -> None:
        seen.append(settings)

    words = batch_jobs.command_of(job, batch_jobs.Options(), 10**9)
    result = CliRunner().invoke(command, words[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert job.settings is not None
    assert dump_settings(seen[0]) == dump_settings(job.settings) | {"overwrite": True}


# -- finished and unchanged -------------------------------------------------------------------------------------------


def finished(folder: Path, **options: object) -> Job:
    """A job whose output and sidecar are there as a run leaves them."""
    for name in ("h.tif", "m.tif", "o.tif"):
        (folder / name).write_text(name)
    settings = FuseSettings(sensor="s2a", **options)  # type: ignore[arg-type]
    inputs = {"hsi": str(folder / "h.tif"), "msi": str(folder / "m.tif")}
    facts = {
        "geolift:settings": dump_settings(settings),
        "geolift:inputs": {n: input_facts(p) for n, p in inputs.items()},
    }
    write_json(sidecar_path(folder / "o.tif"), {"properties": facts})
    return Job(row=1, verb="fuse", inputs=inputs, output=folder / "o.tif", settings=settings)


def test_finished_and_unchanged_is_seen(tmp_path: Path) -> None:
    job = finished(tmp_path)
    assert batch_jobs.state_of(job).kind == "finished"
    faster = Job(
        row=1,
        verb="fuse",
        inputs=job.inputs,
        output=job.output,
        settings=FuseSettings(sensor="s2a", threads=1, tile_size=64),
    )
    assert batch_jobs.state_of(faster).kind == "finished"


@pytest.mark.parametrize("what", ["input", "other input", "option", "table", "again"])
def test_whatever_changes_the_product_makes_it_stale(tmp_path: Path, what: str) -> None:
    table = tmp_path / "w.csv"
    table.write_text("wavelength_nm\n1\n")
    os.utime(table, (1e9, 1e9))
    job = finished(tmp_path, wavelengths=table)
    assert batch_jobs.state_of(job).kind == "finished"
    settings, inputs = job.settings, dict(job.inputs)
    if what == "input":
        (tmp_path / "h.tif").write_text("longer")
    elif what == "other input":
        inputs["msi"] = inputs["hsi"]
    elif what == "option":
        settings = FuseSettings(sensor="s2a", wavelengths=table, dtype="float32")
    elif what == "table":
        os.utime(table, (4e9, 4e9))
    changed = Job(row=1, verb="fuse", inputs=inputs, output=job.output, settings=settings)
    expected = {
        "input": "hsi is changed",
        "other input": "msi is another",
        "option": "dtype was int16",
        "table": "w.csv",
    }
    state = batch_jobs.state_of(changed)
    assert (state.kind == "finished") if what == "again" else (state.kind == "stale" and expected[what] in state.reason)


def test_a_file_that_geolift_did_not_make_is_not_touched(tmp_path: Path) -> None:
    job = finished(tmp_path)
    sidecar_path(job.output).unlink()
    assert batch_jobs.state_of(job).kind == "foreign"


class Deaf:
    """Watches a batch and says nothing."""

    def started(self, job: Job, reason: str) -> None: ...

    def progressed(self, job: Job, stage: str, fraction: float) -> None: ...

    def warned(self, job: Job, text: str) -> None: ...

    def ended(self, job: Job, outcome: batch_jobs.Outcome) -> None: ...


def test_a_pair_that_another_run_is_writing_is_skipped_and_no_failure(tmp_path: Path) -> None:
    job = replace(finished(tmp_path), inputs={"hsi": "other.tif", "msi": "other.tif"})
    with draft_of(job.output):
        (outcome,) = batch_jobs.run([job], batch_jobs.Options(), Deaf())
    assert (outcome.status, outcome.code) == ("skipped", 0)
    assert "another run is writing it" in outcome.message


def test_a_finished_pair_is_not_begun(tmp_path: Path) -> None:
    job = finished(tmp_path)
    before = job.output.stat().st_mtime_ns
    (outcome,) = batch_jobs.run([job], batch_jobs.Options(summary=tmp_path / "s.json"), Deaf())
    assert (outcome.status, batch_jobs.exit_code([outcome])) == ("skipped", 0)
    assert job.output.stat().st_mtime_ns == before
    assert json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["waiting"] == []


# -- memory -----------------------------------------------------------------------------------------------------------


def test_jobs_never_use_more_than_the_budget_together() -> None:
    from concurrent.futures import ThreadPoolExecutor

    budget, used, peak = batch_jobs._Budget(100), [0], [0]

    def job(wanted: int) -> None:
        with budget.share(wanted) as go:
            assert go
            used[0] += wanted
            peak[0] = max(peak[0], used[0])
            time.sleep(0.005)
            used[0] -= wanted

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(job, [40, 30, 60, 10, 40, 30, 60, 10] * 3))
    assert 60 <= peak[0] <= 100
    with budget.share(10**9) as go:
        assert go, "a job larger than the budget runs alone"


# -- the real command -------------------------------------------------------------------------------------------------


def test_pairs_are_fused_broken_ones_are_told_and_the_second_call_skips(scene: Path, tmp_path: Path) -> None:
    """Fuse with a saved model, a row that uses it, two broken rows, and a rule that one product breaks."""
    hsi, msi = scene / "hsi.tif", scene / "msi.tif"
    manifest = write_rows(
        tmp_path / "m.csv",
        "hsi,msi,model,out,sensor,max-train-pixels,save-model,method",
        f",{msi},one.safetensors,applied.tif,,,,",
        f"{hsi},{msi},,new folder/é.tif,s2a,64,one.safetensors,linear",
        f"nowhere.tif,{msi},,a.tif,s2a,,,",
        f"{hsi},{msi},,b.tif,s2a,many,,",
    )
    first = run("batch", manifest, "--jobs", "2", "--json", "--summary", "s.json", cwd=tmp_path)
    assert first.returncode == 3, first.stderr
    rows = json.loads(first.stdout)["rows"]
    assert [(row["status"], row["code"]) for row in rows] == [("done", 0), ("done", 0), ("failed", 3), ("failed", 2)]
    assert "nowhere.tif" in rows[2]["message"]
    assert json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["rows"] == rows
    with rasterio.open(tmp_path / "applied.tif") as a, rasterio.open(tmp_path / "new folder" / "é.tif") as b:
        assert np.array_equal(a.read(), b.read())
    assert {p.name for p in tmp_path.iterdir()} == {
        "m.csv", "s.json", "applied.tif", "applied.json", "applied.qml", "new folder", "one.safetensors"
    }  # fmt: skip

    again = run("batch", manifest, "--json", cwd=tmp_path)
    assert [row["status"] for row in json.loads(again.stdout)["rows"]] == ["skipped", "skipped", "failed", "failed"]
    plan = run("batch", manifest, "--dry-run", "--max-train-pixels", "32", "--json", cwd=tmp_path)
    assert plan.returncode == 0
    assert [row["will"].split(",")[0].split(":")[0] for row in json.loads(plan.stdout)["rows"]] == [
        "skip", "skip", "fuse", "fail"
    ]  # fmt: skip


def test_a_summary_replaces_nothing_but_an_earlier_summary(tmp_path: Path) -> None:
    manifest = write_rows(tmp_path / "m.csv", "hsi,msi,out,sensor", "h.tif,m.tif,o.tif,s2a")
    (tmp_path / "mine.json").write_text('{"rows": []}', encoding="utf-8")
    (tmp_path / "earlier.json").write_text('{"rows": [], "counts": {}, "waiting": []}', encoding="utf-8")
    cases = {"m.csv": 2, "o.tif": 2, "o.json": 2, "mine.json": 4, "no/s.json": 7, "earlier.json": 0, "new.json": 0}
    for name, code in cases.items():
        assert run("batch", manifest, "--summary", name, "--dry-run", cwd=tmp_path).returncode == code, name
    assert run("batch", manifest, "--summary", "mine.json", "--overwrite", "--dry-run", cwd=tmp_path).returncode == 0
    assert run("batch", manifest, "--summary", "m.csv", "--overwrite", "--dry-run", cwd=tmp_path).returncode == 2


def test_a_rule_is_held_against_the_reference(scene: Path, tmp_path: Path) -> None:
    manifest = write_rows(
        tmp_path / "m.csv", "model,msi,out,reference",
        f"{scene / 'model.safetensors'},{scene / 'msi.tif'},a.tif,a.tif",
    )  # fmt: skip
    held = run("batch", manifest, "--require", "sam<0.1", "--json", cwd=tmp_path)
    assert held.returncode == 0, held.stderr
    assert json.loads(held.stdout)["rows"][0]["scores"]["rmse"] == 0
    broken = run("batch", manifest, "--require", "ssim>2", cwd=tmp_path)
    assert broken.returncode == 6
    assert "ssim>2" in broken.stderr
    job = application_jobs("m.safetensors", ["a.tif"], tmp_path)
    for rule, word in (("sam<1", "no reference"), ("charm<1", "charm")):
        with pytest.raises(UsageError, match=word):
            run_jobs(job, BatchSettings(), Console("none"), require=(rule,))


def test_one_model_for_many_files_needs_no_manifest(tmp_path: Path) -> None:
    settings = ApplySettings(dtype="float32")
    jobs = application_jobs("m.safetensors", ["t/a.tif", "t/b.tif", "u/a.tif"], tmp_path, settings)
    assert [job.output.name for job in jobs] == ["a_fused.tif", "b_fused.tif", "a_fused.tif"]
    assert jobs[0].settings == settings
    assert jobs[2].error is not None


@contextmanager
def begun(manifest: Path, cwd: Path, first_done: int, *more: str) -> Iterator[subprocess.Popen[str]]:
    """Yield a batch in which so many rows are done and another has begun."""
    command = [*GEOLIFT, "batch", str(manifest), "--progress", "json", *more]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = 0
    with subprocess.Popen(
        command, cwd=cwd, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=env
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            event = json.loads(line)
            done += event.get("status") == "done"
            if done >= first_done and event.get("status") == "started":
                break
        yield process
        process.stderr.read()


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_kill_in_the_middle_costs_only_what_was_running(
    scene: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    rows = [f"{scene / 'model.safetensors'},{scene / 'msi.tif'},{i}.tif" for i in range(3)]
    rows[2] = f"{scene / 'model.safetensors'},broken.tif,2.tif"
    manifest = write_rows(tmp_path / "m.csv", "model,msi,out", *rows)
    with begun(manifest, tmp_path, 1, "--summary", "s.json") as process:
        process.send_signal(number)
    assert process.returncode == code
    deadline = time.monotonic() + 30
    products = {"m.csv", "s.json", "0.tif", "0.json", "0.qml"}
    while {p.name for p in tmp_path.iterdir()} - products and time.monotonic() < deadline:
        time.sleep(0.2)  # the child hears of its parent's death by itself
    assert not {p.name for p in tmp_path.iterdir()} - products
    made = (tmp_path / "0.tif").stat().st_mtime_ns
    again = run("batch", manifest, "--json", cwd=tmp_path)
    assert again.returncode == 3, again.stdout
    assert [row["status"] for row in json.loads(again.stdout)["rows"]] == ["skipped", "done", "failed"]
    assert (tmp_path / "0.tif").stat().st_mtime_ns == made
    assert {p.name for p in tmp_path.iterdir()} == {"m.csv", "s.json"} | {
        f"{i}.{e}" for i in (0, 1) for e in ("tif", "json", "qml")
    }


# -- on a cluster -----------------------------------------------------------------------------------------------------


class Killing(Deaf):
    """Kills all workers of a cluster as soon as a pair has begun."""

    def __init__(self, address: str) -> None:
        self.rows: list[int] = []
        with writer.Cluster(address).client() as client:
            self._workers = list(client.run(os.getpid).values())

    def started(self, job: Job, reason: str) -> None:
        self.rows.append(job.row)
        while self._workers:
            os.kill(self._workers.pop(), signal.SIGKILL)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_pairs_run_beside_the_workers_of_a_cluster_and_outlive_them(scene: Path, tmp_path: Path, cluster: Any) -> None:
    address = cluster.scheduler_address
    rows = [f"{scene / 'model.safetensors'},{scene / name},{name}" for name in ("msi.tif", "none.tif")]
    manifest = write_rows(tmp_path / "m.csv", "model,msi,out", *rows)
    killing = Killing(address)
    options = batch_jobs.Options(2, scheduler=address, summary=tmp_path / "s.json")
    outcomes = batch_jobs.run(read_manifest(manifest), options, killing)
    assert [(outcome.status, outcome.code) for outcome in outcomes] == [("done", 0), ("failed", 3)]
    assert "none.tif" in outcomes[1].message
    assert sorted(killing.rows) == [1, 2], "a pair that another worker did anew has begun once"
    assert len(json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["rows"]) == 2
    again = run("batch", manifest, "--scheduler", address, "--json", cwd=tmp_path)
    assert [row["status"] for row in json.loads(again.stdout)["rows"]] == ["skipped", "failed"], again.stderr


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_workers_leave_nothing_of_a_batch_that_is_killed(scene: Path, tmp_path: Path, cluster: Any) -> None:
    row = f"{scene / 'model.safetensors'},{scene / 'msi.tif'},a.tif"
    manifest = write_rows(tmp_path / "m.csv", "model,msi,out", row)
    with begun(manifest, tmp_path, 0, "--scheduler", cluster.scheduler_address) as process:
        process.kill()
    deadline = time.monotonic() + 30
    while (left := {p.name for p in tmp_path.iterdir()} - {"m.csv"}) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left


def test_a_pair_on_a_cluster_takes_what_the_batch_or_its_worker_allows(tmp_path: Path) -> None:
    (job,) = read_manifest(write_rows(tmp_path / "m.csv", "model,msi,out", "m,a,b"))
    alone = batch_jobs.command_of(job, batch_jobs.Options(8, scheduler="tcp://s:1"), 10**9)
    assert not [flag for flag in alone if flag.startswith(("--memory", "--threads"))]
    told = batch_jobs.command_of(job, batch_jobs.Options(8, 2 * 10**9, scheduler="tcp://s:1"), 2 * 10**9)
    assert "--memory=2000MB" in told
