"""MSI bands that repeat or interpolate a coarser grid, such as Sentinel-2's 20 m bands on 10 m, told and sharpened.

Such a band m = K x shows its scene x as means over cells, repeated or interpolated. The bands F that are as fine as
their grid, seen through the same K, tell which K it is, and what detail the band lacks:

    x ≈ m + w (F − K F),   w: regression of the detail of m on that of K F

Q. Wang et al., Fusion of Sentinel-2 images, Remote Sens. Environ. 187, 2016, doi:10.1016/j.rse.2016.10.030.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geolift.training.noise import interpolated_bands

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
Kind = Literal["repeated", "bilinear", "cubic", "blurred"]
View = tuple[FloatArray, int, int]
"""Values (c, y, x) of a window, and the row and column of its first pixel in the image."""

REPEATS, FACTORS, BLURS = (6, 5, 4, 3, 2), (2, 3, 4), (1.5, 2.0, 2.5, 3.0, 4.0, 6.0)
"""Factors at which repeated pixels are looked for, interpolated ones, and ones that only a blur describes."""

ALIKE_INSIDE, ALIKE_ACROSS = 0.97, 0.9
"""Share of neighbours that are equal inside the cells of repeated pixels at least, across their borders at most."""

LEFT_OF_PLAIN = 0.9
"""A band counts as coarse if the fine bands leave so much less of it once they are as coarse."""

DETAIL_PX = 13
"""Edge of the square whose mean is taken off before details are held against each other."""


@dataclass(frozen=True)
class Grid:
    """The coarser grid of a band: cells of ``factor`` pixels, the first border at ``first_px`` (row, column)."""

    kind: Kind
    factor: float
    first_px: tuple[int, int] = (0, 0)

    @property
    def reach_px(self) -> int:
        """Pixels around a window that `through` looks at."""
        return int(np.ceil(3 * self.factor))


@dataclass(frozen=True, eq=False)
class CoarseBands:
    """What makes an MSI's coarse bands as sharp as the others.

    Parameters
    ----------
    grids
        (c,) of each band; None where a band is as fine as its pixels.
    weights
        (c, c): detail of a coarse band per detail of a fine one.
    missing
        (c,) RMS of the detail that stays unknown, in the unit of the MSI: noise, beside fine bands.
    """

    grids: tuple[Grid | None, ...]
    weights: DoubleArray
    missing: DoubleArray

    @property
    def reach_px(self) -> int:
        """Pixels around a window that are read."""
        return max(grid.reach_px for grid in self.grids if grid is not None)

    def sharpened(self, msi: FloatArray, row: int, col: int) -> FloatArray:
        """Add to coarse bands the detail of the fine ones; where that is not known they stay as they are.

        ``msi``: (c, y, x), NaN = invalid; pixels nearer to its border than `reach_px` are not final. ``row``, ``col``:
        of its first pixel in the image: the cells' borders are counted from there.
        """
        out, details = msi.copy(), {}
        for band, grid in enumerate(self.grids):
            if grid is None:
                continue
            added = np.zeros(msi.shape[1:], np.float32)
            for fine in np.flatnonzero(self.weights[band]):  # term by term: no window changes the rounding
                if (grid, fine) not in details:
                    details[grid, fine] = msi[fine] - through(grid, msi[fine], row, col)
                added += np.float32(self.weights[band, fine]) * details[grid, fine]
            out[band] += np.where(np.isfinite(added), added, np.float32(0))
        return out


def find_coarse_bands(views: Sequence[View]) -> CoarseBands | None:
    """Tell which bands are coarser than their pixels, and what the others tell of them; None where none is.

    ``views``: windows that stand for the MSI.
    """
    if not views:
        return None
    count = len(views[0][0])
    grids: list[Grid | None] = [_repetition(views, band) for band in range(count)]
    smooth = interpolated_bands([values for values, _, _ in views])
    unsure = [band for band in range(count) if smooth[band] and grids[band] is None]
    fine = [band for band in range(count) if not smooth[band] and grids[band] is None]
    if not fine or len(fine) == count:
        return None
    weights, missing = np.zeros((count, count)), np.zeros(count)
    grids = [grid or best for grid, best in zip(grids, _interpolations(views, fine, unsure), strict=True)]
    for grid in {grid for grid in grids if grid is not None}:
        same = [band for band in range(count) if grids[band] == grid]
        fit = _fitted(views, fine, same, grid)
        weights[np.ix_(same, fine)], missing[same] = fit.weights, fit.missing
    if all(grid is None for grid in grids):
        return None
    return CoarseBands(tuple(grids), weights, missing)


def _interpolations(views: Sequence[View], fine: list[int], bands: list[int]) -> list[Grid | None]:
    """Find the grids (c,) under which the fine bands tell most of some others; None where they tell as much without."""
    found: list[Grid | None] = [None] * len(views[0][0])
    if not bands:
        return found
    left = LEFT_OF_PLAIN * _fitted(views, fine, bands, None).left
    kinds: tuple[Kind, ...] = ("bilinear", "cubic")
    cells = [(factor, (y, x)) for factor in FACTORS for y in range(factor) for x in range(factor)]
    grids = [Grid(kind, *cell) for kind in kinds for cell in cells] + [Grid("blurred", factor) for factor in BLURS]
    for grid in grids:
        told = _fitted(views, fine, bands, grid).left
        for index in np.flatnonzero(told < left):
            found[bands[index]] = grid
        left = np.minimum(told, left)
    return found


def _repetition(views: Sequence[View], band: int) -> Grid | None:
    """Find the cells within which a band repeats one value."""
    alike = [_alike(views, band, axis) for axis in (0, 1)]
    for factor in REPEATS:
        first = [_border(share, factor) for share in alike]
        if first[0] is not None and first[1] is not None:
            return Grid("repeated", factor, (first[0], first[1]))
    return None


def _alike(views: Sequence[View], band: int, axis: int) -> Callable[[int], DoubleArray]:
    """Tell, for a factor, the shares of equal neighbours at each of its places (factor,) along an axis."""
    places, equal = [], []
    for values, *first in views:
        image = np.moveaxis(values[band], axis, -1)
        both = np.isfinite(image[:, 1:]) & np.isfinite(image[:, :-1])
        same = (image[:, 1:] == image[:, :-1]) & both
        places.append(first[axis] + 1 + np.arange(image.shape[1] - 1))
        equal.append(np.stack([same.sum(axis=0), both.sum(axis=0)]))
    place, counts = np.concatenate(places), np.concatenate(equal, axis=1)

    def shares(factor: int) -> DoubleArray:
        sums = np.stack([np.bincount(place % factor, row, factor) for row in counts])
        return np.asarray(sums[0] / np.maximum(sums[1], 1.0))

    return shares


def _border(shares: Callable[[int], DoubleArray], factor: int) -> int | None:
    """Place of the cells' borders among so many; None where there are no cells."""
    share = shares(factor)
    first = int(np.argmin(share))
    inside = np.delete(share, first)
    return first if inside.min() > ALIKE_INSIDE and share[first] < ALIKE_ACROSS else None


