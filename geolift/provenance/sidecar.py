"""The sidecar OUT.json: a STAC Item that tells everything about a run, and can repeat it."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np
import shapely
import shapely.affinity
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pydantic import JsonValue

from geolift.datamodel.alignment import transformer
from geolift.datamodel.cube import Bands
from geolift.datamodel.encoding import Encoding
from geolift.errors import SECRET_LEFT_OUT, InputError, cleaned, without_secrets
from geolift.runtime.whole_files import write_whole
from geolift.settings import Settings

PREFIX = "geolift:"
MSI_INPUT = "msi{}"
"""Name of the MSI among the inputs; further files of a band set are msi1, msi2, …"""

SOFTWARE = ("geolift", "numpy", "torch", "llvmlite", "rasterio", "dask", "xarray")
MEDIA_TYPES = {
    "GTiff": "image/tiff; application=geotiff",
    "COG": "image/tiff; application=geotiff; profile=cloud-optimized",
    "ENVI": "application/octet-stream",
    "Zarr": "application/vnd.zarr; version=3",
}


EXTENSIONS = tuple(
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("projection/v2.0.0", "processing/v1.2.0", "eo/v1.1.0", "raster/v1.1.0")
)
"""The STAC extensions whose fields a sidecar uses."""


class StacItem(TypedDict, total=False):
    """What a sidecar is: a STAC Item. Our own properties begin with `PREFIX`; `record` has their types."""

    type: str
    stac_version: str
    stac_extensions: list[str]
    id: str
    geometry: JsonValue
    bbox: list[float]
    properties: dict[str, JsonValue]
    links: list[JsonValue]
    assets: dict[str, dict[str, JsonValue]]


class Footprint(TypedDict, total=False):
    """The outline of a product, as GeoJSON and its box (west, south, east, north) in degrees."""

    geometry: dict[str, object] | None
    bbox: list[float]


def software_versions() -> dict[str, str]:
    """Return the versions that decide about the pixels."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in SOFTWARE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def sidecar_path(output: Path) -> Path:
    """Return the sidecar's name: the output's with the suffix .json."""
    return output.with_suffix(".json")


def stac_item(
    output: Path,
    grid: GeoBox,
    bands: Bands,
    *,
    driver: str,
    acquired: str | None,
    encoding: Encoding,
    facts: Mapping[str, Any],
) -> StacItem:
    """Build the STAC Item of a product.

    ``encoding``: of every band. ``facts``: whatever is to be told of the run; each key becomes ``geolift:<key>``.
    """
    properties: dict[str, object] = {
        "datetime": acquired or _now(),
        "processing:software": software_versions(),
        "processing:level": "L3",
        "proj:code": None if grid.crs is None else _code(grid),
        "proj:shape": [int(n) for n in grid.shape],
        "proj:transform": [float(v) for v in tuple(grid.affine)[:6]],
        f"{PREFIX}datetime_is": "acquisition of the MSI" if acquired else "time of the run; the MSI tells none",
    }
    properties |= {f"{PREFIX}{key}": value for key, value in facts.items()}
    raster = {"data_type": encoding.dtype, "scale": encoding.scale, "offset": 0.0, "nodata": encoding.nodata}
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": list(EXTENSIONS),
        "id": output.stem,
        **footprint(grid),
        "properties": properties,
        "links": [],
        "assets": {
            "data": {
                "href": f"./{output.name}",
                "type": MEDIA_TYPES[driver],
                "roles": ["data"],
                "eo:bands": _eo_bands(bands),
                "raster:bands": [raster] * len(bands),
            }
        },
    }
    return cast(StacItem, plain(item))


def footprint(grid: GeoBox) -> Footprint:
    """Return the outline in longitude and latitude, as GeoJSON wants it."""
    if grid.crs is None:
        return {"geometry": None}
    rows, cols = grid.shape
    corners = [grid.affine * corner for corner in ((0, 0), (0, rows), (cols, rows), (cols, 0), (0, 0))]
    xs, ys = zip(*corners, strict=True)
    try:
        longitudes, latitudes = transformer(grid.crs, CRS("EPSG:4326")).transform(xs, ys)
    except InputError:  # a local CRS has no known place on Earth
        return {"geometry": None}
    first = longitudes[0]
    longitudes = [first + (x - first + 180.0) % 360.0 - 180.0 for x in longitudes]
    ring = [[float(x), float(y)] for x, y in zip(longitudes, latitudes, strict=True)]
    west, east = min(longitudes), max(longitudes)
    if west >= -180.0 and east <= 180.0:
        return {
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "bbox": [west, min(latitudes), east, max(latitudes)],
        }
    # RFC 7946, 3.1.9 and 5.2: cut at the 180th meridian, the box from its west over it to its east
    whole = shapely.Polygon(ring)
    parts = [
        shapely.affinity.translate(whole.intersection(shapely.box(turn - 180, -90, turn + 180, 90)), -turn)
        for turn in (-360.0, 0.0, 360.0)
    ]
    west, east = ((x + 180.0) % 360.0 - 180.0 for x in (west, east))
    return {
        "geometry": shapely.geometry.mapping(shapely.MultiPolygon([part for part in parts if not part.is_empty])),
        "bbox": [west, min(latitudes), east, max(latitudes)],
    }


