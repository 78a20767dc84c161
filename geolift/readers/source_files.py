"""Every local file that an input consists of, down to the sources of its sources."""

from __future__ import annotations

import contextlib
import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from geolift.errors import GeoliftError
from geolift.readers.envi_header import data_file
from geolift.readers.shared_raster import is_remote

METADATA = (".xml", ".txt", ".json", ".met", ".safe")
"""Files that describe a product whose images lie beside or below them."""
BESIDE = (".aux.xml", ".ovr", ".msk", ".hdr")
QUOTED, BRACED = re.compile(r'"([^"]+)"'), re.compile(r"\{([^}]+)\}")
SELF_CONTAINED = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\x89HDF", b"CDF", b"\0\0\0\x0cjP", b"PK")
"""First bytes of TIFF, HDF5, NetCDF, JPEG 2000 and archives."""
MOST_SOURCES = 100_000
"""A mosaic has thousands of sources; a document that names more than so many is damaged, or goes round in circles."""


def files_of_input(name: str) -> tuple[set[Path], set[Path]]:
    """Return the files that reading an input touches, and the folders of which any file may be touched.

    ``name``: a file, folder, or a name that GDAL resolves. What is read over the network touches nothing here. Returns
    ``files``, ``folders``: absolute, links resolved.
    """
    files, folders, waiting = set[Path](), set[Path](), [*_local_paths(name)]
    while waiting and len(files) < MOST_SOURCES:
        path = waiting.pop().resolve()
        if path in files or path in folders:
            continue
        if path.is_dir():
            folders.add(path)
        elif path.exists():
            files.add(path)
            waiting += [*_beside(path), *_sources(path)]
            # GDAL's statistics (.aux.xml), which QGIS leaves beside all that it shows, describe one file alone.
            if path.suffix.lower() in METADATA and not path.name.lower().endswith(BESIDE[0]):
                folders.add(path.parent)
    if is_remote(name) or _local(name) is not None:
        return files, folders
    return files | {path.resolve() for path in _listed_by_gdal(name)}, folders


def _local(name: str) -> Path | None:
    with contextlib.suppress(OSError, ValueError):  # too long for a name, a null byte
        path = Path(name)
        return path if path.exists() else None
    return None


def _local_paths(name: str) -> list[Path]:
    """Find the local files in a name: itself, an archive in /vsizip/…, the file of a subdataset."""
    found = _local(name)
    if found is not None:
        return [found]
    if is_remote(name):
        return []
    candidates = [*QUOTED.findall(name), *BRACED.findall(name), re.sub(r"^(/vsi\w+/)+\{?", "", name)]
    parts = name.split("://", 1)[-1].split("?")[0].split(":")
    candidates += [
        ":".join(parts[start:stop]) for start in range(len(parts)) for stop in range(start + 1, len(parts) + 1)
    ]
    paths = []
    for text in candidates:
        text = re.sub(r"^(/vsi\w+/)+\{?", "", text).rstrip("}")
        for path in (Path(text), *Path(text).parents):
            # Of a/b.zip/c.tif the archive is the file; a folder on the way is none that is read.
            if str(path) not in (".", "/") and (local := _local(str(path))) is not None and local.is_file():
                paths.append(local)
                break
    return paths


def _beside(path: Path) -> Iterator[Path]:
    """Give what GDAL and the readers take from beside a file."""
    for suffix in BESIDE:
        yield path.with_name(path.name + suffix)
    if path.suffix.lower() == ".hdr":
        with contextlib.suppress(GeoliftError):  # the reader tells what is wrong with it
            yield Path(data_file(str(path)))
    elif _may_refer(path):
        yield path.with_suffix(".hdr")


def _sources(path: Path) -> Iterator[Path]:
    """Give the files that a file refers to."""
    if path.suffix.lower() == ".json":
        yield from _hrefs(path)
    elif _may_refer(path):
        yield from (Path(name) for name in _listed_by_gdal(str(path)))


def _may_refer(path: Path) -> bool:
    """Tell whether a file may be made of others: what begins like an image or an archive is not."""
    if path.suffix.lower() in METADATA and path.suffix.lower() != ".xml":
        return False
    try:
        with path.open("rb") as stream:
            return not stream.read(8).startswith(SELF_CONTAINED)
    except OSError:
        return False


def _listed_by_gdal(name: str) -> list[Path]:
    """Return the files of a dataset as GDAL lists them; what they refer to comes with the next turn."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(name) as source:
                listed = [str(file) for file in source.files]
    except (RasterioError, OSError, ValueError):
        return []  # the reader tells what is wrong with it
    return [local for text in listed for local in _local_paths(text)]


def _hrefs(path: Path) -> Iterator[Path]:
    """Give the local files that a STAC item names."""
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        assets = document.get("assets", {}).values()
    except (OSError, ValueError, AttributeError, RecursionError):
        return
    for asset in assets:
        href = asset.get("href") if isinstance(asset, dict) else None
        if isinstance(href, str) and "://" not in href:
            yield path.parent / href
