"""How a raster is cut into tiles, and how the values of one tile are computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.local import get_sync
from dask.optimization import cull

from geolift.settings import WritingSettings

BLOCK = 256
STRIP_ROWS = 16


@dataclass(frozen=True)
class Tile:
    """A window of the output in whole pixels."""

    row: int
    col: int
    rows: int
    cols: int

    @property
    def window(self) -> tuple[slice, slice]:
        """The same as slices of rows and of columns."""
        return slice(self.row, self.row + self.rows), slice(self.col, self.col + self.cols)


def tile_edge(tile_size: int, creation_options: Mapping[str, str]) -> int:
    """Round the edge of a square processing tile up to whole blocks of the file."""
    block = int(creation_options.get("BLOCKXSIZE", creation_options.get("BLOCKSIZE", BLOCK)))
    return -(-tile_size // block) * block


def tile_shape(tile_size: int, settings: WritingSettings, raster: tuple[int, int]) -> tuple[int, int]:
    """Return rows and columns of the processing tiles of a raster: whole blocks of the file.

    Formats of whole rows (ENVI, striped GeoTIFF) take tiles of whole rows with about as many pixels.
    """
    options = settings.creation_options
    if settings.of == "ENVI" or options.get("TILED", "YES").upper() in {"NO", "FALSE", "OFF"}:
        strip = int(options.get("BLOCKYSIZE", 1 if settings.of == "ENVI" else STRIP_ROWS))
        rows = max(1, tile_size * tile_size // raster[1])
        return min(raster[0], -(-rows // strip) * strip), raster[1]
    cols = tile_edge(tile_size, options)
    block = int(options.get("BLOCKYSIZE", options.get("BLOCKSIZE", options.get("BLOCKXSIZE", BLOCK))))
    return -(-tile_size // block) * block, cols


def tiles_of(raster: tuple[int, int], shape: tuple[int, int]) -> list[Tile]:
    """List the tiles of a raster in row-major order; those at the right and lower edge may be smaller."""
    return [
        Tile(row, col, min(shape[0], raster[0] - row), min(shape[1], raster[1] - col))
        for row in range(0, raster[0], shape[0])
        for col in range(0, raster[1], shape[1])
    ]


class TileValues:
    """The values of a cube's tiles, each computed from its own part of the Dask graph.

    Cutting a tile out of the whole lazy array would optimise the whole graph again for each tile: quadratic in the
    size of the scene. Here the graph is written out once, and a tile takes the few tasks it needs.
    """

    def __init__(self, data: Any, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._array: np.ndarray | None = data if isinstance(data, np.ndarray) else None
        if self._array is None:
            lazy = data.rechunk((data.shape[0], *shape))
            self._name = lazy.name
            self._graph = dict(lazy.__dask_optimize__(lazy.__dask_graph__(), lazy.__dask_keys__()))

    def __call__(self, tile: Tile) -> np.ndarray:
        """Compute one tile (band, y, x) in this thread."""
        if self._array is not None:
            rows, cols = tile.window
            return self._array[:, rows, cols]
        key = (self._name, 0, tile.row // self._shape[0], tile.col // self._shape[1])
        needed, _ = cull(self._graph, [key])
        return np.asarray(get_sync(needed, key))
