"""CF NetCDF and plain HDF5: one cube with its axes in any order, as xarray, EMIT's tools and HyperCoast save them.

AVIRIS-3 and AVIRIS-NG's orthocorrected NetCDF is such a file, and is named.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geolift.datamodel.cube import Bands
from geolift.errors import InputError
from geolift.readers import gate, hdf5
from geolift.readers.arrays import open_array
from geolift.readers.cf_names import BAD_AS_ZERO, CENTRES, WIDTHS, axis_of, even_axis
from geolift.readers.product import Product, iso_time, placed
from geolift.readers.raster import Declared, settle
from geolift.readers.wavelengths import Found, settled
from geolift.settings import Reading

CLASSIC = (b"CDF\x01", b"CDF\x02", b"CDF\x05")
USUAL_NAMES = ("reflectance", "surface_reflectance", "rfl", "radiance", "toa_radiance", "hyperspectral", "data")
TIME_ATTRIBUTES = ("time_coverage_start", "acquisition_time", "datetime", "start_time", "date")
FILLS = ("_FillValue", "missing_value")


class CfReader:
    """Whatever NetCDF or HDF5 file no product family claims: never on its side, or refused."""

    def matches(self, path: str) -> bool:
        """Accept HDF5 and classic NetCDF by their signature."""
        return hdf5.is_hdf5(path) or _is_classic(path)

    def open(
        self, path: str, reading: Reading, tile: int | None = None, bands: Sequence[str] | None = None
    ) -> xr.DataArray:
        """Open the file's cube lazily."""
        if _is_classic(path):
            return _open_classic(path, reading)
        notes: list[str] = []
        with hdf5.opened(path, "NetCDF or HDF5") as file:
            variables = _variables(file)
            name = _cube_name(variables, path)
            cube = variables[name]
            axes = _axes(cube, variables, path)
            sizes = dict(zip(axes.order, cube.shape, strict=True))
            grid = _grid(file, cube, axes, (sizes["y"], sizes["x"]), path)
            described = _bands(variables, sizes.get("b", 1), path, notes)
            tags = _declared(cube, sizes.get("b", 1), path)
            product, sensor = _aviris(file, name)
            started = next((hdf5.text_of(file.attrs[k]) for k in TIME_ATTRIBUTES if k in file.attrs), "")
            words = " ".join(
                hdf5.text_of(file.attrs[k]) for k in ("platform", "sensor", "instrument") if k in file.attrs
            )
        stored = hdf5.Hdf5Cube(hdf5.SharedHdf5(path), name, axes.order)
        decoding, quantity = settle(stored, tags, reading, notes)
        return Product(
            source=path,
            stored=stored,
            grid=grid,
            bands=described,
            decoding=decoding,
            quantity=quantity if product is None else name.partition("/")[0],
            name=product,
            sensor=sensor,
            driver="netCDF" if "_NCProperties" in variables or Path(path).suffix == ".nc" else "HDF5",
            acquired=iso_time(started) or iso_time(Path(path).name),
            evidence=f"{Path(path).name} {words}",
            wavelengths_from=axes.centres,
            notes=notes,
        ).cube(reading, tile)


def _aviris(file: Any, cube: str) -> tuple[str | None, str | None]:
    """Name AVIRIS's product and instrument: GROUP/GROUP beside easting; None for another file."""
    group, _, name = cube.partition("/")
    if group != name or group not in ("reflectance", "radiance") or "easting" not in file:
        return None, None
    told = (hdf5.text_of(file.attrs[key]) for key in ("instrument", "sensor") if key in file.attrs)
    return f"AVIRIS ortho {group}", next(told, "AVIRIS")


def _is_classic(path: str) -> bool:
    file = Path(path)
    if not file.is_file():
        return False
    try:
        with file.open("rb") as stream:
            return stream.read(4) in CLASSIC
    except OSError:
        return False


