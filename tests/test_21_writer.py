"""Writer: what goes in comes back through geolift, GDAL and SPy; nothing half-written ever has a name."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
import spectral.io.envi
from affine import Affine
from odc.geo.geobox import GeoBox

from geolift.datamodel.cube import Bands, bands_of, grid_of, make_cube
from geolift.errors import OutputExistsError, ResourceError
from geolift.readers import open_cube
from geolift.settings import WritingSettings
from geolift.writer import Encoding, choose_scale, default_rgb, write_cube

NM = np.array([2200.123456, 489.98765, 560.1, 661.23, 1400.0])
BANDS = Bands(tuple(f"band {i + 1}" for i in range(5)), NM, np.full(5, 9.87654), np.array([1, 1, 1, 1, 0], bool))
GRID = GeoBox((70, 90), Affine(10.1, 0, 364095.123, 0, -10.1, 5809965.987), "EPSG:32633")
FORMATS = {"GTiff": "a.tif", "COG": "a.tif", "ENVI": "a.img"}


@pytest.fixture
def values() -> np.ndarray:
    rng = np.random.default_rng(1)
    made = rng.integers(-400, 9000, (5, 70, 90)) * 1e-4
    made[4] = np.nan
    made[:, 3:9, 10:20] = np.nan
    return made.astype(np.float32)


def written(path: Path, values: np.ndarray, **options: object) -> Path:
    settings = WritingSettings(**options)  # type: ignore[arg-type]
    write_cube(make_cube(values, grid=GRID, bands=BANDS), path, settings, encoding=Encoding.of(settings, 1e-4))
    return path


@pytest.mark.parametrize("dtype", ["int16", "float32"])
@pytest.mark.parametrize("of", list(FORMATS))
def test_a_round_trip_is_exact_in_every_format(tmp_path: Path, values: np.ndarray, of: str, dtype: str) -> None:
    cube = open_cube(written(tmp_path / FORMATS[of], values, of=of, dtype=dtype))
    assert np.array_equal(cube.values, values, equal_nan=True)
    back = bands_of(cube)
    assert np.abs(back.wavelength_nm - NM).max() < 1e-6
    assert np.abs(back.fwhm_nm - BANDS.fwhm_nm).max() < 1e-6
    assert np.array_equal(back.good, BANDS.good)
    assert grid_of(cube).crs == GRID.crs
    if of != "ENVI":
        assert grid_of(cube).affine == GRID.affine
    else:
        shift = ~GRID.affine * grid_of(cube).affine * (90, 70)
        assert np.abs(np.subtract(shift, (90, 70))).max() < 1e-6


@pytest.mark.parametrize("of", list(FORMATS))
def test_gdal_finds_wavelengths_scale_and_a_picture(tmp_path: Path, values: np.ndarray, of: str) -> None:
    with rasterio.open(written(tmp_path / FORMATS[of], values, of=of)) as source:
        assert source.scales == (1e-4,) * 5
        assert source.nodata == -32768
        for band in source.indexes:
            micrometres = float(source.tags(band, ns="IMAGERY")["CENTRAL_WAVELENGTH_UM"])
            assert micrometres * 1000 == pytest.approx(NM[band - 1], abs=1e-4)
            assert float(source.tags(band)["wavelength"]) == pytest.approx(NM[band - 1], abs=1e-4)
            assert source.tags(band)["bbl"] == str(int(BANDS.good[band - 1]))
        if of != "ENVI":
            assert [c.name for c in source.colorinterp][1:4] == ["blue", "green", "red"]


def test_spy_reads_reflectance_scaled_once_with_wavelengths_and_bad_bands(tmp_path: Path, values: np.ndarray) -> None:
    written(tmp_path / "a.img", values, of="ENVI")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SPy's own NaN and future warnings
        image = spectral.io.envi.open(str(tmp_path / "a.hdr"))
        assert np.abs(np.array(image.bands.centers) - NM).max() < 1e-4
        assert np.abs(np.array(image.bands.bandwidths) - 9.87654).max() < 1e-4
        assert image.bands.band_unit == "Nanometers"
        assert [int(flag) for flag in image.metadata["bbl"]] == [1, 1, 1, 1, 0]
        loaded = np.asarray(image.load()).transpose(2, 0, 1)
        image.fid.close()
    valid = np.isfinite(values)
    assert np.abs(loaded[valid] - values[valid]).max() < 1e-6
    header = (tmp_path / "a.hdr").read_text()
    assert ".part" not in header
    assert str(tmp_path) not in header


def test_no_valid_value_equals_nodata_and_clipping_is_counted() -> None:
    values = np.array([-4.0, -3.2768, -3.2767, 0.0, 3.2767, 4.0, np.nan], np.float32)
    stored, clipped, valid = Encoding("int16", 1e-4, -32768).apply(values)
    assert stored.tolist() == [-32767, -32767, -32767, 0, 32767, 32767, -32768]
    assert (clipped, valid) == (3, 6)
    stored, _, _ = Encoding("int16", 1e-4, 0).apply(values)
    assert (stored[:-1] != 0).all()
    assert stored[-1] == 0
    floats, _, _ = Encoding("float32", 1.0, 0.0).apply(values)
    assert (floats[:-1] != 0).all()


def test_the_scale_follows_the_data_where_reflectance_does_not_fit() -> None:
    assert choose_scale("int16", "reflectance", np.array([0.1, 0.9])) == 1e-4
    assert choose_scale("int16", "reflectance", np.full(1000, 5.0)) > 2e-4
    radiance = choose_scale("int16", "radiance", np.array([3.0, 412.0]))
    assert 412.0 / radiance <= 32766
    assert choose_scale("float32", "radiance", np.array([3.0])) == 1.0


def test_tile_size_and_threads_change_nothing_but_time(tmp_path: Path) -> None:
    import dask.array as da

    lazy = da.random.default_rng(3).random((5, 300, 530), chunks=(5, 97, 101)).astype(np.float32)
    grid = GeoBox((300, 530), GRID.affine, GRID.crs)
    cube = make_cube(lazy.persist(), grid=grid, bands=BANDS)
    results = []
    for tile, threads in ((16, 1), (256, 2), (1000, 3)):
        settings = WritingSettings(overwrite=True)
        write_cube(
            cube, tmp_path / "a.tif", settings, encoding=Encoding.of(settings, 1e-4), threads=threads, tile_size=tile
        )
        with rasterio.open(tmp_path / "a.tif") as source:
            tags = [source.tags(), source.tags(1), source.tags(1, ns="IMAGERY"), source.block_shapes[0]]
            results.append((source.read(), json.dumps(tags, sort_keys=True)))
    assert all(np.array_equal(results[0][0], r[0]) and results[0][1] == r[1] for r in results)


def test_an_existing_output_is_kept_unless_asked(tmp_path: Path, values: np.ndarray) -> None:
    target = tmp_path / "a.tif"
    target.write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        written(target, values)
    assert target.read_bytes() == b"precious"
    written(target, values, overwrite=True)
    assert target.stat().st_size > 100


def test_a_failure_while_computing_leaves_nothing_behind(tmp_path: Path, values: np.ndarray) -> None:
    import dask.array as da

    def broken(block: np.ndarray) -> np.ndarray:
        raise ValueError("planted")

    lazy = da.from_array(values, chunks=(5, 35, 45)).map_blocks(broken, dtype=np.float32, meta=values[:0])
    settings = WritingSettings()
    with pytest.raises(ValueError, match="planted"):
        write_cube(
            make_cube(lazy, grid=GRID, bands=BANDS), tmp_path / "a.tif", settings, encoding=Encoding.of(settings, 1e-4)
        )
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_a_resource_error(tmp_path: Path, values: np.ndarray) -> None:
    with pytest.raises(ResourceError, match="does not exist"):
        written(tmp_path / "nowhere" / "a.tif", values)


def test_the_cog_is_valid(tmp_path: Path, values: np.ndarray) -> None:
    from rio_cogeo import cog_validate

    valid, errors, _ = cog_validate(str(written(tmp_path / "a.tif", values, of="COG")))
    assert valid, errors


def test_a_picture_is_chosen_from_good_bands_only() -> None:
    assert default_rgb(BANDS) == (3, 2, 1)
    assert default_rgb(BANDS.take([0, 4])) is None


# -- for viewers ------------------------------------------------------------------------------------------------------

LARGE = GeoBox((300, 4100), GRID.affine, GRID.crs)


@pytest.fixture(scope="module")
def large_values() -> np.ndarray:
    made = np.random.default_rng(2).integers(-400, 9000, (4, *LARGE.shape)) * 1e-4
    made[:, 50:120, 33:91] = np.nan
    return made.astype(np.float32)


def written_large(path: Path, values: np.ndarray, tile_size: int = 256, **options: object) -> Path:
    settings = WritingSettings(overwrite=True, **options)  # type: ignore[arg-type]
    cube = make_cube(values, grid=LARGE, bands=BANDS.take(range(4)))
    write_cube(cube, path, settings, encoding=Encoding.of(settings, 1e-4), tile_size=tile_size)
    return path


@pytest.mark.parametrize("of", ["GTiff", "ENVI"])
def test_overviews_are_means_of_valid_pixels_beside_a_large_product(
    tmp_path: Path, large_values: np.ndarray, of: str
) -> None:
    path = written_large(tmp_path / FORMATS[of], large_values, of=of)
    with rasterio.open(path) as source:
        assert source.overviews(1) == [4, 8, 16]
        found = source.read(out_shape=(75, 1025), masked=True) * 1e-4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # means of nothing
        wanted = np.nanmean(large_values.reshape(4, 75, 4, 1025, 4), axis=(2, 4))
    assert np.array_equal(found.mask, np.isnan(wanted))
    assert np.abs(found.data - wanted)[~found.mask].max() < 1e-4
    overviews = path.with_name(path.name + ".ovr")
    before = overviews.read_bytes()
    written_large(path, large_values, of=of, tile_size=64)
    assert overviews.read_bytes() == before
    written_large(path, large_values, of=of, overviews="none")
    assert not overviews.exists()


def test_a_small_product_needs_no_overviews(tmp_path: Path, values: np.ndarray) -> None:
    written(tmp_path / "a.tif", values)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.qml", "a.tif"]


@pytest.mark.parametrize(("overviews", "factors"), [("auto", [2, 4, 8]), ("none", [])])
def test_a_large_cog_is_valid_and_carries_its_overviews_and_statistics(
    tmp_path: Path, large_values: np.ndarray, overviews: str, factors: list[int]
) -> None:
    from rio_cogeo import cog_validate

    path = written_large(tmp_path / "a.tif", large_values, of="COG", overviews=overviews)
    valid, errors, remarks = cog_validate(str(path), strict=overviews == "auto")
    assert valid, (errors, remarks)
    with rasterio.open(path) as source:
        assert source.overviews(1) == factors
        assert source.tags(1)["STATISTICS_APPROXIMATE"] == "YES"
    assert not path.with_name("a.tif.ovr").exists()


def test_statistics_are_those_of_the_valid_pixels_and_cost_no_file(tmp_path: Path, values: np.ndarray) -> None:
    path = written(tmp_path / "a.tif", values)
    with rasterio.open(path) as source:
        tags, stored = source.tags(2), source.read(2, masked=True)
        assert "STATISTICS_MEAN" not in source.tags(5)  # all nodata
        assert source.tags(2, ns="IMAGERY")
        assert source.scales == (1e-4,) * 5
    assert stored.min() <= float(tags["STATISTICS_MINIMUM"]) < float(tags["STATISTICS_MAXIMUM"]) <= stored.max()
    assert float(tags["STATISTICS_MEAN"]) == pytest.approx(stored.mean(), abs=4 * stored.std() / np.sqrt(350))
    assert float(tags["STATISTICS_VALID_PERCENT"]) == pytest.approx(99, abs=1)


def test_the_style_names_red_green_and_blue_and_leaves_a_users_own_alone(tmp_path: Path, values: np.ndarray) -> None:
    path = written(tmp_path / "a.tif", values)
    style = ElementTree.parse(tmp_path / "a.qml").find("pipe/rasterrenderer")
    assert style is not None
    assert [style.get(f"{colour}Band") for colour in ("red", "green", "blue")] == ["4", "3", "2"]
    for colour in ("red", "green", "blue"):  # one stretch, so that grey stays grey
        low, high = (float(style.findtext(f"{colour}ContrastEnhancement/{end}Value", "nan")) for end in ("min", "max"))
        assert (low, high) == pytest.approx(np.nanpercentile(values[1:4], (2, 98)), abs=0.05)
    (tmp_path / "a.qml").write_text("<qgis>mine</qgis>")
    written(path, values, overwrite=True)
    assert (tmp_path / "a.qml").read_text() == "<qgis>mine</qgis>"


def test_enmap_box_finds_centres_widths_and_bad_bands_under_its_keys(tmp_path: Path, values: np.ndarray) -> None:
    """EnMAP-Box asks a band's IMAGERY domain, then its default domain; a header's lists for ENVI files."""
    with rasterio.open(written(tmp_path / "a.tif", values)) as source:
        for band in source.indexes:
            assert float(source.tags(band, ns="IMAGERY")["FWHM_UM"]) * 1000 == pytest.approx(9.87654, abs=1e-4)
            assert source.tags(band)["wavelength_units"] == "Nanometers"
            assert float(source.tags(band)["fwhm"]) == pytest.approx(9.87654, abs=1e-4)
        assert source.descriptions[2] == "band 3 (560.1 Nanometers)"
    with rasterio.open(written(tmp_path / "a.img", values, of="ENVI")) as source:
        header = source.tags(ns="ENVI")
    assert header["wavelength_units"] == "Nanometers"
    assert header["default_bands"].strip("{}").replace(" ", "") == "4,3,2"
    assert len(header["bbl"].split(",")) == len(header["fwhm"].split(",")) == 5
