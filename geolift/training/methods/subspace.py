"""The few spectral components that stand above the noise, and the noise itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geolift.runtime.blas import one_blas_thread
from geolift.training.training_set import PIECE_PIXELS, TrainingSet

DoubleArray = NDArray[np.float64]

NEIGHBOURS = 4
MAX_COMPONENTS = 40
SPARE_COMPONENTS = 3
"""Of 0, 3, 6, 12 and 24 the fewest that bring most of 0.2 dB with 144 pixels of 200 bands; with 600 pixels: 0.04 dB."""
_NOISE_FLOOR = 1e-4  # of the scene's contrast: noise-free synthetic data must not divide by zero


@dataclass(frozen=True, eq=False)
class Subspace:
    """A noise-whitened principal subspace: y ≈ mean + decode · t, t = encodeᵀ · (y − mean).

    In t the noise of the data has variance one in every component.

    Parameters
    ----------
    mean
        (C,) float64.
    decode, encode
        (C, K) float64.
    variance
        (K,) variance of t over the pixels, falling.
    noise
        (C,) standard deviation of the noise of each band.
    """

    mean: DoubleArray
    decode: DoubleArray
    encode: DoubleArray
    variance: DoubleArray
    noise: DoubleArray

    def projected(self, spectra: NDArray[np.floating]) -> DoubleArray:
        """(n, C) spectra without what lies outside the subspace, which is nearly all of their noise."""
        return np.asarray(self.mean + ((spectra - self.mean) @ self.encode) @ self.decode.T, np.float64)

    @property
    def projected_noise(self) -> DoubleArray:
        """(C,) standard deviation of the noise that is left in projected spectra."""
        return np.asarray(np.sqrt(np.square(self.decode).sum(axis=1)), np.float64)


def find_subspace(spectra: NDArray[np.floating], *, spare: bool = False) -> Subspace:
    """Principal components of (n, C) spectra whose variance pure noise could not reach; sums are float64.

    The largest eigenvalue of the covariance of white noise tends to (1 + sqrt(C / n))². With few pixels for so many
    bands that edge is high and the noise little known: a few components below it still hold more signal than noise, and
    are kept if ``spare``.

    References
    ----------
    V. A. Marchenko, L. A. Pastur, Math. USSR-Sb. 1 (1967) 457, doi:10.1070/SM1967v001n04ABEH001994.
    """
    with one_blas_thread():
        return _subspace(spectra, spare)


def subspace_of(training: TrainingSet, *, spare: bool = False) -> Subspace:
    """`find_subspace` of the spectra of a training set, which keeps it: four steps of a run ask for it."""
    kept: dict[bool, Subspace] = training.__dict__.setdefault("_subspaces", {})
    more = spare and not _many(*training.spectra.shape)
    if more not in kept:
        kept[more] = find_subspace(training.spectra, spare=more)
    return kept[more]


def _subspace(spectra: NDArray[np.floating], spare: bool) -> Subspace:
    n, bands = spectra.shape
    parts = [slice(start, start + PIECE_PIXELS) for start in range(0, n, PIECE_PIXELS)]
    mean = np.sum([spectra[part].sum(axis=0, dtype=np.float64) for part in parts], axis=0) / n
    covariance = np.zeros((bands, bands))
    for part in parts:
        centred = spectra[part] - mean
        covariance += centred.T @ centred
    covariance /= n
    level = float(np.square(mean).mean())
    noise = band_noise(covariance, n, least=1e-12 * level)
    variance, vectors = np.linalg.eigh(covariance / np.outer(noise, noise))
    variance, vectors = variance[::-1], vectors[:, ::-1]
    edge = (1 + (bands / n) ** 0.5) ** 2
    beyond = SPARE_COMPONENTS if spare and not _many(n, bands) else 0
    count = min(max(int((variance > edge).sum()), 1) + beyond, MAX_COMPONENTS, bands)
    vectors = vectors[:, :count]
    # The sign of an eigenvector is arbitrary: fix it, so that it cannot differ between library versions.
    vectors = vectors * np.where(vectors.sum(axis=0) < 0, -1.0, 1.0)
    return Subspace(mean, vectors * noise[:, None], vectors / noise[:, None], variance[:count], noise)


def project(training: TrainingSet, subspace: Subspace) -> tuple[DoubleArray, DoubleArray, DoubleArray, DoubleArray]:
    """Coordinates t (n, K) and MSI values (n, c) of the training pixels, and both of what they have beside their
    neighbours' mean; float64.
    """
    srf = training.weights.astype(np.float64)
    columns: tuple[list[DoubleArray], ...] = ([], [], [], [])
    for start in range(0, len(training.spectra), PIECE_PIXELS):
        few = slice(start, start + PIECE_PIXELS)
        spectra = training.spectra[few].astype(np.float64)
        detail = spectra - training.neighbour_means[few]
        columns[0].append((spectra - subspace.mean) @ subspace.encode)
        columns[1].append(detail @ subspace.encode)
        columns[2].append(spectra @ srf.T)
        columns[3].append(detail @ srf.T)
    plain, plain_detail, simulated, simulated_detail = (np.concatenate(column) for column in columns)
    return plain, plain_detail, simulated, simulated_detail


def band_noise(covariance: DoubleArray, n: int, least: float = 0.0) -> DoubleArray:
    """(C,) noise of each band: what the other bands do not explain of it (their neighbours, if n is small).

    References
    ----------
    J. M. Bioucas-Dias, J. M. P. Nascimento, Hyperspectral subspace identification, IEEE Trans. Geosci. Remote
    Sens. 46(8), 2008, section II, doi:10.1109/TGRS.2008.918089.
    """
    bands, own = len(covariance), np.diagonal(covariance)
    # Of each band, whatever its unit; ``least`` is for constant scenes, the mean for constant bands.
    contrast = np.maximum(own, max(1e-6 * float(own.mean()), least, 1e-30))
    ridge = np.diag(1e-6 * contrast)
    if _many(n, bands):
        unexplained = 1 / np.diagonal(np.linalg.inv(covariance + ridge)) * n / (n - bands + 1)
    else:
        unexplained = np.array([_unexplained(covariance + ridge, band, n) for band in range(bands)])
    return np.asarray(np.maximum(np.sqrt(np.maximum(unexplained, 0.0)), _NOISE_FLOOR * np.sqrt(contrast)))


def _many(n: int, bands: int) -> bool:
    """Whether there are pixels enough to regress a band on all others."""
    return n > 2 * bands


def _unexplained(covariance: DoubleArray, band: int, n: int) -> float:
    """Variance of a band that its spectral neighbours leave unexplained."""
    near = range(max(0, band - NEIGHBOURS), min(len(covariance), band + NEIGHBOURS + 1))
    others = [index for index in near if index != band][: max(n - 2, 0)]
    if not others:
        return float(covariance[band, band]) * 1e-4
    cross = covariance[others, band]
    explained = cross @ np.linalg.solve(covariance[np.ix_(others, others)], cross)
    return float(covariance[band, band] - explained) * n / (n - len(others))
