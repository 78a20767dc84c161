"""Spectra at places: what HSI, MSI and product hold there, with the product's standard error and marks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import xarray as xr
from odc.geo.crs import CRS
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from geolift.datamodel.alignment import transformer
from geolift.datamodel.cube import bands_of, grid_of
from geolift.datamodel.quality import Flag
from geolift.errors import InputError
from geolift.pipeline.place_values import PlaceValues, pixels_in, values_at
from geolift.provenance.sidecar import read_sidecar, sidecar_path
from geolift.readers import open_cube
from geolift.readers.places import Places, read_places
from geolift.report.scene import Scene, open_scene


def spectra(
    product: str | Path, places: str | Path | Places, *, layer: str | None = None, places_crs: str | None = None
) -> xr.Dataset:
    """Return the spectra of a product at points and in polygons, those of its HSI and MSI beside them.

    Parameters
    ----------
    product
        What `geolift fuse` or `apply` has written; any other raster with wavelengths gives its own spectra alone.
    places
        A file that `geolift.readers.places.read_places` reads, or what it returns.
    layer, places_crs
        See `read_places`.

    Returns
    -------
    xarray.Dataset
        ``product``, ``product_spread``, ``hsi``, ``sigma`` (place, band); ``msi`` (place, msi_band), as it was used:
        harmonised; ``pixels``, ``quality``, ``x``, ``y`` (place), the latter in the product's CRS. What the run did not
        write, or what is no longer there, is left out.

    Raises
    ------
    InputError
        If the product or the places cannot be read, or no place lies on the product.
    """
    product = Path(product)
    found = places if isinstance(places, Places) else read_places(places, layer, places_crs)
    scene = _scene_of(product)
    cube = open_cube(product) if scene is None or scene.product is None else scene.product
    crs = grid_of(cube).crs
    geometries = [_moved_to(place.geometry, found.crs, crs) for place in found.places]
    values = values_at(cube, geometries)
    if not values.pixels.any():
        raise InputError(f"{found.source}: none of its {len(geometries)} places lies on {product}")
    parts = _spectrum("product", values, cube)
    if scene is not None:
        parts |= _beside(scene, geometries, crs, cube)
    points = [geometry.representative_point() for geometry in geometries]
    coords = {
        "place": [place.name for place in found.places],
        "x": ("place", [point.x for point in points]),
        "y": ("place", [point.y for point in points]),
        "pixels": ("place", values.pixels),
        **_bands("band", cube),
    }
    attrs = {"product": str(product), "crs": "" if crs is None else str(crs)}
    return xr.Dataset(parts, coords, attrs)


def _scene_of(product: Path) -> Scene | None:
    """Open what a product was made from; None where there is no sidecar of ours."""
    sidecar = sidecar_path(product)
    try:
        return open_scene(product, read_sidecar(sidecar)) if sidecar.exists() else None
    except (InputError, json.JSONDecodeError):
        return None


def _beside(scene: Scene, geometries: Sequence[BaseGeometry], crs: CRS | None, product: xr.DataArray) -> dict[str, Any]:
    """Read HSI, MSI, standard error and marks at the same places."""
    parts: dict[str, Any] = {}
    if scene.hsi is not None and scene.hsi_bands is not None:
        # The HSI counted as moved by the shift: what lies here on the product was seen there.
        affine, (dy, dx) = grid_of(product).affine, scene.shift_px
        back = (-(affine.a * dx + affine.b * dy), -(affine.d * dx + affine.e * dy))
        there = [_moved_to(translate(geometry, *back), crs, grid_of(scene.hsi).crs) for geometry in geometries]
        parts |= _spectrum("hsi", values_at(scene.hsi.isel(band=scene.hsi_bands), there), scene.hsi)
    if scene.msi is not None:
        at = [_moved_to(geometry, crs, grid_of(scene.msi).crs) for geometry in geometries]
        seen = scene.harmonized(values_at(scene.msi, at).mean.T).T
        centres = np.full(len(scene.msi_names), np.nan)
        if scene.response is not None:
            centres = np.asarray(scene.response.select(scene.msi_names).centres_nm)
        names = np.asarray(scene.msi_names, object)
        coords = {"msi_band": names, "msi_wavelength": ("msi_band", centres)}
        parts["msi"] = xr.DataArray(seen, dims=("place", "msi_band"), coords=coords)
    sigma = scene.side_product(scene.settings.uncertainty)
    if sigma is not None and sigma.sizes["band"] == product.sizes["band"]:
        parts["sigma"] = ("place", "band"), values_at(sigma, geometries).mean
    quality = scene.side_product(scene.settings.qa)
    if quality is not None:
        parts["quality"] = "place", [_marks(quality, geometry) for geometry in geometries]
    return parts


def _marks(quality: xr.DataArray, geometry: BaseGeometry) -> int:
    """Return the bits that any pixel of a place has."""
    bits = 0
    for values in pixels_in(quality, geometry, grid_of(quality)):
        bits |= int(np.bitwise_or.reduce(np.nan_to_num(values).astype(np.int64), axis=None))
    return bits


def marks_in_words(bits: int) -> str:
    """Return quality bits as words.

    >>> marks_in_words(20), marks_in_words(0)
    ('out of range, outside hsi', '')
    """
    return ", ".join(str(flag.name).replace("_", " ").lower() for flag in Flag if bits & flag)


def _spectrum(name: str, values: PlaceValues, cube: xr.DataArray) -> dict[str, Any]:
    parts: dict[str, Any] = {name: (("place", "band"), values.mean, {"quantity": cube.attrs.get("quantity", "")})}
    if np.isfinite(values.spread).any():
        parts[f"{name}_spread"] = ("place", "band"), values.spread
    return parts


def _bands(dim: str, cube: xr.DataArray) -> dict[str, Any]:
    bands = bands_of(cube)
    return {
        dim: list(bands.names) if len(set(bands.names)) == len(bands) else np.arange(1, len(bands) + 1),
        "wavelength": (dim, bands.wavelength_nm, {"units": "nm"}),
        "fwhm": (dim, bands.fwhm_nm, {"units": "nm"}),
        "good": (dim, bands.good),
    }


def _moved_to(geometry: BaseGeometry, source: CRS | None, target: CRS | None) -> BaseGeometry:
    """Return a geometry in another CRS; as it is where either is unknown."""
    if source is None or target is None or source == target:
        return geometry
    turn = transformer(source, target)
    return shapely.transform(geometry, lambda xy: np.column_stack(turn.transform(xy[:, 0], xy[:, 1])))
