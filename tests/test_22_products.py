"""Hyperspectral products as delivered: planted values arrive as values, at their place, with their wavelengths."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import product_files as made
import pytest
import xarray as xr
from rasterio.crs import CRS

from geolift.datamodel.cube import bands_of, grid_of
from geolift.errors import InputError
from geolift.pipeline import describe
from geolift.readers import invalid, open_cube
from geolift.readers.hyperion import band_table
from geolift.settings import Reading

HYPERSPECTRAL: dict[str, Callable[[Path], Path]] = {
    "EnMAP L2A": lambda folder: made.enmap(folder / "enmap"),
    "DESIS L2A": lambda folder: made.desis(folder / "desis"),
    "PRISMA L2D": lambda folder: made.prisma(folder / "a.he5"),
    "Tanager ortho surface reflectance": lambda folder: made.tanager(folder / "b.h5"),
    "AVIRIS ortho reflectance": lambda folder: made.aviris(folder / "c.nc"),
    "NEON imaging spectrometer reflectance": lambda folder: made.neon(folder / "d.h5"),
    "EO-1 Hyperion L1T": lambda folder: made.hyperion(folder / "hyperion"),
}
PIXEL = {"AVIRIS ortho reflectance": 4.2, "NEON imaging spectrometer reflectance": 1.0}


def brightest(cube: xr.DataArray) -> tuple[float, float]:
    """World coordinates of the pixel with the largest mean over bands."""
    mean = np.nan_to_num(cube.values).mean(axis=0)
    row, col = np.unravel_index(int(mean.argmax()), mean.shape)
    return float(cube.x[col]), float(cube.y[row])


def assert_values(cube: xr.DataArray, values: np.ndarray, tolerance: float) -> None:
    """Compare values, and where there are none."""
    found = cube.values
    assert found.dtype == np.float32
    assert np.array_equal(np.isfinite(found), np.isfinite(values))
    assert np.nanmax(np.abs(found - values)) <= tolerance


@pytest.mark.parametrize("name", HYPERSPECTRAL)
def test_every_product_is_told_by_its_content_and_lies_where_it_lies(tmp_path: Path, name: str) -> None:
    cube = open_cube(HYPERSPECTRAL[name](tmp_path))
    assert cube.attrs["product"] == name
    assert cube.attrs["sensor"]
    assert brightest(cube) == pytest.approx(made.planted_at(PIXEL.get(name, 30.0)), abs=1e-6)
    grid = grid_of(cube)
    assert grid.crs is not None and grid.crs.to_epsg() == 32633
    document = describe.describe(cube).model_dump()
    assert document["product"] == name
    assert len(document["wavelengths_nm"]) == cube.sizes["band"]
    json.dumps(document)


@pytest.mark.parametrize("name", HYPERSPECTRAL)
def test_a_product_read_in_small_chunks_is_the_product_read_whole(tmp_path: Path, name: str) -> None:
    path = HYPERSPECTRAL[name](tmp_path)
    whole, parts = open_cube(path), open_cube(path, tile=3)
    assert parts.data.numblocks[1:] == (3, 3)
    assert np.array_equal(whole.values, parts.values, equal_nan=True)


@pytest.mark.parametrize("driver, suffix", [("GTiff", ".TIF"), ("JP2OpenJPEG", ".JP2"), ("ENVI", ".BSQ")])
def test_enmap_reads_alike_in_every_format(tmp_path: Path, driver: str, suffix: str) -> None:
    folder = made.enmap(tmp_path, driver, suffix)
    values = made.truth(6)
    values[4] = np.nan
    for path in (folder, next(folder.glob("*METADATA.XML")), next(folder.glob(f"*SPECTRAL_IMAGE{suffix}"))):
        cube = open_cube(path)
        assert_values(cube, values, 0.51e-4)
        bands = bands_of(cube)
        assert bands.wavelength_nm == pytest.approx(made.ENMAP_NM)
        assert bands.fwhm_nm == pytest.approx(made.ENMAP_FWHM)
        assert bands.good.tolist() == [True, True, True, True, False, True]
        assert cube.attrs["nodata"] == -32768
        assert cube.attrs["acquired"] == "2022-07-24T10:45:26Z"
        assert cube.attrs["quantity"] == "reflectance"


def test_a_quality_layer_beside_enmaps_image_is_opened_as_itself(tmp_path: Path) -> None:
    folder = made.enmap(tmp_path)
    assert open_cube(next(folder.glob("*QL_QUALITY_CLOUD.TIF"))).attrs["product"] is None


def test_enmap_without_its_image_or_with_other_bands_is_refused(tmp_path: Path) -> None:
    folder = made.enmap(tmp_path)
    image = next(folder.glob("*SPECTRAL_IMAGE.TIF"))
    made.raster(image, np.ones((4, 5, 5), np.int16))
    with pytest.raises(InputError, match=r"4 bands, but .* describes 6"):
        open_cube(folder)
    image.unlink()
    with pytest.raises(InputError, match="does not lie beside it"):
        open_cube(folder)


def test_desis_gains_are_applied_per_band(tmp_path: Path) -> None:
    cube = open_cube(made.desis(tmp_path))
    assert_values(cube, made.truth(3), 1.01e-4)
    assert cube.attrs["scale"] == [1e-4, 2e-4, 1e-4]
    assert bands_of(cube).wavelength_nm.tolist() == [401.9, 700.2, 999.5]
    assert bands_of(cube).fwhm_nm.tolist() == [3.5] * 3


@pytest.mark.parametrize("corners", ["centres", "edges"])
def test_prisma_joins_both_detectors_in_ascending_wavelength(tmp_path: Path, corners: str) -> None:
    cube = open_cube(made.prisma(tmp_path / "a.he5", corners))
    assert_values(cube, made.truth(6), 1.5e-5)
    bands = bands_of(cube)
    assert bands.wavelength_nm == pytest.approx(made.PRISMA_NM, abs=1e-4)
    assert bands.names == ("VNIR 4", "VNIR 3", "SWIR 3", "VNIR 2", "SWIR 2", "SWIR 1")
    assert brightest(cube) == made.planted_at(30)
    assert cube.attrs["acquired"] == "2024-04-02T10:28:37Z"


def test_prismas_error_matrix_takes_out_values_and_useless_bands(tmp_path: Path) -> None:
    errors = {(1, 3, 1): 1, (1, 3, 2): 2, (1, 3, 3): 3} | {(r, 2, c): 1 for r in range(6) for c in range(made.COLS)}
    cube = open_cube(made.prisma(tmp_path / "a.he5", errors=errors))
    assert np.flatnonzero(np.isnan(cube.values[0, 1])).tolist() == [1, 3]
    assert bands_of(cube).good.tolist() == [True, False, True, True, True, True]
    assert "bands 2 are flagged" in cube.attrs["warnings"][0]


def test_prisma_levels_without_a_map_grid_and_corners_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "l1.he5", "w") as file:
        file.create_group("HDFEOS/SWATHS/PRS_L1_HCO")
    with pytest.raises(InputError, match="L1 is not geocoded; needed is the L2D"):
        open_cube(tmp_path / "l1.he5")
    path = made.prisma(tmp_path / "a.he5")
    with h5py.File(path, "r+") as file:
        file.attrs["Product_LRcorner_easting"] = made.LEFT + 3000
    with pytest.raises(InputError, match="do not belong together"):
        open_cube(path)
    with h5py.File(path, "r+") as file:
        del file.attrs["L2ScaleVnirMax"]
    with pytest.raises(InputError, match="looks like PRISMA L2D, but lacks"):
        open_cube(path)


def test_prismas_real_slots_come_out_as_the_bands_that_another_reader_lists(tmp_path: Path, shared_data: Path) -> None:
    listed = json.loads((shared_data / "products/prisma" / f"{PRISMA_SCENE}.json").read_text())["expectedContent"]
    expected = []
    path = made.prisma(tmp_path / "a.he5")
    with h5py.File(path, "r+") as file:
        for name, depth in (("Vnir", 66), ("Swir", 173)):
            found = [b for b in listed["bands"] if b["name"].startswith(f"HCO_{name}_Rrs_")]
            centres, widths = np.zeros(depth), np.zeros(depth)
            for band in found:
                slot = int(band["name"].rsplit("_", 1)[1]) - 1
                centres[slot], widths[slot] = float(band["spectralWavelength"]), float(band["spectralBandwidth"])
            expected += [(c, w) for c, w in zip(centres, widths, strict=True) if c]
            file.attrs[f"List_Cw_{name}"], file.attrs[f"List_Fwhm_{name}"] = centres, widths
            file.attrs[f"List_Cw_{name}_Flags"] = (centres > 0).astype(int)
            fields = file["HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields"]
            for dataset in (f"{name.upper()}_Cube", f"{name.upper()}_PIXEL_L2_ERR_MATRIX"):
                del fields[dataset]
            fields[f"{name.upper()}_Cube"] = np.full((made.ROWS, depth, made.COLS), 6553, np.uint16)
    bands = bands_of(open_cube(path))
    assert len(bands) == 234
    assert np.column_stack([bands.wavelength_nm, bands.fwhm_nm]) == pytest.approx(np.array(sorted(expected)), abs=1e-9)


PRISMA_SCENE = "PRS_L2D_STD_20240402102837_20240402102842_0001_he5"


def sheared_emit(folder: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """Write an EMIT file whose swath runs askew to the map; return the table's samples and lines, 0 = none."""
    rows, cols = np.mgrid[:12, :10]
    samples, lines = cols - rows // 3 + 1, rows - cols // 4 + 1
    inside = (samples > 0) & (samples <= 6) & (lines > 0) & (lines <= 9)
    samples, lines = np.where(inside, samples, 0), np.where(inside, lines, 0)
    swath = np.arange(9 * 6 * 4).reshape(9, 6, 4) / 1000
    swath[4, 3] = -9999
    grid = [13.0, 0.0005, 0.0, 52.0, 0.0, -0.0005]
    path = made.emit(folder / "rfl.nc", samples, lines, swath, grid, CRS.from_epsg(4326).to_wkt())
    return path, samples, lines


