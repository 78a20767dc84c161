"""What the two sensors say of each other: residual shift, radiometric relation, likely mistakes.

The MSI degraded to the HSI's pixels is held against the MSI simulated from the HSI with the SRF.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geolift.datamodel.alignment import bounds_in, window_of
from geolift.datamodel.cube import blocks_of, window_values
from geolift.degradation.degrade import apply_srf
from geolift.errors import TrustError
from geolift.pair.adjustment import MsiAdjustment, adjusted_pair
from geolift.pair.coarse_bands import View, find_coarse_bands
from geolift.pair.coregistration import (
    NEAR_LR,
    NEAR_PX,
    ShiftEstimate,
    Window,
    affordable_windows,
    choose_windows,
    estimate_shift_by_windows,
    middles,
)
from geolift.pair.coregistration.local_shift import ShiftField, ShiftFieldDocument, estimate_local_shifts
from geolift.pair.degraded import degrade_along, degrade_by_rows, degrade_overlay
from geolift.pair.geometry import MARGIN_LR, Geometry, settle_geometry
from geolift.pair.harmonization import Harmonization, fit_harmonization
from geolift.pair.held import compared_ratio, hold
from geolift.pair.overlay import Overlay, overlay
from geolift.pair.robust import outlier_pixels
from geolift.pair.saturation import Saturation, find_saturation
from geolift.pair.scene_pair import ScenePair
from geolift.runtime.scratch import scratch_folder
from geolift.settings import ComparisonSettings

MIN_COMPARED_PX = 12

LEAST_SATURATED = 0.01
"""Part of an HSI pixel that is saturated from which on it takes no part in the fits."""

FIELD_BLOCK_LR = 8
"""Edge of the blocks within which a field of shifts counts as one shift, in LR pixels."""

SAMPLED_PX = 300_000
"""Fine pixels in which the largest values of an MSI are looked for that is then averaged, about."""

MOSTLY, CLEARLY = 0.6, 0.5
"""With fewer of the pixels used, the estimate is made anew without outliers; so much disagreement may then be left."""

VIEW_PX = 128
"""Edge of the windows in which coarse bands are looked for, in MSI pixels."""

TYPICAL_BLUR_LR = 0.425
"""Sigma of a Gaussian whose FWHM is one LR pixel, in LR pixels."""


class Motion(TypedDict):
    """A motion, +dy down, +dx right."""

    dy: float
    dx: float


class ShiftDocument(TypedDict, total=False):
    """What `geolift coregister --json` prints; ``shift_msi_px`` in MSI pixels, ``confidence`` 0 to 1."""

    shift_msi_px: Motion
    shift_m: Motion
    confidence: float
    applied: bool
    sigma_dy: float
    sigma_dx: float
    reliable: bool
    reason: str
    local: ShiftFieldDocument
    output: str


@dataclass(frozen=True, eq=False, kw_only=True)
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
    blur_sigma_px
        Blur (y, x) of the HSI beside its pixel's average, in fine pixels, with which the MSI was degraded.
    located
        Whether shift and blur were found with confidence, applied or not.
    harmonization
        The relation applied to the MSI before inference.
    warnings
        Sentences for the user.
    field
        How the shift varies over the overlay, in fine pixels; None if it was not looked for. Followed, instead of
        ``applied_px``, under ``--coregister local``.
    adjustment
        What sets the MSI right before the relation; `set_right` applies it.
    geometry
        Bands that lie apart, and how the shift wanders; None if they were not looked for.
    saturation, saturated
        Where the MSI's bands end, and the HSI pixels (h, w) of the overlay that see such pixels; None where none does.
    """

    overlay: Overlay
    shift: ShiftEstimate | None
    applied_px: tuple[float, float]
    simulated: np.ndarray
    degraded: np.ndarray
    blur_sigma_px: tuple[float, float]
    located: bool
    harmonization: Harmonization
    warnings: tuple[str, ...]
    field: ShiftField | None = None
    adjustment: MsiAdjustment | None = None
    geometry: Geometry | None = None
    saturation: Saturation | None = None
    saturated: NDArray[np.bool_] | None = None

    def set_right(self, pair: ScenePair) -> ScenePair:
        """Return the pair with the MSI as it was compared in the end."""
        return pair if self.adjustment is None else adjusted_pair(pair, self.adjustment)

    def shift_json(self) -> ShiftDocument:
        """Return the stable document of `geolift coregister --json`."""
        fine = (0.0, 0.0) if self.shift is None else (self.shift.dy, self.shift.dx)
        applied = self.applied_px != (0.0, 0.0)
        dy, dx = self.overlay.shift_msi_px(*fine) if self.shift is not None else self.applied_px
        move_x, move_y = self.overlay.shift_units(*self.overlay.fine_shift(dy, dx))
        document: ShiftDocument = {
            "shift_msi_px": {"dy": dy, "dx": dx},
            "shift_m": {"dy": -move_y, "dx": move_x},
            "confidence": 1.0 if self.shift is None else self.shift.confidence,
            "applied": applied,
        }
        if self.shift is not None:
            facts = asdict(self.shift)
            document |= cast(ShiftDocument, {key: facts[key] for key in facts if key not in ("dy", "dx", "confidence")})
        if self.shift is not None and self.field is not None:
            document["local"] = self.field.to_json(self.shift)
        return document

    def harmonization_json(self) -> dict[str, object]:
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
            **relation.shape_json(),
        }


