"""Rasters that GDAL opens: GeoTIFF, COG, VRT, ENVI (BSQ, BIL, BIP), JPEG 2000 and the like."""

from __future__ import annotations

import re
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.enums import MaskFlags
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from geolift.cube import REFLECTANCE, Bands, make_cube
from geolift.errors import InputError
from geolift.readers import spectral_metadata
from geolift.settings import Reading

CHUNK_BYTES = 32_000_000
COUNTS_RANGE = (100.0, 12_000.0)
ENVI_DATA_SUFFIXES = ("", ".img", ".dat", ".bsq", ".bil", ".bip", ".raw", ".bin", ".envi")
ISO_TIME = re.compile(r"(20\d\d)-?(\d\d)-?(\d\d)T(\d\d):?(\d\d):?(\d\d)")


@dataclass(frozen=True)
class Decoding:
    """How stored numbers become physical values: value = DN × scale + offset, per band.

    ``nodata`` is compared with the stored number, before scaling; None = no such value.
    """

    scale: tuple[float, ...]
    offset: tuple[float, ...]
    nodata: tuple[float | None, ...]
    masked: bool

    def apply(self, stored: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """Return float32 values of a block (band, y, x), NaN = invalid."""
        values = stored.astype(np.float64)
        for band, nodata in enumerate(self.nodata):
            if nodata is not None and not np.isnan(nodata):
                # A float32 file keeps its nodata rounded to float32; an integer one may declare a value it cannot hold.
                marker = np.float32(nodata) if stored.dtype == np.float32 else nodata
                values[band][values[band] == marker] = np.nan
        if mask is not None:
            values[:, mask == 0] = np.nan
        values[~np.isfinite(values)] = np.nan
        scale = np.asarray(self.scale)[:, None, None]
        offset = np.asarray(self.offset)[:, None, None]
        return np.asarray(values * scale + offset, dtype=np.float32)


class SharedRaster:
    """One handle that threads take turns with, so that GDAL's block cache serves neighbouring tiles."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._source: Any = None

    def __reduce__(self) -> tuple[type[SharedRaster], tuple[str]]:
        return SharedRaster, (self.path,)

    def read(self, window: Window, decoding: Decoding) -> np.ndarray:
        """Read and decode one window of all bands. Raises InputError where the file is damaged."""
        try:
            with self._lock:
                if self._source is None:
                    self._source = _opened(self.path)
                stored = self._source.read(window=window)
                mask = self._source.dataset_mask(window=window) if decoding.masked else None
        except RasterioError as error:
            raise InputError(_damaged(self.path, window, error)) from error
        return decoding.apply(stored, mask)


def _damaged(path: str, window: Window, error: Exception) -> str:
    cause = str(error.__cause__ or error).splitlines()[0]
    return (
        f"{path}: cannot be read at rows {window.row_off:.0f} to {window.row_off + window.height:.0f}: {cause}. "
        "Is the file truncated?"
    )


class RasterReader:
    """The family of everything that GDAL opens as one raster."""

    def matches(self, path: str) -> bool:
        """Accept every file: this reader comes last and explains what it cannot open."""
        return True

    def open(self, path: str, reading: Reading, tile: int | None = None) -> xr.DataArray:
        """Open a raster as a lazy cube; see `geolift.readers.open_cube`."""
        path = _envi_data_file(path)
        try:
            source = _opened(path)
        except RasterioError as error:
            raise InputError(_explain_unopened(path, error)) from error
        with source:
            try:
                described = _describe(source, path, reading, tile)
            except RasterioError as error:
                raise InputError(f"{path}: cannot be read: {error.__cause__ or error}. Is it truncated?") from error
        return _lazy(path, described)


def _opened(path: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path)


@dataclass(frozen=True)
class _Described:
    grid: GeoBox
    bands: Bands
    decoding: Decoding
    chunks: tuple[int, int]
    attrs: dict[str, Any]


def _describe(source: Any, path: str, reading: Reading, tile: int | None) -> _Described:
    notes: list[str] = []
    if source.count == 0:
        raise InputError(f"{path}: holds no raster band itself; name one of its subdatasets: {source.subdatasets[:4]}")
    if np.dtype(source.dtypes[0]).kind == "c":
        raise InputError(f"{path}: complex numbers; needed are real ones")
    envi = {key.lower(): value for key, value in source.tags(ns="ENVI").items()}
    spectral = spectral_metadata.read(source, path, reading.wavelengths, notes)
    decoding, quantity = _decoding(source, path, envi, reading, notes)
    good = spectral.good & _has_data(source, path, decoding, notes)
    tags = source.tags()
    attrs: dict[str, Any] = {
        "source": path,
        "driver": source.driver,
        "dtype": source.dtypes[0],
        "scale": decoding.scale[0] if len(set(decoding.scale)) == 1 else list(decoding.scale),
        "offset": decoding.offset[0] if len(set(decoding.offset)) == 1 else list(decoding.offset),
        "nodata": decoding.nodata[0],
        "quantity": quantity,
        "acquired": _acquired({**tags, **envi}, path),
        "evidence": _sensor_evidence({**tags, **envi}, path),
        "wavelengths_from": spectral.origin,
        "warnings": notes,
    }
    bands = Bands(spectral.names, spectral.wavelength_nm, spectral.fwhm_nm, good)
    return _Described(_grid(source, path, reading, notes), bands, decoding, (tile, tile) if tile else _chunks(source), attrs)


def _lazy(path: str, described: _Described) -> xr.DataArray:
    rows, cols = described.grid.shape
    count = len(described.bands)
    chunk_rows, chunk_cols = described.chunks
    source = SharedRaster(path)
    row_chunks = da.core.normalize_chunks(chunk_rows, shape=(rows,))[0]
    col_chunks = da.core.normalize_chunks(chunk_cols, shape=(cols,))[0]

    def block(block_info: Any = None) -> np.ndarray:
        (_, _), (row, row_end), (col, col_end) = block_info[None]["array-location"]
        return source.read(Window(col, row, col_end - col, row_end - row), described.decoding)

    data = da.map_blocks(
        block, chunks=((count,), row_chunks, col_chunks), dtype=np.float32, meta=np.empty((0, 0, 0), np.float32)
    )
    return make_cube(data, grid=described.grid, bands=described.bands, attrs=described.attrs)


def _chunks(source: Any) -> tuple[int, int]:
    """Choose chunks of about 32 MB that respect the file's blocks: squares of tiles, or bands of whole rows."""
    block_rows, block_cols = source.block_shapes[0]
    rows, cols = source.shape
    pixels = max(1, CHUNK_BYTES // (4 * source.count))
    if block_cols >= cols:
        height = max(block_rows, pixels // cols // block_rows * block_rows)
        return min(rows, height), cols
    edge = int(np.sqrt(pixels))
    return (
        min(rows, max(block_rows, edge // block_rows * block_rows)),
        min(cols, max(block_cols, edge // block_cols * block_cols)),
    )


def _grid(source: Any, path: str, reading: Reading, notes: list[str]) -> GeoBox:
    crs = source.crs
    if reading.crs is not None:
        try:
            given = CRS.from_user_input(reading.crs)
        except CRSError as error:
            raise InputError(f"{path}: {reading.crs!r} is no CRS: {_first_line(error)}") from error
        if crs is not None and crs != given:
            notes.append(f"{path}: its own CRS is replaced by {reading.crs}")
        crs = given
    return GeoBox(source.shape, source.transform, crs.to_wkt() if crs else None)


def _decoding(
    source: Any, path: str, envi: dict[str, str], reading: Reading, notes: list[str]
) -> tuple[Decoding, str]:
    """Settle scale, offset and nodata: the user's word, then tags, then magnitude (with a warning)."""
    scales, offsets = list(source.scales), list(source.offsets)
    nodata: list[float | None] = [None if v is None else float(v) for v in source.nodatavals]
    if reading.nodata is not None:
        nodata = [reading.nodata] * source.count
    masked = any(MaskFlags.per_dataset in flags for flags in source.mask_flag_enums)
    tagged = any(s != 1 for s in scales) or any(o != 0 for o in offsets)
    factor = _number(envi.get("reflectance_scale_factor"))
    quantity = "unknown"
    if not tagged and factor and factor > 0:
        scales, tagged, quantity = [1.0 / factor] * source.count, True, REFLECTANCE
    raw = Decoding((1.0,) * source.count, (0.0,) * source.count, tuple(nodata), masked)
    median = _median_of_sample(source, raw)
    integers = np.dtype(source.dtypes[0]).kind in "iu"
    overridden = reading.scale is not None or reading.offset is not None
    if not tagged and not overridden and integers and np.dtype(source.dtypes[0]).itemsize > 1:
        low, high = COUNTS_RANGE
        if median is not None and low <= median <= high:
            scales = [1e-4] * source.count
            notes.append(
                f"{path}: integers without a scale tag, median {median:.0f}: read as reflectance × 10 000. "
                "If that is wrong, pass its scale (--hsi-scale or --msi-scale)."
            )
    if reading.scale is not None:
        scales = [reading.scale] * source.count
    if reading.offset is not None:
        offsets = [reading.offset] * source.count
    decoding = Decoding(tuple(scales), tuple(offsets), tuple(nodata), masked)
    return decoding, quantity if quantity != "unknown" else _quantity(source, median, scales, offsets)


def _quantity(source: Any, median: float | None, scales: list[float], offsets: list[float]) -> str:
    """Call it reflectance if the unit tag says so or the typical value can be one; else leave it open."""
    units = {str(u).lower() for u in source.units if u}
    if any("reflectance" in unit or unit == "1" for unit in units):
        return REFLECTANCE
    if any("radiance" in unit or "w/m" in unit or "w m" in unit or "uw" in unit for unit in units):
        return "radiance"
    if median is None:
        return "unknown"
    value = median * scales[0] + offsets[0]
    return REFLECTANCE if -0.1 <= value <= 1.2 else "unknown"


def sample_windows(shape: tuple[int, int], edge: int = 64, per_axis: int = 4) -> list[Window]:
    """Spread small windows evenly over a raster; the whole raster if it is small."""
    rows, cols = shape
    if rows <= edge * per_axis and cols <= edge * per_axis:
        return [Window(0, 0, cols, rows)]
    starts_row = np.unique(np.linspace(0, max(0, rows - edge), per_axis).astype(int))
    starts_col = np.unique(np.linspace(0, max(0, cols - edge), per_axis).astype(int))
    return [Window(int(c), int(r), min(edge, cols), min(edge, rows)) for r in starts_row for c in starts_col]


def _median_of_sample(source: Any, raw: Decoding) -> float | None:
    values = []
    for window in sample_windows(source.shape):
        block = raw.apply(source.read(window=window), source.dataset_mask(window=window) if raw.masked else None)
        values.append(block[np.isfinite(block)])
    merged = np.concatenate(values)
    return float(np.median(merged)) if merged.size else None


def _has_data(source: Any, path: str, decoding: Decoding, notes: list[str]) -> np.ndarray:
    """Find bands that are nodata everywhere: suspected from a sample, confirmed by reading the band whole."""
    found = np.zeros(source.count, dtype=bool)
    for window in sample_windows(source.shape):
        block = decoding.apply(
            source.read(window=window), source.dataset_mask(window=window) if decoding.masked else None
        )
        found |= np.isfinite(block).any(axis=(1, 2))
        if found.all():
            return found
    for band in np.flatnonzero(~found):
        one = Decoding((1.0,), (0.0,), (decoding.nodata[band],), False)
        for _, window in source.block_windows(int(band) + 1):
            if np.isfinite(one.apply(source.read([int(band) + 1], window=window), None)).any():
                found[band] = True
                break
    if not found.any():
        raise InputError(f"{path}: every pixel is nodata; nothing to work with")
    if not found.all():
        empty = np.flatnonzero(~found) + 1
        notes.append(f"{path}: {empty.size} bands hold no data and count as bad: {_ranges(empty)}")
    return found


def _ranges(numbers: np.ndarray) -> str:
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(f"{run[0]}" if run.size == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text.strip(" {}"))
    except ValueError:
        return None


def _acquired(tags: dict[str, str], path: str) -> str | None:
    """Find an acquisition time: known tags first, then a time in the file name."""
    for key in ("start_time", "acquisition_time", "acquisition time", "TIFFTAG_DATETIME", "datetime"):
        match = ISO_TIME.search(tags.get(key, ""))
        if match:
            return "{}-{}-{}T{}:{}:{}Z".format(*match.groups())
    match = ISO_TIME.search(Path(path).name)
    return "{}-{}-{}T{}:{}:{}Z".format(*match.groups()) if match else None


def _sensor_evidence(tags: dict[str, str], path: str) -> str:
    keys = ("sensor", "sensor_type", "spacecraft", "platform", "satellite", "SPACECRAFT_ID", "PRODUCT_URI")
    return " ".join([Path(path).name, *(tags[key] for key in keys if key in tags)])


def _envi_data_file(path: str) -> str:
    """Accept an ENVI header for its data file."""
    header = Path(path)
    if header.suffix.lower() != ".hdr":
        return path
    stem = header.with_suffix("")
    for suffix in ENVI_DATA_SUFFIXES:
        candidate = stem.with_name(stem.name + suffix)
        if candidate.is_file():
            return str(candidate)
    raise InputError(f"{path}: an ENVI header without its data; looked for {stem.name} with .img, .dat, .bsq, …")


def _explain_unopened(path: str, error: Exception) -> str:
    if Path(path).is_dir():
        return f"{path}: a folder; name the raster file in it"
    if Path(path).is_file() and Path(path).stat().st_size == 0:
        return f"{path}: the file is empty"
    hint = "" if Path(path).suffix else " If it is ENVI data, its .hdr file is missing."
    if Path(path).suffix.lower() in ENVI_DATA_SUFFIXES[1:]:
        hint = " If it is ENVI data, its .hdr file is missing."
    return f"{path}: not a raster that GDAL can read: {_first_line(error)}.{hint}"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
