"""One walk over the HSI: bad values and dead lines counted, what each column and line holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geolift.datamodel.cube import blocks_of, window_values
from geolift.pair.screening.bad_values import ValueLimits, find_bad_values, most_mended, value_limits
from geolift.pair.screening.columns import dead_columns
from geolift.pair.screening.noisy_bands import NoisyBands, find_noisy_bands
from geolift.pair.screening.repeated import NeighbourCount, Pairs, doubled_lines
from geolift.pair.screening.stripes import LineMeans, PixelSample, Stripes, find_stripes

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

STRIP_VALUES = 8_000_000
"""Values read at once: whole lines, the same whatever blocks the file is read in."""

SAMPLE_PX = 5_000
"""Pixels, on a lattice over the scene, from which it is learned what is usual."""

MOST_PLACES = 100
"""Pixels with bad values that are remembered by their place."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BadValues:
    """How many values no sensor measured, beside dead columns and lines.

    Parameters
    ----------
    per_band
        (B,) bad values of each band.
    pixels, left_out
        Pixels that hold any, and those of them in which too few other bands are left to set them right.
    places
        (row, col, band, value) of the first of them.
    where
        (height, width), which pixels they are; empty where there are none.
    """

    per_band: NDArray[np.int64]
    pixels: int
    left_out: int
    places: tuple[tuple[int, int, int, float], ...]
    where: BoolArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Survey:
    """What a walk over an HSI found, its bands in the order of their wavelengths.

    Parameters
    ----------
    limits
        What is usual in each band.
    bad
        Values that no sensor measured.
    columns, lines
        (B, width) and (B, height), True where dead.
    down, right
        Neighbours that agree in the last digit of all bands.
    doubled_lines, doubled_columns
        (height,) and (width,), True at both of two that hold the same, the others being as they were measured.
    stripes
        What columns or lines are brighter or darker than the scene explains; None if nothing is.
    noisy
        Bands that hold little but noise; None if none does.
    """

    limits: ValueLimits
    bad: BadValues
    columns: BoolArray
    lines: BoolArray
    down: Pairs
    right: Pairs
    doubled_lines: BoolArray
    doubled_columns: BoolArray
    stripes: Stripes | None
    noisy: NoisyBands | None

    def wrong(self, values: FloatArray, rows: slice, cols: slice) -> BoolArray | None:
        """Find bad values and those of dead and doubled lines in a block (B, y, x); None if there are none."""
        dead = self.columns[:, None, cols] | self.lines[:, rows, None]
        dead |= self.doubled_lines[rows, None] | self.doubled_columns[cols]
        bad = find_bad_values(values, self.limits)
        if bad is None and not dead.any():
            return None
        return np.asarray((dead if bad is None else dead | bad) & ~np.isnan(values).all(axis=0))

    def sound(self, values: FloatArray, rows: slice, cols: slice) -> FloatArray:
        """Return a block (B, y, x) without the pixels in which anything is wrong: NaN."""
        wrong = self.wrong(values, rows, cols)
        return values if wrong is None else np.where(wrong.any(axis=0), np.float32(np.nan), values)


