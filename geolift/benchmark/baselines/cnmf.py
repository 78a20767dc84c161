"""CNMF: coupled non-negative matrix factorisation of both images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geolift.benchmark.baselines.interpolation import Cube
from geolift.benchmark.baselines.observation import Observation

Doubles = NDArray[np.float64]

ENDMEMBERS = 30
OUTER_ROUNDS, INNER_STEPS = 3, 200
LEAST_CHANGE = 1e-4
"""Relative change of the squared error within `CHECKED_STEPS` below which a factorisation is at rest."""

CHECKED_STEPS = 10
SUM_TO_ONE = 0.15
"""Weight of the row of ones that asks the abundances of a pixel to sum to one, in units of the mean value."""


def cnmf(seen: Observation, *, endmembers: int = ENDMEMBERS, seed: int = 0) -> Cube:
    """Unmix the HSI for endmembers and the MSI for abundances, in turn.

    With X (C, n) the HSI, Y (c, N) the MSI, R the spectral response and D the footprint, X ≈ W Hₗ and Y ≈ Wₘ H are
    coupled by Wₘ = R W and Hₗ = H D, each factorised by multiplicative updates that start where the other one leads.
    The product is W H.

    ``endmembers``: at most; never more than HSI bands or pixels. ``seed``: of the directions in which the first
    endmembers are looked for.

    References
    ----------
    N. Yokoya, T. Yairi, A. Iwasaki, Coupled nonnegative matrix factorization unmixing for hyperspectral and
    multispectral data fusion, IEEE Trans. Geosci. Remote Sens. 50(2), 2012, doi:10.1109/TGRS.2011.2161320.
    D. D. Lee, H. S. Seung, Algorithms for non-negative matrix factorization, NIPS 13, 2001 (the updates).
    """
    (rows, cols), (height, width) = seen.hsi.shape[1:], seen.msi.shape[1:]
    low, fine = (np.maximum(image, 0).reshape(len(image), -1).astype(np.float64) for image in (seen.hsi, seen.msi))
    response = seen.weights.astype(np.float64)
    count = min(endmembers, *low.shape)
    spectra = vertex_components(low, count, np.random.default_rng(seed))
    weight = SUM_TO_ONE * float(low.mean())
    coarse = np.full((count, low.shape[1]), 1.0 / count)
    coarse = factorise(low, spectra, coarse, weight, update_spectra=False)[1]
    spectra, coarse = factorise(low, spectra, coarse, weight)
    abundances = np.repeat(np.repeat(coarse.reshape(count, rows, cols), seen.ratio, 1), seen.ratio, 2)
    abundances = abundances.reshape(count, -1)
    for turn in range(OUTER_ROUNDS):
        if turn:
            image = abundances.reshape(count, height, width).astype(np.float32)
            coarse = np.maximum(seen.degrade(image), 0).reshape(count, -1).astype(np.float64)
            spectra = factorise(low, spectra, coarse, weight, update_abundances=False)[0]
            spectra, coarse = factorise(low, spectra, coarse, weight)
        abundances = factorise(fine, response @ spectra, abundances, weight, update_spectra=False)[1]
    return np.asarray((spectra @ abundances).reshape(len(low), height, width), np.float32)


def factorise(
    data: Doubles,
    spectra: Doubles,
    abundances: Doubles,
    sum_weight: float,
    *,
    update_spectra: bool = True,
    update_abundances: bool = True,
) -> tuple[Doubles, Doubles]:
    """Lower ‖X − W H‖² by the multiplicative updates of W (bands, D) and H (D, pixels), until at rest.

    H ← H ∘ (Wᵀ X) / (Wᵀ W H),   W ← W ∘ (X Hᵀ) / (W H Hᵀ);

    a row of ``sum_weight`` below X and W asks the columns of H to sum to one.
    """
    data = np.vstack([data, np.full((1, data.shape[1]), sum_weight)])
    spectra, abundances = spectra.copy(), abundances.copy()
    ones = np.full((1, spectra.shape[1]), sum_weight)
    before = np.inf
    for step in range(INNER_STEPS):
        whole = np.vstack([spectra, ones])
        if update_abundances:
            abundances *= (whole.T @ data) / np.maximum(whole.T @ whole @ abundances, 1e-30)
        if update_spectra:
            gram = abundances @ abundances.T
            spectra *= (data[:-1] @ abundances.T) / np.maximum(spectra @ gram, 1e-30)
        if step % CHECKED_STEPS == CHECKED_STEPS - 1:
            error = float(np.square(data - np.vstack([spectra, ones]) @ abundances).sum())
            if before - error < LEAST_CHANGE * before:
                break
            before = error
    return spectra, abundances


def vertex_components(data: Doubles, count: int, rng: np.random.Generator) -> Doubles:
    """(bands, count) pixels of (bands, n) data that are extreme in directions orthogonal to those already found.

    References
    ----------
    J. M. P. Nascimento, J. M. Bioucas-Dias, Vertex component analysis, IEEE Trans. Geosci. Remote Sens. 43(4), 2005,
    doi:10.1109/TGRS.2005.844293; without its projection onto the signal subspace.
    """
    chosen = np.empty((len(data), 0))
    for _ in range(count):
        direction = rng.standard_normal(len(data))
        if chosen.shape[1]:
            basis = np.linalg.qr(chosen)[0]
            direction = direction - basis @ (basis.T @ direction)
        best = int(np.abs(direction @ data).argmax())
        chosen = np.column_stack([chosen, data[:, best]])
    return np.maximum(chosen, 1e-6 * max(float(data.max()), 1e-12))
