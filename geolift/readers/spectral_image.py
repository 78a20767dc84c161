"""DLR's products, a spectral image beside a METADATA XML: EnMAP L2A and DESIS L2A."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rasterio.errors import RasterioError

from geolift.datamodel.cube import REFLECTANCE, Bands
from geolift.errors import InputError
from geolift.readers import gate
from geolift.readers.archive import Place, place_of
from geolift.readers.masks import QualityLayer, Rule, layers_from_files
from geolift.readers.product import Product, ProductReader, files_in, iso_time
from geolift.readers.raster import grid_of_raster
from geolift.readers.shared_raster import SharedRaster, first_line, is_virtual, open_raster
from geolift.readers.source import Decoding
from geolift.readers.wavelengths import in_nanometres

IMAGE_SUFFIXES = (".tif", ".tiff", ".jp2", ".bsq", ".bil", ".bip", ".img", ".dat")
USUAL_GAIN = 1e-4
DEFAULT_NODATA = -32_768.0


@dataclass(frozen=True, kw_only=True)
class Family:
    """What tells one of the products from the other, and how it names things.

    ``width_tag`` is the element of the band widths, which is the family's own. ``masks``: suffix of the file's
    name, meaning, rule, numbers.
    """

    name: str
    sensor: str
    width_tag: str
    gain_tag: str
    offset_tag: str
    masks: tuple[tuple[str, str, Rule, tuple[int, ...]], ...]


ENMAP = Family(
    name="EnMAP L2A",
    sensor="EnMAP HSI",
    width_tag="FWHMOfBand",
    gain_tag="GainOfBand",
    offset_tag="OffsetOfBand",
    masks=(
        ("QL_QUALITY_CLOUD", "cloud", "nonzero", ()),
        ("QL_QUALITY_CIRRUS", "cirrus", "nonzero", ()),
        ("QL_QUALITY_CLOUDSHADOW", "cloud shadow", "nonzero", ()),
        # 1 land, 2 water; 0 and 3 are outside of the scene
        ("QL_QUALITY_CLASSES", "background", "classes", (0, 3)),
    ),
)
DESIS = Family(
    name="DESIS L2A",
    sensor="DESIS",
    width_tag="wavelengthWidthOfBand",
    gain_tag="gainOfBand",
    offset_tag="offsetOfBand",
    masks=(),
)


class SpectralImageReader(ProductReader):
    """A DLR product: its folder, its METADATA XML, or the spectral image itself."""

    def __init__(self, family: Family) -> None:
        self._family = family

    def matches(self, path: str) -> bool:
        """Look for a METADATA XML of the family; a raster must be the image that the XML describes."""
        metadata = None if is_virtual(path) else self._metadata(place_of(path))
        return metadata is not None

    def product(self, path: str, bands: Sequence[str] | None = None) -> Product:
        """Open the spectral image as a lazy cube."""
        metadata = self._metadata(place_of(path))
        assert metadata is not None
        notes: list[str] = []
        root = gate.xml_root(metadata)
        image = _image(place_of(path), metadata, root)
        entries = _entries(root, self._family, metadata)
        try:
            source = open_raster(str(image))
        except RasterioError as error:
            raise InputError(f"{image}: not a raster that GDAL can read: {first_line(error)}") from error
        with source:
            grid, tagged, driver, count = grid_of_raster(source), source.nodata, source.driver, source.count
        if count != len(entries.wavelength):
            raise InputError(f"{image}: {count} bands, but {metadata.name} describes {len(entries.wavelength)}")
        wavelength, fwhm = in_nanometres(entries.wavelength, entries.fwhm, str(image), metadata.name, notes)
        product = root.findtext(".//metadata/name") or metadata.name
        level = root.findtext(".//level") or root.findtext(".//processingLevel") or "L2A"
        if level != "L2A":
            notes.append(f"{path}: {self._family.sensor} {level}, not surface reflectance; L2A is what geolift expects")
        return Product(
            source=path,
            stored=SharedRaster(str(image)),
            grid=grid,
            bands=Bands(entries.names, wavelength, fwhm, entries.good),
            decoding=replace(
                Decoding.uniform(count, nodata=_nodata(tagged, root, metadata)),
                scale=entries.gain,
                offset=entries.offset,
            ),
            quantity=REFLECTANCE if level == "L2A" else "unknown",
            name=self._family.name if level == "L2A" else f"{self._family.sensor} {level}",
            sensor=self._family.sensor,
            driver=driver,
            acquired=iso_time(root.findtext(".//temporalCoverage/startTime")) or iso_time(product),
            evidence=product,
            wavelengths_from=metadata.name,
            notes=notes,
            masks=self._masks(metadata, notes),
            usual=(USUAL_GAIN, (0.0,)) if level == "L2A" else None,
        )

    def _metadata(self, path: Place) -> Place | None:
        """Find the XML that a folder, an XML or an image belongs to; None if it is another family's or none."""
        if path.suffix.lower() == ".hdr" and isinstance(path, Path):
            path = path.with_suffix("")
        is_image = path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES
        if path.is_file() and path.suffix.lower() == ".xml":
            candidates: list[Place] = [path]
        else:
            folder = path if path.is_dir() else path.parent
            candidates = [f for f in files_in(folder) if f.name.upper().endswith("METADATA.XML")]
            candidates = candidates if path.is_dir() or is_image else []
        for candidate in candidates:
            text = candidate.read_text(encoding="utf-8", errors="replace")
            if f"<{self._family.width_tag}>" in text and (not is_image or _describes(text, candidate, path)):
                return candidate
        return None

    def _masks(self, metadata: Place, notes: list[str]) -> tuple[QualityLayer, ...]:
        files = {file.stem.upper(): file for file in files_in(metadata.parent) if file.suffix.lower() in IMAGE_SUFFIXES}
        prefix = re.sub(r"METADATA$", "", metadata.stem, flags=re.IGNORECASE).upper()
        return layers_from_files(
            (
                (files[f"{prefix}{suffix}"], suffix, meaning, rule, values)
                for suffix, meaning, rule, values in self._family.masks
                if f"{prefix}{suffix}" in files
            ),
            notes,
        )


