"""Cubes that are open in Python already, as rioxarray, xarray, odc-stac, stackstac and HyperCoast give them.

What their attributes say (scale, offset, fill, units) is applied as it is for files; what cannot be understood is
refused in Python's words.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError

from geolift.datamodel.cube import CUBE_DIMS, Bands, grid_of, window_values
from geolift.errors import GeoliftError, InputError
from geolift.readers import gate, spectral_metadata
from geolift.readers.cf_names import BAD_AS_ZERO, CENTRES, WIDTHS, axis_of, even_axis
from geolift.readers.product import Product, iso_time
from geolift.readers.raster import Declared, settle
from geolift.readers.shared_raster import is_virtual, open_raster
from geolift.readers.source import BandIndices, Layout
from geolift.readers.wavelength_text import centres_in
from geolift.readers.wavelengths import Found, settled
from geolift.settings import Reading

FILL_ATTRIBUTES = ("_FillValue", "missing_value", "fill_value", "nodata")
QUALITY_NAMES = {"scl", "qa", "qa_pixel", "fmask", "mask", "cloud_mask", "quality", "spatial_ref", "crs"}
GRID_MAPPING = {"crs_wkt", "spatial_ref", "grid_mapping_name", "GeoTransform"}
BLOCK_PX = 256
SAME_NM = 0.02


def open_array(
    source: xr.DataArray | xr.Dataset, reading: Reading | None = None, name: str | None = None
) -> xr.DataArray:
    """Bring a cube to geolift's form: float32 (band, y, x), NaN = invalid, wavelengths in nm, an exact grid.

    Raises InputError if dimensions, wavelengths or the grid cannot be understood.

    Parameters
    ----------
    source : DataArray or Dataset
        Three dimensions in any order and of any name (others of length 1), or two; a Dataset with one variable per
        band, or with one cube. Values are decoded unless xarray did so already.
    reading : Reading, optional
        What the user says of it; it wins over attributes.
    name : str, optional
        How messages call it.
    """
    if is_canonical(source) and (reading is None or reading == Reading()):
        return source  # type: ignore[return-value]
    said = reading or Reading()
    array = _one_array(source) if isinstance(source, xr.Dataset) else source
    label = name or str(array.attrs.get("source") or array.name or "the DataArray")
    if array.dtype.kind not in "iuf":
        raise InputError(f"{label}: its values are {array.dtype}; real numbers are needed")
    notes = [str(text) for text in array.attrs.get("warnings", ())]
    ordered = _ordered(array, label)
    stored = ArraySource(ordered.data, label)
    decoding, quantity = settle(stored, _declared(ordered, label), said, notes)
    told, times = array.attrs, array.coords.get("time")
    time = str(np.ravel(times.values)[0]) if times is not None and times.size == 1 else None
    return Product(
        source=label,
        stored=stored,
        grid=GeoBox((ordered.sizes["y"], ordered.sizes["x"]), _affine(ordered, label), _crs(ordered)),
        bands=_bands(ordered, label, notes),
        decoding=decoding,
        quantity=str(told.get("quantity", quantity)),
        name=told.get("product"),
        sensor=told.get("sensor"),
        driver="xarray",
        acquired=told.get("acquired") or iso_time(time),
        evidence=str(told.get("evidence", "")),
        wavelengths_from="coordinates",
        notes=notes,
        masks=tuple(told.get("masks", ())),
    ).cube(said)


def is_canonical(source: xr.DataArray | xr.Dataset) -> bool:
    """Tell whether a cube is in geolift's form already."""
    return (
        isinstance(source, xr.DataArray)
        and source.dims == CUBE_DIMS
        and source.dtype == np.float32
        and "quantity" in source.attrs
        and "good" in source.coords
        and "GeoTransform" in getattr(source.coords.get("spatial_ref"), "attrs", {})
        and not _pending(source)
    )


def _pending(array: xr.DataArray) -> bool:
    """Tell whether attributes ask for values to be decoded."""
    fills = [array.attrs.get(key) for key in FILL_ATTRIBUTES[:3]]
    return any(key in array.attrs for key in ("scale_factor", "add_offset")) or any(
        fill is not None and not (isinstance(fill, float) and np.isnan(fill)) for fill in fills
    )


