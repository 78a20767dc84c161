"""Bands of an MSI that lie apart: each band's own shift against the HSI, and whether the bands themselves agree.

A band of the MSI may lie apart from the others, or a band of the HSI may (keystone). Both look alike on the HSI's
pixels. The MSI's own pixels decide: set right, its bands predict each other better; moved the other way, worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geolift.degradation.sampling import FloatArray
from geolift.pair.band_alignment import move_band
from geolift.pair.coregistration.matching import Patch
from geolift.pair.coregistration.shift_fit import band_votes, combine_votes, fit_place

DoubleArray = NDArray[np.float64]
Votes = tuple[DoubleArray, DoubleArray]

LEAST_APART_PX, LEAST_SIGMAS = 0.08, 2.0
"""A band may lie apart if its vote does by so much and by so many of its errors; the MSI's own pixels then decide."""

COMMON_SIGMAS = 3.0
"""The bands' mean place is the HSI's own, if it lies within so many errors of it that their scatter leaves."""

LEAST_NATS = 0.01
"""Log determinant of the bands' correlation, per band, by which alignment must make them predict each other better."""

KEYSTONE_LR, KEYSTONE_SIGMAS = 0.05, 5.0
"""Bands of the HSI lie apart by wavelength from so many of its pixels on, between the MSI's first and last band, and
from so many errors."""

FEWEST_BANDS, LEAST_SIGMA_PX = 3, 0.01

SAMPLE_PX = 128
"""Edge of the middle of a window in which the bands are held against each other, in fine pixels."""


@dataclass(frozen=True, eq=False)
class BandShifts:
    """Where the bands of an MSI lie.

    Parameters
    ----------
    common_px
        (dy, dx) in fine pixels: the motion that brings the HSI onto the bands' common place.
    apart_px
        (c, 2) of each band beside that; zero where it is not known well enough.
    """

    common_px: tuple[float, float]
    apart_px: DoubleArray

    def scaled(self, factor: float) -> BandShifts:
        """Return them in pixels that are smaller by a factor."""
        dy, dx = self.common_px
        return BandShifts((dy * factor, dx * factor), self.apart_px * factor)

    @property
    def largest_px(self) -> float:
        """Largest distance of a band from the common place."""
        return float(np.hypot(*self.apart_px.T).max())


@dataclass(frozen=True)
class Keystone:
    """Bands of the HSI that lie apart along an axis (0: y, 1: x) in proportion to their wavelength.

    ``span_lr`` is how far the band at ``last_nm`` lies beyond that at ``first_nm``, in HSI pixels.
    """

    axis: int
    span_lr: float
    first_nm: float
    last_nm: float


def tell_bands(
    windows: Sequence[tuple[FloatArray, FloatArray]], ratio: int, margin: int, place: DoubleArray
) -> Votes | None:
    """Votes (c, 2) of the bands on their shift and their errors; None of fewer than three, or where none is known."""
    count, reach = len(windows[0][0]), _reach(place, ratio)
    if count < FEWEST_BANDS:
        return None
    return band_votes([Patch(low, fine, range(count), ratio, margin, reach) for low, fine in windows], place)


def find_keystone(told: Votes, wavelength_nm: DoubleArray, ratio: int) -> Keystone | None:
    """Tell whether bands that the MSI's own pixels do not move lie apart by their wavelength.

    ``told``: votes and errors (c, 2) in fine pixels. ``wavelength_nm``: (c,) centres of the MSI's bands.
    """
    first, last = float(wavelength_nm.min()), float(wavelength_nm.max())
    if len(wavelength_nm) <= FEWEST_BANDS or last <= first:
        return None
    table = np.stack([np.ones_like(wavelength_nm), (wavelength_nm - first) / (last - first)])
    found = None
    for axis, (votes, sigmas) in enumerate(zip(told[0].T, told[1].T, strict=True)):
        weights = 1.0 / np.square(np.maximum(sigmas, LEAST_SIGMA_PX))
        inverse = np.linalg.inv((weights * table) @ table.T)
        line = inverse @ (weights * table) @ votes
        excess = (weights * np.square(votes - line @ table)).sum() / (len(votes) - 2)
        error = float(np.sqrt(inverse[1, 1] * max(1.0, excess)))
        span = float(line[1])
        if abs(span) > max(KEYSTONE_LR * ratio, KEYSTONE_SIGMAS * error):
            found = Keystone(axis, -span / ratio, first, last)  # the vote is what brings it back
    return found


