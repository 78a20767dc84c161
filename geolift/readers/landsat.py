"""Landsat Collection 2: one GeoTIFF per band beside an MTL file, which repeats its scale names per level."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from odc.geo.geobox import GeoBox

from geolift.datamodel.cube import REFLECTANCE
from geolift.errors import InputError
from geolift.readers import gate, odl
from geolift.readers.band_files import BandFile, BandStack, band_key, choose, examine
from geolift.readers.masks import QualityLayer, layers_from_files
from geolift.readers.product import Product, ProductReader, files_in, grid_from_corners, iso_time, unknown_spectra
from geolift.readers.shared_raster import is_virtual
from geolift.readers.source import Decoding

FILL = 0.0
PANCHROMATIC = "B8"
REFLECTIVE = range(1, 8)
SURFACE_BAND = re.compile(r"_SR_B(\d)\.tiff?$", re.IGNORECASE)
QA_UNUSABLE_BITS = (0, 1, 2, 3, 4)
QA_MEANING = "fill, dilated cloud, cirrus, cloud, cloud shadow"
LEVEL_2 = "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS"
LEVEL_1 = "LEVEL1_RADIOMETRIC_RESCALING"
BAND_KEY = re.compile(r"FILE_NAME_BAND_(\d+)$")


class LandsatReader(ProductReader):
    """Landsat 4 to 9: surface reflectance (L2SP, L2SR), or top-of-atmosphere reflectance (L1TP) with a warning."""

    def matches(self, path: str) -> bool:
        """Look for an MTL file of Collection 2."""
        return not is_virtual(path) and odl.find(path, "LANDSAT_METADATA_FILE") is not None

    def product(self, path: str, bands: Sequence[str] | None = None) -> Product:
        """Open the reflective bands that are there, or those named."""
        mtl = odl.find(path, "LANDSAT_METADATA_FILE")
        assert mtl is not None
        groups = odl.read(mtl)
        contents, image = groups.get("PRODUCT_CONTENTS", {}), groups.get("IMAGE_ATTRIBUTES", {})
        notes: list[str] = []
        names, files = _band_files(contents, groups, mtl, bands, notes)
        placed = [_placed(file, groups, notes) for file in files]
        stack = BandStack.of_files(placed)
        product_id = contents.get("LANDSAT_PRODUCT_ID", "")
        return Product(
            source=path,
            stored=stack,
            grid=stack.grid,
            bands=unknown_spectra(tuple(names)),
            decoding=_decoding(groups, names, path, notes),
            quantity=REFLECTANCE,
            name=f"Landsat Collection 2 {contents.get('PROCESSING_LEVEL', '')}".strip(),
            sensor=_sensor(image),
            driver=files[0].driver,
            acquired=iso_time(f"{image.get('DATE_ACQUIRED')}T{image.get('SCENE_CENTER_TIME')}"),
            evidence=f"{product_id} {image.get('SPACECRAFT_ID', '')}",
            notes=notes,
            masks=_masks(contents, mtl.parent, stack.grid, notes),
            check_empty=False,
            usual=(2.75e-5, (-0.2,)) if groups.get(LEVEL_2) else None,
        )


def _sensor(image: dict[str, str]) -> str:
    spacecraft, instrument = image.get("SPACECRAFT_ID", "LANDSAT").title(), image.get("SENSOR_ID", "")
    return f"{spacecraft} {instrument}".replace("_", " ").strip()


def _band_files(
    contents: dict[str, str], groups: odl.Groups, mtl: Path, wanted: Sequence[str] | None, notes: list[str]
) -> tuple[list[str], list[BandFile]]:
    """Find the reflective bands' files; without a wish the panchromatic one only if it is alone."""
    scales = groups.get(LEVEL_2) or groups.get(LEVEL_1, {})
    numbers = [int(m[1]) for key in contents if (m := BAND_KEY.match(key))]
    reflective = {
        f"B{n}": gate.inside(contents[f"FILE_NAME_BAND_{n}"], mtl)
        for n in numbers
        if f"REFLECTANCE_MULT_BAND_{n}" in scales
    }
    unscaled = [f"B{n}" for n in numbers if n in REFLECTIVE and f"B{n}" not in reflective]
    unnamed = sorted(set(_on_disk(mtl.parent)) - {f"B{n}" for n in numbers})
    for bands, reason in ((unscaled, "have no scale in the MTL"), (unnamed, "are not named in the MTL")):
        if bands:
            notes.append(f"{mtl.parent}: bands {', '.join(bands)} {reason}; left out. Is the MTL whole?")
    present = {name: mtl.parent / file for name, file in reflective.items() if (mtl.parent / file).is_file()}
    if not present:
        raise InputError(f"{mtl}: none of its {len(reflective)} reflective bands lies beside it")
    if wanted:
        names = [list(present)[i] for i in choose(list(present), wanted, str(mtl.parent))]
    else:
        names = [name for name in present if name != PANCHROMATIC] or list(present)
        missing = [name for name in reflective if name not in present and name != PANCHROMATIC]
        if missing:
            notes.append(f"{mtl.parent}: bands {', '.join(missing)} are named in the MTL, but not there; left out")
    return names, [examine(str(present[name])) for name in names]


