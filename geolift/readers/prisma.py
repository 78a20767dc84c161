"""PRISMA L2D: HDF-EOS5 with one cube per detector, axes row, band, column, bands in descending wavelength."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geolift.datamodel.cube import REFLECTANCE, Bands
from geolift.errors import InputError
from geolift.readers import gate, hdf5
from geolift.readers.product import Product, ProductReader, grid_from_corners, iso_time
from geolift.readers.source import BandIndices, Decoding, Layout, ranges, sample_windows
from geolift.readers.wavelengths import in_nanometres

NAME = "PRISMA L2D"
SWATH = "HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields"
OTHER_LEVELS = {"PRS_L1_HCO": "L1", "PRS_L1_HRC": "L1", "PRS_L2B_HCO": "L2B", "PRS_L2C_HCO": "L2C"}
COUNTS = 65_535.0
LEAST_REFLECTANCE, LARGEST_REFLECTANCE = -0.2, 5.0
PIXEL_M = 30.0
# Flags of the error matrices: 1 invalid already in L1, 3 saturated. 2, negative, is a dark pixel: the value stays.
UNUSABLE_FLAGS = (1, 3)
MOSTLY = 0.5


@dataclass(frozen=True, kw_only=True)
class _Detector:
    """One detector's slots that hold a band: 0-based slot, centre and FWHM in nm, scale and offset of its counts."""

    name: str
    slots: np.ndarray
    wavelength_nm: np.ndarray
    fwhm_nm: np.ndarray
    scale: float
    offset: float
    has_errors: bool