@pytest.mark.parametrize("tile", [None, 4])
def test_emit_is_orthorectified_through_its_one_based_table(tmp_path: Path, tile: int | None) -> None:
    path, samples, lines = sheared_emit(tmp_path)
    cube = open_cube(path, tile=tile)
    with h5py.File(path) as file:
        swath = file["reflectance"][:]
    expected = np.full((4, 12, 10), np.nan)
    for row, col in np.argwhere(samples > 0):
        expected[:, row, col] = swath[lines[row, col] - 1, samples[row, col] - 1]
    expected[expected == -9999] = np.nan
    assert_values(cube, expected, 0)
    assert bands_of(cube).good.tolist() == [True, True, False, True]
    assert grid_of(cube).affine[:6] == (0.0005, 0, 13.0, 0, -0.0005, 52.0)
    assert grid_of(cube).crs is not None and grid_of(cube).crs.to_epsg() == 4326


def test_emit_with_a_table_of_another_scene_is_refused(tmp_path: Path) -> None:
    path, *_ = sheared_emit(tmp_path)
    with h5py.File(path, "r+") as file:
        file["location/glt_y"][5, 4] = 77
    with pytest.raises(InputError, match="line 77"):
        open_cube(path)


def test_emit_pixels_lie_where_the_real_geolocation_puts_them(tmp_path: Path, shared_data: Path) -> None:
    source = next((shared_data / "products/emit").glob("*.nc"))
    with h5py.File(source) as file:
        x, y = file["location/glt_x"][:], file["location/glt_y"][:]
        places = np.stack([file["location/lon"][:], file["location/lat"][:]], axis=-1)
        transform, crs = list(file.attrs["geotransform"]), file.attrs["spatial_ref"]
    path = made.emit(tmp_path / "EMIT_L2A_RFL.nc", x, y, places, transform, crs.decode())
    shutil.copy(source, tmp_path / "mask.nc")
    cube = open_cube(path)
    lon, lat = cube.values
    off = np.stack([lon - cube.x.values, lat - cube.y.values[:, None]]) / transform[1]
    assert np.isfinite(lon).sum() == (x > 0).sum()
    assert np.nanmax(np.abs(off)) < 1.2  # pixels; the table takes the nearest sample
    assert cube.attrs["acquired"] == "2022-08-27T06:07:53Z"
    mask = invalid(cube)
    assert mask is not None and mask.shape == cube.shape[1:]
    assert "dilated cloud" in mask.attrs["meaning"] and "water" not in mask.attrs["meaning"]
    assert np.array_equal(mask.values, x == 0)  # no cloud on that scene; outside of the swath nothing is usable


