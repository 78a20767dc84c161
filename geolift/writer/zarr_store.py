"""A Zarr store: each worker writes its own shards, so that no single writer is in the way."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from geolift.datamodel.cube import bands_of, grid_of
from geolift.datamodel.encoding import Counts, Encoding
from geolift.errors import ResourceError, UsageError
from geolift.settings import WritingSettings
from geolift.writer.journal import Entry, Packed, checksum_of
from geolift.writer.tiles import BLOCK, Tile

VARIABLE = "cube"
INNER_PX = 64
"""Edge of the chunks within a shard: all bands of 64 × 64 pixels, for spectra and for windows."""
SHARD_FILE = "c/0/{}/{}"


def _zarr() -> Any:
    try:
        import zarr
    except ImportError as error:
        raise UsageError("--of Zarr needs the package zarr: pip install 'geolift[zarr]'") from error
    return zarr


def shard_edge(settings: WritingSettings) -> int:
    """Return the edge of a shard in pixels, ``--co BLOCKSIZE``."""
    edge = int(settings.creation_options.get("BLOCKSIZE", BLOCK))
    if edge % INNER_PX:
        raise UsageError(f"--co BLOCKSIZE={edge}: a Zarr shard is a multiple of {INNER_PX} pixels")
    return edge


def create_store(folder: Path, cube: xr.DataArray, settings: WritingSettings, encoding: Encoding) -> None:
    """Create the store with all its metadata and no pixels: CF for xarray and GDAL, GeoZarr's proj and spatial."""
    zarr = _zarr()
    grid, bands, edge = grid_of(cube), bands_of(cube), shard_edge(settings)
    affine = [float(v) for v in tuple(grid.affine)[:6]]
    coords: dict[str, Any] = {
        "wavelength": ("band", bands.wavelength_nm, {"units": "nm", "standard_name": "radiation_wavelength"}),
        "fwhm": ("band", bands.fwhm_nm, {"units": "nm"}),
        "good": ("band", bands.good.astype(np.int8)),
        "spatial_ref": ((), 0, dict(cube.coords["spatial_ref"].attrs)),
    }
    for name in ("y", "x"):
        if name in cube.coords:
            units = "degree" if grid.crs is not None and grid.crs.geographic else "m"
            coords[name] = (name, cube.coords[name].values, {"units": units, "axis": name.upper()})
    attributes = {"grid_mapping": "spatial_ref", "quantity": str(cube.attrs.get("quantity", "unknown"))}
    lazy = da.zeros(cube.shape, chunks=(cube.shape[0], edge, edge), dtype=np.float32)
    dataset = xr.Dataset({VARIABLE: (("band", "y", "x"), lazy, attributes)}, coords=coords)
    dataset.attrs = {
        "Conventions": "CF-1.10",
        "spatial:dimensions": ["y", "x"],
        "spatial:transform": affine,
        "spatial:shape": [int(n) for n in grid.shape],
        "spatial:registration": "pixel",
    }
    if grid.crs is not None:
        dataset.attrs["proj:wkt2"] = grid.crs.wkt
    stored: dict[str, Any] = {
        "dtype": encoding.dtype,
        "_FillValue": encoding.nodata if encoding.dtype == "float32" else int(encoding.nodata),
        "chunks": (cube.shape[0], INNER_PX, INNER_PX),
        "shards": (cube.shape[0], edge, edge),
        "compressors": [zarr.codecs.ZstdCodec(level=1)],
    }
    if encoding.dtype != "float32":
        stored |= {"scale_factor": encoding.scale, "add_offset": 0.0}
    dataset.to_zarr(folder, mode="w", compute=False, consolidated=False, zarr_format=3, encoding={VARIABLE: stored})


@lru_cache(maxsize=4)
def _array(folder: str) -> Any:
    return _zarr().open_group(folder, mode="r+")[VARIABLE]


def _shards(folder: str, tile: Tile, edge: int) -> list[Path]:
    rows = range(tile.row // edge, -(-(tile.row + tile.rows) // edge))
    cols = range(tile.col // edge, -(-(tile.col + tile.cols) // edge))
    return [Path(folder) / VARIABLE / SHARD_FILE.format(row, col) for row in rows for col in cols]


def _checksum(folder: str, tile: Tile, edge: int) -> int:
    # A shard without a file holds nodata alone.
    return sum(checksum_of(file.read_bytes()) for file in _shards(folder, tile, edge) if file.exists()) % 2**64


@dataclass(frozen=True)
class ZarrPacker:
    """Writes a tile's shards where the work is done."""

    folder: str
    edge: int

    def __call__(self, tile: Tile, stored: np.ndarray, counts: Counts) -> Packed:
        """Write one tile (band, y, x) of whole shards."""
        rows, cols = tile.window
        _array(self.folder)[:, rows, cols] = stored
        return Packed(tile, counts, None, (), _checksum(self.folder, tile, self.edge))


class GrowingZarr:
    """A Zarr store that workers fill; it is only told what is finished."""

    stream = None

    def __init__(self, folder: Path, settings: WritingSettings) -> None:
        self.packer = ZarrPacker(str(folder.resolve()), shard_edge(settings))

    def take_back(self, entry: Entry, *, surely: bool) -> bool:
        """Accept a tile that an earlier run wrote, if its shards are there."""
        return surely or _checksum(self.packer.folder, entry.tile, self.packer.edge) == entry.checksum

    def begin(self) -> None:
        """Nothing is to be prepared."""

    def put(self, packed: Packed) -> Entry:
        """Note a tile that a worker has written."""
        return Entry(packed.tile, packed.counts, 0, packed.sizes, packed.checksum)

    def finish(self) -> None:
        """Nothing is to be concluded: metadata stand since the beginning."""

    def close(self) -> None:
        """Let go of the store."""
        _array.cache_clear()


def verify_store(folder: Path, expected: tuple[int, int, int]) -> None:
    """Reopen a finished store. Raises ResourceError if it is not what was planned."""
    found = tuple(_zarr().open_group(str(folder), mode="r")[VARIABLE].shape)
    if found != expected:
        raise ResourceError(f"{folder.name}: written as {found}, which is not the plan, {expected}")
