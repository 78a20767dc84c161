"""A shift that varies smoothly over the scene, where the evidence supports one.

The scene is cut into windows; each is fitted from the global shift on. A polynomial is put through the
windows' shifts, weighted by their errors, and kept only if it predicts windows that it has not seen
clearly better than one shift for all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from geolift.degradation.sampling import FloatArray
from geolift.pair.coregistration.estimate import MAX_FIT_BANDS, rank_bands
from geolift.pair.coregistration.matching import Patch
from geolift.pair.coregistration.shift_fit import FitResult, fit_place
from geolift.pair.coregistration.verdict import ShiftEstimate
from geolift.pair.coregistration.windows import Window

DoubleArray = NDArray[np.float64]

MAX_DEGREE = 2
"""Of the polynomial."""

MIN_WINDOWS = 9
MIN_WINDOW_PX = 12
"""Smallest side of a window, in LR pixels."""

MIN_RMS_PX = 0.1
"""A field that stays this close to the global shift (RMS, MSI pixels) is not worth a resampling."""

HELDOUT_GAIN = 0.8
"""The field must lower the held-out misfit of the windows to this part of the global shift's."""

_WINDOW_SIGMA_PX = 0.03
"""What a window's own error leaves out: relief and band-to-band differences."""


class ShiftFieldDocument(TypedDict):
    """How the shift varies over the scene: a polynomial, its largest distance from one shift, and why it was chosen."""

    degree: int
    coefficients_px: list[list[float]]
    heldout_rms_px: list[float]
    largest_px: float
    reason: str


