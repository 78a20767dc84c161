"""A correction ready to be added to the product, window by window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geolift.degradation.sampling import FloatArray
from geolift.refinement.footprint import DoubleArray
from geolift.refinement.guide import Guide
from geolift.refinement.pair import Window
from geolift.refinement.process import ResidualProcess
from geolift.refinement.solution import correction_fields
from geolift.runtime.blas import one_blas_thread
from geolift.runtime.scratch import Piece, ScratchArray

CELL_PX = 64
"""Edge of the pieces that are brought to the product. Fixed: law 1."""

BETWEEN_LR = 2
"""HSI pixels that grids turned against each other may ask for beyond the outermost place."""

Places = Callable[[slice, slice], tuple[DoubleArray, DoubleArray]]


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of a window of HSI pixels, read at once for a whole tile: see `correction_fields`."""

    window: Window
    solution: FloatArray
    factors: FloatArray

    def has(self, window: Window) -> bool:
        """Tell whether a window lies within this one."""
        return all(own.start <= p.start and p.stop <= own.stop for own, p in zip(self.window, window, strict=True))

    def cut(self, window: Window) -> tuple[FloatArray, FloatArray]:
        """Return both on a window within this one."""
        rows, cols = (
            slice(p.start - own.start, p.stop - own.start) for own, p in zip(self.window, window, strict=True)
        )
        return self.solution[rows, :, cols], self.factors[:, rows, cols]