@dataclass(frozen=True, eq=False)
class _Fit:
    """Regression of the detail of bands on that of the fine ones: weights (b, f), and what they leave.

    ``left`` (b,) is the share of the detail, ``missing`` (b,) about the RMS of what is finer than the grid: as much as
    neighbouring cells differ by.
    """

    weights: DoubleArray
    left: DoubleArray
    missing: DoubleArray


def _fitted(views: Sequence[View], fine: list[int], bands: list[int], grid: Grid | None) -> _Fit:
    """Fit with the fine bands seen through a grid."""
    seen, wanted = [], []
    for values, row, col in views:
        image = values[fine] if grid is None else np.stack([through(grid, values[f], row, col) for f in fine])
        seen.append(_detail(image))
        wanted.append(_detail(values[bands]))
    valid = [np.isfinite(s).all(axis=0) & np.isfinite(w).all(axis=0) for s, w in zip(seen, wanted, strict=True)]
    x, y = (
        np.concatenate([part[:, ok] for part, ok in zip(parts, valid, strict=True)], axis=1).astype(np.float64)
        for parts in (seen, wanted)
    )
    power = x @ x.T
    power += 1e-6 * max(float(np.trace(power)), 1e-30) / len(x) * np.eye(len(x))
    weights = np.asarray(np.linalg.solve(power, x @ y.T).T, np.float64)
    left = np.asarray(np.square(y - weights @ x).sum(axis=1) / np.maximum(np.square(y).sum(axis=1), 1e-30), np.float64)
    rest = [w - np.einsum("bf,fyx->byx", weights, s) for s, w in zip(seen, wanted, strict=True)]
    apart = np.concatenate([_apart(r, 1 if grid is None else round(grid.factor)) for r in rest], axis=1)
    count = np.maximum(np.isfinite(apart).sum(axis=1), 1)
    return _Fit(weights, left, np.asarray(np.sqrt(np.nansum(np.square(apart), axis=1) / count / 2), np.float64))


