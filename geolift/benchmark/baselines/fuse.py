"""FUSE: the Gaussian posterior of the fine image in a subspace, by a Sylvester equation solved in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geolift.benchmark.baselines.interpolation import Cube, bicubic
from geolift.benchmark.baselines.observation import Observation
from geolift.refinement.footprint import Footprint
from geolift.training.methods.subspace import find_subspace

Doubles = NDArray[np.float64]
Complexes = NDArray[np.complex128]

LEAST_NOISE = 1e-4
"""Of the MSI's noise, in parts of its mean: noise-free data must not divide by zero."""


def fuse(seen: Observation) -> Cube:
    """Fuse with a Gaussian prior.

    In the subspace X = m + H U, with B S the footprint (blur, then sampling), R the spectral response, Λ the noise,
    the prior U ~ N(μ, Σ) with μ the enlarged HSI, the posterior mean solves the Sylvester equation

        C₁ U + U C₂ = C₃,   C₁ = (Hᵀ Λₗ⁻¹ H)⁻¹ ((R H)ᵀ Λₘ⁻¹ R H + Σ⁻¹),   C₂ = B S (B S)ᴴ,
        C₃ = (Hᵀ Λₗ⁻¹ H)⁻¹ (Hᵀ Λₗ⁻¹ Yₗ (B S)ᴴ + (R H)ᵀ Λₘ⁻¹ Yₘ + Σ⁻¹ μ).

    H is whitened by the HSI's noise here, so Hᵀ Λₗ⁻¹ H is the identity and C₁ symmetric. Σ is the covariance of what
    the enlargement misses one level down: of the HSI less itself degraded and enlarged. Images are mirrored beyond
    their borders, for B is taken to be circulant.

    References
    ----------
    Q. Wei, N. Dobigeon, J.-Y. Tourneret, Fast fusion of multi-band images based on solving a Sylvester equation, IEEE
    Trans. Image Process. 24(11), 2015, doi:10.1109/TIP.2015.2458572 (the equation, and its solution by components).
    Q. Wei et al., R-FUSE: robust fast fusion of multiband images based on solving a Sylvester equation, IEEE Signal
    Process. Lett. 23(11), 2016, doi:10.1109/LSP.2016.2608858 (the components by the Woodbury formula).
    """
    subspace = find_subspace(seen.hsi.reshape(len(seen.hsi), -1).T)
    mean, decode, encode = subspace.mean, subspace.decode, subspace.encode
    wide = seen.padded()
    low = np.einsum("ck,cyx->kyx", encode, wide.hsi - mean[:, None, None], optimize=True)
    prior_mean = bicubic(low.astype(np.float32), wide.msi.shape[1:]).astype(np.float64)
    prior = np.asarray(np.linalg.inv(_missed(low, seen)), np.float64)
    response = seen.weights.astype(np.float64)
    noise = np.maximum(seen.msi_noise, LEAST_NOISE * np.abs(seen.msi).mean(axis=(1, 2)))
    sensed = (response @ decode) / noise[:, None]
    shown = (wide.msi - (response @ mean)[:, None, None]) / noise[:, None, None]
    coordinates = solve_sylvester(low, shown, sensed, prior, prior_mean, Blur(seen.footprint, low.shape[1:]))
    edge = (wide.msi.shape[1] - seen.msi.shape[1]) // 2
    height, width = seen.msi.shape[1:]
    inner = coordinates[:, edge : edge + height, edge : edge + width]
    fused = np.einsum("ck,kyx->cyx", decode, inner, optimize=True) + mean[:, None, None]
    return np.asarray(fused, np.float32)