@dataclass(frozen=True, eq=False, kw_only=True)
class Correction:
    """The expected error of the inversion at any fine pixel.

    Parameters
    ----------
    process, guide
        See there.
    decode
        (C, K): from the whitened subspace to spectra.
    solution, factors
        (K, h, w) s β, turned back, and (1 + M, h, w) D φ on the HSI's pixels.
    counts
        (1, h, w) one where an HSI pixel counts, zero where it is an outlier.
    """

    process: ResidualProcess
    guide: Guide
    decode: FloatArray
    solution: ScratchArray
    factors: ScratchArray
    counts: ScratchArray

    def cell(
        self, guides: FloatArray, rows_lr: DoubleArray, cols_lr: DoubleArray, known: Known | None = None
    ) -> FloatArray:
        """Coordinates (K, y, x) of the correction of fine pixels.

        Parameters
        ----------
        guides
            (1 + M, y, x): what `guides` gives.
        rows_lr, cols_lr
            Places in HSI pixels, the centre of pixel (0, 0) at 0: (y, 1) and (1, x), or both (y, x) where the grids
            are turned against each other.
        known
            What has been read already.
        """
        with one_blas_thread():
            fields = self._fields(rows_lr, cols_lr, known)
        fields *= guides[:, :, None]
        return np.asarray(fields.sum(axis=0).swapaxes(0, 1))

    def guides(self, msi: FloatArray) -> FloatArray:
        """Amplitude, and φ(x) as far as trusted: (1 + M, y, x) of a harmonised MSI (c, y, x); zero where invalid."""
        values = self.guide(msi)
        values[1:] *= self.guide.trust[:, None, None].astype(np.float32)
        return np.nan_to_num(values, copy=False)

    def withheld(self, rows_lr: DoubleArray, cols_lr: DoubleArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Share (y, x) of the correction that counts at places in HSI pixels, and which lie in outliers.

        One at the centres of HSI pixels that count, zero in and at the edge of those that do not.
        """
        window = self._counted(rows_lr, cols_lr)
        counts = self.counts.read(*window)[0]
        shape = np.broadcast_shapes(rows_lr.shape, cols_lr.shape)
        if counts.all():
            return np.ones(shape, np.float32), np.zeros(shape, bool)
        where = [
            np.broadcast_to(places, shape) - part.start for places, part in zip((rows_lr, cols_lr), window, strict=True)
        ]
        nearest = ndimage.map_coordinates(counts, where, order=0, mode="nearest") < 0.5
        between = ndimage.map_coordinates(counts, where, order=1, mode="nearest")
        return np.where(nearest, np.float32(0), np.clip(2 * between - 1, 0, 1)).astype(np.float32), nearest

    def _counted(self, *places_lr: DoubleArray, more: int = 0) -> Window:
        rows, cols = (
            slice(
                min(max(0, int(np.floor(places.min())) - more), size - 1),
                min(max(1, int(np.ceil(places.max())) + 1 + more), size),
            )
            for places, size in zip(places_lr, self.counts.shape[1:], strict=True)
        )
        return rows, cols

    def pieces(
        self, corner: tuple[int, int], size: tuple[int, int], shape: tuple[int, int], places: Places
    ) -> list[Piece]:
        """Return what `coordinates` of a tile of this size reads."""
        seen = places(*_cells(corner, size, shape))
        window = self._window(*seen, BETWEEN_LR)
        known = [self.solution.piece(*window), self.factors.piece(*window)] if _any(window) else []
        return [*known, self.counts.piece(*self._counted(*seen, more=1))]

    def _fields(self, rows: DoubleArray, cols: DoubleArray, known: Known | None) -> FloatArray:
        """(1 + M, y, K, x) at places in HSI pixels."""
        if rows.shape[1] == 1 and cols.shape[0] == 1:
            return self._fields_along(rows[:, 0], cols[0], known)
        # Turned against each other: on a fine grid along the HSI's axes first, then between its points.
        step = 0.5 / self.process.footprint.ratio
        along = [np.arange(places.min() - step, places.max() + 2 * step, step) for places in (rows, cols)]
        where = [(places - line[0]) / step for places, line in zip((rows, cols), along, strict=True)]
        fields = self._fields_along(along[0], along[1], known).swapaxes(1, 2)
        flat = fields.reshape(-1, *fields.shape[2:])
        read = [ndimage.map_coordinates(field, where, order=1, mode="nearest") for field in flat]
        return np.stack(read).reshape(*fields.shape[:2], *rows.shape).swapaxes(1, 2)

    def _fields_along(self, rows: DoubleArray, cols: DoubleArray, known: Known | None) -> FloatArray:
        window = self._window(rows, cols)
        if not _any(window):
            return np.zeros((self.factors.shape[0], len(rows), self.solution.shape[0], len(cols)), np.float32)
        if known is None or not known.has(window):
            known = self._read(window)
        return correction_fields(self.process, *known.cut(window), (window[0].start, window[1].start), rows, cols)

    def _window(self, rows: DoubleArray, cols: DoubleArray, more: int = 0) -> Window:
        """HSI pixels that decide on the correction between the least and the largest of these places."""
        reach = max(self.process.reach_lr(length) for length, _, _ in self.process.terms) + more
        down, across = (
            slice(max(0, int(np.floor(places.min())) - reach), min(size, int(np.ceil(places.max())) + reach + 1))
            for places, size in zip((rows, cols), self.solution.shape[1:], strict=True)
        )
        return down, across

    def _read(self, window: Window) -> Known:
        solution, factors = self.solution.read(*window), np.nan_to_num(self.factors.read(*window), copy=False)
        for _, share, part in self.process.terms:
            factors[part] *= share
        return Known(window, np.ascontiguousarray(solution.swapaxes(0, 1)), factors)

    def coordinates(
        self, msi: FloatArray, corner: tuple[int, int], shape: tuple[int, int], places: Places
    ) -> FloatArray:
        """Coordinates (K, y, x) of the correction of a tile of the product: `decode` makes spectra of them.

        Parameters
        ----------
        msi
            Harmonised (c, y, x) of the tile.
        corner
            Its first row and column in the product.
        shape
            (rows, cols) of the whole product.
        places
            Rows and columns of a window of the product, in HSI pixels.
        """
        size = msi.shape[1:]
        found = np.empty((self.decode.shape[1], *size), np.float32)
        down, across = _cells(corner, (size[0], size[1]), shape)
        window = self._window(*places(down, across), BETWEEN_LR)
        known = self._read(window) if _any(window) else None
        guides = self.guides(msi)
        for row in range(down.start, down.stop, CELL_PX):
            for col in range(across.start, across.stop, CELL_PX):
                rows, cols = slice(row, min(row + CELL_PX, shape[0])), slice(col, min(col + CELL_PX, shape[1]))
                spot = places(rows, cols)
                cell = np.zeros((len(guides), rows.stop - row, cols.stop - col), np.float32)
                inner, outer = _common((rows, cols), corner, (size[0], size[1]))
                cell[:, inner[0], inner[1]] = guides[:, outer[0], outer[1]]
                cell *= self.withheld(*spot)[0]
                found[:, outer[0], outer[1]] = self.cell(cell, *spot, known)[:, inner[0], inner[1]]
        return found


def _cells(corner: tuple[int, int], size: tuple[int, int], shape: tuple[int, int]) -> Window:
    """Rows and columns of the whole cells that a tile touches: a piece of one would round differently."""
    rows, cols = (
        slice(first // CELL_PX * CELL_PX, min(-(-min(first + n, whole) // CELL_PX) * CELL_PX, whole))
        for first, n, whole in zip(corner, size, shape, strict=True)
    )
    return rows, cols


def _any(window: Window) -> bool:
    return all(part.start < part.stop for part in window)


def _common(cell: Window, corner: tuple[int, int], size: tuple[int, int]) -> tuple[Window, Window]:
    """What a cell and a tile share, counted in the cell and in the tile."""
    inner, outer = [], []
    for part, first, length in zip(cell, corner, size, strict=True):
        low, high = max(part.start, first), min(part.stop, first + length)
        inner.append(slice(low - part.start, high - part.start))
        outer.append(slice(low - first, high - first))
    return (inner[0], inner[1]), (outer[0], outer[1])