def _one_array(dataset: xr.Dataset) -> xr.DataArray:
    """Choose the cube of a dataset, or stack its bands; a grid mapping comes along as a coordinate."""
    dataset = dataset.set_coords(
        [key for key, v in dataset.data_vars.items() if v.ndim == 0 and GRID_MAPPING & v.attrs.keys()]
    )
    cubes = [variable for variable in dataset.data_vars.values() if variable.ndim >= 3 and _is_number(variable)]
    planes = {str(key): v for key, v in dataset.data_vars.items() if v.squeeze(drop=True).ndim == 2 and _is_number(v)}
    wide = [cube for cube in cubes if cube.squeeze(drop=True).ndim == 3]
    if len(wide) == 1:
        chosen = wide[0]
        return chosen.assign_attrs({**_shared(dataset), **chosen.attrs})
    bands = {key: plane for key, plane in planes.items() if key.lower() not in QUALITY_NAMES}
    if wide or not bands:
        held = ", ".join(f"{key} {tuple(v.dims)}" for key, v in dataset.data_vars.items()) or "no variable"
        raise InputError(f"the Dataset holds {held}; needed is one cube of three dimensions, or one variable per band")
    stacked = xr.concat([v.squeeze(drop=True) for v in bands.values()], dim="band", coords="minimal", compat="override")
    first = next(iter(bands.values()))
    stacked = stacked.assign_coords({"band": list(bands), **_snap_spectra(list(bands.values()))})
    return stacked.assign_attrs({**_shared(dataset), **first.attrs})


def _snap_spectra(planes: list[xr.DataArray]) -> dict[str, xr.Variable]:
    """Collect the centres and widths that SNAP gives each band of its NetCDF as attributes."""
    unit = planes[0].attrs.get("radiation_wavelength_unit", "nm")
    told = {"wavelength": "radiation_wavelength", "fwhm": "bandwidth"}
    return {
        name: xr.Variable("band", [float(plane.attrs[key]) for plane in planes], {"units": str(unit)})
        for name, key in told.items()
        if all(isinstance(plane.attrs.get(key), int | float | np.number) for plane in planes)
    }


def _is_number(variable: xr.DataArray) -> bool:
    return bool(variable.dtype.kind in "iuf")


def _shared(dataset: xr.Dataset) -> dict[str, Any]:
    return {
        key: value for key, value in dataset.attrs.items() if str(key) in ("crs", "epsg", "spatial_ref", "transform")
    }


def _ordered(array: xr.DataArray, label: str) -> xr.DataArray:
    """Bring the dimensions to (band, y, x) by their names; others must have the length 1."""
    roles: dict[str, Hashable] = {}
    for dim in array.dims:
        axis = axis_of(str(dim), array.coords[dim].attrs if dim in array.coords else {})
        if axis and axis not in roles:
            roles[axis] = dim
    missing = [axis for axis in ("y", "x") if axis not in roles]
    if missing:
        raise InputError(
            f"{label}: no dimension of {tuple(map(str, array.dims))} is known as {' or '.join(missing)}; "
            "name them, for example with .rename({'row': 'y', 'col': 'x'})"
        )
    rest = [dim for dim in array.dims if dim not in roles.values()]
    long = [dim for dim in rest if array.sizes[dim] > 1]
    if "band" not in roles and len(long) <= 1 and rest:
        roles["band"] = (long or rest[-1:])[0]
    spare = [dim for dim in long if dim not in roles.values()]
    if spare:
        sizes = ", ".join(f"{dim} of length {array.sizes[dim]}" for dim in spare)
        raise InputError(f"{label}: one image is needed, this has {sizes}; choose one: .isel({spare[0]}=0)")
    array = array.isel({dim: 0 for dim in rest if dim not in roles.values()}, drop=False)
    if "band" not in roles:
        array = array.expand_dims("band")
        roles["band"] = "band"
    renames = {dim: axis for axis, dim in roles.items() if dim != axis}
    centres = array.coords.get(roles["band"]) if str(roles["band"]) in CENTRES else None
    array = array.drop_vars([axis for axis in renames.values() if axis in array.coords])
    array = array.rename(renames).transpose(*CUBE_DIMS)
    if centres is None:
        return array
    return array.assign_coords({str(roles["band"]): ("band", centres.values, centres.attrs)})


