"""Some bands of a raster that GDAL opens: a file of hundreds of bands is not read whole for a picture of three."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import dask.array as da
import numpy as np
from rasterio.errors import RasterioError

from geolift.errors import InputError
from geolift.readers import envi_header
from geolift.readers.raster import declared, settle
from geolift.readers.shared_raster import SharedRaster, first_line, open_raster
from geolift.readers.source import BandIndices, Decoded, Layout
from geolift.settings import Reading


class SomeBands:
    """Chosen bands of a raster, as if it had no others."""

    def __init__(self, stored: SharedRaster, bands: Sequence[int]) -> None:
        self._stored = stored
        self._bands = [int(band) for band in bands]

    @property
    def path(self) -> str:
        """The file, as messages name it."""
        return self._stored.path

    @property
    def layout(self) -> Layout:
        """Its size and blocks, with the chosen bands only."""
        return replace(self._stored.layout, count=len(self._bands))

    def read(self, rows: slice, cols: slice, bands: BandIndices | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Return one window of the chosen bands, or of some of them."""
        chosen = self._bands if bands is None else [self._bands[int(band)] for band in bands]
        return self._stored.read(rows, cols, chosen)


def open_some_bands(path: str | Path, bands: Sequence[int]) -> da.Array:
    """Open the 0-based ``bands`` of one raster as a lazy array (band, y, x) of physical values, NaN = invalid.

    Raises
    ------
    InputError
        If the file cannot be read.
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
    return Decoded(SomeBands(stored, bands), chosen).lazy()
