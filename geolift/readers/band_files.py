"""Products of one file per band, as one set of numbers on the finest of their grids."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError

from geolift.errors import InputError
from geolift.readers.raster import Declared, declared, grid_of_raster, require_readable
from geolift.readers.shared_raster import SharedRaster, first_line, open_raster
from geolift.readers.source import BandIndices, Layout, Stored

SAME_PLACE_PX = 1e-3
BAND_NAME = re.compile(r"(?:^|[_.\-\s])(?:SR_)?B(\d{1,2})(A?)(?=$|[_.\-\s])", re.IGNORECASE)


def band_key(name: str) -> str:
    """Bring the ways to write a band to one: B2, b02, SR_B2 → B2; others in small letters.

    >>> band_key("SR_B2"), band_key("b8A"), band_key("T22HBD_20210122T133229_B02_10m"), band_key("Blue")
    ('B2', 'B8A', 'B2', 'blue')
    """
    found = BAND_NAME.search(name)
    return f"B{int(found[1])}{found[2].upper()}" if found else name.strip().lower()


def choose(available: Sequence[str], wanted: Sequence[str], path: str) -> list[int]:
    """Return which of the available bands the wanted ones are, in the order wanted.

    Raises InputError if one is not there.
    """
    keys = [band_key(name) for name in available]
    missing = [name for name in wanted if band_key(name) not in keys]
    if missing:
        raise InputError(f"{path}: has no band {', '.join(missing)}; it has {', '.join(available)}")
    return [keys.index(band_key(name)) for name in wanted]


@dataclass(frozen=True, kw_only=True)
class BandFile:
    """One single-band raster, and what its header says."""

    path: str
    grid: GeoBox
    layout: Layout
    declared: Declared
    tags: dict[str, str]
    description: str | None
    driver: str


def examine(path: str) -> BandFile:
    """Read the header of a single-band raster. Raises InputError if it is none."""
    try:
        source = open_raster(path)
    except RasterioError as error:
        raise InputError(f"{path}: not a raster that GDAL can read: {first_line(error)}") from error
    with source:
        require_readable(source, path)
        if source.count != 1:
            raise InputError(f"{path}: {source.count} bands; a set of band files takes files of one band each")
        layout = Layout(1, source.shape, np.dtype(source.dtypes[0]), source.block_shapes[0])
        return BandFile(
            path=path,
            grid=grid_of_raster(source),
            layout=layout,
            declared=declared(source),
            tags=source.tags(),
            description=source.descriptions[0],
            driver=source.driver,
        )


class BandStack:
    """Single bands as one set of numbers; coarser ones are repeated pixel by pixel (nearest), never interpolated.

    Parameters
    ----------
    bands : sequence of Stored
        Of one band each, in band order.
    grids : sequence of GeoBox
        Of the bands; nested: one CRS and origin, pixel sizes whole multiples of the finest.
    """

    def __init__(self, bands: Sequence[Stored], grids: Sequence[GeoBox]) -> None:
        self.grid = min(grids, key=lambda grid: abs(grid.affine.a))
        self._zooms = [_zoom(band.path, grid, self.grid) for band, grid in zip(bands, grids, strict=True)]
        self._bands = list(bands)
        finest = bands[self._zooms.index(1)].layout
        dtype = np.result_type(*(band.layout.dtype for band in bands))
        self.path = bands[0].path
        self.layout = Layout(len(bands), finest.shape, dtype, finest.block)

    @classmethod
    def of_files(cls, files: Sequence[BandFile]) -> BandStack:
        """Stack single-band rasters."""
        return cls([SharedRaster(file.path) for file in files], [file.grid for file in files])

    def read(self, rows: slice, cols: slice, bands: BandIndices | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Return a window (band, y, x) of stored numbers."""
        wanted = range(len(self._bands)) if bands is None else bands
        window = np.empty((len(wanted), rows.stop - rows.start, cols.stop - cols.start), self.layout.dtype)
        masks = {}
        for position, band in enumerate(wanted):
            window[position], mask = self._read_one(int(band), rows, cols)
            if mask is not None:
                masks[position] = mask
        if not masks:
            return window, None
        valid = np.ones(window.shape, dtype=bool)
        for position, mask in masks.items():
            valid[position] = mask
        return window, valid

    def _read_one(self, band: int, rows: slice, cols: slice) -> tuple[np.ndarray, np.ndarray | None]:
        zoom, raster = self._zooms[band], self._bands[band]
        if zoom == 1:
            stored, valid = raster.read(rows, cols)
            return stored[0], valid
        coarse = [slice(part.start // zoom, -(-part.stop // zoom)) for part in (rows, cols)]
        inner = tuple(
            slice(part.start - outer.start * zoom, part.stop - outer.start * zoom)
            for part, outer in zip((rows, cols), coarse, strict=True)
        )
        stored, valid = raster.read(coarse[0], coarse[1])
        return _repeated(stored[0], zoom)[inner], None if valid is None else _repeated(valid, zoom)[inner]


def _repeated(array: np.ndarray, zoom: int) -> np.ndarray:
    return array.repeat(zoom, axis=0).repeat(zoom, axis=1)


def _zoom(path: str, own: GeoBox, base: GeoBox) -> int:
    """Return how many of the finest pixels one of this band's takes along an edge."""
    zoom = round(own.affine.a / base.affine.a)
    a, b, c, d, e, f = tuple(base.affine)[:6]
    expected = (a * zoom, b * zoom, c, d * zoom, e * zoom, f)
    step = abs(a)
    same = all(abs(x - y) < SAME_PLACE_PX * step for x, y in zip(tuple(own.affine)[:6], expected, strict=True))
    covers = all(own.shape[i] * zoom >= base.shape[i] for i in (0, 1))
    if own.crs != base.crs or zoom < 1 or not same or not covers:
        raise InputError(
            f"{path}: its grid ({_grid_text(own)}) is not nested with the finest of the set "
            f"({_grid_text(base)}); bands of one set need one CRS, one origin and whole multiples of one pixel size"
        )
    return zoom


def _grid_text(grid: GeoBox) -> str:
    a = grid.affine
    crs = "no CRS" if grid.crs is None else str(grid.crs)[:12]
    return f"{crs}, {grid.shape[0]} × {grid.shape[1]} px of {a.a:g}, origin {a.c:.10g}, {a.f:.10g}"
