"""Streaming, atomic raster writing: the only code that creates rasters.

Blocks are computed by a few threads and written whole by one; the file gets its name only when it is complete
and verified. Clipped values are counted, and no valid pixel ever equals nodata.
"""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
import rasterio
import xarray as xr
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.shutil import copy as copy_raster
from rasterio.windows import Window

from geolift.cube import REFLECTANCE, Bands, bands_of, grid_of, rasterio_crs
from geolift.errors import InputError, OutputExistsError, ResourceError, UsageError
from geolift.settings import WritingSettings

BLOCK = 256
REFLECTANCE_SCALE = 1e-4
RGB_NM = (660.0, 560.0, 490.0)
LIMITS = {"int16": (-32768, 32767), "uint16": (0, 65535)}
SUFFIXES = {"GTiff": ".tif", "COG": ".tif", "ENVI": ".img"}

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Encoding:
    """How values become stored numbers: DN = round(value / scale); invalid = ``nodata``."""

    dtype: str
    scale: float
    nodata: float

    @classmethod
    def of(cls, settings: WritingSettings, scale: float) -> Encoding:
        """Combine the user's dtype and nodata with a scale; float32 stores the value itself."""
        return cls(settings.dtype, 1.0 if settings.dtype == "float32" else scale, settings.nodata_value)

    def apply(self, values: np.ndarray) -> tuple[np.ndarray, int, int]:
        """Encode a block; return stored numbers, the count of clipped values and of valid values.

        A valid value that would equal nodata moves to its neighbour.
        """
        valid = np.isfinite(values)
        if self.dtype == "float32":
            stored = np.where(valid, values, np.float32(self.nodata)).astype(np.float32)
            hit = valid & (stored == np.float32(self.nodata))
            stored[hit] = np.nextafter(stored[hit], np.float32(np.inf))
            return stored, 0, int(valid.sum())
        low, high = LIMITS[self.dtype]
        if self.nodata == low:
            low += 1
        if self.nodata == high:
            high -= 1
        scaled = np.rint(np.where(valid, values, 0) * np.float32(1.0 / self.scale))
        clipped = int(((scaled < low) | (scaled > high)).sum())
        scaled = np.clip(scaled, low, high)
        hit = valid & (scaled == self.nodata)
        scaled[hit] += np.where(values[hit] / self.scale >= self.nodata, 1, -1)
        scaled[~valid] = self.nodata
        return scaled.astype(self.dtype), clipped, int(valid.sum())


@dataclass(frozen=True)
class WriteReport:
    """What was written: where, how encoded, and how many values were clipped or invalid."""

    path: Path
    encoding: Encoding
    n_values: int
    n_clipped: int
    n_valid_pixels: int


def choose_scale(dtype: str, quantity: str, sample: np.ndarray) -> float:
    """Choose what one step of the stored numbers is worth: 1e-4 for reflectance that fits, else what fits the sample.

    Parameters
    ----------
    sample : float array
        Values like those to be written (the LR-HSI's), NaN = invalid.
    """
    if dtype == "float32":
        return 1.0
    high = LIMITS[dtype][1] - 1
    magnitudes = np.abs(sample[np.isfinite(sample)])
    fits = magnitudes.size == 0 or np.mean(magnitudes > high * REFLECTANCE_SCALE) <= 1e-3
    if quantity == REFLECTANCE and fits:
        return REFLECTANCE_SCALE
    if magnitudes.size == 0 or magnitudes.max() == 0:
        return 1.0
    # Twice the largest value seen, on a 1-2-5 ladder, so that the scale is a number people can read.
    needed = 2.0 * float(magnitudes.max()) / high
    decade = 10.0 ** np.floor(np.log10(needed))
    return next(float(f"{step * decade:.0e}") for step in (1, 2, 5, 10) if step * decade >= needed * (1 - 1e-9))


def check_output(path: Path, overwrite: bool, inputs: tuple[str, ...] = ()) -> None:
    """Refuse an output that exists, is an input, or whose folder cannot be written.

    Raises
    ------
    OutputExistsError, UsageError, ResourceError
    """
    folder = path.parent
    if not folder.is_dir():
        raise ResourceError(f"{path}: the folder {folder} does not exist; create it first")
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name a file in it")
    if any(Path(name).exists() and path.exists() and path.samefile(name) for name in inputs):
        raise UsageError(f"{path}: is an input; give the output another name")
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path}: exists already. Pass --overwrite to replace it.")
    if not os.access(folder, os.W_OK):
        raise ResourceError(f"{path}: the folder {folder} cannot be written")