def _affine(array: xr.DataArray, label: str) -> Affine:
    """Take a GeoTransform that fits the coordinates, a transform among the attributes, or the coordinates alone."""
    step_x, step_y = (even_axis(array.coords[d].values) if d in array.coords else None for d in ("x", "y"))
    reference = next((c for c in array.coords.values() if "GeoTransform" in c.attrs), None)
    if reference is not None:
        placed = (
            array.assign_coords(spatial_ref=reference.copy(deep=False)) if reference.name != "spatial_ref" else array
        )
        own = grid_of(placed).affine
        fits = step_x is None or step_y is None or (np.isclose(own.a, step_x[1]) and np.isclose(own.e, step_y[1]))
        if own.b or own.d or fits:
            return own
    transform = array.attrs.get("transform")
    if transform is not None and len(transform) >= 6:
        own = Affine(*(gate.number(v, label, "its attribute transform") for v in tuple(transform)[:6]))
        if step_x is None or step_y is None or (np.isclose(own.a, step_x[1]) and np.isclose(own.e, step_y[1])):
            return own * Affine.translation(*_moved(own, step_x, step_y))
    if step_x is None or step_y is None:
        raise InputError(
            f"{label}: no grid found; needed are even coordinates x and y, or a spatial_ref coordinate with a "
            "GeoTransform. Open the file with geolift.open, or call .rio.write_transform() and .rio.write_crs()."
        )
    (x, dx), (y, dy) = step_x, step_y
    return Affine(dx, 0.0, x - dx / 2, 0.0, dy, y - dy / 2)


def _moved(own: Affine, x: tuple[float, float] | None, y: tuple[float, float] | None) -> tuple[int, int]:
    """Tell by how many whole pixels an array was cut from the grid its transform describes.

    stackstac gives the upper left corners of pixels as coordinates, others the centres: both are within the pixel.
    """
    if x is None or y is None:
        return 0, 0
    return int(np.floor((x[0] - own.c) / own.a + 1e-6)), int(np.floor((y[0] - own.f) / own.e + 1e-6))


def _crs(array: xr.DataArray) -> str | None:
    """Find the CRS in a grid mapping, in attributes, or in a coordinate epsg, as its WKT."""
    holders = [c.attrs for c in array.coords.values() if c.ndim == 0] + [array.attrs]
    for attrs in holders:
        for key in ("crs_wkt", "spatial_ref", "crs", "proj:code", "epsg", "proj:epsg"):
            if attrs.get(key) is not None and (found := _as_wkt(attrs[key])):
                return found
    for key in ("epsg", "proj:epsg", "proj:code"):
        if key in array.coords and (found := _as_wkt(np.ravel(array.coords[key].values)[0])):
            return found
    for holder in holders:
        if "grid_mapping_name" in holder:
            import pyproj

            return str(pyproj.CRS.from_cf(dict(holder)).to_wkt())
    x = array.coords.get("x")
    return str(CRS.from_epsg(4326).to_wkt()) if x is not None and "degree" in str(x.attrs.get("units", "")) else None


def _as_wkt(value: object) -> str | None:
    try:
        code = int(value) if isinstance(value, int | float | np.number) else value
        found = CRS.from_user_input(code.to_wkt() if hasattr(code, "to_wkt") else code)
    except (CRSError, ValueError, TypeError, OverflowError):
        return None
    return str(found.to_wkt()) or None


def _bands(array: xr.DataArray, label: str, notes: list[str]) -> Bands:
    """Describe the bands by the coordinates along them, by attributes, by long names, or by the file they are of."""
    count = array.sizes["band"]
    along = {str(k): c for k, c in array.coords.items() if c.dims == ("band",) or (count == 1 and c.ndim == 0)}
    names = _names(array, along)
    flags = next((along[key] for key in BAD_AS_ZERO if key in along), None)
    good = np.ones(count, bool) if flags is None else np.broadcast_to(np.ravel(flags.values) != 0, count)
    unknown = np.full(count, np.nan)
    bands = Bands(names, unknown, unknown.copy(), good)
    found = _found(along, array, names, label)
    if found is not None:
        wavelength, fwhm = settled(found, label, "coordinates", count, notes)
        bands = replace(bands, wavelength_nm=wavelength, fwhm_nm=fwhm)
    if np.isfinite(bands.fwhm_nm).all() and flags is not None:
        return bands
    return _completed(bands, array, names, flags is None, notes)


