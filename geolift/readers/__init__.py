"""The only code that opens inputs: one file per product family, all giving the same lazy cube."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import xarray as xr

from geolift.errors import InputError
from geolift.readers.arrays import open_array
from geolift.readers.band_set import BandSetReader, open_files, require_files
from geolift.readers.cf import CfReader
from geolift.readers.emit import EmitReader
from geolift.readers.eopf import EopfReader
from geolift.readers.hyperion import HyperionReader
from geolift.readers.landsat import LandsatReader
from geolift.readers.masks import invalid, mask_from_file, read_mask
from geolift.readers.neon import NeonReader
from geolift.readers.planetscope import PlanetScopeReader
from geolift.readers.prisma import PrismaReader
from geolift.readers.raster import RasterReader
from geolift.readers.sentinel2 import Sentinel2Reader
from geolift.readers.shared_raster import is_virtual
from geolift.readers.spectral_image import DESIS, ENMAP, SpectralImageReader
from geolift.readers.stac_item import StacItemReader
from geolift.readers.tanager import TanagerReader
from geolift.settings import Reading

__all__ = ["READERS", "Reader", "invalid", "mask_from_file", "open_cube", "open_cubes", "opened", "read_mask"]


class Reader(Protocol):
    """One product family: recognises its files by content and opens them as cubes."""

    def matches(self, path: str) -> bool:
        """Tell whether the file or folder is of this family."""

    def open(
        self, path: str, reading: Reading, tile: int | None = None, bands: Sequence[str] | None = None
    ) -> xr.DataArray:
        """Open it lazily; see `geolift.datamodel.cube` for what comes back."""


# The first that matches opens it; what GDAL opens as one raster comes last and explains what it cannot open.
READERS: tuple[Reader, ...] = (
    StacItemReader(),
    EopfReader(),
    Sentinel2Reader(),
    LandsatReader(),
    HyperionReader(),
    SpectralImageReader(ENMAP),
    SpectralImageReader(DESIS),
    PrismaReader(),
    EmitReader(),
    TanagerReader(),
    NeonReader(),
    PlanetScopeReader(),
    BandSetReader(),
    CfReader(),
    RasterReader(),
)


def open_cube(
    path: str | Path, reading: Reading | None = None, tile: int | None = None, bands: Sequence[str] | None = None
) -> xr.DataArray:
    """Open any supported file or product as a lazy cube (band, y, x) of physical values, NaN = invalid.

    Parameters
    ----------
    path : path or GDAL name
        A file, an ENVI header, a product's folder or metadata file, a `/vsi…` name, an address.
    reading : Reading, optional
        What the user says of the file; it wins over the file's own metadata.
    tile : int, optional
        Edge of the Dask chunks in pixels; by default about 32 MB that respect the file's blocks.
    bands : sequence of str, optional
        Which bands of a product that keeps one file per band (B02,B05,B8A), in this order; others ignore it.

    Returns
    -------
    xarray.DataArray
        float32, backed by Dask; ``attrs["warnings"]`` lists what had to be assumed.

    Raises
    ------
    InputError
        If the file is missing, unreadable, or contradicts itself.
    RemoteError
        If a remote file cannot be read after retries.
    """
    name = str(path)
    if not is_virtual(name) and not Path(name).exists():
        raise InputError(f"{name}: no such file")
    reader, found = _reader_of(name)
    return reader.open(found, reading or Reading(), tile, bands)


def opened(
    source: str | Path | xr.DataArray | xr.Dataset,
    reading: Reading | None = None,
    tile: int | None = None,
    bands: Sequence[str] | None = None,
) -> xr.DataArray:
    """Open a file as `open_cube` does; a cube that is open in Python is brought to the same form."""
    if isinstance(source, xr.DataArray | xr.Dataset):
        return open_array(source, reading)
    return open_cube(source, reading, tile, bands)


def _reader_of(path: str) -> tuple[Reader, str]:
    """Find who opens a path; a folder that is no product itself may hold exactly one.

    Raises InputError if a folder holds several products.
    """
    *families, anything = READERS
    for reader in families:
        if reader.matches(path):
            return reader, path
    inside = [
        (reader, str(entry))
        for entry in (sorted(Path(path).iterdir()) if Path(path).is_dir() else ())
        for reader in families
        if reader.matches(str(entry))
    ]
    if len({entry for _, entry in inside}) > 1:
        names = ", ".join(dict.fromkeys(Path(entry).name for _, entry in inside))
        raise InputError(f"{path}: holds several products; name one of {names}")
    return inside[0] if inside else (anything, path)


def open_cubes(
    paths: Sequence[str | Path],
    reading: Reading | None = None,
    tile: int | None = None,
    bands: Sequence[str] | None = None,
) -> xr.DataArray:
    """Open one path as `open_cube` does, or several single-band rasters on nested grids as one cube, in this order.

    Raises InputError also if there is no path, one has several bands, or the grids are not nested.
    """
    names = [str(path) for path in paths]
    if not names:
        raise InputError("no file to open")
    if len(names) == 1:
        return open_cube(names[0], reading, tile, bands)
    require_files(names)
    return open_files(names, reading or Reading(), tile, bands)
