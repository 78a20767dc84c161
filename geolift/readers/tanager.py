"""Planet Tanager ortho: HDF-EOS5 grid, axes band, y, x; wavelengths are attributes of the cube."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geolift.datamodel.cube import REFLECTANCE, Bands
from geolift.errors import InputError
from geolift.readers import gate, hdf5
from geolift.readers.masks import QualityLayer
from geolift.readers.product import Product, ProductReader, iso_time, placed
from geolift.readers.source import Decoding
from geolift.readers.wavelengths import in_nanometres

NAME = "Tanager ortho"
GRID = "HDFEOS/GRIDS/HYP"
SWATH = "HDFEOS/SWATHS/HYP"
STRUCTURE = "HDFEOS INFORMATION/StructMetadata.0"
CUBES = {"surface_reflectance": REFLECTANCE, "toa_radiance": "radiance"}
MASKS = {"nodata_pixels": "no data", "beta_cloud_mask": "cloud", "beta_cirrus_mask": "cirrus"}
POINT = r"=\(\s*([-+.\deE]+)\s*,\s*([-+.\deE]+)\s*\)"


class TanagerReader(ProductReader):
    """Orthorectified surface reflectance or radiance of Tanager."""

    def matches(self, path: str) -> bool:
        """Look for the HYP grid; the basic product (a swath) matches too, to be refused with the reason."""
        return hdf5.holds(path, GRID, SWATH)

    def product(self, path: str, bands: Sequence[str] | None = None) -> Product:
        """Open an ortho file as a lazy cube."""
        notes: list[str] = []
        shared = hdf5.SharedHdf5(path)
        with hdf5.opened(path, NAME) as file:
            if GRID not in file:
                raise InputError(f"{path}: a basic Tanager product, not on a map grid; needed is the ortho product")
            fields = file[f"{GRID}/Data Fields"]
            name = next((name for name in CUBES if name in fields), None)
            if name is None:
                raise InputError(f"{path}: holds none of {', '.join(CUBES)}")
            cube = fields[name]
            wavelength, fwhm, good = _spectra(cube, path, notes)
            decoding = _decoding(cube, CUBES[name], path, notes)
            if cube.ndim != 3:
                raise InputError(f"{path}: {name} has {cube.ndim} axes; needed are band, y, x")
            grid = _grid(file, cube.shape[1:], path)
            masks = tuple(
                QualityLayer(
                    name=key,
                    meaning=meaning,
                    stored=hdf5.Hdf5Cube(shared, f"{GRID}/Data Fields/{key}", "yx"),
                    grid=grid,
                    rule="nonzero",
                )
                for key, meaning in MASKS.items()
                if key in fields
            )
            acquired = _acquired(fields, path)
        return Product(
            source=path,
            stored=hdf5.Hdf5Cube(shared, f"{GRID}/Data Fields/{name}", "byx"),
            grid=grid,
            bands=Bands(tuple(f"band {i + 1}" for i in range(len(wavelength))), wavelength, fwhm, good),
            decoding=decoding,
            quantity=CUBES[name],
            name=f"{NAME} {name.replace('_', ' ')}",
            sensor="Tanager",
            driver="HDF5",
            acquired=acquired,
            wavelengths_from=f"{name}: wavelengths",
            notes=notes,
            search_fill=True,
            masks=masks,
        )


def _spectra(cube: Any, path: str, notes: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if "wavelengths" not in cube.attrs:
        raise InputError(f"{path}: the cube has no attribute wavelengths; is this a Tanager ortho product?")
    widths = hdf5.numbers_of(cube.attrs["fwhm"], path, "fwhm") if "fwhm" in cube.attrs else None
    centres = hdf5.numbers_of(cube.attrs["wavelengths"], path, "wavelengths")
    unit = "um" if np.median(centres) < 100 else "nm"  # the cube's attributes name no unit
    wavelength, fwhm = in_nanometres(centres, widths, path, "wavelengths", notes, unit)
    key = "good_wavelengths"
    return wavelength, fwhm, hdf5.flags_of(cube.attrs.get(key), len(wavelength), path, key)


def _decoding(cube: Any, quantity: str, path: str, notes: list[str]) -> Decoding:
    """Floats are values; integers need a factor, and without one reflectance × 10 000 is assumed and said."""
    scale, offset = (
        hdf5.number_of(cube.attrs.get(key, neutral), path, key)
        for key, neutral in (("scale_factor", 1.0), ("add_offset", 0.0))
    )
    if cube.dtype.kind in "iu" and "scale_factor" not in cube.attrs and quantity == REFLECTANCE:
        scale = 1e-4
        notes.append(f"{path}: integers without scale_factor: read as reflectance × 10 000")
    fill = hdf5.fill_of(cube, path)
    return Decoding.uniform(cube.shape[0], scale, offset, -9999.0 if fill is None else fill)


def _grid(file: Any, shape: tuple[int, int], path: str) -> GeoBox:
    """Read corners (edges of the corner pixels) and UTM zone from the HDF-EOS structure."""
    text = hdf5.text_of(file[STRUCTURE])
    corners = [re.search(name + POINT, text) for name in ("UpperLeftPointMtrs", "LowerRightMtrs")]
    if corners[0] is None or corners[1] is None:
        raise InputError(f"{path}: {STRUCTURE} gives no corners; the product cannot be placed")
    (left, top), (right, bottom) = (gate.numbers(m.groups(), path, m[0]).tolist() for m in corners if m)
    rows, cols = shape
    affine = Affine((right - left) / cols, 0.0, left, 0.0, (bottom - top) / rows, top)
    return placed(shape, affine, _crs(file, text), path)


def _crs(file: Any, text: str) -> str | None:
    for holder in (file[GRID], file):
        if "epsg_code" in holder.attrs:
            return "EPSG:" + hdf5.text_of(holder.attrs["epsg_code"]).upper().removeprefix("EPSG:")
    zone = re.search(r"ZoneCode=(-?\d+)", text)
    if "HE5_GCTP_UTM" not in text or zone is None:
        return None
    number = int(zone[1])
    return f"EPSG:{32600 + number if number > 0 else 32700 - number}"


def _acquired(fields: Any, path: str) -> str | None:
    """Take the time from the name (20250926_092059), else from the middle of the pixels' times (Unix seconds)."""
    name = re.sub(r"(20\d{6})_(\d{6})", r"\1T\2", Path(path).name)
    found = iso_time(name)
    if found or "time" not in fields:
        return found
    times = fields["time"]
    seconds = hdf5.numbers_of(times[times.shape[0] // 2] if times.ndim else times[()], path, "time")[-1]
    if not 1e9 < seconds < 1e10:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