def test_tanager_takes_floats_as_they_are_and_integers_by_ten_thousand(tmp_path: Path) -> None:
    cube = open_cube(made.tanager(tmp_path / "20250926_092059_95_4001_ortho_sr.h5"))
    assert_values(cube, made.truth(3), 1e-7)
    assert not cube.attrs["warnings"]
    assert cube.attrs["acquired"] == "2025-09-26T09:20:59Z"
    assert bands_of(cube).good.tolist() == [True, False, True]
    assert bands_of(cube).fwhm_nm.tolist() == [5.5, 5.6, 6.0]
    integers = open_cube(made.tanager(tmp_path / "i.h5", dtype="int16"))
    assert_values(integers, made.truth(3), 0.51e-4)
    assert "× 10 000" in integers.attrs["warnings"][0]


def test_tanager_south_of_the_equator_and_the_basic_product(tmp_path: Path) -> None:
    crs = grid_of(open_cube(made.tanager(tmp_path / "a.h5", zone=-33))).crs
    assert crs is not None and crs.to_epsg() == 32733
    with h5py.File(tmp_path / "basic.h5", "w") as file:
        file.create_group("HDFEOS/SWATHS/HYP")
    with pytest.raises(InputError, match="needed is the ortho product"):
        open_cube(tmp_path / "basic.h5")


