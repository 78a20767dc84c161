"""How well two images of one place agree, summed window by window: what a product says of its own inputs.

Two laws bind a product to its inputs. Seen through the MSI's spectral response it should be the (harmonised) MSI;
averaged over the HSI's pixels it should be the HSI. Neither proves the fine detail of the spectra, but a product
that breaks one of them is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Agreement:
    """Sums over pixels from which errors follow; the agreement of two windows is their sum.

    Parameters
    ----------
    n_pixels
        Pixels valid in every band of both.
    squared_error, difference, expected
        (band,) sums over these pixels: of (found − expected)², of found − expected, of expected.
    angle_sum_rad, n_angles
        Sum of the spectral angles, and how many pixels have one: a zero spectrum has none.
    """

    n_pixels: int
    squared_error: DoubleArray
    difference: DoubleArray
    expected: DoubleArray
    angle_sum_rad: float
    n_angles: int

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            n_pixels=self.n_pixels + other.n_pixels,
            squared_error=self.squared_error + other.squared_error,
            difference=self.difference + other.difference,
            expected=self.expected + other.expected,
            angle_sum_rad=self.angle_sum_rad + other.angle_sum_rad,
            n_angles=self.n_angles + other.n_angles,
        )

    @property
    def rmse_per_band(self) -> DoubleArray:
        """(band,), in the unit of the values; NaN without a pixel."""
        return np.asarray(np.sqrt(self._mean(self.squared_error)))

    @property
    def bias_per_band(self) -> DoubleArray:
        """(band,): mean of found − expected."""
        return self._mean(self.difference)

    @property
    def mean_per_band(self) -> DoubleArray:
        """(band,): mean of what was expected."""
        return self._mean(self.expected)

    @property
    def rmse(self) -> float:
        """Over all bands and pixels."""
        return float(np.sqrt(self._mean(self.squared_error).mean()))

    @property
    def sam_deg(self) -> float:
        """Mean spectral angle in degrees; NaN if no pixel has one."""
        return float(np.degrees(self.angle_sum_rad / self.n_angles)) if self.n_angles else float("nan")

    def _mean(self, total: DoubleArray) -> DoubleArray:
        return total / self.n_pixels if self.n_pixels else np.full_like(total, np.nan)


def agreement(found: FloatArray, expected: FloatArray) -> Agreement:
    """Compare two images of one grid over the pixels that are valid in every band of both.

    Raises ValueError if the shapes differ.

    ``found``, ``expected``: (band, ...) of one shape, NaN = invalid.

    Examples
    --------
    >>> both = agreement(np.float32([[1, 2], [1, np.nan]]), np.float32([[1, 2], [4, 4]]))
    >>> both.n_pixels, both.rmse_per_band.tolist(), round(both.sam_deg, 2)
    (1, [0.0, 3.0], 30.96)
    """
    if found.shape != expected.shape:
        raise ValueError(f"found has shape {found.shape}, expected {expected.shape}")
    first, second = (values.reshape(len(values), -1) for values in (found, expected))
    valid = np.isfinite(first).all(axis=0) & np.isfinite(second).all(axis=0)
    a, b = first[:, valid].astype(np.float64), second[:, valid].astype(np.float64)
    angles = _angles_rad(a, b)
    return Agreement(
        n_pixels=int(valid.sum()),
        squared_error=np.square(a - b).sum(axis=1),
        difference=(a - b).sum(axis=1),
        expected=b.sum(axis=1),
        angle_sum_rad=float(angles.sum()),
        n_angles=angles.size,
    )


def _angles_rad(a: DoubleArray, b: DoubleArray) -> DoubleArray:
    """Return the angle of each pair of spectra (band, n); pairs with a zero spectrum are left out."""
    lengths = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    known = lengths > 0
    cosine = (a[:, known] * b[:, known]).sum(axis=0) / lengths[known]
    return np.asarray(np.arccos(np.clip(cosine, -1.0, 1.0)))
