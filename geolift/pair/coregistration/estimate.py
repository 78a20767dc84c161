"""Residual shift between the two sensors, with its error, its confidence and its evidence.

The MSI is degraded to the HSI's pixels and compared with the MSI simulated from the HSI, band by band:
a coarse search by masked correlation finds the place, a robust fit of shift, blur and radiometry
refines it (`matching`, `shift_fit`). The HSI is never resampled.

"Shift" is the motion that brings the HSI onto the MSI, in MSI pixels, +dy down, +dx right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from geolift.degradation.sampling import FloatArray
from geolift.pair.coregistration.matching import Patch, SearchResult, exclude_outliers, remove_local_mean, search_place
from geolift.pair.coregistration.shift_fit import FitResult, fit_place
from geolift.pair.coregistration.verdict import NEAR_LR, NEAR_PX, ShiftEstimate, judge, no_estimate
from geolift.pair.coregistration.windows import (
    WIDE_WINDOW_PX,
    WINDOW_PX,
    Window,
    affordable_windows,
    choose_windows,
    cut_window,
)

MAX_SEARCH_BANDS = 2
MAX_FIT_BANDS = 6

CLEAR_DISTINCTNESS = 2.5
"""The best place is taken without a second look when its score is so many times the next one's."""

CERTAIN_CONFIDENCE = 0.98
"""Below this confidence a large scene is looked at again through wide windows."""


def estimate_shift(
    simulated: FloatArray, msi_fine: FloatArray, ratio: int, margin: int, *, max_shift_px: float | None = None
) -> ShiftEstimate:
    """Estimate the shift that brings the HSI onto the MSI. Raises ValueError if the shapes do not fit each other.

    Parameters
    ----------
    simulated
        (c, h, w) float32: MSI simulated from the HSI on its own grid, NaN = invalid.
    msi_fine
        (c, (h + 2 margin) ratio, (w + 2 margin) ratio) float32 on the nested fine grid, NaN = invalid.
    ratio
        MSI pixels per HSI pixel.
    margin
        HSI pixels by which ``msi_fine`` reaches beyond the HSI on every side.
    max_shift_px
        Search radius in MSI pixels; by default 8 MSI pixels or 4 HSI pixels, whichever is more.
    """
    _check_shapes(simulated, msi_fine, ratio, margin)

    def read(window: Window) -> FloatArray:
        return cut_window(simulated, msi_fine, ratio, margin, window)[1]

    return estimate_shift_by_windows(simulated, read, ratio, margin, max_shift_px=max_shift_px)


def estimate_shift_by_windows(
    simulated: FloatArray,
    read: Callable[[Window], FloatArray],
    ratio: int,
    margin: int,
    *,
    max_shift_px: float | None = None,
    px: float = 1.0,
) -> ShiftEstimate:
    """Estimate the shift of a scene whose fine MSI is read window by window.

    A large scene is judged by four small windows, and by four wide ones where those leave doubt.

    Parameters
    ----------
    read
        Returns the fine MSI under a window and ``margin`` LR pixels around it, NaN where there is none.
    simulated, ratio, margin, max_shift_px
        As in :func:`estimate_shift`.
    px
        MSI pixels along a fine pixel, for what is said.
    """
    found = no_estimate("there are no pixels that are valid in both images")
    seen: tuple[Window, ...] = ()
    for side in (WINDOW_PX, WIDE_WINDOW_PX):
        windows = choose_windows(simulated, *affordable_windows(ratio, margin, side))
        if windows == seen:
            break
        pairs = [(simulated[:, w.y : w.y + w.height, w.x : w.x + w.width], read(w)) for w in windows]
        found = estimate_shift_from_windows(pairs, ratio, margin, max_shift_px=max_shift_px, px=px)
        if found.confidence >= CERTAIN_CONFIDENCE:
            break
        seen = windows
    return found


def _check_shapes(simulated: FloatArray, msi_fine: FloatArray, ratio: int, margin: int) -> None:
    height, width = (n + 2 * margin for n in simulated.shape[-2:])
    if msi_fine.shape != (simulated.shape[0], height * ratio, width * ratio):
        raise ValueError(
            f"msi_fine has shape {msi_fine.shape}; simulated {simulated.shape} with ratio {ratio} and "
            f"margin {margin} needs {(simulated.shape[0], height * ratio, width * ratio)}"
        )


