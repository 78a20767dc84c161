"""Maps of structural similarity: SSIM and UIQI of every window of one band.

A window's value depends on the pixels inside it alone and is summed in one fixed order, so the maps of
overlapping tiles agree bit for bit. The caller leaves out the windows that touch an invalid pixel.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array64 = NDArray[np.float64]

SSIM_SIZE = 11
UIQI_SIZE = 8
_SSIM_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03
# Variances below this share of the squared means are rounding: a spread of a millionth of the mean.
_FLAT = 1e-12


def sliding_sum(plane: NDArray[np.generic], size: int) -> NDArray[np.generic]:
    """Return the sum over every size × size window; element [i, j] is the window that starts there.

    Doubling the width and adding the rest takes about log2(size) additions, without the running sum whose
    rounding would depend on where the tile begins.

    ``plane``: shape (rows, cols). ``size``: window side in pixels.

    Returns
    -------
    sums
        Shape (rows - size + 1, cols - size + 1), empty if the plane is smaller than a window.
    """
    return _sum_along_rows(_sum_along_rows(plane, size).T, size).T


def _sum_along_rows(plane: NDArray[np.generic], size: int) -> NDArray[np.generic]:
    n_out = max(0, len(plane) - size + 1)
    total: NDArray[np.generic] | None = None
    sums, width, covered = plane, 1, 0  # sums[i] is over the rows i to i + width - 1
    while True:
        if size & width:
            part = sums[covered : covered + n_out]
            total = part if total is None else np.add(total, part)
            covered += width
        if total is not None and covered == size:
            return total
        sums = np.add(sums[:-width], sums[width:])
        width *= 2


def whole_windows(valid: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Tell which size × size windows hold valid pixels only.

    ``valid``: shape (rows, cols).

    Returns
    -------
    whole
        Shape (rows - size + 1, cols - size + 1); element [i, j] is the window that starts there.
    """
    return np.asarray(sliding_sum(valid.astype(np.int32), size) == size * size)


def _gaussian_mean(plane: Array64) -> Array64:
    radius = SSIM_SIZE // 2
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / _SSIM_SIGMA) ** 2)
    weights /= weights.sum()
    if min(plane.shape) < SSIM_SIZE:
        return np.empty((max(0, plane.shape[0] - 2 * radius), max(0, plane.shape[1] - 2 * radius)))
    rows = ndimage.correlate1d(plane, weights, axis=0, mode="constant")[radius:-radius]
    return np.asarray(ndimage.correlate1d(rows, weights, axis=1, mode="constant")[:, radius:-radius])


def _uniform_mean(plane: Array64, size: int) -> Array64:
    return np.asarray(sliding_sum(plane, size), dtype=np.float64) / size**2


def ssim_map(
    product: Array64, reference: Array64, data_range: float, window: Literal["gaussian", "uniform"] = "gaussian"
) -> Array64:
    """Return the structural similarity of every 11 × 11 window of one band.

    With weighted means m, variances v and covariance c (population ones: weights sum to 1),
    SSIM = (2 m_x m_y + C1)(2 c + C2) / ((m_x² + m_y² + C1)(v_x + v_y + C2)), C1 = (0.01 L)², C2 = (0.03 L)².

    Parameters
    ----------
    product, reference
        Shape (rows, cols), finite everywhere.
    data_range
        L, the range of the data in their own unit.
    window
        `gaussian`: sigma 1.5, as the paper; `uniform`: equal weights, as HyperBench.

    Returns
    -------
    ssim
        Shape (rows - 10, cols - 10); element [i, j] is the window centred on pixel [i + 5, j + 5].

    References
    ----------
    Wang, Bovik, Sheikh, Simoncelli (2004), eq. 13, doi:10.1109/TIP.2003.819861.
    """

    def mean(plane: Array64) -> Array64:
        return _gaussian_mean(plane) if window == "gaussian" else _uniform_mean(plane, SSIM_SIZE)

    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    mean_x, mean_y = mean(product), mean(reference)
    power = mean_x**2 + mean_y**2
    cross = mean_x * mean_y
    variances = mean(product**2 + reference**2) - power
    covariance = mean(product * reference) - cross
    return np.asarray((2 * cross + c1) * (2 * covariance + c2) / ((power + c1) * (variances + c2)))


def uiqi_map(product: Array64, reference: Array64) -> Array64:
    """Return the universal image quality index of every 8 × 8 window of one band.

    Q = 4 c m_x m_y / ((v_x + v_y)(m_x² + m_y²)). Where both windows are flat (spread below a millionth of
    the means) only the means are compared, 2 m_x m_y / (m_x² + m_y²), as in the authors' code; where both
    means are zero only the spread, 2 c / (v_x + v_y); two windows of zeros are alike: 1.

    ``product``, ``reference``: shape (rows, cols), finite everywhere.

    Returns
    -------
    uiqi
        Shape (rows - 7, cols - 7); element [i, j] is the window that starts on pixel [i, j].

    References
    ----------
    Wang, Bovik (2002), eq. 2, doi:10.1109/97.995823.
    """
    mean_x, mean_y = _uniform_mean(product, UIQI_SIZE), _uniform_mean(reference, UIQI_SIZE)
    power = mean_x**2 + mean_y**2
    cross = mean_x * mean_y
    variances = _uniform_mean(product**2 + reference**2, UIQI_SIZE) - power
    covariance = _uniform_mean(product * reference, UIQI_SIZE) - cross
    ones = np.ones_like(power)
    luminance = np.divide(2 * cross, power, out=ones.copy(), where=power > 0)
    structure = np.divide(2 * covariance, variances, out=ones, where=variances > _FLAT * power)
    return np.asarray(luminance * structure)


def hyperbench_uiqi_map(product: Array64, reference: Array64) -> Array64:
    """Return what HyperBench, through sewar's `uqi`, takes for the UIQI of every 8 × 8 window.

    The authors' formula for window *sums* is fed with window *means* there, so N = 64 weighs the second
    moments: with p = m_x² + m_y² and second moments s, Q = 4 (N s_xy − m_x m_y) m_x m_y /
    ((N (s_xx + s_yy) − p) p). It lies far nearer to 1 than UIQI and hardly sees texture.

    Parameters and returns as `uiqi_map`.
    """
    n = UIQI_SIZE**2
    mean_x, mean_y = _uniform_mean(product, UIQI_SIZE), _uniform_mean(reference, UIQI_SIZE)
    power = mean_x**2 + mean_y**2
    cross = mean_x * mean_y
    spread = n * _uniform_mean(product**2 + reference**2, UIQI_SIZE) - power
    numerator = 4 * (n * _uniform_mean(product * reference, UIQI_SIZE) - cross) * cross
    denominator = spread * power
    return np.asarray(np.divide(numerator, denominator, out=np.ones_like(power), where=denominator != 0))
