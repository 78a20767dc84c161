"""Sentinel-2 L2A as EOPF Zarr: a folder or .zarr.zip, one group for each resolution, scale and offset of each array."""

from __future__ import annotations

import contextlib
import re
import threading
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geolift.datamodel.cube import REFLECTANCE
from geolift.errors import GeoliftError, InputError, UsageError
from geolift.readers import gate
from geolift.readers.band_files import BandStack, band_key
from geolift.readers.cf_names import even_axis
from geolift.readers.masks import QualityLayer
from geolift.readers.product import Product, ProductReader, iso_time, placed, unknown_spectra
from geolift.readers.sentinel2 import SCL_MEANING, SCL_UNUSABLE, TEN_METRES
from geolift.readers.shared_raster import first_line
from geolift.readers.source import BandIndices, Decoding, Layout

NAME = "Sentinel-2 L2A (EOPF Zarr)"
REFLECTANCES = "measurements/reflectance"
GROUPS = ("r10m", "r20m", "r60m")
CLASSES = "conditions/mask/l2a_classification/r20m/scl"
BAND = re.compile(r"^b(\d{1,2})(a?)$", re.IGNORECASE)
ROOT_FILES = ("zarr.json", ".zgroup", ".zmetadata", ".zattrs")


class EopfReader(ProductReader):
    """Surface reflectance of Sentinel-2 in the format of ESA's reprocessing (EOPF)."""

    def matches(self, path: str) -> bool:
        """Look for the group of reflectances in a Zarr folder or ZIP file."""
        place = Path(path)
        if place.is_dir():
            return (place / REFLECTANCES).is_dir() and any((place / name).is_file() for name in ROOT_FILES)
        if place.suffix.lower() != ".zip" or not place.is_file() or not zipfile.is_zipfile(place):
            return False
        return _root_in(place) is not None

    def product(self, path: str, bands: Sequence[str] | None = None) -> Product:
        """Open the four 10 m bands, or those named: coarser ones are repeated on the finest pixels named."""
        notes: list[str] = []
        store = _Store(path)
        chosen = _chosen(store, bands or TEN_METRES, path)
        grids = [_grid(store, key, path) for key in chosen]
        stack = BandStack([_Band(store, key) for key in chosen], grids)
        attrs = [store.attrs(key) for key in chosen]
        counts = stack.layout.dtype.kind in "iu"
        scale, offset = (
            tuple(_told(a, word, neutral, path, key) for a, key in zip(attrs, chosen, strict=True))
            for word, neutral in (("scale_factor", 1e-4 if counts else 1.0), ("add_offset", 0.0))
        )
        fill = tuple(
            _told(a, "fill_value", 0.0, path, key) if counts else np.nan for a, key in zip(attrs, chosen, strict=True)
        )
        properties = store.properties()
        names = tuple(_band_name(key) for key in chosen)
        return Product(
            source=path,
            stored=stack,
            grid=stack.grid,
            bands=unknown_spectra(names),
            decoding=Decoding(scale=scale, offset=offset, nodata=fill),
            quantity=REFLECTANCE,
            name=NAME,
            sensor=str(properties.get("platform") or "") or None,
            driver="Zarr",
            acquired=iso_time(str(properties.get("datetime") or properties.get("start_datetime") or Path(path).name)),
            evidence=f"{Path(path).name} {properties.get('platform', '')}",
            notes=notes,
            masks=_masks(store, path),
            check_empty=False,
            usual=(1e-4, (0.0, -0.1)) if counts else None,
        )


def _root_in(archive: Path) -> str | None:
    """Return the folder of a ZIP file that holds the store, "" for the file itself; None if it holds none."""
    try:
        with zipfile.ZipFile(archive) as file:
            places = (name.partition(f"{REFLECTANCES}/") for name in file.namelist())
            return next((before.rstrip("/") for before, found, _ in places if found and before.count("/") < 2), None)
    except (OSError, ValueError, zipfile.BadZipFile):
        return None


