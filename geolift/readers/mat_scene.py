"""Scenes of benchmarks, as MATLAB files carry them: a bare cube without grid or metadata."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy.io.matlab import MatReadError

from geolift.datamodel.cube import make_cube
from geolift.errors import InputError
from geolift.readers import gate, spectral_metadata
from geolift.readers.mat_check import sound_variables
from geolift.readers.product import unknown_spectra
from geolift.settings import Reading

UNREADABLE = (
    ArithmeticError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError, zlib.error,
    MatReadError,
)  # fmt: skip
"""What SciPy and h5py raise for files that are damaged."""


def open_mat_scene(path: str | Path, reading: Reading | None = None) -> xr.DataArray:
    """Read the scene of a MATLAB file (also v7.3) into memory; its pixels become the units of an invented grid.

    Raises InputError if the file cannot be read or holds no such variable.

    ``path``: with one numeric variable (rows, cols, bands), by preference ``data``; or with ``Y`` (bands, pixels),
    pixels in MATLAB's order, down the columns first, of an image ``nRow`` × ``nCol`` or else a square. ``reading``: its
    ``wavelengths`` and ``nodata``.
    """
    name, said = str(path), reading or Reading()
    values = _scene(_variables(name), name).astype(np.float32)
    if said.nodata is not None:
        values[values == np.float32(said.nodata)] = np.nan
    notes: list[str] = []
    bands = unknown_spectra(tuple(f"band {i + 1}" for i in range(len(values))))
    if said.wavelengths is not None:
        told = spectral_metadata.from_table(said.wavelengths, len(values), name, notes)
        good = bands.good if told.good is None else told.good
        bands = replace(bands, wavelength_nm=told.wavelength_nm, fwhm_nm=told.fwhm_nm, good=good)
    grid = GeoBox(values.shape[1:], Affine.scale(1, -1), None)
    return make_cube(values, grid=grid, bands=bands, attrs={"source": name, "warnings": notes})


def _variables(path: str) -> dict[str, np.ndarray]:
    """Return the numeric variables of a file, axes as MATLAB has them."""
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    try:
        if h5py.is_hdf5(path):  # v7.3; HDF5 keeps MATLAB's axes in reverse
            with h5py.File(path) as file:
                arrays = {key: item for key, item in file.items() if isinstance(item, h5py.Dataset) and item.ndim >= 2}
                found: Mapping[str, Any] = {key: item[()].T for key, item in arrays.items()}
        else:
            found = scipy.io.loadmat(path, variable_names=sound_variables(path))
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(f"{path}: not a MATLAB file that can be read: {error}") from error
    return {
        key: value
        for key, value in found.items()
        if isinstance(value, np.ndarray) and value.dtype.kind in "iuf" and not key.startswith("__")
    }


def _scene(variables: Mapping[str, np.ndarray], path: str) -> np.ndarray:
    """Choose the scene among the variables; (band, y, x)."""
    cubes = {key: value for key, value in variables.items() if value.ndim == 3}
    if "data" in cubes or len(cubes) == 1:
        cube = cubes.get("data", next(iter(cubes.values())))
        return np.moveaxis(cube, 2, 0)
    if not cubes and variables.get("Y", np.empty(0)).ndim == 2:
        bands, pixels = variables["Y"].shape
        side = round(pixels**0.5)
        rows, cols = (
            gate.integer(np.ravel(variables[key])[0], path, key) if key in variables and variables[key].size else side
            for key in ("nRow", "nCol")
        )
        if rows * cols == pixels:
            return variables["Y"].reshape(bands, cols, rows).transpose(0, 2, 1)
    held = ", ".join(f"{key} {value.shape}" for key, value in variables.items()) or "no numeric variable"
    raise InputError(
        f"{path}: holds {held}; needed is a scene `data` (rows, cols, bands), one cube of another name, "
        "or `Y` (bands, pixels)"
    )
