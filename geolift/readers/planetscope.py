"""PlanetScope analytic: one GeoTIFF whose band descriptions name the bands, and a udm2 beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rasterio.errors import RasterioError

from geolift.datamodel.cube import REFLECTANCE
from geolift.readers import gate
from geolift.readers.masks import QualityLayer, raster_layer
from geolift.readers.product import Product, ProductReader, files_in, iso_time, unknown_spectra
from geolift.readers.raster import grid_of_raster
from geolift.readers.shared_raster import SharedRaster, is_virtual, open_raster
from geolift.readers.source import Decoding

FOUR_BANDS = ("blue", "green", "red", "nir")
EIGHT_BANDS = ("coastal_blue", "blue", "green_i", "green", "yellow", "red", "rededge", "nir")
SCENE = re.compile(r"^(20\d{6}_\d{6}_(?:\d{2,3}_)?[0-9a-f]{4})_", re.IGNORECASE)
SURFACE_REFLECTANCE = re.compile(r"(?<![A-Z])SR(?![A-Z])|atmospheric_correction|surface reflectance", re.IGNORECASE)
SCALE = 1e-4
NODATA = 0.0
CLEAR = "clear"


class PlanetScopeReader(ProductReader):
    """Surface reflectance of PlanetScope, four or eight bands; plain analytic with its coefficients from the XML."""

    def matches(self, path: str) -> bool:
        """Look for Planet's band descriptions; the four common ones need a scene id, a udm2 or a Planet tag beside."""
        if is_virtual(path) or Path(path).suffix.lower() not in (".tif", ".tiff") or not Path(path).is_file():
            return False
        try:
            with open_raster(path) as source:
                names, dtype, tags = _described(source), source.dtypes[0], source.tags()
        except RasterioError:
            return False
        if dtype != "uint16":
            return False
        if names == FOUR_BANDS:
            return bool(_scene(Path(path)) or _udm2(Path(path))) or "planet" in str(tags).lower()
        return names == EIGHT_BANDS

    def product(self, path: str, bands: Sequence[str] | None = None) -> Product:
        """Open it as a lazy cube."""
        notes: list[str] = []
        with open_raster(path) as source:
            names, tags = _described(source), source.tags()
            grid, driver = grid_of_raster(source), source.driver
        corrected = SURFACE_REFLECTANCE.search(f"{Path(path).name} {tags.get('TIFFTAG_IMAGEDESCRIPTION', '')}")
        scale = (SCALE,) * len(names)
        if not corrected:
            scale = _coefficients(Path(path), len(names), notes) or scale
        kind = "8-band" if len(names) == len(EIGHT_BANDS) else "4-band"
        return Product(
            source=path,
            stored=SharedRaster(path),
            grid=grid,
            bands=unknown_spectra(names),
            decoding=Decoding(scale=scale, offset=(0.0,) * len(names), nodata=(NODATA,) * len(names)),
            quantity=REFLECTANCE,
            name=f"PlanetScope {kind} {'surface reflectance' if corrected else 'analytic'}",
            sensor="PlanetScope",
            driver=driver,
            acquired=iso_time(tags.get("TIFFTAG_DATETIME", "").replace(":", "-", 2))
            or iso_time(re.sub(r"^(20\d{6})_(\d{6})", r"\1T\2", Path(path).name)),
            evidence=f"PlanetScope {Path(path).name}",
            notes=notes,
            masks=_masks(Path(path), notes),
            check_empty=False,
            usual=(SCALE, (0.0,)) if corrected else None,
        )


def _described(source: Any) -> tuple[str, ...]:
    return tuple((text or "").strip().lower().replace(" ", "_") for text in source.descriptions)


def _coefficients(path: Path, count: int, notes: list[str]) -> tuple[float, ...] | None:
    """Read reflectanceCoefficient of each band from the metadata XML of the scene."""
    for file in files_in(path.parent):
        if file.suffix.lower() != ".xml" or _scene(file) != _scene(path):
            continue
        found = [
            gate.positive(element.text, file, "reflectanceCoefficient")
            for element in gate.xml_root(file).iter()
            if element.tag.rpartition("}")[2] == "reflectanceCoefficient"
        ]
        if len(found) == count:
            notes.append(f"{path}: not surface reflectance; brought to top-of-atmosphere reflectance with {file.name}")
            return tuple(found)
    notes.append(
        f"{path}: neither name nor tags call it surface reflectance, and no metadata XML gives coefficients: read as "
        "reflectance × 10 000. Pass --msi-scale if that is wrong."
    )
    return None


def _scene(path: Path) -> str | None:
    found = SCENE.match(path.name)
    return found[1] if found else None


def _udm2(path: Path) -> Path | None:
    """Find the usable-data mask of the same scene (or, without a scene id, the only one in the folder)."""
    scene = _scene(path)
    found = [f for f in files_in(path.parent) if "udm2" in f.name.lower() and f.suffix.lower() in (".tif", ".tiff")]
    found = [file for file in found if _scene(file) == scene]
    return found[0] if len(found) == 1 else None


def _masks(path: Path, notes: list[str]) -> tuple[QualityLayer, ...]:
    file = _udm2(path)
    if file is None:
        return ()
    try:
        with open_raster(str(file)) as source:
            first = _described(source)[0]
            count = source.count
        if count >= 8 and first in ("", CLEAR):
            return (raster_layer(str(file), "UDM2", "not clear", "not_one", bands=(0,)),)
    except RasterioError:
        pass
    notes.append(f"{file}: no udm2 of eight bands that begins with clear; left out")
    return ()
