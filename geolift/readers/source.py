"""Windows of stored numbers, and how they become physical values, lazily."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import dask.array as da
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geolift.datamodel.cube import Bands, make_cube
from geolift.errors import InputError

BandIndices = Sequence[int] | np.ndarray
CHUNK_BYTES = 32_000_000
SAMPLE_EDGE_PX = 64
SAMPLES_PER_AXIS = 4


@dataclass(frozen=True)
class Layout:
    """Bands, shape (rows, cols), stored type, and the blocks (rows, cols) the file is read in."""

    count: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    block: tuple[int, int]

    def chunks(self, tile: int | None = None) -> tuple[int, int]:
        """Choose Dask chunks of about 32 MB that respect the blocks: squares of tiles, or bands of whole rows."""
        if tile:
            return tile, tile
        (rows, cols), (block_rows, block_cols) = self.shape, self.block
        pixels = max(1, CHUNK_BYTES // (4 * self.count))
        if block_cols >= cols:
            height = max(block_rows, pixels // cols // block_rows * block_rows)
            return min(rows, height), cols
        edge = int(np.sqrt(pixels))
        return (
            min(rows, max(block_rows, edge // block_rows * block_rows)),
            min(cols, max(block_cols, edge // block_cols * block_cols)),
        )

    def chunk_sizes(self, tile: int | None = None) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the sizes of all chunks along rows and columns, as Dask wants them."""
        rows, cols = (
            da.core.normalize_chunks(chunk, shape=(length,))[0]
            for chunk, length in zip(self.chunks(tile), self.shape, strict=True)
        )
        return rows, cols


