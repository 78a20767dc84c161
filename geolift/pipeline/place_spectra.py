"""Spectra at places: what HSI, MSI and product hold there, with the product's standard error and marks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely
import xarray as xr
from odc.geo.crs import CRS
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from geolift.datamodel.alignment import transformer
from geolift.datamodel.cube import bands_of, grid_of
from geolift.errors import InputError
from geolift.pipeline.place_values import PlaceValues, pixels_in, values_at
from geolift.provenance.record import read_record
from geolift.provenance.sidecar import sidecar_path
from geolift.readers import open_cube
from geolift.readers.places import Places, read_places
from geolift.report.scene import Scene, open_scene

if TYPE_CHECKING:
    from geolift.pipeline.fusion import Fusion


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
    scene = _scene_of(product)
    sources = Sources(product=open_cube(product)) if scene is None or scene.product is None else _sources_of(scene)
    found = places if isinstance(places, Places) else read_places(places, layer, places_crs)
    return _spectra(sources, found, str(product))


def fusion_spectra(fusion: Fusion, places: str | Path | Places) -> xr.Dataset:
    """Return the spectra of a fusion in memory; see `spectra`."""
    pair, compared = fusion.pair, fusion.compared
    sources = Sources(
        product=fusion.fused,
        hsi=pair.hsi.isel(band=list(pair.spectra.hsi_bands)),
        shift_px=(0.0, 0.0) if compared is None else compared.applied_px,
        msi=pair.used_msi,
        msi_names=tuple(pair.spectra.msi_names),
        msi_centres_nm=pair.spectra.weights @ pair.spectra.bands.wavelength_nm[list(pair.spectra.good)],
        harmonized=lambda msi: msi if compared is None else np.asarray(compared.harmonization.apply(msi)),
        sigma=fusion.sigma,
        quality=fusion.quality,
    )
    found = places if isinstance(places, Places) else read_places(places)
    return _spectra(sources, found, "fusion")


@dataclass(frozen=True, eq=False, kw_only=True)
class Sources:
    """What is read at places; None = not there.

    ``hsi`` with the product's bands, ``msi`` with the bands that were used, which ``harmonized`` brings to the HSI's
    radiometry; ``shift_px`` (dy, dx) in product pixels by which the HSI counts as moved.
    """

    product: xr.DataArray
    hsi: xr.DataArray | None = None
    shift_px: tuple[float, float] = (0.0, 0.0)
    msi: xr.DataArray | None = None
    msi_names: tuple[str, ...] = ()
    msi_centres_nm: np.ndarray | None = None
    harmonized: Callable[[np.ndarray], np.ndarray] = lambda msi: msi
    sigma: xr.DataArray | None = None
    quality: xr.DataArray | None = None


def _sources_of(scene: Scene) -> Sources:
    assert scene.product is not None
    bands = scene.hsi_bands
    return Sources(
        product=scene.product,
        hsi=None if scene.hsi is None or bands is None else scene.hsi.isel(band=bands),
        shift_px=scene.shift_px,
        msi=scene.msi,
        msi_names=scene.msi_names,
        msi_centres_nm=None if scene.response is None else scene.response.select(scene.msi_names).centres_nm,
        harmonized=scene.harmonized,
        sigma=scene.side_product(scene.settings.uncertainty),
        quality=scene.side_product(scene.settings.qa),
    )


def _scene_of(product: Path) -> Scene | None:
    """Open what a product was made from; None where there is no sidecar of ours."""
    sidecar = sidecar_path(product)
    try:
        return open_scene(product, read_record(sidecar)) if sidecar.exists() else None
    except (InputError, json.JSONDecodeError):
        return None


def _spectra(sources: Sources, places: Places, name: str) -> xr.Dataset:
    cube = sources.product
    crs = grid_of(cube).crs
    geometries = [_moved_to(place.geometry, places.crs, crs) for place in places.places]
    values = values_at(cube, geometries)
    if not values.pixels.any():
        raise InputError(f"{places.source}: none of its {len(geometries)} places lies on {name}")
    parts = _spectrum("product", values, cube) | _beside(sources, geometries, crs)
    points = [geometry.representative_point() for geometry in geometries]
    coords = {
        "place": [place.name for place in places.places],
        "x": ("place", [point.x for point in points]),
        "y": ("place", [point.y for point in points]),
        "pixels": ("place", values.pixels),
        **_bands("band", cube),
    }
    return xr.Dataset(parts, coords, {"product": name, "crs": "" if crs is None else str(crs)})


def _beside(sources: Sources, geometries: Sequence[BaseGeometry], crs: CRS | None) -> dict[str, object]:
    """Read HSI, MSI, standard error and marks at the same places."""
    parts: dict[str, object] = {}
    if sources.hsi is not None:
        # The HSI counted as moved by the shift: what lies here on the product was seen there.
        affine, (dy, dx) = grid_of(sources.product).affine, sources.shift_px
        back = (-(affine.a * dx + affine.b * dy), -(affine.d * dx + affine.e * dy))
        there = [_moved_to(translate(geometry, *back), crs, grid_of(sources.hsi).crs) for geometry in geometries]
        parts |= _spectrum("hsi", values_at(sources.hsi, there), sources.hsi)
    if sources.msi is not None:
        at = [_moved_to(geometry, crs, grid_of(sources.msi).crs) for geometry in geometries]
        seen = sources.harmonized(values_at(sources.msi, at).mean.T).T
        count = len(sources.msi_names)
        centres = np.full(count, np.nan) if sources.msi_centres_nm is None else np.asarray(sources.msi_centres_nm)
        coords = {"msi_band": np.asarray(sources.msi_names, object), "msi_wavelength": ("msi_band", centres)}
        parts["msi"] = xr.DataArray(seen, dims=("place", "msi_band"), coords=coords)
    if sources.sigma is not None and sources.sigma.sizes["band"] == sources.product.sizes["band"]:
        parts["sigma"] = ("place", "band"), values_at(sources.sigma, geometries).mean
    if sources.quality is not None:
        parts["quality"] = "place", [_marks(sources.quality, geometry) for geometry in geometries]
    return parts


def _marks(quality: xr.DataArray, geometry: BaseGeometry) -> int:
    """Return the bits that any pixel of a place has."""
    bits = 0
    for values in pixels_in(quality, geometry, grid_of(quality)):
        bits |= int(np.bitwise_or.reduce(np.nan_to_num(values).astype(np.int64), axis=None))
    return bits


def _spectrum(name: str, values: PlaceValues, cube: xr.DataArray) -> dict[str, object]:
    parts: dict[str, object] = {name: (("place", "band"), values.mean, {"quantity": cube.attrs.get("quantity", "")})}
    if np.isfinite(values.spread).any():
        parts[f"{name}_spread"] = ("place", "band"), values.spread
    return parts


def _bands(dim: str, cube: xr.DataArray) -> dict[str, object]:
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
