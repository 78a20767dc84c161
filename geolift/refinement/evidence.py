"""What pixels, lines and columns that are left out confirm of a prediction.

A fault of the HSI that a column or a line has to itself, such as a stripe, is predicted from the rest of the same
column, not from the others; what is left out must share nothing with what is kept but the scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geolift.runtime.blas import one_blas_thread

DoubleArray = NDArray[np.float64]

DARKEST = 0.1
"""Brightness, relative to the scene's, below which dark pixels count no more: their angles are noise."""


USUALLY_UNLIKE = 1.3
"""So many times less may be predicted one way than the other way, for scenes have a grain too."""


@dataclass(frozen=True, eq=False)
class Window:
    """Valid HSI pixels of a window: positions (n,), rotated residual (K, n), factors (1 + M, n)."""

    rows: NDArray[np.intp]
    cols: NDArray[np.intp]
    residual: DoubleArray
    factors: DoubleArray


@dataclass(frozen=True, eq=False)
class Fit:
    """Log likelihoods lost (K,) with the best strength and noise, and the eigensystems they came from."""

    lost: DoubleArray
    strength: DoubleArray
    noise: DoubleArray
    systems: list[tuple[DoubleArray, DoubleArray]]


def confirmed_components(parts: Sequence[Window], fit: Fit, strength: DoubleArray) -> DoubleArray:
    """Share (K,) of what is predicted of each component that holds where whole columns, and whole lines, are left out.

    It is the slope of the residual on its prediction, the lesser of both; and where one way far less is predicted than
    the other way, what is more there is a fault of lines or columns, and the share is that of the lesser.
    """
    trust, used = np.zeros(len(strength)), np.flatnonzero(strength)
    if not used.size:
        return trust
    residual = np.concatenate([part.residual[used] for part in parts], axis=1)
    slopes, shared = [], []
    for axis in (0, 1):
        predicted = np.concatenate(
            [
                _without_lines(part, vectors, strength[used, None] * values + fit.noise[used, None], used, axis)
                for part, (values, vectors) in zip(parts, fit.systems, strict=True)
            ],
            axis=1,
        )
        slopes.append([sure_slope(*pair) for pair in zip(residual, predicted, strict=True)])
        shared.append(np.maximum((residual * predicted).sum(axis=1), 0.0))
    alike = np.min(shared, axis=0) / np.maximum(np.max(shared, axis=0), 1e-300)
    trust[used] = np.min(slopes, axis=0) * np.minimum(1.0, USUALLY_UNLIKE * alike)
    return trust


def _without_lines(
    part: Window, vectors: DoubleArray, spread: DoubleArray, used: NDArray[np.intp], axis: int
) -> DoubleArray:
    """Prediction (k, n) of some components where each line along an axis is left out whole.

    ``spread``: (k, n) eigenvalues of their covariances.
    """
    residual, weight = part.residual[used], 1.0 / spread
    with one_blas_thread():
        solved = (weight * (residual @ vectors)) @ vectors.T
        missed = np.zeros_like(solved)
        for line in np.unique(own := (part.rows, part.cols)[axis]):
            where = np.flatnonzero(own == line)
            few = vectors[where]
            inverse = ((few * weight[:, None]).reshape(-1, len(vectors)) @ few.T).reshape(len(used), len(where), -1)
            # error of a group left out: (C⁻¹)_BB⁻¹ (C⁻¹ r)_B
            missed[:, where] = np.linalg.solve(inverse, solved[:, where, None])[..., 0]
    return np.asarray(residual - missed, np.float64)


def sure_slope(residual: DoubleArray, predicted: DoubleArray) -> float:
    """Slope of a residual (n,) on its prediction, shrunk by its standard error, within 0 … 1.

    W. James, C. Stein, Estimation with quadratic loss, Proc. 4th Berkeley Symp. 1, 1961.

    >>> predicted = np.array([1.0, -1.0, 2.0])
    >>> sure_slope(0.5 * predicted, predicted), sure_slope(-predicted, predicted)
    (0.5, 0.0)
    """
    power = float(np.square(predicted).sum())
    if power <= 0:
        return 0.0
    slope = max(float(residual @ predicted) / power, 1e-12)
    error = float(np.sqrt((np.square(predicted) * np.square(residual - slope * predicted)).sum())) / power
    return float(np.clip(slope * (1.0 - (error / slope) ** 2), 0.0, 1.0))


def left_out(parts: Sequence[Window], fit: Fit, strength: DoubleArray, trust: DoubleArray) -> list[DoubleArray]:
    """What is predicted of the residual (K, n) of each window where each pixel is left out in turn."""
    predicted = []
    with one_blas_thread():
        for part, (values, vectors) in zip(parts, fit.systems, strict=True):
            residual, squared = part.residual, np.square(vectors)
            found = np.zeros_like(residual)
            for k in np.flatnonzero(strength):
                weight = 1.0 / (float(strength[k]) * values + float(fit.noise[k]))
                # error at a pixel left out: (C⁻¹ r)_i / (C⁻¹)_ii
                missed = (vectors @ (weight * (vectors.T @ residual[k]))) / (squared @ weight)
                found[k] = trust[k] * (residual[k] - missed)
            predicted.append(found)
    return predicted


def confirmed_bands(parts: Sequence[Window], predicted: Sequence[DoubleArray], decode: DoubleArray) -> DoubleArray:
    """Share (C,) of what is predicted of each band at pixels left out that holds, also where dark pixels count more."""
    residual = np.concatenate([part.residual for part in parts], axis=1)
    found = np.concatenate(predicted, axis=1)
    amplitude = np.concatenate([part.factors[0] for part in parts])
    relative = 1.0 / np.maximum(np.square(amplitude), DARKEST)
    trust = np.ones(len(decode))
    for band, weights in enumerate(decode):
        told, said = (np.einsum("k,kn->n", weights, values) for values in (residual, found))
        trust[band] = min(sure_slope(told, said), sure_slope(relative * told, relative * said))
    return trust


def explained_share(
    parts: Sequence[Window], predicted: Sequence[DoubleArray], decode: DoubleArray
) -> tuple[float, float]:
    """Share of the squared residual, in the spectra's unit, that is predicted, and its standard error."""
    metric = np.einsum("ck,cl->kl", decode, decode)

    def energy(values: DoubleArray) -> DoubleArray:
        return np.asarray((np.einsum("kl,ln->kn", metric, values) * values).sum(axis=0), np.float64)

    before = np.concatenate([energy(part.residual) for part in parts])
    left = [part.residual - found for part, found in zip(parts, predicted, strict=True)]
    gain, total = before - np.concatenate([energy(values) for values in left]), max(float(before.sum()), 1e-300)
    return float(gain.sum()) / total, float(gain.std()) * len(gain) ** 0.5 / total
