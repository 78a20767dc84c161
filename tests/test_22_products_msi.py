"""Multispectral products as delivered, and the quality layers of all products."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import product_files as made
import pytest
import rasterio

from geolift.datamodel.cube import bands_of, grid_of
from geolift.errors import InputError
from geolift.pipeline import describe
from geolift.readers import invalid, mask_from_file, open_cube, open_cubes, read_mask
from geolift.settings import Reading
from geolift.srf import SpectralResponse
from geolift.srf.sensors import resolve_sensor

MULTISPECTRAL: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "Sentinel-2": (made.sentinel2, "sentinel2", "sentinel-2b"),
    "Landsat": (made.landsat, "landsat", "landsat-9-oli2"),
    "PlanetScope": (made.planetscope, "planetscope", "planetscope-psbsd"),
}


@pytest.mark.parametrize("family", MULTISPECTRAL)
def test_the_spacecraft_and_every_band_are_told(tmp_path: Path, family: str) -> None:
    make, asked, sensor = MULTISPECTRAL[family]
    cube = open_cube(make(tmp_path))
    assert resolve_sensor(asked, band_count=cube.sizes["band"], evidence=cube.attrs["evidence"]).sensor_id == sensor
    matched = SpectralResponse.from_library(sensor).match_names(bands_of(cube).names)
    assert matched is not None and len(matched) == cube.sizes["band"]
    assert cube.attrs["acquired"] and cube.attrs["product"] and cube.attrs["sensor"]
    assert cube.attrs["quantity"] == "reflectance"
    json.dumps(describe.describe(cube).model_dump())


# -- Sentinel-2 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offsets", [True, False])
def test_sentinel_2_takes_the_offset_its_metadata_lists_and_zero_is_nodata_before_it(
    tmp_path: Path, offsets: bool
) -> None:
    folder = made.sentinel2(tmp_path, "05.09" if offsets else "02.14", offsets)
    for path in (folder, folder / "MTD_MSIL2A.xml"):
        cube = open_cube(path)
        assert bands_of(cube).names == made.S2_TEN
        assert np.isnan(cube.values[:, 0, :2]).all() and np.isfinite(cube.values[:, 0, 2:]).all()
        for i in range(4):
            assert cube.values[i, 3, 4] == pytest.approx(0.01 + i / 100 + 0.034, abs=1e-6)
        assert cube.attrs["offset"] == (-0.1 if offsets else 0.0)
        assert bands_of(cube).wavelength_nm.tolist() == [500, 600, 700, 1100]
        assert not cube.attrs["warnings"]


def test_sentinel_2_since_baseline_4_without_a_list_gets_the_offset_with_a_warning(tmp_path: Path) -> None:
    cube = open_cube(made.sentinel2(tmp_path, "04.00", offsets=False))
    assert cube.attrs["offset"] == -0.1
    assert "-1000 is assumed" in cube.attrs["warnings"][0]


@pytest.mark.parametrize("tile", [None, 3])
def test_sentinel_2_bands_of_20_m_are_repeated_pixel_by_pixel_when_asked_for(tmp_path: Path, tile: int | None) -> None:
    folder = made.sentinel2(tmp_path)
    ten = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
    cube = open_cube(folder, tile=tile, bands=ten)
    assert bands_of(cube).names == ten
    assert cube.shape == (10, made.S2_ROWS, made.S2_COLS)
    assert grid_of(cube).affine[:6] == (10, 0, made.LEFT, 0, -10, made.TOP)
    with rasterio.open(next(folder.rglob("*B8A_20m.jp2"))) as file:
        coarse = file.read(1).astype(float)
    coarse[(coarse == 0) | (coarse == 65535)] = np.nan
    expected = (np.kron(coarse, np.ones((2, 2))) - 1000) / 10000
    assert np.allclose(cube.values[7], expected, atol=1e-6, equal_nan=True)
    assert open_cube(folder, bands=["b8a", "B11"]).shape == (2, made.S2_ROWS // 2, made.S2_COLS // 2)
    with pytest.raises(InputError, match="no band B10; it has B02"):
        open_cube(folder, bands=["B02", "B10"])


@pytest.mark.parametrize("baseline, offset", [("N0509", -0.1), ("N0214", 0.0)])
def test_the_real_safe_trees_are_understood(tmp_path: Path, shared_data: Path, baseline: str, offset: float) -> None:
    source = next(p for p in (shared_data / "products/sentinel2").iterdir() if baseline in p.name)
    folder = tmp_path / source.name
    shutil.copytree(source, folder)
    expected = json.loads((source / "expected_output.json").read_text())
    blue = next(a for a in expected["assets"].values() if a.get("href", "").endswith("_B02_10m.jp2"))
    left, top = blue["proj:transform"][2], blue["proj:transform"][5]
    crs = f"EPSG:{expected['properties'].get('proj:epsg') or expected['properties']['proj:code'][5:]}"
    for asset in expected["assets"].values():
        name = Path(asset.get("href", "")).name
        if name.endswith("_10m.jp2") and "_B" in name:
            file = folder / asset["href"]
            made.raster(file, made.s2_numbers(10000 * offset), 10, driver="JP2OpenJPEG", crs=crs, corner=(left, top))
    cube = open_cube(folder)
    assert cube.attrs["offset"] == offset
    assert grid_of(cube).affine[:6] == (10, 0, left, 0, -10, top)
    assert cube.values[0, 3, 4] == pytest.approx(0.044, abs=1e-6)
    assert cube.attrs["sensor"] == ("Sentinel-2A" if offset else "Sentinel-2B")
    when = cube.attrs["acquired"]
    assert when == ("2023-08-21T22:19:41Z" if offset else "2021-01-22T13:32:29Z")
    assert bands_of(cube).wavelength_nm[0] == pytest.approx(492.4, abs=0.5)


def test_sentinel_2_incomplete_or_of_level_1_is_refused_with_the_reason(tmp_path: Path) -> None:
    folder = made.sentinel2(tmp_path / "a")
    next(folder.rglob("*B03_10m.jp2")).unlink()
    with pytest.raises(InputError, match=r"B03_10m\.jp2 is named in its metadata, but missing"):
        open_cube(folder)
    (tmp_path / "MTD_MSIL1C.xml").write_text('<n1:Level-1C_User_Product xmlns:n1="x"/>')
    with pytest.raises(InputError, match="top-of-atmosphere"):
        open_cube(tmp_path)


# -- Landsat ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crs", [made.UTM33, None])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_landsat_takes_level_2_scales_and_where_files_carry_no_place_the_mtls(tmp_path: Path, crs: str | None) -> None:
    folder = made.landsat(tmp_path, crs=crs)
    for path in (folder, next(folder.glob("*MTL.txt"))):
        cube = open_cube(path)
        assert bands_of(cube).names == ("B1", "B2", "B3", "B4", "B5", "B6", "B7")
        values = made.truth(7)
        assert np.nanmax(np.abs(cube.values - values)) < 1.4e-5
        assert np.array_equal(np.isnan(cube.values), np.isnan(values))
        assert grid_of(cube).affine[:6] == (30, 0, made.LEFT, 0, -30, made.TOP)
        assert grid_of(cube).crs is not None and grid_of(cube).crs.to_epsg() == 32633
        assert cube.attrs["acquired"] == "2022-07-24T10:05:01Z"


def test_landsat_bands_are_chosen_by_name_and_missing_files_are_told(tmp_path: Path) -> None:
    folder = made.landsat(tmp_path, bands=(2, 3, 4))
    cube = open_cube(folder)
    assert bands_of(cube).names == ("B2", "B3", "B4")
    assert "B1, B5, B6, B7 are named in the MTL, but not there" in cube.attrs["warnings"][0]
    assert bands_of(open_cube(folder, bands=["B4", "SR_B2"])).names == ("B4", "B2")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_real_landsat_folder_is_placed_and_scaled(shared_data: Path) -> None:
    folder = next((shared_data / "landsat_c2").glob("*L2SP*"))
    cube = open_cube(folder)
    assert cube.shape == (7, 267, 433)
    assert grid_of(cube).affine[:6] == (30, 0, 487005, 0, -30, 5929995)
    assert grid_of(cube).crs is not None and grid_of(cube).crs.to_epsg() == 32630
    with rasterio.open(next(folder.glob("*SR_B4.TIF"))) as file:
        numbers = file.read(1).astype(np.float64)
    expected = np.where(numbers == 0, np.nan, numbers * 2.75e-5 - 0.2)
    assert np.allclose(cube.values[3], expected, atol=1e-6, equal_nan=True)
    assert cube.attrs["sensor"] == "Landsat 8 OLI TIRS"


def test_the_real_level_1_folder_is_top_of_atmosphere_and_says_so(shared_data: Path) -> None:
    cube = open_cube(next((shared_data / "landsat_c2").glob("*L1TP*")))
    assert bands_of(cube).names == ("B8",)
    assert grid_of(cube).affine.a == 15
    assert any("top-of-atmosphere" in text for text in cube.attrs["warnings"])


# -- PlanetScope ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names, kind", [(made.PLANET_4, "AnalyticMS_SR"), (made.PLANET_8, "AnalyticMS_SR_8b")])
def test_planetscope_is_told_by_its_descriptions(tmp_path: Path, names: tuple[str, ...], kind: str) -> None:
    cube = open_cube(made.planetscope(tmp_path, names, kind))
    assert cube.attrs["product"] == f"PlanetScope {len(names)}-band surface reflectance"
    assert bands_of(cube).names == names
    assert np.allclose(cube.values, made.truth(len(names)), atol=0.51e-4, equal_nan=True)
    assert cube.attrs["acquired"] == "2022-07-24T10:10:31Z"
    assert not cube.attrs["warnings"]


def test_planetscope_that_is_no_surface_reflectance_takes_the_coefficients_of_its_xml(tmp_path: Path) -> None:
    image = made.planetscope(tmp_path, made.PLANET_4, "AnalyticMS")
    assert "neither name nor tags" in open_cube(image).attrs["warnings"][0]
    entry = "<ps:b><ps:reflectanceCoefficient>{}</ps:reflectanceCoefficient></ps:b>"
    bands = "".join(entry.format(c) for c in (2e-5, 3e-5, 4e-5, 5e-5))
    image.with_name(f"{made.PLANET_ID}_3B_AnalyticMS_metadata.xml").write_text(f'<ps:x xmlns:ps="p">{bands}</ps:x>')
    cube = open_cube(image)
    assert cube.attrs["scale"] == [2e-5, 3e-5, 4e-5, 5e-5]
    assert "top-of-atmosphere" in cube.attrs["warnings"][0]


def test_a_file_that_merely_calls_its_bands_blue_green_red_nir_is_no_planetscope(tmp_path: Path) -> None:
    numbers = made.stored(made.truth(4), 1e-4, 0, 0, "uint16")
    assert open_cube(made.raster(tmp_path / "fields.tif", numbers, names=made.PLANET_4)).attrs["product"] is None


# -- sets of band files -----------------------------------------------------------------------------------------------


def band_files(folder: Path, stem: str = made.S2_TILE) -> list[Path]:
    """Three bands at 10 m and one at 20 m, on one place, and a classification."""
    files = [
        made.raster(folder / f"{stem}_{band}_10m.tif", made.s2_numbers(0, seed=i), 10)
        for i, band in enumerate(("B02", "B03", "B08"))
    ]
    coarse = made.s2_numbers(0, made.S2_ROWS // 2, made.S2_COLS // 2, 9)
    made.raster(folder / f"{stem}_SCL_20m.tif", np.full((made.S2_ROWS, made.S2_COLS), 4, np.uint8), 10)
    return [*files, made.raster(folder / f"{stem}_B8A_20m.tif", coarse, 20)]


def test_a_folder_of_band_files_is_one_cube_in_spectral_order(tmp_path: Path) -> None:
    band_files(tmp_path)
    cube = open_cube(tmp_path)
    assert bands_of(cube).names == ("B02", "B03", "B08", "B8A")
    assert cube.values[1, 3, 4] == pytest.approx(0.054, abs=1e-6)
    assert cube.values[3, 2, 4] == cube.values[3, 3, 5] == pytest.approx(0.107, abs=1e-6)
    warnings = " ".join(cube.attrs["warnings"])
    assert "× 10 000" in warnings and "offset of −1000" in warnings and "0 is taken for no data" in warnings
    assert bands_of(open_cube(tmp_path, bands=["B8A", "B2"])).names == ("B8A", "B02")


@pytest.mark.parametrize(
    "properties, band, offset",
    [
        ({"earthsearch:boa_offset_applied": True}, {"scale": 1e-4, "offset": -0.1}, 0.0),
        ({"earthsearch:boa_offset_applied": False}, {"scale": 1e-4, "offset": -0.1}, -0.1),
        ({"s2:processing_baseline": "04.00"}, {}, -0.1),
        ({"s2:processing_baseline": "03.01"}, {}, 0.0),
    ],
)
def test_a_stac_item_beside_the_files_tells_their_offset(
    tmp_path: Path, properties: dict[str, object], band: dict[str, float], offset: float
) -> None:
    files = band_files(tmp_path, "scene")
    for file in files:
        with rasterio.open(file, "r+") as band_file:
            counts = band_file.read().astype(int)
            band_file.write(np.where(counts == 0, 0, counts - round(offset * 10_000)).astype(np.uint16))
    properties |= {"platform": "sentinel-2b", "datetime": "2022-07-24T10:10:31.000Z"}
    bands = {"raster:bands": [{"nodata": 0, **band}]}
    assets = {f.stem: {"href": f"https://somewhere/{f.name}", **bands} for f in files}
    (tmp_path / "item.json").write_text(json.dumps({"type": "Feature", "properties": properties, "assets": assets}))
    cube = open_cube(tmp_path)
    assert cube.values[1, 3, 4] == pytest.approx(0.054, abs=1e-6)
    assert cube.attrs["offset"] == offset
    assert np.isnan(cube.values[:3, 0, 0]).all()
    assert cube.attrs["acquired"] == "2022-07-24T10:10:31Z"
    assert resolve_sensor("sentinel2", evidence=cube.attrs["evidence"]).sensor_id == "sentinel-2b"
    assert "STAC item" in cube.attrs["warnings"][0]


def test_several_files_are_one_cube_in_the_order_given(tmp_path: Path) -> None:
    files = band_files(tmp_path)
    cube = open_cubes([files[2], files[0]], Reading(scale=1e-4, offset=-0.1, nodata=0), tile=4)
    assert bands_of(cube).names == ("B08", "B02")
    assert cube.values[0, 3, 4] == pytest.approx(0.064 - 0.1, abs=1e-6)
    assert np.array_equal(open_cubes([files[0]]).values, open_cube(files[0]).values)
    words = [made.raster(tmp_path / f"x_{word}.tif", made.s2_numbers(0), 10) for word in ("red", "nir")]
    assert bands_of(open_cubes(words)).names == ("red", "nir")


def test_files_of_other_places_several_bands_or_none_are_refused_by_name(tmp_path: Path) -> None:
    first = band_files(tmp_path)[0]
    other = made.raster(tmp_path / "B11.tif", made.s2_numbers(0), 10, corner=(made.LEFT + 3, made.TOP))
    with pytest.raises(InputError, match=r"B11\.tif: its grid .* is not nested"):
        open_cubes([first, other])
    several = made.raster(tmp_path / "all.tif", np.ones((3, 4, 4), np.uint16))
    with pytest.raises(InputError, match=r"all\.tif: 3 bands"):
        open_cubes([first, several])
    with pytest.raises(InputError, match="no such file"):
        open_cubes([first, tmp_path / "missing.tif"])


def test_single_landsat_files_are_scaled_as_their_names_say(tmp_path: Path) -> None:
    folder = made.landsat(tmp_path)
    cube = open_cubes(sorted(folder.glob("*_SR_B[45].TIF")))
    assert bands_of(cube).names == ("B4", "B5")
    assert np.nanmax(np.abs(cube.values - made.truth(7)[3:5])) < 1.4e-5
    assert "Collection 2" in cube.attrs["warnings"][0]


# -- quality layers ---------------------------------------------------------------------------------------------------


def test_scene_classes_that_hide_the_ground_are_not_to_be_used(tmp_path: Path) -> None:
    cube = open_cube(made.sentinel2(tmp_path))
    mask = invalid(cube)
    assert mask is not None and mask.dims == ("y", "x") and mask.dtype == bool
    expected = np.zeros((4, 5), bool)
    expected[0, [0, 1, 3]] = expected[1, [2, 3, 4]] = True
    assert np.array_equal(mask.values, expected)
    assert grid_of(mask).affine[:6] == (20, 0, made.LEFT, 0, -20, made.TOP)
    assert mask.chunks is not None


def test_landsats_quality_bits_zero_to_four_are_not_to_be_used(tmp_path: Path) -> None:
    mask = invalid(open_cube(made.landsat(tmp_path)))
    assert mask is not None
    assert np.argwhere(mask.values).tolist() == [[1, c] for c in range(5)]


def test_planetscopes_unclear_pixels_are_not_to_be_used(tmp_path: Path) -> None:
    mask = invalid(open_cube(made.planetscope(tmp_path)))
    assert mask is not None
    assert np.argwhere(mask.values).tolist() == [[1, 1]]


def test_enmaps_layers_are_joined_and_tanagers_too(tmp_path: Path) -> None:
    mask = invalid(open_cube(made.enmap(tmp_path / "e")))
    assert mask is not None
    assert np.argwhere(mask.values).tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]
    mask = invalid(open_cube(made.tanager(tmp_path / "t.h5")))
    assert mask is not None
    assert np.argwhere(mask.values).tolist() == [[1, 1], [2, 2], [made.ROWS - 1, made.COLS - 1]]


def test_a_users_mask_counts_every_number_but_zero(tmp_path: Path) -> None:
    flags = np.zeros((5, 6), np.uint8)
    flags[1, 2], flags[3, 3] = 1, 255
    file = made.raster(tmp_path / "mask.tif", flags, nodata=255)
    assert np.argwhere(mask_from_file(file).values).tolist() == [[1, 2], [3, 3]]
    cube = open_cube(file)
    assert read_mask(cube, "none") is None and read_mask(cube, "auto") is None
    found = read_mask(cube, str(file))
    assert found is not None and int(found.sum()) == 2
    with pytest.raises(InputError, match="no such file"):
        mask_from_file(tmp_path / "missing.tif")
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(InputError, match="not a raster"):
        mask_from_file(tmp_path / "text.tif")


@pytest.mark.parametrize("family", MULTISPECTRAL)
def test_a_cube_can_be_sent_to_another_process(tmp_path: Path, family: str) -> None:
    import cloudpickle

    cube = open_cube(MULTISPECTRAL[family][0](tmp_path))
    again = pickle.loads(cloudpickle.dumps(cube))
    assert np.array_equal(again.values, cube.values, equal_nan=True)
    mask, same = invalid(cube), invalid(again)
    assert mask is not None and same is not None and np.array_equal(mask.values, same.values)