def test_aviris_netcdf_is_placed_by_its_pixel_centres(tmp_path: Path) -> None:
    cube = open_cube(made.aviris(tmp_path / "a.nc"))
    assert_values(cube, made.truth(4), 1e-7)
    assert grid_of(cube).affine[:6] == pytest.approx((4.2, 0, made.LEFT, 0, -4.2, made.TOP))
    assert cube.attrs["sensor"] == "AVIRIS-3" and cube.attrs["acquired"] == "2024-08-01T18:04:05Z"
    with h5py.File(made.aviris(tmp_path / "b.nc"), "r+") as file:
        file["easting"][2] += 1.5
    with pytest.raises(InputError, match="easting is no even row"):
        open_cube(tmp_path / "b.nc")


def test_neons_water_vapour_windows_are_bad_bands(tmp_path: Path) -> None:
    cube = open_cube(made.neon(tmp_path / "NEON_D17_SJER_DP3_257000_4112000_20190613_reflectance.h5"))
    assert_values(cube, made.truth(4), 0.51e-4)
    assert bands_of(cube).good.tolist() == [True, False, True, False]
    assert cube.attrs["acquired"] == "2019-06-13T00:00:00Z"


def test_the_real_neon_file_agrees_with_its_own_datasets(shared_data: Path) -> None:
    path = shared_data / "neon_plots" / "neon_sjer_30x30x426.h5"
    cube = open_cube(path)
    with h5py.File(path) as file:
        data = file["SJER/Reflectance/Reflectance_Data"][:]
        centres = file["SJER/Reflectance/Metadata/Spectral_Data/Wavelength"][:]
    assert np.abs(cube.values - data.transpose(2, 0, 1) / 1e4).max() < 1e-6
    assert np.array_equal(bands_of(cube).wavelength_nm, centres)
    assert grid_of(cube).affine[:6] == (1, 0, 257000, 0, -1, 4112000)


