"""Windows of a large scene side by side, as one small scene: what a first round on all of it would cost is saved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from geolift.degradation.sampling import FloatArray
from geolift.refinement.pair import Pair, Window

TILE_LR, MARGIN_LR, TILES = 40, 8, 3
"""Edge of a window, its rim whose HSI pixels do not count, so that windows do not see each other, and windows along
an edge. The windows are those that footprint and process of the whole scene are fitted to."""

WORTH_LR = 2 * (TILES * TILE_LR) ** 2
"""HSI pixels from which on a patchwork takes clearly less time than the scene."""


@dataclass(frozen=True, eq=False)
class Patchwork:
    """`Pair` of nine windows spread over another pair."""

    whole: Pair

    @staticmethod
    def is_worth_it(shape: tuple[int, int]) -> bool:
        """Tell whether a scene of this many HSI pixels is large enough."""
        return min(shape) >= TILES * TILE_LR and shape[0] * shape[1] >= WORTH_LR

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns in HSI pixels."""
        return TILES * TILE_LR, TILES * TILE_LR

    @property
    def ratio(self) -> int:
        """Fine pixels per HSI pixel."""
        return self.whole.ratio

    @cached_property
    def corners(self) -> tuple[list[int], list[int]]:
        """First rows and first columns of the windows, in HSI pixels of the whole."""
        rows, cols = ([round(k * (size - TILE_LR) / (TILES - 1)) for k in range(TILES)] for size in self.whole.shape)
        return rows, cols

    def hsi(self, rows: slice, cols: slice) -> FloatArray:
        """See `Pair`; NaN on the rims."""
        out: FloatArray | None = None
        for place, source in self._tiles((rows.start, rows.stop), (cols.start, cols.stop)):
            values = self.whole.hsi(*source)
            if out is None:
                out = np.full((len(values), rows.stop - rows.start, cols.stop - cols.start), np.nan, np.float32)
            out[:, place[0], place[1]] = values
        if out is None:
            raise ValueError("the window holds no pixel of the patchwork")
        for axis, part in enumerate((rows, cols)):
            within = np.arange(part.start, part.stop) % TILE_LR
            rim = (within < MARGIN_LR) | (within >= TILE_LR - MARGIN_LR)
            np.moveaxis(out, axis + 1, 0)[rim] = np.nan
        return out

    def msi(self, row: int, col: int, height: int, width: int, margin: int) -> FloatArray:
        """See `Pair`; beyond the patchwork NaN."""
        out: FloatArray | None = None
        first, sizes = (row - margin, col - margin), (height + 2 * margin, width + 2 * margin)
        for place, (rows, cols) in self._tiles(*((a, a + n) for a, n in zip(first, sizes, strict=True))):
            values = self.whole.msi(rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start, 0)
            if out is None:
                out = np.full((len(values), *(size * self.ratio for size in sizes)), np.nan, np.float32)
            fine = [slice(part.start * self.ratio, part.stop * self.ratio) for part in place]
            out[:, fine[0], fine[1]] = values
        if out is None:  # a strip of the rows around it, at large ratios
            bands = len(self.whole.msi(0, 0, 1, 1, 0))
            out = np.full((bands, *(size * self.ratio for size in sizes)), np.nan, np.float32)
        return out

    def beyond(self, row: int, col: int, height: int, width: int, margin: int) -> NDArray[np.bool_]:
        """See `Pair`: its windows lie on the image."""
        return np.zeros(tuple((size + 2 * margin) * self.ratio for size in (height, width)), bool)

    def placed(self, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns (n,) of the patchwork in the whole."""
        down, across = (np.array(starts) for starts in self.corners)
        return down[rows // TILE_LR] + rows % TILE_LR, across[cols // TILE_LR] + cols % TILE_LR

    def _tiles(self, rows: tuple[int, int], cols: tuple[int, int]) -> Iterator[tuple[Window, Window]]:
        """Pieces of the windows in a part of the patchwork: where in that part, and where in the whole."""
        for i, top in enumerate(self.corners[0]):
            for j, left in enumerate(self.corners[1]):
                place, source = [], []
                for (start, stop), index, corner in zip((rows, cols), (i, j), (top, left), strict=True):
                    low, high = max(start, index * TILE_LR), min(stop, (index + 1) * TILE_LR)
                    place.append(slice(low - start, high - start))
                    source.append(slice(corner + low - index * TILE_LR, corner + high - index * TILE_LR))
                if all(part.start < part.stop for part in place):
                    yield (place[0], place[1]), (source[0], source[1])