def compare(
    pair: ScenePair, settings: ComparisonSettings, *, look_for_variation: bool = False, folder: Path | None = None
) -> Comparison | None:
    """Compare the sensors where they overlap; None if no HSI pixel lies under the MSI.

    Raises TrustError under ``strict``, if the shift found cannot be trusted.

    ``look_for_variation``: also tell how the shift varies over the scene where it is not to be followed; takes several
    times as long. ``folder``: where the MSI is held meanwhile; None = where the system has temporary files.
    """
    overlap = overlay(pair.hsi, pair.used_msi, pair.region.ratio)
    if overlap is None:
        return None
    simulated = simulate_msi(pair, overlap)
    given, coarse = pair, find_coarse_bands(_views(pair, overlap))
    if coarse is not None:
        pair = adjusted_pair(pair, MsiAdjustment(pair.hsi_grid, coarse=coarse))
        overlap = replace(overlap, msi=pair.used_msi)
    with scratch_folder(folder) as held_in:
        overlap, saturation = _held(overlap, simulated, held_in)
        found = _compared(pair, overlap, simulated, saturation, settings, look_for_variation)
    adjustment = found.adjustment
    if adjustment is not None and coarse is not None:
        adjustment = replace(adjustment, coarse=coarse)
    # from here on all is told in the MSI's own pixels, and read from its image
    px, (blur_y, blur_x) = overlap.px, found.blur_sigma_px
    overlap = found.overlay.finest
    if adjustment is not None and adjustment.local is not None:
        overlap = replace(overlap, msi=adjusted_pair(given, adjustment).used_msi)
    return replace(
        found,
        overlay=overlap,
        shift=None if found.shift is None else found.shift.scaled(px),
        blur_sigma_px=(blur_y * px, blur_x * px),
        field=None if found.field is None else found.field.scaled(px),
        geometry=None if found.geometry is None else found.geometry.finest,
        adjustment=adjustment,
    )


def _held(overlap: Overlay, simulated: np.ndarray, folder: Path) -> tuple[Overlay, Saturation]:
    """Read the MSI once, and find where it is saturated: before it is averaged, if it is."""
    if compared_ratio(overlap.ratio) == overlap.ratio:
        overlap = hold(overlap, folder)
        return overlap, find_saturation(_sample(overlap, simulated))
    saturation = find_saturation(_sample(overlap, simulated))
    return hold(overlap, folder, saturation), saturation


