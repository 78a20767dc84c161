"""What guides the correction at fine pixels: the MSI's leading components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geolift.degradation.sampling import FloatArray
from geolift.refinement.footprint import DoubleArray
from geolift.training.noise import quiet_noise

MAX_GUIDES = 4
LEAST_VARIANCE, LEAST_TRUST = 1e-9, 0.6
"""A component of the MSI guides if so much of its variance is signal; its noise is estimated from quiet blocks. A
fourth gains 0.1 dB on the average, six hardly more, and each costs as much time as the own term."""

GUIDE_LIMIT = 6.0
"""Guides are cut at so many standard deviations."""


@dataclass(frozen=True, eq=False)
class Guide:
    """φ(x): the MSI's leading principal components, of variance one.

    Parameters
    ----------
    mean, projection
        (c,) and (M, c).
    trust
        (M,) share of the variance that is not noise: what is seen of φ at a fine pixel is shrunk by it.
    """

    mean: DoubleArray
    projection: DoubleArray
    trust: DoubleArray

    def __call__(self, msi: FloatArray) -> FloatArray:
        """(M, y, x) of a fine MSI (c, y, x), not shrunk; NaN where a band is."""
        centred = msi - self.mean[:, None, None].astype(np.float32)
        values = np.zeros((len(self.projection), *msi.shape[1:]), np.float32)
        for row, weights in zip(values, self.projection.astype(np.float32), strict=True):
            for band, weight in zip(centred, weights, strict=True):  # term by term: no window changes the rounding
                row += weight * band
        return np.clip(values, -GUIDE_LIMIT, GUIDE_LIMIT)


def find_guide(fine: Sequence[FloatArray]) -> Guide:
    """Leading principal components of fine windows (c, y, x)."""
    pixels = np.concatenate([part[:, np.isfinite(part).all(axis=0)] for part in fine], axis=1).astype(np.float64)
    mean = pixels.mean(axis=1)
    variance, vectors = np.linalg.eigh(np.atleast_2d(np.cov(pixels, bias=True)))
    variance, vectors = variance[::-1][:MAX_GUIDES], vectors[:, ::-1][:, :MAX_GUIDES]
    vectors = vectors * np.where(vectors.sum(axis=0) < 0, -1.0, 1.0)
    # Of the components, not of the bands: texture that the bands share is not taken for noise of the weak components.
    images = [np.einsum("ck,cyx->kyx", vectors, part).astype(np.float32) for part in fine]
    noise = np.median([quiet_noise(image) for image in images], axis=0)
    trust = 1.0 - np.square(noise) / np.maximum(variance, 1e-300)
    kept = np.flatnonzero((trust > LEAST_TRUST) & (variance > LEAST_VARIANCE * variance[0]))
    scale = np.sqrt(variance[kept] * trust[kept])
    return Guide(mean, (vectors[:, kept] / scale).T, trust[kept])
