"""`coregister` and `check` on files: read both, compare, tell; write the HSI with a corrected transform."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xarray as xr

from geolift.comparison import Comparison, compare
from geolift.crosscheck import check, document, enforce
from geolift.errors import NoOverlapError, TrustError
from geolift.listener import SILENT, Listener
from geolift.masking import mask_of, without
from geolift.plan import SpectralPlan, plan_region, plan_spectra
from geolift.readers import open_cube
from geolift.settings import PairSettings, RegionSettings
from geolift.writer import check_output
from geolift.writer.moved import write_moved


def open_pair(
    hsi: str | Path, msi: str | Path, settings: PairSettings, listener: Listener
) -> tuple[xr.DataArray, xr.DataArray, SpectralPlan]:
    """Open both files, settle the bands, and tell the listener what had to be assumed."""
    hsi_cube, msi_cube = (
        open_cube(hsi, settings.hsi_reading),
        open_cube(msi, settings.msi_reading, bands=settings.msi_bands),
    )
    spectra = plan_spectra(hsi_cube, settings, settings, msi_cube)
    hsi_cube = without(hsi_cube, None if settings.mask == "none" else mask_of(hsi_cube, "auto"))
    msi_cube = without(msi_cube, mask_of(msi_cube, settings.mask, settings.mask_dilate))
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
        raise NoOverlapError(f"{hsi} and {msi}: no HSI pixel lies under the MSI")
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


def check_files(
    hsi: str | Path, msi: str | Path, settings: PairSettings, listener: Listener = SILENT
) -> dict[str, Any]:
    """Check two files against each other; the document of `geolift check --json`.

    Raises
    ------
    TrustError
        Under ``strict``, if anything was found that needs a hand.
    """
    quiet = settings.model_copy(update={"strict": False})
    hsi_cube, msi_cube, spectra = open_pair(hsi, msi, settings, listener)
    try:
        region = plan_region(hsi_cube, msi_cube, RegionSettings())
    except NoOverlapError as error:
        if settings.strict:
            raise TrustError(str(error)) from error
        return {"verdict": [{"code": "no-overlap", "message": str(error), "option": ""}], "bands": []}
    compared = compare(hsi_cube, msi_cube.isel(band=list(spectra.msi_bands)), spectra, region, quiet)
    if compared is None:
        message = "no HSI pixel lies under the MSI"
        return {"verdict": [{"code": "no-overlap", "message": message, "option": ""}], "bands": []}
    result = check(hsi_cube, msi_cube, spectra, compared)
    if settings.strict:
        enforce(result)
    return document(result) | {"coregistration": compared.shift_json()}