def _compared(
    pair: ScenePair,
    overlap: Overlay,
    simulated: np.ndarray,
    saturation: Saturation,
    settings: ComparisonSettings,
    look_for_variation: bool,
) -> Comparison:
    """Compare the sensors where the MSI is held."""
    notes: list[str] = []
    # The blur is needed whatever becomes of the shift: a sharper MSI would pass for a radiometric difference.
    found, common = _estimate(overlap, simulated)
    shift, fine = _coregister(overlap, found, settings, notes)
    follow, field, geometry = settings.coregister == "local", None, None
    if shift is not None and shift.reliable and (follow or look_for_variation):
        field = _field(overlap, simulated, shift, follow, notes)
    if shift is not None and shift.reliable and settings.coregister in ("auto", "local"):
        geometry = settle_geometry(pair, overlap, common, shift)
        overlap, shift, found, fine = geometry.overlap, geometry.shift, geometry.shift, geometry.fine_shift_px
    blur = _blur(found, overlap.ratio)
    undone = geometry is not None and geometry.wandering is not None
    degraded = degraded_msi(overlap, fine, blur, field if follow and not undone else None)
    suspect = _saturated(overlap, saturation, fine, blur) if saturation.found else None
    relation = fit_harmonization(simulated, degraded, settings.harmonize, suspect)
    if relation.local is not None:
        rows, cols = (np.arange(size, dtype=np.float64) for size in degraded.shape[1:])
        degraded = relation.local.apply(degraded, rows[:, None], cols[None])
    if settings.harmonize == "auto" and relation.n_pixels < MIN_COMPARED_PX:
        notes.append(f"harmonisation left out: {relation.reason}")
    applied = (0.0, 0.0) if fine == (0.0, 0.0) else overlap.shift_msi_px(*fine)
    return Comparison(
        overlay=overlap,
        shift=shift,
        applied_px=applied,
        simulated=simulated,
        degraded=degraded,
        blur_sigma_px=blur,
        located=found.reliable,
        harmonization=relation,
        warnings=tuple(notes),
        field=field,
        adjustment=_adjustment(pair, overlap, geometry, fine, relation),
        geometry=geometry, saturation=saturation, saturated=suspect,
    )  # fmt: skip


def _estimate(overlap: Overlay, simulated: np.ndarray) -> tuple[ShiftEstimate, np.ndarray]:
    """Estimate shift and blur, without outliers where these may be most: with the simulated MSI, NaN where left out."""
    found = estimate(overlap, simulated)
    if not found.reliable or found.usable_fraction > MOSTLY * np.isfinite(simulated).all(axis=0).mean():
        return found, simulated
    usual = TYPICAL_BLUR_LR * overlap.ratio
    degraded = degraded_msi(overlap, (found.dy, found.dx), (usual, usual))
    outliers = ndimage.binary_dilation(outlier_pixels(simulated, degraded, few=True), np.ones((3, 3)))
    common = np.where(outliers, np.float32(np.nan), simulated)
    again = estimate(overlap, common)
    better = 1 - again.agreement_after < CLEARLY * (1 - found.agreement_after)
    return (again, common) if better and again.confidence >= found.confidence else (found, simulated)


