"""STAC items, versions 1.0 and 1.1: scale, offset, names, spacecraft and time of COGs whose pixels do not tell them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from geolift.errors import InputError
from geolift.readers import gate
from geolift.readers.remote import without_query

SCHEMES = ("http", "https", "s3", "gs", "az", "abfs")
"""Of addresses; other words before :// are GDAL's or lead to local files."""

SENTINEL_2_OFFSET = -0.1
OFFSET_SINCE_BASELINE = 4.0
LARGEST_BYTES = 5_000_000
BASELINES = ("s2:processing_baseline", "processing:version", "processing:software")


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One file of an item, and what the item says of it (None = unsaid).

    Attributes
    ----------
    key, href : str
        Its name in the item; its address, resolved against the item's.
    names : tuple of str
        What its bands are called, by preference the sensor's own names, then common names.
    bands : int
        How many bands it has, as far as the item tells; 0 = unsaid.
    scale, offset, nodata : float or None
        Of its first band.
    """

    key: str
    href: str
    roles: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    bands: int = 0
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    gsd_m: float | None = None
    media: str = ""


@dataclass(frozen=True, kw_only=True)
class Item:
    """An item's assets and what it says of the scene.

    ``offset_applied``: the catalogue says that the offset is in the pixels already (None = unsaid);
    ``baseline``: Sentinel-2's processing baseline; ``homes``: the folders of local files that it may speak of.
    """

    path: str
    assets: tuple[Asset, ...]
    platform: str
    acquired: str
    offset_applied: bool | None
    baseline: float | None
    homes: tuple[Path, ...] = ()

    @property
    def is_sentinel_2(self) -> bool:
        """Whether the scene is Sentinel-2's."""
        return self.platform.lower().replace("_", "-").startswith("sentinel-2")

    def offset_of(self, asset: Asset) -> float | None:
        """Settle an asset's offset: catalogues list −0.1 also where it is applied already, or do not list it at all."""
        if self.offset_applied is True:
            return 0.0
        if asset.offset is None and self.is_sentinel_2 and self.baseline is not None:
            return SENTINEL_2_OFFSET if self.baseline >= OFFSET_SINCE_BASELINE else 0.0
        return asset.offset

    def doubtful(self, asset: Asset) -> bool:
        """Tell whether what the item says of the offset contradicts itself."""
        declared = asset.offset
        if self.offset_applied is True:
            return bool(declared)
        if not self.is_sentinel_2 or self.baseline is None or declared is None:
            return False
        return (declared != 0) != (self.baseline >= OFFSET_SINCE_BASELINE)

    def for_files(self, names: Sequence[str]) -> tuple[Asset, ...] | None:
        """Return the assets of files with these names; None unless all are there."""
        by_name = {file_name(asset.href): asset for asset in self.assets}
        return tuple(by_name[name] for name in names) if all(name in by_name for name in names) else None


def file_name(href: str) -> str:
    """Return the file's name in an address.

    >>> file_name("https://a.b/c/B02.tif?sig=1")
    'B02.tif'
    """
    return urlsplit(href).path.rpartition("/")[2] if "://" in href else href.rpartition("/")[2]


def item_of(paths: Sequence[str]) -> Item | None:
    """Find the STAC item in the files' folder whose assets have the names of all files; None if there is none."""
    names = [file_name(path) for path in paths]
    for file in sorted(Path(paths[0]).parent.glob("*.json")):
        try:
            if file.stat().st_size > LARGEST_BYTES:
                continue
            text = file.read_bytes()
        except OSError:
            continue
        if b'"assets"' not in text:
            continue
        try:
            document = gate.json_document(text, file)
        except InputError:
            continue
        if not isinstance(document.get("assets"), dict):
            continue
        item = understood(document, str(file))
        if item.for_files(names) is not None:
            return item
    return None


