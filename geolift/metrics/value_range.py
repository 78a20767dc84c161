"""The values that two images hold, found by streaming: usable bands, range, percentiles, stretch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geolift.errors import InputError

Cube = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

_HALF = 1 << 16


@dataclass(frozen=True)
class Stretch:
    """The affine map that brings [low, high] to [0, 1] and clips what lies outside.

    Attributes
    ----------
    low, high
        In the data's unit; high > low.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.high > self.low):
            raise InputError(
                f"The values to stretch lie between {self.low} and {self.high}; their 1 and 99 percentiles "
                "must differ. A constant image cannot be stretched."
            )

    def apply(self, values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return stretched float32 values in [0, 1]; NaN stays NaN.

        The arithmetic is HyperBench's (float32), but clipped last, so that what saturates is exactly 0 or 1.
        """
        span = np.float32(self.high - self.low)
        stretched = (np.asarray(values, dtype=np.float32) - np.float32(self.low)) / span
        return np.asarray(np.clip(stretched, np.float32(0), np.float32(1)))


def _sortable_bits(values: NDArray[np.floating[Any]]) -> NDArray[np.uint32]:
    """Return unsigned integers that sort as the finite float32 values do."""
    flat = np.asarray(values, dtype=np.float32).ravel()
    bits = flat[np.isfinite(flat)].view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def _float_of(bits: int) -> float:
    raw = bits & 0x7FFFFFFF if bits >> 31 else bits ^ 0xFFFFFFFF
    return float(np.array(raw, dtype=np.uint32).view(np.float32))


class ExactPercentile:
    """Percentiles of float32 values streamed twice, equal to `numpy.percentile` of all of them at once.

    A radix selection: the first pass counts the upper 16 bits of each value, the second the lower 16 bits
    of those few classes that hold the wanted ranks. It needs 65 536 counters a class, whatever the number of
    values, and tiles may come in any order.

    Parameters
    ----------
    percents
        Wanted percentiles, 0 to 100, interpolated linearly as NumPy does by default.

    Examples
    --------
    >>> values = np.arange(101, dtype=np.float32)
    >>> percentile = ExactPercentile([1, 99])
    >>> percentile.count(values)
    >>> percentile.refine(values)
    >>> percentile.result()
    (1.0, 99.0)
    """

    def __init__(self, percents: Sequence[float]) -> None:
        if not all(0 <= percent <= 100 for percent in percents):
            raise ValueError(f"percentiles lie between 0 and 100, not {list(percents)}")
        self._percents = tuple(percents)
        self._upper = np.zeros(_HALF, dtype=np.int64)
        self._lower: dict[int, NDArray[np.int64]] | None = None

    @property
    def n_values(self) -> int:
        """Number of finite values counted in the first pass."""
        return int(self._upper.sum())

    def count(self, values: NDArray[np.floating[Any]]) -> None:
        """First pass: take in values of any shape, taken as float32; NaN and infinities are left out."""
        if self._lower is not None:
            raise RuntimeError("the second pass has begun; no more values can be counted")
        self._upper += np.bincount(_sortable_bits(values) >> np.uint32(16), minlength=_HALF)

    def refine(self, values: NDArray[np.floating[Any]]) -> None:
        """Second pass: take in the same values again."""
        lower = self._classes()
        bits = _sortable_bits(values)
        upper = bits >> np.uint32(16)
        for key, counts in lower.items():
            counts += np.bincount(bits[upper == key] & np.uint32(_HALF - 1), minlength=_HALF)

    def _ranks(self) -> list[tuple[int, int, float]]:
        """Return for each percentile the ranks below and above it, and the position between them."""
        last = self.n_values - 1
        if last < 0:
            raise ValueError("no finite value was counted, so there is no percentile")
        positions = [percent / 100 * last for percent in self._percents]
        return [(int(p), min(int(p) + 1, last), p - int(p)) for p in positions]

    def _classes(self) -> dict[int, NDArray[np.int64]]:
        if self._lower is None:
            ends = np.cumsum(self._upper)
            ranks = {rank for low, high, _ in self._ranks() for rank in (low, high)}
            keys = sorted({int(np.searchsorted(ends, rank, side="right")) for rank in ranks})
            self._lower = {key: np.zeros(_HALF, dtype=np.int64) for key in keys}
        return self._lower

    def _value_of(self, rank: int) -> float:
        ends = np.cumsum(self._upper)
        key = int(np.searchsorted(ends, rank, side="right"))
        counts = self._classes()[key]
        if counts.sum() != self._upper[key]:
            raise RuntimeError("the second pass has not seen the values of the first")
        within = rank - int(ends[key] - self._upper[key])
        return _float_of(key << 16 | int(np.searchsorted(np.cumsum(counts), within, side="right")))

    def result(self) -> tuple[float, ...]:
        """Return the percentiles in the order asked for.

        Raises ValueError if there was no finite value; RuntimeError if the second pass has not seen all values of the
        first.
        """
        between = []
        for low, high, share in self._ranks():
            below, above = self._value_of(low), self._value_of(high)
            between.append(below + (above - below) * share)
        return tuple(between)


def refuse_unequal(product: Cube, reference: Cube, n_bands: int) -> None:
    """Raise InputError unless both tiles are of shape (n_bands, rows, cols)."""
    if product.shape != reference.shape or product.ndim != 3 or len(product) != n_bands:
        raise InputError(
            f"The product's tile has shape {product.shape} and the reference's {reference.shape}; "
            f"both must be ({n_bands}, rows, cols) on one grid."
        )


class Survey:
    """The first look at product and reference: which bands can be used, and the reference's range in them.

    Counts values valid in both images; a band without any cannot be used. Feed it tiles without halo, once.

    Parameters
    ----------
    n_bands
        Bands of both images.
    bands
        Bands that may be used, shape (band,); all by default.
    """

    def __init__(self, n_bands: int, bands: Mask | None = None) -> None:
        self._candidates = np.ones(n_bands, dtype=np.bool_) if bands is None else np.asarray(bands, dtype=np.bool_)
        self.n_valid = np.zeros(n_bands, dtype=np.int64)
        self.n_pixels = 0
        self.reference_min = np.inf
        self.reference_max = -np.inf

    def update(self, product: Cube, reference: Cube) -> None:
        """Take in a tile, shape (band, y, x)."""
        refuse_unequal(product, reference, len(self.n_valid))
        self.n_pixels += product.shape[1] * product.shape[2]
        for band in np.flatnonzero(self._candidates):
            valid = np.isfinite(product[band]) & np.isfinite(reference[band])
            values = reference[band][valid]
            self.n_valid[band] += values.size
            self.reference_min = float(values.min(initial=self.reference_min))
            self.reference_max = float(values.max(initial=self.reference_max))

    @property
    def bands(self) -> Mask:
        """Bands with at least one value valid in both images, of those that may be used, shape (band,)."""
        return self.n_valid > 0
