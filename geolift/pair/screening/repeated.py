"""Pixels that were repeated: an HSI brought onto a finer or turned grid by its nearest pixels.

Two neighbours of an image as it was measured never agree in the last digit of all their bands. In an image resampled by
nearest neighbour some do, and where they begin and end is the grid it came from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

COMPARED_BANDS = 16
"""Bands, spread evenly, that neighbours have to agree in; with fewer, dark water could by chance."""

REPEATED = 0.95
"""Share of its pairs that agree, from which a column counts as a repetition of the one before."""

FEWEST_EDGES = 4
FEWEST_PAIRS, LEAST_PAIRS = 6, 2e-3
"""Pairs of equal neighbours, and their share of all, that are no chance."""

MIXED = 0.5
"""Share of its pairs that agree, beyond which a column is partly a repetition: the grid it came from is turned."""


MOST_DOUBLED = 0.25
"""Share of an axis' lines that may repeat the one before as a fault of the scanner."""

ONE_LINE = 1.02
"""Lines that edges found may lie apart from even ones, from the foremost to the hindmost; one, and rounding."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Neighbouring pixels that agree, counted: ``equal`` and ``valid`` (n - 1,) between each line and the next."""

    equal: NDArray[np.int64]
    valid: NDArray[np.int64]

    @property
    def within(self) -> NDArray[np.int64]:
        """``equal`` without the repeated lines at both ends."""
        single = np.flatnonzero(self.equal < REPEATED * self.valid)
        return self.equal[single[0] : single[-1] + 1] if single.size else self.equal[:0]


@dataclass(frozen=True, eq=False)
class SourceAxis:
    """An axis of the grid an image came from.

    Parameters
    ----------
    start, step
        Where its first pixel begins, and how long its pixels are, in pixels of the image.
    picks
        (n,) the image's line that holds each of its pixels.
    """

    start: float
    step: float
    picks: NDArray[np.intp]


def equal_neighbours(values: FloatArray, axis: int) -> tuple[BoolArray, BoolArray]:
    """Compare each pixel with the next along an axis.

    ``values``: (b, y, x) a few bands; NaN = invalid. ``axis``: 1 = down, 2 = right.

    Returns
    -------
    equal, valid
        (y, x), one shorter along the axis: pairs that agree in all bands, and pairs of two valid pixels. Pixels of
        one number in all bands, as saturation and fills are, count as invalid.
    """
    length = values.shape[axis]
    first, second = (np.take(values, range(*part), axis) for part in ((0, length - 1), (1, length)))
    varied = np.isfinite(values).all(axis=0) & (values[0] != values[-1])
    valid = np.take(varied, range(length - 1), axis - 1) & np.take(varied, range(1, length), axis - 1)
    return np.asarray((first == second).all(axis=0) & valid), np.asarray(valid)


class NeighbourCount:
    """Counts neighbours that agree, strip by strip from the top."""

    def __init__(self, shape: tuple[int, int]) -> None:
        height, width = shape
        self._down = np.zeros((2, max(0, height - 1)), np.int64)
        self._right = np.zeros((2, max(0, width - 1)), np.int64)
        self._row, self._last = 0, np.empty((0, 0, 0), np.float32)

    def add(self, values: FloatArray) -> None:
        """Count in the next whole lines (B, y, x)."""
        chosen = values[np.unique(np.linspace(0, len(values) - 1, COMPARED_BANDS).astype(int))]
        for counts, pairs in zip(self._right, equal_neighbours(chosen, 2), strict=True):
            counts += pairs.sum(axis=0)
        joined = np.concatenate([self._last, chosen], axis=1) if self._row else chosen
        first = max(0, self._row - 1)
        for counts, pairs in zip(self._down, equal_neighbours(joined, 1), strict=True):
            counts[first : first + len(pairs)] += pairs.sum(axis=1)
        self._row += values.shape[1]
        self._last = chosen[:, -1:]

    def finish(self) -> tuple[Pairs, Pairs]:
        """Return what was counted: down and right."""
        return Pairs(*self._down), Pairs(*self._right)


def is_repeated(down: Pairs, right: Pairs) -> bool:
    """Tell whether so many neighbours agree that the image was resampled by nearest neighbour."""
    # Interpolation repeats the outermost pixels, as it finds nothing beyond them.
    equal = int(down.within.sum() + right.within.sum())
    valid = int(down.valid.sum() + right.valid.sum())
    return equal >= FEWEST_PAIRS and equal >= LEAST_PAIRS * valid


def doubled_lines(pairs: Pairs, across: Pairs) -> BoolArray:
    """Find lines that were recorded twice, in an image that is otherwise as it was measured.

    ``pairs``, ``across``: neighbours along the axis the lines are counted on, and along the other one.

    Returns
    -------
    doubled
        (n,) True at both lines of each pair, as either may be the one that is missing elsewhere; nowhere True where
        pixels are repeated in another way: that is a resampled image.
    """
    repeats = (pairs.equal >= REPEATED * pairs.valid) & (pairs.valid >= FEWEST_PAIRS)
    doubled = np.zeros(repeats.size + 1, bool)
    single = np.flatnonzero(~repeats)
    if not single.size:
        return doubled
    within = slice(single[0], single[-1] + 1)  # interpolation repeats what is outermost
    found, others = np.flatnonzero(repeats[within]) + within.start, int(pairs.equal[within][~repeats[within]].sum())
    if others + int(across.within.sum()) >= FEWEST_PAIRS or found.size > MOST_DOUBLED * repeats.size:
        return doubled
    if found.size >= FEWEST_EDGES and source_axis(pairs) is not None:
        return doubled
    doubled[found] = doubled[found + 1] = True
    return doubled


def source_axis(pairs: Pairs) -> SourceAxis | None:
    """Find the grid that lines were repeated from; None if no even grid explains where they begin.

    An image line c shows the source pixel below its centre, so an edge e of the source appears between the lines
    whose centres enclose it: each edge found lies within half a line of its true place, start + i step.
    """
    length = pairs.equal.size + 1
    with np.errstate(invalid="ignore"):
        repeated = pairs.equal >= REPEATED * pairs.valid
    repeated &= pairs.valid > 0
    edges = np.flatnonzero(~repeated) + 1
    mixed = (pairs.equal > MIXED * pairs.valid) & ~repeated
    if mixed.any() or edges.size < FEWEST_EDGES:
        return None
    if not repeated.any():
        return SourceAxis(0.0, 1.0, np.arange(length))
    even = _even_step(edges)
    for step in (round(2 * even) / 2, even):
        behind = edges - step * np.arange(edges.size)
        if step >= 1 and np.ptp(behind) <= ONE_LINE:
            first = 0.5 * float(behind.min() + behind.max())
            return SourceAxis(first - step, float(step), np.concatenate([[0], edges]).astype(np.intp))
    return None


def _even_step(edges: NDArray[np.intp]) -> float:
    """Return the step with which the edges' largest distance from even ones is least; it is convex in the step."""
    order = np.arange(edges.size)
    middle, reach = (edges[-1] - edges[0]) / (edges.size - 1), 2.0 / (edges.size - 1)
    low, high = middle - reach, middle + reach
    for _ in range(60):
        first, second = low + (high - low) / 3, high - (high - low) / 3
        if np.ptp(edges - first * order) <= np.ptp(edges - second * order):
            high = second
        else:
            low = first
    return float(0.5 * (low + high))
