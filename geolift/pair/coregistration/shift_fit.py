"""Shift, blur and gain that make the degraded MSI match the simulated one: the fit behind co-registration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geolift.degradation.sampling import FloatArray
from geolift.pair.coregistration.matching import (
    MAX_BLUR_SIGMA_LR,
    MAX_WANDER_LR,
    BoolArray,
    DoubleArray,
    Patch,
    exclude_outliers,
    remove_local_mean,
)

_MOST_ITERATIONS = 14
_OUTLIER_BANDS = 3
"""Bands in which clouds and change are looked for."""

_REST_PX = 5e-3
"""The iteration rests when the shift moves less; the bands' votes then take one more step."""

_SLOPES_HOLD_PX, _SLOPES_HOLD_BLUR = 0.2, 0.1
"""Derivatives are kept while the shift moves less, in fine pixels, and the variances less, in LR pixels squared."""

_PIECE = 2048
"""Pixels per float32 sum."""

_SCALE_SAMPLE = 4096
"""Pixels from which the scale of the residuals is taken."""


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """What the fit of shift, blur and radiometry found.

    Parameters
    ----------
    place
        dy, dx in fine pixels; variances of the Gaussian along y and x in fine pixels squared.
    votes_px
        (band, 2): the shift that each band alone asks for.
    vote_sigma_px
        (band, 2): the error of each vote from the scatter of its blocks.
    covariance_px2
        (2, 2): from the scatter of blocks, spread between bands included.
    correlation
        (band,): weighted correlation at the place.
    agreement
        Weighted mean correlation over the bands at the place.
    agreement_at_zero
        The same pixels, weights and blur at no shift.
    used_fraction
        Part of the LR pixels that are valid, times the mean robust weight.
    n_pixels
        Valid LR pixels.
    converged
        Whether the iteration came to rest inside its bounds.
    """

    place: DoubleArray
    votes_px: DoubleArray
    vote_sigma_px: DoubleArray
    covariance_px2: DoubleArray
    correlation: DoubleArray
    agreement: float
    agreement_at_zero: float
    used_fraction: float
    n_pixels: int
    converged: bool

    @property
    def evidence(self) -> float:
        """Log likelihood gained per LR pixel by knowing the MSI there, in nats, robust."""
        gain = -0.5 * np.log1p(-np.minimum(self.correlation**2, 0.9999))
        return float(self.used_fraction * gain.sum())


@dataclass(kw_only=True)
class _Scene:
    """The valid pixels of all patches in one row, at the place where the masks were made."""

    patches: Sequence[Patch]
    masks: list[BoolArray]
    seen: FloatArray
    spread: FloatArray
    blocks: NDArray[np.intp]
    slopes: FloatArray | None = None
    slopes_at: DoubleArray = field(default_factory=lambda: np.zeros(4))

    @classmethod
    def at(cls, patches: Sequence[Patch], place: DoubleArray) -> _Scene:
        widest = (MAX_BLUR_SIGMA_LR * patches[0].ratio) ** 2
        variance = min(float(place[2:].max()) * 1.3 + 0.25, widest)
        masks = []
        for patch in patches:
            valid = patch.valid
            if not patch.msi_whole:
                dy, dx = place[:2].round()
                valid = valid & patch.degraded(dy, dx, variance, 0)[1]
            masks.append(valid)
        parts = [_pixels(remove_local_mean(p.simulated, m), m) for p, m in zip(patches, masks, strict=True)]
        seen = np.concatenate(parts, axis=1)
        spread = seen.std(axis=1) + np.float32(1e-12)
        return cls(patches=patches, masks=masks, seen=seen, spread=spread, blocks=_block_ids(masks))

    def model(self, place: DoubleArray, exact: bool) -> tuple[FloatArray, FloatArray]:
        """Degraded MSI (band, n) without local means, and its four derivatives (band, 4, n).

        Unless they must be exact, the derivatives are those of a place near by: reading the MSI alone is a fifth of
        the work, and a step along slightly old derivatives still leads to the same rest.
        """
        if self.slopes is not None and not exact and self._near(place):
            return self.image_at(place[0], place[1], place), self.slopes
        seen, slopes = [], []
        for patch, mask in zip(self.patches, self.masks, strict=True):
            images = patch.with_derivatives(place)
            seen.append(_pixels(remove_local_mean(images[0], mask), mask))
            slopes.append(_pixels(images[1:], mask).swapaxes(0, 1))
        self.slopes, self.slopes_at = np.concatenate(slopes, axis=2), place.copy()
        return np.concatenate(seen, axis=1), self.slopes

    def _near(self, place: DoubleArray) -> bool:
        moved = np.abs(place - self.slopes_at)
        ratio = self.patches[0].ratio
        return bool(moved[:2].max() < _SLOPES_HOLD_PX and moved[2:].max() < _SLOPES_HOLD_BLUR * ratio**2)

    def image_at(self, dy: float, dx: float, place: DoubleArray) -> FloatArray:
        """Degraded MSI (band, n) without local means at another shift with the blur of ``place``."""
        elsewhere = np.array([dy, dx, place[2], place[3]])
        parts = [
            _pixels(remove_local_mean(patch.seen_at(elsewhere), mask), mask)
            for patch, mask in zip(self.patches, self.masks, strict=True)
        ]
        return np.concatenate(parts, axis=1)


