"""Gains and offsets between two images that vary over the scene: haze, the view's angle, shading, season.

Everything is told by sums over cells of the HSI's grid: low polynomials of the place, and local means of what these
leave, by normalised convolution. Held-out blocks with a gap choose; see `geolift.pair.harmonization`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
Kind = Literal["common-gain", "gain", "offset", "gain-offset"]

MAX_CELLS = 3600
"""Cells a scene is divided into at most."""

SIGMAS_CELLS = (1.5, 3.0, 6.0)
"""Widths of the local means that are tried, in cells."""

SHRINK_CELLS = 1.0
"""Weight, in cells, with which a local mean is drawn to no variation."""

REACH_SIGMA = 2.5


@dataclass(frozen=True)
class Variation:
    """What may vary, and how: as a polynomial of the place of a degree, or as a local mean of a width in cells."""

    kind: Kind
    degree: int = 0
    sigma_cells: float = 0.0


KINDS: tuple[Kind, ...] = ("common-gain", "gain", "offset", "gain-offset")

CANDIDATES = tuple(
    Variation(kind, degree, sigma)
    for degree, sigma in ((1, 0.0), (2, 0.0), *((0, sigma) for sigma in SIGMAS_CELLS))
    for kind in KINDS
)


@dataclass(frozen=True, eq=False)
class LocalRelation:
    """Gain and offset of each MSI band as a field over the HSI's grid: msi + gain · msi + offset.

    Parameters
    ----------
    gain, offset
        (c, h, w) float32 at the centres of the cells; gain beside one, offset in the MSI's unit.
    first_px, step_px
        Position of the first cell's centre (row, col), and the cells' width, in HSI pixels; the centre of the HSI's
        first pixel is at 0.
    variation
        What was fitted.
    size
        RMS change of the MSI, in parts of the level of the band that changes most.
    """

    gain: FloatArray
    offset: FloatArray
    first_px: tuple[float, float]
    step_px: int
    variation: Variation
    size: float = 0.0

    @property
    def fields(self) -> tuple[FloatArray, FloatArray]:
        """Gain and offset."""
        return self.gain, self.offset

    def apply(self, msi: FloatArray, rows: DoubleArray, cols: DoubleArray) -> FloatArray:
        """Map MSI values (c, y, x) at positions in HSI pixels: (y, 1) and (1, x), or both (y, x)."""
        gain, offset = (self.at(field, rows, cols) for field in (self.gain, self.offset))
        return np.asarray(msi + gain * msi + offset, np.float32)

    def at(self, field: FloatArray, rows: DoubleArray, cols: DoubleArray) -> FloatArray:
        """Read a field (c, h, w) between its cells; beyond the outer ones, theirs."""
        y, x = ((p - first) / self.step_px for p, first in zip((rows, cols), self.first_px, strict=True))
        height, width = field.shape[1:]
        if rows.shape[1] == 1 and cols.shape[0] == 1:
            low_y, share_y = _between(y[:, 0], height)
            low_x, share_x = _between(x[0], width)
            down = field[:, low_y] * (1 - share_y[:, None]) + field[:, low_y + (height > 1)] * share_y[:, None]
            return np.asarray(down[:, :, low_x] * (1 - share_x) + down[:, :, low_x + (width > 1)] * share_x)
        y, x = np.broadcast_arrays(y, x)
        return np.stack([ndimage.map_coordinates(band, (y, x), order=1, mode="nearest") for band in field])

    def shifted(self, rows: float, cols: float) -> LocalRelation:
        """Return the same fields with positions counted from another first pixel."""
        first = (self.first_px[0] + rows, self.first_px[1] + cols)
        return replace(self, first_px=first)


def _between(places: DoubleArray, size: int) -> tuple[NDArray[np.intp], FloatArray]:
    """Cell below each place, and how far the place lies towards the next one."""
    inside = np.clip(places, 0, size - 1)
    low = np.minimum(inside.astype(np.intp), max(size - 2, 0))
    return low, (inside - low).astype(np.float32)


@dataclass(frozen=True, eq=False)
class CellSums:
    """Weighted sums over the pixels of each cell, per band: of 1, m, m², r, and r m: (5, c, h, w).

    m are the MSI's values in parts of the band's level, r what they miss, likewise.
    """

    sums: DoubleArray
    step_px: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return self.sums.shape[2], self.sums.shape[3]


def cell_step(shape: tuple[int, int]) -> int:
    """Edge of a cell in HSI pixels, for a scene of (rows, cols)."""
    return max(1, int(np.ceil(np.sqrt(shape[0] * shape[1] / MAX_CELLS))))


def sum_cells(
    missed: DoubleArray,
    seen: DoubleArray,
    weights: DoubleArray,
    places: tuple[NDArray[np.intp], NDArray[np.intp]],
    shape: tuple[int, int],
) -> CellSums:
    """Add up pixels (c, n) at (rows, cols) of a scene of a shape.

    Parameters
    ----------
    missed
        What has to be added to the MSI.
    seen
        The MSI.
    weights
        (n,).
    """
    step = cell_step(shape)
    size = [-(-n // step) for n in shape]
    cell = places[0] // step * size[1] + places[1] // step
    terms = [np.ones_like(seen), seen, seen**2, missed, missed * seen]
    flat = np.array([[np.bincount(cell, weights * band, size[0] * size[1]) for band in term] for term in terms])
    return CellSums(flat.reshape(5, len(seen), *size), step)


def fit_variation(cells: CellSums, variation: Variation, *, apart: bool = False) -> tuple[DoubleArray, DoubleArray]:
    """Gain and offset (c, h, w), both in parts of the bands' units, of a candidate.

    ``apart``: leave out each cell and its eight neighbours where a local mean is told for it: what the others predict.
    """
    sums = cells.sums
    if variation.kind == "common-gain":
        sums = sums.sum(axis=1, keepdims=True)
    if variation.degree:
        gain, offset = _polynomial(sums, variation.kind, variation.degree)
    else:
        around = gaussian_sums(sums, variation.sigma_cells, apart=apart)
        gain, offset = solve_cells(around, sums, variation.kind)
    if variation.kind == "common-gain":
        gain, offset = (np.repeat(field, cells.sums.shape[1], axis=0) for field in (gain, offset))
    return gain, offset


def gaussian_sums(sums: DoubleArray, sigma: float, *, apart: bool) -> DoubleArray:
    """Sums around each cell, Gaussian, one for the cell itself; ``apart`` without it and its neighbours."""
    around = ndimage.gaussian_filter(sums, (0, 0, sigma, sigma), mode="constant", truncate=REACH_SIGMA)
    taps = np.exp(-0.5 * (np.arange(-np.ceil(REACH_SIGMA * sigma), np.ceil(REACH_SIGMA * sigma) + 1) / sigma) ** 2)
    around *= taps.sum() ** 2
    if apart:
        near = np.exp(-0.5 / sigma**2 * np.array([1.0, 0.0, 1.0]))
        part = ndimage.correlate1d(sums, near, axis=-1, mode="constant")
        around -= ndimage.correlate1d(part, near, axis=-2, mode="constant")
    return np.asarray(around, np.float64)


def solve_cells(around: DoubleArray, sums: DoubleArray, kind: Kind) -> tuple[DoubleArray, DoubleArray]:
    """Gain, offset, or both, that fit the sums around each cell best, drawn a little to none.

    References
    ----------
    H. Knutsson, C.-F. Westin, Normalized and differential convolution, CVPR 1993, doi:10.1109/CVPR.1993.341081.
    """
    pull, _, pull_square, _, _ = SHRINK_CELLS * sums.mean(axis=(2, 3), keepdims=True) + 1e-12
    one, m, mm, r, rm = around
    zero = np.zeros_like(r)
    if kind == "offset":
        return zero, r / (one + pull)
    if kind != "gain-offset":
        return rm / (mm + pull_square), zero
    a, b, c = mm + pull_square, m, one + pull
    det = np.maximum(a * c - b * b, 1e-12 * a * c)
    return (c * rm - b * r) / det, (a * r - b * rm) / det


def _polynomial(sums: DoubleArray, kind: Kind, degree: int) -> tuple[DoubleArray, DoubleArray]:
    """Gain and offset that are polynomials of the place, stacked: (2, c, h, w)."""
    basis = place_terms(sums.shape[2], sums.shape[3], degree)
    out = np.zeros((2, *sums.shape[1:]))
    for band, (one, m, mm, r, rm) in enumerate(sums.swapaxes(0, 1)):
        squares = {"offset": [[one]], "gain-offset": [[mm, m], [m, one]]}.get(kind, [[mm]])
        left = np.block([[np.einsum("ihw,jhw,hw->ij", basis, basis, q) for q in row] for row in squares])
        goals = {"offset": [r], "gain-offset": [rm, r]}.get(kind, [rm])
        right = np.concatenate([np.einsum("ihw,hw->i", basis, goal) for goal in goals])
        left += 1e-6 * np.trace(left) / len(left) * np.eye(len(left)) + 1e-12 * np.eye(len(left))
        fields = np.linalg.solve(left, right).reshape(len(goals), -1) @ basis.reshape(len(basis), -1)
        where = {"offset": [1], "gain-offset": [0, 1]}.get(kind, [0])
        out[where, band] = fields.reshape(len(goals), *basis.shape[1:])
    return out[0], out[1]


def place_terms(rows: int, cols: int, degree: int) -> DoubleArray:
    """Polynomials of the place up to a degree of 2, from -1 to 1 over the cells: (term, h, w)."""
    v = np.broadcast_to((2 * (np.arange(rows) + 0.5) / rows - 1)[:, None], (rows, cols))
    u = np.broadcast_to((2 * (np.arange(cols) + 0.5) / cols - 1)[None], (rows, cols))
    return np.stack([np.ones_like(v), v, u, v * v, v * u, u * u][: (1, 3, 6)[degree]])
