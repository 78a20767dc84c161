"""Quality layers: which pixels a product itself, or the user's mask, says not to use."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import dask.array as da
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError

from geolift.datamodel.cube import Bands, make_cube
from geolift.errors import InputError
from geolift.readers.placement import usual
from geolift.readers.shared_raster import SharedRaster, first_line, is_virtual, open_raster
from geolift.readers.source import Stored

Rule = Literal["classes", "bits", "nonzero", "not_one"]


@dataclass(frozen=True, kw_only=True)
class QualityLayer:
    """One layer on its own grid, and which of its numbers mean "do not use".

    Attributes
    ----------
    name : str
        Name of the layer as the product calls it.
    meaning : str
        What is left out, for people.
    stored : Stored
        The numbers.
    grid : GeoBox
        The layer's own grid.
    rule : str
        ``classes``: a number among ``values``; ``bits``: one of the bits ``values`` is set; ``nonzero``: any
        number but 0; ``not_one``: any number but 1.
    bands : tuple of int or None
        0-based bands of the file that count; None = all.
    """

    name: str
    meaning: str
    stored: Stored
    grid: GeoBox
    rule: Rule
    values: tuple[int, ...] = ()
    bands: tuple[int, ...] | None = None

    def turned(self) -> QualityLayer:
        """Return the layer with its rows from the north and its columns from the west."""
        stored, grid = usual(self.stored, self.grid)
        return replace(self, stored=stored, grid=grid)

    def unusable(self, stored: np.ndarray) -> np.ndarray:
        """Judge a block (band, y, x) of stored numbers: bool (y, x), True = do not use."""
        match self.rule:
            case "classes":
                bad = np.isin(stored, self.values)
            case "bits":
                bad = (stored.astype(np.int64) & sum(1 << bit for bit in self.values)) != 0
            case "nonzero":
                bad = stored != 0
            case "not_one":
                bad = stored != 1
        return np.asarray(bad.any(axis=0))


def invalid(cube: xr.DataArray) -> xr.DataArray | None:
    """Combine the quality layers of a cube: lazy bool (y, x) on their own grid, True = do not use.

    None if the product has none. Layers on another grid than the first are left out.
    """
    layers: tuple[QualityLayer, ...] = tuple(cube.attrs.get("masks", ()))
    layers = tuple(layer for layer in layers if layer.grid == layers[0].grid)
    return _combined(layers) if layers else None


def mask_from_file(path: str | Path) -> xr.DataArray:
    """Open a user's mask: lazy bool (y, x) on its own grid, True (non-zero in any band) = do not use.

    Raises InputError if the file is missing or no raster.
    """
    name = str(path)
    if not is_virtual(name) and not Path(name).is_file():
        raise InputError(f"{name}: no such file")
    try:
        layer = raster_layer(name, "mask", "masked by the user", "nonzero")
    except RasterioError as error:
        raise InputError(f"{name}: not a raster that GDAL can read: {first_line(error)}") from error
    return _combined((layer.turned(),))


def read_mask(cube: xr.DataArray, choice: str = "auto") -> xr.DataArray | None:
    """Return what not to use: ``auto`` the product's own layers, ``none`` nothing, else a mask file."""
    if choice == "none":
        return None
    return invalid(cube) if choice == "auto" else mask_from_file(choice)


def raster_layer(
    path: str, name: str, meaning: str, rule: Rule, values: tuple[int, ...] = (), bands: tuple[int, ...] | None = None
) -> QualityLayer:
    """Describe a raster file as a quality layer; its grid is its own."""
    with open_raster(path) as source:
        grid = GeoBox(source.shape, source.transform, source.crs.to_wkt() if source.crs else None)
    return QualityLayer(
        name=name, meaning=meaning, stored=SharedRaster(path), grid=grid, rule=rule, values=values, bands=bands
    )


def layers_from_files(
    files: Iterable[tuple[Any, str, str, Rule, tuple[int, ...]]], notes: list[str]
) -> tuple[QualityLayer, ...]:
    """Describe those of the files (path, name, meaning, rule, numbers) that are there; unreadable ones are told."""
    found = []
    for path, name, meaning, rule, values in files:
        if not path.is_file():
            continue
        try:
            found.append(raster_layer(str(path), name, meaning, rule, values))
        except RasterioError as error:
            notes.append(f"{path}: this quality layer cannot be read and is left out: {first_line(error)}")
    return tuple(found)


def _combined(layers: tuple[QualityLayer, ...]) -> xr.DataArray:
    first = layers[0]
    flags = functools.reduce(operator.or_, (_lazy_flags(layer) for layer in layers))
    bands = Bands(("mask",), np.array([np.nan]), np.array([np.nan]), np.array([True]))
    attrs = {"source": first.stored.path, "meaning": "; ".join(f"{layer.name}: {layer.meaning}" for layer in layers)}
    mask = make_cube(flags[None], grid=first.grid, bands=bands, attrs=attrs)
    return mask.isel(band=0, drop=True)


def _lazy_flags(layer: QualityLayer) -> da.Array:
    def block(block_info: Any = None) -> np.ndarray:
        (row, row_end), (col, col_end) = block_info[None]["array-location"]
        stored, _ = layer.stored.read(slice(row, row_end), slice(col, col_end), layer.bands)
        return layer.unusable(stored)

    sizes = layer.stored.layout.chunk_sizes()
    flags: da.Array = da.map_blocks(block, chunks=sizes, dtype=bool, meta=np.empty((0, 0), bool))
    return flags