class _Store:
    """An open Zarr group that threads share; opened again where it is sent to."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._group: Any = None

    def __reduce__(self) -> tuple[type[_Store], tuple[str]]:
        return _Store, (self.path,)

    def group(self) -> Any:
        """Return the root group. Raises UsageError without the package zarr, InputError for a damaged store."""
        if self._group is None:
            try:
                import zarr
            except ImportError as error:
                raise UsageError(
                    f"{self.path}: reading Zarr needs the package zarr: pip install 'geolift[zarr]'"
                ) from error
            with self._refused_by_name("its root"):
                zipped = Path(self.path).is_file()
                place = zarr.storage.ZipStore(self.path, mode="r") if zipped else self.path
                inside = _root_in(Path(self.path)) if zipped else None
                self._group = zarr.open_group(place, mode="r", path=inside or None)
        return self._group

    @contextlib.contextmanager
    def _refused_by_name(self, key: str) -> Iterator[None]:
        """Turn whatever zarr raises of damaged metadata and chunks, which has no kind in common, into an InputError."""
        try:
            yield
        except GeoliftError:
            raise
        except Exception as error:
            raise InputError(
                f"{self.path}: {key} cannot be read: {first_line(error)}. Is the product complete?"
            ) from error

    def array(self, key: str) -> Any:
        """Return an array by its path in the store. Raises InputError if it is damaged or none."""
        with self._refused_by_name(key):
            found = self.group()[key]
            shape = found.shape
        if len(shape) not in (1, 2) or 0 in shape:
            raise InputError(f"{self.path}: {key} has the shape {shape}. Is the product complete?")
        return found

    def attrs(self, key: str) -> dict[str, Any]:
        """Return an array's attributes, those of EOPF beside the usual ones."""
        own = dict(self.array(key).attrs)
        nested = own.get("_eopf_attrs")
        return {**(nested if isinstance(nested, dict) else {}), **own}

    def crs_code(self) -> str | None:
        """Return the CRS that the product's own metadata name, such as EPSG:32633."""
        told = dict(self.group().attrs).get("other_metadata")
        fields = {str(key).lower(): value for key, value in told.items()} if isinstance(told, dict) else {}
        return str(fields["horizontal_crs_code"]) if "horizontal_crs_code" in fields else None

    def properties(self) -> dict[str, Any]:
        """Return what the product's STAC description says of the scene."""
        item = dict(self.group().attrs).get("stac_discovery")
        found = item.get("properties") if isinstance(item, dict) else None
        return found if isinstance(found, dict) else {}

    def members(self, key: str) -> list[str]:
        """List the arrays of a group; none if there is no such group."""
        with self._refused_by_name(key):
            return sorted(self.group()[key].array_keys()) if key in self.group() else []

    def read(self, key: str, *window: slice) -> np.ndarray:
        """Read a window of an array. Raises InputError where the store is damaged."""
        array = self.array(key)
        with self._refused_by_name(key):
            return np.asarray(array[window])


def _band_name(key: str) -> str:
    found = BAND.match(key.rpartition("/")[2])
    return "" if found is None else f"B{found[1].zfill(1 if found[2] else 2)}{found[2].upper()}"


def _chosen(store: _Store, wanted: Sequence[str], path: str) -> list[str]:
    """Take each band in its finest resolution. Raises InputError if one is not there."""
    there: dict[str, str] = {}
    for group in reversed(GROUPS):
        for name in store.members(f"{REFLECTANCES}/{group}"):
            if BAND.match(name):
                there[band_key(_band_name(name))] = f"{REFLECTANCES}/{group}/{name}"
    missing = [name for name in wanted if band_key(name) not in there]
    if missing:
        held = ", ".join(sorted(_band_name(key) for key in there.values())) or "none"
        raise InputError(f"{path}: has no band {', '.join(missing)}; it has {held}")
    return [there[band_key(name)] for name in wanted]


def _told(attrs: dict[str, Any], name: str, neutral: float, path: str, key: str) -> float:
    names = (name, "_FillValue") if name == "fill_value" else (name,)
    found = next((attrs[word] for word in names if attrs.get(word) is not None), None)
    return neutral if found is None else gate.number(found, path, f"{key}: {name}")


def _grid(store: _Store, key: str, path: str) -> GeoBox:
    """Build an array's grid from the coordinates of its group, or its proj:transform."""
    array, attrs, group = store.array(key), store.attrs(key), key.rpartition("/")[0]
    shape = (int(array.shape[-2]), int(array.shape[-1])) if array.ndim == 2 else tuple(array.shape)
    members = store.members(group)
    steps = [even_axis(store.read(f"{group}/{a}", slice(None))) if a in members else None for a in ("y", "x")]
    if steps[0] is not None and steps[1] is not None:
        (y, dy), (x, dx) = steps  # type: ignore[misc]
        affine = Affine(dx, 0.0, x - dx / 2, 0.0, dy, y - dy / 2)
    elif attrs.get("proj:transform"):
        numbers = gate.numbers(np.ravel(attrs["proj:transform"]).tolist(), path, "proj:transform").tolist()
        affine = Affine(*(numbers[:6] if len(numbers) > 5 else [0.0] * 6))
    else:
        raise InputError(f"{path}: {key} has neither coordinates x and y nor proj:transform; it cannot be placed")
    code = attrs.get("proj:epsg") or attrs.get("proj:code") or store.properties().get("proj:epsg")
    code = code or store.properties().get("proj:code") or store.crs_code()
    known = f"EPSG:{code}" if str(code).isdigit() else code
    return placed(shape, affine, None if known is None else str(known), path)


class _Band:
    """An array of a store as one band of stored numbers."""

    def __init__(self, store: _Store, key: str) -> None:
        self._store, self._key, self.path = store, key, f"{store.path}: {key}"
        array = store.array(key)
        shape = (int(array.shape[-2]), int(array.shape[-1])) if array.ndim == 2 else (0, 0)
        block = tuple(min(int(n), size) for n, size in zip(array.chunks, shape, strict=False))
        self.layout = Layout(1, shape, np.dtype(array.dtype), (block[0], block[-1]))

    def read(self, rows: slice, cols: slice, bands: BandIndices | None = None) -> tuple[np.ndarray, None]:
        """Return a window (band, y, x)."""
        return self._store.read(self._key, rows, cols)[None], None


def _masks(store: _Store, path: str) -> tuple[QualityLayer, ...]:
    """Find the scene classification."""
    group, _, name = CLASSES.rpartition("/")
    if name not in store.members(group):
        return ()
    grid = _grid(store, CLASSES, path)
    return (
        QualityLayer(
            name="SCL",
            meaning=SCL_MEANING,
            stored=_Band(store, CLASSES),
            grid=grid,
            rule="classes",
            values=SCL_UNUSABLE,
        ),
    )
