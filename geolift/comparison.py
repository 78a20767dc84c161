"""What the two sensors say of each other: residual shift, radiometric relation, likely mistakes.

The MSI degraded to the HSI's pixels is held against the MSI simulated from the HSI with the SRF.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import xarray as xr

from geolift.coregistration import ShiftEstimate, choose_windows, estimate_shift_from_windows
from geolift.cube import blocks_of, window_values
from geolift.degrade import apply_srf
from geolift.errors import TrustError
from geolift.harmonization import Harmonization, fit_harmonization
from geolift.overlay import Overlay, overlay
from geolift.plan import RegionPlan, SpectralPlan
from geolift.sampling import degrade_msi
from geolift.settings import ComparisonSettings

MARGIN_LR = 8
"""LR pixels read around each window: the largest shift looked for, and the reach of the blur."""

STRIP_PX = 4_000_000
"""Fine pixels degraded at once."""

MIN_COMPARED_PX = 12


@dataclass(frozen=True, eq=False)
class Comparison:
    """The two images on the HSI's grid, and what follows.

    Parameters
    ----------
    overlay
        Where they were compared.
    shift
        As estimated; None if it was not looked for.
    applied_px
        (dy, dx) in MSI pixels by which the HSI counts as moved; zero if not applied.
    simulated, degraded
        (c, h, w) float32 on the overlay's grid, NaN = invalid.
    harmonization
        The relation applied to the MSI before inference.
    warnings
        Sentences for the user.
    """

    overlay: Overlay
    shift: ShiftEstimate | None
    applied_px: tuple[float, float]
    simulated: np.ndarray
    degraded: np.ndarray
    harmonization: Harmonization
    warnings: tuple[str, ...]

    def shift_json(self) -> dict[str, Any]:
        """Return the stable document of `geolift coregister --json`."""
        fine = (0.0, 0.0) if self.shift is None else (self.shift.dy, self.shift.dx)
        applied = self.applied_px != (0.0, 0.0)
        dy, dx = self.overlay.shift_msi_px(*fine) if self.shift is not None else self.applied_px
        move_x, move_y = self.overlay.shift_units(*self.overlay.fine_shift(dy, dx))
        document: dict[str, Any] = {
            "shift_msi_px": {"dy": dy, "dx": dx},
            "shift_m": {"dy": -move_y, "dx": move_x},
            "confidence": 1.0 if self.shift is None else self.shift.confidence,
            "applied": applied,
        }
        if self.shift is not None:
            facts = asdict(self.shift)
            document |= {key: facts[key] for key in facts if key not in ("dy", "dx", "confidence")}
        return document

    def harmonization_json(self) -> dict[str, Any]:
        """Return the relation as plain numbers."""
        relation = self.harmonization
        return {
            "model": relation.model,
            "matrix": relation.matrix,
            "offset": relation.offset,
            "heldout_error": relation.heldout_error,
            "inlier_fraction": relation.inlier_fraction,
            "pixels": relation.n_pixels,
            "reason": relation.reason,
        }


def compare(
    hsi: xr.DataArray,
    msi: xr.DataArray,
    spectra: SpectralPlan,
    region: RegionPlan,
    settings: ComparisonSettings,
) -> Comparison | None:
    """Compare the sensors where they overlap; None if no HSI pixel lies under the MSI.

    Parameters
    ----------
    hsi, msi : DataArray (band, y, x)
        Whole images, masked; the MSI with its used bands only, in the order of ``spectra.msi_names``.

    Raises
    ------
    TrustError
        Under ``strict``, if the shift found cannot be trusted.
    """
    laid = overlay(hsi, msi, region.ratio)
    if laid is None:
        return None
    simulated = simulate_msi(hsi, laid, spectra)
    notes: list[str] = []
    shift, fine = _coregister(laid, simulated, settings, notes)
    blur = (0.0, 0.0) if shift is None else _blur(shift, laid.ratio)
    degraded = degraded_msi(laid, fine, blur)
    relation = fit_harmonization(simulated, degraded, settings.harmonize)
    if settings.harmonize == "auto" and relation.n_pixels < MIN_COMPARED_PX:
        notes.append(f"harmonisation left out: {relation.reason}")
    applied = laid.shift_msi_px(*fine)
    return Comparison(
        laid, shift, applied if fine != (0.0, 0.0) else (0.0, 0.0), simulated, degraded, relation, tuple(notes)
    )


def _coregister(
    laid: Overlay, simulated: np.ndarray, settings: ComparisonSettings, notes: list[str]
) -> tuple[ShiftEstimate | None, tuple[float, float]]:
    """Return the estimate, and the shift in fine pixels that is applied."""
    if settings.coregister == "off":
        return None, (0.0, 0.0)
    if isinstance(settings.coregister, tuple):
        return None, laid.fine_shift(*settings.coregister)
    shift = estimate(laid, simulated)
    if not shift.reliable:
        text = f"co-registration is not trustworthy: {shift.reason}; no shift is applied"
        if settings.strict:
            raise TrustError(text + ". Pass --coregister off, or a known shift DY,DX.")
        notes.append(text)
        return shift, (0.0, 0.0)
    if settings.coregister == "report":
        return shift, (0.0, 0.0)
    return shift, (shift.dy, shift.dx)


def estimate(laid: Overlay, simulated: np.ndarray) -> ShiftEstimate:
    """Estimate the residual shift from the windows that speak most clearly."""
    windows = [
        (
            simulated[:, w.y : w.y + w.height, w.x : w.x + w.width],
            laid.read(w.y, w.x, w.height, w.width, MARGIN_LR),
        )
        for w in choose_windows(simulated)
    ]
    return estimate_shift_from_windows(windows, laid.ratio, MARGIN_LR)


def _blur(shift: ShiftEstimate, ratio: int) -> tuple[float, float]:
    """Return the blur found, or that of a Gaussian of one LR pixel's FWHM if none was."""
    found = (shift.blur_sigma_y, shift.blur_sigma_x)
    return found if np.isfinite(found).all() else (0.35 * ratio, 0.35 * ratio)


