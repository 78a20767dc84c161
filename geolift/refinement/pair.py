"""The two images of a fusion, read by windows of HSI pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geolift.degradation.sampling import FloatArray, area_mean

Window = tuple[slice, slice]


class Pair(Protocol):
    """Both images of a fusion, read by windows of HSI pixels.

    Parameters
    ----------
    shape
        (rows, cols) of the HSI pixels under the MSI.
    ratio
        Fine pixels per HSI pixel along one edge.
    """

    @property
    def shape(self) -> tuple[int, int]: ...  # noqa: D102 - told above

    @property
    def ratio(self) -> int: ...  # noqa: D102

    def hsi(self, rows: slice, cols: slice) -> FloatArray:
        """(C, y, x) good bands, NaN = invalid."""

    def msi(self, row: int, col: int, height: int, width: int, margin: int) -> FloatArray:
        """(c, (height + 2 margin) ratio, …): harmonised MSI on the nested fine grid, NaN = invalid or beyond."""

    def beyond(self, row: int, col: int, height: int, width: int, margin: int) -> NDArray[np.bool_]:
        """Fine pixels of the same window that lie beyond the MSI's image."""


AVERAGED_PX = 1_000_000
"""Fine pixels that are averaged at once, or those of one row of HSI pixels."""


@dataclass(frozen=True, eq=False)
class AveragedPair:
    """`Pair` whose MSI is averaged to ``ratio`` pixels along an HSI pixel; what HSI pixels see stays what it was."""

    pair: Pair
    ratio: int

    @property
    def shape(self) -> tuple[int, int]:
        """See `Pair`."""
        return self.pair.shape

    def hsi(self, rows: slice, cols: slice) -> FloatArray:
        """See `Pair`."""
        return self.pair.hsi(rows, cols)

    def msi(self, row: int, col: int, height: int, width: int, margin: int) -> FloatArray:
        """See `Pair`."""
        return self.mean_of(self.pair.msi, row, col, height, width, margin)

    def beyond(self, row: int, col: int, height: int, width: int, margin: int) -> NDArray[np.bool_]:
        """See `Pair`."""
        share = self.mean_of(lambda *place: self.pair.beyond(*place)[None], row, col, height, width, margin)
        return np.asarray(share[0] > 0.5)

    def mean_of(
        self, read: Callable[[int, int, int, int, int], NDArray[Any]], row: int, col: int, height: int, width: int,
        margin: int,
    ) -> FloatArray:  # fmt: skip
        """Mean (n, y, x) of what is read of a window (n, y, x), some rows of HSI pixels at once."""
        if self.ratio == self.pair.ratio:
            return np.asarray(read(row, col, height, width, margin), np.float32)
        first, end, wide, fine = row - margin, row + height + margin, width + 2 * margin, self.pair.ratio
        rows = max(1, AVERAGED_PX // (wide * fine**2))
        parts = [
            area_mean(np.asarray(read(top, col - margin, min(rows, end - top), wide, 0), np.float32), fine, self.ratio)
            for top in range(first, end, rows)
        ]
        return np.concatenate(parts, axis=1)


@dataclass(frozen=True, eq=False)
class ArrayPair:
    """A pair of arrays that cover the same ground: HSI (C, h, w), MSI (c, h ratio, w ratio)."""

    hsi_values: FloatArray
    msi_values: FloatArray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the HSI."""
        return self.hsi_values.shape[1], self.hsi_values.shape[2]

    @property
    def ratio(self) -> int:
        """Fine pixels per HSI pixel."""
        return int(self.msi_values.shape[1] // self.hsi_values.shape[1])

    def hsi(self, rows: slice, cols: slice) -> FloatArray:
        """See `Pair`."""
        return self.hsi_values[:, rows, cols]

    def msi(self, row: int, col: int, height: int, width: int, margin: int) -> FloatArray:
        """See `Pair`."""
        out = np.full((len(self.msi_values), *self._size(height, width, margin)), np.nan, np.float32)
        inside, source = self._inside(row, col, height, width, margin)
        out[:, inside[0], inside[1]] = self.msi_values[:, source[0], source[1]]
        return out

    def beyond(self, row: int, col: int, height: int, width: int, margin: int) -> NDArray[np.bool_]:
        """See `Pair`."""
        out = np.ones(self._size(height, width, margin), bool)
        inside, _ = self._inside(row, col, height, width, margin)
        out[inside] = False
        return out

    def _size(self, height: int, width: int, margin: int) -> tuple[int, int]:
        return (height + 2 * margin) * self.ratio, (width + 2 * margin) * self.ratio

    def _inside(
        self, row: int, col: int, height: int, width: int, margin: int
    ) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        targets, sources = [], []
        sizes = zip((row, col), self._size(height, width, margin), self.msi_values.shape[1:], strict=True)
        for first_lr, length, size in sizes:
            first = (first_lr - margin) * self.ratio
            low = min(max(0, first), size)
            high = max(low, min(size, first + length))
            targets.append(slice(low - first, high - first))
            sources.append(slice(low, high))
        return (targets[0], targets[1]), (sources[0], sources[1])