def understood(document: dict[str, Any], path: str) -> Item:
    """Read an item. Raises InputError where a number is none."""
    properties = _mapping(document.get("properties"))
    assets = _mapping(document.get("assets"))
    base = _mapping_list(document.get("bands"))
    baseline = next((b for key in BASELINES if (b := _baseline(properties.get(key))) is not None), None)
    applied = properties.get("earthsearch:boa_offset_applied")
    return Item(
        path=path,
        assets=tuple(_asset(str(key), _mapping(value), path, base) for key, value in assets.items()),
        platform=str(properties.get("platform", "")),
        acquired=str(properties.get("datetime") or properties.get("start_datetime") or ""),
        offset_applied=applied if isinstance(applied, bool) else None,
        baseline=baseline,
        homes=_homes(document, path),
    )


def _asset(key: str, asset: dict[str, Any], path: str, base: list[dict[str, Any]]) -> Asset:
    """Read an asset; `bands` (1.1) and `eo:bands`, `raster:bands` (1.0) say the same in two ways."""
    eo, raster = _mapping_list(asset.get("eo:bands")), _mapping_list(asset.get("raster:bands"))
    bands = _mapping_list(asset.get("bands")) or base * bool(eo)
    first = {**(raster[0] if raster else {}), **(bands[0] if bands else {})}

    def told(*names: str) -> float | None:
        for holder in (first, asset):
            for name in names:
                if isinstance(holder.get(name), str) and name == "nodata" and holder[name].lower() == "nan":
                    return None
                if holder.get(name) is not None:
                    return gate.number(holder[name], path, f"asset {key}: {name}")
        return None

    roles = asset.get("roles")
    own = [str(band["name"]) for band in (*bands, *eo) if band.get("name")]
    common = [str(band[name]) for band in (*bands, *eo) for name in ("eo:common_name", "common_name") if band.get(name)]
    return Asset(
        key=key,
        href=resolved(str(asset.get("href", "")), path),
        roles=tuple(map(str, roles)) if isinstance(roles, list) else (),
        names=(*own, *common),
        bands=max(len(bands), len(eo), len(raster)),
        scale=None if (scale := told("raster:scale", "scale")) is None else gate.positive(scale, path, f"{key}: scale"),
        offset=told("raster:offset", "offset"),
        nodata=told("nodata"),
        gsd_m=gate.optional_number(asset.get("gsd"), path, f"asset {key}: gsd"),
        media=str(asset.get("type", "")),
    )


def resolved(href: str, path: str) -> str:
    """Resolve an address against the item's, which may be a file or an address.

    >>> resolved("./B02.tif", "https://a.b/c/item.json"), resolved("B02.tif", "/data/item.json")
    ('https://a.b/c/B02.tif', '/data/B02.tif')
    """
    if "://" in path:
        return urljoin(path, href)
    return href.removeprefix("file://") if "://" in href else str(Path(path).parent / href)


def require_own(item: Item, assets: Iterable[Asset]) -> None:
    """Refuse assets that an item may not speak of: what is not below its folder, or one that its links declare.

    An item that came over the network may name addresses alone; a file may name addresses too. Raises InputError.
    """
    for asset in assets:
        address = asset.href.partition("://")[0].lower() in SCHEMES
        if address or ("://" not in item.path and _below(asset.href, item.homes)):
            continue
        raise InputError(
            f"{without_query(item.path)}: its asset {asset.key} is {gate.shown(asset.href)}, which is neither an "
            "address nor in its folder, and no link (self, root, parent) of it declares that place. Name the files "
            "themselves."
        )


def _below(file: str, folders: Iterable[Path]) -> bool:
    place = Path(file).resolve()
    return any(place.is_relative_to(folder.resolve()) for folder in folders)


def _homes(document: Mapping[str, object], path: str) -> tuple[Path, ...]:
    """Return the folders in which an item from a file says to be at home."""
    links = [link for link in _mapping_list(document.get("links")) if link.get("rel") in ("self", "root", "parent")]
    declared = [resolved(str(link.get("href", "")), path) for link in links]
    return tuple(Path(name).parent for name in (path, *declared) if "://" not in name)


def _baseline(value: object) -> float | None:
    """Read a processing baseline such as 05.11; other versions are none."""
    try:
        return float(str(value))
    except ValueError:
        return None


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _mapping_list(value: object) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
