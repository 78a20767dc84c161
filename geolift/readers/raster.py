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
from rasterio.errors import RasterioError

from geolift.datamodel.cube import REFLECTANCE, Bands
from geolift.errors import InputError
from geolift.readers import spectral_metadata
from geolift.readers.fill import Finding, recognise_fill, sample_of
from geolift.readers.product import Product, iso_time, overridden
from geolift.readers.shared_raster import SharedRaster, first_line, open_raster
from geolift.readers.source import Decoding, Stored
from geolift.settings import Reading

COUNTS_RANGE = (100.0, 12_000.0)
ENVI_DATA_SUFFIXES = ("", ".img", ".dat", ".bsq", ".bil", ".bip", ".raw", ".bin", ".envi")
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
        path = envi_data_file(path)
        try:
            source = open_raster(path)
        except RasterioError as error:
            raise InputError(_explain_unopened(path, error)) from error
        with source:
            try:
                return _understood(source, path, reading).cube(reading, tile)
            except RasterioError as error:
                raise InputError(f"{path}: cannot be read: {error.__cause__ or error}. Is it truncated?") from error


def _understood(source: Any, path: str, reading: Reading) -> Product:
    notes: list[str] = []
    require_readable(source, path)
    envi = {key.lower(): value for key, value in source.tags(ns="ENVI").items()}
    spectral = spectral_metadata.read(source, path, reading.wavelengths, notes)
    stored = SharedRaster(path)
    decoding, quantity = settle(stored, declared(source), reading, notes)
    tags = {**source.tags(), **envi}
    return Product(
        source=path,
        stored=stored,
        grid=grid_of_raster(source),
        bands=Bands(spectral.names, spectral.wavelength_nm, spectral.fwhm_nm, spectral.good),
        decoding=decoding,
        quantity=quantity,
        name=None,
        sensor=None,
        driver=source.driver,
        acquired=acquired(tags, path),
        evidence=" ".join([Path(path).name, *(tags[key] for key in SENSOR_TAGS if key in tags)]),
        wavelengths_from=spectral.origin,
        notes=notes,
    )


def require_readable(source: Any, path: str) -> None:
    """Refuse a dataset without bands of its own, and complex numbers. Raises InputError."""
    if source.count == 0:
        raise InputError(f"{path}: holds no raster band itself; name one of its subdatasets: {source.subdatasets[:4]}")
    if np.dtype(source.dtypes[0]).kind == "c":
        raise InputError(f"{path}: complex numbers; needed are real ones")


def grid_of_raster(source: Any) -> GeoBox:
    """Return the grid of an open rasterio dataset."""
    return GeoBox(source.shape, source.transform, source.crs.to_wkt() if source.crs else None)


@dataclass(frozen=True)
class Declared:
    """What tags say of the values: per band scale, offset, nodata; units in small letters; ENVI's factor."""

    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    nodata: tuple[float | None, ...]
    units: tuple[str, ...]
    reflectance_factor: float | None = None


def declared(source: Any) -> Declared:
    """Collect what an open rasterio dataset declares of its values."""
    envi = {key.lower(): value for key, value in source.tags(ns="ENVI").items()}
    return Declared(
        tuple(source.scales),
        tuple(source.offsets),
        tuple(None if v is None else float(v) for v in source.nodatavals),
        tuple(str(unit).lower() for unit in source.units if unit),
        _number(envi.get("reflectance_scale_factor")),
    )


def settle(stored: Stored, tags: Declared, reading: Reading, notes: list[str]) -> tuple[Decoding, str]:
    """Settle scale, offset, nodata and quantity: the user's word, then tags, then magnitude (with a warning)."""
    count, dtype = len(tags.scales), stored.layout.dtype
    tags = _without_void_scales(tags, stored.path, notes)
    raw = overridden(Decoding((1.0,) * count, (0.0,) * count, tags.nodata), Reading(nodata=reading.nodata))
    if reading.nodata is None:
        raw, sample, findings = recognise_fill(stored, raw)
        notes.extend(_told(stored.path, finding, tags.nodata[0]) for finding in findings)
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


def _told(path: str, finding: Finding, declared: float | None) -> str:
    """Say what was taken for no data besides what the file declares."""
    nodata = "no nodata value is set" if declared is None else f"the nodata value set is {declared:g}"
    return (
        f"{path}: {nodata}, and {finding.share:.2%} of the pixels looked at hold {finding.text}: taken for no data. "
        "If they are data, pass nan as nodata (--hsi-nodata or --msi-nodata)."
    )


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


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text.strip(" {}"))
    except ValueError:
        return None


def envi_data_file(path: str) -> str:
    """Accept an ENVI header for its data file. Raises InputError if the data is missing."""
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
        return (
            f"{path}: a folder that holds no product geolift knows (see docs/products.md) and no set of "
            "single-band rasters on one grid; name the raster file in it"
        )
    if Path(path).is_file() and Path(path).stat().st_size == 0:
        return f"{path}: the file is empty"
    if Path(path).suffix.lower() in (".zip", ".tar", ".gz", ".tgz"):
        return f"{path}: an archive; unpack it first"
    hint = "" if Path(path).suffix else " If it is ENVI data, its .hdr file is missing."
    if Path(path).suffix.lower() in ENVI_DATA_SUFFIXES[1:]:
        hint = " If it is ENVI data, its .hdr file is missing."
    return f"{path}: not a raster that GDAL can read: {first_line(error)}.{hint}"
