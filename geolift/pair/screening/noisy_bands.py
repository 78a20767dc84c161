"""Bands that hold little but noise, as in the deep absorption of water vapour, and are not flagged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geolift.pair.screening.spectral_residual import spectral_residual

MOST_NOISE, LEAST_NOISE = 0.7, 0.2
"""A band is noise if its noise makes up so much of its scatter, and is so large against its level."""

DARK = 0.05
"""A band darker than that share of the typical one counts as so bright."""

DIRECTIONS = 6
"""Spectral directions of the sound bands from which a noisy one is told: more would tell of its noise."""

SIGNIFICANT = 3.0
"""Standard errors by which a direction must tell of a band to be used."""

FEWEST_BANDS, FEWEST_PX = 16, 200


@dataclass(frozen=True, eq=False)
class NoisyBands:
    """Noisy bands, and what the sound ones tell of them.

    Parameters
    ----------
    noisy
        (B,) True = noisy.
    size
        The largest of their noises, relative to the band.
    weights, offset
        (noisy, sound) and (noisy,): a noisy band is offset + weights times the sound ones.
    """

    noisy: NDArray[np.bool_]
    size: float
    weights: NDArray[np.float64]
    offset: NDArray[np.float64]

    def replaced(self, spectra: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a block (B, y, x) whose noisy bands are what the sound ones tell of them."""
        out = np.array(spectra, np.float32)
        told = np.tensordot(self.weights, spectra[~self.noisy].astype(np.float64), 1)
        out[self.noisy] = told + self.offset[:, None, None]
        return out


def find_noisy_bands(values: NDArray[np.floating]) -> NoisyBands | None:
    """Find the bands of a sample (B, n) of pixels that hold little but noise."""
    if len(values) < FEWEST_BANDS or values.shape[1] < max(FEWEST_PX, 2 * len(values)):
        return None
    spectra = np.asarray(values, np.float64)
    mean = spectra.mean(axis=1)
    level = np.maximum(np.abs(mean), DARK * np.median(np.abs(mean)))
    noise = spectral_residual(spectra).std(axis=1)
    noisy = (noise > MOST_NOISE * spectra.std(axis=1)) & (noise > LEAST_NOISE * level)
    if not noisy.any() or noisy.mean() > 0.5:
        return None
    sound = spectra[~noisy] - mean[~noisy, None]
    _, directions = np.linalg.eigh(sound @ sound.T)
    basis = directions[:, -DIRECTIONS:]
    scores = basis.T @ sound
    coefficients = np.linalg.solve(scores @ scores.T, scores @ (spectra[noisy] - mean[noisy, None]).T).T
    error = noise[noisy, None] / np.sqrt(np.maximum(np.square(scores).sum(axis=1), 1e-30))
    weights = np.where(np.abs(coefficients) > SIGNIFICANT * error, coefficients, 0.0) @ basis.T
    return NoisyBands(noisy, float((noise / level)[noisy].max()), weights, mean[noisy] - weights @ mean[~noisy])
