"""Mosaics: tiles of one truth give it back; products that differ fade into each other; what does not fit is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from scenes import ORIGIN, spectra_of, write

import geolift
from geolift.cli import cli
from geolift.datamodel.cube import grid_of
from geolift.errors import InputError

NM = np.array([500.0, 600.0, 700.0, 800.0])


def tile(folder: Path, name: str, values: np.ndarray, row: int, col: int, **options: object) -> Path:
    origin = (ORIGIN[0] + 10 * col, ORIGIN[1] - 10 * row)
    options = {"wavelength_nm": NM[: len(values)], "fwhm_nm": np.full(len(values), 20.0)} | options
    return write(folder / f"{name}.tif", values, gsd=10, origin=origin, **options)  # type: ignore[arg-type]


@pytest.fixture()
def truth() -> np.ndarray:
    return np.round(spectra_of(NM, 90, 80), 4)


def test_tiles_of_one_truth_give_it_back_with_its_wavelengths(tmp_path: Path, truth: np.ndarray) -> None:
    files = [
        tile(tmp_path, "a", truth[:, :60, :50], 0, 0),
        tile(tmp_path, "b", truth[:, 30:, 40:], 30, 40),
        tile(tmp_path, "c", truth[:, 50:, :45], 50, 0),
    ]
    done = CliRunner().invoke(cli, ["mosaic", *map(str, files), "-o", str(tmp_path / "m.tif"), "--tile-size", "32"])
    assert done.exit_code == 0, done.output
    whole = geolift.open(tmp_path / "m.tif")
    assert whole.shape == truth.shape
    covered = np.isfinite(whole.values)
    assert not covered[:, :30, 50:].any(), "what no tile holds stays empty"
    np.testing.assert_allclose(whole.values[covered], truth[covered], atol=1.01e-4)
    np.testing.assert_allclose(whole["wavelength"], NM)
    assert grid_of(whole).affine == grid_of(geolift.open(files[0])).affine
    facts = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))["properties"]
    assert [Path(fact["href"]).name for fact in facts["geolift:mosaic_of"]] == ["a.tif", "b.tif", "c.tif"]


def test_the_pixels_do_not_depend_on_the_tile(tmp_path: Path, truth: np.ndarray) -> None:
    files = [tile(tmp_path, "a", truth[:, :60], 0, 0), tile(tmp_path, "b", truth[:, 30:] + 0.05, 30, 0)]
    one, other = (geolift.mosaic(files, feather=20, tile_size=size).values for size in (16, 128))
    np.testing.assert_array_equal(one, other)


def test_products_fade_into_each_other_from_edge_to_edge(tmp_path: Path) -> None:
    low, high = np.full((1, 40, 60), 0.2, np.float32), np.full((1, 40, 60), 0.4, np.float32)
    files = [tile(tmp_path, "low", low, 0, 0), tile(tmp_path, "high", high, 0, 30)]
    row = geolift.mosaic(files, feather=15).values[0, 20]
    assert row[:30] == pytest.approx(0.2)
    assert row[60:] == pytest.approx(0.4)
    assert (np.diff(row[30:60]) > -1e-6).all()
    assert row[30] == pytest.approx(0.2, abs=0.02)
    assert row[59] == pytest.approx(0.4, abs=0.02)
    assert row[44:46].mean() == pytest.approx(0.3, abs=0.01)


def test_a_hole_in_one_is_filled_by_the_other_and_the_first_may_win(tmp_path: Path) -> None:
    low, high = np.full((1, 30, 30), 0.2, np.float32), np.full((1, 30, 30), 0.4, np.float32)
    low[0, 10:20, 10:20] = np.nan
    files = [tile(tmp_path, "low", low, 0, 0), tile(tmp_path, "high", high, 0, 0)]
    first = geolift.mosaic(files, blend="first").values[0]
    assert first[15, 15] == pytest.approx(0.4)
    assert first[5, 5] == pytest.approx(0.2)
    assert geolift.mosaic(files).values[0, 15, 15] == pytest.approx(0.4)


def test_a_marked_pixel_counts_only_where_no_other_has_none(tmp_path: Path) -> None:
    low, high = np.full((1, 30, 30), 0.2, np.float32), np.full((1, 30, 30), 0.4, np.float32)
    files = [tile(tmp_path, "low", low, 0, 0), tile(tmp_path, "high", high, 0, 0)]
    for name, marked in (("low", slice(0, 20)), ("high", slice(10, 30))):
        bits = np.zeros((1, 30, 30), np.float32)
        bits[:, marked] = 4
        write(tmp_path / f"{name}_qa.tif", bits, gsd=10, dtype="uint16", scale=None, nodata=65535)
        item = {"properties": {"geolift:settings": {"qa": str(tmp_path / f"{name}_qa.tif")}}}
        (tmp_path / f"{name}.json").write_text(json.dumps(item), encoding="utf-8")
    column = geolift.mosaic(files, blend="quality").values[0, :, 15]
    assert column[:10] == pytest.approx(0.4, abs=1e-4), "only the first is marked"
    assert column[20:] == pytest.approx(0.2, abs=1e-4), "only the second is marked"
    assert column[10:20] == pytest.approx(0.3, abs=1e-4), "both are marked"
    (tmp_path / "low.json").unlink()
    with pytest.raises(InputError, match="has no quality raster"):
        geolift.mosaic(files, blend="quality")


def test_what_is_on_no_common_grid_or_has_other_bands_is_refused(tmp_path: Path, truth: np.ndarray) -> None:
    good = tile(tmp_path, "a", truth[:, :30], 0, 0)
    half = write(tmp_path / "half.tif", truth, gsd=10, origin=(ORIGIN[0] + 5, ORIGIN[1]), wavelength_nm=NM)
    with pytest.raises(InputError, match=r"half.*off by 0\.5 pixels"):
        geolift.mosaic([good, half])
    coarse = write(tmp_path / "coarse.tif", truth, gsd=20, wavelength_nm=NM)
    with pytest.raises(InputError, match=r"coarse.*do not lie on the grid"):
        geolift.mosaic([good, coarse])
    elsewhere = tile(tmp_path, "zone", truth, 0, 0, crs="EPSG:32632")
    with pytest.raises(InputError, match="another CRS"):
        geolift.mosaic([good, elsewhere])
    other = tile(tmp_path, "other", truth, 0, 0, wavelength_nm=NM + 5)
    with pytest.raises(InputError, match=r"other.*the same wavelengths"):
        geolift.mosaic([good, other])


def test_the_memory_allowed_makes_tiles_smaller_not_the_mosaic_different(tmp_path: Path, truth: np.ndarray) -> None:
    files = [tile(tmp_path, "a", truth[:, :60], 0, 0), tile(tmp_path, "b", truth[:, 30:], 30, 0)]
    for name, memory in (("small", "460MB"), ("large", "4GB")):
        words = ["mosaic", *map(str, files), "-o", str(tmp_path / f"{name}.tif"), "--memory", memory]
        assert CliRunner().invoke(cli, words).exit_code == 0
    with rasterio.open(tmp_path / "small.tif") as small, rasterio.open(tmp_path / "large.tif") as large:
        np.testing.assert_array_equal(small.read(), large.read())
