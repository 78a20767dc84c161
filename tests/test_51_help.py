"""What a person reads before anything runs: help in groups, completion, where each value comes from."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from scenes import make_pair

from geolift.cli import COMMANDS, cli
from geolift.settings import ApplySettings, FuseSettings
from geolift.srf import list_sensors, resolve_sensor, sensor_names


def help_of(*words: str) -> list[str]:
    done = CliRunner().invoke(cli, [*words, "--help"], prog_name="geolift", terminal_width=80)
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_fits_eighty_columns_and_says_what_kind_each_value_is(name: str) -> None:
    lines = help_of(name)
    assert [line for line in lines if len(line) > 80] == []
    assert [line for line in lines if line.startswith("  -") and " TEXT" in line] == []


def test_the_few_options_that_matter_come_first_and_the_others_in_groups() -> None:
    lines = help_of("fuse")
    headings = [line for line in lines if line and not line.startswith(" ")]
    assert [line.partition(" (")[0].rstrip(":") for line in headings[1:]] == [
        "Options", "Input", "Sensor and bands", "Method", "Trust", "Output", "Machine", "Run and messages",
    ]  # fmt: skip
    first = lines[lines.index("Options:") + 1 : lines.index("Input (advanced):")]
    named = [line.split()[0 if line.startswith("  --") else 1] for line in first if line.startswith("  -")]
    assert named == ["--output", "--sensor", "--msi-bands", "--report", "--overwrite", "--help"]


@pytest.mark.parametrize("model", [FuseSettings, ApplySettings])
def test_every_option_stands_under_one_heading(model: type[FuseSettings]) -> None:
    assert sorted(model.in_reading_order()) == sorted(model.model_fields)
    assert {model.group_of(name) for name in model.model_fields} <= {
        "input", "sensor and bands", "method", "trust", "output", "machine",
    }  # fmt: skip


def completed(*words: str, incomplete: str) -> list[str]:
    found = ShellComplete(cli, {}, "geolift", "_GEOLIFT_COMPLETE").get_completions(list(words), incomplete)
    return [item.value for item in found]


def test_the_shell_completes_every_name_that_a_sensor_goes_by() -> None:
    assert set(completed("fuse", "--sensor", incomplete="")) == set(sensor_names())
    assert {"s2a", "sentinel2", "sentinel-2a"} <= set(sensor_names())
    assert set(list_sensors()) <= set(sensor_names())
    offered = completed("fuse", "--sensor", incomplete="S2")
    assert offered
    assert all(name.startswith("s2") for name in offered)
    assert resolve_sensor("s2a").sensor_id == "sentinel-2a"
    assert "sentinel-2b" in completed("sensors", incomplete="sentinel")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_each_shells_script_gets_what_completes_a_word(shell: str) -> None:
    script = CliRunner().invoke(cli, ["completion", shell]).output
    assert "_GEOLIFT_COMPLETE" in script
    assert f"{shell}_complete" in script
    words = "geolift fuse --sensor sentinel-2"
    typed = {"COMP_WORDS": words, "COMP_CWORD": "3" if shell in ("bash", "zsh") else "sentinel-2"}
    # As the scripts call it: a process of the command's own name.
    command = [sys.executable, "-c", "import sys; sys.argv = ['geolift']; from geolift.cli import main; main()"]
    done = subprocess.run(
        command,
        env={**os.environ, **typed, "_GEOLIFT_COMPLETE": f"{shell}_complete"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "sentinel-2b" in re.split(r"[\s,]+", done.stdout)
    assert "landsat" not in done.stdout


def test_gdals_own_options_are_set_and_a_file_of_options_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "1")
    pair = make_pair(tmp_path)
    done = CliRunner().invoke(cli, ["info", str(pair.hsi), "--config", "GDAL_HTTP_TIMEOUT=77", "--config", "A_B="])
    assert done.exit_code == 0, done.output
    from rasterio._env import get_gdal_config

    assert get_gdal_config("GDAL_HTTP_TIMEOUT") == 77
    assert os.environ.pop("A_B") == ""
    for words, said in (
        (["info", str(pair.hsi), "--config", "a.toml"], "expected is KEY=VALUE"),
        (["fuse", "--config", "a.toml", "--config", "b.toml"], "two files of options"),
    ):
        refused = CliRunner().invoke(cli, words)
        assert refused.exit_code == 2
        assert said in refused.output


def test_the_configuration_shown_tells_each_values_origin_and_can_be_used_again(tmp_path: Path) -> None:
    file = tmp_path / "geolift.toml"
    file.write_text('sensor = "s2a"\nmemory = "2GB"\nhsi-nodata = 7\n', encoding="utf-8")
    words = ["fuse", "--config", str(file), "--dtype", "float32", "--nodata", "nan", "--show-config"]
    done = CliRunner().invoke(
        cli, words, auto_envvar_prefix="GEOLIFT", env={"GEOLIFT_FUSE_SEED": "5", "GEOLIFT_FUSE_MEMORY": "3GB"}
    )
    assert done.exit_code == 0, done.output
    origins = {line.split()[line.startswith("#")]: line.rpartition("# ")[2] for line in done.stdout.splitlines()}
    assert set(origins) == {name.replace("_", "-") for name in FuseSettings.model_fields}
    assert origins["sensor"] == origins["hsi-nodata"] == str(file)
    assert origins["memory"] == "environment GEOLIFT_FUSE_MEMORY"
    assert origins["dtype"] == "command line"
    assert origins["method"] == "default"
    file.write_text(done.stdout, encoding="utf-8")
    assert tomllib.loads(done.stdout)["memory"] == 3_000_000_000
    again = CliRunner().invoke(cli, ["fuse", "--config", str(file), "--show-config"])
    assert str(tomllib.loads(again.stdout)) == str(tomllib.loads(done.stdout))


def test_two_outputs_are_refused_and_the_last_argument_is_one() -> None:
    done = CliRunner().invoke(cli, ["fuse", "a.tif", "b.tif", "c.tif", "-o", "d.tif"])
    assert done.exit_code == 2
    assert "two outputs are named: c.tif and, with -o, d.tif" in done.output


def test_an_exchanged_pair_is_recognised_from_both_files(tmp_path: Path) -> None:
    pair = make_pair(tmp_path)
    for name in ("check", "fuse"):
        done = CliRunner().invoke(cli, [name, str(pair.msi), str(pair.hsi), "--sensor", "s2a"])
        assert done.exit_code != 0
        assert "has 4 bands" in str(done.exception)
        assert "HSI and MSI are exchanged. Name the hyperspectral file first." in str(done.exception)


def test_every_command_says_its_version() -> None:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        assert any(param.name == "version" for param in command.params), name