def _on_disk(folder: Path) -> list[str]:
    """List the surface reflectance bands whose files lie in a folder."""
    return [f"B{m[1]}" for file in files_in(folder) if (m := SURFACE_BAND.search(file.name))]


def _placed(file: BandFile, groups: odl.Groups, notes: list[str]) -> BandFile:
    """Take the grid from the MTL where the file carries none."""
    if file.grid.crs is not None:
        return file
    projection = groups.get("PROJECTION_ATTRIBUTES", {})
    try:
        panchromatic = str(file.layout.shape[0]) == projection.get("PANCHROMATIC_LINES")
        kind = "PANCHROMATIC" if panchromatic else "REFLECTIVE"
        keys = [f"GRID_CELL_SIZE_{kind}"]
        keys += [f"CORNER_{corner}_PROJECTION_{axis}_PRODUCT" for corner in ("UL", "LR") for axis in "XY"]
        pixel_m, left, top, right, bottom = (
            gate.number(projection[key], file.path, f"its MTL's {key}") for key in keys
        )
        crs = _crs(projection, file.path)
    except KeyError as error:
        raise InputError(f"{file.path}: carries no CRS, and its MTL does not tell one ({error})") from error
    grid = grid_from_corners((left, top), (right, bottom), file.layout.shape, pixel_m, crs, file.path)
    folder = Path(file.path).parent
    note = f"{folder}: the band files carry no georeferencing; grid and CRS are taken from the MTL"
    if note not in notes:
        notes.append(note)
    return replace(file, grid=grid)


def _crs(projection: dict[str, str], path: str) -> str:
    """Name the CRS: UTM of the northern zones also south of the equator, or Antarctic polar stereographic."""
    if projection["MAP_PROJECTION"] == "UTM":
        return f"EPSG:{32600 + gate.integer(projection['UTM_ZONE'], path, 'UTM_ZONE')}"
    if projection["MAP_PROJECTION"] == "PS":
        return "EPSG:3031"
    raise InputError(f"{path}: its MTL's MAP_PROJECTION {gate.shown(projection['MAP_PROJECTION'])} is not known")


def _decoding(groups: odl.Groups, names: list[str], path: str, notes: list[str]) -> Decoding:
    scales, divisor = groups.get(LEVEL_2), 1.0
    if not scales:
        scales = groups.get(LEVEL_1, {})
        told = groups.get("IMAGE_ATTRIBUTES", {}).get("SUN_ELEVATION", "90")
        elevation = gate.positive(told, path, "SUN_ELEVATION")
        divisor = math.sin(math.radians(elevation))
        notes.append(
            f"{path}: Level-1 is top-of-atmosphere reflectance (divided by the sine of the sun's elevation); "
            "an HSI of surface reflectance needs the Level-2 product"
        )
    numbers = [band_key(name).removeprefix("B") for name in names]
    try:
        scale, offset = (
            tuple(gate.number(scales[f"{key}{n}"], path, f"{key}{n}") / divisor for n in numbers)
            for key in ("REFLECTANCE_MULT_BAND_", "REFLECTANCE_ADD_BAND_")
        )
    except KeyError as error:
        raise InputError(f"{path}: its MTL gives no scale for every band ({error})") from error
    return Decoding(scale=scale, offset=offset, nodata=(FILL,) * len(names))


def _masks(contents: dict[str, str], folder: Path, grid: GeoBox, notes: list[str]) -> tuple[QualityLayer, ...]:
    name = contents.get("FILE_NAME_QUALITY_L1_PIXEL")
    if name is None:
        return ()
    found = layers_from_files(
        [(folder / gate.inside(name, folder), "QA_PIXEL", QA_MEANING, "bits", QA_UNUSABLE_BITS)], notes
    )
    return tuple(
        layer if layer.grid.crs is not None or layer.grid.shape != grid.shape else replace(layer, grid=grid)
        for layer in found
    )
