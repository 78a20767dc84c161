"""Abundances and endmembers as products: on the MSI's grid, streamed, whole or not at all, with the method alone."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from scenes import Pair

import geolift
from geolift.datamodel.cube import grid_of
from geolift.errors import OutputExistsError, UsageError
from geolift.pipeline import files
from geolift.pipeline.trained import load_trained
from geolift.settings import ApplySettings, FuseSettings
from geolift.training.methods import spectramorph

MORPH = {"sensor": "sentinel-2a", "method": "spectramorph", "endmembers": 3, "refine": "off"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectramorph, "AUTHORS", replace(spectramorph.AUTHORS, width=32, epochs=30))


def fused(pair: Pair, folder: Path, **options: object) -> files.FileResult:
    settings = FuseSettings(**(MORPH | {"abundances": folder / "a.tif", "dtype": "float32"} | options))
    return files.fuse_files(pair.hsi, pair.msi, folder / "p.tif", settings)


def test_abundances_and_endmembers_mix_to_the_product(pair: Pair, tmp_path: Path) -> None:
    result = fused(pair, tmp_path, non_negative=True, sum_to_one=True)
    product, abundances = geolift.open(tmp_path / "p.tif"), geolift.open(tmp_path / "a.tif")
    assert grid_of(abundances).affine == grid_of(product).affine
    assert abundances.shape == (3, *product.shape[1:])
    assert list(abundances["name"].values) == ["Endmember 1", "Endmember 2", "Endmember 3"]
    assert np.allclose(abundances.values.sum(axis=0), 1, atol=1e-5)
    facts = result.sidecar["properties"]["geolift:endmembers"]
    assert facts["names"] == ["Endmember 1", "Endmember 2", "Endmember 3"]
    mixed = np.einsum("kb,kyx->byx", np.array(facts["spectra"]), abundances.values)
    assert np.allclose(mixed, product.values, atol=1e-5)


def test_the_table_of_endmembers_holds_what_the_sidecar_holds(pair: Pair, tmp_path: Path) -> None:
    facts = fused(pair, tmp_path).sidecar["properties"]["geolift:endmembers"]
    with (tmp_path / "a.csv").open(encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["wavelength_nm", "Endmember 1", "Endmember 2", "Endmember 3"]
    wavelength, *spectra = np.array(rows, np.float64).T
    assert np.array_equal(wavelength, facts["wavelength_nm"])
    assert np.array_equal(spectra, facts["spectra"])


def test_integers_of_any_tiling_hold_the_same_abundances(pair: Pair, tmp_path: Path) -> None:
    for name, tile in (("one", 16), ("two", 64)):
        (tmp_path / name).mkdir()
        fused(pair, tmp_path / name, dtype="int16", tile_size=tile)
    with rasterio.open(tmp_path / "one/a.tif") as one, rasterio.open(tmp_path / "two/a.tif") as two:
        assert one.tags()["GEOLIFT_QUANTITY"] == "abundance"
        assert one.scales == two.scales
        values = one.read()
        assert np.array_equal(values, two.read())
        assert np.abs(values.astype(int)).max() < 32767  # nothing clipped


def test_a_saved_model_gives_the_abundances_of_another_image(pair: Pair, tmp_path: Path) -> None:
    fused(pair, tmp_path, save_model=tmp_path / "m.safetensors")
    settings = ApplySettings(abundances=tmp_path / "b.tif", dtype="float32")
    files.apply_files(tmp_path / "m.safetensors", pair.msi, tmp_path / "q.tif", settings)
    again, before = geolift.open(tmp_path / "b.tif").values, geolift.open(tmp_path / "a.tif").values
    assert np.array_equal(again, before, equal_nan=True)
    assert (tmp_path / "b.csv").read_text(encoding="utf-8") == (tmp_path / "a.csv").read_text(encoding="utf-8")
    assert load_trained(tmp_path / "m.safetensors").model.choices["endmembers"] == 3


def test_a_model_without_endmembers_is_refused_with_the_way_out(pair: Pair, tmp_path: Path) -> None:
    settings = FuseSettings(sensor="sentinel-2a", method="linear", save_model=tmp_path / "m.safetensors")
    files.fuse_files(pair.hsi, pair.msi, tmp_path / "p.tif", settings)
    with pytest.raises(UsageError, match=r"'linear' knows no endmembers.*--method spectramorph"):
        files.apply_files(
            tmp_path / "m.safetensors", pair.msi, tmp_path / "q.tif", ApplySettings(abundances=tmp_path / "b.tif")
        )
    assert not (tmp_path / "q.tif").exists()


def test_neither_abundances_nor_their_table_are_overwritten_unasked(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputExistsError, match=r"a\.csv"):
        fused(pair, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
