"""Whether a trained model amplifies what the two sensors disagree about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

MOST_PIXELS = 4096
MOST_AMPLIFIED, LEAST_TOLD = 2.5, 0.03
"""Twenty clean pairs of real images have 0.8 to 1.25, with `auto` and `linear`; less movement is not worth a word."""


@dataclass(frozen=True)
class NoiseAmplification:
    """Root mean square of a difference over that of the values, of the MSI and of the product made of it.

    Parameters
    ----------
    seen
        By how much the real MSI differs from the simulated one, on the HSI's pixels.
    product
        By how much the products of the two differ.
    """

    seen: float
    product: float

    @property
    def excessive(self) -> bool:
        """Whether the model takes what is no information, such as noise, for some."""
        return self.product > max(LEAST_TOLD, MOST_AMPLIFIED * self.seen)


def measure_noise_amplification(
    predict: Callable[[Floats], Floats], simulated: Floats, degraded: Floats
) -> NoiseAmplification | None:
    """Ask a model about both images of the same ground; None without a pixel that is valid in both.

    ``predict``: from (n, c) MSI values to (n, C) spectra. ``simulated``, ``degraded``: (c, h, w) MSI simulated from the
    HSI, and the real one, harmonised, on the same pixels; NaN = invalid.

    Examples
    --------
    A difference of nearly equal bands multiplies what they do not have in common:

    >>> simulated = np.linspace(0.2, 0.4, 500, dtype=np.float32).reshape(1, 20, 25).repeat(2, axis=0)
    >>> degraded = simulated * np.array([1.01, 0.99], np.float32)[:, None, None]
    >>> found = measure_noise_amplification(lambda x: 6 * x[:, :1] - 5 * x[:, 1:], simulated, degraded)
    >>> round(found.seen, 3), round(found.product, 3), found.excessive
    (0.01, 0.11, True)
    """
    places = np.flatnonzero(np.isfinite(simulated).all(axis=0) & np.isfinite(degraded).all(axis=0))
    if not places.size:
        return None
    places = places[:: -(-places.size // MOST_PIXELS)]
    asked = [np.ascontiguousarray(image.reshape(len(image), -1)[:, places].T) for image in (simulated, degraded)]
    return NoiseAmplification(_difference(*asked), _difference(*(predict(values) for values in asked)))


def _difference(one: Floats, other: Floats) -> float:
    level = np.square(one.astype(np.float64)).mean()
    return float(np.sqrt(np.square(one.astype(np.float64) - other).mean() / max(level, 1e-30)))