def tile_edge(tile_size: int, creation_options: Mapping[str, str]) -> int:
    """Round a processing tile up to whole blocks of the file."""
    block = int(creation_options.get("BLOCKXSIZE", creation_options.get("BLOCKSIZE", BLOCK)))
    return -(-tile_size // block) * block


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
) -> WriteReport:
    """Stream a lazy cube to a raster file.

    Parameters
    ----------
    cube : xarray.DataArray (band, y, x)
        Lazy or in memory, physical values, NaN = invalid.
    path : Path
        Final name; nothing appears under it before the file is complete.
    threads : int
        Blocks computed at once; one more waits for the writer.
    progress : callable
        Told the share of blocks written, 0 to 1.

    Raises
    ------
    OutputExistsError, ResourceError, UsageError
    """
    check_output(path, settings.overwrite)
    part = _part_name(path)
    try:
        with _disk_errors(path):
            counts = _write_blocks(cube, part, settings, encoding, threads, tile_size, tags or {}, progress)
            if settings.of == "ENVI":
                _describe_envi(part, path)
            _verify(part, cube, settings, encoding)
            if settings.of == "COG":
                _to_cog(part, settings)
            _publish(part, path)
    finally:
        _remove_parts(part)
    return WriteReport(path, encoding, *counts)


def _write_blocks(
    cube: xr.DataArray,
    part: Path,
    settings: WritingSettings,
    encoding: Encoding,
    threads: int,
    tile_size: int,
    tags: Mapping[str, str],
    progress: Progress | None,
) -> tuple[int, int, int]:
    edge = tile_edge(tile_size, settings.creation_options)
    n_values = n_clipped = n_valid = 0
    with _created(part, cube, settings, encoding, tags) as target:
        for done, (row, col, block) in enumerate(_blocks(cube, edge, threads, encoding), start=1):
            stored, clipped, valid, valid_pixels = block.result
            target.write(stored, window=Window(col, row, stored.shape[2], stored.shape[1]))
            n_values, n_clipped, n_valid = n_values + valid, n_clipped + clipped, n_valid + valid_pixels
            if progress is not None:
                progress(done / block.total)
    return n_values, n_clipped, n_valid


@dataclass(frozen=True)
class _Block:
    result: tuple[np.ndarray, int, int, int]
    total: int


