"""Sets of single-band rasters on one grid: a folder of COGs, or several files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr
from rasterio.errors import RasterioError

from geolift.datamodel.cube import REFLECTANCE
from geolift.errors import InputError
from geolift.readers import stac
from geolift.readers.band_files import BAND_NAME, BandFile, BandStack, band_key, choose, examine
from geolift.readers.fill import sample_of
from geolift.readers.masks import QualityLayer
from geolift.readers.product import Product, files_in, iso_time, overridden, unknown_spectra
from geolift.readers.raster import Declared, acquired, settle
from geolift.readers.remote import without_query
from geolift.readers.shared_raster import is_virtual, open_raster
from geolift.readers.source import Decoding
from geolift.settings import Reading

IMAGE_SUFFIXES = (".tif", ".tiff", ".jp2", ".img", ".vrt")
# Bands that are no reflectance: quality, classes, angles, previews, aerosol, water vapour, temperature.
NO_BAND = re.compile(
    r"(?:^|[_.\-])(SCL|QA|QA_PIXEL|QA_RADSAT|SR_QA_AEROSOL|SR_CLOUD_QA|Fmask|CLD|SNW|AOT|WVP|TCI|visual|preview|"
    r"thumbnail|overview|udm2?|mask|QL_\w+|[SV][AZ]A|ST_\w+)(?=$|[_.\-])",
    re.IGNORECASE,
)
OFFSET_COUNTS = 1000.0
DARKEST, DARKER_THAN_BLACK = 0.005, 150.0
MUCH, IMPOSSIBLY_DARK = 0.1, 300.0
"""So many pixels are never darker than a reflectance of −0.03: their offset is not in them any more."""
LANDSAT_2 = re.compile(r"L[COTEM]\d\d_L2S[PR]_.*_SR_B\d", re.IGNORECASE)
LANDSAT_2_SCALE, LANDSAT_2_OFFSET, LANDSAT_2_FILL = 2.75e-5, -0.2, 0.0
SENTINEL_2_SCALE = 1e-4
SENTINEL_2 = re.compile(r"(?:^|[_.\-])(S2[ABC]|T?\d\d[A-Z]{3}_20\d{6}T\d{6})(?=$|[_.\-])", re.IGNORECASE)


class BandSetReader:
    """A folder whose rasters are single bands of one place."""

    def matches(self, path: str) -> bool:
        """Look for at least two rasters of one band each, and none of several bands."""
        return not is_virtual(path) and len(_band_paths(path)) > 1

    def open(
        self, path: str, reading: Reading, tile: int | None = None, bands: Sequence[str] | None = None
    ) -> xr.DataArray:
        """Open all of them as one cube, in the order of their names; see `open_files`."""
        return open_files(_band_paths(path), reading, tile, bands, source=path)


def open_files(
    paths: Sequence[str],
    reading: Reading,
    tile: int | None = None,
    bands: Sequence[str] | None = None,
    source: str | None = None,
    *,
    told: tuple[stac.Item, Sequence[stac.Asset]] | None = None,
    names: Sequence[str] | None = None,
    masks: tuple[QualityLayer, ...] = (),
) -> xr.DataArray:
    """Open single-band rasters as one cube, bands named after the files.

    Raises InputError if a file is no single-band raster or the grids are not nested.

    Parameters
    ----------
    paths : sequence of str
        In the order the bands shall have.
    bands : sequence of str, optional
        Those wanted, by the names in the files; names the files do not carry are left to the caller.
    told : optional
        A STAC item and its assets, one for each path; by default one is looked for in the files' folder.
    names : sequence of str, optional
        What the bands are called, if not after the files.
    """
    names = list(names or names_of(paths))
    numbered = all(BAND_NAME.search(name) for name in names)
    if bands and (numbered or {band_key(n) for n in names} & {band_key(b) for b in bands}):
        picked = choose(names, bands, source or paths[0])
        paths, names = [paths[i] for i in picked], [names[i] for i in picked]
    files = [examine(path) for path in paths]
    stack = BandStack.of_files(files)
    notes: list[str] = []
    doubt = False
    item, assets = told or _item_beside(paths)
    if item is None:
        decoding, quantity = _decoding(files, stack, reading, notes)
    else:
        declared = _declared_by(item, assets, files, notes)
        doubt = reading.offset is None and _doubtful(item, assets, declared, stack)
        declared = _by_darkest(item, declared, stack, notes) if doubt else declared
        decoding, quantity = settle(stack, declared, reading, notes)
    evidence = " ".join([*(stac.file_name(path) for path in paths[:2]), item.platform if item else ""])
    cube = Product(
        source=source or ", ".join(paths),
        stored=stack,
        grid=stack.grid,
        bands=unknown_spectra(tuple(names)),
        decoding=decoding,
        quantity=quantity,
        name=f"set of {len(files)} band files",
        sensor=None,
        driver=files[0].driver,
        acquired=iso_time(item.acquired if item else None) or acquired(files[0].tags, files[0].path),
        evidence=evidence,
        notes=notes,
        masks=masks,
    ).cube(reading, tile)
    if doubt:
        cube.attrs["other_offset"] = stac.SENTINEL_2_OFFSET - cube.attrs["offset"]
    return cube


def _item_beside(paths: Sequence[str]) -> tuple[stac.Item | None, Sequence[stac.Asset]]:
    item = None if is_virtual(paths[0]) else stac.item_of(paths)
    assets = item.for_files([stac.file_name(path) for path in paths]) if item else None
    return (item, assets) if assets else (None, ())


def names_of(paths: Sequence[str]) -> list[str]:
    """Name bands after their files: B02 in T22HBD_20210122T133229_B02_10m.tif, else what the names do not share.

    >>> names_of(["a/LC08_SR_B2.TIF", "a/LC08_SR_B10.TIF"]), names_of(["s_red.tif", "s_nir.tif"])
    (['B2', 'B10'], ['red', 'nir'])
    """
    stems = [Path(path).stem for path in paths]
    found = [BAND_NAME.search(stem) for stem in stems]
    if all(found):
        names = [f"B{m[1]}{m[2].upper()}" for m in found if m]
    else:
        shared = next((i for i, letters in enumerate(zip(*stems, strict=False)) if len(set(letters)) > 1), 0)
        start = max(stems[0][:shared].rfind(mark) + 1 for mark in "_.- ")
        names = [stem[start:] for stem in stems]
    if len(set(names)) < len(names):
        return stems
    return names


def _band_paths(path: str) -> list[str]:
    """List the band files of a folder, B-numbers in spectral order; empty if it holds a raster of several bands."""
    folder = Path(path)
    if not folder.is_dir():
        return []
    found = []
    for file in files_in(folder):
        if file.suffix.lower() not in IMAGE_SUFFIXES or NO_BAND.search(file.stem):
            continue
        try:
            with open_raster(str(file)) as source:
                count = source.count
        except RasterioError:
            continue
        if count != 1:
            return []
        found.append(str(file))
    return sorted(found, key=_spectral_order)


def _spectral_order(path: str) -> tuple[int, int, str]:
    """Put B8A after B8, B10 after B9; files without a number by name."""
    found = BAND_NAME.search(Path(path).stem)
    return (int(found[1]), len(found[2]), path) if found else (0, 0, path)


def _decoding(files: list[BandFile], stack: BandStack, reading: Reading, notes: list[str]) -> tuple[Decoding, str]:
    """Settle the values by the product the names tell, else by tags and magnitude."""
    tags = Declared(
        tuple(file.declared.scales[0] for file in files),
        tuple(file.declared.offsets[0] for file in files),
        tuple(file.declared.nodata[0] for file in files),
        tuple(unit for file in files for unit in file.declared.units),
    )
    tagged = any(s != 1 for s in tags.scales) or any(o != 0 for o in tags.offsets)
    integers = stack.layout.dtype.kind in "iu"
    if not tagged and integers and all(LANDSAT_2.search(Path(file.path).stem) for file in files):
        notes.append(f"{stack.path}: Landsat Collection 2 Level-2 by its name: reflectance = DN × 2.75e-5 − 0.2")
        plain = Decoding.uniform(len(files), LANDSAT_2_SCALE, LANDSAT_2_OFFSET, LANDSAT_2_FILL)
        return overridden(plain, reading), REFLECTANCE
    if all(nodata is None for nodata in tags.nodata) and stack.layout.dtype.kind == "u":
        tags = Declared(tags.scales, tags.offsets, (0.0,) * len(files), tags.units)
        notes.append(f"{stack.path}: unsigned integers without a nodata tag: 0 is taken for no data")
    settled = settle(stack, tags, reading, notes)
    if not tagged and integers and reading.offset is None and SENTINEL_2.search(Path(files[0].path).stem):
        notes.append(
            f"{stack.path}: single Sentinel-2 files do not tell whether the offset of −1000 (baseline 04.00 and later) "
            "is still in the pixels; none is applied. If it is, pass --msi-offset -0.1."
        )
    return settled


def _declared_by(item: stac.Item, assets: Sequence[stac.Asset], files: list[BandFile], notes: list[str]) -> Declared:
    """Let a STAC item speak where the files' own tags are silent; what it says of the offset is told."""
    scales, offsets, nodata = [], [], []
    usual = SENTINEL_2_SCALE if item.is_sentinel_2 else 1.0
    for asset, file in zip(assets, files, strict=True):
        own = file.declared
        tagged = own.scales[0] not in (0, 1) or own.offsets[0] != 0
        scales.append(own.scales[0] if tagged else _first(asset.scale, usual))
        offsets.append(own.offsets[0] if tagged else _first(item.offset_of(asset), 0.0))
        nodata.append(asset.nodata if own.nodata[0] is None else own.nodata[0])
    where = without_query(item.path)
    notes.append(f"{where}: scale {scales[0]:g} and offset {offsets[0]:g} are taken from this STAC item.")
    return Declared(tuple(scales), tuple(offsets), tuple(nodata), ())


