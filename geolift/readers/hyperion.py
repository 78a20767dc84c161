"""EO-1 Hyperion L1T: one GeoTIFF per band beside an MTL file; radiance, wavelengths by band number."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from importlib import resources

import numpy as np

from geolift.datamodel.cube import Bands
from geolift.errors import InputError
from geolift.readers import gate, odl
from geolift.readers.band_files import BandStack, examine
from geolift.readers.product import Product, ProductReader, files_in
from geolift.readers.shared_raster import is_virtual
from geolift.readers.source import Decoding

NAME = "EO-1 Hyperion L1T"
LAST_VNIR_BAND = 70
BAND_FILE = re.compile(r"_B(\d{3})[_.].*(tif|tiff)$", re.IGNORECASE)
EMPTY = 0.0


class HyperionReader(ProductReader):
    """Terrain-corrected radiance of Hyperion: the folder, or its MTL file."""

    def matches(self, path: str) -> bool:
        """Look for an MTL file that names the instrument."""
        return not is_virtual(path) and odl.find(path, '"HYPERION"', "= HYPERION", "EO1H") is not None

    def product(self, path: str, bands: Sequence[str] | None = None) -> Product:
        """Open all bands that are there; uncalibrated ones count as bad."""
        mtl = odl.find(path, '"HYPERION"', "= HYPERION", "EO1H")
        assert mtl is not None
        groups = odl.read(mtl)
        files = {int(m[1]): file for file in files_in(mtl.parent) if (m := BAND_FILE.search(file.name))}
        if not files:
            raise InputError(f"{mtl}: no band file (…_B008_L1T.TIF) lies beside it")
        numbers = sorted(files)
        stack = BandStack.of_files([examine(str(files[number])) for number in numbers])
        scaling = groups.get("RADIANCE_SCALING", {})
        try:
            divisors = [
                gate.positive(scaling[key], mtl, f"RADIANCE_SCALING {key}")
                for key in ("SCALING_FACTOR_VNIR" if n <= LAST_VNIR_BAND else "SCALING_FACTOR_SWIR" for n in numbers)
            ]
        except KeyError as error:
            raise InputError(f"{mtl}: RADIANCE_SCALING lacks {error}") from error
        count = len(numbers)
        return Product(
            source=path,
            stored=stack,
            grid=stack.grid,
            bands=_bands(numbers),
            decoding=Decoding(
                scale=tuple(1.0 / d for d in divisors), offset=(0.0,) * count, nodata=(None,) * count, empty=EMPTY
            ),
            quantity="radiance",
            name=NAME,
            sensor="EO-1 Hyperion",
            driver="GTiff",
            acquired=_acquired(groups),
            evidence="EO-1 Hyperion",
            wavelengths_from="USGS table by band number",
        )


@cache
def band_table() -> dict[int, tuple[float, float]]:
    """Return centre and FWHM in nm by band number.

    >>> band_table()[8]
    (426.82, 11.3871)
    """
    text = resources.files("geolift.readers").joinpath("hyperion_bands.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {int(row["band"]): (float(row["wavelength_nm"]), float(row["fwhm_nm"])) for row in rows}


def is_calibrated(band: int) -> bool:
    """Tell whether a band number is calibrated: 8–57 and 77–224."""
    return 8 <= band <= 57 or 77 <= band <= 224


def _bands(numbers: list[int]) -> Bands:
    table = band_table()
    unknown = [number for number in numbers if number not in table]
    if unknown:
        raise InputError(f"{NAME}: there is no band {unknown[0]}; Hyperion has bands 1 to {max(table)}")
    return Bands(
        tuple(f"B{number:03d}" for number in numbers),
        np.array([table[number][0] for number in numbers]),
        np.array([table[number][1] for number in numbers]),
        np.array([is_calibrated(number) for number in numbers]),
    )


def _acquired(groups: odl.Groups) -> str | None:
    """Read START_TIME, which is written as year, day of year, time; else the day alone."""
    metadata = groups.get("PRODUCT_METADATA", {})
    year_day_time = metadata.get("START_TIME", "").split()
    if len(year_day_time) == 3:
        year, day, time = year_day_time
        try:
            at = datetime.strptime(f"{year} {time[:8]}", "%Y %H:%M:%S") + timedelta(days=int(day) - 1)
        except (ValueError, OverflowError):
            pass
        else:
            return at.strftime("%Y-%m-%dT%H:%M:%SZ")
    date = metadata.get("ACQUISITION_DATE")
    return f"{date}T00:00:00Z" if date else None
