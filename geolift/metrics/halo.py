"""Tiles of a raster with the surroundings that windowed measures need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

HALO_PX = 5
"""Pixels that a tile needs around it, so that every SSIM and UIQI window centred in it is whole."""


@dataclass(frozen=True)
class HaloTile:
    """A tile of a raster with its surroundings.

    Attributes
    ----------
    rows, cols
        What to read, in raster pixels.
    interior
        (rows, cols) of the tile itself within what is read.
    """

    rows: slice
    cols: slice
    interior: tuple[slice, slice]


def halo_tiles(shape: tuple[int, int], tile_px: int) -> Iterator[HaloTile]:
    """Cut a raster into square tiles, to be read with `HALO_PX` pixels around them, less at its edges."""

    def spans(size: int) -> Iterator[tuple[slice, slice]]:
        for start in range(0, size, tile_px):
            stop = min(size, start + tile_px)
            first = max(0, start - HALO_PX)
            yield slice(first, min(size, stop + HALO_PX)), slice(start - first, stop - first)

    for rows, inner_rows in spans(shape[0]):
        for cols, inner_cols in spans(shape[1]):
            yield HaloTile(rows, cols, (inner_rows, inner_cols))