def _pixels(images: FloatArray, mask: BoolArray) -> FloatArray:
    """The pixels of images (..., h, w) that a mask lets through, in one row: (..., n)."""
    row = images.reshape(*images.shape[:-2], -1)
    return row if mask.all() else row[..., np.flatnonzero(mask)]


def _block_ids(masks: Sequence[BoolArray]) -> NDArray[np.intp]:
    """Number the square blocks whose scatter tells the error: 6 LR pixels or more, about 64 of them."""
    total = sum(int(m.sum()) for m in masks)
    side = max(6, int(np.sqrt(total / 64)))
    ids, base = [], 0
    for mask in masks:
        rows, columns = np.nonzero(mask)
        per_row = -(-mask.shape[1] // side)
        ids.append(base + (rows // side) * per_row + columns // side)
        base += per_row * -(-mask.shape[0] // side)
    return np.unique(np.concatenate(ids), return_inverse=True)[1]


@dataclass(kw_only=True)
class _Linear:
    """Normal equations of one Gauss-Newton step, per band."""

    residual: FloatArray
    weights: FloatArray
    slopes: FloatArray
    precision: DoubleArray
    normal: DoubleArray
    gradient: DoubleArray
    correlation: DoubleArray


def _linearise(scene: _Scene, place: DoubleArray, weights: FloatArray | None, exact: bool = False) -> _Linear:
    """Fit one gain per band, weigh the pixels by their residuals, and project the gain out."""
    model, slopes = scene.model(place, exact)
    seen, spread = scene.seen, scene.spread
    w = np.ones(seen.shape[1], np.float32) if weights is None else weights
    for _ in range(2 if weights is None else 1):
        gain = (_dots(w * model, seen) / np.maximum(_dots(w * model, model), 1e-20)).astype(np.float32)
        residual = seen - gain[:, None] * model
        w = _robust_weights(residual, spread)
    weighted = w * model
    power, total = (_dots(w * image, image) / w.sum(dtype=np.float64) for image in (residual, seen))
    precision = 1.0 / np.maximum(power, 1e-6 * spread.astype(np.float64) ** 2)
    energy = np.maximum(_dots(weighted, model), 1e-20)
    overlap = _sums(slopes, weighted[:, None])[..., 0] / energy[:, None]
    slopes = gain[:, None, None] * (slopes - overlap.astype(np.float32)[..., None] * model[:, None])
    pulled = slopes * w
    normal = _sums(pulled, slopes) * precision[:, None, None]
    gradient = _sums(pulled, residual[:, None])[..., 0] * precision[:, None]
    rho = np.sqrt(np.clip(1.0 - power / np.maximum(total, 1e-20), 0.0, 1.0)) * np.sign(gain)
    return _Linear(
        residual=residual,
        weights=w,
        slopes=slopes,
        precision=precision,
        normal=normal,
        gradient=gradient,
        correlation=rho,
    )


def _sums(left: FloatArray, right: FloatArray) -> DoubleArray:
    """Sum over the pixels of left (band, k, n) x right (band, m, n): (band, k, m), in float64.

    Short pieces keep the float32 products exact enough, and BLAS on one thread.
    """
    total = np.zeros((left.shape[0], left.shape[1], right.shape[1]))
    whole = left.shape[2] // _PIECE * _PIECE
    if whole:
        parts = [a[..., :whole].reshape(*a.shape[:2], -1, _PIECE).swapaxes(1, 2) for a in (left, right)]
        total += (parts[0] @ parts[1].swapaxes(2, 3)).sum(axis=1, dtype=np.float64)
    return np.asarray(total + left[..., whole:] @ right[..., whole:].swapaxes(1, 2), np.float64)


def _dots(left: FloatArray, right: FloatArray) -> DoubleArray:
    """Sum over the pixels of left (band, n) x right (band, n): (band,), in float64."""
    return _sums(left[:, None], right[:, None])[:, 0, 0]


def _robust_weights(residual: FloatArray, spread: FloatArray) -> FloatArray:
    """Cauchy weights on the residual of all bands together: clouds and change hit all bands."""
    stride = max(1, residual.shape[1] // _SCALE_SAMPLE)
    scale = 1.4826 * np.median(np.abs(residual[:, ::stride]), axis=1) + 1e-3 * spread
    surprise = ((residual / scale[:, None]) ** 2).mean(axis=0)
    return np.asarray(1.0 / (1.0 + surprise / 4.0), np.float32)


def fit_place(
    patches: Sequence[Patch], start_px: tuple[float, float], begin: DoubleArray | None = None
) -> FitResult | None:
    """Fit shift and blur from a place within half an LR pixel; None when too few pixels are valid.

    ``begin``: the (4,) place where an earlier fit from this start came to its end.

    Robust Gauss-Newton on dy, dx and the two variances, with one gain per band eliminated. The error
    comes from the scatter of the blocks' scores (a sandwich covariance, which takes correlated
    residuals as they are) and from the spread of the bands beyond their own errors.
    """
    ratio = patches[0].ratio
    blur = (0.3 * ratio) ** 2
    farthest = MAX_WANDER_LR * ratio
    place = np.array([*start_px, blur, blur])
    if begin is not None:
        place = np.array([*(np.clip(begin[:2] - start_px, -farthest, farthest) + start_px), *begin[2:]])
    exclude_outliers(patches, min(_OUTLIER_BANDS, len(patches[0].msi)), *start_px, worth=0.1)
    scene = _Scene.at(patches, place)
    weights: FloatArray | None = None
    made_at, converged = place.copy(), False
    for iteration in range(_MOST_ITERATIONS):
        if scene.seen.shape[1] < 16:
            return None
        line = _linearise(scene, place, weights)
        moved = _step(place, line.normal.sum(axis=0), line.gradient.sum(axis=0), ratio)
        change, place, weights = np.abs(moved - place), moved, line.weights
        if np.abs(moved[:2] - start_px).max() > farthest:
            place[:2] = np.clip(place[:2] - start_px, -farthest, farthest) + start_px
            break
        converged = bool(change[:2].max() < _REST_PX and change[2:].max() < 0.02 * ratio**2)
        if converged and iteration > 1:
            break
        if np.abs(place - made_at)[:2].max() > 0.6 or abs(place[2:].max() - made_at[2:].max()) > blur:
            scene, weights, made_at = _Scene.at(patches, place), None, place.copy()
    if scene.seen.shape[1] < 16:
        return None
    return _conclude(scene, place, weights, converged)


def _step(place: DoubleArray, normal: DoubleArray, gradient: DoubleArray, ratio: int) -> DoubleArray:
    """One damped step; a variance at zero stays there while the data ask for less blur."""
    upper = (MAX_BLUR_SIGMA_LR * ratio) ** 2
    free = np.array([True, True, *((place[2:] > 1e-9) | (gradient[2:] > 0))])
    active = np.ix_(free, free)
    matrix = normal[active] + 1e-3 * np.diag(np.diag(normal[active])) + 1e-12 * np.eye(int(free.sum()))
    step = np.zeros(4)
    step[free] = np.linalg.solve(matrix, gradient[free])
    limit = np.array([0.5 * ratio, 0.5 * ratio, 0.4 * ratio**2, 0.4 * ratio**2])
    moved = place + np.clip(step, -limit, limit)
    moved[2:] = np.clip(moved[2:], 0.0, upper)
    return moved


def _conclude(scene: _Scene, place: DoubleArray, weights: FloatArray | None, converged: bool) -> FitResult:
    """Votes, errors and agreement at the place found; the bands' votes make the final shift."""
    line = _linearise(scene, place, weights, exact=True)
    free = [0, 1] + [k for k in (2, 3) if place[k] > 1e-9]
    votes, sigmas = _votes(scene, line, free)
    covariance = _sandwich(scene, line, free)
    shift, between = combine_votes(votes, sigmas)
    limit = 0.5 * scene.patches[0].ratio
    final = np.concatenate([place[:2] + np.clip(shift, -limit, limit), place[2:]])
    covariance = covariance + np.diag(between)
    agreement, before = _agreements(scene, line, final)
    valid = line.weights.size / sum(p.height * p.width for p in scene.patches)
    return FitResult(
        place=final,
        votes_px=place[:2] + votes,
        vote_sigma_px=sigmas,
        covariance_px2=covariance,
        correlation=line.correlation,
        agreement=agreement,
        agreement_at_zero=before,
        used_fraction=float(valid * line.weights.mean()),
        n_pixels=line.weights.size,
        converged=converged,
    )


def band_votes(patches: Sequence[Patch], place: DoubleArray) -> tuple[DoubleArray, DoubleArray] | None:
    """The place (band, 2) that each band of the patches asks for, by one step from a place, and its error."""
    exclude_outliers(patches, min(_OUTLIER_BANDS, len(patches[0].msi)), float(place[0]), float(place[1]), worth=0.1)
    scene = _Scene.at(patches, place)
    if scene.seen.shape[1] < 16:
        return None
    line = _linearise(scene, place, None, exact=True)
    votes, sigmas = _votes(scene, line, [0, 1, 2, 3])
    return place[:2] + votes, sigmas


def local_evidence(patch: Patch, place: DoubleArray) -> tuple[DoubleArray, DoubleArray, DoubleArray] | None:
    """Gradient (2, h, w), curvature (3, h, w) and size (h, w) of each pixel's misfit in dy and dx; None of too few."""
    exclude_outliers([patch], min(_OUTLIER_BANDS, len(patch.msi)), float(place[0]), float(place[1]), worth=0.1)
    scene = _Scene.at([patch], place)
    if scene.seen.shape[1] < 64:
        return None
    line = _linearise(scene, place, None, exact=True)
    weights = line.weights * line.precision.astype(np.float32)[:, None]
    down, across = line.slopes[:, 0], line.slopes[:, 1]
    told = [
        (weights * one * other).sum(axis=0)
        for one, other in (
            (down, line.residual), (across, line.residual),
            (down, down), (down, across), (across, across), (line.residual, line.residual),
        )
    ]  # fmt: skip
    images = np.zeros((len(told), patch.height, patch.width))
    images[:, scene.masks[0]] = told
    return images[:2], images[2:5], images[5]


def _block_scores(scene: _Scene, line: _Linear) -> DoubleArray:
    """Sum of slope x residual over each block: (band, 4, block)."""
    score = (line.slopes * (line.weights * line.residual)[:, None]) * line.precision[:, None, None]
    count = int(scene.blocks.max()) + 1
    flat = score.reshape(-1, score.shape[-1])
    sums = np.stack([np.bincount(scene.blocks, row, minlength=count) for row in flat])
    return np.asarray(sums.reshape(*score.shape[:2], count), np.float64)


def _sandwich(scene: _Scene, line: _Linear, free: list[int]) -> DoubleArray:
    """Covariance of (dy, dx) from the blocks' scatter, all bands together."""
    inverse = np.linalg.pinv(line.normal.sum(axis=0)[np.ix_(free, free)])
    scores = _block_scores(scene, line).sum(axis=0)[free]
    blocks = scores.shape[1]
    scatter = scores @ scores.T * blocks / max(1, blocks - len(free))
    robust = (inverse @ scatter @ inverse)[:2, :2]
    return np.asarray(np.maximum(robust, np.diag(np.diag(inverse)[:2])), np.float64)


def _votes(scene: _Scene, line: _Linear, free: list[int]) -> tuple[DoubleArray, DoubleArray]:
    """Each band's own step to its own minimum and the error of that step: (band, 2) both."""
    scores = _block_scores(scene, line)[:, free]
    blocks = scores.shape[2]
    votes, sigmas = [], []
    for normal, score in zip(line.normal, scores, strict=True):
        inverse = np.linalg.pinv(normal[np.ix_(free, free)])
        step = inverse @ score.sum(axis=1)
        scatter = score @ score.T * blocks / max(1, blocks - len(free))
        variance = np.maximum(np.diag(inverse @ scatter @ inverse), np.diag(inverse))
        votes.append(step[:2])
        sigmas.append(np.sqrt(variance[:2]))
    return np.array(votes, np.float64), np.array(sigmas, np.float64)


def combine_votes(votes: DoubleArray, sigmas: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """Random-effects mean of the bands' votes per axis, and the variance their spread adds.

    References
    ----------
    R. DerSimonian, N. Laird, Meta-analysis in clinical trials, Controlled Clinical Trials 7, 1986,
    doi:10.1016/0197-2456(86)90046-2, eq. 9.
    """
    means, added = np.zeros(2), np.zeros(2)
    for axis in range(2):
        variance = np.maximum(sigmas[:, axis] ** 2, 1e-10)
        vote = votes[:, axis]
        weight = 1.0 / variance
        centre = (weight * vote).sum() / weight.sum()
        excess = (weight * (vote - centre) ** 2).sum() - (vote.size - 1)
        spread = max(0.0, excess / max(weight.sum() - (weight**2).sum() / weight.sum(), 1e-12))
        weight = 1.0 / (variance + spread)
        means[axis] = (weight * vote).sum() / weight.sum()
        added[axis] = spread * (weight**2).sum() / weight.sum() ** 2
    return means, added


def _agreements(scene: _Scene, line: _Linear, place: DoubleArray) -> tuple[float, float]:
    """Weighted mean correlation at the place and at no shift, on the same pixels with fair weights.

    The weights are the smaller of those that either alignment would give, so neither is favoured.
    """
    after, before = scene.image_at(place[0], place[1], place), scene.image_at(0.0, 0.0, place)
    weights = np.minimum(*(_robust_weights(_gain_residual(scene.seen, m), scene.spread) for m in (after, before)))
    trust = line.precision * scene.spread.astype(np.float64) ** 2
    return (
        float(np.average(_correlations(scene.seen, after, weights), weights=trust)),
        float(np.average(_correlations(scene.seen, before, weights), weights=trust)),
    )


def _gain_residual(seen: FloatArray, model: FloatArray) -> FloatArray:
    gain = _dots(model, seen) / np.maximum(_dots(model, model), 1e-20)
    return np.asarray(seen - gain.astype(np.float32)[:, None] * model, np.float32)


def _correlations(seen: FloatArray, model: FloatArray, weights: FloatArray) -> DoubleArray:
    cross = _dots(weights * seen, model)
    power = [_dots(weights * image, image) for image in (seen, model)]
    return np.asarray(np.abs(cross) / np.sqrt(np.maximum(power[0] * power[1], 1e-30)))
