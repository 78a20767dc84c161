"""Rasters that GDAL opens: GeoTIFF, COG, VRT, ENVI (BSQ, BIL, BIP), JPEG 2000 and the like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox
from pyproj.exceptions import ProjError
from rasterio.errors import RasterioError

from geolift.datamodel.cube import REFLECTANCE, Bands
from geolift.errors import InputError
from geolift.readers import archive, envi_data, envi_header, gate, spectral_metadata, truncation
from geolift.readers.alpha import alpha_of
from geolift.readers.fill import recognise_fill, sample_of
from geolift.readers.masks import QualityLayer, raster_layer
from geolift.readers.placement import georeference_of
from geolift.readers.product import Product, iso_time, overridden
from geolift.readers.shared_raster import SharedRaster, Tolerant, first_line, is_remote, is_virtual, open_raster
from geolift.readers.source import Decoding, Stored
from geolift.settings import Reading

USABLE_DATA = ("usable data mask", "not clear: cloud, haze, shadow of clouds")
LEAST_TYPICAL, BRIGHTEST_TYPICAL, LARGEST_TYPICAL = -0.02, 1.2, 1e6
COUNTS_RANGE = (100.0, 12_000.0)
TIME_TAGS = ("start_time", "acquisition_time", "acquisition time", "TIFFTAG_DATETIME", "datetime")
SENSOR_TAGS = ("sensor", "sensor_type", "spacecraft", "platform", "satellite", "SPACECRAFT_ID", "PRODUCT_URI")


class RasterReader:
    """The family of everything that GDAL opens as one raster."""

    def matches(self, path: str) -> bool:
        """Accept every file: this reader comes last and explains what it cannot open."""
        return True

    def open(
        self, path: str, reading: Reading, tile: int | None = None, bands: Sequence[str] | None = None
    ) -> xr.DataArray:
        """Open a raster as a lazy cube; see `geolift.readers.open_cube`."""
        path = envi_header.data_file(path)
        if Path(path).suffix.lower() == ".zip" and Path(path).is_file():
            path = archive.only_raster(path)
        header = None if is_virtual(path) else envi_header.beside(path)
        try:
            source = open_raster(path)
        except RasterioError as error:
            if header is not None and Path(path).is_file():
                envi_header.require_whole(header, path)
                if not header.readable_by_gdal:
                    return _open_translated(header, path, reading, tile)
            raise InputError(_explain_unopened(path, error)) from error
        with source:
            try:
                source = Tolerant(source, path, None if header is None else header.fields)
                if header is not None and source.driver == "ENVI":
                    envi_header.require_whole(header, path)
                return _understood(source, path, reading, header).cube(reading, tile)
            except RasterioError as error:
                raise InputError(f"{path}: cannot be read: {error.__cause__ or error}. Is it truncated?") from error


def _open_translated(header: envi_header.EnviHeader, path: str, reading: Reading, tile: int | None) -> xr.DataArray:
    """Open ENVI data behind a header whose text GDAL reads only when it is written as UTF-8 without a mark."""
    try:
        with envi_data.understood_by_gdal(header, path) as source:
            raw = envi_data.EnviData(header, path)
            return _understood(Tolerant(source, path, header.fields), path, reading, header, raw).cube(reading, tile)
    except RasterioError as error:
        raise InputError(f"{header.path}: not an ENVI header that GDAL can read: {first_line(error)}") from error


def _understood(
    source: Any,
    path: str,
    reading: Reading,
    header: envi_header.EnviHeader | None = None,
    raw: envi_data.EnviData | None = None,
) -> Product:
    """Describe what an open dataset says; ``raw`` holds the numbers where its own mean nothing."""
    notes: list[str] = []
    require_readable(source, path)
    truncation.require_whole_tiff(source, path)
    header = header if header is not None and header.shape() == (source.count, *source.shape) else None
    envi = {envi_header.name_of(key): value for key, value in source.tags(ns="ENVI").items()}
    spectral = spectral_metadata.read(source, path, reading.wavelengths, notes, header)
    bands = Bands(spectral.names, spectral.wavelength_nm, spectral.fwhm_nm, spectral.good)
    tags = declared(source, header)
    stored, kept = (raw, list(range(source.count))) if raw else _without_alpha(path, source, notes)
    decoding, quantity = settle(stored, tags.take(kept), reading, notes)
    words = {**source.tags(), **envi}
    return Product(
        source=path,
        stored=stored,
        grid=grid_of_raster(source),
        bands=bands.take(kept),
        decoding=decoding,
        quantity=quantity,
        name=None,
        sensor=None,
        driver=source.driver,
        acquired=acquired(words, path),
        evidence=" ".join([Path(path).name, *(words[key] for key in SENSOR_TAGS if key in words)]),
        wavelengths_from=spectral.origin,
        notes=notes,
        georeference=georeference_of(source),
        masks=_usable_data(path),
    )


def _usable_data(path: str) -> tuple[QualityLayer, ...]:
    """Open the usable data mask that Wyvern delivers beside an image: in its first band 1 is clear ground.

    https://guide.wyvern.space/data-product-guide/product-formatting/usable-data-mask
    """
    stem, _, suffix = path.rpartition(".")
    if not Path(path).name.lower().startswith("wyvern_") or is_remote(path):
        return ()
    try:
        return (raster_layer(f"{stem}_data_mask.{suffix}", *USABLE_DATA, "not_one", bands=(0,)),)
    except RasterioError:
        return ()


def _without_alpha(path: str, source: Any, notes: list[str]) -> tuple[Stored, list[int]]:
    """Open the bands that hold data; what becomes of a band called alpha is told."""
    alpha = alpha_of(source)
    if alpha is None:
        return SharedRaster(path), list(range(source.count))
    kept = [band for band in range(source.count) if band != alpha.band or not alpha.masks]
    if alpha.masks:
        notes.append(f"{path}: band {alpha.band + 1} {alpha.reason}: it masks transparent pixels and is no band")
        return SharedRaster(path, kept, alpha.band), kept
    notes.append(
        f"{path}: band {alpha.band + 1} is alpha by its colour interpretation, but {alpha.reason}: used as a band, "
        "and nothing is masked by it"
    )
    return SharedRaster(path, None, "ignored"), kept


def require_readable(source: Any, path: str) -> None:
    """Refuse a dataset without bands of its own, and complex numbers. Raises InputError."""
    if source.count == 0:
        raise InputError(f"{path}: holds no raster band itself; name one of its subdatasets: {source.subdatasets[:4]}")
    if np.dtype(source.dtypes[0]).kind == "c":
        raise InputError(f"{path}: complex numbers; needed are real ones")


def grid_of_raster(source: Any) -> GeoBox:
    """Return the grid of an open rasterio dataset. Raises InputError."""
    try:
        return GeoBox(source.shape, source.transform, source.crs.to_wkt() if source.crs else None)
    except (ProjError, ValueError) as error:
        raise InputError(f"{source.name}: its CRS {gate.shown(source.crs)} is none that PROJ knows: {error}") from error


OWN_TAG = "GEOLIFT_QUANTITY"
"""Stands in what geolift wrote: its nodata are declared, and a value that repeats is a value."""


@dataclass(frozen=True)
class Declared:
    """What tags say of values: per band scale, offset, nodata; units in small letters; ENVI's factor; own products."""

    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    nodata: tuple[float | None, ...]
    units: tuple[str, ...]
    reflectance_factor: float | None = None
    own: bool = False

    def take(self, bands: Sequence[int]) -> Declared:
        """Return what is declared of 0-based ``bands``."""
        scales, offsets = (tuple(field[band] for band in bands) for field in (self.scales, self.offsets))
        return replace(self, scales=scales, offsets=offsets, nodata=tuple(self.nodata[band] for band in bands))


