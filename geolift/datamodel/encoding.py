"""From physical values to stored numbers: scale, rounding, clipping, nodata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from geolift.settings import WritingSettings

VALUES_AT_ONCE = 2**20
LIMITS = {"int16": (-32768, 32767), "uint16": (0, 65535)}


@dataclass(frozen=True)
class Counts:
    """What was met while encoding: valid values, those among them that were clipped, pixels with any valid band."""

    n_values: int = 0
    n_clipped: int = 0
    n_valid_pixels: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.n_values + other.n_values, self.n_clipped + other.n_clipped, self.n_valid_pixels + other.n_valid_pixels
        )


@dataclass(frozen=True)
class Encoding:
    """How values become stored numbers: DN = round(value / scale); invalid = ``nodata``."""

    dtype: str
    scale: float
    nodata: float

    @classmethod
    def of(cls, settings: WritingSettings, scale: float) -> Encoding:
        """Combine the user's dtype and nodata with a scale; float32 stores the value itself."""
        return cls(settings.dtype, 1.0 if settings.dtype == "float32" else scale, settings.nodata_value)

    @property
    def itemsize(self) -> int:
        """Bytes of one stored number."""
        return int(np.dtype(self.dtype).itemsize)

    def apply(self, values: np.ndarray) -> tuple[np.ndarray, int, int]:
        """Encode values of any shape; return stored numbers, the count of clipped values and of valid values.

        A valid value that would equal nodata moves to its neighbour.
        """
        stored, counts = self.encode_block(values.reshape(1, 1, -1))
        return stored.reshape(values.shape), counts.n_clipped, counts.n_values

    @property
    def steps_per_unit(self) -> float:
        """What values are multiplied by before they are rounded: 1 / scale in float32."""
        return float(np.float32(1.0 / self.scale))

    def fits(self, lowest: float, highest: float) -> bool:
        """Tell whether rounded steps between these need neither clipping nor care for nodata; False for NaN."""
        if self.dtype == "float32":
            return False
        low, high = self._range()
        return lowest >= low and highest <= high and not lowest <= self.nodata <= highest

    @staticmethod
    def counts_of(bands: int, valid: np.ndarray) -> Counts:
        """Counts of so many bands that fit, at valid pixels."""
        pixels = int(np.count_nonzero(valid))
        return Counts(bands * pixels, 0, pixels)

    def encode_block(self, values: np.ndarray) -> tuple[np.ndarray, Counts]:
        """Encode a block (band, y, x), some bands at once: few enough to stay near the core, enough that many threads
        do not wait for each other's turn at the interpreter."""
        stored = np.empty(values.shape, self.dtype)
        seen = np.zeros(values.shape[1:], bool)
        some = max(1, VALUES_AT_ONCE // max(1, seen.size))
        work = np.empty((min(some, len(values)), *values.shape[1:]), np.float32)
        n_values = n_clipped = 0
        with np.errstate(over="ignore", invalid="ignore"):
            for first in range(0, len(values), some):
                bands, out = values[first : first + some], stored[first : first + some]
                if self._all_fit(bands, out, work[: len(bands)]):
                    n_values += bands.size
                    seen[:] = True
                    continue
                valid, clipped = self._with_care(bands, out, work[: len(bands)])
                n_values += int(np.count_nonzero(valid))
                n_clipped += clipped
                seen |= valid.any(axis=0)
        return stored, Counts(n_values, n_clipped, int(np.count_nonzero(seen)))

    def _all_fit(self, values: np.ndarray, out: np.ndarray, work: np.ndarray) -> bool:
        """Encode valid values that need neither clipping nor care for nodata; False = something else is among them."""
        if self.dtype == "float32":
            return False
        np.multiply(values, np.float32(self.steps_per_unit), out=work)
        np.rint(work, out=work)
        if not self.fits(work.min(initial=np.inf), work.max(initial=-np.inf)):  # NaN if any is
            return False
        np.copyto(out, work, casting="unsafe")
        return True

    def _with_care(self, values: np.ndarray, out: np.ndarray, work: np.ndarray) -> tuple[np.ndarray, int]:
        """Encode any values; return which are valid and how many were clipped."""
        return (self._floats if self.dtype == "float32" else self._integers)(values, out, work)

    def _range(self) -> tuple[int, int]:
        low, high = LIMITS[self.dtype]
        return low + (self.nodata == low), high - (self.nodata == high)

    def _integers(self, values: np.ndarray, out: np.ndarray, work: np.ndarray) -> tuple[np.ndarray, int]:
        low, high = self._range()
        valid = np.isfinite(values)
        if not valid.any():
            out.fill(self.nodata)
            return valid, 0
        np.multiply(values, np.float32(self.steps_per_unit), out=work)
        np.rint(work, out=work)
        work[~valid] = 0
        clipped = int(np.count_nonzero((work < low) | (work > high)))
        np.clip(work, low, high, out=work)
        hit = valid & (work == self.nodata)
        work[hit] += np.where(values[hit] / self.scale >= self.nodata, 1, -1)
        work[~valid] = self.nodata
        np.copyto(out, work, casting="unsafe")
        return valid, clipped

    def _floats(self, values: np.ndarray, out: np.ndarray, work: np.ndarray) -> tuple[np.ndarray, int]:
        valid = np.isfinite(values)
        np.copyto(out, values)
        out[~valid] = self.nodata
        hit = valid & (out == np.float32(self.nodata))
        out[hit] = np.nextafter(out[hit], np.float32(np.inf))
        return valid, 0
