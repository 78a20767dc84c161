"""NEON imaging spectrometer: HDF5 with one site group, axes y, x, band."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geolift.datamodel.cube import REFLECTANCE, Bands
from geolift.errors import InputError
from geolift.readers import gate, hdf5
from geolift.readers.product import Product, ProductReader, iso_time, placed
from geolift.readers.source import Decoding
from geolift.readers.wavelengths import in_nanometres

NAME = "NEON imaging spectrometer reflectance"
USUAL_FACTOR = 10_000.0
FLIGHT_DAY = re.compile(r"(20\d\d)(\d\d)(\d\d)")


class NeonReader(ProductReader):
    """Surface reflectance of NEON's airborne platform (DP1.30006, DP3.30006)."""

    def matches(self, path: str) -> bool:
        """Look for SITE/Reflectance/Reflectance_Data."""
        return hdf5.is_hdf5(path) and _site(path) is not None

    def product(self, path: str, bands: Sequence[str] | None = None) -> Product:
        """Open a NEON file as a lazy cube."""
        notes: list[str] = []
        root = f"{_site(path)}/Reflectance"
        stored = hdf5.Hdf5Cube(hdf5.SharedHdf5(path), f"{root}/Reflectance_Data", "yxb")
        with hdf5.opened(path, NAME) as file:
            data, metadata = file[f"{root}/Reflectance_Data"], file[f"{root}/Metadata"]
            spectral = metadata["Spectral_Data"]
            fwhm = hdf5.numbers_of(spectral["FWHM"], path, "FWHM") if "FWHM" in spectral else None
            unit = spectral["Wavelength"].attrs.get("Units")
            wavelength, width = in_nanometres(
                hdf5.numbers_of(spectral["Wavelength"], path, "Wavelength"),
                fwhm,
                path,
                NAME,
                notes,
                hdf5.text_of(unit or "nm"),
            )
            told = hdf5.number_of(data.attrs.get("Scale_Factor", USUAL_FACTOR), path, "Scale_Factor")
            factor = gate.positive(told, path, "Scale_Factor")
            key = "Data_Ignore_Value"
            nodata = hdf5.number_of(data.attrs.get(key, -9999.0), path, key)
            good = _outside_windows(wavelength, path, data, file[root])
            grid = _grid(metadata["Coordinate_System"], stored.layout.shape, path)
        names = tuple(f"band {i + 1}" for i in range(len(wavelength)))
        return Product(
            source=path,
            stored=stored,
            grid=grid,
            bands=Bands(names, wavelength, width, good),
            decoding=Decoding.uniform(len(names), 1.0 / factor, nodata=nodata),
            quantity=REFLECTANCE,
            name=NAME,
            sensor="NEON imaging spectrometer",
            driver="HDF5",
            acquired=_acquired(path),
            wavelengths_from="Spectral_Data/Wavelength",
            notes=notes,
            search_fill=True,
            usual=(1.0 / USUAL_FACTOR, (0.0,)),
        )


def _site(path: str) -> str | None:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return next((name for name in file if f"{name}/Reflectance/Reflectance_Data" in file), None)
    except (KeyError, OSError, RuntimeError):
        return None


def _outside_windows(wavelength: np.ndarray, path: str, *holders: Any) -> np.ndarray:
    """Flag the bands inside the water-vapour windows that the file names as bad."""
    good = np.ones(len(wavelength), dtype=bool)
    for holder in holders:
        for key in ("Band_Window_1_Nanometers", "Band_Window_2_Nanometers"):
            if key in holder.attrs:
                window = hdf5.numbers_of(holder.attrs[key], path, key)
                if len(window) < 2:
                    raise InputError(f"{path}: {key} is {window.tolist()}; two wavelengths are needed")
                good &= (wavelength < window[0]) | (wavelength > window[1])
    return good


def _grid(system: Any, shape: tuple[int, int], path: str) -> GeoBox:
    """Read ENVI's map info: projection, reference pixel (1-based), easting, northing, pixel width and height."""
    parts = [part.strip() for part in hdf5.text_of(system["Map_Info"]).split(",")]
    if len(parts) < 7:
        raise InputError(f"{path}: its Map_Info {gate.shown(parts)} has fewer than 7 entries; it cannot be placed")
    ref_col, ref_row, easting, northing, width, height = gate.numbers(parts[1:7], path, "Map_Info").tolist()
    code = gate.integer(hdf5.text_of(system["EPSG Code"]), path, "EPSG Code")
    left, top = easting - (ref_col - 1) * width, northing + (ref_row - 1) * height
    return placed(shape, Affine(width, 0.0, left, 0.0, -height, top), f"EPSG:{code}", path)


def _acquired(path: str) -> str | None:
    """Take the flight's day, or day and time, from the file's name."""
    name = Path(path).name
    found = iso_time(name.replace("_", "T"))
    day = FLIGHT_DAY.search(name)
    return found or (f"{day[1]}-{day[2]}-{day[3]}T00:00:00Z" if day else None)
