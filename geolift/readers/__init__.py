"""The only code that opens inputs: one file per product family, all giving the same lazy cube."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import xarray as xr

from geolift.errors import InputError
from geolift.readers import raster
from geolift.settings import Reading


class Reader(Protocol):
    """One product family: recognises its files by content and opens them as cubes."""

    def matches(self, path: str) -> bool:
        """Tell whether the file or folder is of this family."""
        ...

    def open(self, path: str, reading: Reading, tile: int | None = None) -> xr.DataArray:
        """Open it lazily; see `geolift.cube` for what comes back."""
        ...


READERS: tuple[Reader, ...] = (raster.RasterReader(),)


def open_cube(path: str | Path, reading: Reading | None = None, tile: int | None = None) -> xr.DataArray:
    """Open any supported file as a lazy cube (band, y, x) of physical values, NaN = invalid.

    Parameters
    ----------
    path : path or GDAL name
        A file, an ENVI header, a `/vsi…` name.
    reading : Reading, optional
        What the user says of the file; it wins over the file's own metadata.
    tile : int, optional
        Edge of the Dask chunks in pixels; by default about 32 MB that respect the file's blocks.

    Returns
    -------
    xarray.DataArray
        float32, backed by Dask; ``attrs["warnings"]`` lists what had to be assumed.

    Raises
    ------
    InputError
        If the file is missing, unreadable, or contradicts itself.
    """
    name = str(path)
    remote = name.startswith(("/vsi", "http://", "https://", "s3://", "gs://", "az://"))
    if not remote and not Path(name).exists():
        raise InputError(f"{name}: no such file")
    for reader in READERS:
        if reader.matches(name):
            return reader.open(name, reading or Reading(), tile)
    raise InputError(f"{name}: no reader knows this format")
