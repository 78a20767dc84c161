"""What is told about a raster in its file: creation options, scale, wavelengths, bad bands, a default picture."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import xarray as xr
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from geolift.datamodel.cube import Bands, bands_of, grid_of, rasterio_crs
from geolift.datamodel.encoding import Encoding
from geolift.settings import WritingSettings
from geolift.writer.tiles import BLOCK, STRIP_ROWS

RGB_NM = (660.0, 560.0, 480.0)


def profile_of(cube: xr.DataArray, settings: WritingSettings, encoding: Encoding) -> dict[str, object]:
    """Return everything GDAL must know to create the file: driver, size, grid, numbers, creation options."""
    grid = grid_of(cube)
    return {
        "driver": "ENVI" if settings.of == "ENVI" else "GTiff",
        "dtype": encoding.dtype,
        "count": cube.shape[0],
        "height": grid.shape[0],
        "width": grid.shape[1],
        "crs": rasterio_crs(grid),
        "transform": grid.affine,
        "nodata": encoding.nodata,
        **creation_options(settings),
    }


def creation_options(settings: WritingSettings) -> dict[str, str]:
    """Return the creation options in force: ours, measured to be fast, and the user's over them."""
    if settings.of == "ENVI":
        return {"INTERLEAVE": "BSQ", **settings.creation_options}
    defaults = {
        "TILED": "YES",
        "BLOCKXSIZE": str(BLOCK),
        "BLOCKYSIZE": str(BLOCK),
        "INTERLEAVE": "BAND",
        "COMPRESS": "ZSTD",
        "ZSTD_LEVEL": "1",
        "BIGTIFF": "IF_SAFER",
        "PHOTOMETRIC": "MINISBLACK",
    }
    given = settings.creation_options if settings.of == "GTiff" else {}
    if "BLOCKSIZE" in given:
        given = {**given, "BLOCKXSIZE": given["BLOCKSIZE"], "BLOCKYSIZE": given["BLOCKSIZE"]}
        del given["BLOCKSIZE"]
    merged = defaults | given
    if merged["COMPRESS"].upper() != "ZSTD":
        merged.pop("ZSTD_LEVEL", None)
    if merged["TILED"].upper() in {"NO", "FALSE", "OFF"}:
        merged.pop("BLOCKXSIZE")
        merged["BLOCKYSIZE"] = given.get("BLOCKYSIZE", str(STRIP_ROWS))
    return merged


@contextmanager
def quiet_without_georeference() -> Iterator[None]:
    """Keep rasterio from warning of a raster without a transform: that is the input's matter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def create_empty(
    file: Path, cube: xr.DataArray, settings: WritingSettings, encoding: Encoding, tags: Mapping[str, str]
) -> None:
    """Let GDAL create the file with all its metadata and no pixels."""
    options = profile_of(cube, settings, encoding)
    if options["driver"] == "GTiff":
        options["SPARSE_OK"] = "TRUE"
    with quiet_without_georeference(), rasterio.open(file, "w", **options) as target:
        _describe(target, cube, bands_of(cube), encoding, tags)


def _describe(target: Any, cube: xr.DataArray, bands: Bands, encoding: Encoding, tags: Mapping[str, str]) -> None:
    """Write scale, wavelengths, FWHM and bad-band flags where QGIS, EnMAP-Box, GDAL, ENVI and SPy look for them."""
    count = len(bands)
    integer = encoding.dtype != "float32"
    envi = target.driver == "ENVI"
    if integer:
        target.scales = (encoding.scale,) * count
        target.offsets = (0.0,) * count
    target.descriptions = _descriptions(bands)
    spectral = np.isfinite(bands.wavelength_nm).all()
    for index in range(count):
        band_tags = {"bbl": str(int(bands.good[index]))}
        if np.isfinite(bands.wavelength_nm[index]):
            centre = float(bands.wavelength_nm[index])
            band_tags |= {"wavelength": repr(centre), "wavelength_units": "Nanometers"}
            target.update_tags(index + 1, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=f"{centre / 1000:.9g}")
        if np.isfinite(bands.fwhm_nm[index]):
            width = float(bands.fwhm_nm[index])
            band_tags["fwhm"] = repr(width)
            target.update_tags(index + 1, ns="IMAGERY", FWHM_UM=f"{width / 1000:.9g}")
        target.update_tags(index + 1, **band_tags)
    rgb = default_rgb(bands)
    if envi:
        target.update_tags(ns="ENVI", **_envi_header(bands, spectral, rgb, encoding, cube))
    elif rgb is not None:
        colours = [ColorInterp.undefined] * count
        for colour, band in zip((ColorInterp.red, ColorInterp.green, ColorInterp.blue), rgb, strict=True):
            colours[band] = colour
        target.colorinterp = colours
    target.update_tags(**tags)


def _descriptions(bands: Bands) -> tuple[str, ...]:
    """Name bands in the style "band 12 (513.2 Nanometers)", unless they have names of their own."""
    texts = []
    for index, name in enumerate(bands.names):
        centre = bands.wavelength_nm[index]
        generic = name.lower().startswith("band ") or "nanometers" in name.lower()
        texts.append(f"band {index + 1} ({centre:.10g} Nanometers)" if generic and np.isfinite(centre) else name)
    return tuple(texts)


def default_rgb(bands: Bands) -> tuple[int, int, int] | None:
    """Return the 0-based good bands nearest to red, green and blue, or None if the range lacks one."""
    centres = np.where(bands.good, bands.wavelength_nm, np.nan)
    if not np.isfinite(centres).any():
        return None
    picked = [int(np.nanargmin(np.abs(centres - target))) for target in RGB_NM]
    near = all(abs(centres[band] - target) < 50 for band, target in zip(picked, RGB_NM, strict=True))
    return (picked[0], picked[1], picked[2]) if near and len(set(picked)) == 3 else None


def _envi_header(
    bands: Bands, spectral: bool, rgb: tuple[int, int, int] | None, encoding: Encoding, cube: xr.DataArray
) -> dict[str, str]:
    def listed(values: Any) -> str:
        return "{" + ", ".join(values) + "}"

    header = {"bbl": listed(str(int(flag)) for flag in bands.good)}
    if spectral:
        header["wavelength"] = listed(repr(float(v)) for v in bands.wavelength_nm)
        header["wavelength_units"] = "Nanometers"
        if np.isfinite(bands.fwhm_nm).all():
            header["fwhm"] = listed(repr(float(v)) for v in bands.fwhm_nm)
    if rgb is not None:
        header["default_bands"] = listed(str(band + 1) for band in rgb)
    if encoding.dtype != "float32":
        # SPy and ENVI divide by this factor; GDAL and EnMAP-Box multiply by the `data gain values` GDAL writes.
        header["reflectance_scale_factor"] = f"{1 / encoding.scale:.10g}"
    if cube.attrs.get("acquired"):
        header["acquisition_time"] = str(cube.attrs["acquired"])
    return header


def name_envi_product(file: Path, path: Path) -> None:
    """Name the product in the header, where GDAL has put the draft's path."""
    header = file.with_suffix(".hdr")
    text = header.read_text(encoding="utf-8")
    text = re.sub(r"description = \{[^}]*\}", lambda _: f"description = {{{path.stem}}}", text, count=1)
    header.write_text(text, encoding="utf-8")