def test_hyperion_stays_radiance_and_its_uncalibrated_bands_are_bad(tmp_path: Path) -> None:
    folder = made.hyperion(tmp_path)
    for path in (folder, next(folder.glob("*MTL*"))):
        cube = open_cube(path)
        bands = bands_of(cube)
        assert cube.attrs["quantity"] == "radiance" and cube.attrs["acquired"] == "2016-07-02T10:03:11Z"
        assert bands.names == ("B007", "B008", "B057", "B077", "B224", "B225")
        assert bands.good.tolist() == [False, True, True, True, True, False]
        assert bands.wavelength_nm[1:5].tolist() == [426.82, 925.41, 912.45, 2395.5]
        values = 100 * made.truth(6)
        assert np.nanmax(np.abs(cube.values[1:5] - values[1:5])) <= 0.51 / 40
        assert np.isnan(cube.values[:, -1, -1]).all()


def test_the_hyperion_table_agrees_with_a_real_header(shared_data: Path) -> None:
    bands = bands_of(open_cube(shared_data / "envi_odd" / "cubus_gamsberg_subset"))
    table = np.array(list(band_table().values()))
    nearest = np.abs(bands.wavelength_nm[:, None] - table[:, 0]).argmin(axis=1)
    assert np.abs(table[nearest, 0] - bands.wavelength_nm).max() < 0.006
    assert np.abs(table[nearest, 1] - bands.fwhm_nm).max() < 1e-3


def test_the_real_enmap_metadata_describes_an_image_of_its_name(tmp_path: Path, shared_data: Path) -> None:
    source = next((shared_data / "products/enmap_l2a").glob("*METADATA.XML"))
    shutil.copy(source, tmp_path)
    classes = next(source.parent.glob("*QL_QUALITY_CLASSES.TIF"))
    shutil.copy(classes, tmp_path)
    numbers = np.arange(218 * 12, dtype=np.int16).reshape(218, 3, 4)
    made.raster(tmp_path / source.name.replace("METADATA.XML", "SPECTRAL_IMAGE.TIF"), numbers, crs="EPSG:32632")
    cube = open_cube(tmp_path)
    root = ET.parse(source).getroot()
    centres = [float(e.text or 0) for e in root.iter("wavelengthCenterOfBand")]
    assert bands_of(cube).wavelength_nm.tolist() == centres
    assert cube.values[3, 1, 2] == pytest.approx(numbers[3, 1, 2] * 1e-4)
    assert np.isnan(cube.values).sum() == 1  # background 0, as this file's XML says
    assert cube.attrs["acquired"] == "2017-06-26T10:20:20Z"
    mask = invalid(cube)
    assert mask is not None and int(mask.sum()) == 77_832 + 409_811


def test_the_users_word_wins_over_a_product_too(tmp_path: Path) -> None:
    table = tmp_path / "bands.csv"
    table.write_text("wavelength_nm,good\n" + "".join(f"{500 + 10 * i},{int(i != 2)}\n" for i in range(6)))
    reading = Reading(scale=2e-4, offset=0.1, crs="EPSG:32634", wavelengths=table)
    cube = open_cube(made.enmap(tmp_path / "e"), reading)
    assert cube.values[0, 0, 0] == pytest.approx(made.truth(6)[0, 0, 0] * 2 + 0.1, abs=1e-4)
    assert bands_of(cube).wavelength_nm.tolist() == [500, 510, 520, 530, 540, 550]
    assert bands_of(cube).good.tolist() == [True, True, False, True, False, True]
    assert "replaced by EPSG:32634" in " ".join(cube.attrs["warnings"])


def test_a_truncated_hdf5_file_is_named(tmp_path: Path) -> None:
    path = made.neon(tmp_path / "a.h5")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"a\.h5"):
        open_cube(path)


def test_a_folder_around_one_product_is_the_product_and_around_two_is_a_question(tmp_path: Path) -> None:
    path = made.prisma(tmp_path / "a.he5")
    (tmp_path / "readme.txt").write_text("from the portal")
    assert open_cube(tmp_path).attrs["source"] == str(path)
    made.neon(tmp_path / "b.h5")
    with pytest.raises(InputError, match=r"several products; name one of a\.he5, b\.h5"):
        open_cube(tmp_path)
    made.enmap(tmp_path / "outer" / "inner")
    assert open_cube(tmp_path / "outer").attrs["product"] == "EnMAP L2A"


def test_an_archive_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "S2B.SAFE.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="unpack it first"):
        open_cube(tmp_path / "S2B.SAFE.zip")