@dataclass(frozen=True, eq=False)
class ShiftField:
    """Shift as a polynomial of the place: dy, dx in MSI pixels.

    Parameters
    ----------
    degree
        0 for one shift, 1 for an affine field, 2 for a quadratic one.
    coefficients
        (term, 2): dy and dx of each term, terms as in :func:`terms`.
    shape
        (h, w) of the LR grid that the coordinates refer to.
    heldout_rms_px
        RMS misfit of windows that were left out, by degree.
    reason
        One sentence: why this degree.
    """

    degree: int
    coefficients: DoubleArray
    shape: tuple[int, int]
    heldout_rms_px: tuple[float, ...]
    reason: str

    def at(self, y_lr: DoubleArray, x_lr: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
        """Shift (dy, dx) in MSI pixels at LR coordinates, where (0, 0) is the first pixel's centre."""
        values = terms(y_lr, x_lr, self.shape, self.degree) @ self.coefficients
        return values[..., 0], values[..., 1]

    def scaled(self, factor: float) -> ShiftField:
        """Return it in pixels that are smaller by a factor."""
        rms = tuple(value * factor for value in self.heldout_rms_px)
        return replace(self, coefficients=self.coefficients * factor, heldout_rms_px=rms)

    def largest_px(self, shift: ShiftEstimate) -> float:
        """Largest distance between the field and one shift on the scene, in MSI pixels."""
        y, x = np.mgrid[: self.shape[0], : self.shape[1]].astype(np.float64)
        dy, dx = self.at(y, x)
        return float(np.hypot(dy - shift.dy, dx - shift.dx).max())

    def to_json(self, shift: ShiftEstimate) -> ShiftFieldDocument:
        """Return the field and what speaks for it as plain JSON types."""
        return {
            "degree": self.degree,
            "coefficients_px": self.coefficients.tolist(),
            "heldout_rms_px": list(self.heldout_rms_px),
            "largest_px": self.largest_px(shift),
            "reason": self.reason,
        }


def terms(y_lr: DoubleArray, x_lr: DoubleArray, shape: tuple[int, int], degree: int) -> DoubleArray:
    """Polynomial terms 1, v, u, v^2, vu, u^2 with v, u running from -1 to 1 over the scene."""
    v = 2.0 * (np.asarray(y_lr, np.float64) + 0.5) / shape[0] - 1.0
    u = 2.0 * (np.asarray(x_lr, np.float64) + 0.5) / shape[1] - 1.0
    columns = [np.ones_like(v), v, u, v * v, v * u, u * u]
    return np.stack(columns[: (1, 3, 6)[degree]], axis=-1)


def estimate_local_shifts(
    simulated: FloatArray,
    read: Callable[[Window], FloatArray],
    ratio: int,
    margin: int,
    shift: ShiftEstimate,
    *,
    px: float = 1.0,
) -> ShiftField:
    """Fit a smooth field of shifts around a global one.

    Parameters
    ----------
    simulated, read, ratio, margin
        As in :func:`geolift.pair.coregistration.estimate_shift_by_windows`.
    shift
        The global shift.
    px
        MSI pixels along a fine pixel, for what is said.
    """
    shape = (simulated.shape[1], simulated.shape[2])
    flat = ShiftField(0, np.array([[shift.dy, shift.dx]]), shape, (), "too few windows with enough texture")
    if not shift.reliable:
        return flat
    places, shifts, sigmas = _window_shifts(simulated, read, ratio, margin, shift)
    if len(places) < MIN_WINDOWS:
        return flat
    weights = 1.0 / (sigmas**2 + _WINDOW_SIGMA_PX**2)
    keep = _inliers(shifts, weights, terms(places[:, 0], places[:, 1], shape, 1))
    places, shifts, weights = places[keep], shifts[keep], weights[keep]
    degrees = [d for d in range(MAX_DEGREE + 1) if len(places) >= 3 * (1, 3, 6)[d]]
    misfits = [_heldout(terms(places[:, 0], places[:, 1], shape, d), shifts, weights) for d in degrees]
    rms = tuple(float(np.sqrt(m)) for m in misfits)
    degree = 0
    for candidate in degrees[1:]:
        if misfits[candidate] < HELDOUT_GAIN**2 * misfits[degree]:
            degree = candidate
    coefficients = _solve(terms(places[:, 0], places[:, 1], shape, degree), shifts, weights)
    bend = terms(places[:, 0], places[:, 1], shape, degree) @ coefficients - (shift.dy, shift.dx)
    if degree == 0 or float(np.sqrt((bend**2).sum(axis=1).mean())) < MIN_RMS_PX:
        return ShiftField(0, flat.coefficients, shape, rms, "one shift predicts all windows as well")
    told = rms[degree] * px, rms[0] * px
    reason = f"windows left out are predicted to {told[0]:.2f} MSI pixels, by one shift to {told[1]:.2f}"
    return ShiftField(degree, coefficients, shape, rms, reason)


def _window_shifts(
    simulated: FloatArray, read: Callable[[Window], FloatArray], ratio: int, margin: int, shift: ShiftEstimate
) -> tuple[DoubleArray, DoubleArray, DoubleArray]:
    """Centre, shift and error of each window whose fit came to rest near the global one."""
    height, width = simulated.shape[1:]
    side = max(MIN_WINDOW_PX, round(min(height, width) / 6))
    places, shifts, sigmas = [], [], []
    for y in range(0, height - side + 1, side):
        for x in range(0, width - side + 1, side):
            part = simulated[:, y : y + side, x : x + side]
            fit = _fit_window((part, read(Window(y, x, side, side))), ratio, margin, shift)
            if fit is None or not fit.converged or fit.agreement < 0.5:
                continue
            sigma = np.sqrt(np.diag(fit.covariance_px2))
            if sigma.max() < 0.25 * ratio:
                places.append((y + (side - 1) / 2, x + (side - 1) / 2))
                shifts.append(fit.place[:2])
                sigmas.append(sigma)
    return np.array(places), np.array(shifts), np.array(sigmas)


def _fit_window(pair: tuple[FloatArray, FloatArray], ratio: int, margin: int, shift: ShiftEstimate) -> FitResult | None:
    bands = rank_bands([pair[0]])[:MAX_FIT_BANDS] if np.isfinite(pair[0]).all(axis=0).sum() >= 64 else []
    if not bands:
        return None
    patch = Patch(*pair, bands, ratio, margin, max(abs(shift.dy), abs(shift.dx)) + ratio)
    return None if patch.msi_invalid.all() else fit_place([patch], (shift.dy, shift.dx))


def _inliers(shifts: DoubleArray, weights: DoubleArray, basis: DoubleArray) -> NDArray[np.bool_]:
    """Windows near a robust plane: those on other objects, or that slipped, go."""
    keep = np.ones(len(shifts), np.bool_)
    for _ in range(5):
        residual = shifts - basis @ _solve(basis[keep], shifts[keep], weights[keep])
        size = np.abs(residual).max(axis=1)
        limit = max(4.0 * 1.4826 * float(np.median(size)), 4.0 * _WINDOW_SIGMA_PX)
        keep = size <= limit
    return keep


def _solve(basis: DoubleArray, shifts: DoubleArray, weights: DoubleArray) -> DoubleArray:
    """Weighted least squares per axis: (term, 2)."""
    columns = []
    for axis in range(2):
        w = weights[:, axis : axis + 1]
        normal = basis.T @ (w * basis)
        normal += 1e-9 * np.trace(normal) * np.eye(len(normal))
        columns.append(np.linalg.solve(normal, basis.T @ (w[:, 0] * shifts[:, axis])))
    return np.stack(columns, axis=1)


def _heldout(basis: DoubleArray, shifts: DoubleArray, weights: DoubleArray) -> float:
    """Weighted mean squared misfit of each window, predicted from the others (MSI pixels squared)."""
    total = 0.0
    for out in range(len(shifts)):
        rest = np.arange(len(shifts)) != out
        predicted = basis[out] @ _solve(basis[rest], shifts[rest], weights[rest])
        total += float((weights[out] * (shifts[out] - predicted) ** 2).sum())
    return total / float(weights.sum())