def declared(source: Any, header: envi_header.EnviHeader | None = None) -> Declared:
    """Collect what an open rasterio dataset, and a header beside it, declare of its values."""
    envi = {envi_header.name_of(key): value for key, value in source.tags(ns="ENVI").items()}
    fields = {**({} if header is None else header.fields), **envi}
    nodata = tuple(None if v is None else float(v) for v in source.nodatavals)
    if source.driver == "ENVI" or all(value is None for value in nodata):
        # GDAL reads a blank or braced value as 0
        told = envi_header.ignore_values(fields.get("data_ignore_value"), source.name)
        nodata = told if len(told) == source.count else (told[:1] or (None,)) * source.count
    return Declared(
        tuple(source.scales),
        tuple(source.offsets),
        nodata,
        tuple(str(unit).lower() for unit in source.units if unit),
        gate.optional_number(fields.get("reflectance_scale_factor"), source.name, "reflectance scale factor"),
        OWN_TAG in source.tags(),
    )


def settle(stored: Stored, tags: Declared, reading: Reading, notes: list[str]) -> tuple[Decoding, str]:
    """Settle scale, offset, nodata and quantity: the user's word, then tags, then magnitude (with a warning)."""
    count, dtype = len(tags.scales), stored.layout.dtype
    tags = _without_void_scales(tags, stored.path, notes)
    raw = overridden(
        Decoding(scale=(1.0,) * count, offset=(0.0,) * count, nodata=tags.nodata), Reading(nodata=reading.nodata)
    )
    if reading.nodata is None and not tags.own:
        raw, sample, findings = recognise_fill(stored, raw)
        notes.extend(finding.told(stored.path, tags.nodata[0]) for finding in findings)
    else:
        sample = sample_of(stored, raw)
    decoding = replace(raw, scale=tags.scales, offset=tags.offsets)
    tagged = any(s != 1 for s in tags.scales) or any(o != 0 for o in tags.offsets)
    quantity = "unknown"
    if not tagged and tags.reflectance_factor and tags.reflectance_factor > 0:
        decoding = replace(decoding, scale=(1.0 / tags.reflectance_factor,) * count)
        tagged, quantity = True, REFLECTANCE
    median = sample.median()
    overruled = reading.scale is not None or reading.offset is not None
    if not tagged and not overruled and dtype.kind in "iu" and dtype.itemsize > 1:
        low, high = COUNTS_RANGE
        if median is not None and low <= median <= high:
            decoding = replace(decoding, scale=(1e-4,) * count)
            notes.append(
                f"{stored.path}: integers without a scale tag, median {median:.0f}: read as reflectance × 10 000. "
                "If that is wrong, pass its scale (--hsi-scale or --msi-scale)."
            )
    decoding = overridden(decoding, reading)
    typical = [(median or 0.0) * s + o for s, o in zip(decoding.scale, decoding.offset, strict=True)]
    largest = BRIGHTEST_TYPICAL if quantity == REFLECTANCE else LARGEST_TYPICAL
    odd = next((value for value in typical if not LEAST_TYPICAL <= value <= largest), None)
    if odd is not None:
        notes.append(
            f"{stored.path}: a typical value is {odd:g}, neither reflectance nor radiance in usual units. "
            "Are scale, offset, data type and byte order right?"
        )
    return decoding, quantity if quantity != "unknown" else _quantity(tags.units, median, decoding)


