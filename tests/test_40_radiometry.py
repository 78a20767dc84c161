"""A saved model on another image: brought to the radiometry of the MSI that the model was learned with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from scenes import Pair

import geolift
from geolift.datamodel.cube import bands_of, grid_of, make_cube
from geolift.errors import InputError
from geolift.pair.harmonization import Harmonization, fit_harmonization
from geolift.pipeline import files
from geolift.pipeline.radiometry import InTurn, outside_of, radiometry_facts, relation_to_reference
from geolift.pipeline.trained import load_trained
from geolift.provenance.record import HarmonizationFacts
from geolift.report.scene import relation_of
from geolift.settings import ApplySettings, FuseSettings

GAIN = np.array([1.1, 0.9, 1.05, 0.95], np.float32)[:, None, None]
HAZE = np.array([0.03, 0.02, 0.012, 0.004], np.float32)[:, None, None]


@pytest.fixture(scope="module")
def model(pair: Pair) -> Path:
    saved = pair.hsi.parent / "model.safetensors"
    settings = FuseSettings(sensor="sentinel-2a", refine="off", save_model=saved)
    files.fuse_files(pair.hsi, pair.msi, pair.hsi.parent / "fused.tif", settings)
    return saved


def disturbed(pair: Pair, folder: Path, offset: float = 0.02, changed: float = 0.1) -> Path:
    """The pair's MSI through another atmosphere: gains, an offset, haze; a part of the ground has changed."""
    path = folder / "later.tif"
    with rasterio.open(pair.msi) as source:
        values, profile = source.read().astype(np.float32), source.profile
        scale = float(source.scales[0])
    values = values * scale * GAIN + offset + HAZE
    edge = int(values.shape[1] * changed**0.5)
    values[:, :edge, :edge] = values[::-1, :edge, :edge]
    with rasterio.open(path, "w", **{**profile, "dtype": "float32", "nodata": np.nan}) as product:
        product.write(values)
        with rasterio.open(pair.msi) as source:
            product.descriptions = source.descriptions
    return path


def error(product: xr.DataArray, pair: Pair, changed: float = 0.1) -> float:
    edge = int(product.shape[1] * changed**0.5) + 1
    return float(np.sqrt(np.square(product.values - pair.truth)[:, edge:, edge:].mean()))


def test_another_atmosphere_is_undone_by_the_reference_and_the_ground_that_changed_does_not_count(
    pair: Pair, model: Path, tmp_path: Path
) -> None:
    later = disturbed(pair, tmp_path)
    undisturbed = error(geolift.apply(model, pair.msi), pair)
    without = error(geolift.apply(model, later), pair)
    brought = error(geolift.apply(model, later, reference=pair.msi), pair)
    assert brought < 10 ** (0.3 / 20) * undisturbed < 0.5 * without


def test_values_outside_what_was_learned_are_told_and_the_way_out(pair: Pair, model: Path, tmp_path: Path) -> None:
    later, output = disturbed(pair, tmp_path, offset=0.2), tmp_path / "later_fused.tif"
    files.apply_files(model, later, output, ApplySettings())
    (warning,) = json.loads(output.with_suffix(".json").read_text())["properties"]["geolift:warnings"]
    assert "values that the model was not learned from. Pass --reference" in warning
    files.apply_files(model, later, output, ApplySettings(reference=pair.msi, overwrite=True))
    properties = json.loads(output.with_suffix(".json").read_text())["properties"]
    assert not properties["geolift:warnings"] and "reference" in properties["geolift:inputs"]


def test_a_model_learned_from_sharpened_bands_is_saved_with_a_warning(pair: Pair, tmp_path: Path) -> None:
    coarse, output = tmp_path / "coarse.tif", tmp_path / "fused.tif"
    with rasterio.open(pair.msi) as source:
        values, profile, names = source.read(), source.profile, source.descriptions
    values[2:] = values[2:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2)
    with rasterio.open(coarse, "w", **profile) as product:
        product.write(values)
        product.descriptions = names
    settings = FuseSettings(sensor="sentinel-2a", refine="off", save_model=tmp_path / "model.safetensors")
    files.fuse_files(pair.hsi, coarse, output, settings)
    warnings = json.loads(output.with_suffix(".json").read_text())["properties"]["geolift:warnings"]
    assert any("'geolift apply' does not repeat that" in text for text in warnings)


def test_a_reference_of_other_ground_is_refused(pair: Pair, model: Path, tmp_path: Path) -> None:
    far = tmp_path / "far.tif"
    with rasterio.open(pair.msi) as source:
        profile, values = source.profile, source.read()
        profile["transform"] = rasterio.Affine.translation(1e5, 0) * source.transform
        with rasterio.open(far, "w", **profile) as product:
            product.write(values)
            product.descriptions = source.descriptions
    with pytest.raises(InputError, match="only 0 valid pixels are shared"):
        geolift.apply(model, pair.msi, reference=far)


def test_a_plan_names_the_reference_and_refuses_one_that_is_not_there(pair: Pair, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.tif"
    plan = files.plan_application(model, pair.msi, output, ApplySettings(reference=pair.msi))
    assert plan["reference"]["source"] == plan["msi"]["source"] and "reference" not in files.plan_application(
        model, pair.msi, output, ApplySettings()
    )
    with pytest.raises(InputError, match=r"gone\.tif"):
        files.plan_application(model, pair.msi, output, ApplySettings(reference=tmp_path / "gone.tif"))


def test_the_relation_of_the_pair_travels_with_the_model() -> None:
    rng = np.random.default_rng(0)
    wanted = rng.random((3, 30, 30)).astype(np.float32)
    relation = fit_harmonization(wanted, (wanted - 0.02) / 1.2, "auto")
    facts = radiometry_facts(relation)
    assert facts is not None
    kept = relation_of(HarmonizationFacts.model_validate_json(facts.model_dump_json()))
    assert kept is not None
    np.testing.assert_array_equal(kept.apply(wanted), relation.apply(wanted))
    unchanged = Harmonization(
        model="identity",
        matrix=np.eye(3),
        offset=np.zeros(3),
        heldout_error={},
        inlier_fraction=1.0,
        n_pixels=9,
        reason="",
    )
    assert radiometry_facts(unchanged) is radiometry_facts(None) is relation_of(None) is None
    np.testing.assert_array_equal(InTurn(relation, kept).apply(wanted), kept.apply(relation.apply(wanted)))


def test_a_reference_on_a_coarser_grid_gives_the_same_relation(pair: Pair) -> None:
    cube = geolift.open(pair.msi)
    grid, bands = grid_of(cube), bands_of(cube)
    coarse = cube.values.reshape(4, grid.shape[0] // 2, 2, grid.shape[1] // 2, 2).mean(axis=(2, 4), dtype=np.float32)
    reference = make_cube(coarse, grid=grid.zoom_out(2), bands=bands, attrs={})
    later = make_cube(cube.values * GAIN + HAZE, grid=grid, bands=bands, attrs={})
    found = relation_to_reference(later, range(4), reference, range(4))
    np.testing.assert_allclose(np.diag(found.matrix), 1 / GAIN.ravel(), rtol=0.01)


def test_the_part_outside_is_that_of_the_pixels(pair: Pair, model: Path) -> None:
    trained = load_trained(model)
    cube = geolift.open(pair.msi)
    assert outside_of(trained.model, cube, range(4), None) < 0.05
    assert outside_of(trained.model, cube + 10.0, range(4), None) == 1.0