def _apart(images: DoubleArray, step: int) -> DoubleArray:
    """Differences (b, n) of pixels so far apart."""
    across, down = images[:, :, step:] - images[:, :, :-step], images[:, step:] - images[:, :-step]
    return np.concatenate([across.reshape(len(images), -1), down.reshape(len(images), -1)], axis=1)


def _detail(images: FloatArray) -> FloatArray:
    """Images (n, y, x) without their local means."""
    box = np.full(DETAIL_PX, 1.0 / DETAIL_PX)
    mean = ndimage.correlate1d(ndimage.correlate1d(images, box, axis=1), box, axis=2)
    return np.asarray(images - mean, np.float32)


def through(grid: Grid, image: FloatArray, row: int, col: int) -> FloatArray:
    """See an image (y, x), its first pixel at (row, col), through a coarser grid; NaN where a cell is not whole."""
    if grid.kind == "blurred":
        return np.asarray(ndimage.gaussian_filter(image, grid.factor / 2, radius=grid.reach_px), np.float32)
    for axis, (first, border) in enumerate(zip((row, col), grid.first_px, strict=True)):
        along = _along(np.moveaxis(image, axis, -1), grid.kind, int(grid.factor), (first - border) % int(grid.factor))
        image = np.moveaxis(along, -1, axis)
    return image


def _along(image: FloatArray, kind: Kind, factor: int, inside: int) -> FloatArray:
    """The same along the last axis, whose first pixel is the so manieth of its cell."""
    length = image.shape[-1]
    padded = np.full((*image.shape[:-1], -(-(inside + length) // factor) * factor), np.nan, np.float32)
    padded[..., inside : inside + length] = image
    cells = padded.reshape(*image.shape[:-1], -1, factor).mean(axis=-1)
    cell, place = np.divmod(inside + np.arange(length), factor)
    if kind == "repeated":
        return np.asarray(cells[..., cell])
    offset = (place + 0.5) / factor - 0.5
    cell, t = cell - (offset < 0), (offset + (offset < 0)).astype(np.float32)
    taps: dict[int, np.ndarray]
    if kind == "bilinear":
        taps = {0: 1 - t, 1: t}
    else:  # Keys, IEEE Trans. ASSP 29 (1981), doi:10.1109/TASSP.1981.1163711, a = -1/2
        cube = t**3
        taps = {-1: t**2 - (t + cube) / 2, 0: 1 - 2.5 * t**2 + 1.5 * cube,
                1: t / 2 + 2 * t**2 - 1.5 * cube, 2: (cube - t**2) / 2}  # fmt: skip
    total = np.zeros_like(image)
    for tap, weight in taps.items():
        total += weight.astype(np.float32) * cells[..., np.clip(cell + tap, 0, cells.shape[-1] - 1)]
    return np.asarray(total, np.float32)