def _without_void_scales(tags: Declared, path: str, notes: list[str]) -> Declared:
    """Leave out scales that turn every value into the offset, as some writers set them (GDAL 2.3: 0), and say so."""
    void = [not isfinite(s) or s == 0 or not isfinite(o) for s, o in zip(tags.scales, tags.offsets, strict=True)]
    if not any(void):
        return tags
    notes.append(
        f"{path}: {sum(void)} of {len(void)} bands declare the scale {tags.scales[void.index(True)]:g}, which is none: "
        "left out. If the values have a scale, pass it (--hsi-scale or --msi-scale)."
    )
    scales = tuple(1.0 if bad else s for bad, s in zip(void, tags.scales, strict=True))
    offsets = tuple(0.0 if bad else o for bad, o in zip(void, tags.offsets, strict=True))
    return replace(tags, scales=scales, offsets=offsets)


def _quantity(units: tuple[str, ...], median: float | None, decoding: Decoding) -> str:
    """Call it reflectance if the unit tag says so or the typical value can be one; else leave it open."""
    if any("reflectance" in unit or unit == "1" for unit in units):
        return REFLECTANCE
    if any("radiance" in unit or "w/m" in unit or "w m" in unit or "uw" in unit for unit in units):
        return "radiance"
    if median is None:
        return "unknown"
    value = median * decoding.scale[0] + decoding.offset[0]
    return REFLECTANCE if -0.1 <= value <= 1.2 else "unknown"


def acquired(tags: dict[str, str], path: str) -> str | None:
    """Find an acquisition time: known tags first, then a time in the file name."""
    for text in (*(tags.get(key) for key in TIME_TAGS), Path(path).name):
        found = iso_time(text)
        if found:
            return found
    return None


def _explain_unopened(path: str, error: Exception) -> str:
    if Path(path).is_dir():
        return (
            f"{path}: a folder that holds no product geolift knows (see docs/products.md) and no set of "
            "single-band rasters on one grid; name the raster file in it"
        )
    if Path(path).is_file() and Path(path).stat().st_size == 0:
        return f"{path}: the file is empty"
    unpack = archive.advice(path)
    if unpack is not None:
        return unpack
    hint = "" if Path(path).suffix else " If it is ENVI data, its .hdr file is missing."
    if Path(path).suffix.lower() in envi_header.DATA_SUFFIXES[1:]:
        hint = " If it is ENVI data, its .hdr file is missing."
    return f"{path}: not a raster that GDAL can read: {first_line(error)}.{hint}"
