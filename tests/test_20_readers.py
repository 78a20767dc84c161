"""Readers: what a file says arrives exactly, what it does not say is settled in one order and told."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from scenes import make_pair, spectra_of, write

from geolift.datamodel.cube import bands_of, grid_of
from geolift.errors import InputError
from geolift.readers import open_cube
from geolift.readers.source import Decoding
from geolift.settings import Reading

NM = np.array([500.1234, 600.5678, 700.25])
FWHM = np.array([10.5, 11.25, 12.0])


@pytest.fixture
def values() -> np.ndarray:
    return spectra_of(NM, 12, 9)


def envi(path: Path, values: np.ndarray, header: str, interleave: str = "bsq") -> Path:
    """Write an ENVI file by hand, so that no library smooths its header."""
    axes = {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (1, 2, 0)}[interleave]
    kinds = {"float32": 4, "int16": 2, "uint16": 12}
    path.write_bytes(np.ascontiguousarray(values.transpose(axes)).tobytes())
    bands, rows, cols = values.shape
    path.with_suffix(".hdr").write_text(
        f"ENVI\nsamples = {cols}\nlines = {rows}\nbands = {bands}\nheader offset = 0\nfile type = ENVI Standard\n"
        f"data type = {kinds[values.dtype.name]}\ninterleave = {interleave}\nbyte order = 0\n"
        "map info = {UTM, 1, 1, 364095, 5809965, 30, 30, 33, North, WGS-84}\n" + header
    )
    return path


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
def test_envi_of_every_interleave_reads_alike_with_exact_wavelengths(
    tmp_path: Path, values: np.ndarray, interleave: str
) -> None:
    header = "wavelength units = Nanometers\nwavelength = {500.1234, 600.5678, 700.25}\nfwhm = {10.5, 11.25, 12}\n"
    cube = open_cube(envi(tmp_path / "a.img", values, header, interleave))
    assert np.array_equal(cube.values, values)
    assert np.abs(bands_of(cube).wavelength_nm - NM).max() < 1e-9
    assert np.abs(bands_of(cube).fwhm_nm - FWHM).max() < 1e-9


def test_an_envi_header_may_be_named_instead_of_its_data(tmp_path: Path, values: np.ndarray) -> None:
    data = envi(tmp_path / "a.img", values, "")
    assert np.array_equal(open_cube(data.with_suffix(".hdr")).values, values)


def test_micrometres_by_unit_and_by_magnitude_become_the_same_nanometres(tmp_path: Path, values: np.ndarray) -> None:
    listed = "wavelength = {0.5001234, 0.6005678, 0.70025}\n"
    declared = open_cube(envi(tmp_path / "a.img", values, "wavelength units = Micrometers\n" + listed))
    guessed = open_cube(envi(tmp_path / "b.img", values, listed))
    assert np.abs(bands_of(declared).wavelength_nm - NM).max() < 1e-9
    assert np.array_equal(bands_of(guessed).wavelength_nm, bands_of(declared).wavelength_nm)
    assert not declared.attrs["warnings"]
    assert "without a unit" in guessed.attrs["warnings"][0]


def test_a_wrongly_declared_unit_is_named_and_set_right(tmp_path: Path, values: np.ndarray) -> None:
    header = "wavelength units = Nanometers\nwavelength = {0.5, 0.6, 0.7}\n"
    cube = open_cube(envi(tmp_path / "a.img", values, header))
    assert bands_of(cube).wavelength_nm.tolist() == [500, 600, 700]
    assert "can only be micrometres" in cube.attrs["warnings"][0]


@pytest.mark.parametrize("header", [
    "wavelength units = Micrometers\nwavelength = {0.5, 0.6, 0.7}\nfwhm = {9, 10, 11}\n",
    "wavelength units = Nanometers\nwavelength = {500, 600, 700}\nfwhm = {0.009, 0.010, 0.011}\n",
])  # fmt: skip
def test_widths_in_another_unit_than_the_centres_are_named_and_set_right(
    tmp_path: Path, values: np.ndarray, header: str
) -> None:
    cube = open_cube(envi(tmp_path / "a.img", values, header))
    assert np.allclose(bands_of(cube).fwhm_nm, [9, 10, 11])
    assert "FWHM" in cube.attrs["warnings"][0]


def test_gains_win_over_the_reflectance_scale_factor_and_only_one_is_applied(tmp_path: Path) -> None:
    stored = np.full((3, 8, 8), 2500, np.int16)
    both = "reflectance scale factor = 10000\ndata gain values = {1e-4, 1e-4, 1e-4}\n"
    factor = "reflectance scale factor = 10000\n"
    for name, header in (("a.img", both), ("b.img", factor)):
        cube = open_cube(envi(tmp_path / name, stored, header))
        assert np.allclose(cube.values, 0.25)
        assert cube.attrs["quantity"] == "reflectance"


def test_the_bad_band_list_says_one_for_good(tmp_path: Path, values: np.ndarray) -> None:
    cube = open_cube(envi(tmp_path / "a.img", values, "bbl = {1, 0, 1}\n"))
    assert bands_of(cube).good.tolist() == [True, False, True]


def test_scale_and_offset_are_applied_per_band_and_nodata_before_them(tmp_path: Path) -> None:
    stored = np.array([[[1000, 0]], [[3000, 4000]]], np.uint16)
    file = write(tmp_path / "a.tif", stored, gsd=30, scale=None, dtype="uint16", nodata=0)
    with rasterio.open(file, "r+") as f:
        f.scales, f.offsets = (1e-4, 1e-3), (-0.1, 0.5)
    cube = open_cube(file)
    assert np.allclose(cube.values, [[[0.0, np.nan]], [[3.5, 4.5]]], equal_nan=True)


def test_numbers_that_stand_for_no_data_raise_no_warning_when_they_are_scaled() -> None:
    least = float(np.finfo(np.float32).min)
    values = np.full((1, 4, 4), 50.0, np.float32)
    values[0, 0] = [least, np.inf, -np.inf, np.nan]
    decoding = Decoding.uniform(1, 10.0, -1.0, least)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = decoding.apply(values, None)
    assert np.isnan(found[0, 0]).all()
    assert (found[0, 1:] == 499.0).all()


@pytest.mark.parametrize("fill", [0, -9999])
def test_a_number_in_every_band_of_many_pixels_is_nodata_where_the_file_declares_none(
    tmp_path: Path, values: np.ndarray, fill: int
) -> None:
    counts = np.round(values * 10_000).astype(np.int16)
    counts[:, 8:, :4] = fill
    counts[1, 0, 0] = fill  # 0 in one band alone is data; -9999 never is
    file = tmp_path / "fill.tif"
    write(file, counts, gsd=30, dtype="int16", scale=None, nodata=None)
    cube = open_cube(file)
    invalid = np.isnan(cube.values)
    assert invalid[:, 8:, :4].all()
    assert invalid.sum() == 3 * 4 * 4 + (fill < 0)
    assert cube.attrs["nodata"] == fill
    assert any("no nodata value is set" in text and "--msi-nodata" in text for text in cube.attrs["warnings"])
    told = open_cube(file, Reading(nodata=float("nan")))
    assert np.isfinite(told.values).all()
    assert not any("no nodata value" in text for text in told.attrs["warnings"])


def test_dark_water_amid_the_image_is_no_fill(tmp_path: Path, values: np.ndarray) -> None:
    counts = np.round(values * 10_000).astype(np.int16)
    counts[:, 4:7, 3:6] = 0
    file = tmp_path / "lake.tif"
    write(file, counts, gsd=30, dtype="int16", scale=None, nodata=None)
    assert np.isfinite(open_cube(file).values).all()


def test_untagged_integers_are_read_as_reflectance_times_10000_with_a_warning(tmp_path: Path) -> None:
    truth = spectra_of(NM, 12, 9)
    cube = open_cube(write(tmp_path / "a.tif", truth * 1e4, gsd=30, scale=None))
    assert np.abs(cube.values - truth).max() < 1e-4
    assert any("× 10 000" in text for text in cube.attrs["warnings"])


def test_the_users_word_wins_over_tags(tmp_path: Path) -> None:
    stored = np.full((3, 6, 6), 0.5)
    stored[:, 0, 0] = 0.3
    file = write(tmp_path / "b.tif", stored, gsd=30)
    cube = open_cube(file, Reading(nodata=3000))
    assert np.isnan(cube.values).sum() == 3
    assert np.allclose(open_cube(file, Reading(scale=2e-4, offset=-0.1)).values, stored * 2 - 0.1)


def test_band_tags_imagery_and_descriptions_are_searched_in_this_order(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", np.full((3, 6, 6), 0.5), gsd=30)
    with rasterio.open(file, "r+") as f:
        f.descriptions = tuple(f"band {i} ({w} Nanometers)" for i, w in enumerate(NM + 2, start=1))
    assert bands_of(open_cube(file)).wavelength_nm == pytest.approx(NM + 2)
    with rasterio.open(file, "r+") as f:
        for band in f.indexes:
            f.update_tags(band, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=str((NM[band - 1] + 1) / 1000))
    assert bands_of(open_cube(file)).wavelength_nm == pytest.approx(NM + 1)
    with rasterio.open(file, "r+") as f:
        for band in f.indexes:
            f.update_tags(band, wavelength=str(NM[band - 1]), wavelength_units="nm")
    assert bands_of(open_cube(file)).wavelength_nm == pytest.approx(NM)


def test_a_band_name_with_a_number_is_no_wavelength(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", np.full((3, 6, 6), 0.5), gsd=30, names=("Band 500", "Band 600", "Band 700"))
    assert np.isnan(bands_of(open_cube(file)).wavelength_nm).all()


def test_some_bands_without_wavelength_are_refused_with_the_count(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", np.full((3, 6, 6), 0.5), gsd=30)
    with rasterio.open(file, "r+") as f:
        f.update_tags(1, wavelength="500", wavelength_units="nm")
    with pytest.raises(InputError, match="1 of 3 bands carry"):
        open_cube(file)


@pytest.mark.parametrize(
    "text", ["wavelength_nm,fwhm_nm,good\n500,10,1\n600,11,0\n700,12,1\n", "i;x\n", "wavelength_um\n0.5\n0.6\n0.7\n"]
)
def test_a_wavelength_table_wins_or_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = write(tmp_path / "a.tif", np.full((3, 6, 6), 0.5), gsd=30, wavelength_nm=NM)
    table = tmp_path / "bands.csv"
    table.write_text(text)
    if text.startswith("i"):
        with pytest.raises(InputError, match=r"bands\.csv"):
            open_cube(file, Reading(wavelengths=table))
        return
    bands = bands_of(open_cube(file, Reading(wavelengths=table)))
    assert bands.wavelength_nm.tolist() == pytest.approx([500, 600, 700])
    assert bands.good.tolist() == ([True, False, True] if "good" in text else [True] * 3)


def test_a_band_without_data_counts_as_bad_and_keeps_its_place(tmp_path: Path) -> None:
    values = np.full((3, 20, 20), 0.3)
    values[1] = np.nan
    cube = open_cube(write(tmp_path / "a.tif", values, gsd=30))
    assert bands_of(cube).good.tolist() == [True, False, True]


def test_a_single_valid_pixel_in_a_large_band_is_found(tmp_path: Path) -> None:
    values = np.full((2, 400, 400), np.nan)
    values[0] = 0.3
    values[1, 137, 251] = 0.3
    assert bands_of(open_cube(write(tmp_path / "a.tif", values, gsd=30))).good.all()


def test_infinite_values_are_invalid(tmp_path: Path) -> None:
    values = np.full((2, 6, 6), 0.3)
    values[0, 0, 0], values[1, 1, 1] = np.inf, -np.inf
    cube = open_cube(write(tmp_path / "a.tif", values, gsd=30, dtype="float32", scale=None, nodata=None))
    assert np.isnan(cube.values).sum() == 2


def test_reading_by_chunks_gives_the_whole_and_the_exact_grid(tmp_path: Path) -> None:
    pair = make_pair(tmp_path)
    whole, parts = open_cube(pair.msi), open_cube(pair.msi, tile=17)
    assert parts.data.numblocks != whole.data.numblocks
    assert np.array_equal(whole.values, parts.values)
    with rasterio.open(pair.msi) as f:
        assert grid_of(parts).affine == f.transform
        assert grid_of(parts[:, 5:, 7:]).affine == f.window_transform(rasterio.windows.Window(7, 5, 1, 1))


def test_enmap_potsdam_is_understood(shared_data: Path) -> None:
    cube = open_cube(shared_data / "enmap_potsdam" / "enmap_potsdam.tif")
    bands = bands_of(cube)
    assert cube.shape == (224, 192, 160)
    assert np.flatnonzero(~bands.good).tolist() == list(range(129, 135))
    assert bands.wavelength_nm[0] == 418.24
    assert (np.diff(bands.wavelength_nm) < 0).any()
    assert cube.attrs["quantity"] == "reflectance"
    assert cube.attrs["acquired"] == "2022-07-24T10:45:26Z"


def test_the_rotated_aviris_subset_and_the_envi_cube_without_extension_open(shared_data: Path) -> None:
    rotated = open_cube(shared_data / "envi_odd" / "AV_mastercal_testdata.hdr")
    assert grid_of(rotated).affine.b != 0
    bare = open_cube(shared_data / "envi_odd" / "cubus_gamsberg_subset")
    assert grid_of(bare).crs is None
    assert bands_of(bare).wavelength_nm[0] == pytest.approx(426.820007, abs=1e-9)


def test_an_aviris_ng_flight_line_without_extension_is_read_with_its_time(tmp_path: Path) -> None:
    stored = np.full((3, 4, 5), 0.25, np.float32)
    stored[:, 1, 2] = -9999
    data = tmp_path / "ang20180814t224053_corr_v2r2_img"
    header = "data ignore value = -9999\nwavelength units = Nanometers\nwavelength = {377.2, 1000.5, 2500.5}\n"
    envi(data, stored, header + "fwhm = {5.6, 5.7, 6.1}\n", "bil")
    for path in (data, data.with_suffix(".hdr")):
        cube = open_cube(path)
        assert np.isnan(cube.values).sum() == 3 and np.nanmax(cube.values) == 0.25
        assert bands_of(cube).wavelength_nm.tolist() == [377.2, 1000.5, 2500.5]
        assert cube.attrs["acquired"] == "2018-08-14T22:40:53Z"


def test_a_folder_without_a_product_and_a_subdataset_by_gdals_name(tmp_path: Path, shared_data: Path) -> None:
    with pytest.raises(InputError, match="holds no product geolift knows"):
        open_cube(tmp_path)
    file = next((shared_data / "products" / "emit").glob("*.nc"))
    with pytest.raises(InputError, match="name one of its subdatasets"):
        open_cube(file)
    assert open_cube(f"HDF5:{file}://location/elev").shape == (1, 200, 200)


def test_bands_flagged_bad_throughout_are_no_lack_of_data(tmp_path: Path, values: np.ndarray) -> None:
    assert not bands_of(open_cube(envi(tmp_path / "a.img", values, "bbl = {0, 0, 0}\n"))).good.any()
