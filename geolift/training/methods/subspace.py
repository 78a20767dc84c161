"""The few spectral components that stand above the noise, and the noise itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from geolift.training.training_set import PIECE_PIXELS, TrainingSet

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

    mean: torch.Tensor
    decode: torch.Tensor
    encode: torch.Tensor
    variance: torch.Tensor
    noise: torch.Tensor


def find_subspace(spectra: torch.Tensor, *, spare: bool = False) -> Subspace:
    """Principal components of (n, C) spectra whose variance pure noise could not reach; sums are float64.

    The largest eigenvalue of the covariance of white noise tends to (1 + sqrt(C / n))². With few pixels for so many
    bands that edge is high and the noise little known: a few components below it still hold more signal than noise, and
    are kept if ``spare``.

    References
    ----------
    V. A. Marchenko, L. A. Pastur, Math. USSR-Sb. 1 (1967) 457, doi:10.1070/SM1967v001n04ABEH001994.
    """
    n, bands = spectra.shape
    parts = torch.split(spectra, PIECE_PIXELS)
    mean = torch.stack([part.double().sum(0) for part in parts]).sum(0) / n
    covariance = torch.zeros(bands, bands, dtype=torch.float64, device=spectra.device)
    for part in parts:
        centred = part.double() - mean
        covariance += centred.T @ centred
    covariance /= n
    level = float(mean.square().mean())
    noise = band_noise(covariance, n, least=1e-12 * level)
    variance, vectors = torch.linalg.eigh(covariance / torch.outer(noise, noise))
    variance, vectors = variance.flip(0), vectors.flip(1)
    edge = (1 + (bands / n) ** 0.5) ** 2
    beyond = SPARE_COMPONENTS if spare and not _many(n, bands) else 0
    count = min(max(int((variance > edge).sum()), 1) + beyond, MAX_COMPONENTS, bands)
    vectors = vectors[:, :count]
    # The sign of an eigenvector is arbitrary: fix it, so that it cannot differ between library versions.
    vectors = vectors * torch.where(vectors.sum(0) < 0, -1.0, 1.0)
    return Subspace(mean, vectors * noise[:, None], vectors / noise[:, None], variance[:count], noise)


def project(training: TrainingSet, subspace: Subspace) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Coordinates t (n, K) and MSI values (n, c) of the training pixels, and both of what they have beside their
    neighbours' mean; float64.
    """
    device = subspace.mean.device
    srf = torch.tensor(training.weights, dtype=torch.float64, device=device)
    columns: tuple[list[torch.Tensor], ...] = ([], [], [], [])
    for start in range(0, len(training.spectra), PIECE_PIXELS):
        few = slice(start, start + PIECE_PIXELS)
        spectra = torch.tensor(training.spectra[few], dtype=torch.float64, device=device)
        detail = spectra - torch.tensor(training.neighbour_means[few], dtype=torch.float64, device=device)
        columns[0].append((spectra - subspace.mean) @ subspace.encode)
        columns[1].append(detail @ subspace.encode)
        columns[2].append(spectra @ srf.T)
        columns[3].append(detail @ srf.T)
    return torch.cat(columns[0]), torch.cat(columns[1]), torch.cat(columns[2]), torch.cat(columns[3])


def band_noise(covariance: torch.Tensor, n: int, least: float = 0.0) -> torch.Tensor:
    """(C,) noise of each band: what the other bands do not explain of it (their neighbours, if n is small).

    References
    ----------
    J. M. Bioucas-Dias, J. M. P. Nascimento, Hyperspectral subspace identification, IEEE Trans. Geosci. Remote
    Sens. 46(8), 2008, section II, doi:10.1109/TGRS.2008.918089.
    """
    bands = len(covariance)
    contrast = max(float(covariance.diagonal().mean()), least, 1e-30)  # ``least``: for constant scenes
    ridge = 1e-6 * contrast * torch.eye(bands, dtype=covariance.dtype, device=covariance.device)
    if _many(n, bands):
        unexplained = 1 / torch.linalg.inv(covariance + ridge).diagonal() * n / (n - bands + 1)
    else:
        unexplained = torch.stack([_unexplained(covariance + ridge, band, n) for band in range(bands)])
    floor = max(_NOISE_FLOOR * contrast**0.5, 1e-30)
    sigma: torch.Tensor = unexplained.clamp_min(0).sqrt().clamp_min(floor)
    return sigma


def _many(n: int, bands: int) -> bool:
    """Whether there are pixels enough to regress a band on all others."""
    return n > 2 * bands


def _unexplained(covariance: torch.Tensor, band: int, n: int) -> torch.Tensor:
    """Variance of a band that its spectral neighbours leave unexplained."""
    near = range(max(0, band - NEIGHBOURS), min(len(covariance), band + NEIGHBOURS + 1))
    others = [index for index in near if index != band][: max(n - 2, 0)]
    if not others:
        return covariance[band, band] * 1e-4
    cross = covariance[others, band]
    explained = cross @ torch.linalg.solve(covariance[others][:, others], cross)
    variance: torch.Tensor = (covariance[band, band] - explained) * n / (n - len(others))
    return variance