def _completed(bands: Bands, array: xr.DataArray, names: tuple[str, ...], flags: bool, notes: list[str]) -> Bands:
    """Take what coordinates leave open from the file that rioxarray opened, if its bands are these."""
    path = str(array.encoding.get("source", ""))
    if not path or not (is_virtual(path) or Path(path).is_file()):
        return bands
    try:
        with open_raster(path) as source:
            if source.count != len(bands):
                return bands
            told = spectral_metadata.read(source, path, None, [])
    except (RasterioError, GeoliftError):
        return bands
    same = np.allclose(bands.wavelength_nm, told.wavelength_nm, atol=SAME_NM, rtol=0)
    if not np.isfinite(told.wavelength_nm).all() or not (same or np.isnan(bands.wavelength_nm).all()):
        return bands
    notes.append(f"{path}: what the array does not say of its bands is taken from this file ({told.origin})")
    return Bands(
        told.names if names[0] == "band 1" else names,
        told.wavelength_nm if not same else bands.wavelength_nm,
        told.fwhm_nm if np.isnan(bands.fwhm_nm).all() else bands.fwhm_nm,
        told.good if flags else bands.good,
    )


def _names(array: xr.DataArray, along: dict[str, Any]) -> tuple[str, ...]:
    told = array.attrs.get("long_name")
    if isinstance(told, tuple | list) and len(told) == array.sizes["band"]:
        return tuple(str(text) for text in told)
    for key in ("name", "band", "band_name", "common_name", "title"):
        if key in along and np.asarray(along[key].values).dtype.kind in "UOST":
            return tuple(str(text) for text in np.ravel(along[key].values))
    return tuple(f"band {i + 1}" for i in range(array.sizes["band"]))


def _found(along: dict[str, Any], array: xr.DataArray, names: tuple[str, ...], label: str) -> Found | None:
    count = array.sizes["band"]
    for key in (*CENTRES, "band"):
        if key not in along or np.asarray(along[key].values).dtype.kind not in "iuf":
            continue
        values = np.ravel(along[key].values).astype(np.float64)
        unit = along[key].attrs.get("units") or along[key].attrs.get("unit")
        if key == "band" and (unit is None or np.array_equal(values, np.arange(1, count + 1))):
            continue
        width = next((along[k] for k in WIDTHS if k in along), None)
        if np.isnan(values).all():
            continue
        fwhm = None if width is None else np.ravel(width.values).astype(np.float64).tolist()
        return Found(values.tolist(), fwhm, None, str(unit) if unit else _usual_unit(key))
    for key in CENTRES:
        listed = array.attrs.get(key)
        if listed is not None and np.size(listed) == count and count > 1:
            unit = array.attrs.get("wavelength_units") or array.attrs.get(f"{key}_units")
            return Found(gate.numbers(np.ravel(listed), label, f"its attribute {key}").tolist(), None, None, unit)
    centres = centres_in(names)
    return None if centres is None else Found(centres.values, centres.widths, None, centres.unit)


def _usual_unit(key: str) -> str | None:
    """Tell the unit of a coordinate without one: geolift's own is in nm, STAC's center_wavelength in µm."""
    return "nm" if key == "wavelength" else ("um" if key == "center_wavelength" else None)


class ArraySource:
    """An array's values as a reader's stored numbers."""

    def __init__(self, data: Any, path: str) -> None:
        self._data, self.path = data, path
        count, rows, cols = data.shape
        self.layout = Layout(count, (rows, cols), data.dtype, (min(rows, BLOCK_PX), min(cols, BLOCK_PX)))

    def read(self, rows: slice, cols: slice, bands: BandIndices | None = None) -> tuple[np.ndarray, None]:
        """Return a window (band, y, x)."""
        part = self._data if bands is None else self._data[list(bands)]
        return window_values(part, rows, cols), None


def _declared(array: xr.DataArray, label: str) -> Declared:
    """Collect what attributes declare of the values; what xarray has decoded already stands in the encoding."""
    count = array.sizes["band"]

    def each(key: str, neutral: float) -> tuple[float, ...]:
        value = array.attrs.get(key, neutral)
        values = np.ravel(value) if np.size(value) in (1, count) else np.array([neutral])
        return tuple(np.broadcast_to(gate.numbers(values, label, f"its attribute {key}"), count).tolist())

    fill = next((array.attrs[key] for key in FILL_ATTRIBUTES if array.attrs.get(key) is not None), None)
    nodata = None if fill is None or isinstance(fill, str) else float(np.ravel(fill)[0])
    units = str(array.attrs.get("units", "")).lower()
    return Declared(each("scale_factor", 1.0), each("add_offset", 0.0), (nodata,) * count, (units,) if units else ())