def _views(pair: ScenePair, overlap: Overlay) -> list[View]:
    """Windows of the used MSI, as delivered, spread over the overlay."""
    data, grid = pair.used_msi.data, pair.msi_grid
    window = window_of(grid, bounds_in(overlap.grid, grid.crs))
    if window is None:
        return []
    parts = []
    for part in window:
        size = part.stop - part.start
        firsts = [0] if size <= 2 * VIEW_PX else [size // 4 - VIEW_PX // 2, 3 * size // 4 - VIEW_PX // 2]
        parts.append(
            [slice(part.start + f, part.start + min(size, f + (VIEW_PX if len(firsts) > 1 else size))) for f in firsts]
        )
    return [(window_values(data, r, c), r.start, c.start) for r in parts[0] for c in parts[1]]


def _saturated(
    overlap: Overlay, saturation: Saturation, fine_shift: tuple[float, float], blur: tuple[float, float]
) -> np.ndarray:
    """Tell which HSI pixels (h, w) see saturated MSI pixels."""
    if overlap.held is not None and overlap.held.saturation is not None:
        share = degrade_overlay(replace(overlap, held=overlap.held.saturated), fine_shift, blur)[0]
        return np.asarray(share > LEAST_SATURATED)

    def read(row: int, col: int, height: int, width: int) -> np.ndarray:
        return saturation.touched(overlap.read(row, col, height, width, 0))

    rows, cols = overlap.grid.shape
    share = degrade_by_rows(read, (int(rows), int(cols)), overlap.ratio, fine_shift, blur)[0]
    return np.asarray(share > LEAST_SATURATED)


def _sample(overlap: Overlay, simulated: np.ndarray) -> np.ndarray:
    """Pixels (c, n) of the MSI under the windows that stand for the scene, as they were read."""
    windows = choose_windows(simulated, *affordable_windows(overlap.ratio, 0))
    if overlap.held is None:
        windows = middles(windows, overlap.ratio, SAMPLED_PX)
    parts = [overlap.read_plain(w.y, w.x, w.height, w.width, 0) for w in windows]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def _adjustment(
    pair: ScenePair,
    overlap: Overlay,
    geometry: Geometry | None,
    fine_shift: tuple[float, float],
    relation: Harmonization,
) -> MsiAdjustment:
    """What sets the MSI right: bands, and the relation's variation, counted on the HSI's grid where the MSI has it."""
    bands = None if geometry is None else geometry.band_shifts_px
    if relation.local is None:
        return MsiAdjustment(pair.hsi_grid, bands)
    dy, dx = (shift / overlap.ratio for shift in fine_shift)
    return MsiAdjustment(pair.hsi_grid, bands, relation.local.shifted(overlap.rows.start + dy, overlap.cols.start + dx))


def _coregister(
    overlap: Overlay, shift: ShiftEstimate, settings: ComparisonSettings, notes: list[str]
) -> tuple[ShiftEstimate | None, tuple[float, float]]:
    """Return the estimate, and the shift in fine pixels that is applied."""
    if settings.coregister == "off":
        return None, (0.0, 0.0)
    if isinstance(settings.coregister, tuple):
        return None, overlap.fine_shift(*settings.coregister)
    if not shift.reliable:
        text = f"co-registration is not trustworthy: {shift.reason}; no shift is applied"
        if settings.strict:
            raise TrustError(text + ". Pass --coregister off, or a known shift DY,DX.")
        notes.append(text)
        return shift, (0.0, 0.0)
    if settings.coregister == "report":
        return shift, (0.0, 0.0)
    return shift, (shift.dy, shift.dx)


def estimate(overlap: Overlay, simulated: np.ndarray) -> ShiftEstimate:
    """Estimate the residual shift from the windows that speak most clearly."""
    return estimate_shift_by_windows(simulated, _reader(overlap), overlap.ratio, MARGIN_LR, px=overlap.px)


def _reader(overlap: Overlay) -> Callable[[Window], np.ndarray]:
    return lambda w: overlap.read(w.y, w.x, w.height, w.width, MARGIN_LR)


def _field(overlap: Overlay, simulated: np.ndarray, shift: ShiftEstimate, follow: bool, notes: list[str]) -> ShiftField:
    """Look how the shift varies over the scene; warn where one shift is too far off."""
    field = estimate_local_shifts(simulated, _reader(overlap), overlap.ratio, MARGIN_LR, shift, px=overlap.px)
    largest = field.largest_px(shift) * overlap.px
    if not follow and largest > max(NEAR_PX, NEAR_LR * overlap.finest.ratio):
        notes.append(
            f"the shift varies over the scene, by up to {largest:.1f} MSI pixels ({field.reason}); one shift cannot "
            "correct that. Pass --coregister local to follow it."
        )
    return field


def _blur(shift: ShiftEstimate, ratio: int) -> tuple[float, float]:
    """Return the blur found, or that of a Gaussian of one LR pixel's FWHM if the evidence is weak."""
    found = (shift.blur_sigma_y, shift.blur_sigma_x)
    usual = TYPICAL_BLUR_LR * ratio
    return found if shift.reliable and np.isfinite(found).all() else (usual, usual)


def simulate_msi(pair: ScenePair, overlap: Overlay) -> np.ndarray:
    """Apply the SRF to the overlay's part of the HSI: (c, h, w), NaN where any good band is invalid."""
    part, weights = pair.hsi.data[:, overlap.rows, overlap.cols], pair.spectra.weights.astype(np.float64)
    out = np.empty((len(weights), *part.shape[1:]), np.float32)
    for rows, cols in blocks_of(part):
        block = window_values(part, rows, cols)
        out[:, rows, cols] = apply_srf(block[pair.learned_bands], weights)
    return out


def degraded_msi(
    overlap: Overlay,
    fine_shift: tuple[float, float],
    blur_sigma_px: tuple[float, float],
    field: ShiftField | None = None,
) -> np.ndarray:
    """Degrade the MSI to the overlay's grid at a shift or along a field of them: (c, h, w)."""
    if field is None:
        return degrade_overlay(overlap, fine_shift, blur_sigma_px)
    return degrade_along(overlap, lambda window: _shift_in(field, window), blur_sigma_px, FIELD_BLOCK_LR)


def _shift_in(field: ShiftField, window: Window) -> tuple[float, float]:
    """Return the field's shift at the centre of a window."""
    dy, dx = field.at(np.array(window.y + (window.height - 1) / 2), np.array(window.x + (window.width - 1) / 2))
    return float(dy), float(dx)
