"""Cubes as rioxarray, xarray, odc-stac, stackstac and HyperCoast give them arrive like their file, or are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from scenes import ORIGIN, make_pair

from geolift.datamodel.cube import bands_of, grid_of
from geolift.errors import InputError, OutputExistsError
from geolift.readers import open_cube, opened


@pytest.fixture
def hsi(tmp_path: Path) -> Path:
    return make_pair(tmp_path).hsi


@pytest.fixture
def truth(hsi: Path) -> xr.DataArray:
    return open_cube(hsi)


def _same(found: xr.DataArray, truth: xr.DataArray) -> None:
    assert np.allclose(found.values, truth.values, atol=1e-6, equal_nan=True)
    assert grid_of(found) == grid_of(truth)
    assert np.allclose(bands_of(found).wavelength_nm, bands_of(truth).wavelength_nm, atol=1e-4)


def test_a_cube_of_geolift_stays_as_it_is(truth: xr.DataArray) -> None:
    assert opened(truth) is truth


@pytest.mark.parametrize("options", [{}, {"masked": True}, {"mask_and_scale": True}, {"chunks": {"x": 5, "y": 7}}])
def test_rioxarray_arrays_are_decoded_once(hsi: Path, truth: xr.DataArray, options: dict[str, object]) -> None:
    array = rioxarray.open_rasterio(hsi, **options)
    if options == {"masked": True}:  # NaN for nodata, scale still to be applied
        assert array.attrs["scale_factor"] == 1e-4
    _same(opened(array), truth)


def test_a_window_of_a_rioxarray_array_lies_where_it_was_cut(hsi: Path, truth: xr.DataArray) -> None:
    array = rioxarray.open_rasterio(hsi)[:, 3:9, 4:12]
    _same(opened(array), truth[:, 3:9, 4:12])


def _plain(truth: xr.DataArray) -> xr.DataArray:
    """Values with nothing but coordinates."""
    return xr.DataArray(
        truth.values,
        dims=("band", "y", "x"),
        coords={"y": truth.y.values, "x": truth.x.values, "wavelength": ("band", truth.wavelength.values)},
        attrs={"crs": "EPSG:32633"},
    )


def test_dimensions_may_have_any_order_and_name(truth: xr.DataArray) -> None:
    plain = _plain(truth)
    renamed = plain.rename({"y": "northing", "x": "easting", "band": "channel"})
    _same(opened(renamed.transpose("northing", "easting", "channel")), truth)
    _same(opened(plain.swap_dims(band="wavelength").transpose("y", "wavelength", "x")), truth)
    _same(opened(plain.expand_dims(time=[np.datetime64("2024-05-01")])), truth)


def test_wavelengths_follow_their_units(truth: xr.DataArray) -> None:
    plain = _plain(truth)
    micro = plain.assign_coords(wavelength=("band", truth.wavelength.values / 1000, {"units": "um"}))
    _same(opened(micro), truth)
    stac = plain.drop_vars("wavelength").assign_coords(center_wavelength=("band", truth.wavelength.values / 1000))
    _same(opened(stac), truth)


def test_rows_from_the_south_are_turned(truth: xr.DataArray) -> None:
    _same(opened(_plain(truth)[:, ::-1]), truth)


def test_fill_scale_and_offset_among_attributes_are_applied(truth: xr.DataArray) -> None:
    counts = np.where(np.isfinite(truth.values), np.rint((truth.values + 0.1) * 10_000), 0).astype(np.uint16)
    counts[:, :3, :3] = 0
    raw = _plain(truth).copy(data=counts).assign_attrs(scale_factor=1e-4, add_offset=-0.1, _FillValue=0)
    found = opened(raw).values
    assert np.isnan(found[:, :3, :3]).all()
    assert np.nanmax(np.abs(found - truth.values)) < 6e-5


def test_stackstacs_corner_coordinates_and_transform_are_understood(truth: xr.DataArray) -> None:
    plain = _plain(truth)
    affine = grid_of(truth).affine
    stack = plain.assign_coords(x=plain.x - 15, y=plain.y + 15, epsg=32633)
    stack.attrs = {"transform": affine, "crs": "epsg:32633"}
    _same(opened(stack), truth)
    _same(opened(stack[:, 2:, 3:]), truth[:, 2:, 3:])


def test_snaps_attributes_of_single_bands_give_the_wavelengths(truth: xr.DataArray) -> None:
    planes = {
        f"b{i}": plane.drop_vars(["wavelength", "fwhm", "good", "name", "band"]).assign_attrs(
            radiation_wavelength=float(plane.wavelength), radiation_wavelength_unit="nm", bandwidth=21.0
        )
        for i, plane in enumerate(truth)
    }
    found = opened(xr.Dataset(planes))
    _same(found, truth)
    assert np.allclose(bands_of(found).fwhm_nm, 21)


def test_a_grid_mapping_among_a_datasets_variables_gives_the_crs(truth: xr.DataArray) -> None:
    plain = truth.drop_vars(["spatial_ref", "name"]).assign_attrs(grid_mapping="crs").to_dataset(name="reflectance")
    _same(opened(plain.assign(crs=truth.spatial_ref.drop_vars("spatial_ref"))), truth)


def test_a_dataset_of_one_variable_per_band_is_stacked_without_its_quality_layer(truth: xr.DataArray) -> None:
    plane = xr.DataArray(
        np.rint(truth.values[0] * 10_000).astype(np.uint16), dims=("y", "x"), coords={"y": truth.y, "x": truth.x}
    ).assign_coords(spatial_ref=truth.spatial_ref)
    scene = xr.Dataset({"B02": plane, "B03": plane + 1, "SCL": (plane * 0).astype(np.uint8)})
    cube = opened(scene.expand_dims(time=[0]))
    assert list(cube.coords["name"].values) == ["B02", "B03"]
    assert grid_of(cube) == grid_of(truth)


def test_what_cannot_be_understood_is_refused_by_name(truth: xr.DataArray) -> None:
    plain = _plain(truth)
    with pytest.raises(InputError, match=r"time of length 2.*isel\(time=0\)"):
        opened(xr.concat([plain, plain], dim="time"))
    with pytest.raises(InputError, match="no dimension of"):
        opened(plain.rename(y="a", x="b"))
    with pytest.raises(InputError, match="complex"):
        opened(plain.astype(np.complex64))
    with pytest.raises(InputError, match="no grid found"):
        opened(plain.drop_vars(["x", "y"]))
    with pytest.raises(InputError, match="both at"):
        opened(plain.assign_coords(wavelength=("band", np.full(plain.sizes["band"], 660.0))))


def test_rioxarray_writes_a_result_with_its_wavelengths(tmp_path: Path, truth: xr.DataArray) -> None:
    """As tags and descriptions of the bands, so that GDAL, QGIS and ENVI find them; also of some, in another order."""
    for cube, name in ((truth, "b.tif"), (truth.isel(band=[5, 3, 4]), "c.tif"), (truth + 0.1, "d.tif")):
        cube.rio.to_raster(tmp_path / name)
        again = open_cube(tmp_path / name)
        _same(again, cube)
        assert np.allclose(bands_of(again).fwhm_nm, bands_of(cube).fwhm_nm)
        with rasterio.open(tmp_path / name) as file:
            assert [float(file.tags(i)["wavelength"]) for i in file.indexes] == cube.wavelength.values.tolist()
            assert all("Nanometers" in str(text) for text in file.descriptions)
    truth.rio.to_raster(tmp_path / "e.img", driver="ENVI")
    _same(open_cube(tmp_path / "e.img"), truth)
    truth.isel(band=2).rio.to_raster(tmp_path / "f.tif")
    assert np.allclose(open_cube(tmp_path / "f.tif").values[0], truth.values[2], equal_nan=True)


def test_a_cube_names_the_units_of_its_wavelengths_and_coordinates(truth: xr.DataArray) -> None:
    assert truth.coords["wavelength"].attrs["units"] == "nm"
    assert truth.coords["x"].attrs["units"] == "metre"
    assert float(truth.coords["x"][0]) == ORIGIN[0] + 15


@pytest.mark.parametrize("name", ["a.tif", "a.img"])
def test_geolift_write_keeps_wavelengths_grid_and_values(tmp_path: Path, truth: xr.DataArray, name: str) -> None:
    import geolift

    file = geolift.write(truth, tmp_path / name)
    again = open_cube(file)
    assert np.allclose(again.values, truth.values, atol=1e-4, equal_nan=True)
    assert np.abs(bands_of(again).wavelength_nm - bands_of(truth).wavelength_nm).max() < 1e-4
    assert np.allclose(tuple(grid_of(again).affine), tuple(grid_of(truth).affine))
    with pytest.raises(OutputExistsError):
        geolift.write(truth, tmp_path / name)
    assert geolift.write(truth, tmp_path / name, overwrite=True, dtype="float32") == file
    assert open_cube(file).dtype == np.float32