def solve_sylvester(
    low: Doubles, shown: Doubles, sensed: Doubles, prior: Doubles, prior_mean: Doubles, blur: Blur
) -> Doubles:
    """(K, H, W) the U of least |low − U BS|² + |shown − sensed U|² + (U − μ)ᵀ Σ⁻¹ (U − μ).

    Parameters
    ----------
    low, shown
        (K, h, w) and (c, H, W): both images, with noise of variance one.
    sensed
        (c, K) what the MSI sees of the components.
    prior, prior_mean
        (K, K) Σ⁻¹ and (K, H, W) μ.
    """
    values, vectors = np.linalg.eigh(sensed.T @ sensed + prior)
    right = blur.adjoint(low) + np.einsum("ck,cyx->kyx", sensed, shown, optimize=True)
    right += np.einsum("kl,lyx->kyx", prior, prior_mean, optimize=True)
    right = np.einsum("kl,kyx->lyx", vectors, right, optimize=True)
    # (λ + A Aᴴ)⁻¹ c = (c − A (λ + Aᴴ A)⁻¹ Aᴴ c) / λ, where Aᴴ A, on the coarse grid, is circulant
    scale = values[:, None, None]
    coarse = np.fft.fft2(blur.degrade(right)) / (scale + blur.power)
    solved = (right - blur.adjoint(np.fft.ifft2(coarse).real)) / scale
    return np.asarray(np.einsum("kl,lyx->kyx", vectors, solved, optimize=True))


@dataclass(frozen=True, eq=False)
class Blur:
    """A footprint on a periodic image of so many HSI pixels."""

    footprint: Footprint
    shape: tuple[int, ...]

    @property
    def power(self) -> Doubles:
        """(h, w) eigenvalues of D Dᵀ: mean of |transfer|² over the frequencies that alias."""
        ratio = self.footprint.ratio
        parts = [np.square(np.abs(self._transfer(axis))).reshape(ratio, -1).mean(axis=0) for axis in (0, 1)]
        return np.outer(parts[0], parts[1])

    def degrade(self, fine: Doubles) -> Doubles:
        """(n, h, w) of (n, H, W)."""
        ratio = self.footprint.ratio
        transfer = np.outer(self._transfer(0), self._transfer(1))
        return np.asarray(np.fft.ifft2(np.fft.fft2(fine) * transfer).real[:, ::ratio, ::ratio])

    def adjoint(self, coarse: Doubles) -> Doubles:
        """(n, H, W) of (n, h, w): the transpose of `degrade`."""
        ratio = self.footprint.ratio
        spread = np.zeros((len(coarse), *(size * ratio for size in self.shape)))
        spread[:, ::ratio, ::ratio] = coarse
        transfer = np.outer(self._transfer(0), self._transfer(1)).conj()
        return np.asarray(np.fft.ifft2(np.fft.fft2(spread) * transfer).real)

    def _transfer(self, axis: int) -> Complexes:
        """Transfer function of an axis: pixel p sees Σ wᵢ x[p + start + i]."""
        size = self.shape[axis] * self.footprint.ratio
        kernel = np.zeros(size)
        places = self.footprint.start_px[axis] + np.arange(len(self.footprint.weights[axis]))
        np.add.at(kernel, -places % size, self.footprint.weights[axis])
        return np.asarray(np.fft.fft(kernel))


def _missed(low: Doubles, seen: Observation) -> Doubles:
    """(K, K) covariance of the HSI less itself degraded by its own ratio and enlarged again."""
    ratio = seen.ratio
    rows, cols = (max(size // ratio, 2) * ratio for size in low.shape[1:])
    cut = low[:, : min(rows, low.shape[1]), : min(cols, low.shape[2])].astype(np.float32)
    step = [min(ratio, size // 2) for size in cut.shape[1:]]
    cut = cut[:, : cut.shape[1] // step[0] * step[0], : cut.shape[2] // step[1] * step[1]]
    blocks = cut.reshape(len(cut), cut.shape[1] // step[0], step[0], cut.shape[2] // step[1], step[1])
    left = (cut - bicubic(blocks.mean(axis=(2, 4)), cut.shape[1:])).reshape(len(cut), -1).astype(np.float64)
    covariance = left @ left.T / left.shape[1]
    return np.asarray(covariance + 1e-6 * np.trace(covariance) / len(covariance) * np.eye(len(covariance)))
