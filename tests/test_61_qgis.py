"""The plugin for QGIS: installed where QGIS looks, offering what the command can do, failing and ending well."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import psutil
import pytest
import rasterio
from command_line import run
from scenes import make_pair

from geolift.errors import InputError
from geolift.qgis import install
from geolift.srf.sensors import resolve_sensor

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = ROOT / "geolift" / "qgis" / "plugin"
GEOLIFT = (sys.executable, "-m", "geolift")
# QGIS runs on older Pythons than geolift does.
OLDEST = (3, 9)


def _load_runner() -> ModuleType:
    """The plugin's runner as QGIS has it: a file that knows nothing of the package."""
    spec = importlib.util.spec_from_file_location("geolift_qgis_runner", PLUGIN / "runner.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


runner = _load_runner()


def test_a_folder_that_qgis_would_not_look_into_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "QGIS3" / "profiles" / "default"
    inside.mkdir(parents=True)
    with pytest.raises(InputError, match=r"holds no folder profiles.*Pass .*QGIS3"):
        install.find_profiles(None, [inside], given=True)
    with pytest.raises(InputError, match="holds no folder profiles"):
        install.find_profiles(None, [tmp_path], given=True)
    assert install.find_profiles(None, [tmp_path / "QGIS3"], given=True)[0].folder == inside
    assert install.find_profiles(None, [tmp_path / "new" / "QGIS4"], given=True)[0].major == 4


def test_the_zip_holds_what_the_plugin_repository_asks_for(tmp_path: Path) -> None:
    import configparser
    import zipfile

    archive = zipfile.ZipFile(install.write_zip(tmp_path / "plugin.zip"))
    names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {"geolift"}
    assert {"geolift/__init__.py", "geolift/metadata.txt", "geolift/LICENSE", "geolift/icon.svg"} <= set(names)
    assert not [name for name in names if name.endswith((".pyc", ".so", ".dll", ".exe"))]
    metadata = configparser.ConfigParser(interpolation=None)
    metadata.read_string(archive.read("geolift/metadata.txt").decode())
    wanted = (
        "name", "qgisMinimumVersion", "description", "about", "version", "author", "email", "repository", "tracker",
    )  # fmt: skip
    assert all(metadata["general"].get(key) for key in wanted)
    commands = json.loads(archive.read("geolift/commands.json"))
    assert commands["command"] == [], "no path of this machine"
    assert {"fuse", "spectra", "mosaic"} <= set(commands["commands"])
    first = (tmp_path / "plugin.zip").read_bytes()
    install.write_zip(tmp_path / "plugin.zip")
    assert (tmp_path / "plugin.zip").read_bytes() == first


# -- where it goes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "environment", "first"),
    [
        ("linux", {}, ".local/share/QGIS/QGIS3"),
        ("linux", {"XDG_DATA_HOME": "/data"}, "/data/QGIS/QGIS3"),
        ("win32", {"APPDATA": "/home/me/AppData/Roaming"}, "AppData/Roaming/QGIS/QGIS3"),
        ("darwin", {}, "Library/Application Support/QGIS/QGIS3"),
        ("darwin", {"QGIS_CUSTOM_CONFIG_PATH": "/elsewhere"}, "/elsewhere"),
    ],
)
def test_profiles_are_looked_for_where_qgis_keeps_them(platform: str, environment: dict[str, str], first: str) -> None:
    folders = install.data_folders(environment, Path("/home/me"), platform)
    assert folders[0] == Path("/home/me") / first