def _describes(text: str, metadata: Place, image: Place) -> bool:
    """Tell whether an XML describes this very image, not one of the quality layers beside it."""
    named = re.search(r"<merge>.*?<name>([^<]+)</name>", text, re.DOTALL)
    if named is not None:
        return Path(named[1].strip()).stem.upper() == image.stem.upper()
    prefix = re.sub(r"METADATA$", "", metadata.stem, flags=re.IGNORECASE)
    return image.stem.upper() == f"{prefix}SPECTRAL_IMAGE".upper()


def _image(path: Place, metadata: Place, root: ET.Element) -> Place:
    """Find the spectral image: the file given, the one the XML names, or the same name in another format."""
    if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
        return path
    named = root.findtext("product/image/merge/name")
    prefix = re.sub(r"METADATA$", "", metadata.stem, flags=re.IGNORECASE)
    stem = Path(named).stem if named else f"{prefix}SPECTRAL_IMAGE"
    for file in files_in(metadata.parent):
        if file.stem.upper() == stem.upper() and file.suffix.lower() in IMAGE_SUFFIXES:
            return file  # type: ignore[no-any-return]
    raise InputError(f"{metadata}: its image {stem} (.TIF, .JP2, .BSQ, .BIL, .BIP) does not lie beside it")


@dataclass(frozen=True, kw_only=True)
class _Entries:
    """The bands of an XML, in the order of the image."""

    names: tuple[str, ...]
    wavelength: list[float]
    fwhm: list[float]
    gain: tuple[float, ...]
    offset: tuple[float, ...]
    good: np.ndarray


def _entries(root: ET.Element, family: Family, metadata: Place) -> _Entries:
    """Read bandCharacterisation (`bandID number=…` or `band/bandNumber`) in band order."""
    found = []
    for characterisation in root.iter("bandCharacterisation"):
        for entry in characterisation:
            number = entry.get("number") or entry.findtext("bandNumber")
            if number is not None:
                found.append((gate.integer(number, metadata, "bandCharacterisation: band number"), entry))
    found.sort(key=lambda pair: pair[0])
    empty = _empty_bands(root, metadata)

    def field(tag: str, neutral: float | None = None) -> list[float]:
        return [
            neutral
            if neutral is not None and entry.findtext(tag) is None
            else gate.number(entry.findtext(tag), metadata, f"band {number}: {tag}")
            for number, entry in found
        ]

    return _Entries(
        names=tuple(f"band {number}" for number, _ in found),
        wavelength=field("wavelengthCenterOfBand"),
        fwhm=field(family.width_tag, np.nan),
        gain=tuple(field(family.gain_tag, 1.0)),
        offset=tuple(field(family.offset_tag, 0.0)),
        good=np.array([number not in empty for number, _ in found], dtype=bool),
    )


def _empty_bands(root: ET.Element, metadata: Place) -> set[int]:
    """Collect the bands whose statistics say that they hold nothing (mean below any value, no spread)."""
    empty = set()
    for statistics in root.iter("bandStatistics"):
        for entry in statistics.iter("bandID"):
            number = gate.integer(entry.get("number", 0), metadata, "bandStatistics: bandID number")
            name = f"bandStatistics {number}"
            mean = gate.optional_number(entry.findtext("mean"), metadata, f"{name}: mean") or 0.0
            spread = gate.optional_number(entry.findtext("stdDeviation"), metadata, f"{name}: stdDeviation")
            if mean <= -1e5 and spread == 0:
                empty.add(number)
    return empty


def _nodata(tagged: float | None, root: ET.Element, metadata: Place) -> float:
    """Prefer the image's own tag; then the XML's background value; then what the format document says."""
    if tagged is not None:
        return float(tagged)
    return gate.xml_number(root, ".//backgroundValue", metadata, DEFAULT_NODATA)