def _doubtful(item: stac.Item, assets: Sequence[stac.Asset], declared: Declared, stack: BandStack) -> bool:
    """Tell whether what an item says of Sentinel-2's offset contradicts itself, or makes reflectance negative."""
    if stack.layout.dtype.kind not in "iu" or not item.is_sentinel_2:
        return False
    if any(item.doubtful(asset) for asset in assets):
        return True
    return declared.offsets[0] < 0 and _darkest(stack, declared, MUCH) < OFFSET_COUNTS - IMPOSSIBLY_DARK


def _by_darkest(item: stac.Item, declared: Declared, stack: BandStack, notes: list[str]) -> Declared:
    """Settle an offset that an item leaves in doubt by the darkest pixels; a fusion holds it against the HSI."""
    # reflectance is rarely below 0: with +1000 in the pixels hardly any number is below 1000
    held = _darkest(stack, declared, DARKEST) > OFFSET_COUNTS - DARKER_THAN_BLACK
    offset = stac.SENTINEL_2_OFFSET if held else 0.0
    notes.append(
        f"{without_query(item.path)}: the item contradicts itself or its pixels about the offset of Sentinel-2 "
        f"(declared, baseline, boa_offset_applied); by the darkest pixels it is {offset:g}, which is used. Pass "
        "--msi-offset if that is wrong; with an HSI it is measured against that."
    )
    return replace(declared, offsets=(offset,) * len(declared.offsets))


def _darkest(stack: BandStack, declared: Declared, share: float) -> float:
    """Return the number below which a share of the darkest band's pixels lies; 0 if none is valid."""
    count = len(declared.scales)
    sample = sample_of(stack, Decoding(scale=(1.0,) * count, offset=(0.0,) * count, nodata=(0.0,) * count))
    found = [np.quantile(v[u], share) for v, u in zip(sample.values, sample.usable, strict=True) if u.any()]
    return float(min(found, default=0.0))


def _first(value: float | None, neutral: float) -> float:
    return neutral if value is None else value


def require_files(paths: Sequence[str]) -> None:
    """Refuse missing files. Raises InputError."""
    for path in paths:
        if not is_virtual(path) and not Path(path).is_file():
            raise InputError(f"{path}: no such file")
