"""Streaming a cube to a raster file: tiles are computed and packed by many, written by one, journalled, verified."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from rasterio.shutil import copy as copy_raster

from geolift.datamodel.cube import STANDARD_ERROR, bands_of
from geolift.datamodel.encoding import Counts, Encoding
from geolift.runtime.machine import give_back_memory
from geolift.runtime.system import gdal_threads
from geolift.settings import WritingSettings
from geolift.writer.description import create_empty, default_rgb, name_envi_product, profile_of
from geolift.writer.draft import Draft, check_output, disk_errors, draft_of
from geolift.writer.executor import Executor, Target, Threads, TileSource, TileWork, encode_values
from geolift.writer.formats import cog_block
from geolift.writer.growing import Growing, GrowingEnvi, GrowingTiff, add_band_items, verify
from geolift.writer.journal import Journal, read_journal
from geolift.writer.styles import write_ramp, write_style
from geolift.writer.tiles import BLOCK, Tile, TileValues, tile_shape, tiles_of
from geolift.writer.viewing import build_overviews, cells_of, overview_factors, sample, statistics
from geolift.writer.zarr_store import GrowingZarr, create_store, verify_store

Progress = Callable[[float], None]


@dataclass(frozen=True)
class WriteReport:
    """What was written: how encoded, how many values were valid or clipped, how many tiles were resumed."""

    encoding: Encoding
    counts: Counts
    n_tiles_resumed: int

    def to_json(self) -> dict[str, int]:
        """Return the counts as sidecars tell them."""
        counts = self.counts
        return {"valid_pixels": counts.n_valid_pixels, "values": counts.n_values, "clipped_values": counts.n_clipped}


@dataclass(frozen=True)
class _Written:
    """Counts of all tiles, how many an earlier run had written, and what is known of cells of the others."""

    counts: Counts
    n_resumed: int
    seen: dict[Tile, np.ndarray]


def write_cube(
    cube: xr.DataArray,
    path: Path,
    settings: WritingSettings,
    *,
    encoding: Encoding,
    threads: int = 1,
    tile_size: int = BLOCK,
    tags: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    draft: Draft | None = None,
    executor: Executor | None = None,
    source: TileSource | None = None,
) -> WriteReport:
    """Stream a lazy cube to a raster file. Raises OutputExistsError, ResourceError, UsageError.

    Parameters
    ----------
    cube : xarray.DataArray (band, y, x)
        Lazy or in memory, physical values, NaN = invalid.
    path : Path
        Final name; nothing appears under it before the file is complete.
    threads : int
        Tiles computed at once, where no ``executor`` is given.
    tile_size : int
        Edge of the processing tile in pixels; see `tile_shape`.
    progress : callable
        Told the share of tiles written, 0 to 1.
    draft : Draft
        Where the file grows, if the caller has opened one to be able to resume; the caller then gives the finished
        file its name with `Draft.publish`.
    source : TileSource
        What tiles are made from, if not from the cube's values.
    """
    if draft is None:
        check_output(path, settings.overwrite)
    place: AbstractContextManager[Draft] = draft_of(path) if draft is None else nullcontext(draft)
    with place as opened, disk_errors(path):
        shape = tile_shape(tile_size, settings, (cube.shape[1], cube.shape[2]))
        tiles = tiles_of((cube.shape[1], cube.shape[2]), shape)
        data = opened.plain if settings.of == "COG" else opened.finished
        if not (opened.resumed and data.exists() and opened.journal.exists()):
            opened.journal.unlink(missing_ok=True)
            data.parent.mkdir(exist_ok=True)
            if settings.of == "Zarr":
                create_store(data, cube, settings, encoding)
            else:
                create_empty(data, cube, settings, encoding, tags or {})
        growing = _growing(data, cube, settings, encoding)
        try:
            made_from = source or TileSource(cube.data, encode_values)
            cells = [] if settings.of == "Zarr" else cells_of((cube.shape[1], cube.shape[2]))
            values = TileValues(made_from.data, shape)
            target = Target(data, growing.reserve) if isinstance(growing, GrowingTiff) else None
            work = TileWork(values, encoding, growing.packer, made_from.encode, cells, made_from.lend, target)
            written = _write_tiles(growing, opened, work, tiles, executor or Threads(threads), progress)
            growing.finish()
        finally:
            growing.close()
        _complete(opened, data, cube, settings, encoding, threads, written.seen)
        if draft is None:
            opened.publish()
    return WriteReport(encoding, written.counts, written.n_resumed)


def _growing(
    data: Path, cube: xr.DataArray, settings: WritingSettings, encoding: Encoding
) -> GrowingTiff | GrowingEnvi | GrowingZarr:
    if settings.of == "Zarr":
        return GrowingZarr(data, settings)
    profile = profile_of(cube, settings, encoding)
    return GrowingEnvi(data, profile) if settings.of == "ENVI" else GrowingTiff(data, profile)


def _write_tiles(
    growing: Growing, draft: Draft, work: TileWork, tiles: list[Tile], executor: Executor, progress: Progress | None
) -> _Written:
    """Write what is not there yet."""
    there = {
        entry.tile: entry.counts
        for entry, surely in read_journal(draft.journal)
        if growing.take_back(entry, surely=surely)
    }
    total, seen = Counts(), dict[Tile, np.ndarray]()
    for tile in (wanted for wanted in tiles if wanted in there):
        total += there[tile]
    missing = [tile for tile in tiles if tile not in there]
    resumed = len(tiles) - len(missing)
    growing.begin()
    journal = Journal(draft.journal)
    try:
        for done, packed in enumerate(executor.work(work, missing), start=resumed + 1):
            journal.add(growing.put(packed), growing.stream)
            total += packed.counts
            seen |= packed.seen
            if progress is not None:
                progress(done / len(tiles))
    finally:
        journal.close()
    return _Written(total, resumed, seen)


def _complete(
    draft: Draft,
    data: Path,
    cube: xr.DataArray,
    settings: WritingSettings,
    encoding: Encoding,
    threads: int,
    seen: Mapping[Tile, np.ndarray],
) -> None:
    """Verify the finished file; add statistics, a style and overviews; make a COG of it where that is wanted."""
    expected = (cube.shape[0], cube.shape[1], cube.shape[2])
    if settings.of == "Zarr":
        verify_store(data, expected)
        return
    verify(data, expected, encoding.itemsize)
    if settings.of == "ENVI":
        name_envi_product(data, draft.path)
    sampled = sample(data, seen, threads)
    if settings.of != "ENVI":  # whose header has no place for statistics
        add_band_items(data, statistics(sampled))
    _write_look(draft.beside(draft.path.with_suffix(".qml")), cube, sampled, encoding.scale)
    factors = overview_factors((cube.shape[1], cube.shape[2]), settings)
    if factors:
        give_back_memory()
        build_overviews(data, factors, threads)
    if settings.of == "COG":
        give_back_memory()
        _to_cog(data, draft.finished, settings, cube.shape[0], encoding.itemsize)
        verify(draft.finished, expected, encoding.itemsize)


def _write_look(file: Path, cube: xr.DataArray, sampled: np.ndarray, scale: float) -> None:
    """Write how QGIS draws the raster: an error as one band on a ramp, an image with enough bands in colour."""
    bands = bands_of(cube)
    rgb = default_rgb(bands)
    if cube.attrs.get("quantity") == STANDARD_ERROR:
        good = np.flatnonzero(bands.good)
        # In the middle of the learned bands, where there is one.
        write_ramp(file, sampled, int(good[len(good) // 2]) if good.size else 0, scale)
    elif rgb is not None:
        write_style(file, sampled, rgb, scale)


def _to_cog(plain: Path, cog: Path, settings: WritingSettings, bands: int, itemsize: int) -> None:
    """Turn the finished GeoTIFF into a COG; a second step, since the COG driver copies whole files."""
    options = {
        "COMPRESS": "ZSTD",
        "BIGTIFF": "IF_SAFER",
        "BLOCKSIZE": str(cog_block(settings, bands, itemsize)),
        "NUM_THREADS": gdal_threads(2),
        "OVERVIEWS": "NONE" if settings.overviews == "none" else "AUTO",
        "OVERVIEW_RESAMPLING": "AVERAGE",
    }
    copy_raster(plain, cog, driver="COG", **(options | settings.creation_options))