def test_the_profile_that_qgis_starts_with_is_taken_in_every_qgis(tmp_path: Path) -> None:
    three, four = tmp_path / "QGIS3", tmp_path / "QGIS4"
    for folder in (three / "profiles" / "teaching", three / "profiles" / "default", four / "profiles" / "default"):
        folder.mkdir(parents=True)
    (three / "profiles" / "profiles.ini").write_text("[core]\ndefaultProfile=teaching\n")
    found = install.find_profiles(None, [three, four])
    assert [(p.name, p.major) for p in found] == [("teaching", 3), ("default", 4)]
    assert found[1].settings_file == four / "profiles" / "default" / "QGIS" / "QGIS4.ini"
    assert [p.name for p in install.find_profiles("default", [three])] == ["default"]
    with pytest.raises(InputError, match="default, teaching"):
        install.find_profiles("nobody", [three])
    (new,) = install.find_profiles(None, [tmp_path / "never started"])
    assert new.folder == tmp_path / "never started" / "profiles" / "default"


def test_installing_switches_the_plugin_on_and_leaves_every_other_setting(tmp_path: Path) -> None:
    profile = install.Profile("default", tmp_path / "d", 3)
    profile.settings_file.parent.mkdir(parents=True)
    before = "[Foo]\nbar=@Variant(\\0\\0)\n\n[PythonPlugins]\ngeolift=false\nother=true\n\n[Qux]\nGeolift=1"
    profile.settings_file.write_text(before)
    (profile.plugin / "old").mkdir(parents=True)
    install.install(profile)
    install.install(profile)
    assert profile.settings_file.read_text().rstrip() == before.replace("geolift=false", "geolift=true")
    assert {"metadata.txt", "LICENSE", "__init__.py", "commands.json"} <= {p.name for p in profile.plugin.iterdir()}
    assert not (profile.plugin / "old").exists()
    assert [p.name for p in profile.plugin.parent.iterdir()] == ["geolift"]


def test_the_forms_offer_what_the_commands_take() -> None:
    """Every field is an option of its command, every option of the command a field, the same choices and defaults."""
    import click

    from geolift.cli import COMMANDS, cli

    terminal = {
        "config", "progress", "quiet", "verbose", "as_json", "dry_run", "output", "require", "msi_files",
        "show_config",
    }  # fmt: skip
    terminal |= {"layer", "places_crs"}  # QGIS hands places over as a layer of its own
    context = click.Context(cli)
    for name, described in install.describe_commands()["commands"].items():
        assert name in COMMANDS
        command = cli.get_command(context, name)
        assert command is not None
        options = {p.name: p for p in command.params if isinstance(p, click.Option)}
        fields = {option["name"]: option for option in described["options"]}
        assert set(fields) <= set(options)
        left_out = set(options) - set(fields) - terminal - install.NOT_IN_FORMS - {"version", "help"}
        assert not left_out or name == "info"
        for field in fields.values():
            assert field["help"]
            if field["kind"] == "choice" and field["name"] != "sensor":
                assert field["choices"] == list(options[field["name"]].type.choices)  # type: ignore[attr-defined]
                assert field["default"] is None or field["default"] in field["choices"]


def test_every_sensor_of_the_drop_down_is_known() -> None:
    fields = install.describe_commands()["commands"]["fuse"]["options"]
    assert fields[0]["name"] == "sensor"
    assert len(fields[0]["choices"]) > 70
    for name in fields[0]["choices"]:
        assert resolve_sensor(name, band_count=4).sensor_id


