"""Residual shift between the two sensors, with its error, its confidence and its evidence.

The MSI is degraded to the HSI's pixels and compared with the MSI simulated from the HSI, band by band:
a coarse search by masked correlation finds the place, a robust fit of shift, blur and radiometry
refines it (`matching`, `shift_fit`). The HSI is never resampled.

"Shift" is the motion that brings the HSI onto the MSI, in MSI pixels, +dy down, +dx right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geolift.coregistration.matching import (
    BoolArray,
    Patch,
    SearchResult,
    exclude_foreign,
    remove_local_mean,
    search_place,
)
from geolift.coregistration.shift_fit import FitResult, fit_place
from geolift.sampling import FloatArray

MAX_SEARCH_BANDS = 2
MAX_FIT_BANDS = 6

WINDOW_PX, WIDE_WINDOW_PX = 40, 96
"""Side of the windows that stand for a large scene, in LR pixels; the wide ones where the others do not tell."""

MAX_WINDOWS = 4
"""Windows that stand for a large scene: they bound time and memory, and are enough for 0.01 MSI pixel.
A scene of at most as many LR pixels as they hold, and a tenth more, is used whole."""

NEAR_PX, NEAR_LR = 0.5, 0.1
"""Confidence is the probability that the error is below half an MSI pixel or a tenth of an HSI pixel,
whichever is larger."""

CLEAR_DISTINCTNESS = 2.5
"""The best place is taken without a second look when its score is so many times the next one's."""

CERTAIN_CONFIDENCE = 0.98
"""Below this confidence a large scene is looked at again through wide windows."""

RELIABLE_CONFIDENCE = 0.7
"""A shift is called reliable, and may be applied, from this confidence on."""

# Calibrated by benchmarks/coregistration_accuracy.py on planted shifts: nine scenes, five ratios, five blurs,
# SNR 8 ... 35 dB, clouds, soft scenes, pairs of other places; see docs/coregistration.md.
_SIGMA_SCALE = 1.3
_SIGMA_FLOOR_PX = 0.004
_PLACE_LOGIT = (-5.81, 1.41, 0.65, -1.77)


@dataclass(frozen=True)
class BandVote:
    """The shift one band alone asks for.

    Parameters
    ----------
    band
        Index of the band in the arrays given.
    dy, dx
        Its shift in MSI pixels.
    sigma_dy, sigma_dx
        Its error (one sigma) in MSI pixels.
    correlation
        Between the simulated and the degraded MSI after the shift, local means taken off, -1 ... 1.
    """

    band: int
    dy: float
    dx: float
    sigma_dy: float
    sigma_dx: float
    correlation: float


@dataclass(frozen=True)
class ShiftEstimate:
    """The residual shift between two sensors and what speaks for it.

    Parameters
    ----------
    dy, dx
        Motion that brings the HSI onto the MSI, MSI pixels, +dy down, +dx right. Zero when a shift
        would not improve the agreement.
    sigma_dy, sigma_dx
        One-sigma errors in MSI pixels, given that the place is the right one.
    confidence
        Probability, 0 ... 1, that the error is below half an MSI pixel or a tenth of an HSI pixel,
        whichever is larger.
    agreement_before, agreement_after
        Mean correlation over the bands, local means taken off, without and with the shift.
    blur_sigma_y, blur_sigma_x
        Gaussian blur of the HSI beside its pixel's own average, one sigma in MSI pixels.
    usable_fraction
        Part of the LR pixels that took part, weighted by how well they fit, 0 ... 1.
    votes
        What each band alone asks for.
    reliable
        Whether the shift may be applied without asking.
    reason
        One sentence that says why, or why not.
    """

    dy: float
    dx: float
    sigma_dy: float
    sigma_dx: float
    confidence: float
    agreement_before: float
    agreement_after: float
    blur_sigma_y: float
    blur_sigma_x: float
    usable_fraction: float
    votes: tuple[BandVote, ...]
    reliable: bool
    reason: str


