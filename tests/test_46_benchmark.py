"""Sweeps: a row for each case at once, continued after a kill, going on after a failure; scenes of every kind."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import command_line
import h5py
import numpy as np
import pytest
import scipy.io
from click.testing import CliRunner
from scenes import spectra_of, write

from geolift.benchmark import HyperBenchPipeline, methods, summary, sweep
from geolift.benchmark.baselines import bicubic
from geolift.benchmark.cases import AXES, expand, usual_snr_db
from geolift.cli.benchmark import benchmark_command
from geolift.degradation.degrade import apply_srf, block_mean
from geolift.errors import GeoliftError, InputError, UsageError
from geolift.readers.mat_scene import open_mat_scene
from geolift.settings import BenchmarkSettings

WAVELENGTH = np.linspace(420, 1000, 30)
TIMES = {"train_s", "inference_s"}
Rows = list[dict[str, str]]


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return command_line.run("benchmark", *arguments, cwd=cwd)


def rows_of(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def without_times(rows: Rows) -> Rows:
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


@pytest.fixture(scope="module")
def cube() -> np.ndarray:
    """A scene (band, y, x) of 30 bands and 34 × 38 pixels, which no ratio divides."""
    return spectra_of(WAVELENGTH, 34, 38)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, cube: np.ndarray) -> Path:
    """A folder with the scene as `scene.mat` and its wavelengths as `bands.csv`."""
    place = tmp_path_factory.mktemp("Szenen für den Vergleich")
    scipy.io.savemat(place / "scene.mat", {"data": np.moveaxis(cube, 0, 2), "map": np.zeros((34, 38))})
    lines = ["wavelength_nm,fwhm_nm", *(f"{nm},21" for nm in WAVELENGTH)]
    (place / "bands.csv").write_text("\n".join(lines), encoding="utf-8")
    return place


# -- scenes -----------------------------------------------------------------------------------------------------------


def test_a_scene_is_the_same_in_every_layout_of_a_matlab_file(cube: np.ndarray, folder: Path, tmp_path: Path) -> None:
    bands_last = np.moveaxis(cube, 0, 2)
    scipy.io.savemat(tmp_path / "named.mat", {"paviaU": bands_last, "gt": np.zeros((34, 38)), "note": "a text"})
    pixels = cube.transpose(0, 2, 1).reshape(30, -1)  # MATLAB's order: down the columns first
    scipy.io.savemat(tmp_path / "listed.mat", {"Y": pixels, "nRow": 34.0, "nCol": 38.0, "M": np.zeros((30, 4))})
    with h5py.File(tmp_path / "new.mat", "w") as file:  # what `save -v7.3` writes: HDF5, axes in reverse
        file["data"] = bands_last.T
        file["map"] = np.zeros((38, 34))
    for path in (folder / "scene.mat", *(tmp_path / f"{name}.mat" for name in ("named", "listed", "new"))):
        np.testing.assert_array_equal(open_mat_scene(path).values, cube, err_msg=path.name)


def test_a_matlab_file_without_one_scene_says_what_it_holds(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "two.mat", {"HSim": np.zeros((4, 5, 6)), "MSim": np.zeros((4, 5, 2))})
    with pytest.raises(InputError, match=r"two.mat: holds HSim \(4, 5, 6\), MSim \(4, 5, 2\); needed is"):
        open_mat_scene(tmp_path / "two.mat")
    (tmp_path / "text.mat").write_text("no scene")
    with pytest.raises(InputError, match="not a MATLAB file"):
        open_mat_scene(tmp_path / "text.mat")


# -- axes -------------------------------------------------------------------------------------------------------------


def test_a_sweep_has_every_combination_of_its_axes_once_and_neighbours_share_their_arrays() -> None:
    settings = BenchmarkSettings(
        method="linear,auto,linear", psf="all", ratio=("4", "8,16"), srf_bands="3,16", sensor="s2a", seed="0,1",
        snr="20,inf",
    )  # fmt: skip
    cases = expand(("a/one.mat", "b/two.tif"), settings)
    assert len(cases) == len(set(cases)) == 2 * 10 * 3 * (2 + 1) * 2 * (2 * 2)
    changes = sum(a.degradation != b.degradation for a, b in pairwise(cases))
    assert changes == len({case.degradation for case in cases}) - 1
    assert tuple(cases[0].axes()) == AXES


def test_without_an_snr_the_noise_follows_the_ratio_as_in_the_published_runs() -> None:
    cases = expand(("a.mat",), BenchmarkSettings(ratio="4,8,16,32", method="linear"))
    assert [case.degradation.snr_db for case in cases] == [35, 30, 25, 20]
    assert usual_snr_db(6) == pytest.approx(32.08)


def test_two_scenes_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="two scenes are called one"):
        expand(("a/one.mat", "b/one.tif"), BenchmarkSettings())


# -- the command ------------------------------------------------------------------------------------------------------


def test_a_sweep_leaves_a_row_for_each_case_a_table_and_a_picture(folder: Path, tmp_path: Path) -> None:
    axes = ("--method", "linear", "--method", "bicubic", "--psf", "gaussian,delta", "--ratio", "2,4")
    done = run(folder / "scene.mat", *axes, "--json", "-o", "r.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["cases"] == {"done": 8, "skipped": 0, "failed": 0}
    rows = rows_of(tmp_path / "r.csv")
    assert tuple(rows[0]) == sweep.COLUMNS
    places = [(row["psf"], row["ratio"], row["snr_db"], row["method"]) for row in rows]
    assert places == [
        (psf, ratio, snr, method)
        for psf in ("gaussian", "delta")
        for ratio, snr in (("2", "40.0"), ("4", "35.0"))
        for method in ("linear", "bicubic")
    ]
    assert {(row["rows"], row["cols"], row["hsi_bands"], row["n_msi_bands"]) for row in rows} == {
        ("34", "38", "30", "4"),
        ("32", "36", "30", "4"),
    }
    for row in rows:
        assert 0 < float(row["ssim"]) <= 1 and 10 < float(row["psnr_db"]) < 60 and row["error"] == ""
    first = document["table"][0]
    assert (first["method"], first["psnr_db"]) == ("linear", float(rows[0]["psnr_db"]))
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    again = [str(folder / "scene.mat"), *axes, "--resume", "-q", "-o", str(tmp_path / "r.csv")]
    table = CliRunner().invoke(benchmark_command, again)
    assert table.exit_code == 0 and table.stderr == "" and "mean of 4 settings" in table.stdout
    assert rows_of(tmp_path / "r.csv") == rows


def test_a_killed_sweep_is_continued_and_threads_do_not_change_a_figure(folder: Path, tmp_path: Path) -> None:
    values = {"method": "linear,auto,bicubic", "psf": "gaussian,delta", "ratio": "2"}
    whole = sweep.run([str(folder / "scene.mat")], tmp_path / "whole.csv", BenchmarkSettings(**values))
    axes = [f"--{name}={value}" for name, value in values.items()]
    command = [sys.executable, "-m", "geolift", "benchmark", folder / "scene.mat", *axes, "-o", "cut.csv"]
    cut = tmp_path / "cut.csv"
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if cut.exists() and cut.read_bytes().count(b"\n") > 2:
                break
            time.sleep(0.01)
        process.kill()
    kept = cut.read_bytes().count(b"\n") - 1
    assert 2 <= kept < 6
    cut.write_bytes(cut.read_bytes()[:-20])  # as if the kill had hit in the middle of a line
    again = run(folder / "scene.mat", *axes, "-o", cut, "--resume", "--json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["cases"] == {"done": 6 - kept + 1, "skipped": kept - 1, "failed": 0}
    assert without_times(rows_of(cut)) == without_times(list(whole.rows))


def test_a_case_that_fails_leaves_its_error_and_is_tried_again(folder: Path, tmp_path: Path) -> None:
    axes = ("--method", "linear", "--ratio", "32,2", "-o", "r.csv")
    done = run(folder / "scene.mat", *axes, cwd=tmp_path)
    assert done.returncode == 3 and "1 of 2 cases failed" in done.stderr and "Traceback" not in done.stderr
    failed, fine = rows_of(tmp_path / "r.csv")
    assert "34 × 38 pixels are too few for ratio 32" in failed["error"] and failed["psnr_db"] == ""
    assert float(fine["psnr_db"]) > 20 and "gaussian, ratio 2" in done.stdout
    settings = BenchmarkSettings(method="linear", ratio="32,2", resume=True)
    again = sweep.run([str(folder / "scene.mat")], tmp_path / "r.csv", settings)
    assert (again.done, again.skipped, again.failed, again.exit_code) == (0, 1, 1, 3)


def test_a_bug_in_one_method_does_not_end_the_sweep(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("planted,\nin two lines")

    monkeypatch.setitem(methods.METHODS, "auto", broken)
    found = sweep.run(
        [str(folder / "scene.mat")], tmp_path / "r.csv", BenchmarkSettings(method="auto,linear", ratio="2")
    )
    assert (found.done, found.failed, found.exit_code) == (1, 1, 1)
    assert found.rows[0]["error"] == "ZeroDivisionError: planted, in two lines"
    assert rows_of(tmp_path / "r.csv") == list(found.rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--psf", "magic"), "--psf"),
        (("--srf-bands", "5"), "--srf-bands"),
        (("--ratio", "1"), "--ratio"),
        (("--overwrite", "--resume"), "exclude each other"),
        (("--msi-bands", "B02"), "--sensor"),
    ],
)
def test_options_without_a_meaning_are_a_usage_error(options: tuple[str, ...], message: str) -> None:
    done = CliRunner().invoke(benchmark_command, ["scene.mat", "-o", "r.csv", *options])
    assert done.exit_code == 2 and message in done.output


@pytest.mark.parametrize(
    ("options", "output", "code", "message"),
    [
        ({"method": "magic"}, "r.csv", 2, "'magic' is not known.* Choose among bicubic, gsa, cnmf, fuse, auto, "),
        ({"sensor": "s2a"}, "r.csv", 3, "0 of 30 bands carry a centre wavelength; all are needed. Pass --wavelengths"),
        ({}, "no/such/r.csv", 7, "does not exist"),
        ({}, "r.png", 2, "is what the picture would be called"),
        ({}, "there.csv", 4, "there.csv: exists already. Pass --resume to continue, --overwrite to replace it."),
        ({}, "drawn.csv", 4, "drawn.png: exists already"),
        ({"resume": True}, "there.csv", 3, "there.csv: not a CSV of this geolift's benchmark"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_the_first_case(
    folder: Path, tmp_path: Path, options: dict[str, Any], output: str, code: int, message: str
) -> None:
    for name in ("there.csv", "drawn.png"):
        (tmp_path / name).write_text("somebody's own\n")
    with pytest.raises(GeoliftError, match=message) as refusal:
        sweep.run([str(folder / "scene.mat")], tmp_path / output, BenchmarkSettings(**options))
    assert refusal.value.exit_code == code
    assert {
        path.name: path.read_text() for path in tmp_path.iterdir() if path.stem in ("there", "drawn")
    } == dict.fromkeys(("there.csv", "drawn.png"), "somebody's own\n")


def test_a_scene_that_is_missing_or_is_the_output_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere.mat: no such file"):
        sweep.run([str(folder / "scene.mat"), "nowhere.mat"], tmp_path / "r.csv", BenchmarkSettings())
    with pytest.raises(UsageError, match="is an input"):
        sweep.run([str(folder / "scene.mat")], folder / "scene.mat", BenchmarkSettings(overwrite=True))


def test_a_raster_and_a_matlab_file_with_wavelengths_give_the_same_figures_for_a_sensor(
    cube: np.ndarray, folder: Path, tmp_path: Path
) -> None:
    scaled = {"scale": None, "dtype": "float32", "nodata": float("nan")}
    write(tmp_path / "scene.tif", cube, gsd=30, wavelength_nm=WAVELENGTH, fwhm_nm=np.full(30, 21.0), **scaled)
    settings = BenchmarkSettings(method="linear", ratio="2", sensor="s2a", msi_bands="B02,B03,B04,B08")
    raster = sweep.run([str(tmp_path / "scene.tif")], tmp_path / "a.csv", settings)
    told = settings.model_copy(update={"wavelengths": folder / "bands.csv"})
    matlab = sweep.run([str(folder / "scene.mat")], tmp_path / "b.csv", told)
    assert raster.rows[0]["msi_bands"] == "B02 B03 B04 B08" and raster.rows[0]["n_msi_bands"] == "4"
    assert without_times(list(raster.rows)) == without_times(list(matlab.rows))


def test_invalid_pixels_and_bad_bands_of_a_raster_are_left_out(cube: np.ndarray, tmp_path: Path) -> None:
    holed = cube.copy()
    holed[:, :9, :11] = np.nan
    holed[12] = 0.7
    write(tmp_path / "a.tif", holed, gsd=30, wavelength_nm=WAVELENGTH, bad=(12,))
    settings = BenchmarkSettings(method="bicubic,linear,auto", ratio="2", sensor="s2a")
    found = sweep.run([str(tmp_path / "a.tif")], tmp_path / "a.csv", settings)
    assert found.exit_code == 0, [row["error"] for row in found.rows]
    assert {row["hsi_bands"] for row in found.rows} == {"29"}
    quality = {row["method"]: float(row["psnr_db"]) for row in found.rows}
    assert min(quality["linear"], quality["auto"]) > quality["bicubic"] > 10


# -- methods ----------------------------------------------------------------------------------------------------------


def test_bicubic_puts_a_plane_back_where_it_was() -> None:
    y, x = np.mgrid[:24, :32].astype(np.float32)
    plane = np.stack([y + 2 * x, 5 - x])
    coarse = plane.reshape(2, 6, 4, 8, 4).mean(axis=(2, 4))
    fine = bicubic(coarse, (24, 32))
    inner = (slice(None), slice(8, -8), slice(8, -8))
    np.testing.assert_allclose(fine[inner], plane[inner], atol=1e-4)


def test_a_refined_product_agrees_better_with_the_lr_hsi_and_is_nearer_to_the_truth(cube: np.ndarray) -> None:
    truth = cube[:, :32, :36]
    hsi = block_mean(truth, 2)
    one_band = np.full((1, 30), 1 / 30, np.float32)
    msi = apply_srf(truth, one_band.astype(np.float64))
    plain = methods.fuse_arrays("linear", hsi, msi, one_band)
    refined = methods.fuse_arrays("linear+refine", hsi, msi, one_band, refine="on")
    assert plain.note == "" and "held-out HSI pixels" in refined.note
    for reference, seen in ((truth, lambda fused: fused), (hsi, lambda fused: block_mean(fused, 2))):
        before, after = (np.square(seen(fused.product) - reference).mean() for fused in (plain, refined))
        assert after < 0.5 * before


def test_without_whole_blocks_auto_leaves_the_refinement_out_and_on_says_so(cube: np.ndarray) -> None:
    srf = np.full((1, 30), 1 / 30, np.float32)
    msi, hsi = apply_srf(cube, srf.astype(np.float64))[:, :33], block_mean(cube, 4)
    assert "no whole multiple" in methods.fuse_arrays("linear+refine", hsi, msi, srf).note
    with pytest.raises(InputError, match=r"cannot be refined: .* no whole multiple"):
        methods.fuse_arrays("linear+refine", hsi, msi, srf, refine="on")


# -- the summary ------------------------------------------------------------------------------------------------------


def result(scene: str, method: str, psnr_db: float, seed: int = 0, ratio: int = 4, error: str = "") -> dict[str, str]:
    settings = BenchmarkSettings(ratio=(ratio,), method=(method,), seed=(seed,))
    figures = dict.fromkeys(summary.FIGURES, "1") | {"psnr_db": str(psnr_db)}
    (case,) = expand((scene,), settings)
    return case.axes() | figures | {"error": error}


def test_a_mean_is_over_scenes_that_every_method_has_done_and_each_scene_counts_once() -> None:
    rows = [
        result("one", "linear", 30), result("two", "linear", 20), result("three", "linear", 90),
        result("one", "auto", 34, seed=0), result("one", "auto", 36, seed=1), result("two", "auto", 21),
        result("three", "auto", 0, error="failed"),
        result("one", "linear", 50, ratio=8),
    ]  # fmt: skip
    lines = summary.lines_of(rows)
    assert [(line.scenes, line.left_out) for line in lines] == [(2, 1), (1, 0)]
    assert {method: means["psnr_db"] for method, means in lines[0].means.items()} == {"linear": 25, "auto": 28}
    count, means = summary.overall(lines)
    assert count == 1 and means["auto"]["psnr_db"] == 28
    text = summary.as_text(lines)
    assert "28.00 / 1.00" in text and "1 times a scene is left out" in text and "–" in text.splitlines()[3]
    assert text.splitlines()[2].split() == ["inner", "pixels", *["1.00", "/", "1.00"] * 2]


# -- inside HyperBench (see also test_48) -----------------------------------------------------------------------------


def test_the_pipeline_takes_and_gives_what_hyperbench_does_and_no_other_layout() -> None:
    rng = np.random.default_rng(3)
    msi, hsi, srf = rng.random((12, 8, 3)), rng.random((6, 4, 9)), np.full((3, 9), 1 / 9)
    pipeline = HyperBenchPipeline("linear", refine="off")
    plain = pipeline.run_pipeline(msi, hsi, srf, psf=np.ones((3, 3)), metadata={"seed": 1})
    batch = pipeline.run_pipeline(HR_MSI=msi[None], LR_HSI=hsi[None], srf=srf)
    assert plain.shape == (12, 8, 9) and plain.dtype == np.float32 and plain.flags.c_contiguous
    assert plain.min() >= 0 and plain.max() <= 1
    np.testing.assert_array_equal(batch, plain[None])
    with pytest.raises(InputError, match=r"\(rows, cols, bands\)"):
        pipeline.run_pipeline(np.moveaxis(msi, 2, 0), np.moveaxis(hsi, 2, 0), srf)
    assert HyperBenchPipeline("linear").run_pipeline(msi, hsi, srf).shape == (12, 8, 9)
    with pytest.raises(UsageError, match="magic"):
        HyperBenchPipeline("magic")
