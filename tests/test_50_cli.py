"""The command line: every exit code, every bad input one clear line, nothing half-written."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from command_line import run
from scenes import Pair, make_pair, write

from geolift.cli import cli
from geolift.cli.console import Console
from geolift.runtime import interrupts

S2 = ("--sensor", "sentinel-2a")
pytestmark = pytest.mark.usefixtures("few_steps")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("Ü pair with spaces"))


def refused(pair_or_paths: tuple[object, ...], *options: object, cwd: Path, code: int = 3) -> str:
    """Run a fusion that must be refused: its exit code, one or two lines, no traceback, no output."""
    before = sorted(cwd.rglob("*"))
    done = run("fuse", *pair_or_paths, *S2, *options, "-o", "out.tif", cwd=cwd)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("geolift: ")]
    assert len(errors) == 1
    assert done.stdout == ""
    assert sorted(cwd.rglob("*")) == before
    return errors[0]


# -- the main job -----------------------------------------------------------------------------------------------------


def test_fuse_prints_the_output_path_alone_and_works_with_spaces_and_accents(pair: Pair, tmp_path: Path) -> None:
    folder = tmp_path / "données à fusionner"
    folder.mkdir()
    done = run("fuse", pair.hsi, pair.msi, *S2, "-o", folder / "résultat final.tif", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(folder / "résultat final.tif")
    assert sorted(p.suffix for p in folder.iterdir()) == [".json", ".qml", ".tif"]
    assert {p.stem for p in folder.iterdir()} == {"résultat final"}
    again = run("fuse", "--config", folder / "résultat final.json", "--overwrite", "--json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["output"] == str(folder / "résultat final.tif")


def test_a_known_shift_is_taken_from_the_command_line_and_words_for_it_are_refused(pair: Pair, tmp_path: Path) -> None:
    given = run("coregister", pair.hsi, pair.msi, "--sensor", "s2a", "--coregister", "-1.5,2", "--json", cwd=tmp_path)
    assert given.returncode == 0, given.stderr
    told = json.loads(given.stdout)
    assert told["applied"]
    assert told["shift_msi_px"] == {"dy": -1.5, "dx": 2.0}
    for word in ("banana", "nan,0"):
        wrong = run("coregister", pair.hsi, pair.msi, "--sensor", "s2a", "--coregister", word, cwd=tmp_path)
        assert wrong.returncode == 2
        assert "a shift DY,DX in MSI pixels is expected" in wrong.stderr


def test_progress_json_writes_nothing_but_json_lines(pair: Pair, tmp_path: Path) -> None:
    done = run("fuse", pair.hsi, pair.msi, *S2, "-o", "a.tif", "--progress", "json", cwd=tmp_path)
    events = [json.loads(line) for line in done.stderr.splitlines()]
    stages = {event.get("stage") for event in events if event["event"] == "progress"}
    assert stages == {"reading", "comparing", "sampling", "training", "refining", "writing"}
    told = [event["stage"] for event in events if event["event"] == "progress"]
    assert len([stage for stage, _ in groupby(told)]) == len(stages), "each stage is told once"
    assert events[-1]["event"] == "result"
    failed = run("fuse", "nowhere.tif", pair.msi, *S2, "--progress", "json", cwd=tmp_path)
    assert failed.returncode == 3
    assert [json.loads(line)["event"] for line in failed.stderr.splitlines()] == ["error"]


def test_a_dry_run_tells_the_plan_and_writes_nothing(pair: Pair, tmp_path: Path) -> None:
    done = run("fuse", pair.hsi, pair.msi, *S2, "--dry-run", "--json", cwd=tmp_path)
    plan = json.loads(done.stdout)
    assert plan["region"]["shape"] == [48, 42]
    assert plan["region"]["ratio"] == 3
    assert plan["spectra"]["msi_bands_used"] == ["B02", "B03", "B04", "B08"]
    assert plan["cost"]["memory_bytes"] > 0
    assert list(tmp_path.iterdir()) == []
    assert "hsi_fused.tif" in run("fuse", pair.hsi, pair.msi, *S2, "--dry-run", cwd=tmp_path).stdout


def test_the_command_line_wins_over_environment_over_file(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "geolift.toml").write_text('sensor = "worldview-3"\nmsi-bands = ["B02", "B03", "B04", "B08"]\n')
    args = ("fuse", pair.hsi, pair.msi, "--dry-run", "--json", "--config", "geolift.toml")
    in_file = run(*args, cwd=tmp_path)
    assert "worldview-3" in in_file.stderr
    environment = run(*args, cwd=tmp_path, GEOLIFT_FUSE_SENSOR="sentinel-2b")
    assert json.loads(environment.stdout)["spectra"]["sensor"] == "sentinel-2b"
    line = run(*args, "--sensor", "sentinel-2c", cwd=tmp_path, GEOLIFT_FUSE_SENSOR="sentinel-2b")
    assert json.loads(line.stdout)["spectra"]["sensor"] == "sentinel-2c"


def test_train_then_apply(pair: Pair, tmp_path: Path) -> None:
    trained = run("train", pair.hsi, *S2, "--msi-bands", "B02,B03,B04,B08", "-o", "m.safetensors", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    applied = run("apply", "m.safetensors", pair.msi, "-o", "a.img", "--of", "envi", cwd=tmp_path)
    assert applied.returncode == 0, applied.stderr
    no_match = run("apply", "m.safetensors", pair.hsi, "-o", "b.tif", cwd=tmp_path)
    assert no_match.returncode == 3
    no_model = run("apply", pair.msi, pair.msi, "-o", "b.tif", cwd=tmp_path)
    assert no_model.returncode == 3


def test_simulate_evaluate_and_the_quality_gate(pair: Pair, tmp_path: Path) -> None:
    done = run("simulate", pair.hsi, "--sensor", "s2a", "--ratio", "2", "-o", "triple", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = {"lr_hsi.tif", "hr_msi.tif", "reference.tif", "simulate.json"}
    assert {p.name for p in (tmp_path / "triple").iterdir() if p.suffix != ".qml"} == names
    reference = tmp_path / "triple" / "reference.tif"
    scores = json.loads(run("evaluate", reference, reference, "--json", cwd=tmp_path).stdout)
    assert scores["rmse"] == 0
    assert scores["sam_deg"] == 0
    assert set(scores) >= {"rmse", "psnr_db", "ssim", "uiqi", "ergas", "sam_deg", "n_pixels", "per_band"}
    kept = run("evaluate", reference, reference, "--require", "sam<3", cwd=tmp_path)
    broken = run("evaluate", reference, reference, "--require", "ssim>2", cwd=tmp_path)
    nonsense = run("evaluate", reference, reference, "--require", "beauty>2", cwd=tmp_path)
    assert (kept.returncode, broken.returncode, nonsense.returncode) == (0, 6, 2)


def test_info_tells_the_stable_names(pair: Pair, tmp_path: Path) -> None:
    document = json.loads(run("info", pair.hsi, "--json", cwd=tmp_path).stdout)
    promised = "driver shape bands crs transform dtype scale offset nodata wavelengths_nm fwhm_nm good_bands sensor"
    assert set(document) >= {*promised.split(), "product"}
    assert document["crs"] == "EPSG:32633"
    assert document["shape"] == [16, 14]


def test_every_command_has_help_with_an_example_and_a_version(tmp_path: Path) -> None:
    from geolift.cli import COMMANDS

    for name in COMMANDS:
        done = run(name, "--help", cwd=tmp_path)
        assert done.returncode == 0
        assert f"geolift {name}" in done.stdout, name
        assert run(name, "--version", cwd=tmp_path).stdout.startswith("geolift ")


def test_misspelt_names_get_a_suggestion(pair: Pair, tmp_path: Path) -> None:
    wrong = run("fuze", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "fuse" in wrong.stderr
    sensor = run("fuse", pair.hsi, pair.msi, "--sensor", "sentinel2x", cwd=tmp_path)
    assert sensor.returncode == 3
    assert "sentinel" in sensor.stderr
    assert run("fuse", pair.hsi, pair.msi, "--tile-size", "ten", cwd=tmp_path).returncode == 2


def test_a_value_that_is_called_like_an_argument_is_no_forgotten_value(pair: Pair, tmp_path: Path) -> None:
    done = run("fuse", pair.hsi, pair.msi, *S2, "--extent", "msi", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    forgotten = run("fuse", pair.hsi, pair.msi, *S2, "--extent", "--dry-run", cwd=tmp_path)
    assert "Option '--extent' needs a value; '--dry-run' is an option." in forgotten.stderr


# -- bad input --------------------------------------------------------------------------------------------------------


def test_a_missing_file_is_named(pair: Pair, tmp_path: Path) -> None:
    assert "nowhere.tif" in refused((tmp_path / "nowhere.tif", pair.msi), cwd=tmp_path)


def test_no_crs(pair: Pair, tmp_path: Path) -> None:
    msi = write(tmp_path / "m.tif", np.full((4, 48, 42), 0.3), gsd=10, crs=None, names=("B02", "B03", "B04", "B08"))
    assert "--msi-crs" in refused((pair.hsi, msi), cwd=tmp_path)
    assert run("fuse", pair.hsi, msi, *S2, "--msi-crs", "EPSG:32633", "--dry-run", cwd=tmp_path).returncode == 0
    assert run("fuse", pair.hsi, msi, *S2, "--msi-crs", "EPSG:0", "--dry-run", cwd=tmp_path).returncode == 3


def test_no_wavelengths(pair: Pair, tmp_path: Path) -> None:
    hsi = write(tmp_path / "h.tif", np.full((30, 16, 14), 0.3), gsd=30)
    assert "0 of 30 bands carry a centre wavelength" in refused((hsi, pair.msi), cwd=tmp_path)


def test_micrometres_without_a_unit_are_understood_with_a_warning(pair: Pair, tmp_path: Path) -> None:
    hsi = tmp_path / "h.tif"
    shutil.copy(pair.hsi, hsi)
    with rasterio.open(hsi, "r+") as f:
        for band in f.indexes:
            f.update_tags(band, wavelength=str(pair.wavelength_nm[band - 1] / 1000), wavelength_units="", fwhm="0.021")
    done = run("fuse", hsi, pair.msi, *S2, "--dry-run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "micrometres" in done.stderr
    assert json.loads(done.stdout)["spectra"]["msi_bands_used"] == ["B02", "B03", "B04", "B08"]


def test_no_overlap(pair: Pair, tmp_path: Path) -> None:
    msi = write(tmp_path / "m.tif", np.full((4, 48, 42), 0.3), gsd=10, origin=(5e5, 5e6))
    assert "do not overlap" in refused((pair.hsi, msi), cwd=tmp_path)


def test_only_a_method_that_unmixes_is_asked_for_endmembers(pair: Pair, tmp_path: Path) -> None:
    for option in (("--abundances", "a.tif"), ("--endmembers", "5"), ("--sum-to-one",)):
        done = run("fuse", pair.hsi, pair.msi, *S2, *option, "-o", "out.tif", cwd=tmp_path)
        assert done.returncode == 2
        assert f"{option[0]} needs --method spectramorph" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_rotated_grid_is_refused_by_name(pair: Pair, tmp_path: Path) -> None:
    turned = Affine(7, 7, 364095, 7, -7, 5809965)
    msi = write(tmp_path / "m.tif", np.full((4, 48, 42), 0.3), gsd=10, transform=turned)
    message = refused((pair.hsi, msi), cwd=tmp_path)
    assert "rotated" in message
    assert "gdalwarp" in message


def test_a_single_band_hsi(pair: Pair, tmp_path: Path) -> None:
    hsi = write(tmp_path / "h.tif", np.full((1, 16, 14), 0.3), gsd=30, wavelength_nm=np.array([500.0]))
    assert "h.tif" in refused((hsi, pair.msi), cwd=tmp_path)


def test_an_hsi_of_one_pixel(pair: Pair, tmp_path: Path) -> None:
    hsi = write(tmp_path / "h.tif", pair.truth[:, :1, :1], gsd=30, wavelength_nm=pair.wavelength_nm)
    assert "1 pixels are valid" in refused((hsi, pair.msi), cwd=tmp_path)


def test_all_nodata(pair: Pair, tmp_path: Path) -> None:
    msi = write(tmp_path / "m.tif", np.full((4, 48, 42), np.nan), gsd=10)
    assert "every pixel is nodata" in refused((pair.hsi, msi), cwd=tmp_path)


def test_nan_and_inf_become_nodata_in_the_product(pair: Pair, tmp_path: Path) -> None:
    with rasterio.open(pair.msi) as f:
        values = f.read() * 1e-4
    values[0, 0, 0], values[1, 0, 1], values[2, 0, 2] = np.nan, np.inf, -np.inf
    msi = write(tmp_path / "m.tif", values, gsd=10, dtype="float32", scale=None, nodata=None)
    done = run("fuse", pair.hsi, msi, *S2, "-o", "a.tif", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with rasterio.open(tmp_path / "a.tif") as f:
        invalid = (f.read() == -32768).any(axis=0)
    assert np.argwhere(invalid).tolist() == [[0, 0], [0, 1], [0, 2]]


def test_a_truncated_tiff(pair: Pair, tmp_path: Path) -> None:
    msi = tmp_path / "m.tif"
    msi.write_bytes(pair.msi.read_bytes()[: pair.msi.stat().st_size // 2])
    assert "m.tif" in refused((pair.hsi, msi), cwd=tmp_path)
    hsi = tmp_path / "h.tif"
    hsi.write_bytes(pair.hsi.read_bytes()[: pair.hsi.stat().st_size // 2])
    assert "h.tif" in refused((hsi, pair.msi), cwd=tmp_path)


def test_an_envi_header_without_data_and_the_reverse(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "h.hdr").write_text("ENVI\nsamples = 3\nlines = 3\nbands = 2\ndata type = 2\n")
    assert "without its data" in refused((tmp_path / "h.hdr", pair.msi), cwd=tmp_path)
    (tmp_path / "bare.img").write_bytes(b"\0" * 5000)
    assert ".hdr" in refused((tmp_path / "bare.img", pair.msi), cwd=tmp_path)


def test_swapped_inputs_are_recognised(pair: Pair, tmp_path: Path) -> None:
    assert "exchanged" in refused((pair.msi, pair.hsi), cwd=tmp_path)


def test_a_band_count_the_sensor_does_not_have_lists_the_choices(pair: Pair, tmp_path: Path) -> None:
    msi = write(tmp_path / "m.tif", np.full((5, 48, 42), 0.3), gsd=10)
    message = refused((pair.hsi, msi), cwd=tmp_path)
    assert "B02,B03,B04,B08" in message
    assert "--msi-bands" in message


def test_an_msi_band_the_hsi_does_not_cover_is_dropped_by_name(pair: Pair, tmp_path: Path) -> None:
    msi = write(tmp_path / "m.tif", np.full((4, 48, 42), 0.3), gsd=10, names=("B02", "B03", "B04", "B11"))
    done = run("fuse", pair.hsi, msi, *S2, "--dry-run", "--json", cwd=tmp_path)
    assert [band["name"] for band in json.loads(done.stdout)["spectra"]["msi_bands_dropped"]] == ["B11"]
    assert "B11" in done.stderr
    only = write(tmp_path / "o.tif", np.full((1, 48, 42), 0.3), gsd=10, names=("B11",))
    assert "B11" in refused((pair.hsi, only), cwd=tmp_path)


def test_an_existing_output_is_exit_4_and_stays(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "out.tif").write_text("precious")
    assert "--overwrite" in refused((pair.hsi, pair.msi), cwd=tmp_path, code=4)
    assert (tmp_path / "out.tif").read_text() == "precious"


def test_an_output_over_an_input_is_refused(pair: Pair, tmp_path: Path) -> None:
    done = run("fuse", pair.hsi, pair.msi, *S2, "-o", pair.msi, "--overwrite", cwd=tmp_path)
    assert done.returncode == 2


def test_a_folder_that_cannot_be_written_is_exit_7(pair: Pair, tmp_path: Path) -> None:
    folder = Path("/proc/geolift") if os.name == "posix" and os.geteuid() == 0 else tmp_path / "locked"
    if os.name == "posix" and os.geteuid() != 0:
        folder.mkdir(mode=0o500)
    done = run("fuse", pair.hsi, pair.msi, *S2, "-o", folder / "out.tif", cwd=tmp_path)
    assert done.returncode == 7, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a device that is always full (/dev/full)")
def test_a_full_disk_is_exit_7_and_leaves_nothing(pair: Pair, tmp_path: Path) -> None:
    # A file-size limit fails every write past it, as a full disk does, and needs no root.
    script = (
        "import resource, signal, sys, runpy; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); "
        "sys.argv = ['geolift', *sys.argv[1:]]; runpy.run_module('geolift', run_name='__main__')"
    )
    command = [sys.executable, "-c", script, "fuse", str(pair.hsi), str(pair.msi), *S2, "-o", "out.tif"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 7, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_that_was_swallowed_ends_the_run_at_the_next_sign_of_progress(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interrupts._State, "arrived", None)
    console = Console("none")
    console.progress("training", 0.1)
    with contextlib.suppress(KeyboardInterrupt):  # what compiled code may do
        interrupts._handler(KeyboardInterrupt)(2, None)
    with pytest.raises(KeyboardInterrupt):
        console.progress("training", 0.2)


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_every_signal_has_its_exit_code(tmp_path: Path, name: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts._State, "arrived", None)
    number = getattr(signal, name)
    monkeypatch.setattr(cli, "main", lambda **_: [os.kill(os.getpid(), n) for n in (number, signal.SIGTERM)])
    ended = run("sensors", cwd=tmp_path)
    assert ended.returncode == code
    assert ended.stderr.endswith("; nothing was written\n")


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize(
    ("stage", "number", "code"), [("training", signal.SIGINT, 130), ("writing", signal.SIGTERM, 143)]
)
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, stage: str, number: signal.Signals, code: int) -> None:
    pair = make_pair(tmp_path / "in", rows=240, cols=240)
    target = tmp_path / "out"
    target.mkdir()
    options = ("--max-train-pixels", "200", "--tile-size", "16", "--co", "BLOCKXSIZE=16", "--co", "BLOCKYSIZE=16")
    command = [sys.executable, "-m", "geolift", "fuse", str(pair.hsi), str(pair.msi), *S2, *options]
    arguments = [*command, "-o", "out.tif", "--progress", "json"]
    with subprocess.Popen(arguments, cwd=target, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            event = json.loads(line)
            if event.get("stage") == stage and event["pct"] >= 1:
                process.send_signal(number)
                break
        rest = process.stderr.read()
        assert process.wait(timeout=60) == code
    assert "Traceback" not in rest
    assert list(target.iterdir()) == []
