"""Places as people keep them: points and polygons of a GeoPackage, a GeoJSON or a table, with their names and CRS."""

from __future__ import annotations

import contextlib
import csv
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import shapely
from odc.geo.crs import CRS
from pyproj.exceptions import CRSError
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from geolift.errors import InputError

DEGREES = "EPSG:4326"
FORMATS = "a GeoPackage (.gpkg), a GeoJSON (.geojson, .json) or a table (.csv, .txt)"
NAMES = ("name", "id", "label", "plot", "fid")
EASTINGS, NORTHINGS = ("x", "easting", "east"), ("y", "northing", "north")
LONGITUDES, LATITUDES = ("lon", "longitude", "long"), ("lat", "latitude")
KINDS = {"Point", "Polygon", "MultiPolygon"}

# https://www.geopackage.org/spec/#gpb_format: size of the envelope by bits 1 to 3 of the flags, after eight bytes.
_GPKG_HEADER, _ENVELOPE_BYTES = 8, (0, 32, 48, 48, 64)


@dataclass(frozen=True)
class Place:
    """A named point or area; the coordinates are in the CRS of the `Places` that it is one of."""

    name: str
    geometry: BaseGeometry


@dataclass(frozen=True)
class Places:
    """Places of one file; ``crs`` None = that of the raster they are read from."""

    places: tuple[Place, ...]
    crs: CRS | None
    source: str