def _code(grid: GeoBox) -> str | None:
    code = grid.crs.to_epsg() if grid.crs is not None else None
    return None if code is None else f"EPSG:{code}"


def _eo_bands(bands: Bands) -> list[dict[str, str | bool | float]]:
    """Describe the bands as STAC's eo extension does: wavelengths in micrometres."""
    described = []
    for name, centre, fwhm, good in zip(bands.names, bands.wavelength_nm, bands.fwhm_nm, bands.good, strict=True):
        band: dict[str, str | bool | float] = {"name": name, f"{PREFIX}good": bool(good)}
        if np.isfinite(centre):
            band["center_wavelength"] = float(f"{centre / 1000:.9g}")
        if np.isfinite(fwhm):
            band["full_width_half_max"] = float(f"{fwhm / 1000:.9g}")
        described.append(band)
    return described


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def plain(value: Any) -> Any:
    """Turn NumPy values, paths and NaN into what JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, Path):
        return str(value)
    return value


def dump_settings(settings: Settings) -> dict[str, JsonValue]:
    """Return every resolved option as plain JSON types, ready for ``--config``."""
    return cast(dict[str, JsonValue], plain(settings.model_dump(mode="python")))


def input_facts(path: str) -> dict[str, str | int]:
    """Return what identifies an input file: name, size and time."""
    file = Path(path)
    if not file.is_file():
        return {"href": without_secrets(path)}
    stat = file.stat()
    changed = datetime.fromtimestamp(stat.st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"href": str(file.resolve()), "size": stat.st_size, "modified": changed}


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON document whole or not at all. Raises ResourceError if it cannot be written."""
    write_whole(path, json.dumps(cleaned(plain(document)), indent=1, allow_nan=False))


def read_item(path: Path) -> StacItem:
    """Return the STAC Item that a sidecar is. Raises InputError if the file is none of geolift's."""
    try:
        item: Any = json.loads(path.read_text(encoding="utf-8"))
        properties = item["properties"]
        _require_objects(item, "assets", {**(item.get("assets") or {})})
        _require_objects(properties, PREFIX + "inputs", properties.get(PREFIX + "inputs", {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not a sidecar of geolift: {error}") from error
    return cast(StacItem, item)


def own_facts(properties: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return our own properties of a sidecar, without their prefix."""
    return {key.removeprefix(PREFIX): value for key, value in properties.items() if key.startswith(PREFIX)}


def read_sidecar(path: Path) -> dict[str, Any]:
    """Return our own properties of a sidecar, without their prefix.

    Raises InputError if the file is no sidecar of geolift.
    """
    return own_facts(read_item(path)["properties"])


def _require_objects(within: Any, name: str, found: Any) -> None:
    """Refuse what is no JSON object of objects where one is expected. Raises TypeError."""
    if not (isinstance(within, dict) and isinstance(found, dict) and all(isinstance(v, dict) for v in found.values())):
        raise TypeError(f"{name} is no table")


def settings_of_run(path: Path) -> dict[str, object]:
    """Return the options of an earlier run, its inputs and output included, from its sidecar."""
    facts = read_sidecar(path)
    if not isinstance(facts.get("settings"), dict):
        raise InputError(f"{path}: tells no settings; needed is the sidecar of a geolift run")
    # An address that was kept without its login or signature has to be given again.
    told = {name: str(fact.get("href", "")) for name, fact in facts.get("inputs", {}).items()}
    inputs: dict[str, object] = {name: href for name, href in told.items() if not SECRET_LEFT_OUT.search(href)}
    msi = tuple(inputs.pop(name) for name in list(inputs) if name.startswith(MSI_INPUT.format("")))
    if msi:
        inputs["msi"] = msi[0] if len(msi) == 1 else msi
    return {**facts["settings"], **inputs, "output": facts.get("output")}
