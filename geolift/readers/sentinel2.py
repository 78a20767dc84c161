"""Sentinel-2 L2A in SAFE format: one JPEG 2000 per band, reflectance by quantification value and offset."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from geolift.datamodel.cube import REFLECTANCE, Bands
from geolift.errors import InputError
from geolift.readers import gate
from geolift.readers.archive import Place, place_of
from geolift.readers.band_files import BandStack, band_key, examine
from geolift.readers.masks import QualityLayer, layers_from_files
from geolift.readers.product import Product, ProductReader, iso_time
from geolift.readers.shared_raster import is_virtual
from geolift.readers.source import Decoding

TEN_METRES = ("B02", "B03", "B04", "B08")
PHYSICAL_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
IMAGE = re.compile(r"_(B\d[\dA])_(10|20|60)m$")
OFFSET_SINCE_BASELINE = 4.0
OFFSET = -1000.0
NODATA, SATURATED = 0.0, 65_535.0
SCL_UNUSABLE = (0, 1, 3, 8, 9, 10)
SCL_MEANING = "no data, saturated or defective, cloud shadow, cloud (medium, high probability), thin cirrus"
SNIFF_BYTES = 2000


class Sentinel2Reader(ProductReader):
    """Surface reflectance of Sentinel-2: the folder, or its MTD_MSIL2A.xml."""

    def matches(self, path: str) -> bool:
        """Look for the user product's metadata; Level-1C matches too, to be refused with the reason."""
        return _metadata_file(path) is not None

    def product(self, path: str, bands: Sequence[str] | None = None) -> Product:
        """Open the four 10 m bands, or those named: 20 m and 60 m ones are brought to the finest pixels named."""
        metadata = _metadata_file(path)
        assert metadata is not None
        root = _parsed(metadata)
        notes: list[str] = []
        images = _images(root, metadata.parent)
        chosen = _chosen(images, bands or TEN_METRES, path)
        files = [examine(str(image)) for image in chosen]
        names = tuple(_name(file.path) for file in files)
        stack = BandStack.of_files(files)
        return Product(
            source=path,
            stored=stack,
            grid=stack.grid,
            bands=_bands(root, names, metadata),
            decoding=_decoding(root, names, metadata, notes),
            quantity=REFLECTANCE,
            name=f"Sentinel-2 L2A, baseline {root.findtext('.//PROCESSING_BASELINE') or 'unknown'}",
            sensor=root.findtext(".//SPACECRAFT_NAME"),
            driver=files[0].driver,
            acquired=iso_time(root.findtext(".//PRODUCT_START_TIME")),
            evidence=" ".join(root.findtext(f".//{tag}") or "" for tag in ("PRODUCT_URI", "SPACECRAFT_NAME")),
            wavelengths_from="Spectral_Information",
            notes=notes,
            masks=_masks(chosen[0], notes),
            check_empty=False,
            usual=(1e-4, (0.0, -0.1)),
        )


def _metadata_file(path: str) -> Place | None:
    if is_virtual(path):
        return None
    place = place_of(path)
    if place.is_dir():
        return next((place / name for name in ("MTD_MSIL2A.xml", "MTD_MSIL1C.xml") if (place / name).is_file()), None)
    if place.suffix.lower() != ".xml" or not isinstance(place, Path):
        return None
    try:
        with place.open("rb") as stream:
            beginning = stream.read(SNIFF_BYTES)
    except OSError:
        return None
    return place if b"Level-2A_User_Product" in beginning or b"Level-1C_User_Product" in beginning else None


def _parsed(metadata: Place) -> ET.Element:
    root = gate.xml_root(metadata)
    if "Level-1C" in root.tag:
        raise InputError(
            f"{metadata}: Sentinel-2 Level-1C is top-of-atmosphere; needed is the Level-2A product of the scene"
        )
    return root


def _images(root: ET.Element, folder: Place) -> dict[str, dict[int, Place]]:
    """List the image files by band and resolution in metres."""
    images: dict[str, dict[int, Place]] = {}
    for element in root.iter("IMAGE_FILE"):
        text = (element.text or "").strip()
        found = IMAGE.search(text)
        if found:
            images.setdefault(found[1], {})[int(found[2])] = folder / gate.inside(f"{text}.jp2", folder)
    return images