# -- the plugin itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(PLUGIN.glob("*.py")), ids=lambda path: path.name)
def test_the_plugin_is_written_for_every_qgis(path: Path) -> None:
    """It parses on QGIS's oldest Python, takes Qt from qgis.PyQt, and none of geolift's Apache-licensed code."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text, feature_version=OLDEST)
    assert text.startswith("# SPDX-License-Identifier: GPL-2.0-or-later\n")
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        assert not [name for name in names if name.split(".")[0] in {"PyQt5", "PyQt6", "PySide6", "geolift"}]
        strict = isinstance(node, ast.Call) and ast.unparse(node.func) == "zip" and node.keywords
        assert not strict, "zip(strict=) came with Python 3.10"
    assert "from __future__ import annotations" in text


def test_the_plugin_has_the_version_of_geolift_and_its_own_licence() -> None:
    metadata = (PLUGIN / "metadata.txt").read_text(encoding="utf-8")
    assert f"version={version('geolift')}\n" in metadata
    assert "hasProcessingProvider=yes" in metadata
    assert "GNU GENERAL PUBLIC LICENSE" in (PLUGIN / "LICENSE").read_text(encoding="utf-8")


def test_the_environment_of_qgis_does_not_reach_geolift() -> None:
    qgis = {
        "PYTHONHOME": "x",
        "PROJ_LIB": "x",
        "GDAL_DATA": "x",
        "HOME": "h",
        "PATH": os.pathsep.join(("/OSGeo4W/bin", "\\osgeo4w\\apps\\qt5\\bin", "/OSGeo4W", "/osgeo4w-mine/bin", "/bin")),
    }
    kept = runner.child_environment({**qgis, "OSGEO4W_ROOT": "/osgeo4w"})
    path = os.pathsep.join(("/osgeo4w-mine/bin", "/bin"))
    assert kept == {"HOME": "h", "PATH": path, "PYTHONIOENCODING": "utf-8"}
    assert runner.child_environment({"PATH": "/a"})["PATH"] == "/a"


@pytest.mark.skipif(os.name != "posix", reason="quotes as POSIX has them")
def test_the_command_in_the_log_can_be_typed_again() -> None:
    words = ["geolift", "fuse", "données à fusionner/hsi.tif", "--sensor=sentinel2"]
    assert shlex.split(runner.spoken(words)) == words


@pytest.mark.skipif(os.name != "posix", reason="places as POSIX has them")
def test_geolift_is_found_by_setting_then_record_then_path_then_the_usual_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(folder: str) -> str:
        path = tmp_path / folder / "geolift"
        path.parent.mkdir(parents=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
        return str(path)

    monkeypatch.setenv("HOME", str(tmp_path))
    environment = {"PATH": str(tmp_path / "bin")}
    with pytest.raises(runner.RunError, match="qgis install"):
        runner.find("", [], environment)
    mamba = command("micromamba/envs/eo/bin")
    assert runner.find("", [], environment) == [mamba]
    conda = command("miniforge3/envs/eo/bin")
    assert runner.find("", ["/gone/geolift"], environment) == [conda]
    pipx = command(".local/bin")
    assert runner.find("", [], environment) == [pipx]
    on_path = command("bin")
    assert runner.find("", [], environment) == [on_path]
    assert runner.find("", [sys.executable, "-m", "geolift"], environment) == [sys.executable, "-m", "geolift"]
    assert runner.find(pipx, [on_path], environment) == [pipx]
    with pytest.raises(runner.RunError, match="does not exist"):
        runner.find(str(tmp_path / "typo"), [on_path], environment)


def run_script(script: str, is_cancelled: Any = lambda: False) -> tuple[Any, list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    result = runner.run([sys.executable, "-c", script], dict(os.environ), events.append, is_cancelled)
    return result, events


def test_events_result_and_noise_are_told_apart() -> None:
    script = (
        "import sys, json\n"
        "e = lambda **k: (sys.stderr.write(json.dumps(k, ensure_ascii=True) + '\\n'), sys.stderr.flush())\n"
        "e(event='progress', stage='training', pct=5)\n"
        "sys.stderr.buffer.write(b'\\xff noise, and a number:\\n7\\n'); sys.stderr.flush()\n"
        "e(event='warning', message='é'); print('out é'.encode().decode('ascii', 'replace')); e(event='result', a=1)\n"
    )
    result, events = run_script(script)
    assert [event["event"] for event in events] == ["progress", "warning"]
    assert events[1]["message"] == "é"
    assert result.document["a"] == 1


@pytest.mark.parametrize(
    ("script", "sentence", "code"),
    [
        ('import sys; print(\'{"event": "error", "message": "no CRS"}\', file=sys.stderr); sys.exit(3)', "no CRS", 3),
        ("import sys; print('Usage: x\\n\\nError: bad option', file=sys.stderr); sys.exit(2)", "bad option", 2),
        ("raise SystemExit(9)", "code 9", 9),
    ],
)  # fmt: skip
def test_a_failure_speaks_the_commands_own_sentence(script: str, sentence: str, code: int) -> None:
    with pytest.raises(runner.RunError, match=sentence) as caught:
        run_script(script)
    assert caught.value.code == code


def test_what_cannot_be_started_is_told() -> None:
    with pytest.raises(runner.RunError, match="cannot be started"):
        runner.run(["/no/such/geolift"], {}, lambda _: None, lambda: False)


def test_a_cancelled_command_is_gone_before_the_plugin_goes_on() -> None:
    started = time.monotonic()
    with pytest.raises(runner.Cancelled):
        run_script("import time; print('x'); time.sleep(60)", lambda: time.monotonic() - started > 0.5)
    assert time.monotonic() - started < 30
    ours = [child for child in psutil.Process().children() if "time.sleep(60)" in " ".join(child.cmdline())]
    assert not ours


def test_a_command_on_the_leash_ends_cleanly_when_its_stdin_closes(tmp_path: Path) -> None:
    """That is how cancelling works where there is no SIGTERM, and how a crash of QGIS leaves nobody behind."""
    pair = make_pair(tmp_path / "in", rows=240, cols=240)
    target = tmp_path / "out"
    target.mkdir()
    words = ["fuse", str(pair.hsi), str(pair.msi), "--sensor", "s2a", "-o", str(target / "o.tif"), "--progress", "json"]
    with subprocess.Popen([*GEOLIFT, "qgis", "run", *words], stdin=-1, stderr=-1, text=True) as child:
        assert child.stdin and child.stderr
        for line in child.stderr:
            if json.loads(line).get("stage") == "training":
                break
        child.stdin.close()
        rest = child.stderr.read()
        assert child.wait(timeout=60) == 143
    assert "Traceback" not in rest
    assert list(target.iterdir()) == []


# -- a real QGIS ------------------------------------------------------------------------------------------------------


def qgis_python() -> str | None:
    for candidate in ("/usr/bin/python3", shutil.which("python3"), "/Applications/QGIS.app/Contents/MacOS/bin/python3"):
        if candidate and Path(candidate).exists():
            # -I: neither this environment's variables nor the project's folder are QGIS's.
            done = subprocess.run([candidate, "-I", "-c", "import qgis.core"], capture_output=True, check=False)
            if done.returncode == 0:
                return candidate
    return None


@pytest.fixture(scope="module")
def qgis(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a clean QGIS with the plugin installed by the documented command."""
    if not shutil.which("qgis_process.bin") or qgis_python() is None:
        pytest.skip("needs QGIS: .ci/install-qgis")
    folder = tmp_path_factory.mktemp("qgis")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("QGIS", "PYTHON"))}
    environment |= {
        "QGIS_CUSTOM_CONFIG_PATH": str(folder),
        "QT_QPA_PLATFORM": "offscreen",
        "XDG_RUNTIME_DIR": str(folder),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run([*GEOLIFT, "qgis", "install"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(folder / "profiles" / "default" / "python" / "plugins" / "geolift")
    return environment


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with spaces and accents: a pair, a model, a large pair, an empty folder."""
    folder = tmp_path_factory.mktemp("données à fusionner")
    make_pair(folder)
    make_pair(folder / "large", rows=240, cols=240)
    with rasterio.open(folder / "msi.tif") as msi:
        for i, name in enumerate(msi.descriptions, start=1):
            with rasterio.open(folder / f"{name}.tif", "w", **(msi.profile | {"count": 1})) as band:
                band.write(msi.read(i), 1)
                band.scales, band.descriptions = msi.scales[:1], (name,)
    (folder / "out").mkdir()
    options = ("--sensor", "sentinel-2a", "-o", "cli.tif", "--save-model", "model.safetensors")
    for words in (
        ("fuse", "hsi.tif", "msi.tif", *options),
        ("apply", "model.safetensors", "msi.tif", "-o", "cli_applied.tif"),
    ):
        done = run(*words, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


def qgis_process(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["qgis_process.bin", *words],
        env=environment, capture_output=True, text=True, encoding="utf-8", timeout=900, check=False,
    )  # fmt: skip


def test_fuse_in_qgis_process_gives_the_file_of_the_command_line(qgis: dict[str, str], scene: Path) -> None:
    output = scene / "par QGIS é.tif"
    done = qgis_process(
        qgis, "run", "geolift:fuse", f"--HSI={scene / 'hsi.tif'}", f"--MSI={scene / 'msi.tif'}",
        "--SENSOR=sentinel-2a", f"--OUTPUT={output}",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"OUTPUT:\t{output}" in done.stdout
    with rasterio.open(output) as ours, rasterio.open(scene / "cli.tif") as theirs:
        assert np.array_equal(ours.read(), theirs.read())
        assert ours.profile == theirs.profile
        assert [ours.tags(i) for i in ours.indexes] == [theirs.tags(i) for i in theirs.indexes]


def test_products_become_spectra_and_a_mosaic_in_qgis_process(qgis: dict[str, str], scene: Path) -> None:
    with rasterio.open(scene / "cli.tif") as product:
        x, y = product.xy(5, 7)
        expected = product.read(1)[5, 7] * product.scales[0]
    places = scene / "places.csv"  # a table is no layer with places to QGIS, but it is one to geolift
    places.write_text(f"x,y,name\n{x},{y},field\n", encoding="utf-8")
    for words, written in (
        (["spectra", f"--PLACES={places}"], scene / "spectra.csv"),
        (["mosaic"], scene / "mosaic.tif"),
    ):
        named = [f"--PRODUCTS={scene / name}" for name in ("cli.tif", "cli_applied.tif")]
        done = qgis_process(qgis, "run", f"geolift:{words[0]}", *named, *words[1:], f"--OUTPUT={written}")
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"OUTPUT:\t{written}" in done.stdout
    rows = [line.split(",") for line in (scene / "spectra.csv").read_text(encoding="utf-8").splitlines()]
    (first,) = [row for row in rows if row[:4] == ["field", "cli.tif", "product", rows_band(rows)]]
    assert float(first[6]) == pytest.approx(expected, abs=1e-6)
    with rasterio.open(scene / "mosaic.tif") as mosaic:
        assert mosaic.count == 30


def rows_band(rows: list[list[str]]) -> str:
    """The name of the first band of a product in a table of spectra."""
    return next(row[3] for row in rows if row[2] == "product")


def test_a_failing_run_in_qgis_process_fails_with_the_sentence_of_the_command_line(
    qgis: dict[str, str], scene: Path
) -> None:
    output = scene / "never.tif"
    done = qgis_process(
        qgis, "run", "geolift:fuse", f"--HSI={scene / 'hsi.tif'}", f"--MSI={scene / 'msi.tif'}",
        "--SENSOR=sentinel-2a", "--MSI_BANDS=B02,B03", f"--OUTPUT={output}",
    )  # fmt: skip
    assert done.returncode != 0
    assert "names 2 bands" in done.stdout + done.stderr
    assert not output.exists()


@pytest.fixture(scope="module")
def session(qgis: dict[str, str], scene: Path) -> dict[str, Any]:
    """What happened in one session of PyQGIS; see qgis_session.py."""
    python = qgis_python()
    assert python
    script = Path(__file__).parent / "helpers" / "qgis_session.py"
    done = subprocess.run(
        [python, "-I", str(script), str(scene)],
        env=qgis, capture_output=True, text=True, encoding="utf-8", timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_a_layer_of_the_project_is_a_file_to_geolift_and_the_result_is_named_and_coloured(
    session: dict[str, Any], scene: Path
) -> None:
    assert session["apply"]["ok"], session["apply"]
    with rasterio.open(scene / "out" / "applied.tif") as ours, rasterio.open(scene / "cli_applied.tif") as theirs:
        assert np.array_equal(ours.read(), theirs.read())
    layer = session["apply"]["layer"]
    assert layer["name"] == "msi fused"
    # 30 bands from 420 nm in steps of 20 nm: red at 660, green at 560, blue at 480.
    assert layer["bands"] == [13, 8, 4]
    assert not layer["left"]


def test_a_product_dragged_into_qgis_opens_in_natural_colours(session: dict[str, Any], scene: Path) -> None:
    with rasterio.open(scene / "out" / "bands.tif") as product:
        seen = product.read([13, 8, 4]) * product.scales[0]
    assert session["opened"]["bands"] == [13, 8, 4]
    assert session["opened"]["red"] == pytest.approx(np.percentile(seen, (2, 98)), abs=0.02)
    assert not (scene / "out" / "bands.tif.aux.xml").exists()


def test_the_bar_only_moves_on_and_reaches_the_end(session: dict[str, Any]) -> None:
    shares = session["apply"]["shares"]
    assert shares == sorted(shares)
    assert shares[-1] == 100


def test_an_extent_and_a_suffix_become_bounds_and_a_format(session: dict[str, Any], scene: Path) -> None:
    assert session["window"]["ok"], session["window"]
    with rasterio.open(scene / "out" / "w.img") as window:
        assert (window.driver, window.shape, window.dtypes[0]) == ("ENVI", (10, 10), "float32")


def test_measures_come_back_and_a_broken_rule_is_a_failed_algorithm(session: dict[str, Any], scene: Path) -> None:
    assert session["evaluate"]["ok"], session["evaluate"]
    assert session["evaluate"]["results"]["SAM_DEG"] == 0
    assert json.loads((scene / "out" / "scores.json").read_text(encoding="utf-8"))["rmse"] == 0
    assert not session["gate"]["ok"]
    assert "ssim>2" in " ".join(session["gate"]["errors"])


def test_an_msi_of_single_band_files_is_read_as_one(session: dict[str, Any], scene: Path) -> None:
    assert session["bands"]["ok"], session["bands"]
    with rasterio.open(scene / "out" / "bands.tif") as ours, rasterio.open(scene / "cli.tif") as theirs:
        assert np.array_equal(ours.read(), theirs.read())


def test_check_and_info_speak_in_the_log(session: dict[str, Any], scene: Path) -> None:
    assert session["check"]["ok"], session["check"]
    # The scene cannot tell Sentinel-2A from 2B: that, or ok, is its verdict.
    assert session["check"]["results"]["VERDICT"] in ("ok", "undetermined"), session["check"]
    assert session["info"]["ok"]
    assert "420 to 1000 nm" in " ".join(session["info"]["info"])
    assert json.loads((scene / "out" / "info.json").read_text(encoding="utf-8"))["bands"] == 30


def test_failures_are_failed_algorithms_with_the_sentence_of_the_command_line(
    session: dict[str, Any], scene: Path
) -> None:
    assert not session["failed"]["ok"]
    assert "msi.tif" in " ".join(session["failed"]["errors"])
    assert not session["missing"]["ok"]
    assert "Hyperspectral image" in session["missing"]["why"]
    assert not [path for path in (scene / "out").iterdir() if path.stem in ("failed", "missing")]


def test_a_cancelled_run_leaves_nothing(session: dict[str, Any], scene: Path) -> None:
    assert not session["cancelled"]["ok"]
    assert session["cancelled"]["stages"][-1] == "Training"
    assert "Cancelled" in " ".join(session["cancelled"]["errors"])
    assert list((scene / "cancelled").iterdir()) == []
    running = [
        p for p in psutil.process_iter(["cmdline"]) if str(scene / "cancelled") in " ".join(p.info["cmdline"] or [])
    ]
    assert not running
