"""`coregister` and `check` on files: read both, compare, tell; write the HSI with a corrected transform."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import rasterio
import xarray as xr
from affine import Affine
from rasterio.errors import RasterioError
from rasterio.shutil import copy as copy_raster

from geolift.comparison import Comparison, compare
from geolift.errors import InputError, ResourceError
from geolift.listener import SILENT, Listener
from geolift.plan import SpectralPlan, plan_region, plan_spectra
from geolift.readers import open_cube
from geolift.settings import PairSettings, RegionSettings
from geolift.writer import check_output


def open_pair(
    hsi: str | Path, msi: str | Path, settings: PairSettings, listener: Listener
) -> tuple[xr.DataArray, xr.DataArray, SpectralPlan]:
    """Open both files, settle the bands, and tell the listener what had to be assumed."""
    hsi_cube, msi_cube = open_cube(hsi, settings.hsi_reading), open_cube(msi, settings.msi_reading)
    spectra = plan_spectra(hsi_cube, settings, settings, msi_cube)
    for text in (*hsi_cube.attrs.get("warnings", []), *msi_cube.attrs.get("warnings", []), *spectra.warnings):
        listener.warn(text)
    return hsi_cube, msi_cube, spectra


def coregister_files(
    hsi: str | Path,
    msi: str | Path,
    output: Path | None,
    settings: PairSettings,
    listener: Listener = SILENT,
) -> dict[str, Any]:
    """Estimate the shift that brings the HSI onto the MSI; with ``output`` also write the HSI moved by it.

    Raises
    ------
    TrustError
        Under ``strict``, if the evidence is weak.
    InputError
        If the files do not overlap.
    """
    if output is not None:
        check_output(output, settings.overwrite, (str(hsi), str(msi)))
    hsi_cube, msi_cube, spectra = open_pair(hsi, msi, settings, listener)
    region = plan_region(hsi_cube, msi_cube, RegionSettings())
    compared = compare(hsi_cube, msi_cube.isel(band=list(spectra.msi_bands)), spectra, region, settings)
    if compared is None:
        raise InputError(f"{hsi} and {msi}: no HSI pixel lies under the MSI")
    for text in compared.warnings:
        listener.warn(text)
    document = compared.shift_json()
    if output is not None:
        move_x, move_y = _applied_units(compared)
        write_moved(str(hsi_cube.attrs["source"]), output, move_x, move_y)
        document["output"] = str(output)
    return document


def _applied_units(compared: Comparison) -> tuple[float, float]:
    return compared.overlay.shift_units(*compared.overlay.fine_shift(*compared.applied_px))


def write_moved(source: str, output: Path, move_x: float, move_y: float) -> None:
    """Copy a raster with its transform moved by (x, y) in its CRS; no pixel is resampled.

    Raises
    ------
    ResourceError, InputError
    """
    part = output.with_name(f".{output.stem}.{os.getpid()}.part{output.suffix}")
    try:
        copy_raster(source, part, driver="GTiff", TILED="YES", COMPRESS="ZSTD", BIGTIFF="IF_SAFER")
        with rasterio.open(part, "r+") as target:
            target.transform = Affine.translation(move_x, move_y) * target.transform
        part.replace(output)
    except RasterioError as error:
        raise InputError(f"{source}: cannot be copied to {output}: {error}") from error
    except OSError as error:
        raise ResourceError(f"{output}: cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
        part.with_name(part.name + ".aux.xml").unlink(missing_ok=True)
