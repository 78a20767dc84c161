"""GSA: adaptive Gram–Schmidt sharpening, band group by band group."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geolift.benchmark.baselines.interpolation import Cube, bicubic
from geolift.benchmark.baselines.observation import Observation
from geolift.degradation.degrade import apply_srf


def gsa(seen: Observation) -> Cube:
    """Sharpen each HSI band by the MSI band that it resembles most.

    Component substitution with a regressed intensity: with H̃ the enlarged HSI bands of a group and P its MSI band,

        I = Σ wₖ H̃ₖ + w₀,   fused_k = H̃ₖ + gₖ (P − I),   gₖ = cov(H̃ₖ, I) / var(I),

    where w is the least-squares fit of the HSI bands to P seen through the footprint, on HSI pixels. The grouping
    of HSI bands by their correlation with the simulated MSI is that of the review.

    Returns
    -------
    numpy.ndarray
        (C, y, x) on the MSI's pixels.

    References
    ----------
    B. Aiazzi, S. Baronti, M. Selva, Improving component substitution pansharpening through multivariate regression of
    MS + Pan data, IEEE Trans. Geosci. Remote Sens. 45(10), 2007, doi:10.1109/TGRS.2007.907973 (injection with Gram–
    Schmidt gains, weights by multivariate regression).
    N. Yokoya, C. Grohnfeldt, J. Chanussot, Hyperspectral and multispectral data fusion: a comparative review, IEEE
    Geosci. Remote Sens. Mag. 5(2), 2017, doi:10.1109/MGRS.2016.2637824 (band groups).
    """
    low = seen.hsi.reshape(len(seen.hsi), -1).astype(np.float64)
    coarse_msi = seen.degrade(seen.msi).reshape(len(seen.msi), -1).astype(np.float64)
    enlarged = bicubic(seen.hsi, seen.msi.shape[1:]).reshape(len(seen.hsi), -1).astype(np.float64)
    msi = seen.msi.reshape(len(seen.msi), -1).astype(np.float64)
    group = band_groups(low, apply_srf(seen.hsi, seen.weights.astype(np.float64)).reshape(len(msi), -1))
    fused = np.empty_like(enlarged)
    for index in range(len(msi)):
        chosen = np.flatnonzero(group == index)
        if not chosen.size:
            continue
        design = np.vstack([low[chosen], np.ones(low.shape[1])])
        weights = np.linalg.lstsq(design.T, coarse_msi[index], rcond=1e-8)[0]
        intensity = weights[:-1] @ enlarged[chosen] + weights[-1]
        centred = intensity - intensity.mean()
        gains = enlarged[chosen] @ centred / max(float(centred @ centred), 1e-30)
        fused[chosen] = enlarged[chosen] + gains[:, None] * (msi[index] - intensity)
    return np.asarray(fused.reshape(len(fused), *seen.msi.shape[1:]), np.float32)


def band_groups(low: NDArray[np.float64], simulated: NDArray[np.float32]) -> NDArray[np.int64]:
    """(C,) the MSI band that each HSI band correlates with most, of (C, n) HSI and (c, n) simulated MSI values."""
    parts = [values - values.mean(axis=1, keepdims=True) for values in (low, simulated.astype(np.float64))]
    one, other = (part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-30) for part in parts)
    return np.asarray((one @ other.T).argmax(axis=1))
