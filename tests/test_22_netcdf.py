"""CF NetCDF and HDF5 with axes in any order arrive on their right side, with their wavelengths, or are refused."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from rasterio.crs import CRS
from scenes import ORIGIN, spectra_of

from geolift.datamodel.cube import bands_of, grid_of
from geolift.errors import InputError
from geolift.readers import open_cube

NM = np.linspace(420, 2300, 7)
ROWS, COLS = 10, 8
X = ORIGIN[0] + 30 * (np.arange(COLS) + 0.5)
Y = ORIGIN[1] - 30 * (np.arange(ROWS) + 0.5)
WKT = CRS.from_epsg(32633).to_wkt()


@pytest.fixture
def values() -> np.ndarray:
    return spectra_of(NM, ROWS, COLS)


def save(
    path: Path,
    values: np.ndarray,
    order: str,
    *,
    names: dict[str, str],
    mapping: dict[str, Any] | None = None,
    units: str = "nm",
    attrs: dict[str, Any] | None = None,
    coords: dict[str, np.ndarray] | None = None,
) -> Path:
    """Write a cube (band, y, x) as NetCDF-4 does, its axes in the order given."""
    axes = {"b": NM / (1000 if units == "um" else 1), "y": Y, "x": X} | (coords or {})
    with h5py.File(path, "w") as file:
        for axis, numbers in axes.items():
            file[names[axis]] = numbers
            file[names[axis]].make_scale(names[axis])
        file[names["b"]].attrs["units"] = units
        file["fwhm"] = np.full(len(NM), 8.5)
        file["fwhm"].dims[0].attach_scale(file[names["b"]])
        file["good_wavelengths"] = (np.arange(len(NM)) != 3).astype(np.int8)
        cube = file.create_dataset("reflectance", data=values.transpose(["byx".index(axis) for axis in order]))
        for i, axis in enumerate(order):
            cube.dims[i].attach_scale(file[names[axis]])
        cube.attrs.update({"grid_mapping": "spatial_ref"} | (attrs or {}))
        file["spatial_ref"] = 0
        file["spatial_ref"].attrs.update({"crs_wkt": WKT} if mapping is None else mapping)
    return path


PLAIN = {"b": "wavelength", "y": "y", "x": "x"}


@pytest.mark.parametrize("order", ["".join(p) for p in permutations("byx")])
@pytest.mark.parametrize("names", [PLAIN, {"b": "wavelengths", "y": "northing", "x": "easting"}])
def test_every_order_of_axes_gives_the_same_cube(
    tmp_path: Path, values: np.ndarray, order: str, names: dict[str, str]
) -> None:
    cube = open_cube(save(tmp_path / "a.nc", values, order, names=names))
    assert np.array_equal(cube.values, values)
    bands = bands_of(cube)
    assert np.allclose(bands.wavelength_nm, NM)
    assert np.allclose(bands.fwhm_nm, 8.5)
    assert list(np.flatnonzero(~bands.good)) == [3]
    assert np.allclose(tuple(grid_of(cube).affine)[:6], (30, 0, ORIGIN[0], 0, -30, ORIGIN[1]))
    assert grid_of(cube).crs.epsg == 32633


def test_units_scale_fill_and_cf_parameters_are_honoured(tmp_path: Path, values: np.ndarray) -> None:
    counts = np.rint(values * 10_000).astype(np.int16)
    counts[:, :3, :2] = -1
    mapping = {
        "grid_mapping_name": "transverse_mercator",
        "semi_major_axis": 6378137.0,
        "inverse_flattening": 298.257223563,
        "longitude_of_central_meridian": 15.0,
        "latitude_of_projection_origin": 0.0,
        "scale_factor_at_central_meridian": 0.9996,
        "false_easting": 500000.0,
        "false_northing": 0.0,
    }
    attrs = {"scale_factor": 1e-4, "add_offset": 0.0, "_FillValue": np.int16(-1)}
    cube = open_cube(save(tmp_path / "a.nc", counts, "yxb", names=PLAIN, units="um", mapping=mapping, attrs=attrs))
    assert np.isnan(cube.values[:, :3, :2]).all()
    assert np.nanmax(np.abs(cube.values - values)) < 6e-5
    assert np.allclose(bands_of(cube).wavelength_nm, NM)
    operation = grid_of(cube).crs.proj.coordinate_operation
    assert [p.value for p in operation.params if "Longitude" in p.name] == [15]


def test_rows_from_the_south_and_degrees_are_understood(tmp_path: Path, values: np.ndarray) -> None:
    names = {"b": "wavelength", "y": "lat", "x": "lon"}
    lat, lon = 50 - 0.001 * np.arange(ROWS), 10 + 0.001 * np.arange(COLS)
    file = save(tmp_path / "a.nc", values[:, ::-1], "ybx", names=names, mapping={}, coords={"y": lat[::-1], "x": lon})
    with h5py.File(file, "r+") as handle:
        handle["lon"].attrs["units"] = "degrees_east"
    cube = open_cube(file)
    assert np.array_equal(cube.values, values)
    assert grid_of(cube).crs.epsg == 4326
    assert grid_of(cube).affine.f == pytest.approx(50.0005)


def test_a_file_without_named_axes_is_told_by_its_wavelengths_or_refused(tmp_path: Path, values: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["cube"] = values.transpose(1, 2, 0)
        file["wavelength"] = NM
        file["x"], file["y"] = X, Y
    cube = open_cube(tmp_path / "a.h5")
    assert np.array_equal(cube.values, values)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["cube"] = values
    with pytest.raises(InputError, match="are not known as band, y, x"):
        open_cube(tmp_path / "b.h5")


def test_classic_netcdf_is_read_too(tmp_path: Path, values: np.ndarray) -> None:
    from scipy.io import netcdf_file

    with netcdf_file(tmp_path / "a.nc", "w") as file:
        for name, numbers in (("wavelength", NM), ("y", Y), ("x", X)):
            file.createDimension(name, len(numbers))
            file.createVariable(name, "d", (name,))[:] = numbers
        file.variables["wavelength"].units = "nm"
        cube = file.createVariable("reflectance", "f", ("y", "x", "wavelength"))
        cube[:] = values.transpose(1, 2, 0)
        file.crs = "EPSG:32633"
    found = open_cube(tmp_path / "a.nc")
    assert np.array_equal(found.values, values)
    assert np.allclose(bands_of(found).wavelength_nm, NM)
    assert grid_of(found).crs.epsg == 32633


def test_what_xarray_saves_of_a_cube_of_geolift_comes_back(tmp_path: Path, values: np.ndarray) -> None:
    cube = open_cube(save(tmp_path / "a.nc", values, "byx", names=PLAIN)).compute()
    plain = cube.drop_vars("name")
    plain.attrs = {"units": "1"}
    plain.to_dataset(name="reflectance").to_netcdf(tmp_path / "b.nc", engine="scipy")
    again = open_cube(tmp_path / "b.nc")
    assert np.allclose(again.values, values)
    assert grid_of(again) == grid_of(cube)


@pytest.mark.parametrize("value", [np.nan, "abc", "", np.zeros((2, 2)), -1, 1e300, b"\xff\xfe", np.empty(0)])
@pytest.mark.parametrize("key", ["DIMENSION_LIST", "DIMENSION_LABELS"])
def test_damaged_lists_of_dimensions_do_not_bring_the_process_down(
    tmp_path: Path, values: np.ndarray, key: str, value: object
) -> None:
    file = save(tmp_path / "a.nc", values, "byx", names=PLAIN)
    with h5py.File(file, "r+") as damaged:
        damaged["reflectance"].attrs[key] = value
    assert np.array_equal(open_cube(file).values, values), "axes are told by their lengths"
