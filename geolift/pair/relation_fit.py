"""Fits of one radiometric relation: a line per band, a curve, a variation over the scene, a map across the bands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geolift.pair.local_relation import CellSums, LocalRelation, Variation, fit_variation, sum_cells
from geolift.pair.robust import mad_sigma
from geolift.pair.tone_curve import ToneCurve, power_curve, spline_curve

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]

RIDGE = 1e-3
"""Pull of the affine map towards the gain and offset per band, in units of the bands' variance."""

FOLDS = 5
_MOST_STEPS, _AT_REST = 8, 1e-6


@dataclass(frozen=True)
class Specification:
    """What a relation consists of: first the curve, then the line or the map across bands."""

    line: Literal["identity", "gain", "gain-offset"] = "identity"
    curve: Literal["power", "spline"] | None = None
    across: bool = False
    power: float = 1.0


@dataclass(frozen=True, eq=False)
class Relation:
    """A fitted relation; ``weights`` (n,) of the pixels it was fitted to, 1 where they follow it."""

    matrix: DoubleArray
    offset: DoubleArray
    weights: DoubleArray
    curve: ToneCurve | None = None


@dataclass(frozen=True, eq=False)
class Evidence:
    """Pixels that belong to the scene in both images.

    Parameters
    ----------
    wanted, seen
        (c, n) of the simulated and of the degraded MSI.
    rows, cols
        (n,) position on the LR grid.
    shape
        (h, w) of the LR grid.
    """

    wanted: DoubleArray
    seen: DoubleArray
    rows: IndexArray
    cols: IndexArray
    shape: tuple[int, int]

    @classmethod
    def of(cls, simulated: FloatArray, degraded: FloatArray, own: NDArray[np.bool_]) -> Evidence:
        """Take the pixels (h, w) that are its own."""
        rows, cols = np.nonzero(own)
        wanted, seen = (image[:, own].astype(np.float64) for image in (simulated, degraded))
        return cls(wanted, seen, rows, cols, (own.shape[0], own.shape[1]))

    def part(self, keep: NDArray[np.bool_]) -> Evidence:
        """Return some of its pixels."""
        return Evidence(self.wanted[:, keep], self.seen[:, keep], self.rows[keep], self.cols[keep], self.shape)

    def predicted(self, relation: Relation) -> DoubleArray:
        """(c, n) what a relation makes of the seen pixels."""
        seen = self.seen if relation.curve is None else relation.curve.apply(self.seen).astype(np.float64)
        return np.asarray(relation.matrix @ seen + relation.offset[:, None])

    def blocks(self) -> IndexArray:
        """Number of the square block of each pixel, dealt so that neighbours differ modulo the folds."""
        side = max(2, round(min(self.shape) / 8))
        return np.asarray(self.rows // side * 2 + self.cols // side, np.intp)

    def contrast(self) -> float:
        """Relative variance of the simulated MSI, mean over the bands: what a constant would leave."""
        return float((self.wanted.var(axis=1) / self.level()[:, 0] ** 2).mean())

    def level(self) -> DoubleArray:
        """(c, 1) mean size of the simulated MSI."""
        return np.asarray(np.maximum(np.abs(self.wanted).mean(axis=1), 1e-12)[:, None])

    def effect(self, relation: Relation) -> float:
        """RMS change of the MSI relative to its mean, largest band."""
        change = self.predicted(relation) - self.seen
        level = np.maximum(np.abs(self.seen).mean(axis=1), 1e-12)
        return float((np.sqrt((change**2).mean(axis=1)) / level).max())


@dataclass(frozen=True, eq=False)
class Errors:
    """What a relation leaves of held-out pixels.

    Parameters
    ----------
    squared
        (n,) squared relative error, mean over the bands, gross outliers cut.
    angle_deg
        Mean spectral angle.
    """

    squared: DoubleArray
    angle_deg: float

    def gain_over(self, old: Errors) -> float:
        """By how many standard errors the error is lower than another's; a blur makes neighbours alike."""
        gain = old.squared - self.squared
        chance = gain.std() / np.sqrt(max(1.0, gain.size / 2.0))
        return float(gain.mean() / max(chance, 1e-30))


def relation_errors(evidence: Evidence, specification: Specification) -> Errors:
    """Predict every pixel without its block."""
    blocks = evidence.blocks()
    predicted = np.empty_like(evidence.wanted)
    for fold in range(FOLDS):
        out = blocks % FOLDS == fold
        whole = out.all() or not out.any()
        relation = fit_relation(evidence if whole else evidence.part(~out), specification)
        predicted[:, out] = evidence.part(out).predicted(relation)
    return errors_of(evidence, predicted)


def errors_of(evidence: Evidence, predicted: DoubleArray) -> Errors:
    """Compare (c, n) predicted values with the wanted ones.

    Residuals are capped at their own robust scale, so that what is left of clouds and edges does not decide.
    """
    residual = evidence.wanted - predicted
    cap = 4.0 * mad_sigma(residual, axis=1)[:, None]
    squared = ((np.minimum(np.abs(residual), cap) / evidence.level()) ** 2).mean(axis=0)
    return Errors(squared, _mean_angle_deg(evidence.wanted, predicted))


def _mean_angle_deg(one: DoubleArray, other: DoubleArray) -> float:
    product = (one * other).sum(axis=0)
    size = np.sqrt((one**2).sum(axis=0) * (other**2).sum(axis=0))
    return float(np.degrees(np.arccos(np.clip(product / np.maximum(size, 1e-30), -1.0, 1.0))).mean())


def fit_relation(evidence: Evidence, specification: Specification) -> Relation:
    """Fit curve, line and map across bands by reweighted least squares."""
    wanted, seen = evidence.wanted, evidence.seen
    curve = None
    if specification.curve == "power":
        curve = power_curve(seen, specification.power)
    elif specification.curve == "spline":
        curve = spline_curve(wanted, seen, np.ones(seen.shape[1]))
        weights = pixel_weights(wanted - curve.apply(seen).astype(np.float64))
        curve = spline_curve(wanted, seen, weights)
    if curve is not None:
        seen = curve.apply(seen).astype(np.float64)
    matrix, offset, weights = fit_lines(wanted, seen, specification.line, across=specification.across)
    return Relation(matrix, offset, weights, curve)


@dataclass(frozen=True, eq=False)
class LocalMisfit:
    """What a relation without variation misses, summed over cells of the scene."""

    evidence: Evidence
    relation: Relation
    cells: CellSums
    unit: DoubleArray

    @classmethod
    def of(cls, evidence: Evidence, relation: Relation) -> LocalMisfit:
        """Tell by how much the MSI would have to differ for curve and line to hold."""
        gain = np.diag(relation.matrix)[:, None]
        goal = (evidence.wanted - relation.offset[:, None]) / np.where(np.abs(gain) < 1e-6, 1e-6, gain)
        if relation.curve is not None:
            goal = relation.curve.undo(goal).astype(np.float64)
        missed = goal - evidence.seen
        level = np.maximum(np.abs(evidence.seen).mean(axis=1), 1e-12)
        unit = np.maximum(mad_sigma(missed, axis=1), 1e-3 * level)[:, None]
        weights = pixel_weights(missed - np.median(missed, axis=1, keepdims=True))
        places = (evidence.rows, evidence.cols)
        cells = sum_cells(missed / unit, evidence.seen / unit, weights, places, evidence.shape)
        return cls(evidence, relation, cells, unit)

    def fit(self, variation: Variation) -> LocalRelation:
        """Fit one variation."""
        gain, offset = fit_variation(self.cells, variation)
        step = self.cells.step_px
        fields = gain.astype(np.float32), (offset * self.unit[..., None]).astype(np.float32)
        level = np.maximum(np.abs(self.evidence.seen).mean(axis=1), 1e-12)[:, None, None]
        size = float(np.sqrt(np.square(fields[0] + fields[1] / level).mean(axis=(1, 2))).max())
        return LocalRelation(*fields, ((step - 1) / 2, (step - 1) / 2), step, variation, size)

    def moved(self, variation: Variation) -> Evidence:
        """Vary the seen pixels as cells tell that are neither theirs nor beside it; all tell of a polynomial."""
        gain, offset = fit_variation(self.cells, variation, apart=True)
        row, col = (places // self.cells.step_px for places in (self.evidence.rows, self.evidence.cols))
        seen = self.evidence.seen
        return replace(self.evidence, seen=seen + gain[:, row, col] * seen + offset[:, row, col] * self.unit)

    def errors(self, variation: Variation) -> Errors:
        """What a variation leaves of pixels that took no part."""
        return errors_of(self.evidence, self.moved(variation).predicted(self.relation))


def fit_lines(
    wanted: DoubleArray, seen: DoubleArray, line: str, *, across: bool = False
) -> tuple[DoubleArray, DoubleArray, DoubleArray]:
    """Fit a line per band, or a map across bands, by reweighted least squares: matrix, offset and pixel weights."""
    bands, pixels = wanted.shape
    matrix, offset = np.eye(bands), np.zeros(bands)
    weights, level = np.ones(pixels), np.abs(seen).mean(axis=1)
    if line == "identity" and not across:
        return matrix, offset, pixel_weights(wanted - seen)
    for step in range(_MOST_STEPS):
        before = matrix, offset
        if line == "gain":
            matrix = np.diag((weights * seen * wanted).sum(axis=1) / _positive((weights * seen**2).sum(axis=1)))
        else:
            matrix, offset = _weighted_lines(wanted, seen, weights)
        if across:
            matrix, offset = _weighted_affine(wanted, seen, weights, matrix)
        weights = pixel_weights(wanted - matrix @ seen - offset[:, None])
        moved = np.abs((matrix - before[0]) @ level + offset - before[1])
        if step and (moved <= _AT_REST * level).all():
            break
    return matrix, offset, weights


def pixel_weights(residual: DoubleArray) -> DoubleArray:
    """Huber weights (n,) on the residual (c, n) of all bands together."""
    scale = np.maximum(mad_sigma(residual, axis=1), 1e-12)[:, None]
    size = np.sqrt(((residual / scale) ** 2).mean(axis=0))
    return np.asarray(1.345 / np.maximum(size, 1.345))


def _positive(values: DoubleArray) -> DoubleArray:
    return np.maximum(values, 1e-20)


def _weighted_lines(wanted: DoubleArray, seen: DoubleArray, weights: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """One line per band."""
    share = weights / weights.sum()
    mean_w, mean_s = wanted @ share, seen @ share
    centred = seen - mean_s[:, None]
    power = _positive((share * centred**2).sum(axis=1))
    slope = (share * centred * (wanted - mean_w[:, None])).sum(axis=1) / power
    return np.diag(slope), mean_w - slope * mean_s


def _weighted_affine(
    wanted: DoubleArray, seen: DoubleArray, weights: DoubleArray, prior: DoubleArray
) -> tuple[DoubleArray, DoubleArray]:
    """Affine map across bands, ridge towards one line per band."""
    share = weights / weights.sum()
    mean_w, mean_s = wanted @ share, seen @ share
    centred = seen - mean_s[:, None]
    left = wanted - mean_w[:, None] - prior @ centred
    covariance = (centred * share) @ centred.T
    ridge = RIDGE * np.diag(_positive(np.diag(covariance)))
    extra = np.linalg.solve(covariance + ridge, (centred * share) @ left.T).T
    matrix = prior + extra
    return matrix, mean_w - matrix @ mean_s
