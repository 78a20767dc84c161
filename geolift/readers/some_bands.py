"""Some bands of a raster that GDAL opens: a file of hundreds of bands is not read whole for a picture of three."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import dask.array as da
from rasterio.errors import RasterioError

from geolift.errors import InputError
from geolift.readers import envi_header
from geolift.readers.raster import declared, settle
from geolift.readers.shared_raster import SharedRaster, first_line, open_raster
from geolift.readers.source import Decoded
from geolift.settings import Reading


def open_some_bands(path: str | Path, bands: Sequence[int]) -> da.Array:
    """Open the 0-based ``bands`` of one raster as a lazy array (band, y, x) of physical values, NaN = invalid.

    Raises InputError if the file cannot be read.
    """
    name = envi_header.data_file(str(path))
    stored = SharedRaster(name)
    try:
        with open_raster(name) as source:
            decoding, _ = settle(stored, declared(source), Reading(), [])
    except RasterioError as error:
        raise InputError(f"{name}: cannot be read: {first_line(error)}") from error
    fills = tuple(tuple(fill[band] for band in bands) for fill in decoding.fills)
    chosen = replace(decoding.take(bands), empty=decoding.empty, fills=fills)  # near enough for a picture
    return Decoded(SharedRaster(name, bands), chosen).lazy()
