"""What tests of learning share: boxes as spectral responses, and whether two models are one."""

from __future__ import annotations

import numpy as np

from geolift.network.model import SpectralModel


def box_weights(bands: int, count: int = 4) -> np.ndarray:
    """(c, C) SRF of equal boxes side by side."""
    weights = np.zeros((count, bands), np.float32)
    for index, members in enumerate(np.array_split(np.arange(bands), count)):
        weights[index, members] = 1 / len(members)
    return weights


def same(one: SpectralModel, other: SpectralModel) -> bool:
    """Tell whether two models are the same to the last bit."""
    a, b = one.to_tensors(), other.to_tensors()
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)