@dataclass(frozen=True)
class Window:
    """A rectangle of LR pixels: rows y ... y + height, columns x ... x + width."""

    y: int
    x: int
    height: int
    width: int


def estimate_shift(
    simulated: FloatArray,
    msi_fine: FloatArray,
    ratio: int,
    margin: int,
    *,
    max_shift_px: float | None = None,
) -> ShiftEstimate:
    """Estimate the shift that brings the HSI onto the MSI.

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

    Raises
    ------
    ValueError
        If the shapes do not fit each other.
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
) -> ShiftEstimate:
    """Estimate the shift of a scene whose fine MSI is read window by window.

    A large scene is judged by four small windows, and by four wide ones where those leave doubt.

    Parameters
    ----------
    read
        Returns the fine MSI under a window and ``margin`` LR pixels around it, NaN where there is none.
    simulated, ratio, margin, max_shift_px
        As in :func:`estimate_shift`.
    """
    found = _no_estimate("there are no pixels that are valid in both images")
    seen: tuple[Window, ...] = ()
    for side in (WINDOW_PX, WIDE_WINDOW_PX):
        windows = choose_windows(simulated, side)
        if windows == seen:
            break
        pairs = [(simulated[:, w.y : w.y + w.height, w.x : w.x + w.width], read(w)) for w in windows]
        found = estimate_shift_from_windows(pairs, ratio, margin, max_shift_px=max_shift_px)
        if found.confidence >= CERTAIN_CONFIDENCE:
            break
        seen = windows
    return found


def cut_window(
    simulated: FloatArray, msi_fine: FloatArray, ratio: int, margin: int, window: Window
) -> tuple[FloatArray, FloatArray]:
    """Cut one window out of a pair, with the same margin of fine pixels around it."""
    rows = slice(window.y, window.y + window.height)
    columns = slice(window.x, window.x + window.width)
    fine_rows = slice(window.y * ratio, (window.y + window.height + 2 * margin) * ratio)
    fine_columns = slice(window.x * ratio, (window.x + window.width + 2 * margin) * ratio)
    return simulated[:, rows, columns], msi_fine[:, fine_rows, fine_columns]


def _check_shapes(simulated: FloatArray, msi_fine: FloatArray, ratio: int, margin: int) -> None:
    height, width = (n + 2 * margin for n in simulated.shape[-2:])
    if msi_fine.shape != (simulated.shape[0], height * ratio, width * ratio):
        raise ValueError(
            f"msi_fine has shape {msi_fine.shape}; simulated {simulated.shape} with ratio {ratio} and "
            f"margin {margin} needs {(simulated.shape[0], height * ratio, width * ratio)}"
        )


def choose_windows(simulated: FloatArray, side: int = WINDOW_PX, count: int = MAX_WINDOWS) -> tuple[Window, ...]:
    """Choose the windows that stand for a large scene: valid, textured, spread over it.

    A scene hardly larger than that is one window. A larger one is divided into ``count``
    regions, and each gives the window with the most texture, outliers counting little.
    """
    height, width = simulated.shape[-2:]
    if height * width <= 1.1 * count * side * side:
        return (Window(0, 0, height, width),)
    side_y, side_x = min(side, height), min(side, width)
    texture = _texture(simulated)
    per_axis = _regions(height / side_y, width / side_x, count)
    chosen = []
    for rows in np.array_split(np.arange(height // side_y), per_axis[0]):
        for columns in np.array_split(np.arange(width // side_x), per_axis[1]):
            corners = [(int(r) * side_y, int(c) * side_x) for r in rows for c in columns]
            score = [float(texture[y : y + side_y, x : x + side_x].sum()) for y, x in corners]
            if score and max(score) > 0:
                y, x = corners[int(np.argmax(score))]
                chosen.append(Window(y, x, side_y, side_x))
    return tuple(chosen) or (Window(0, 0, side_y, side_x),)


def _regions(rows: float, columns: float, count: int) -> tuple[int, int]:
    """Split into at most ``count`` regions, as square as the scene allows."""
    down = int(np.clip(round(math.sqrt(count * rows / columns)), 1, min(count, int(rows))))
    return down, int(np.clip(count // down, 1, int(columns)))


def _texture(simulated: FloatArray) -> FloatArray:
    """Mean over bands of the clipped deviation from the local mean, in units of its median: (h, w)."""
    valid: BoolArray = ~np.asarray(np.isnan(simulated).any(axis=0))
    total = np.zeros(valid.shape, np.float32)
    for band in simulated:
        detail = np.abs(remove_local_mean(np.where(valid, band, 0.0).astype(np.float32)[None], valid)[0])
        total += np.minimum(detail / (np.median(detail[valid]) + 1e-12) if valid.any() else detail, 6.0)
    return total


def estimate_shift_from_windows(
    windows: Sequence[tuple[FloatArray, FloatArray]],
    ratio: int,
    margin: int,
    *,
    max_shift_px: float | None = None,
) -> ShiftEstimate:
    """Estimate one shift from several windows, pairs of (simulated, msi_fine) as in :func:`estimate_shift`.

    For scenes that are not held in memory: :func:`choose_windows` says which to read.
    """
    search_px = max(8.0, 4.0 * ratio) if max_shift_px is None else float(max_shift_px)
    patches = [Patch(s, m, ratio, margin, search_px) for s, m in windows]
    patches = [p for p in patches if (~p.simulated_invalid).sum() >= 16 and not p.msi_invalid.all()]
    if not patches:
        return _no_estimate("there are no pixels that are valid in both images")
    ranked = rank_bands(patches)
    if not ranked:
        return _no_estimate("the HSI shows no texture: all its valid pixels are alike")
    if not any(p.msi.any() for p in patches):
        return _no_estimate("the MSI shows no texture: all its valid pixels are alike")
    found = _search(patches, search_px, ranked[:MAX_SEARCH_BANDS])
    bands = ranked[:MAX_FIT_BANDS]
    fits = [(start, fit_place(patches, start, bands)) for start in found.peaks_px]
    solid = [(start, fit) for start, fit in fits if fit is not None and np.isfinite(fit.place).all()]
    if not solid:
        return _no_estimate("too few pixels are valid in both images")
    start, best = _best_of(solid, ratio)
    if not best.converged:  # images that agree too well: the weights follow the residuals slowly
        best = fit_place(patches, start, bands, begin=best.place) or best
    return _judge(best, found, bands, search_px, ratio)


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


def _search(patches: Sequence[Patch], search_px: float, bands: Sequence[int]) -> SearchResult:
    """Search once with all pixels and, unless one place stands out, again without clouds and change."""
    found = search_place(patches, search_px, bands)
    if found.distinctness > CLEAR_DISTINCTNESS:
        return replace(found, peaks_px=found.peaks_px[:1])
    exclude_foreign(patches, bands, 0.0, 0.0)
    again = search_place(patches, search_px, bands)
    leader = max(found, again, key=lambda f: f.distinctness)
    places = dict.fromkeys([*leader.peaks_px, *found.peaks_px, *again.peaks_px])
    return replace(leader, peaks_px=tuple(places))


def rank_bands(patches: Sequence[Patch]) -> list[int]:
    """Order the bands by the share of structure in the simulated image, best of each third first."""
    structure = np.mean([_structure(p.simulated, ~p.simulated_invalid) for p in patches], axis=0)
    bands = [int(b) for b in np.argsort(-structure) if structure[b] > 0]
    third = max(1, -(-structure.size // 3))
    leaders = {b // third: b for b in reversed(bands)}
    first = sorted(leaders.values(), key=lambda b: -structure[b])
    return first + [b for b in bands if b not in first]


def _structure(images: FloatArray, valid: BoolArray) -> NDArray[np.float64]:
    """Correlation of each band with itself one pixel away, local means taken off; 0 for a flat band."""
    detail = remove_local_mean(images, valid)
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


def _judge(fit: FitResult, found: SearchResult, bands: Sequence[int], search_px: float, ratio: int) -> ShiftEstimate:
    """Turn a fit into an estimate: calibrated errors, confidence, and whether to trust it."""
    dy, dx, var_y, var_x = (float(v) for v in fit.place)
    variance = np.maximum(np.diag(fit.covariance_px2), 0.0)
    sigma_dy, sigma_dx = (float(np.hypot(_SIGMA_SCALE * math.sqrt(v), _SIGMA_FLOOR_PX)) for v in variance)
    confidence = _confidence(fit, found.distinctness, (sigma_dy, sigma_dx), ratio)
    reliable, reason = _verdict(fit, (dy, dx), (sigma_dy, sigma_dx), confidence, search_px)
    worse = fit.agreement <= fit.agreement_at_zero
    votes = tuple(
        BandVote(b, float(v[0]), float(v[1]), float(s[0]), float(s[1]), float(r))
        for b, v, s, r in zip(bands, fit.votes_px, fit.vote_sigma_px, fit.correlation, strict=True)
    )
    return ShiftEstimate(
        dy=0.0 if worse else dy,
        dx=0.0 if worse else dx,
        sigma_dy=sigma_dy,
        sigma_dx=sigma_dx,
        confidence=confidence,
        agreement_before=fit.agreement_at_zero,
        agreement_after=fit.agreement_at_zero if worse else fit.agreement,
        blur_sigma_y=math.sqrt(var_y),
        blur_sigma_x=math.sqrt(var_x),
        usable_fraction=fit.used_fraction,
        votes=votes,
        reliable=reliable,
        reason=reason,
    )


def _confidence(fit: FitResult, distinctness: float, sigma_px: tuple[float, float], ratio: int) -> float:
    """Probability that the place is the right one, times that of being near it.

    The first factor is a logistic regression on how far the best place stands out of the others, on the
    evidence of all pixels together, and on the error in HSI pixels.
    """
    variance = 0.5 * (sigma_px[0] ** 2 + sigma_px[1] ** 2)
    near = 1.0 - math.exp(-0.5 * max(NEAR_PX, NEAR_LR * ratio) ** 2 / variance)
    constant, of_distinctness, of_evidence, of_sigma = _PLACE_LOGIT
    logit = (
        constant
        + of_distinctness * math.log(min(max(distinctness, 1.0), 20.0))
        + of_evidence * math.log(fit.evidence * fit.n_pixels + 1e-3)
        + of_sigma * math.log(math.sqrt(variance) / ratio)
    )
    place = 1.0 / (1.0 + math.exp(-logit))
    return place * near if fit.converged else 0.5 * place * near


def _verdict(
    fit: FitResult,
    shift_px: tuple[float, float],
    sigma_px: tuple[float, float],
    confidence: float,
    search_px: float,
) -> tuple[bool, str]:
    """Say in one sentence whether the shift may be applied."""
    size = math.hypot(*shift_px)
    if fit.agreement <= fit.agreement_at_zero:
        aligned = size < 3.0 * math.hypot(*sigma_px) + 0.05
        if aligned and confidence >= RELIABLE_CONFIDENCE:
            return True, "the images are aligned: no shift would improve their agreement"
        return False, "the shift found would make the agreement worse, so none is applied"
    if max(abs(s) for s in shift_px) > search_px + 1.0:
        return False, f"the shift found lies outside the search radius of {search_px:g} MSI pixels"
    if confidence < RELIABLE_CONFIDENCE:
        return False, (
            f"the evidence is weak: agreement {fit.agreement:.2f}, error {max(sigma_px):.2f} MSI pixels, "
            f"confidence {confidence:.2f}"
        )
    gain = f"agreement rises from {fit.agreement_at_zero:.3f} to {fit.agreement:.3f}"
    return True, f"{gain}, error {max(sigma_px):.2f} MSI pixels"


def _no_estimate(reason: str) -> ShiftEstimate:
    """Return an estimate that says that there is none."""
    nan = float("nan")
    return ShiftEstimate(0.0, 0.0, nan, nan, 0.0, nan, nan, nan, nan, 0.0, (), False, reason)