class _Cubes:
    """Both detectors as one set of numbers, in ascending wavelength."""

    def __init__(self, path: str, detectors: tuple[_Detector, ...], order: np.ndarray) -> None:
        file = hdf5.SharedHdf5(path)
        self._order = order
        self._values = [hdf5.Hdf5Cube(file, f"{SWATH}/{d.name}_Cube", "ybx", d.slots) for d in detectors]
        self._errors = [
            hdf5.Hdf5Cube(file, f"{SWATH}/{d.name}_PIXEL_L2_ERR_MATRIX", "ybx", d.slots) if d.has_errors else None
            for d in detectors
        ]
        first = self._values[0].layout
        self.path = path
        self.layout = Layout(len(order), first.shape, first.dtype, first.block)

    def read(self, rows: slice, cols: slice, bands: BandIndices | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Return a window (band, y, x) of counts, and where the error matrices call them usable."""
        wanted = self._order if bands is None else self._order[list(bands)]
        shape = (len(wanted), rows.stop - rows.start, cols.stop - cols.start)
        stored, valid = np.empty(shape, self.layout.dtype), np.ones(shape, dtype=bool)
        start = 0
        for values, errors in zip(self._values, self._errors, strict=True):
            count = values.layout.count
            positions = np.flatnonzero((wanted >= start) & (wanted < start + count))
            if positions.size:
                local = wanted[positions] - start
                stored[positions] = values.read(rows, cols, local)[0]
                if errors is not None:
                    valid[positions] = ~np.isin(errors.read(rows, cols, local)[0], UNUSABLE_FLAGS)
            start += count
        return stored, valid


class PrismaReader(ProductReader):
    """Geocoded surface reflectance of PRISMA."""

    def matches(self, path: str) -> bool:
        """Look for a PRISMA swath; levels that are not geocoded match too, to be refused with the reason."""
        return hdf5.holds(path, SWATH, *(f"HDFEOS/SWATHS/{name}" for name in OTHER_LEVELS))

    def product(self, path: str, bands: Sequence[str] | None = None) -> Product:
        """Open an L2D file as a lazy cube, bands of both detectors in ascending wavelength."""
        notes: list[str] = []
        with hdf5.opened(path, NAME) as file:
            _require_l2d(file, path)
            detectors = tuple(_detector(file, name, path, notes) for name in ("VNIR", "SWIR"))
            wavelength = np.concatenate([d.wavelength_nm for d in detectors])
            order = np.argsort(wavelength, kind="stable")
            stored = _Cubes(path, detectors, order)
            corners = [_corner(file, name, path) for name in ("ULcorner", "LRcorner")]
            code = gate.integer(hdf5.number_of(file.attrs["Epsg_Code"], path, "Epsg_Code"), path, "Epsg_Code")
            started = hdf5.text_of(file.attrs.get("Product_StartTime", ""))
        grid = grid_from_corners(corners[0], corners[1], stored.layout.shape, PIXEL_M, f"EPSG:{code}", path)
        return Product(
            source=path,
            stored=stored,
            grid=grid,
            bands=_bands(detectors, order, _usable_bands(stored, notes)),
            decoding=_decoding(detectors, order),
            quantity=REFLECTANCE,
            name=NAME,
            sensor="PRISMA",
            driver="HDF5",
            acquired=iso_time(started) or iso_time(Path(path).name),
            wavelengths_from="List_Cw_Vnir, List_Cw_Swir",
            notes=notes,
        )


def _require_l2d(file: Any, path: str) -> None:
    if SWATH in file:
        return
    level = next((level for name, level in OTHER_LEVELS.items() if f"HDFEOS/SWATHS/{name}" in file), "unknown")
    raise InputError(f"{path}: PRISMA {level} is not geocoded; needed is the L2D product of the scene (PRS_L2D_…he5)")


def _detector(file: Any, name: str, path: str, notes: list[str]) -> _Detector:
    title = name.capitalize()
    lists = (f"List_Cw_{title}", f"List_Fwhm_{title}", f"List_Cw_{title}_Flags")
    centres, widths = (hdf5.numbers_of(file.attrs[key], path, key) for key in lists[:2])
    flags = hdf5.numbers_of(file.attrs.get(lists[2], np.ones(len(centres))), path, lists[2])
    cube = file[f"{SWATH}/{name}_Cube"]
    depth = cube.shape[1] if cube.ndim == 3 else 0
    if not len(centres) == len(widths) == len(flags) == depth:
        raise InputError(
            f"{path}: {name} has {depth} slots, but {len(centres)} centres, {len(widths)} widths and {len(flags)} flags"
        )
    slots = np.flatnonzero((centres > 0) & (flags != 0))
    if slots.size == 0:
        raise InputError(f"{path}: no slot of {name} carries a wavelength")
    wavelength, fwhm = in_nanometres(centres[slots], widths[slots], path, f"List_Cw_{title}", notes)
    ends = [f"L2Scale{title}{end}" for end in ("Min", "Max")]
    low, high = (hdf5.number_of(file.attrs[key], path, key) for key in ends)
    if not LEAST_REFLECTANCE <= low < high or high > LARGEST_REFLECTANCE:
        notes.append(f"{path}: {name}'s values span {low:g} to {high:g} ({', '.join(ends)}): no usual reflectance")
    errors = f"{SWATH}/{name}_PIXEL_L2_ERR_MATRIX" in file
    return _Detector(
        name=name,
        slots=slots,
        wavelength_nm=wavelength,
        fwhm_nm=fwhm,
        scale=(high - low) / COUNTS,
        offset=low,
        has_errors=errors,
    )


def _corner(file: Any, name: str, path: str) -> tuple[float, float]:
    keys = [f"Product_{name}_{axis}" for axis in ("easting", "northing")]
    easting, northing = (hdf5.number_of(file.attrs[key], path, key) for key in keys)
    return easting, northing


def _usable_bands(stored: _Cubes, notes: list[str]) -> np.ndarray:
    """Call a band bad that the error matrices flag in most of a sample: else it would spoil every pixel."""
    flagged, seen = np.zeros(stored.layout.count), 0
    for rows, cols in sample_windows(stored.layout.shape):
        counts, valid = stored.read(rows, cols)
        inside = (counts != 0).any(axis=0)
        flagged += (~valid.astype(bool) & inside).sum(axis=(1, 2)) if valid is not None else 0
        seen += int(inside.sum())
    usable = flagged <= MOSTLY * max(seen, 1)
    if not usable.all():
        bad = ranges(np.flatnonzero(~usable) + 1)
        notes.append(f"{stored.path}: bands {bad} are flagged as erroneous in most pixels and count as bad")
    return usable


def _bands(detectors: tuple[_Detector, ...], order: np.ndarray, good: np.ndarray) -> Bands:
    names = [f"{d.name} {slot + 1}" for d in detectors for slot in d.slots]
    return Bands(
        tuple(names[i] for i in order),
        np.concatenate([d.wavelength_nm for d in detectors])[order],
        np.concatenate([d.fwhm_nm for d in detectors])[order],
        good,
    )


def _decoding(detectors: tuple[_Detector, ...], order: np.ndarray) -> Decoding:
    """Counts 0…65535 span the detector's minimum to maximum; a pixel is empty where every band holds 0."""
    scale = np.concatenate([np.full(len(d.slots), d.scale) for d in detectors])[order]
    offset = np.concatenate([np.full(len(d.slots), d.offset) for d in detectors])[order]
    nothing: tuple[float | None, ...] = (None,) * len(order)
    return Decoding(scale=tuple(scale.tolist()), offset=tuple(offset.tolist()), nodata=nothing, empty=0.0)
