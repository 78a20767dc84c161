"""Where the two images lie on each other: one shift, bands that lie apart, and a shift that wanders over the scene."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geolift.pair.adjustment import MsiAdjustment, adjusted_pair
from geolift.pair.coregistration import (
    ShiftEstimate,
    Window,
    affordable_windows,
    choose_windows,
    estimate_shift_by_windows,
)
from geolift.pair.coregistration.band_shift import BandShifts, Keystone, find_band_shifts, find_keystone, tell_bands
from geolift.pair.coregistration.shift_field import Evidence, WanderingShift, find_evidence, find_wandering
from geolift.pair.held import hold_again
from geolift.pair.overlay import Overlay
from geolift.pair.scene_pair import ScenePair

DoubleArray = NDArray[np.float64]

MARGIN_LR = 8
"""LR pixels read around each window: the largest shift looked for, and the reach of the blur."""

TILE_LR, WHOLE_LR_PX = 64, 7040
"""Edge of the pieces in which a scene is looked at, and LR pixels up to which it is looked at whole at once."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """How the images lie on each other.

    Parameters
    ----------
    overlap
        The overlay, its MSI set right.
    shift
        The scene's one shift, as estimated in the end.
    fine_shift_px
        (dy, dx) of it, in fine pixels.
    bands
        Where the MSI's bands lie apart; None where they do not.
    wandering
        How the shift differs over the scene, places counted on the overlay's LR grid; None where it does not.
    keystone
        How the HSI's bands lie apart; None where they do not.
    """

    overlap: Overlay
    shift: ShiftEstimate
    fine_shift_px: tuple[float, float]
    bands: BandShifts | None = None
    wandering: WanderingShift | None = None
    keystone: Keystone | None = None

    @property
    def finest(self) -> Geometry:
        """The same in fine pixels of the MSI."""
        px, (dy, dx) = self.overlap.px, self.fine_shift_px
        return replace(
            self,
            overlap=self.overlap.finest,
            shift=self.shift.scaled(px),
            fine_shift_px=(dy * px, dx * px),
            bands=None if self.bands is None else self.bands.scaled(px),
            wandering=None if self.wandering is None else self.wandering.scaled(px),
        )

    @property
    def band_shifts_px(self) -> DoubleArray | None:
        """(c, 2) of the bands in MSI pixels; None where they do not lie apart."""
        if self.bands is None:
            return None
        return np.array([self.overlap.shift_msi_px(float(dy), float(dx)) for dy, dx in self.bands.apart_px])

    @property
    def wandering_px(self) -> float:
        """How far the shift wanders from the scene's one, at most, in fine pixels."""
        return 0.0 if self.wandering is None else self.wandering.largest_px

    @property
    def apart_px(self) -> tuple[float, float]:
        """By how much (y, x) the outermost bands of the HSI lie off their mean place, in fine pixels."""
        if self.keystone is None:
            return 0.0, 0.0
        span = 0.5 * self.keystone.span_lr * self.overlap.ratio
        return (span, 0.0) if self.keystone.axis == 0 else (0.0, span)


def settle_geometry(pair: ScenePair, overlap: Overlay, simulated: np.ndarray, shift: ShiftEstimate) -> Geometry:
    """Set bands right that lie apart, and find how the shift wanders, beginning with the scene's one shift."""
    settled = _with_bands(pair, Geometry(overlap, shift, (shift.dy, shift.dx)), simulated)
    wandering = _wandering(settled, simulated)
    if wandering is None:
        return settled
    overlap = with_wandering(settled.overlap, wandering, settled.fine_shift_px)
    settled = replace(_estimated(settled, overlap, simulated), wandering=wandering)
    return _with_bands(pair, settled, simulated)  # what wanders blurred what the bands said


def _with_bands(pair: ScenePair, settled: Geometry, simulated: np.ndarray) -> Geometry:
    """Set the bands right that lie apart, beside what was set right already."""
    overlap, place = settled.overlap, _place(settled.shift)
    look = _windows(overlap, simulated), overlap.ratio, MARGIN_LR, place
    told = tell_bands(*look)
    found = None if told is None else find_band_shifts(*look, told)
    if told is None or found is None:
        return (
            settled if told is None else replace(settled, keystone=find_keystone(told, _centres(pair), overlap.ratio))
        )
    if settled.bands is not None:
        found = replace(found, apart_px=found.apart_px + settled.bands.apart_px)
    settled = replace(settled, bands=found)
    adjustment = MsiAdjustment(pair.hsi_grid, settled.band_shifts_px)
    return _estimated(settled, hold_again(replace(overlap, msi=adjusted_pair(pair, adjustment).used_msi)), simulated)


