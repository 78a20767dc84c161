"""Stripes: columns (or lines) of single bands that are brighter or darker than the scene explains.

A column's mean is scene and stripe. The scene's part varies in the few spectral directions in which pixels of one
column differ from each other, which stripes do not change; what the means do beyond these is the detector's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

SIZES = np.geomspace(5e-4, 0.3, 60)
"""Standard deviations of stripes that are tried, relative to the band."""

SCENE_SHARES = np.geomspace(0.005, 1.0, 16)
"""Variance of column means over that of single pixels, as tried: a mean over many rows varies little."""

SMOOTHING = 7
"""Columns whose mean is taken off, so that trends across the scene are no stripes."""

LEAST_SIZE = 0.008
"""Stripes smaller than that do no harm."""

LEAST_CONTRAST = 2.5
"""Stripes are so much larger along one axis than along the other; what is alike along both is the ground."""

FEWEST_LINES, FEWEST_BANDS, FEWEST_VALUES = 12, 16, 8
ROUNDS = 3

DARK = 0.05
"""A band darker than that share of the typical one counts as so bright: its relative stripes would be noise."""


@dataclass(frozen=True, eq=False)
class Stripes:
    """Stripes along one axis.

    Parameters
    ----------
    axis
        2 = columns, 1 = lines.
    size
        Their standard deviation relative to the band.
    gain
        (B, n) what each column or line is to be divided by.
    """

    axis: int
    size: float
    gain: FloatArray


@dataclass(frozen=True, eq=False, kw_only=True)
class PixelSample:
    """Single pixels of an image: ``values`` (B, n), and the ``rows`` and ``cols`` (n,) they stand in."""

    values: NDArray[np.float32]
    rows: NDArray[np.intp]
    cols: NDArray[np.intp]

    def without(
        self, bad: NDArray[np.bool_] | None, columns: NDArray[np.bool_], lines: NDArray[np.bool_]
    ) -> PixelSample:
        """Return the sample without missing and bad values (B, n), dead columns (B, width) and lines (B, height)."""
        kept = np.asarray(np.isfinite(self.values).all(axis=0))
        dead = np.asarray(columns.any(axis=0))[self.cols] | np.asarray(lines.any(axis=0))[self.rows]
        kept &= ~dead
        if bad is not None:
            kept &= ~bad.any(axis=0)
        return PixelSample(values=self.values[:, kept], rows=self.rows[kept], cols=self.cols[kept])


class LineMeans:
    """Means of columns and lines, summed strip by strip from the top."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        bands, height, width = shape
        self._columns, self._column_counts = np.zeros((bands, width)), np.zeros((bands, width), np.int64)
        self._lines = np.full((bands, height), np.nan)

    def add(self, values: NDArray[np.float32], rows: slice) -> None:
        """Sum the next whole lines (B, y, x); NaN = left out."""
        valid = np.isfinite(values)
        known = np.where(valid, values, np.float32(0.0))
        self._columns += known.sum(axis=1, dtype=np.float64)
        self._column_counts += valid.sum(axis=1)
        counts = valid.sum(axis=2)
        sums = known.sum(axis=2, dtype=np.float64)
        self._lines[:, rows] = np.where(counts >= FEWEST_VALUES, sums / np.maximum(counts, 1), np.nan)

    def finish(self, dead_columns: NDArray[np.bool_], dead_lines: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
        """Return the means (B, width) and (B, height); NaN where too little is valid, or a band of it dead."""
        enough = self._column_counts >= FEWEST_VALUES
        columns = np.where(enough, self._columns / np.maximum(self._column_counts, 1), np.nan)
        columns[:, dead_columns.any(axis=0)] = np.nan
        lines = self._lines.copy()
        lines[:, dead_lines.any(axis=0)] = np.nan
        return columns, lines


def find_stripes(columns: FloatArray, lines: FloatArray, sample: PixelSample) -> Stripes | None:
    """Find stripes along columns or lines.

    ``columns``, ``lines``: (B, width) and (B, height) means, NaN where there is none to be had. ``sample``: from which
    it is learned how the pixels of a column or line differ.
    """
    if len(columns) < FEWEST_BANDS or sample.values.shape[1] <= len(columns):
        return None
    if min(np.isfinite(means).all(axis=0).sum() for means in (columns, lines)) < FEWEST_LINES:
        return None
    level = np.abs(np.nanmean(columns, axis=1))
    level = np.maximum(level, DARK * np.median(level))[:, None]
    if not (level > 0).all():
        return None
    columns, lines, values = columns / level, lines / level, sample.values / level
    scene = _scene(columns, lines, values, sample)
    sizes = {2: _effects(columns, scene)[1], 1: _effects(lines, scene)[1]}
    axis = max(sizes, key=lambda each: sizes[each])
    if sizes[axis] < max(LEAST_SIZE, LEAST_CONTRAST * sizes[3 - axis]):
        return None
    gain, at = np.ones((columns if axis == 2 else lines).shape), sample.cols if axis == 2 else sample.rows
    for _ in range(ROUNDS):
        means = (columns if axis == 2 else lines) / gain
        other = _scene(*((means, lines) if axis == 2 else (columns, means)), values / gain[:, at], sample)
        gain *= 1.0 + _effects(means, other)[0] / np.where(means > DARK, means, 1.0)
    return Stripes(axis, sizes[axis], gain)


def _scene(
    columns: FloatArray, lines: FloatArray, values: FloatArray, sample: PixelSample
) -> tuple[FloatArray, FloatArray]:
    """Return how spectra of one column and line differ: variances, ascending, and their directions (B, B)."""
    apart = values - columns[:, sample.cols] - lines[:, sample.rows] + np.nanmean(columns, axis=1)[:, None]
    variances, directions = np.linalg.eigh(np.cov(apart[:, np.isfinite(apart).all(axis=0)]))
    return np.maximum(variances, 0.0), directions


def _effects(means: FloatArray, scene: tuple[FloatArray, FloatArray]) -> tuple[FloatArray, float]:
    """Split means (B, n) into scene and stripes; return the stripes (B, n) and their most likely size.

    The means' covariance is modelled as a share of the scene's plus white stripes; both are found by maximum likelihood
    in the scene's own directions, and the stripes are their conditional mean.
    """
    variances, directions = scene
    known = np.isfinite(means).all(axis=0)
    out = np.zeros(means.shape)
    if known.sum() < FEWEST_LINES:
        return out, 0.0
    kept = means[:, known]
    energy = np.square(directions.T @ _less_trend(kept)).mean(axis=1)
    signal, size, share = variances, 0.0, 1.0
    for _ in range(4):
        modelled = SCENE_SHARES[:, None, None] * signal + np.square(SIZES)[:, None]
        likelihood = (np.log(modelled) + energy / modelled).sum(axis=2)
        at = np.unravel_index(int(likelihood.argmin()), likelihood.shape)
        share, size = float(SCENE_SHARES[at[0]]), float(SIZES[at[1]])
        # Stripes enlarge the scatter of pixels too: directions in which they could have done so are no scene.
        false = 4.0 * size**2 * variances[-1] / min(means.shape[0], int(known.sum()))
        signal = np.where(variances > false, variances, 0.0)
    shrink = size**2 / (share * signal + size**2)
    centred = kept - kept.mean(axis=1, keepdims=True)
    out[:, known] = directions @ (shrink[:, None] * (directions.T @ centred))
    return out, 0.0 if size <= SIZES[0] else size


def _less_trend(means: FloatArray) -> FloatArray:
    """Take a running mean off, and make up for the variance that this costs white values."""
    half = SMOOTHING // 2
    padded = np.pad(means, ((0, 0), (half, half)), mode="reflect")
    total = np.cumsum(np.pad(padded, ((0, 0), (1, 0))), axis=1)
    trend = (total[:, SMOOTHING:] - total[:, :-SMOOTHING]) / SMOOTHING
    return np.asarray((means - trend) * np.sqrt(SMOOTHING / (SMOOTHING - 1.0)))