def find_band_shifts(
    windows: Sequence[tuple[FloatArray, FloatArray]],
    ratio: int,
    margin: int,
    place: DoubleArray,
    told: Votes | None = None,
) -> BandShifts | None:
    """Tell how far the bands lie apart; None where they do not, or where it is not the MSI's bands that do.

    Parameters
    ----------
    windows
        Pairs of the simulated MSI (c, h, w) and the fine MSI (c, (h + 2 margin) ratio, …) around it.
    place
        (4,) shift dy, dx and variances along y and x that all bands together ask for, in fine pixels.
    told
        What `tell_bands` says of them, if that is known.
    """
    count, reach = len(windows[0][0]), _reach(place, ratio)
    if told is None:
        told = tell_bands(windows, ratio, margin, place)
    if told is None or not _apart(*told).any():
        return None
    votes, sigmas = (np.full((count, 2), np.nan) for _ in range(2))
    for band in range(count):
        single = [Patch(low, fine, [band], ratio, margin, reach) for low, fine in windows]
        fit = fit_place(single, (float(place[0]), float(place[1])))
        if fit is not None and fit.converged:
            votes[band], sigmas[band] = fit.place[:2], fit.vote_sigma_px[0]
    known = np.isfinite(votes).all(axis=1)
    if known.sum() < FEWEST_BANDS or not _apart(votes[known], sigmas[known]).any():
        return None
    common = _common(votes[known], sigmas[known])
    apart = np.zeros((count, 2))
    apart[known] = _shrunk(votes[known] - common, sigmas[known])
    if not _agree_better([fine for _, fine in windows], apart):
        return None
    return BandShifts((float(common[0]), float(common[1])), apart)


def _reach(place: DoubleArray, ratio: int) -> float:
    """Fine pixels by which bands may lie away."""
    return float(np.abs(place[:2]).max()) + ratio


def _apart(votes: DoubleArray, sigmas: DoubleArray) -> NDArray[np.bool_]:
    """Which bands (c,) lie apart from the others."""
    away = np.abs(votes - np.median(votes, axis=0))
    return np.asarray(((away > LEAST_APART_PX) & (away > LEAST_SIGMAS * sigmas)).any(axis=1))


def _common(votes: DoubleArray, sigmas: DoubleArray) -> DoubleArray:
    """The bands' mean place; the HSI's own, where the scatter of the bands allows for it."""
    mean, added = combine_votes(votes, sigmas)
    error = np.sqrt(added + 1.0 / (1.0 / np.maximum(sigmas, 1e-3) ** 2).sum(axis=0))
    return np.zeros(2) if (np.abs(mean) < COMMON_SIGMAS * error).all() else mean


def _shrunk(apart: DoubleArray, sigmas: DoubleArray) -> DoubleArray:
    """Draw uncertain votes to the common place, by how far the others lie from it."""
    spread = np.maximum(np.median(np.square(apart), axis=0) / 0.455, 1e-6)  # 0.455: median of a χ² of one freedom
    return np.asarray(apart * spread / (spread + np.square(sigmas)))


def _agree_better(fine: Sequence[FloatArray], apart: DoubleArray) -> bool:
    """Tell whether the bands predict each other better once moved, than as they are and than moved the other way."""
    as_is, moved, opposite = (_disagreement(fine, sign * apart) for sign in (0.0, 1.0, -1.0))
    return moved + LEAST_NATS < min(as_is, opposite)


def _disagreement(fine: Sequence[FloatArray], shifts: DoubleArray) -> float:
    """Half the log determinant of the correlation of the bands' fine detail, per band."""
    details = []
    for image in fine:
        rows, cols = image.shape[1:]
        top, left = max(0, rows - SAMPLE_PX) // 2, max(0, cols - SAMPLE_PX) // 2
        part = image[:, top : top + SAMPLE_PX, left : left + SAMPLE_PX]
        moved = np.stack([move_band(b, *map(float, s)) if s.any() else b for b, s in zip(part, shifts, strict=True)])
        down, across = np.diff(moved, axis=1)[:, :, :-1], np.diff(moved, axis=2)[:, :-1]
        both = np.concatenate([down.reshape(len(part), -1), across.reshape(len(part), -1)], axis=1)
        details.append(both[:, np.isfinite(both).all(axis=0)])
    detail = np.concatenate(details, axis=1).astype(np.float64)
    if detail.shape[1] < 10 * len(detail):
        return 0.0
    scale = np.maximum(np.median(np.abs(detail), axis=1, keepdims=True), 1e-12)
    clipped = np.clip(detail / scale, -6.0, 6.0)  # edges of clouds and of what moved are not to decide
    correlation = np.corrcoef(clipped) + 1e-6 * np.eye(len(detail))
    return float(0.5 * np.linalg.slogdet(correlation)[1] / len(detail))
