"""What an option is stands in the settings alone, and a wrong value is one sentence wherever it was typed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from click.testing import CliRunner

import geolift
from geolift.batch.manifest import read_manifest
from geolift.cli import cli
from geolift.errors import UsageError
from geolift.settings import ApplySettings, BenchmarkSettings, EvaluateSettings, FuseSettings, TrainSettings
from geolift.settings.validation import validated

ROOT = Path(__file__).resolve().parent.parent
MODELS = (FuseSettings, ApplySettings, TrainSettings, EvaluateSettings, BenchmarkSettings)


def test_the_types_of_the_python_options_are_those_of_the_settings() -> None:
    spec = importlib.util.spec_from_file_location("build_option_types", ROOT / "tools" / "build_option_types.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.TARGET.read_text(encoding="utf-8") == module.document(), "run tools/build_option_types.py"


@pytest.mark.parametrize("model", MODELS)
def test_every_option_changes_the_pixels_or_something_beside_them_or_only_the_run(model: type) -> None:
    parts = [model.with_effect(effect) for effect in ("pixels", "beside", "run")]
    assert set.union(*parts) == set(model.model_fields)
    assert sum(map(len, parts)) == len(model.model_fields)


def test_how_a_run_is_cut_and_spread_never_counts_as_another_product() -> None:
    assert {"tile_size", "threads", "memory", "resume", "overwrite"} <= FuseSettings.with_effect("run")
    assert {"qa", "save_model", "uncertainty", "abundances"} <= FuseSettings.with_effect("beside")
    assert {"method", "seed", "dtype", "refine", "hsi_scale"} <= FuseSettings.with_effect("pixels")


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("tile_size", 3, "tile_size: input should be greater than or equal to 16 (got 3)"),
        ("tile_sise", 256, "unknown option tile_sise; did you mean tile_size?"),
        ("coregister", "1;2", "DY,DX in MSI pixels is expected"),
    ],
)
def test_a_wrong_option_of_a_python_function_is_one_sentence(option: str, value: object, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        geolift.fuse("hsi.tif", "msi.tif", **{option: value})
    assert told in str(caught.value)
    assert "pydantic" not in str(caught.value)


def test_command_line_and_manifest_say_the_same_of_a_wrong_value(tmp_path: Path) -> None:
    manifest = tmp_path / "pairs.csv"
    manifest.write_text("hsi,msi,out,tile_size\na.tif,b.tif,c.tif,3\n", encoding="utf-8")
    (job,) = read_manifest(manifest)
    assert isinstance(job.error, UsageError)
    said = CliRunner().invoke(cli, ["fuse", "a.tif", "b.tif", "--tile-size", "3"])
    assert said.exit_code == 2
    sentence = "input should be greater than or equal to 16 (got '3')"
    assert sentence in str(job.error)
    assert sentence in said.output


def test_an_output_in_the_place_of_the_settings_is_told_what_writes_it() -> None:
    with pytest.raises(UsageError, match=r"got 'p.tif'.*geolift\.write"):
        geolift.fuse("h.tif", "m.tif", "p.tif", sensor="s2a")  # type: ignore[arg-type]


def test_settings_given_whole_are_overlaid_by_options() -> None:
    given = FuseSettings(sensor="sentinel2", threads="ALL_CPUS", seed=4)
    laid_over = validated(FuseSettings, {"seed": 5}, given=given)
    assert (laid_over.sensor, laid_over.seed, laid_over.threads) == ("sentinel2", 5, None)
