"""A STAC item as the input itself: its assets by band, local or over http."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import xarray as xr
from rasterio.errors import RasterioError

from geolift.errors import InputError
from geolift.readers import gate, remote, stac
from geolift.readers.band_files import BAND_NAME, band_key
from geolift.readers.band_set import NO_BAND, open_files
from geolift.readers.masks import QualityLayer, raster_layer
from geolift.readers.sentinel2 import SCL_MEANING, SCL_UNUSABLE, TEN_METRES
from geolift.readers.shared_raster import first_line
from geolift.settings import Reading

RASTER_MEDIA = ("tiff", "jp2", "geotiff", "cog", "x.vrt", "zarr")
RASTER_SUFFIXES = (".tif", ".tiff", ".jp2", ".vrt", ".img")
IMAGE_ROLES = {"data", "reflectance", "visual-reflectance"}
OTHER_ROLES = {"thumbnail", "overview", "metadata", "visual", "cloud", "cloud-shadow", "snow-ice", "data-mask"}
ITEM_ADDRESS = re.compile(r"/items/[^/]+$|\.json$|\.geojson$", re.IGNORECASE)


class StacItemReader:
    """A STAC item that a search returned, saved as a file or at its address."""

    def matches(self, path: str) -> bool:
        """Look for a JSON file of type Feature with assets, or an address that can be one."""
        if "://" in path and path.lower().startswith("http"):
            return ITEM_ADDRESS.search(urlsplit(path).path) is not None
        place = Path(path)
        if place.suffix.lower() not in (".json", ".geojson") or not place.is_file():
            return False
        return place.stat().st_size < stac.LARGEST_BYTES and b'"assets"' in place.read_bytes()

    def open(
        self, path: str, reading: Reading, tile: int | None = None, bands: Sequence[str] | None = None
    ) -> xr.DataArray:
        """Open the assets of the bands named; by default Sentinel-2's four of 10 m, else all that hold an image."""
        item = read_item(path)
        chosen = _chosen(item, bands)
        stac.require_own(item, chosen)
        if len(chosen) == 1 and chosen[0].bands != 1:
            return _one_file(item, chosen[0], path, reading, tile)
        names = [name_of(asset) for asset in chosen]
        return open_files(
            [asset.href for asset in chosen],
            reading,
            tile,
            source=path,
            told=(item, chosen),
            names=names,
            masks=_classification(item, path),
        )


def read_item(path: str) -> stac.Item:
    """Read an item from a file or an address.

    Raises InputError if it is no STAC item; RemoteError if it cannot be read over the network.
    """
    remotely = "://" in path
    text = remote.fetch(path) if remotely else Path(path).read_bytes()
    document = gate.json_document(text, remote.without_query(path))
    if document.get("type") != "Feature" or not isinstance(document.get("assets"), dict):
        kind = gate.shown(document.get("type"))
        raise InputError(
            f"{remote.without_query(path)}: a STAC item (a Feature with assets) is needed, this is {kind}. "
            "Of a search's result pass one item, or its address (its link `self`)."
        )
    return stac.understood(document, path)


def name_of(asset: stac.Asset) -> str:
    """Call an asset by the sensor's band if anything names it so, else by its common name, else by its key."""
    candidates = (*asset.names[:1], asset.key, Path(stac.file_name(asset.href)).stem, *asset.names)
    for text in candidates:
        found = BAND_NAME.search(text)
        if found:
            return f"B{int(found[1]):02d}{found[2].upper()}" if not found[2] else f"B{int(found[1])}{found[2].upper()}"
    return asset.names[-1] if asset.names else asset.key


def _keys(asset: stac.Asset) -> set[str]:
    return {band_key(text) for text in (name_of(asset), asset.key, *asset.names)}


def _is_image(asset: stac.Asset) -> bool:
    roles = set(asset.roles)
    suffix = Path(stac.file_name(asset.href)).suffix.lower()
    raster = suffix in RASTER_SUFFIXES or any(word in asset.media.lower() for word in RASTER_MEDIA)
    named = f"_{asset.key}_ _{Path(stac.file_name(asset.href)).stem}_"
    return (
        raster
        and not roles & OTHER_ROLES
        and NO_BAND.search(named) is None
        and (not roles or bool(roles & IMAGE_ROLES))
    )


def _chosen(item: stac.Item, wanted: Sequence[str] | None) -> tuple[stac.Asset, ...]:
    """Choose the assets of the bands named, in that order, in their finest resolution.

    Raises InputError if there is none.
    """
    images = sorted((a for a in item.assets if _is_image(a)), key=lambda a: a.gsd_m or _resolution(a))
    if not images:
        raise InputError(
            f"{item.path}: none of its assets ({', '.join(a.key for a in item.assets) or 'none'}) is an image"
        )
    whole = [asset for asset in images if asset.bands > 1]
    names = list(wanted or (TEN_METRES if item.is_sentinel_2 and not whole else ()))
    if not names:
        if whole:
            return (whole[0],)
        distinct = {name_of(asset): asset for asset in reversed(images)}
        return tuple(sorted(distinct.values(), key=lambda asset: (len(name_of(asset)), name_of(asset))))
    found = []
    for name in names:
        match = next((asset for asset in images if asset.bands <= 1 and band_key(name) in _keys(asset)), None)
        if match is None and whole:
            return (whole[0],)
        if match is None:
            held = ", ".join(dict.fromkeys(name_of(asset) for asset in images))
            raise InputError(f"{item.path}: no asset holds the band {name}; there are {held}")
        found.append(match)
    return tuple(found)


def _resolution(asset: stac.Asset) -> float:
    """Read the pixel size from a name such as B02_10m; names without one count as fine."""
    found = re.search(r"_(\d{2})m(?=$|[_.])", f"{asset.key} {stac.file_name(asset.href)}".replace(" ", "_"))
    return float(found[1]) if found else 1.0


def _one_file(item: stac.Item, asset: stac.Asset, path: str, reading: Reading, tile: int | None) -> xr.DataArray:
    """Open an asset that holds all bands, the item's word added where its own tags are silent."""
    from geolift.readers.raster import RasterReader

    own = RasterReader().open(asset.href, reading, tile)
    plain = own.attrs["scale"] == 1.0 and own.attrs["offset"] == 0.0
    if plain and asset.scale is not None and reading.scale is None:
        offset = item.offset_of(asset) or 0.0
        said = reading.model_copy(update={"scale": asset.scale, "offset": offset, "nodata": reading.nodata})
        own = RasterReader().open(asset.href, said, tile)
        own.attrs["warnings"].append(
            f"{remote.without_query(path)}: scale {asset.scale:g} and offset {offset:g} are taken from this STAC item"
        )
    own.attrs["evidence"] = f"{own.attrs['evidence']} {item.platform}"
    return own


def _classification(item: stac.Item, path: str) -> tuple[QualityLayer, ...]:
    """Open Sentinel-2's scene classification as a mask; what cannot be opened is left out."""
    asset = next((a for a in item.assets if a.key.lower().startswith("scl")), None)
    if not item.is_sentinel_2 or asset is None:
        return ()
    stac.require_own(item, [asset])
    try:
        return (raster_layer(asset.href, "SCL", SCL_MEANING, "classes", SCL_UNUSABLE),)
    except RasterioError as error:
        raise InputError(f"{remote.without_query(path)}: its asset {asset.key}: {first_line(error)}") from error
