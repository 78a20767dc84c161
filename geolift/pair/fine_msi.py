"""What the MSI is like at its own pixels, where the scene tells most: contrast and noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from geolift.datamodel.cube import window_values
from geolift.pair.band_alignment import lost_by_moving
from geolift.pair.comparison import Comparison
from geolift.pair.coregistration import affordable_windows, choose_windows, middles
from geolift.pair.robust import mad_sigma
from geolift.pair.scene_pair import ScenePair
from geolift.training.noise import least_noise

LOOKED_AT_PX = 2_000_000
"""Fine pixels that are read, about."""

NOISE_PX = 100_000
"""Fine pixels that the noise is looked for in: with ten bands 0.1 GB and about a second."""


@dataclass(frozen=True, eq=False)
class FineMSI:
    """What the harmonised MSI is like at its own pixels, where the scene tells most.

    Parameters
    ----------
    contrast
        (c,) its standard deviation over that of the simulated MSI.
    noise
        (c,) standard deviation of its noise.
    """

    contrast: np.ndarray
    noise: np.ndarray


def look_at_fine_msi(comparison: Comparison) -> FineMSI | None:
    """Read the scene's most telling windows of the MSI at full resolution; None where no pixel is valid in both."""
    if comparison.harmonization.n_pixels == 0:
        return None
    # as the MSI has it: what is resampled has less noise
    overlap, simulated = replace(comparison.overlay, wandering=None), comparison.simulated
    both = np.where(np.isfinite(comparison.degraded).all(axis=0), simulated, np.float32(np.nan))
    windows = middles(choose_windows(both, *affordable_windows(overlap.ratio, 0)), overlap.ratio, LOOKED_AT_PX)
    coarse = [simulated[:, w.y : w.y + w.height, w.x : w.x + w.width] for w in windows]
    as_read = [overlap.read(w.y, w.x, w.height, w.width, 0) for w in windows]
    fine = [comparison.harmonization.apply(window) for window in as_read]
    of_coarse, of_fine = (
        np.nanstd(np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1), axis=1)
        for parts in (coarse, fine)
    )
    noise = _noise(comparison, _middles(fine))
    bands = None if comparison.geometry is None else comparison.geometry.bands
    sharpened = None if comparison.adjustment is None else comparison.adjustment.coarse
    if sharpened is not None:
        noise = np.hypot(noise, np.abs(np.diag(comparison.harmonization.matrix)) * sharpened.missing)
    if bands is not None:
        noise = np.hypot(noise, lost_by_moving(as_read, bands.apart_px, comparison.harmonization.apply))
    return FineMSI(of_fine / np.maximum(of_coarse, 1e-12), noise)


def _middles(windows: list[np.ndarray]) -> list[np.ndarray]:
    """Cut windows (c, y, x) to what is enough to tell their noise from."""
    edge = int(np.sqrt(NOISE_PX / len(windows)))
    return [
        window[:, max(0, rows - edge) // 2 : (rows + edge) // 2, max(0, cols - edge) // 2 : (cols + edge) // 2]
        for window in windows
        for rows, cols in [window.shape[1:]]
    ]


def telling_window(pair: ScenePair, comparison: Comparison, side_px: int) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Return the good bands (C, y, x) of the HSI where the overlap has most to tell, and where in the overlay that is.

    All of a small overlap.
    """
    overlap = comparison.overlay
    (window,) = choose_windows(comparison.simulated, side_px, 1)
    place = slice(window.y, window.y + window.height), slice(window.x, window.x + window.width)
    rows = slice(overlap.rows.start + window.y, overlap.rows.start + window.y + window.height)
    cols = slice(overlap.cols.start + window.x, overlap.cols.start + window.x + window.width)
    return np.asarray(window_values(pair.hsi.data, rows, cols)[pair.learned_bands], np.float32), place


def _noise(comparison: Comparison, fine: list[np.ndarray]) -> np.ndarray:
    """Estimate the noise (c,) of the harmonised MSI from windows (c, y, x) of it.

    Flat and explained blocks tell it (`least_noise`); it is bounded from above by what the degraded MSI leaves of
    the simulated one, times the root of the number of pixels averaged (4 π times the variance of the whole kernel).
    """
    quiet = least_noise(fine)
    left = comparison.simulated - comparison.harmonization.apply(comparison.degraded)
    valid = np.isfinite(left).all(axis=0)
    if not valid.any():
        return np.asarray(quiet)
    variance = np.square(comparison.blur_sigma_px) + (comparison.overlay.ratio**2 - 1) / 12.0
    averaged = max(1.0, 4.0 * np.pi * float(np.sqrt(variance.prod())))
    return np.asarray(np.minimum(quiet, mad_sigma(left[:, valid].astype(np.float64), axis=1) * np.sqrt(averaged)))
