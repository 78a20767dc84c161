"""What geolift understood of a file, for people and programs."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from geolift.datamodel.cube import bands_of, grid_of
from geolift.pair.screening import screen_hsi
from geolift.pipeline.plan import file_facts
from geolift.settings import ScreenSettings
from geolift.srf import guess_sensor

MOST_SCREENED_BYTES = 1_000_000_000
"""Decoded size of an image that is read whole to be told of; larger ones are screened when they are used."""

FEWEST_SCREENED_BANDS = 20


def document(cube: xr.DataArray) -> dict[str, Any]:
    """Return the stable document of `geolift info --json`; unknown values are null."""
    grid, bands = grid_of(cube), bands_of(cube)
    facts = file_facts(cube)
    sensor = cube.attrs.get("sensor") or guess_sensor(
        str(cube.attrs.get("evidence", "")), list(bands.names), len(bands)
    )
    return facts | {
        "transform": [float(v) for v in tuple(grid.affine)[:6]],
        "wavelengths_nm": _known(bands.wavelength_nm),
        "fwhm_nm": _known(bands.fwhm_nm),
        "good_bands": [bool(flag) for flag in bands.good],
        "band_names": list(bands.names),
        "sensor": sensor,
        "product": cube.attrs.get("product"),
        "masks": [f"{layer.name}: {layer.meaning}" for layer in cube.attrs.get("masks", ())],
        "faults": _faults(cube),
        "warnings": list(cube.attrs.get("warnings", [])),
    }


def _faults(cube: xr.DataArray) -> list[dict[str, Any]] | None:
    """Return what is wrong with a hyperspectral image; None if it was not looked at: too large, or no such image."""
    bands = bands_of(cube)
    if cube.nbytes > MOST_SCREENED_BYTES or len(bands) < FEWEST_SCREENED_BANDS:
        return None
    _, screening = screen_hsi(cube, np.flatnonzero(bands.good), ScreenSettings(screen="report"))
    return list(screening.to_json()["faults"])


def _known(values: np.ndarray) -> list[float] | None:
    """Return a list of floats, or None if nothing is known."""
    if not np.isfinite(values).any():
        return None
    return [float(v) if np.isfinite(v) else None for v in values]  # type: ignore[misc]


def lines(document: dict[str, Any]) -> list[str]:
    """Return the document as a person reads it."""
    rows, cols = document["shape"]
    centres, widths = document["wavelengths_nm"], document["fwhm_nm"]
    good = document["good_bands"]
    a, b, c, d, e, f = document["transform"]
    grid = f"{rows} × {cols} px, pixel {abs(a):g} × {abs(e):g}, origin {c:.12g}, {f:.12g}"
    if b or d:
        grid += f", rotated by {np.degrees(np.arctan2(d, a)):.1f}°"
    text = [
        f"file         {document['source']} ({document['driver']}, {document['dtype']})",
        f"grid         {grid}",
        f"CRS          {document['crs'] or 'none'}",
        f"bands        {document['bands']}, {sum(good)} good",
        f"value        DN × {_short(document['scale'])} + {_short(document['offset'])} ({document['quantity']}), "
        f"nodata {document['nodata']}",
    ]
    if centres is None:
        text.append("wavelengths  none")
    else:
        width = "" if widths is None else f", FWHM {min(filter(None, widths)):.4g} to {max(filter(None, widths)):.4g}"
        order = "" if all(np.diff(centres) > 0) else ", not in ascending order"
        text.append(
            f"wavelengths  {min(centres):.6g} to {max(centres):.6g} nm{width}{order} ({document['wavelengths_from']})"
        )
    if document["acquired"]:
        text.append(f"acquired     {document['acquired']}")
    text.append(f"sensor       {document['sensor'] or 'not told'}")
    if document["product"]:
        text.append(f"product      {document['product']}")
    text += [f"mask         {mask}" for mask in document["masks"]]
    text += [f"fault        {fault['code']}: {fault['message']}" for fault in document["faults"] or ()]
    return text


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float | int) else "per band"