def strips(shape: tuple[int, int, int]) -> Iterator[slice]:
    """Cut an image (band, y, x) into runs of whole lines."""
    count, height, width = shape
    step = max(1, STRIP_VALUES // max(1, count * width))
    for row in range(0, height, step):
        yield slice(row, min(height, row + step))


def lattice_sample(data: Any, order: NDArray[np.intp]) -> PixelSample:
    """Return every n-th pixel of every n-th line; each block of the image is read once."""
    height, width = data.shape[1:]
    step = max(1, int(np.ceil(np.sqrt(height * width / SAMPLE_PX))))
    rows, cols = np.arange(0, height, step), np.arange(0, width, step)
    values = np.empty((order.size, rows.size, cols.size), np.float32)
    for block in blocks_of(data):
        row, col = (-(-part.start // step) for part in block)  # the first of the lattice in this block
        window = slice(row * step, block[0].stop, step), slice(col * step, block[1].stop, step)
        if all(part.start < part.stop for part in window):
            found = window_values(data, *window)[order]
            values[:, row : row + found.shape[1], col : col + found.shape[2]] = found
    at_rows, at_cols = (grid.ravel() for grid in np.meshgrid(rows, cols, indexing="ij"))
    return PixelSample(values=values.reshape(order.size, -1), rows=at_rows, cols=at_cols)


def survey_hsi(data: Any, order: NDArray[np.intp]) -> Survey:
    """Walk over an HSI once.

    ``data``: (band, y, x) values, lazy or in memory; NaN = invalid. ``order``: the bands that count, in the order of
    their wavelengths.
    """
    sample = lattice_sample(data, order)
    limits = value_limits(sample.values)
    _, height, width = data.shape
    low = np.full((order.size, width), np.nan, np.float32)
    high, seen = low.copy(), np.zeros((order.size, width), np.int64)
    lines = np.zeros((order.size, height), bool)
    line_low, line_high = np.empty_like(lines, np.float32), np.empty_like(lines, np.float32)
    line_seen = np.zeros_like(lines, np.int64)
    suspicious, neighbours, means = False, NeighbourCount((height, width)), LineMeans((order.size, height, width))
    for rows in strips(data.shape):
        values = window_values(data, rows, slice(None))[order]
        valid = np.isfinite(values)
        low, high = np.fmin(low, np.fmin.reduce(values, axis=1)), np.fmax(high, np.fmax.reduce(values, axis=1))
        line_low[:, rows], line_high[:, rows] = np.fmin.reduce(values, axis=2), np.fmax.reduce(values, axis=2)
        seen += valid.sum(axis=1)
        line_seen[:, rows] = valid.sum(axis=2)
        neighbours.add(values)
        bad = find_bad_values(values, limits)
        suspicious |= bad is not None
        means.add(values if bad is None else np.where(bad, np.float32(np.nan), values), rows)
    columns = dead_columns(low, high, seen)
    lines = dead_columns(line_low, line_high, line_seen)
    if suspicious:
        counted = _count_bad(data, order, limits, columns, lines)
    else:
        counted = BadValues(
            per_band=np.zeros(order.size, np.int64), pixels=0, left_out=0, places=(), where=np.zeros((0, 0), bool)
        )
    down, right = neighbours.finish()
    sample = sample.without(find_bad_values(sample.values, limits), columns, lines)
    stripes = find_stripes(*means.finish(columns, lines), sample)
    return Survey(
        limits=limits, bad=counted, columns=columns, lines=lines, down=down, right=right,
        doubled_lines=doubled_lines(down, right), doubled_columns=doubled_lines(right, down), stripes=stripes,
        noisy=find_noisy_bands(sample.values),
    )  # fmt: skip


def _count_bad(
    data: Any, order: NDArray[np.intp], limits: ValueLimits, columns: BoolArray, lines: BoolArray
) -> BadValues:
    """Count the bad values beside dead columns and lines."""
    per_band, pixels, left_out = np.zeros(order.size, np.int64), 0, 0
    places: list[tuple[int, int, int, float]] = []
    where = np.zeros(data.shape[1:], bool)
    for rows in strips(data.shape):
        values = window_values(data, rows, slice(None))[order]
        bad = find_bad_values(values, limits)
        if bad is None:
            continue
        bad &= ~(columns[:, None, :] | lines[:, rows, None])
        per_band += bad.sum(axis=(1, 2))
        of_pixel = bad.sum(axis=0)
        where[rows] = of_pixel > 0
        pixels += int((of_pixel > 0).sum())
        left_out += int((of_pixel > most_mended(order.size)).sum())
        places += _places(values, bad, rows.start)[: MOST_PLACES - len(places)]
    return BadValues(per_band=per_band, pixels=pixels, left_out=left_out, places=tuple(places), where=where)


def _places(values: FloatArray, bad: BoolArray, first_row: int) -> list[tuple[int, int, int, float]]:
    found = []
    for row, col in np.argwhere(bad.any(axis=0))[:MOST_PLACES]:
        band = int(np.argmax(bad[:, row, col]))
        found.append((int(row) + first_row, int(col), band, float(values[band, row, col])))
    return found