def simulate_msi(hsi: xr.DataArray, laid: Overlay, spectra: SpectralPlan) -> np.ndarray:
    """Apply the SRF to the overlay's part of the HSI: (c, h, w), NaN where any good band is invalid."""
    positions = np.asarray(spectra.hsi_bands)[list(spectra.good)]
    part = hsi.data[:, laid.rows, laid.cols]
    out = np.empty((len(spectra.msi_names), *part.shape[1:]), np.float32)
    for rows, cols in blocks_of(part):
        block = window_values(part, rows, cols)
        out[:, rows, cols] = apply_srf(block[positions], spectra.weights.astype(np.float64))
    return out


def degraded_msi(laid: Overlay, fine_shift: tuple[float, float], blur_sigma_px: tuple[float, float]) -> np.ndarray:
    """Degrade the MSI to the overlay's grid at a shift and blur, strip by strip: (c, h, w)."""
    height, width = laid.grid.shape
    across = (width + 2 * MARGIN_LR) * laid.ratio
    strip = int(max(1, min(height, STRIP_PX // (across * laid.ratio) - 2 * MARGIN_LR)))
    out = np.empty((laid.msi.shape[0], height, width), np.float32)
    for row in range(0, height, strip):
        rows = min(strip, height - row)
        fine = laid.read(row, 0, rows, width, MARGIN_LR)
        out[:, row : row + rows] = degrade_msi(fine, laid.ratio, MARGIN_LR, fine_shift, blur_sigma_px)
    return out


def contrast_ratio(comparison: Comparison) -> np.ndarray:
    """Return how much more contrasted the fine MSI is than the simulated one: (c,) ratio of standard deviations."""
    laid, simulated = comparison.overlay, comparison.simulated
    fine, coarse = [], []
    for w in choose_windows(simulated):
        values = comparison.harmonization.apply(laid.read(w.y, w.x, w.height, w.width, 0))
        part = simulated[:, w.y : w.y + w.height, w.x : w.x + w.width]
        fine.append(values.reshape(len(values), -1))
        coarse.append(part.reshape(len(part), -1))
    spread = [np.nanstd(np.concatenate(parts, axis=1), axis=1) for parts in (fine, coarse)]
    return np.asarray(spread[0] / np.maximum(spread[1], 1e-12))
