"""Smile: centre wavelengths of an HSI that differ across its track, told by the MSI.

Where column x sees at λ + δ(x) what the file calls λ, the HSI's values miss those of the MSI by δ(x) ∂Y/∂λ, seen
through the MSI's responses S: v = S Y − M ≈ δ(x) (S ∂Y/∂λ). δ is a parabola across the track, one for all bands. What a
gain and an offset per band, parabolas across the track too, explain (view angle, haze, stray light) is no smile.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geolift.pair.robust import mad_sigma

DoubleArray = NDArray[np.float64]

FEWEST_COLUMNS, FEWEST_BANDS, STRIPS = 12, 4, 8
"""Columns and MSI bands needed, and parts along the track that are left out in turn for the error."""

LEAST_NM, SIGMAS = 0.5, 5.0
"""A smile is told from this curvature, and so many of its errors, on."""

OUTLIER_SIGMA, ROUNDS = 4.0, 4


@dataclass(frozen=True)
class Smile:
    """By how many nm the centres of the outermost columns lie above the middle one's, a tilt apart, and its error."""

    curvature_nm: float
    sigma_nm: float


def derivative_weights(weights: NDArray[np.floating], wavelength_nm: DoubleArray) -> DoubleArray:
    """Weights (c, C) that give S ∂Y/∂λ, per nm, of spectra with bands (C,) in any order."""
    order = np.argsort(wavelength_nm, kind="stable")
    slopes = np.zeros((len(order), len(order)))
    slopes[np.ix_(order, order)] = np.gradient(np.eye(len(order)), wavelength_nm[order], axis=0)
    return np.asarray(weights.astype(np.float64) @ slopes)


def find_smile(
    simulated: NDArray[np.floating], seen: NDArray[np.floating], slopes: NDArray[np.floating]
) -> Smile | None:
    """Tell a smile; None where there is none, or where the pair cannot tell.

    ``simulated``, ``seen``: (c, h, w) S Y and the harmonised MSI as the HSI's pixels see it, NaN = invalid. ``slopes``:
    (c, h, w) S ∂Y/∂λ, per nm.
    """
    bands, height, width = simulated.shape
    valid = np.isfinite(simulated + seen + slopes).all(axis=0)
    strip = (np.arange(height)[:, None] * STRIPS // height + np.zeros((1, width), int))[valid]
    if width < FEWEST_COLUMNS or bands < FEWEST_BANDS or len(np.unique(strip)) < STRIPS:
        return None
    x = (np.linspace(-1.0, 1.0, width) + np.zeros((height, 1)))[valid]
    across = np.stack([np.ones_like(x), x, np.square(x)])
    power, told = np.zeros((bands, STRIPS, 3, 3)), np.zeros((bands, STRIPS, 3))
    for band in range(bands):
        known, misfit = seen[band][valid].astype(np.float64), (simulated - seen)[band][valid].astype(np.float64)
        nuisance = np.concatenate([across, across * known])
        wanted = across * slopes[band][valid]
        weight = np.ones_like(x)
        for _ in range(ROUNDS):
            left = misfit - _fitted(np.concatenate([nuisance, wanted]), misfit, weight)
            sigma = max(float(mad_sigma(left, axis=0)), 1e-12)
            weight = np.square(np.clip(1 - np.square(left / (OUTLIER_SIGMA * sigma)), 0, None))
        left, wanted = (image - _fitted(nuisance, image, weight) for image in (misfit, wanted))
        for part in range(STRIPS):
            here = strip == part
            scaled = wanted[:, here] * weight[here] / sigma**2
            power[band, part], told[band, part] = scaled @ wanted[:, here].T, scaled @ left[here]
    whole = _curvature(power.sum((0, 1)), told.sum((0, 1)))
    variance = 0.0
    for axis, count in ((0, bands), (1, STRIPS)):
        without = [
            _curvature(power.sum((0, 1)) - power.take(i, axis).sum(0), told.sum((0, 1)) - told.take(i, axis).sum(0))
            for i in range(count)
        ]
        variance += (count - 1) / count * float(np.square(np.array(without) - whole).sum())
    found = Smile(whole, variance**0.5)
    return found if abs(whole) >= max(LEAST_NM, SIGMAS * found.sigma_nm) else None


def _fitted(table: DoubleArray, values: DoubleArray, weight: DoubleArray) -> DoubleArray:
    """What a weighted regression on a table (k, n) says of values (…, n)."""
    scaled = table * weight
    gram = scaled @ table.T
    gram += 1e-9 * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.asarray((np.linalg.solve(gram, scaled @ values.T).T) @ table)


def _curvature(power: DoubleArray, told: DoubleArray) -> float:
    power = power + 1e-9 * np.trace(power) / 3 * np.eye(3)
    return float(np.linalg.solve(power, told)[2])