def _chosen(images: dict[str, dict[int, Place]], wanted: Sequence[str], path: str) -> list[Place]:
    """Take each band in its finest resolution that is there."""
    by_key = {band_key(name): found for name, found in images.items()}
    chosen = []
    for name in wanted:
        at = by_key.get(band_key(name))
        if at is None:
            raise InputError(f"{path}: has no band {name}; it has {', '.join(sorted(images))}")
        present = [file for _, file in sorted(at.items()) if file.is_file()]
        if not present:
            raise InputError(f"{path}: {at[min(at)].name} is named in its metadata, but missing; is it complete?")
        chosen.append(present[0])
    return chosen


def _name(file: str) -> str:
    found = IMAGE.search(Path(file).stem)
    assert found is not None
    return found[1]


def _physical(root: ET.Element, metadata: Place) -> tuple[str, ...]:
    """Return the band of each band_id."""
    listed = {
        gate.integer(info.get("bandId"), metadata, "Spectral_Information bandId"): str(info.get("physicalBand"))
        for info in root.iter("Spectral_Information")
    }
    return tuple(listed.get(i, name) for i, name in enumerate(PHYSICAL_BANDS))


def _bands(root: ET.Element, names: tuple[str, ...], metadata: Place) -> Bands:
    centres = {
        band_key(str(info.get("physicalBand"))): gate.optional_number(
            info.findtext("Wavelength/CENTRAL"), metadata, f"Spectral_Information {info.get('physicalBand')}: CENTRAL"
        )
        for info in root.iter("Spectral_Information")
    }
    found = [centres.get(band_key(name)) for name in names]
    wavelength = np.array([np.nan if centre is None else centre for centre in found])
    return Bands(names, wavelength, np.full(len(names), np.nan), np.ones(len(names), dtype=bool))


def _decoding(root: ET.Element, names: tuple[str, ...], metadata: Place, notes: list[str]) -> Decoding:
    """Reflectance = (DN + BOA_ADD_OFFSET) / BOA_QUANTIFICATION_VALUE; DN 0 is no data before the offset."""
    tag = ".//BOA_QUANTIFICATION_VALUE"
    quantification = gate.positive(gate.xml_number(root, tag, metadata, 10_000.0), metadata, tag.removeprefix(".//"))
    physical = _physical(root, metadata)
    offsets = {}
    for element in root.iter("BOA_ADD_OFFSET"):
        number = gate.integer(element.get("band_id"), metadata, "BOA_ADD_OFFSET band_id")
        if not 0 <= number < len(physical):
            raise InputError(f"{metadata}: BOA_ADD_OFFSET band_id is {number}; 0 to {len(physical) - 1} are known")
        offsets[band_key(physical[number])] = gate.number(element.text, metadata, f"BOA_ADD_OFFSET of band {number}")
    baseline = gate.optional_number(gate.xml_text(root, ".//PROCESSING_BASELINE"), metadata, "PROCESSING_BASELINE")
    if not offsets and (baseline or 0.0) >= OFFSET_SINCE_BASELINE:
        notes.append(f"{metadata}: baseline 04.00 or later without BOA_ADD_OFFSET: {OFFSET:g} is assumed for all bands")
        offsets = {band_key(name): OFFSET for name in PHYSICAL_BANDS}
    offset = tuple(offsets.get(band_key(name), 0.0) / quantification for name in names)
    count = len(names)
    return Decoding(
        scale=(1.0 / quantification,) * count, offset=offset, nodata=(NODATA,) * count, invalid=(SATURATED,)
    )


def _masks(image: Place, notes: list[str]) -> tuple[QualityLayer, ...]:
    """Find the scene classification of the same granule."""
    granule = image.parent.parent
    found = sorted(granule.glob("R20m/*_SCL_20m.jp2")) or sorted(granule.glob("R60m/*_SCL_60m.jp2"))
    return layers_from_files(((file, "SCL", SCL_MEANING, "classes", SCL_UNUSABLE) for file in found[:1]), notes)