class Stored(Protocol):
    """A file's numbers as they are stored; several threads may read."""

    @property
    def path(self) -> str:
        """The file, as messages name it."""

    @property
    def layout(self) -> Layout:
        """Its size and blocks."""

    def read(self, rows: slice, cols: slice, bands: BandIndices | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Return a window (band, y, x) of 0-based ``bands``, and where it is valid: None, (y, x) or (band, y, x)."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How stored numbers become physical values: value = DN × scale + offset, per band.

    ``nodata`` and ``invalid`` are compared with the stored number, before scaling; so is ``limit``, beyond whose
    magnitude no number is a measurement. A pixel is also invalid where every band holds ``empty``, or its own number
    of one of ``fills`` (NaN = any).
    """

    scale: tuple[float, ...]
    offset: tuple[float, ...]
    nodata: tuple[float | None, ...]
    invalid: tuple[float, ...] = ()
    empty: float | None = None
    fills: tuple[tuple[float, ...], ...] = ()
    limit: float | None = None

    @classmethod
    def uniform(
        cls,
        count: int,
        scale: float = 1.0,
        offset: float = 0.0,
        nodata: float | None = None,
        *,
        invalid: tuple[float, ...] = (),
        empty: float | None = None,
    ) -> Decoding:
        """Decode all bands alike."""
        return cls(
            scale=(scale,) * count, offset=(offset,) * count, nodata=(nodata,) * count, invalid=invalid, empty=empty
        )

    def take(self, bands: BandIndices) -> Decoding:
        """Return the decoding of 0-based ``bands`` alone; what needs all bands is left out."""
        scale, offset, nodata = (
            tuple(field[band] for band in bands) for field in (self.scale, self.offset, self.nodata)
        )
        return replace(self, scale=scale, offset=offset, nodata=nodata, empty=None, fills=())  # type: ignore[arg-type]

    def apply(self, stored: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
        """Return float32 values of a block (band, y, x), NaN = invalid."""
        hidden = [_filled(stored, fill) for fill in self.fills]
        if self.empty is not None:
            hidden.append(_filled(stored, (self.empty,) * len(stored)))
        out, values = np.empty(stored.shape, np.float32), np.empty(stored.shape[1:])
        # Band by band: a block in float64 would be the largest array of a run.
        for band, (plane, result) in enumerate(zip(stored, out, strict=True)):
            values[...] = plane
            with np.errstate(invalid="ignore", over="ignore"):  # of numbers that stand for no data
                values *= self.scale[band]
                values += self.offset[band]
                result[...] = values
            unusable = list(hidden)
            for number in (*self.invalid, self.nodata[band]):
                if number is not None and not np.isnan(number):
                    # A float32 band keeps its nodata rounded; an integer one may declare what it cannot hold.
                    unusable.append(plane == (np.float32(number) if stored.dtype == np.float32 else number))
                    if stored.dtype == np.float64 and np.float32(number) != number:
                        unusable.append(plane == np.float32(number))
            if not np.issubdtype(stored.dtype, np.integer):
                unusable.append(~np.isfinite(plane) if self.limit is None else ~(np.abs(plane) <= self.limit))
            if valid is not None:
                unusable.append((valid if valid.ndim == 2 else valid[band]) == 0)
            for where in unusable:
                np.copyto(result, np.nan, where=where)
        return out

    @property
    def first_nodata(self) -> float | None:
        """The number that marks what is no data, declared or found, of the first band; None if there is none."""
        found = [n for fill in self.fills for n in fill if not np.isnan(n)]
        numbers = (self.nodata[0], self.empty, *self.invalid[:1], *found[:1])
        return next((number for number in numbers if number is not None), None)


def _filled(stored: np.ndarray, fill: tuple[float, ...]) -> np.ndarray:
    """Tell where (y, x) every band of a block (band, y, x) holds its own number of a fill; NaN = any number."""
    hidden = np.ones(stored.shape[1:], bool)
    for plane, number in zip(stored, fill, strict=True):
        if not np.isnan(number):
            hidden &= plane == number
    return hidden


@dataclass(frozen=True)
class Decoded:
    """Stored numbers with the way to decode them."""

    stored: Stored
    decoding: Decoding

    def read(self, rows: slice, cols: slice, bands: BandIndices | None = None) -> np.ndarray:
        """Return a window of physical values, float32 (band, y, x), NaN = invalid."""
        decoding = self.decoding if bands is None else self.decoding.take(bands)
        return decoding.apply(*self.stored.read(rows, cols, bands))

    def lazy(self, tile: int | None = None) -> da.Array:
        """Return the whole as a Dask array (band, y, x), one task per chunk."""
        layout = self.stored.layout

        def block(block_info: Any = None) -> np.ndarray:
            (_, _), (row, row_end), (col, col_end) = block_info[None]["array-location"]
            return self.read(slice(row, row_end), slice(col, col_end))

        lazy: da.Array = da.map_blocks(
            block,
            chunks=((layout.count,), *layout.chunk_sizes(tile)),
            dtype=np.float32,
            meta=np.empty((0, 0, 0), np.float32),
        )
        return lazy

    def cube(self, grid: GeoBox, bands: Bands, attrs: dict[str, object], tile: int | None = None) -> xr.DataArray:
        """Return the whole as a lazy cube."""
        return make_cube(self.lazy(tile), grid=grid, bands=bands, attrs=attrs)


def sample_windows(shape: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Spread small windows evenly over a raster; the whole raster if it is small."""
    rows, cols = shape
    edge, count = SAMPLE_EDGE_PX, SAMPLES_PER_AXIS
    if rows <= edge * count and cols <= edge * count:
        return [(slice(0, rows), slice(0, cols))]
    row_starts, col_starts = (np.unique(np.linspace(0, max(0, length - edge), count).astype(int)) for length in shape)
    return [
        (slice(int(row), min(rows, int(row) + edge)), slice(int(col), min(cols, int(col) + edge)))
        for row in row_starts
        for col in col_starts
    ]


def bands_with_data(source: Decoded, candidates: np.ndarray, notes: list[str]) -> np.ndarray:
    """Find candidate bands (bool) that are not nodata everywhere: suspected from a sample, confirmed by reading them.

    Raises InputError if no candidate holds a valid pixel.
    """
    layout, path = source.stored.layout, source.stored.path
    if not candidates.any():
        return candidates
    found = ~candidates
    for rows, cols in sample_windows(layout.shape):
        if found.all():
            break
        found |= np.isfinite(source.read(rows, cols)).any(axis=(1, 2))
    found[_that_hold_data(source, np.flatnonzero(~found), layout)] = True
    found &= candidates
    if not found.any():
        raise InputError(f"{path}: every pixel is nodata; nothing to work with")
    if (candidates & ~found).any():
        empty = np.flatnonzero(candidates & ~found) + 1
        notes.append(f"{path}: {empty.size} bands hold no data and count as bad: {ranges(empty)}")
    return found


def _that_hold_data(source: Decoded, suspects: np.ndarray, layout: Layout) -> np.ndarray:
    """Those of some bands that hold a valid pixel; read together, since a file may hold its bands pixel by pixel."""
    left = suspects
    row = 0
    while left.size and row < layout.shape[0]:
        blocks = max(1, CHUNK_BYTES // (4 * layout.shape[1] * left.size) // layout.block[0])
        rows = slice(row, min(row + blocks * layout.block[0], layout.shape[0]))
        holds = np.isfinite(source.read(rows, slice(0, layout.shape[1]), left)).any(axis=(1, 2))
        left, row = left[~holds], rows.stop
    return np.setdiff1d(suspects, left)


def ranges(numbers: np.ndarray) -> str:
    """Write numbers as people do: 1-3, 7.

    >>> ranges(np.array([1, 2, 3, 7]))
    '1–3, 7'
    """
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(f"{run[0]}" if run.size == 1 else f"{run[0]}–{run[-1]}" for run in runs)
