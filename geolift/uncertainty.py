"""How far the product may be from the truth: a standard error per pixel and band, calibrated on held-out LR pixels.

A second model is trained without some blocks of the scene; its residuals there, on plain and on sharpened pixels,
say how large errors are and how they grow with the distance from what was learned:

    sigma_b(x) = s_b · h(l(x)),   l(x) = sqrt((x − m)ᵀ K⁻¹ (x − m) / c)

with m, K mean and covariance of the training pixels' MSI values x, c their number of bands. Sharpened pixels
y + a (y − local mean) stand for the fine pixels, which are more contrasted than the HSI's; a is chosen so that
their spread is that of the real MSI. s_b and h are medians and quantiles, so that the interval ± sigma holds 68 %.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from geolift.methods.subspace import find_subspace
from geolift.model import SpectralModel
from geolift.training_set import TrainingSet, position_hash

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]

STATED_SHARE = 0.6827
"""What ± one sigma holds of a normal distribution."""

HELD_OUT_SHARE = 0.2
BLOCK_PX = 6
MAX_SHARPENING = 5.0
BINS = 12
MIN_BIN_PX = 40
MIN_HELD_OUT_PX = 8


@dataclass(frozen=True, eq=False)
class ErrorModel:
    """The standard error of a product as a function of the harmonised MSI pixel.

    Parameters
    ----------
    centre, whitening
        (c,), (c, c): the distance l(x) is the RMS of whitening @ (x − centre).
    knots, growth
        Distances and the factor h there; constant beyond the ends.
    band_sigma
        (C,) s_b, in the product's unit.
    sharpening
        The a that makes LR pixels as contrasted as the MSI's.
    held_out
        LR pixels it was calibrated on.
    """

    centre: DoubleArray
    whitening: DoubleArray
    knots: DoubleArray
    growth: DoubleArray
    band_sigma: DoubleArray
    sharpening: float
    held_out: int

    def distance(self, msi: FloatArray) -> DoubleArray:
        """Return l (…) of MSI values (c, …), summed band by band so that no pixel depends on its neighbours."""
        shape = (-1,) + (1,) * (msi.ndim - 1)
        offset = msi.astype(np.float64) - self.centre.reshape(shape)
        total = np.zeros(msi.shape[1:])
        for row in self.whitening:
            part = np.zeros(msi.shape[1:])
            for weight, values in zip(row, offset, strict=True):
                part += weight * values
            total += part * part
        return np.asarray(np.sqrt(total / len(self.centre)))

    def sigma(self, msi: FloatArray) -> FloatArray:
        """Return the standard error (C, …) at harmonised MSI values (c, …); NaN where the MSI is invalid."""
        factor = np.interp(self.distance(msi), self.knots, self.growth)
        shape = (-1,) + (1,) * (msi.ndim - 1)
        return np.asarray(self.band_sigma.reshape(shape) * factor, dtype=np.float32)


def held_out_blocks(training: TrainingSet, seed: int) -> NDArray[np.bool_]:
    """Choose about a fifth of the scene, in blocks, so that held-out pixels have no trained neighbours' twins."""
    hashes = position_hash(training.rows // BLOCK_PX, training.cols // BLOCK_PX, seed + 1)
    return np.asarray(hashes < np.uint64(HELD_OUT_SHARE * 2**64))


def fit_errors(
    training: TrainingSet,
    refit: Callable[[TrainingSet], SpectralModel],
    msi_spread: DoubleArray | None,
    msi_noise: DoubleArray | None = None,
    seed: int = 0,
) -> ErrorModel | None:
    """Calibrate the error model; None if there are too few pixels to hold any out.

    Parameters
    ----------
    refit
        Trains the same method on another training set.
    msi_spread
        (c,) standard deviation of the harmonised MSI where it overlaps the HSI; None = no sharpening.
    msi_noise
        (c,) standard deviation of the harmonised MSI's noise, which the inversion amplifies; None = none.
    """
    out = held_out_blocks(training, seed)
    if out.sum() < MIN_HELD_OUT_PX or (~out).sum() < MIN_HELD_OUT_PX:
        return None
    model, held = refit(training.subset(~out)), training.subset(out)
    sharpening = 0.0 if msi_spread is None else matching_sharpening(training, msi_spread)
    distances, residuals = [], []
    centre, whitening = _whitening(training.simulated)
    probe = ErrorModel(centre, whitening, np.zeros(1), np.ones(1), np.ones(1), sharpening, int(out.sum()))
    # The same estimate of the HSI's noise that the default method whitens with.
    noise = find_subspace(torch.from_numpy(training.spectra.astype(np.float64))).noise.numpy()
    rng = np.random.default_rng(seed)
    for amount in sorted({0.0, sharpening / 2, sharpening}):
        spectra = held.spectra + np.float32(amount) * (held.spectra - held.neighbour_means)
        simulated = training.simulate(spectra)
        seen = simulated if msi_noise is None else simulated + (msi_noise * rng.standard_normal(simulated.shape))
        residual = model.predict(seen.astype(np.float32)).astype(np.float64) - spectra
        # The HSI's noise, amplified by sharpening, is in these residuals but no error of the product: leave the rest.
        power = np.square(residual).mean(axis=0)
        extra = noise_gain(amount) * np.square(noise)
        residuals.append(np.abs(residual) * np.sqrt(np.maximum(power - extra, 0.1 * power) / np.maximum(power, 1e-30)))
        distances.append(probe.distance(np.ascontiguousarray(simulated.T)))
    distance, residual = np.concatenate(distances), np.concatenate(residuals)
    band_sigma = np.maximum(np.quantile(residual, STATED_SHARE, axis=0), 1e-12)
    knots, growth = _growth(distance, residual / band_sigma)
    return ErrorModel(centre, whitening, knots, growth, band_sigma, sharpening, int(out.sum()))


def matching_sharpening(training: TrainingSet, msi_spread: DoubleArray) -> float:
    """Return the a in 0 … 5 that gives sharpened LR pixels the spread of the fine MSI, median over the bands.

    Var(x + a d) = Var(x) + 2 a Cov(x, d) + a² Var(d), with d the pixel minus its neighbourhood's mean.
    """
    x = training.simulated.astype(np.float64)
    d = x - training.simulate(training.neighbour_means)
    amounts = np.linspace(0.0, MAX_SHARPENING, 101)
    wanted = []
    for band in range(x.shape[1]):
        covariance = np.cov(x[:, band], d[:, band])
        spread = covariance[0, 0] + 2 * amounts * covariance[0, 1] + amounts**2 * covariance[1, 1]
        wanted.append(amounts[int(np.argmin(np.abs(spread - msi_spread[band] ** 2)))])
    return float(np.median(wanted))


def noise_gain(amount: float) -> float:
    """Return by how much y + a (y − mean of 3 × 3) multiplies the variance of white noise.

    >>> noise_gain(0.0)
    1.0
    """
    return (1.0 + amount * 8.0 / 9.0) ** 2 + 8.0 * (amount / 9.0) ** 2


def _whitening(simulated: FloatArray) -> tuple[DoubleArray, DoubleArray]:
    values = simulated.astype(np.float64)
    centre = values.mean(axis=0)
    covariance = np.atleast_2d(np.cov(values.T))
    eigenvalues, vectors = np.linalg.eigh(covariance)
    # Directions without variance would make any pixel infinitely far.
    floor = max(1e-4 * float(eigenvalues[-1]), 1e-20)
    return centre, (vectors / np.sqrt(np.maximum(eigenvalues, floor))).T


def _growth(distance: DoubleArray, relative: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """Return how the 68 % quantile of relative residuals grows with distance: bins of equal count, rising."""
    order = np.argsort(distance, kind="stable")
    bins = int(np.clip(len(order) // MIN_BIN_PX, 1, BINS))
    parts = np.array_split(order, bins)
    knots = np.array([np.median(distance[part]) for part in parts])
    growth = np.array([np.quantile(relative[part], STATED_SHARE) for part in parts])
    return knots, np.maximum.accumulate(growth)
