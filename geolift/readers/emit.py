"""EMIT L2A: NetCDF-4 in the sensor's own lines and samples, orthorectified here through its geolocation table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geolift.datamodel.cube import Bands
from geolift.errors import InputError
from geolift.readers import hdf5
from geolift.readers.masks import QualityLayer
from geolift.readers.product import Product, ProductReader, files_in, iso_time, placed
from geolift.readers.source import BandIndices, Decoding, Layout
from geolift.readers.wavelengths import in_nanometres

NAME = "EMIT L2A reflectance"
QUANTITIES = {"reflectance": "reflectance", "radiance": "radiance"}
FILL = -9999.0
ORTHO_BLOCK_PX = 64
# Words in the names of the mask's layers that say "do not use"; water and the aggregate (which counts water) do not.
MASKING = ("cloud", "cirrus", "spacecraft")


class Orthorectified:
    """A dataset (line, sample, band) seen on the map grid of a geolocation table.

    The table holds for every map pixel the 1-based sample (glt_x) and line (glt_y) it shows; 0 = none.
    """

    def __init__(self, file: hdf5.SharedHdf5, dataset: str, bands: BandIndices | None = None) -> None:
        self._cube = hdf5.Hdf5Cube(file, dataset, "yxb", bands)
        self._samples, self._lines = (hdf5.Hdf5Cube(file, f"location/{name}", "yx") for name in ("glt_x", "glt_y"))
        shape = self._samples.layout.shape
        if self._lines.layout.shape != shape:
            raise InputError(f"{file.path}: its tables glt_x and glt_y are {shape} and {self._lines.layout.shape}")
        block = (min(ORTHO_BLOCK_PX, shape[0]), min(ORTHO_BLOCK_PX, shape[1]))
        self.path = file.path
        self.layout = Layout(self._cube.layout.count, shape, self._cube.layout.dtype, block)

    def read(self, rows: slice, cols: slice, bands: BandIndices | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Return a window (band, y, x) of the map grid; what the table leaves empty holds the fill value."""
        samples, lines = (np.abs(table.read(rows, cols)[0][0]) for table in (self._samples, self._lines))
        seen = (samples > 0) & (lines > 0)
        count = self.layout.count if bands is None else len(bands)
        window = np.full((count, *seen.shape), FILL, dtype=self.layout.dtype)
        if not seen.any():
            return window, seen
        line, sample = lines[seen] - 1, samples[seen] - 1
        self._require_inside(int(line.max()), int(sample.max()))
        top, left = int(line.min()), int(sample.min())
        swath, _ = self._cube.read(slice(top, int(line.max()) + 1), slice(left, int(sample.max()) + 1), bands)
        window[:, seen] = swath[:, line - top, sample - left]
        return window, seen

    def _require_inside(self, line: int, sample: int) -> None:
        lines, samples = self._cube.layout.shape
        if line >= lines or sample >= samples:
            raise InputError(
                f"{self.path}: its geolocation table points at line {line + 1}, sample {sample + 1} of an image of "
                f"{lines} × {samples}; table and image do not belong together"
            )


class EmitReader(ProductReader):
    """EMIT surface reflectance (and radiance, as radiance)."""

    def matches(self, path: str) -> bool:
        """Look for the cube beside its geolocation table."""
        return hdf5.holds(path, *QUANTITIES) and hdf5.holds(path, "location/glt_x")

    def product(self, path: str, bands: Sequence[str] | None = None) -> Product:
        """Open it on the map grid of its geolocation table, lazily."""
        notes: list[str] = []
        with hdf5.opened(path, NAME) as file:
            dataset = next(name for name in QUANTITIES if name in file)
            spectral = file["sensor_band_parameters"]
            wavelength, fwhm = in_nanometres(
                hdf5.numbers_of(spectral["wavelengths"], path, "wavelengths"),
                hdf5.numbers_of(spectral["fwhm"], path, "fwhm"),
                path,
                NAME,
                notes,
            )
            key = "good_wavelengths"
            good = hdf5.flags_of(spectral.get(key), len(wavelength), path, key)
            fill = hdf5.fill_of(file[dataset], path)
            grid = _grid(file, path)
            started = hdf5.text_of(file.attrs.get("time_coverage_start", ""))
            flight = hdf5.text_of(file.attrs.get("flight_line", ""))
        stored = Orthorectified(hdf5.SharedHdf5(path), dataset)
        return Product(
            source=path,
            stored=stored,
            grid=grid,
            bands=Bands(tuple(f"band {i + 1}" for i in range(len(wavelength))), wavelength, fwhm, good),
            decoding=Decoding.uniform(len(wavelength), nodata=FILL if fill is None else fill),
            quantity=QUANTITIES[dataset],
            name=NAME if dataset == "reflectance" else "EMIT radiance",
            sensor="EMIT",
            driver="netCDF",
            acquired=iso_time(started) or iso_time(Path(path).name),
            wavelengths_from="sensor_band_parameters/wavelengths",
            notes=notes,
            search_fill=True,
            masks=_quality_layers(path, grid, flight, notes),
        )


def _grid(file: Any, path: str) -> GeoBox:
    numbers = hdf5.numbers_of(file.attrs["geotransform"], path, "geotransform")
    if len(numbers) != 6:
        raise InputError(f"{path}: geotransform has {len(numbers)} numbers; 6 are needed. Is the metadata damaged?")
    left, width, rot_x, top, rot_y, height = numbers.tolist()
    affine = Affine(width, rot_x, left, rot_y, height, top)
    return placed(file["location/glt_x"].shape, affine, hdf5.text_of(file.attrs["spatial_ref"]), path)


def _quality_layers(path: str, grid: GeoBox, flight: str, notes: list[str]) -> tuple[QualityLayer, ...]:
    """Find the mask product of the same flight line in the same folder."""
    for file in files_in(Path(path).parent):
        if str(file) == path or not hdf5.holds(str(file), "mask"):
            continue
        with hdf5.opened(str(file), "EMIT L2A mask") as mask:
            if not flight or hdf5.text_of(mask.attrs.get("flight_line", "")) != flight:
                continue
            names = [hdf5.text_of(name) for name in mask["sensor_band_parameters/mask_bands"][:]]
            own_grid = _grid(mask, str(file))
        chosen = [i for i, name in enumerate(names) if _masks(name)]
        if own_grid != grid or not chosen:
            notes.append(f"{file}: the mask of this flight line lies on another grid or has no flags; left out")
            continue
        stored = Orthorectified(hdf5.SharedHdf5(str(file)), "mask", chosen)
        meaning = ", ".join(names[i].lower() for i in chosen)
        return (QualityLayer(name="EMIT_L2A_MASK", meaning=meaning, stored=stored, grid=grid, rule="nonzero"),)
    return ()


def _masks(name: str) -> bool:
    lower = name.lower()
    return any(word in lower for word in MASKING) and "prob" not in lower and "aggregate" not in lower