def read_places(path: str | Path, layer: str | None = None, crs: str | None = None) -> Places:
    """Read points and polygons.

    Raises InputError if the file cannot be read, or holds anything but points and polygons.

    Parameters
    ----------
    path
        ``.gpkg``, ``.geojson`` or ``.json``, ``.csv`` or ``.txt``: a table with the columns lon and lat (degrees), or x
        and y (in the raster's CRS), and if it likes a name.
    layer
        Of a GeoPackage; its first one by default.
    crs
        Instead of what the file says.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file")
    readers = {".gpkg": _gpkg, ".geojson": _geojson, ".json": _geojson, ".csv": _table, ".txt": _table}
    read = readers.get(path.suffix.lower())
    if read is None:
        raise InputError(f"{path}: no format for places; expected is {FORMATS}")
    try:
        found, own = read(path, layer)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, sqlite3.Error, shapely.errors.ShapelyError) as error:
        raise InputError(f"{path}: cannot be read as places: {error}") from error
    places = tuple(part for place in found for part in _single(place, path))
    if not places:
        raise InputError(f"{path}: holds no point and no polygon")
    try:
        return Places(places, None if (crs or own) is None else CRS(crs or own), str(path))
    except CRSError as error:
        raise InputError(f"{path}: its CRS is not understood: {error}. Pass --places-crs.") from error


def _single(place: Place, path: Path) -> Iterator[Place]:
    """Take multipoints apart; refuse lines."""
    geometry = place.geometry
    if geometry.is_empty:
        return
    if geometry.geom_type == "MultiPoint":
        for number, point in enumerate(geometry.geoms, start=1):
            yield Place(f"{place.name}.{number}", point)
    elif geometry.geom_type in KINDS:
        yield place
    else:
        raise InputError(f"{path}: {place.name} is a {geometry.geom_type}; expected are points and polygons")


def _gpkg(path: Path, layer: str | None) -> tuple[list[Place], str | None]:
    with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as base:
        base.row_factory = sqlite3.Row
        layers = base.execute("SELECT table_name, column_name, srs_id FROM gpkg_geometry_columns").fetchall()
        chosen = next((row for row in layers if layer is None or row["table_name"] == layer), None)
        if chosen is None:
            known = ", ".join(row["table_name"] for row in layers) or "none"
            raise InputError(f"{path}: no layer {layer or 'of places'}; it has {known}")
        table = str(chosen["table_name"]).replace('"', '""')
        rows = base.execute(f'SELECT * FROM "{table}"').fetchall()
        system = base.execute(
            "SELECT organization, organization_coordsys_id, definition FROM gpkg_spatial_ref_sys WHERE srs_id = ?",
            (chosen["srs_id"],),
        ).fetchone()
    column = chosen["column_name"]
    places = [
        Place(_name_of({key: row[key] for key in row.keys() if key != column}, number), _from_gpkg(row[column]))  # noqa: SIM118
        for number, row in enumerate(rows, start=1)
        if row[column] is not None
    ]
    if system is None or chosen["srs_id"] in (0, -1):
        return places, None
    code = f"{system['organization']}:{system['organization_coordsys_id']}"
    return places, code if str(system["organization"]).upper() == "EPSG" else str(system["definition"])


def _from_gpkg(blob: bytes) -> BaseGeometry:
    if blob[:2] != b"GP":
        raise InputError("a geometry of the GeoPackage has no GeoPackage header")
    kind = (blob[3] >> 1) & 0b111
    if kind >= len(_ENVELOPE_BYTES):
        raise InputError("a geometry of the GeoPackage has an unknown envelope")
    return shapely.from_wkb(blob[_GPKG_HEADER + _ENVELOPE_BYTES[kind] :])


def _geojson(path: Path, _: str | None) -> tuple[list[Place], str | None]:
    document = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(document, dict) or "type" not in document:
        raise InputError(f"{path}: is no GeoJSON")
    features, places = document.get("features", [document]), list[Place]()
    if not isinstance(features, list) or not all(isinstance(feature, dict) for feature in features):
        raise InputError(f"{path}: its features are no list of features")
    for number, feature in enumerate(features, start=1):
        geometry = feature.get("geometry") if feature.get("type") == "Feature" else feature
        if geometry is None:
            continue
        properties = feature.get("properties")
        known = {
            **(properties if isinstance(properties, dict) else {}),
            **({"id": feature["id"]} if "id" in feature else {}),
        }
        try:
            places.append(Place(_name_of(known, number), shape(geometry)))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: feature {number} has no geometry that can be read: {error}") from error
    # RFC 7946 knows degrees only; files from before it may name a CRS.
    try:
        named = document["crs"]["properties"]["name"]
    except (KeyError, TypeError):
        named = None
    return places, str(named) if named else DEGREES


def _table(path: Path, _: str | None) -> tuple[list[Place], str | None]:
    text = path.read_text(encoding="utf-8-sig")
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    rows = list(csv.DictReader(text.splitlines(), delimiter=delimiter))
    columns = {str(name).strip().lower(): str(name) for name in (rows[0] if rows else {}) if name is not None}

    def column(*pairs: tuple[tuple[str, ...], tuple[str, ...]]) -> tuple[str, str, bool]:
        for across, up in pairs:
            found = [next((columns[name] for name in names if name in columns), None) for names in (across, up)]
            if found[0] is not None and found[1] is not None:
                return found[0], found[1], across is LONGITUDES
        listed = ", ".join(columns) or "none"
        raise InputError(f"{path}: needs the columns lon and lat, or x and y; it has {listed}")

    across, up, degrees = column((LONGITUDES, LATITUDES), (EASTINGS, NORTHINGS))
    places = []
    for number, row in enumerate(rows, start=1):
        try:
            point = shapely.Point(float(row[across]), float(row[up]))
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: row {number + 1}: {row[across]!r}, {row[up]!r} is no place") from error
        places.append(Place(_name_of({key.lower().strip(): row[name] for key, name in columns.items()}, number), point))
    return places, DEGREES if degrees else None


def _name_of(known: dict[str, Any], number: int) -> str:
    """Return what a feature is called; its number from 1 where it has no name."""
    lower = {str(key).lower(): value for key, value in known.items()}
    found = next((lower[name] for name in NAMES if lower.get(name) not in (None, "")), number)
    return str(found).strip()
