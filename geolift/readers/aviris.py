"""AVIRIS-3 and AVIRIS-NG orthocorrected NetCDF: group reflectance or radiance, easting and northing at the root."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.errors import CRSError

from geolift.datamodel.cube import REFLECTANCE, Bands
from geolift.errors import InputError
from geolift.readers import hdf5
from geolift.readers.product import Product, iso_time, placed
from geolift.readers.source import Decoding
from geolift.readers.wavelengths import in_nanometres
from geolift.settings import Reading

NAME = "AVIRIS ortho"
CUBES = {"reflectance": REFLECTANCE, "radiance": "radiance"}
UNEVEN = 1e-3


class AvirisReader:
    """Orthocorrected AVIRIS cubes in NetCDF; the ENVI ones are read as rasters."""

    def matches(self, path: str) -> bool:
        """Look for GROUP/GROUP beside easting and northing."""
        return hdf5.holds(path, *(f"{name}/{name}" for name in CUBES)) and hdf5.holds(path, "easting")

    def open(
        self, path: str, reading: Reading, tile: int | None = None, bands: Sequence[str] | None = None
    ) -> xr.DataArray:
        """Open it as a lazy cube."""
        notes: list[str] = []
        with hdf5.opened(path, NAME) as file:
            group = next(name for name in CUBES if f"{name}/{name}" in file)
            cube = file[f"{group}/{group}"]
            wavelength, fwhm = in_nanometres(
                hdf5.numbers_of(file[f"{group}/wavelength"], path, "wavelength"),
                hdf5.numbers_of(file[f"{group}/fwhm"], path, "fwhm") if "fwhm" in file[group] else None,
                path,
                NAME,
                notes,
            )
            fill = hdf5.fill_of(cube, path)
            grid = _grid(file, cube, path)
            axes = _axes(cube, len(wavelength), grid.shape, path)
            started = hdf5.text_of(file.attrs.get("time_coverage_start", ""))
            instrument = next(
                (hdf5.text_of(file.attrs[key]) for key in ("instrument", "sensor") if key in file.attrs), "AVIRIS"
            )
        return Product(
            source=path,
            stored=hdf5.Hdf5Cube(hdf5.SharedHdf5(path), f"{group}/{group}", axes),
            grid=grid,
            bands=Bands(
                tuple(f"band {i + 1}" for i in range(len(wavelength))),
                wavelength,
                fwhm,
                np.ones(len(wavelength), dtype=bool),
            ),
            decoding=Decoding.uniform(len(wavelength), nodata=-9999.0 if fill is None else fill),
            quantity=CUBES[group],
            name=f"{NAME} {group}",
            sensor=instrument,
            driver="netCDF",
            acquired=iso_time(started) or iso_time(Path(path).name),
            evidence=Path(path).name,
            wavelengths_from=f"{group}/wavelength",
            notes=notes,
            search_fill=True,
        ).cube(reading, tile)


def _axes(cube: Any, count: int, shape: Any, path: str) -> str:
    """Tell the order of the axes by their lengths; the usual one where they do not tell."""
    for axes in ("byx", "yxb"):
        sizes = dict(zip(axes, cube.shape, strict=True)) if cube.ndim == len(axes) else {}
        if sizes == {"b": count, "y": shape[0], "x": shape[1]}:
            return axes
    raise InputError(f"{path}: a cube of {cube.shape} does not fit {count} wavelengths on a grid of {tuple(shape)}")


def _grid(file: Any, cube: Any, path: str) -> GeoBox:
    """Build the grid from the pixel centres' coordinates."""
    easting, northing = (hdf5.numbers_of(file[key], path, key) for key in ("easting", "northing"))
    steps = []
    for name, centres in (("easting", easting), ("northing", northing)):
        step = (centres[-1] - centres[0]) / max(1, len(centres) - 1)
        if len(centres) < 2 or np.abs(np.diff(centres) - step).max() > UNEVEN * abs(step):
            raise InputError(f"{path}: {name} is no even row of pixel centres; the product cannot be placed")
        steps.append(step)
    width, height = steps
    affine = Affine(width, 0.0, easting[0] - width / 2, 0.0, height, northing[0] - height / 2)
    return placed((len(northing), len(easting)), affine, _crs(file, cube), path)


def _crs(file: Any, cube: Any) -> str | None:
    """Find the CRS in the grid-mapping variable that the cube names, or in the usual ones; None if there is none."""
    named = hdf5.text_of(cube.attrs["grid_mapping"]) if "grid_mapping" in cube.attrs else ""
    for name in (named, "transverse_mercator", "crs", "spatial_ref"):
        if not name or name not in file:
            continue
        for key in ("crs_wkt", "spatial_ref"):
            if key in file[name].attrs:
                try:
                    return str(CRS.from_user_input(hdf5.text_of(file[name].attrs[key])).to_wkt())
                except CRSError:
                    continue
    return None
