"""What one step of the stored numbers is worth."""

from __future__ import annotations

import numpy as np

from geolift.datamodel.cube import REFLECTANCE
from geolift.datamodel.encoding import LIMITS

REFLECTANCE_SCALE = 1e-4


def choose_scale(dtype: str, quantity: str, sample: np.ndarray) -> float:
    """Choose what one step of the stored numbers is worth: 1e-4 for reflectance that fits, else what fits the sample.

    ``sample``: values like those to be written (the LR-HSI's), NaN = invalid.
    """
    if dtype == "float32":
        return 1.0
    high = LIMITS[dtype][1] - 1
    magnitudes = np.abs(sample)
    finite = np.isfinite(magnitudes)
    magnitudes = magnitudes if finite.all() else magnitudes[finite]
    fits = magnitudes.size == 0 or np.count_nonzero(magnitudes > high * REFLECTANCE_SCALE) <= 1e-3 * magnitudes.size
    if quantity == REFLECTANCE and fits:
        return REFLECTANCE_SCALE
    if magnitudes.size == 0 or magnitudes.max() == 0:
        return 1.0
    # Twice the largest value seen, on a 1-2-5 ladder, so that the scale is a number people can read.
    needed = 2.0 * float(magnitudes.max()) / high
    decade = 10.0 ** np.floor(np.log10(needed))
    return next(float(f"{step * decade:.0e}") for step in (1, 2, 5, 10) if step * decade >= needed * (1 - 1e-9))