def _centres(pair: ScenePair) -> DoubleArray:
    """Centres (c,) of the MSI's bands as the HSI's make them up, in nm."""
    spectra = pair.spectra
    return np.asarray(spectra.weights @ spectra.bands.wavelength_nm[list(spectra.good)], np.float64)


def with_wandering(overlap: Overlay, wandering: WanderingShift, fine_shift_px: tuple[float, float]) -> Overlay:
    """Return an overlay that undoes a wandering shift where the MSI has it."""
    dy, dx = (shift / overlap.ratio for shift in fine_shift_px)
    return replace(overlap, wandering=wandering.moved(dy, dx))


def _estimated(settled: Geometry, overlap: Overlay, simulated: np.ndarray) -> Geometry:
    """Estimate shift and blur once more; the place stays, if that was told by the bands together."""
    shift = estimate_shift_by_windows(simulated, lambda w: _read(overlap, w), overlap.ratio, MARGIN_LR, px=overlap.px)
    if not shift.reliable:
        shift = settled.shift
    place = (shift.dy, shift.dx) if settled.bands is None else settled.bands.common_px
    return replace(settled, overlap=overlap, shift=replace(shift, dy=place[0], dx=place[1]), fine_shift_px=place)


def _place(shift: ShiftEstimate) -> DoubleArray:
    return np.array([shift.dy, shift.dx, shift.blur_sigma_y**2, shift.blur_sigma_x**2])


def _read(overlap: Overlay, window: Window) -> np.ndarray:
    return overlap.read(window.y, window.x, window.height, window.width, MARGIN_LR)


def _windows(overlap: Overlay, simulated: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    chosen = choose_windows(simulated, *affordable_windows(overlap.ratio, MARGIN_LR))
    return [(_cut(simulated, w), _read(overlap, w)) for w in chosen]


def _cut(image: np.ndarray, window: Window) -> np.ndarray:
    return image[:, window.y : window.y + window.height, window.x : window.x + window.width]


def _wandering(settled: Geometry, simulated: np.ndarray) -> WanderingShift | None:
    """Look at the whole scene, of a large one only if one of the windows that stand for it shows something."""
    height, width = simulated.shape[1:]
    whole = [Window(0, 0, height, width)]
    ratio = settled.overlap.ratio
    side, count = affordable_windows(ratio, MARGIN_LR)
    if height * width > min(WHOLE_LR_PX, 1.1 * count * side * side):
        chosen = choose_windows(simulated, side, count)
        told = (_look(settled, simulated, [window], window, None) for window in chosen)
        if all(evidence is None or evidence.best_reach() is None for evidence in told):
            return None
        edge = min(TILE_LR, side)
        whole = [
            Window(y, x, min(edge, height - y), min(edge, width - x))
            for y in range(0, height, edge)
            for x in range(0, width, edge)
        ]
    frame = Window(0, 0, height, width)
    return find_wandering(lambda wandering: _look(settled, simulated, whole, frame, wandering))


def _look(
    settled: Geometry, simulated: np.ndarray, tiles: list[Window], frame: Window, wandering: WanderingShift | None
) -> Evidence | None:
    """Put the evidence of tiles together on a frame."""
    overlap = (
        settled.overlap if wandering is None else with_wandering(settled.overlap, wandering, settled.fine_shift_px)
    )
    images = np.zeros((6, frame.height, frame.width))
    for tile in tiles:
        evidence = find_evidence(
            _cut(simulated, tile), _read(overlap, tile), overlap.ratio, MARGIN_LR, _place(settled.shift)
        )
        if evidence is not None:
            rows = slice(tile.y - frame.y, tile.y - frame.y + tile.height)
            cols = slice(tile.x - frame.x, tile.x - frame.x + tile.width)
            images[:2, rows, cols], images[2:5, rows, cols] = evidence.gradient, evidence.curvature
            images[5, rows, cols] = evidence.misfit
    return Evidence(images[:2], images[2:5], images[5]) if images[5].any() else None
