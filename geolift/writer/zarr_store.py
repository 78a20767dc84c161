"""A Zarr store: each worker writes its own chunks, so that no single writer is in the way.

Version 2 of the format, which xarray, GDAL from 3.4 on and QGIS read. Version 3 with shards, ``--co FORMAT=3``, makes
fewer files; GDAL reads it from 3.12 on.
"""

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
FILES = {2: "0.{}.{}", 3: "c/0/{}/{}"}
"""Of a chunk, or of a shard, by its row and column."""
CHUNK_PX = {2: 128, 3: BLOCK}


def _zarr() -> Any:
    try:
        import zarr
    except ImportError as error:
        raise UsageError("--of Zarr needs the package zarr: pip install 'geolift[zarr]'") from error
    return zarr


def zarr_format(settings: WritingSettings) -> int:
    """Return the version of the format, ``--co FORMAT``."""
    told = settings.creation_options.get("FORMAT", "2").upper().removeprefix("ZARR_V")
    if told not in ("2", "3"):
        raise UsageError(f"--co FORMAT={told}: Zarr has the formats 2 and 3")
    return int(told)


def file_edge(settings: WritingSettings) -> int:
    """Return the edge in pixels of what a file holds, a chunk or a shard: ``--co BLOCKSIZE``."""
    told = settings.creation_options.get("BLOCKSIZE")
    if told is None:
        return CHUNK_PX[zarr_format(settings)]
    if not told.isdecimal() or not int(told) or int(told) % INNER_PX:
        raise UsageError(f"--co BLOCKSIZE={told}: the chunks of a Zarr store are a multiple of {INNER_PX} pixels")
    return int(told)


def create_store(folder: Path, cube: xr.DataArray, settings: WritingSettings, encoding: Encoding) -> None:
    """Create the store with all its metadata and no pixels: CF for xarray and GDAL, GeoZarr's proj and spatial."""
    _zarr()
    grid, bands, edge, version = grid_of(cube), bands_of(cube), file_edge(settings), zarr_format(settings)
    affine = [float(v) for v in tuple(grid.affine)[:6]]
    coords: dict[str, object] = {
        "wavelength": ("band", bands.wavelength_nm, {"units": "nm", "standard_name": "radiation_wavelength"}),
        "fwhm": ("band", bands.fwhm_nm, {"units": "nm"}),
        "good": ("band", bands.good.astype(np.int8)),
        "spatial_ref": ((), 0, dict(cube.coords["spatial_ref"].attrs)),
    }
    for name in ("y", "x"):
        if name in cube.coords:
            units = "degree" if grid.crs is not None and grid.crs.geographic else "m"
            coords[name] = (name, cube.coords[name].values, {"units": units, "axis": name.upper()})
    attributes: dict[str, object] = {
        "grid_mapping": "spatial_ref",
        "quantity": str(cube.attrs.get("quantity", "unknown")),
        # In plain JSON too, for whoever reads the pixels through GDAL.
        "band_names": list(bands.names),
        "wavelength_nm": _listed(bands.wavelength_nm),
        "fwhm_nm": _listed(bands.fwhm_nm),
        "good": [int(flag) for flag in bands.good],
    }
    if grid.crs is not None and version == 2:
        attributes["_CRS"] = {"wkt": grid.crs.wkt}
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
    stored: dict[str, object] = {
        "dtype": encoding.dtype,
        "_FillValue": encoding.nodata if encoding.dtype == "float32" else int(encoding.nodata),
        "chunks": (cube.shape[0], edge, edge),
        "compressors": [_zstd(version)],
    }
    if version == 3:
        stored |= {"chunks": (cube.shape[0], INNER_PX, INNER_PX), "shards": (cube.shape[0], edge, edge)}
    if encoding.dtype != "float32":
        stored |= {"scale_factor": encoding.scale, "add_offset": 0.0}
    dataset.to_zarr(
        folder, mode="w", compute=False, consolidated=version == 2, zarr_format=version, encoding={VARIABLE: stored}
    )


def _listed(values: np.ndarray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _zstd(version: int) -> Any:
    if version == 3:
        return _zarr().codecs.ZstdCodec(level=1)
    import numcodecs  # type: ignore[import-untyped]

    return numcodecs.Zstd(level=1)


@lru_cache(maxsize=4)
def _array(folder: str) -> Any:
    return _zarr().open_group(folder, mode="r+")[VARIABLE]


def _files(folder: str, tile: Tile, edge: int, version: int) -> list[Path]:
    rows = range(tile.row // edge, -(-(tile.row + tile.rows) // edge))
    cols = range(tile.col // edge, -(-(tile.col + tile.cols) // edge))
    return [Path(folder) / VARIABLE / FILES[version].format(row, col) for row in rows for col in cols]


def _checksum(folder: str, tile: Tile, edge: int, version: int) -> int:
    # A chunk without a file holds nodata alone.
    files = _files(folder, tile, edge, version)
    return sum(checksum_of(file.read_bytes()) for file in files if file.exists()) % 2**64


@dataclass(frozen=True)
class ZarrPacker:
    """Writes a tile's chunks or shards where the work is done."""

    folder: str
    edge: int
    version: int

    def __call__(self, tile: Tile, stored: np.ndarray, counts: Counts) -> Packed:
        """Write one tile (band, y, x) of whole chunks or shards."""
        rows, cols = tile.window
        _array(self.folder)[:, rows, cols] = stored
        return Packed(
            tile=tile,
            counts=counts,
            content=None,
            sizes=(),
            checksum=_checksum(self.folder, tile, self.edge, self.version),
        )


class GrowingZarr:
    """A Zarr store that workers fill; it is only told what is finished."""

    stream = None

    def __init__(self, folder: Path, settings: WritingSettings) -> None:
        self.packer = ZarrPacker(str(folder.resolve()), file_edge(settings), zarr_format(settings))

    def take_back(self, entry: Entry, *, surely: bool) -> bool:
        """Accept a tile that an earlier run wrote, if its shards are there."""
        packer = self.packer
        return surely or _checksum(packer.folder, entry.tile, packer.edge, packer.version) == entry.checksum

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