def _open_classic(path: str, reading: Reading) -> xr.DataArray:
    """Open a NetCDF-3 file through xarray."""
    try:
        dataset = xr.open_dataset(path, engine="scipy", mask_and_scale=False, decode_times=False, chunks={})
    except (AttributeError, IndexError, KeyError, OSError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a NetCDF file that can be read: {error}. Is it truncated?") from error
    return open_array(dataset, reading, path)


@dataclass(frozen=True)
class _Axes:
    """The order of a cube's axes as letters (b, y, x, t), the coordinates of y and x, where the centres stand."""

    order: str
    y: Any
    x: Any
    centres: str | None


def _variables(file: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def look(name: str, item: Any) -> None:
        if hasattr(item, "dtype") and hasattr(item, "shape") and item.dtype.kind in "iuf":
            found[name] = item

    file.visititems(look)
    return found


def _cube_name(variables: dict[str, Any], path: str) -> str:
    """Choose the cube: the only one of three axes, else the one of a usual name, else the largest."""
    cubes = {name: v for name, v in variables.items() if sum(size > 1 for size in v.shape) == 3 and v.ndim <= 4}
    if not cubes:
        held = ", ".join(f"{name} {v.shape}" for name, v in list(variables.items())[:8]) or "no numbers"
        raise InputError(f"{path}: holds {held}; needed is a cube of three axes (band, y, x in any order)")
    if len(cubes) == 1:
        return next(iter(cubes))
    for usual in USUAL_NAMES:
        named = [name for name in cubes if name.rpartition("/")[2].lower() == usual]
        if len(named) == 1:
            return named[0]
    largest = sorted(cubes, key=lambda name: -int(np.prod(cubes[name].shape)))
    if np.prod(cubes[largest[0]].shape) == np.prod(cubes[largest[1]].shape):
        raise InputError(
            f'{path}: holds several cubes ({", ".join(cubes)}); name one as GDAL does: NETCDF:"{path}":{largest[0]}'
        )
    return largest[0]


def _dimension(cube: Any, axis: int) -> tuple[str, Any]:
    """Return the name of a cube's dimension and its coordinate variable, if it has them.

    Read from the attributes themselves: HDF5's own functions for scales bring the process down where these are damaged.
    """
    listed, labels = (cube.attrs.get(key) for key in ("DIMENSION_LIST", "DIMENSION_LABELS"))
    if np.shape(listed) == (cube.ndim,) and np.size(listed[axis]):
        with contextlib.suppress(KeyError, OSError, RuntimeError, TypeError, ValueError):
            scale = cube.file[np.ravel(listed[axis])[0]]
            return str(scale.name).rpartition("/")[2], scale
    return hdf5.text_of(labels[axis]) if np.shape(labels) == (cube.ndim,) else "", None


def _axes(cube: Any, variables: dict[str, Any], path: str) -> _Axes:
    """Tell which axis is which, by the names of dimensions, else by the length of the wavelengths and coordinates."""
    names = [_dimension(cube, axis) for axis in range(cube.ndim)]
    centres = _along(variables, CENTRES)
    order = [""] * cube.ndim
    for axis, (name, scale) in enumerate(names):
        role = axis_of(name, {} if scale is None else {k: hdf5.text_of(v) for k, v in scale.attrs.items() if _short(v)})
        letter = {"band": "b", "y": "y", "x": "x"}.get(role or "", "")
        if letter and letter not in order:
            order[axis] = letter
        elif cube.shape[axis] == 1 and "t" not in order:
            order[axis] = "t"
    along = {"b": None if centres is None else centres[1], **{a: _named_axis(variables, a) for a in "yx"}}
    for letter, known in along.items():
        fitting = [i for i, n in enumerate(cube.shape) if known is not None and n == known.size and not order[i]]
        if letter not in order and len(fitting) == 1:
            order[fitting[0]] = letter
    for letter in ("y", "x"):
        rest = [i for i in range(cube.ndim) if not order[i]]
        if letter not in order and "b" in order and len(rest) == sum(part not in order for part in "yx"):
            order[rest[0]] = letter
    if sorted(part for part in order if part != "t") != ["b", "x", "y"]:
        told = ", ".join(f"{name or 'unnamed'} {size}" for (name, _), size in zip(names, cube.shape, strict=True))
        raise InputError(
            f"{path}: the axes of {cube.name} ({told}) are not known as band, y, x; needed are dimensions of such "
            "names, or a variable wavelength as long as one axis. Or name one of its subdatasets: "
            f'NETCDF:"{path}":{str(cube.name).lstrip("/")}'
        )
    y, x = (_coordinate(names[order.index(letter)], variables) or along[letter] for letter in "yx")
    return _Axes("".join(order), y, x, None if centres is None else centres[0])


def _short(value: Any) -> bool:
    return isinstance(value, str | bytes) or np.size(value) == 1


def _named_axis(variables: dict[str, Any], axis: str) -> Any:
    """Find the coordinates of an axis by their name alone; None if there are none, or several."""
    found = [v for key, v in variables.items() if v.ndim == 1 and axis_of(key.rpartition("/")[2], {}) == axis]
    return found[0] if len(found) == 1 else None


def _coordinate(dimension: tuple[str, Any], variables: dict[str, Any]) -> Any:
    name, scale = dimension
    if scale is not None and getattr(scale, "ndim", 0) == 1 and not _is_bare(scale):
        return scale
    return next((v for key, v in variables.items() if key.rpartition("/")[2] == name and v.ndim == 1), None)


def _is_bare(scale: Any) -> bool:
    """Tell whether a dimension has no coordinates: NetCDF keeps a scale of zeros for it."""
    return "This is a netCDF dimension but not" in hdf5.text_of(scale.attrs.get("NAME", ""))


def _along(variables: dict[str, Any], names: Sequence[str], count: int | None = None) -> tuple[str, Any] | None:
    """Find a list along the bands by its name, case aside."""
    for wanted in names:
        for key, variable in variables.items():
            named = key.rpartition("/")[2].lower() == wanted
            if named and variable.ndim == 1 and variable.size > 1 and count in (None, variable.size):
                return key, variable
    return None


def _bands(variables: dict[str, Any], count: int, path: str, notes: list[str]) -> Bands:
    names = tuple(f"band {i + 1}" for i in range(count))
    centres, widths, flags = (_along(variables, words, count) for words in (CENTRES, WIDTHS, BAD_AS_ZERO))
    good = hdf5.flags_of(flags and flags[1], count, path, flags[0] if flags else "")
    if centres is None:
        unknown = np.full(count, np.nan)
        return Bands(names, unknown, unknown.copy(), good)
    key, variable = centres
    unit = hdf5.text_of(variable.attrs["units"]) if "units" in variable.attrs else None
    fwhm = None if widths is None else hdf5.numbers_of(widths[1], path, widths[0]).tolist()
    found = Found(hdf5.numbers_of(variable, path, key).tolist(), fwhm, None, unit)
    wavelength, width = settled(found, path, key, count, notes)
    return Bands(names, wavelength, width, good)


def _declared(cube: Any, count: int, path: str) -> Declared:
    scale, offset = (
        hdf5.number_of(cube.attrs.get(key, neutral), path, key)
        for key, neutral in (("scale_factor", 1.0), ("add_offset", 0.0))
    )
    fill = next((cube.attrs[key] for key in FILLS if key in cube.attrs), None)
    nodata = None if fill is None else float(hdf5.numbers_of(fill, path, "_FillValue")[0])
    units = hdf5.text_of(cube.attrs["units"]).lower() if "units" in cube.attrs else ""
    return Declared((scale,) * count, (offset,) * count, (nodata,) * count, (units,) if units else ())


def _grid(file: Any, cube: Any, axes: _Axes, shape: tuple[int, int], path: str) -> GeoBox:
    """Build the grid from even coordinates of pixel centres, or the grid mapping's GeoTransform."""
    mapping = _grid_mapping(file, cube)
    steps, affine = [], _geotransform(mapping, path)
    for coordinate, count in ((axes.y, shape[0]), (axes.x, shape[1])):
        known = coordinate is not None and coordinate.size == count > 1
        steps.append(even_axis(hdf5.numbers_of(coordinate, path, coordinate.name)) if known else None)
        if known and steps[-1] is None and affine is None:
            name = str(coordinate.name).lstrip("/")
            raise InputError(f"{path}: {name} is no even row of pixel centres; the image cannot be placed")
    if steps[0] is not None and steps[1] is not None:
        (y, dy), (x, dx) = steps  # type: ignore[misc]
        centred = Affine(dx, 0.0, x - dx / 2, 0.0, dy, y - dy / 2)
        if affine is None or not centred.almost_equals(affine, precision=abs(dx) * 1e-3):
            affine = centred
    if affine is None:
        affine = Affine.identity()
    return placed(shape, affine, _crs(file, mapping, axes), path)


def _grid_mapping(file: Any, cube: Any) -> Any:
    named = hdf5.text_of(cube.attrs["grid_mapping"]) if "grid_mapping" in cube.attrs else ""
    for name in (named, f"{cube.parent.name}/{named}", "spatial_ref", "crs", "transverse_mercator"):
        if name.strip("/") and name in file:
            return file[name]
    return None


def _geotransform(mapping: Any, path: str) -> Affine | None:
    if mapping is None or "GeoTransform" not in mapping.attrs:
        return None
    parts = hdf5.text_of(mapping.attrs["GeoTransform"]).replace(",", " ").split()
    return Affine.from_gdal(*gate.numbers(parts, path, "GeoTransform").tolist()) if len(parts) == 6 else None


def _crs(file: Any, mapping: Any, axes: _Axes) -> str | None:
    """Find the CRS: the grid mapping's WKT or CF parameters, the file's attributes, or degrees."""
    for holder in (mapping, file):
        for key in ("crs_wkt", "spatial_ref", "crs", "proj:epsg", "epsg"):
            if holder is not None and key in holder.attrs and (text := hdf5.text_of(holder.attrs[key])):
                return f"EPSG:{text}" if text.isdigit() else text
    if mapping is not None and "grid_mapping_name" in mapping.attrs:
        import pyproj

        plain = {
            key: hdf5.text_of(v) if isinstance(v, bytes | str) else np.ravel(v).tolist()
            for key, v in mapping.attrs.items()
        }
        plain = {key: v[0] if isinstance(v, list) and len(v) == 1 else v for key, v in plain.items()}
        try:
            return str(pyproj.CRS.from_cf(plain).to_wkt())
        except (KeyError, TypeError, ValueError, pyproj.exceptions.CRSError):
            return None
    units = hdf5.text_of(axes.x.attrs.get("units", "")) if axes.x is not None else ""
    return "EPSG:4326" if "degree" in units else None