def estimate_shift_from_windows(
    windows: Sequence[tuple[FloatArray, FloatArray]],
    ratio: int,
    margin: int,
    *,
    max_shift_px: float | None = None,
    px: float = 1.0,
) -> ShiftEstimate:
    """Estimate one shift from several windows, pairs of (simulated, msi_fine) as in :func:`estimate_shift`.

    For scenes that are not held in memory: :func:`choose_windows` says which to read.
    """
    search_px = max(8.0, 4.0 * ratio) if max_shift_px is None else float(max_shift_px)
    windows = [(s, m) for s, m in windows if np.isfinite(s).all(axis=0).sum() >= 16]
    bands = rank_bands([s for s, _ in windows])[:MAX_FIT_BANDS] if windows else []
    if windows and not bands:
        return no_estimate("the HSI shows no texture: all its valid pixels are alike")
    patches = [Patch(s, m, bands, ratio, margin, search_px) for s, m in windows]
    patches = [p for p in patches if not p.msi_invalid.all()]
    if not patches:
        return no_estimate("there are no pixels that are valid in both images")
    if not any(p.msi.any() for p in patches):
        return no_estimate("the MSI shows no texture: all its valid pixels are alike")
    found = _search(patches, search_px, min(MAX_SEARCH_BANDS, len(bands)))
    fits = [(start, fit_place(patches, start)) for start in found.peaks_px]
    solid = [(start, fit) for start, fit in fits if fit is not None and np.isfinite(fit.place).all()]
    if not solid:
        return no_estimate("too few pixels are valid in both images")
    start, best = _best_of(solid, ratio)
    if not best.converged:  # images that agree too well: the weights follow the residuals slowly
        best = fit_place(patches, start, begin=best.place) or best
    return judge(best, found, bands, search_px, ratio, px)


def _best_of(
    fits: Sequence[tuple[tuple[float, float], FitResult]], ratio: int
) -> tuple[tuple[float, float], FitResult]:
    """The start and fit with the most evidence; of fits that ended at one place, one that came to rest there.

    A fit from far off may run into the end of its reach just where another one rests.
    """
    start, best = max(fits, key=lambda pair: pair[1].evidence)
    same = max(NEAR_PX, NEAR_LR * ratio)
    resting = [(s, f) for s, f in fits if f.converged and np.abs(f.place - best.place)[:2].max() < same]
    return (start, best) if best.converged or not resting else resting[0]


def _search(patches: Sequence[Patch], search_px: float, n_bands: int) -> SearchResult:
    """Search once with all pixels and, unless one place stands out, again without clouds and change."""
    found = search_place(patches, search_px, n_bands)
    if found.distinctness > CLEAR_DISTINCTNESS:
        return replace(found, peaks_px=found.peaks_px[:1])
    exclude_outliers(patches, n_bands, 0.0, 0.0)
    again = search_place(patches, search_px, n_bands)
    leader = max(found, again, key=lambda f: f.distinctness)
    places = dict.fromkeys([*leader.peaks_px, *found.peaks_px, *again.peaks_px])
    return replace(leader, peaks_px=tuple(places))


def rank_bands(simulated: Sequence[FloatArray]) -> list[int]:
    """Order the bands by the share of structure in windows of the simulated image, best of each third first."""
    structure = np.mean([_structure(images) for images in simulated], axis=0)
    bands = [int(b) for b in np.argsort(-structure) if structure[b] > 0]
    third = max(1, -(-structure.size // 3))
    leaders = {b // third: b for b in reversed(bands)}
    first = sorted(leaders.values(), key=lambda b: -structure[b])
    return first + [b for b in bands if b not in first]


def _structure(images: FloatArray) -> NDArray[np.float64]:
    """Correlation of each band with itself one pixel away, local means taken off; 0 for a flat band."""
    valid = np.asarray(np.isfinite(images).all(axis=0))
    detail = remove_local_mean(np.where(valid, images, np.float32(0.0)), valid)
    both = valid[:, 1:] & valid[:, :-1], valid[1:] & valid[:-1]
    products = (
        (detail[..., 1:] * detail[..., :-1])[..., both[0]],
        (detail[..., 1:, :] * detail[..., :-1, :])[..., both[1]],
    )
    along, down = (p.sum(axis=-1, dtype=np.float64) / max(1, p.shape[-1]) for p in products)
    power = (detail[..., valid] ** 2).mean(axis=-1, dtype=np.float64)
    level = np.abs(images[..., valid]).mean(axis=-1, dtype=np.float64)
    alive = power > 1e-12 * level**2 + 1e-30
    return np.where(alive, 2.0 + (along + down) / (2.0 * np.maximum(power, 1e-30)), 0.0)
