"""What geolift understood of a file, for people and programs."""

from __future__ import annotations

import numpy as np
import xarray as xr
from pydantic import JsonValue

from geolift.datamodel.cube import bands_of, grid_of
from geolift.pair.screening import screen_hsi
from geolift.pair.screening.findings import Fault
from geolift.pipeline.plan import file_facts
from geolift.provenance.record import ImageFacts
from geolift.settings import ScreenSettings
from geolift.srf import guess_sensor

MOST_SCREENED_BYTES = 1_000_000_000
"""Decoded size of an image that is read whole to be told of; larger ones are screened when they are used."""

FEWEST_SCREENED_BANDS = 20


class Description(ImageFacts):
    """The stable document of `geolift info --json`; None where something is not known, or was not looked for."""

    transform: list[float]
    wavelengths_nm: list[float | None] | None
    fwhm_nm: list[float | None] | None
    good_bands: list[bool]
    band_names: list[str]
    sensor: str | None
    product: str | None
    masks: list[str]
    faults: list[Fault] | None
    warnings: list[str]


def describe(cube: xr.DataArray) -> Description:
    """Return what was understood of a file."""
    grid, bands = grid_of(cube), bands_of(cube)
    facts = file_facts(cube)
    sensor = cube.attrs.get("sensor") or guess_sensor(
        str(cube.attrs.get("evidence", "")), list(bands.names), len(bands)
    )
    return Description(
        **facts.model_dump(),
        transform=[float(v) for v in tuple(grid.affine)[:6]],
        wavelengths_nm=_known(bands.wavelength_nm),
        fwhm_nm=_known(bands.fwhm_nm),
        good_bands=[bool(flag) for flag in bands.good],
        band_names=list(bands.names),
        sensor=sensor,
        product=cube.attrs.get("product"),
        masks=[f"{layer.name}: {layer.meaning}" for layer in cube.attrs.get("masks", ())],
        faults=_faults(cube),
        warnings=list(cube.attrs.get("warnings", [])),
    )


def _faults(cube: xr.DataArray) -> list[Fault] | None:
    """Return what is wrong with a hyperspectral image; None if it was not looked at: too large, or no such image."""
    bands = bands_of(cube)
    if cube.nbytes > MOST_SCREENED_BYTES or len(bands) < FEWEST_SCREENED_BANDS:
        return None
    _, screening = screen_hsi(cube, np.flatnonzero(bands.good), ScreenSettings(screen="report"))
    return list(screening.faults)


def _known(values: np.ndarray) -> list[float | None] | None:
    """Return a list of floats, or None if nothing is known."""
    if not np.isfinite(values).any():
        return None
    return [float(v) if np.isfinite(v) else None for v in values]


def lines(told: Description) -> list[str]:
    """Return a description as a person reads it."""
    rows, cols = told.shape
    a, b, c, d, e, f = told.transform
    nodata = "none" if told.nodata is None else _short(told.nodata)
    grid = f"{rows} × {cols} px, pixel {abs(a):g} × {abs(e):g}, origin {c:.12g}, {f:.12g}"
    if b or d:
        grid += f", rotated by {np.degrees(np.arctan2(d, a)):.1f}°"
    text = [
        f"file         {told.source} ({told.driver}, {told.dtype})",
        f"grid         {grid}",
        f"CRS          {told.crs or 'none'}",
        f"bands        {told.bands}, {sum(told.good_bands)} good",
        f"value        DN × {_short(told.scale)} + {_short(told.offset)} ({told.quantity}), nodata {nodata}",
        f"wavelengths  {_wavelengths(told)}",
    ]
    if told.acquired:
        text.append(f"acquired     {told.acquired}")
    text.append(f"sensor       {told.sensor or 'not told'}")
    if told.product:
        text.append(f"product      {told.product}")
    text += [f"mask         {mask}" for mask in told.masks]
    text += [f"fault        {fault.code}: {fault.message}" for fault in told.faults or ()]
    return text


def _wavelengths(told: Description) -> str:
    if told.wavelengths_nm is None:
        return "none"
    centres = [centre for centre in told.wavelengths_nm if centre is not None]
    widths = [width for width in told.fwhm_nm or () if width]
    fwhm = f", FWHM {min(widths):.4g} to {max(widths):.4g}" if widths else ""
    order = "" if all(np.diff(centres) > 0) else ", not in ascending order"
    return f"{min(centres):.6g} to {max(centres):.6g} nm{fwhm}{order} ({told.wavelengths_from})"


def _short(value: JsonValue) -> str:
    return f"{value:g}" if isinstance(value, float | int) else "per band"
