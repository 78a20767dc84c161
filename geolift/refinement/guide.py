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

LEAST_AMPLITUDE, MOST_AMPLITUDE = 0.02, 4.0


@dataclass(frozen=True, eq=False)
class Guide:
    """What the correction of a pixel depends on: its brightness, and φ(x), the MSI's leading principal components.

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
        """(1 + M, y, x) amplitude and φ of a fine MSI (c, y, x), φ not shrunk; NaN where a band is."""
        centred = msi - self.mean[:, None, None].astype(np.float32)
        values = np.zeros((1 + len(self.projection), *msi.shape[1:]), np.float32)
        for row, weights in zip(values[1:], self.projection.astype(np.float32), strict=True):
            for band, weight in zip(centred, weights, strict=True):  # term by term: no window changes the rounding
                row += weight * band
        np.clip(values[1:], -GUIDE_LIMIT, GUIDE_LIMIT, out=values[1:])
        values[0] = self.amplitude(msi)
        return values

    def amplitude(self, msi: FloatArray) -> FloatArray:
        """(y, x) root of the brightness relative to the scene's: what a bright pixel lacks is not lent to a dark one.

        Reflectance errors grow with reflectance. With an amplitude that is the same everywhere, dark pixels beside
        bright ones paid with their angles.
        """
        lit = [(band, np.float32(mean)) for band, mean in zip(msi, self.mean, strict=True) if mean > 0]
        if not lit:
            return np.where(np.isfinite(msi[0]), np.float32(1), np.float32(np.nan))
        total = np.zeros(msi.shape[1:], np.float32)
        for band, mean in lit:
            total += band / mean
        root = np.sqrt(np.maximum(total / np.float32(len(lit)), np.float32(0)))
        return np.asarray(np.clip(root, LEAST_AMPLITUDE, MOST_AMPLITUDE), np.float32)


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
