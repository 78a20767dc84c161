"""The pixels a model learns from: a bounded sample of the LR-HSI that does not depend on how it was read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]

DEFAULT_LIMIT = 32_768
PIECE_PIXELS = 4096
"""Pixels turned into float64 at once: copies of all of them would be the largest arrays of a run."""


VALUES_AT_ONCE, FEWEST_BANDS = 2**20, 16
"""Of a block's chosen pixels, that are taken in at once: a spectrum is written in pieces of a line of the caches."""

SPARSE = 16
"""One pixel in so many: as costly to look around as to look around all."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingSet:
    """Valid LR-HSI pixels over the good bands, in scan order.

    Parameters
    ----------
    spectra
        (n, C) float32, physical units, finite.
    neighbour_means
        (n, C) float32: mean of the valid pixels of the 3 × 3 window around each pixel, itself included.
    weights
        (c, C) SRF weights of the same bands; a row that sums to 1 keeps the unit.
    rows, cols
        (n,) position in the LR grid.
    msi_noise
        (c,) standard deviation of the noise of the MSI that a model is to be applied to; None = not known.
    """

    spectra: Floats
    neighbour_means: Floats
    weights: Floats
    rows: Ints
    cols: Ints
    msi_noise: Doubles | None = None

    def __post_init__(self) -> None:
        n, bands = self.spectra.shape
        if n == 0:
            raise ValueError("the training set has no pixels")
        if self.neighbour_means.shape != (n, bands) or self.weights.shape[1] != bands:
            raise ValueError("spectra, neighbour means and SRF weights do not have the same bands or pixels")
        if self.rows.shape != (n,) or self.cols.shape != (n,):
            raise ValueError("rows and cols give one position per pixel")
        if self.msi_noise is not None and self.msi_noise.shape != (len(self.weights),):
            raise ValueError("the noise is given per MSI band")

    @property
    def simulated(self) -> Floats:
        """(n, c) float32 simulated LR-MSI: weights · spectra."""
        return self.simulate(self.spectra)

    def simulate(self, spectra: Floats) -> Floats:
        """(n, c) MSI values of (n, C) spectra, summed in float64."""
        # einsum's own loops: a BLAS product may round differently on another number of threads
        weights = self.weights.astype(np.float64)
        out = np.empty((len(spectra), len(weights)), np.float32)
        for start in range(0, len(spectra), PIECE_PIXELS):
            few = slice(start, start + PIECE_PIXELS)
            out[few] = np.einsum("nb,mb->nm", spectra[few].astype(np.float64), weights)
        return out

    def seen(self, rng: np.random.Generator) -> Floats:
        """(n, c) float32 simulated LR-MSI, as noisy as the MSI is known to be."""
        noise = 0.0 if self.msi_noise is None else self.msi_noise
        return np.asarray(
            self.simulated + noise * rng.standard_normal((len(self.spectra), len(self.weights))), np.float32
        )

    def subset(self, keep: NDArray[np.bool_] | Ints) -> TrainingSet:
        """The training set with some of its pixels."""
        return replace(
            self,
            spectra=self.spectra[keep],
            neighbour_means=self.neighbour_means[keep],
            rows=self.rows[keep],
            cols=self.cols[keep],
        )

    def thinned(self, limit: int, seed: int) -> TrainingSet:
        """At most so many of its pixels, spread by their order."""
        if len(self.rows) <= limit:
            return self
        order = np.argsort(position_hash(np.arange(len(self.rows)), self.cols, seed), kind="stable")
        return self.subset(np.sort(order[:limit]))

    def joined(self, other: TrainingSet) -> TrainingSet:
        """Its pixels and those of another one with the same bands."""
        names = ("spectra", "neighbour_means", "rows", "cols")
        return replace(self, **{name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in names})


def position_hash(rows: Ints, cols: Ints, seed: int) -> NDArray[np.uint64]:
    """A uniform 64-bit number per position (the SplitMix64 mixer), the same wherever the pixel is met."""
    mixed = (rows.astype(np.uint64) << np.uint64(32)) ^ cols.astype(np.uint64)
    mixed = mixed + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


class TrainingSampler:
    """Collects the training set from blocks of the LR-HSI in one pass and bounded memory; ``count`` are kept so far.

    The pixels with the smallest hashes of their position stay, so the sample is uniform and the same for
    any blocks in any order, as long as each block brings its neighbours along.
    """

    def __init__(self, weights: Floats, *, limit: int = DEFAULT_LIMIT, seed: int = 0) -> None:
        self.weights = weights
        self.limit = limit
        self.seed = seed
        self.count = 0
        self._hashes: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._positions: Ints = np.empty((0, 2), np.int64)
        self._spectra: Floats = np.empty((0, weights.shape[1]), np.float32)
        self._means: Floats = np.empty((0, weights.shape[1]), np.float32)

    def add(self, block: Floats, row: int, col: int, core: tuple[slice, slice] | None = None) -> None:
        """Offer the valid pixels of a block.

        Parameters
        ----------
        block
            (C, y, x) good bands, NaN = invalid; with a margin of one pixel where the scene goes on.
        row, col
            Position of the block's first pixel in the LR grid.
        core
            The part of the block to draw from (without its margin); all of it by default.
        """
        inside = np.zeros(block.shape[1:], bool)
        inside[core if core is not None else (slice(None), slice(None))] = True
        valid: NDArray[np.bool_] = np.asarray(np.isfinite(block).all(axis=0))
        rows, cols = np.nonzero(inside & valid)
        hashes = position_hash(rows + row, cols + col, self.seed)
        if self.count == self.limit:
            better = hashes < self._hashes.max()
            rows, cols, hashes = rows[better], cols[better], hashes[better]
        # In the places of those with the largest hashes where there is no other.
        count, offered = self.count, np.concatenate([self._hashes[: self.count], hashes])
        stays = np.ones(len(offered), bool)
        if len(offered) > self.limit:
            stays[np.argpartition(offered, self.limit)[self.limit :]] = False
        came, gone = np.flatnonzero(stays[count:]), np.flatnonzero(~stays[:count])
        if not came.size:
            return
        self.count = count + len(came) - len(gone)
        places = np.concatenate([gone, np.arange(count, self.count)])
        rows, cols = rows[came], cols[came]
        self._grow()
        self._hashes[places] = hashes[came]
        self._positions[places] = np.stack([rows + row, cols + col], axis=1)
        chosen = rows * block.shape[2] + cols
        together = max(FEWEST_BANDS, VALUES_AT_ONCE // len(chosen))
        for first in range(0, len(block), together):
            bands = slice(first, first + together)
            self._spectra[places, bands] = _pixels(block[bands], chosen).T
            self._means[places, bands] = neighbour_means(block[bands], valid, chosen).T

    def _grow(self) -> None:
        """Make room for all that is kept: at least twice as much as there was, so that little is copied."""
        if self.count <= len(self._hashes):
            return
        rows = min(self.limit, max(self.count, 2 * len(self._hashes), PIECE_PIXELS))
        for name in ("_hashes", "_positions", "_spectra", "_means"):
            old: NDArray[Any] = getattr(self, name)
            new = np.empty((rows, *old.shape[1:]), old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)

    def finish(self) -> TrainingSet:
        """The sample in scan order. Raises ValueError when no block held a valid pixel."""
        order = np.lexsort((self._positions[: self.count, 1], self._positions[: self.count, 0]))
        rows, cols = self._positions[order].T.copy()
        return TrainingSet(
            spectra=self._spectra[order], neighbour_means=self._means[order], weights=self.weights, rows=rows, cols=cols
        )


class Seam:
    """Joins blocks that come row by row with the edges of those before, so that each is read once.

    A pixel beside a block that is still to come is left to that one.
    """

    def __init__(self, bands: int, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._above: Floats = np.full((bands, 2, shape[1]), np.nan, np.float32)
        self._left: Floats | None = None

    def joined(self, block: Floats, rows: slice, cols: slice) -> tuple[Floats, int, int, tuple[slice, slice]]:
        """Of a (C, y, x) block of the grid what `TrainingSampler.add` takes: two pixels more above and left of it."""
        height, width = block.shape[1:]
        whole = np.full((len(block), height + 2, width + 2), np.nan, np.float32)
        whole[:, 2:, 2:] = block
        whole[:, :2, 2:] = self._above[:, :, cols]
        if cols.start and self._left is not None:
            whole[:, :, :2] = self._left
        self._left = whole[:, :, -2:].copy()
        self._above[:, :, cols] = whole[:, -2:, 2:]
        core = [
            slice(1 if part.start else 2, size + 2 if part.stop == end else size + 1)
            for part, size, end in zip((rows, cols), (height, width), self._shape, strict=True)
        ]
        return whole, rows.start - 2, cols.start - 2, (core[0], core[1])


def neighbour_means(block: Floats, valid: NDArray[np.bool_], chosen: Ints) -> Floats:
    """(C, n) mean over the valid pixels (y, x) of the 3 × 3 window around each chosen pixel of a (C, y, x) block.

    ``chosen``: places in the flat plane. Where they are many, the sums of all pixels take less time than theirs alone;
    both ways add three in a row first.
    """
    height, width = valid.shape
    framed = np.zeros((height + 2, width + 2), bool)
    framed[1:-1, 1:-1] = valid
    around = [(slice(dy, dy + height), slice(dx, dx + width)) for dy in range(3) for dx in range(3)]
    there = [framed[window].ravel()[chosen] for window in around]
    sums = np.empty((len(block), len(chosen)))
    if len(chosen) > valid.size / SPARSE:
        plane = np.zeros(framed.shape)
        for band, values in enumerate(block):
            np.copyto(plane[1:-1, 1:-1], np.where(valid, values, 0))
            rows = plane[:, :-2] + plane[:, 1:-1]
            rows += plane[:, 2:]
            total = rows[:-2] + rows[1:-1]
            total += rows[2:]
            sums[band] = total.ravel()[chosen]
    else:
        sums[:] = 0.0
        for y in range(3):
            row = np.zeros(sums.shape)
            for x in range(3):
                here = there[3 * y + x]
                row += np.where(here, _pixels(block, np.where(here, chosen + (y - 1) * width + x - 1, 0)), 0)
            sums += row
    means: Floats = (sums / np.sum(there, axis=0)).astype(np.float32)
    return means


def _pixels(block: Floats, chosen: Ints) -> Floats:
    """(C, n) of a (C, y, x) block, band by band: a plane stays in the core's cache, a spectrum is far apart."""
    values: Floats = np.take(block.reshape(len(block), -1), chosen, axis=1)
    return values


def training_set_from_cube(
    hsi: Floats, weights: Floats, msi_noise: Doubles | None = None, *, limit: int = DEFAULT_LIMIT, seed: int = 0
) -> TrainingSet:
    """Sample the training set of a (C, y, x) LR-HSI in memory; NaN = invalid.

    >>> hsi = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    >>> training_set_from_cube(hsi, np.full((1, 3), 1 / 3, np.float32)).simulated[:, 0].tolist()
    [4.0, 5.0, 6.0, 7.0]
    """
    sampler = TrainingSampler(np.asarray(weights, np.float32), limit=limit, seed=seed)
    sampler.add(np.asarray(hsi, np.float32), 0, 0)
    return replace(sampler.finish(), msi_noise=msi_noise)