def _blocks(
    cube: xr.DataArray, edge: int, threads: int, encoding: Encoding
) -> Iterator[tuple[int, int, _Block]]:
    """Compute the blocks of a cube in row-major order, at most ``threads`` + 1 in memory."""
    rows, cols = cube.shape[1:]
    windows = [(r, c) for r in range(0, rows, edge) for c in range(0, cols, edge)]
    data = cube.data

    def compute(row: int, col: int) -> tuple[np.ndarray, int, int, int]:
        part = data[:, row : row + edge, col : col + edge]
        if not isinstance(part, np.ndarray):
            (part,) = dask.compute(part, scheduler="synchronous")
        valid_pixels = int(np.isfinite(part).any(axis=0).sum())
        return (*encoding.apply(part), valid_pixels)

    pool = ThreadPoolExecutor(threads, thread_name_prefix="geolift-tile")
    waiting: deque[tuple[int, int, Future[tuple[np.ndarray, int, int, int]]]] = deque()
    remaining = iter(windows)
    try:
        for row, col in remaining:
            waiting.append((row, col, pool.submit(compute, row, col)))
            if len(waiting) > threads:
                row, col, future = waiting.popleft()
                yield row, col, _Block(future.result(), len(windows))
        while waiting:
            row, col, future = waiting.popleft()
            yield row, col, _Block(future.result(), len(windows))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _created(
    part: Path, cube: xr.DataArray, settings: WritingSettings, encoding: Encoding, tags: Mapping[str, str]
) -> Iterator[Any]:
    """Create the part file with all its metadata; pixel writes follow."""
    grid, bands = grid_of(cube), bands_of(cube)
    profile: dict[str, Any] = {
        "driver": "ENVI" if settings.of == "ENVI" else "GTiff",
        "dtype": encoding.dtype,
        "count": len(bands),
        "height": grid.shape[0],
        "width": grid.shape[1],
        "crs": rasterio_crs(grid),
        "transform": grid.affine,
        "nodata": encoding.nodata,
    }
    profile |= _creation_options(settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        target = rasterio.open(part, "w", **profile)
    try:
        _describe(target, cube, bands, encoding, tags)
        yield target
    finally:
        target.close()


def _creation_options(settings: WritingSettings) -> dict[str, str]:
    if settings.of == "ENVI":
        return {"INTERLEAVE": "BSQ", **settings.creation_options}
    defaults = {
        "TILED": "YES",
        "BLOCKXSIZE": str(BLOCK),
        "BLOCKYSIZE": str(BLOCK),
        "INTERLEAVE": "BAND",
        "COMPRESS": "ZSTD",
        "ZSTD_LEVEL": "1",
        "BIGTIFF": "IF_SAFER",
        "PHOTOMETRIC": "MINISBLACK",
        "NUM_THREADS": "2",
    }
    given = settings.creation_options if settings.of == "GTiff" else {}
    if "BLOCKSIZE" in given:
        given = {**given, "BLOCKXSIZE": given["BLOCKSIZE"], "BLOCKYSIZE": given["BLOCKSIZE"]}
        del given["BLOCKSIZE"]
    merged = defaults | given
    if merged["COMPRESS"].upper() != "ZSTD":
        merged.pop("ZSTD_LEVEL", None)
    return merged


def _describe(
    target: Any, cube: xr.DataArray, bands: Bands, encoding: Encoding, tags: Mapping[str, str]
) -> None:
    """Write scale, wavelengths, FWHM and bad-band flags where QGIS, EnMAP-Box, GDAL, ENVI and SPy look for them."""
    count = len(bands)
    integer = encoding.dtype != "float32"
    envi = target.driver == "ENVI"
    if integer:
        target.scales = (encoding.scale,) * count
        target.offsets = (0.0,) * count
    target.descriptions = _descriptions(bands)
    spectral = np.isfinite(bands.wavelength_nm).all()
    for index in range(count):
        band_tags = {"bbl": str(int(bands.good[index]))}
        if np.isfinite(bands.wavelength_nm[index]):
            centre = float(bands.wavelength_nm[index])
            band_tags |= {"wavelength": repr(centre), "wavelength_units": "Nanometers"}
            target.update_tags(index + 1, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=f"{centre / 1000:.9g}")
        if np.isfinite(bands.fwhm_nm[index]):
            width = float(bands.fwhm_nm[index])
            band_tags["fwhm"] = repr(width)
            target.update_tags(index + 1, ns="IMAGERY", FWHM_UM=f"{width / 1000:.9g}")
        target.update_tags(index + 1, **band_tags)
    rgb = default_rgb(bands)
    if envi:
        target.update_tags(ns="ENVI", **_envi_header(bands, spectral, rgb, encoding, cube))
    elif rgb is not None:
        colours = [ColorInterp.undefined] * count
        for colour, band in zip((ColorInterp.red, ColorInterp.green, ColorInterp.blue), rgb, strict=True):
            colours[band] = colour
        target.colorinterp = colours
    target.update_tags(**tags)


def _descriptions(bands: Bands) -> tuple[str, ...]:
    """Name bands in the style "band 12 (513.2 Nanometers)", unless they have names of their own."""
    texts = []
    for index, name in enumerate(bands.names):
        centre = bands.wavelength_nm[index]
        generic = name.lower().startswith("band ") or "nanometers" in name.lower()
        texts.append(f"band {index + 1} ({centre:.10g} Nanometers)" if generic and np.isfinite(centre) else name)
    return tuple(texts)


def default_rgb(bands: Bands) -> tuple[int, int, int] | None:
    """Return the 0-based good bands nearest to red, green and blue, or None if the range lacks one."""
    centres = np.where(bands.good, bands.wavelength_nm, np.nan)
    if not np.isfinite(centres).any():
        return None
    picked = [int(np.nanargmin(np.abs(centres - target))) for target in RGB_NM]
    near = all(abs(centres[band] - target) < 50 for band, target in zip(picked, RGB_NM, strict=True))
    return (picked[0], picked[1], picked[2]) if near and len(set(picked)) == 3 else None


def _envi_header(
    bands: Bands, spectral: bool, rgb: tuple[int, int, int] | None, encoding: Encoding, cube: xr.DataArray
) -> dict[str, str]:
    def listed(values: Any) -> str:
        return "{" + ", ".join(values) + "}"

    header = {"bbl": listed(str(int(flag)) for flag in bands.good)}
    if spectral:
        header["wavelength"] = listed(repr(float(v)) for v in bands.wavelength_nm)
        header["wavelength_units"] = "Nanometers"
        if np.isfinite(bands.fwhm_nm).all():
            header["fwhm"] = listed(repr(float(v)) for v in bands.fwhm_nm)
    if rgb is not None:
        header["default_bands"] = listed(str(band + 1) for band in rgb)
    if encoding.dtype != "float32":
        # SPy and ENVI divide by this factor; GDAL and EnMAP-Box multiply by the `data gain values` GDAL writes.
        header["reflectance_scale_factor"] = f"{1 / encoding.scale:.10g}"
    if cube.attrs.get("acquired"):
        header["acquisition_time"] = str(cube.attrs["acquired"])
    return header


def _describe_envi(part: Path, path: Path) -> None:
    """Name the product in the header, where GDAL has put the part file's path."""
    header = part.with_suffix(".hdr")
    text = header.read_text(encoding="utf-8")
    text = re.sub(r"description = \{[^}]*\}", lambda _: f"description = {{{path.stem}}}", text, count=1)
    header.write_text(text, encoding="utf-8")


def _verify(part: Path, cube: xr.DataArray, settings: WritingSettings, encoding: Encoding) -> None:
    """Reopen the finished file: grid, bands and nodata as intended, every block on disk."""
    grid, bands = grid_of(cube), bands_of(cube)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(part) as source:
            if source.shape != tuple(grid.shape) or source.count != len(bands):
                raise ResourceError(f"{part.name}: written as {source.count} × {source.shape}, which is not the plan")
            if source.driver == "ENVI":
                expected = source.count * source.width * source.height * np.dtype(encoding.dtype).itemsize
                complete = part.stat().st_size >= expected
            else:
                complete = _all_blocks_on_disk(source, part.stat().st_size)
    if not complete:
        raise ResourceError(f"{part.name}: blocks are missing on disk; is the disk full?")


def _all_blocks_on_disk(source: Any, file_size: int) -> bool:
    """GDAL reports a failed flush only in its log; the block directory tells for certain."""
    block_rows, block_cols = source.block_shapes[0]
    pixel_interleaved = source.profile.get("interleave") == "pixel"
    for band in [1] if pixel_interleaved else source.indexes:
        for row in range(-(-source.height // block_rows)):
            for col in range(-(-source.width // block_cols)):
                offset = source.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=band)
                size = source.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", bidx=band)
                if offset is None or size is None or int(offset) + int(size) > file_size:
                    return False
    return True


def _to_cog(part: Path, settings: WritingSettings) -> None:
    """Turn the finished GeoTIFF into a COG; a second step, since the COG driver copies whole files."""
    plain = part.with_name(part.name + ".plain.tif")
    part.replace(plain)
    options = {"COMPRESS": "ZSTD", "BIGTIFF": "IF_SAFER", "BLOCKSIZE": "512", "NUM_THREADS": "2"}
    try:
        copy_raster(plain, part, driver="COG", **(options | settings.creation_options))
    finally:
        plain.unlink(missing_ok=True)


def _part_name(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")


def _companions(path: Path) -> dict[str, Path]:
    return {
        "data": path,
        "header": path.with_suffix(".hdr"),
        "aux": path.with_name(path.name + ".aux.xml"),
    }


def _publish(part: Path, path: Path) -> None:
    """Give the finished files their names; the data file last, since its name is what people wait for."""
    ours, final = _companions(part), _companions(path)
    for kind in ("aux", "header", "data"):
        if kind == "header" and path.suffix.lower() in {".tif", ".tiff"}:
            continue
        if ours[kind].exists():
            ours[kind].replace(final[kind])
        elif kind == "aux":
            final[kind].unlink(missing_ok=True)


def _remove_parts(part: Path) -> None:
    for leftover in (*_companions(part).values(), part.with_name(part.name + ".plain.tif")):
        leftover.unlink(missing_ok=True)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Tell a full disk or a lost folder from a bug."""
    try:
        yield
    except (InputError, ResourceError):
        raise
    except (RasterioError, OSError) as error:
        try:
            free = shutil.disk_usage(path.parent).free
        except OSError:
            free = 0
        raise ResourceError(
            f"{path}: cannot be written: {str(error).splitlines()[0]}. {free / 1e9:.2f} GB are free there."
        ) from error
