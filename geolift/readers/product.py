"""A product as its metadata describes it, and the cube it becomes when the user's word is added."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.errors import CRSError

from geolift.datamodel.cube import Bands
from geolift.errors import InputError
from geolift.readers import gate, placement, spectral_metadata
from geolift.readers.fill import recognise_fill
from geolift.readers.masks import QualityLayer
from geolift.readers.shared_raster import first_line
from geolift.readers.source import Decoded, Decoding, Stored, bands_with_data
from geolift.settings import Reading

UNUSUAL = 0.01
ISO_TIME = re.compile(r"(20\d\d)-?(\d\d)-?(\d\d)[Tt ](\d\d):?(\d\d):?(\d\d)")


@dataclass(frozen=True, kw_only=True)
class Product:
    """What a product's own metadata says.

    Attributes
    ----------
    source : str
        The path as the user gave it.
    stored, grid, bands, decoding
        The numbers, where they lie, what their bands are, how they become physical values.
    quantity : str
        ``reflectance``, ``radiance`` or ``unknown``.
    name, sensor, driver : str
        Product family and level, instrument or spacecraft, file format.
    acquired : str or None
        UTC, ``2024-04-02T10:28:37Z``.
    evidence : str or None
        Words that may name the spacecraft; None = those of the file's name.
    check_empty : bool
        Whether bands without any data are searched and count as bad.
    georeference : str or None
        What the file has instead of a transform: ``gcps``, ``rpcs``.
    usual : (scale, offsets) or None
        What the family's products always have; anything else is used and told.
    search_fill : bool
        Whether fill that the metadata do not declare is looked for.
    """

    source: str
    stored: Stored
    grid: GeoBox
    bands: Bands
    decoding: Decoding
    quantity: str
    name: str | None
    sensor: str | None
    driver: str
    acquired: str | None = None
    evidence: str | None = None
    wavelengths_from: str | None = None
    notes: list[str] = field(default_factory=list)
    masks: tuple[QualityLayer, ...] = ()
    check_empty: bool = True
    georeference: str | None = None
    usual: tuple[float, tuple[float, ...]] | None = None
    search_fill: bool = False

    def cube(self, reading: Reading, tile: int | None = None) -> xr.DataArray:
        """Open it lazily; the user's word wins over the product's. See `geolift.datamodel.cube` for what comes back."""
        notes = list(self.notes)
        _require_agreement(self)
        _tell_unusual(self, notes)
        decoding = self.decoding
        if self.search_fill and reading.nodata is None:
            decoding, _, findings = recognise_fill(self.stored, decoding)
            notes.extend(finding.told(self.source, decoding.nodata[0]) for finding in findings)
        decoding = overridden(decoding, reading)
        stored, grid = placement.usual(self.stored, with_crs(self.grid, reading, self.source, notes))
        if stored is not self.stored:
            notes.append(f"{self.source}: rows run from south to north or columns from east to west: turned on reading")
        bands, origin = self._bands(reading, notes)
        source = Decoded(stored, decoding)
        if self.check_empty:
            bands = replace(bands, good=bands_with_data(source, bands.good, notes))
        attrs: dict[str, object] = {
            "source": self.source,
            "driver": self.driver,
            "dtype": str(self.stored.layout.dtype),
            "scale": _one_or_all(decoding.scale),
            "offset": _one_or_all(decoding.offset),
            "nodata": decoding.first_nodata,
            "quantity": self.quantity,
            "acquired": self.acquired,
            "evidence": Path(self.source).name if self.evidence is None else self.evidence,
            "product": self.name,
            "sensor": self.sensor,
            "wavelengths_from": origin,
            "masks": tuple(layer.turned() for layer in self.masks),
            "georeference": self.georeference,
            "warnings": notes,
        }
        return source.cube(grid, bands, attrs, tile)

    def _bands(self, reading: Reading, notes: list[str]) -> tuple[Bands, str | None]:
        if reading.wavelengths is None or self.wavelengths_from == f"--wavelengths {reading.wavelengths}":
            return self.bands, self.wavelengths_from
        told = spectral_metadata.from_table(reading.wavelengths, len(self.bands), self.source, notes)
        good = self.bands.good if told.good is None else told.good
        return Bands(self.bands.names, told.wavelength_nm, told.fwhm_nm, good), told.origin


class ProductReader:
    """A family each of whose members a `Product` describes."""

    def product(self, path: str, bands: Sequence[str] | None = None) -> Product:
        """Describe a file or folder of the family; ``bands`` as in `open_cube`."""
        raise NotImplementedError

    def open(
        self, path: str, reading: Reading, tile: int | None = None, bands: Sequence[str] | None = None
    ) -> xr.DataArray:
        """Open it lazily; see `Product.cube`."""
        return self.product(path, bands).cube(reading, tile)


def _require_agreement(product: Product) -> None:
    """Refuse metadata that contradict each other or the image, before anything is read. Raises InputError."""
    source, layout, decoding = product.source, product.stored.layout, product.decoding
    if len(product.bands) != layout.count:
        raise InputError(
            f"{source}: its metadata describe {len(product.bands)} bands, the image has {layout.count}; "
            "is the product complete and unchanged?"
        )
    if tuple(product.grid.shape) != tuple(layout.shape):
        raise InputError(f"{source}: a grid of {tuple(product.grid.shape)} pixels for an image of {layout.shape}")
    for band, (scale, offset) in enumerate(zip(decoding.scale, decoding.offset, strict=True), 1):
        if not np.isfinite(scale) or not np.isfinite(offset) or scale == 0:
            raise InputError(
                f"{source}: band {band} has the scale {scale:g} and the offset {offset:g}; finite numbers and a scale "
                "other than 0 are needed. Is the metadata damaged?"
            )


def _tell_unusual(product: Product, notes: list[str]) -> None:
    """Say where scale or offset are not those that all products of the family have."""
    if product.usual is None:
        return
    scale, offsets = product.usual
    odd = [s for s in product.decoding.scale if abs(s / scale - 1) > UNUSUAL]
    off = [o for o in product.decoding.offset if all(abs(o - usual) > UNUSUAL * 0.1 for usual in offsets)]
    if len(set(product.decoding.offset)) > 1 and not off:
        off = [product.decoding.offset[0]]
    for word, found, usual in (("scale", odd, (scale,)), ("offset", off, offsets)):
        if found:
            notes.append(
                f"{product.source}: the {word} {found[0]:g} of {len(found)} bands is unusual for {product.name} "
                f"({' or '.join(f'{v:g}' for v in usual)}); used as it stands. Is the metadata right?"
            )


def placed(shape: tuple[int, int], affine: Affine, crs: str | None, path: str) -> GeoBox:
    """Build a product's grid.

    Raises InputError if the transform has no finite numbers, no extent, or the CRS is unknown.
    """
    numbers = tuple(affine)[:6]
    if len(shape) != 2:
        raise InputError(f"{path}: its geolocation has {len(shape)} axes; rows and columns are needed")
    if not np.isfinite(numbers).all() or affine.determinant == 0:
        raise InputError(
            f"{path}: its geotransform is {tuple(float(n) for n in numbers)}; the product cannot be placed"
        )
    try:
        known = None if crs is None else CRS.from_user_input(crs).to_wkt()
    except (CRSError, ValueError) as error:
        raise InputError(f"{path}: its CRS {gate.shown(crs)} is none that PROJ knows: {first_line(error)}") from error
    return GeoBox(shape, affine, known or None)


def _one_or_all(values: tuple[float, ...]) -> float | list[float]:
    return values[0] if len(set(values)) == 1 else list(values)


def overridden(decoding: Decoding, reading: Reading) -> Decoding:
    """Put the user's scale, offset and nodata in the place of the file's."""
    count = len(decoding.scale)
    if reading.scale is not None:
        decoding = replace(decoding, scale=(reading.scale,) * count)
    if reading.offset is not None:
        decoding = replace(decoding, offset=(reading.offset,) * count)
    if reading.nodata is not None:
        decoding = replace(decoding, nodata=(reading.nodata,) * count, invalid=(), empty=None, fills=(), limit=None)
    return decoding


def with_crs(grid: GeoBox, reading: Reading, path: str, notes: list[str]) -> GeoBox:
    """Put the user's CRS in the place of the file's; what it replaces is told."""
    if reading.crs is None:
        return grid
    try:
        given = CRS.from_user_input(reading.crs)
    except CRSError as error:
        raise InputError(f"{path}: {reading.crs!r} is no CRS: {first_line(error)}") from error
    if grid.crs is not None and CRS.from_wkt(grid.crs.wkt) != given:
        notes.append(f"{path}: its own CRS is replaced by {reading.crs}")
    return GeoBox(grid.shape, grid.affine, given.to_wkt())


def grid_from_corners(
    upper_left: tuple[float, float],
    lower_right: tuple[float, float],
    shape: tuple[int, int],
    pixel_m: float,
    crs: str,
    path: str,
) -> GeoBox:
    """Build a north-up grid from two corners; whether they are pixel centres or edges is told by the pixel count.

    Raises InputError if neither reading gives the number of pixels there are.
    """
    rows, cols = shape
    if not np.isfinite([*upper_left, *lower_right, pixel_m]).all() or pixel_m <= 0:
        raise InputError(f"{path}: its corners {upper_left}, {lower_right} and pixels of {pixel_m:g} m place nothing")
    width = (lower_right[0] - upper_left[0]) / pixel_m
    height = (upper_left[1] - lower_right[1]) / pixel_m
    for margin in (0.5, 0.0):  # corners at pixel centres, at pixel edges
        if abs(width + 2 * margin - cols) < 0.25 and abs(height + 2 * margin - rows) < 0.25:
            left, top = upper_left[0] - margin * pixel_m, upper_left[1] + margin * pixel_m
            return placed(shape, Affine(pixel_m, 0.0, left, 0.0, -pixel_m, top), crs, path)
    raise InputError(
        f"{path}: its corners span {width:.2f} × {height:.2f} pixels of {pixel_m:g} m, but the image has "
        f"{cols} × {rows}; the metadata and the image do not belong together."
    )


def iso_time(text: str | None) -> str | None:
    """Find a time in a text: 2024-04-02T10:28:37.932 → 2024-04-02T10:28:37Z.

    >>> iso_time("S2B_MSIL2A_20210122T133229_N0214")
    '2021-01-22T13:32:29Z'
    """
    match = ISO_TIME.search(text or "")
    return "{}-{}-{}T{}:{}:{}Z".format(*match.groups()) if match else None


def files_in(folder: Any) -> list[Any]:
    """List the files of a folder, sorted; an unreadable folder is empty."""
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_file())
    except OSError:
        return []


def unknown_spectra(names: tuple[str, ...]) -> Bands:
    """Describe bands of which only the names are known."""
    unknown = np.full(len(names), np.nan)
    return Bands(names, unknown, unknown.copy(), np.ones(len(names), dtype=bool))
