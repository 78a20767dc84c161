"""The radiometric relation between the real MSI and the one simulated from the HSI.

Fitted on the HSI's pixels after co-registration, applied to the MSI before inference. Models of growing freedom
compete on held-out blocks: none, a gain per band, a gain and offset per band; then a monotone curve, gains and offsets
that vary over the scene, an affine map across the bands. The simplest one that is not clearly beaten wins, and a
relation that would move the MSI by less than a few tenths of a per cent is not applied at all.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geolift.pair.local_relation import CANDIDATES, LocalRelation
from geolift.pair.relation_fit import Errors, Evidence, LocalMisfit, Specification, fit_relation, relation_errors
from geolift.pair.robust import outlier_pixels
from geolift.pair.tone_curve import ToneCurve, curvature, find_power, power_curve

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
Mode = Literal["auto", "off", "gain", "affine"]
Model = Literal["identity", "gain", "gain-offset", "affine"]

MODELS: tuple[Model, ...] = ("identity", "gain", "gain-offset", "affine")
"""From the least to the most freedom."""

MIN_GAIN = 0.05
"""The MSI is left alone unless a relation lowers the held-out error by this part of it."""

NEXT_GAIN = 0.003
"""The same for an offset beside a gain: once a relation is needed, an offset costs nothing."""

CURVE_GAIN, LOCAL_GAIN = 0.1, 0.1
"""The same for a curve, and for a relation that varies over the scene: both must show."""

CROSS_GAIN = 0.05
"""The same for cross terms, which lower the error of a clean pair a little by averaging its noise."""

MIN_Z = 2.0
"""... and by so many standard errors over the held-out pixels."""

MOST_TURN, ALWAYS_TURN_DEG = 1.03, 0.02
"""No relation may raise the held-out spectral angle by more: least squares shrink towards the mean what noise hides,
and the more so the noisier a band is."""

MIN_EFFECT = 0.01
"""A relation that changes the MSI by less than this part of its mean is left out by ``auto``."""

MIN_EXPLAINED = 0.2
"""``auto`` leaves the MSI alone when the best relation explains less of the held-out variance than this."""

LEAST_ERROR = 0.0025
"""A line that leaves less is good enough: curves and variations are not looked for."""

NEXT_CURVE_GAIN = 0.15
"""A spline, which knows nothing beyond the values that it saw, must be better than a power by this part."""

ACROSS_LAST = 1.25
"""A map across bands must be better than a curve or a variation by this factor to come before it."""

LEAST_CURVATURE = 0.15
"""What a line leaves must bend by this part of its standard deviation for a curve to be looked for."""

CURVED_NATS = 0.1
"""A power is looked at, when outliers are looked for, if it narrows the residuals of robust lines by so much."""

LOCAL_SIDE, LOCAL_PIXELS, CURVE_PIXELS = 12, 120, 60
"""Fewest HSI pixels along a side, and in all, that tell how a relation varies; and that tell a curve."""

_MAX_PIXELS = 30_000
_PIXELS_PER_COEFFICIENT = 8


@dataclass(frozen=True, eq=False, kw_only=True)
class Harmonization:
    """A map from the MSI's values to what the HSI makes of them.

    Parameters
    ----------
    model
        The model chosen across and along the bands.
    matrix
        (c, c): harmonised = matrix @ curve(msi) + offset.
    offset
        (c,): in the unit of the simulated MSI.
    heldout_error
        Relative RMS error of each model that was tried, on blocks that did not take part in the fit.
    inlier_fraction
        Part of the valid LR pixels that fit the relation: no cloud, change or edge.
    n_pixels
        LR pixels valid in both.
    reason
        One sentence: why this model.
    curve
        Applied first where no line follows the relation.
    local
        How the relation varies over the scene: `apply` does not know the place, so the MSI is to be set right by it
        beforehand (`geolift.pair.adjustment`). None where it does not vary.
    outliers
        (h, w) LR pixels that do not follow the relation; None where they were not looked for.
    """

    model: Model
    matrix: DoubleArray
    offset: DoubleArray
    heldout_error: dict[str, float]
    inlier_fraction: float
    n_pixels: int
    reason: str
    curve: ToneCurve | None = None
    local: LocalRelation | None = None
    outliers: NDArray[np.bool_] | None = field(default=None, repr=False)

    @property
    def is_identity(self) -> bool:
        """Whether `apply` leaves the MSI as it is."""
        return self.model == "identity" and self.curve is None

    def shape_json(self) -> dict[str, object]:
        """Return the curve, and what varies over the scene, as plain JSON types; empty where there is neither."""
        told: dict[str, object] = {}
        if self.curve is not None:
            tables = {"seen": self.curve.seen.tolist(), "wanted": self.curve.wanted.tolist()}
            told["curve"] = {"name": self.curve.name, **tables}
        if self.local is not None:
            told["local"] = {**asdict(self.local.variation), "size": self.local.size}
        return told

    def apply(self, msi: FloatArray) -> FloatArray:
        """Map MSI values (c, ...) onto the scale of the simulated MSI; NaN stays NaN.

        Under the affine model a pixel that is invalid in one band becomes invalid in all.
        """
        if self.is_identity:
            return msi
        if self.curve is not None:
            msi = self.curve.apply(msi)
        if self.model == "identity":
            return msi
        shape = (-1, *[1] * (msi.ndim - 1))
        offset = self.offset.astype(np.float32).reshape(shape)
        if self.model != "affine":
            return np.asarray(msi * np.diag(self.matrix).astype(np.float32).reshape(shape) + offset)
        # Summed band by band: a matrix product may round a pixel differently in a tile of another shape (law 1).
        mapped = np.zeros_like(msi, dtype=np.float32)
        for band, weights in enumerate(self.matrix.astype(np.float32)):
            for weight, values in zip(weights, msi, strict=True):
                mapped[band] += weight * values
        return np.asarray(mapped + offset)


def fit_harmonization(
    simulated: FloatArray, degraded_msi: FloatArray, mode: Mode = "auto", suspect: NDArray[np.bool_] | None = None
) -> Harmonization:
    """Fit the relation that maps the MSI onto the MSI simulated from the HSI.

    Raises ValueError if the shapes differ or the mode is unknown.

    Parameters
    ----------
    simulated, degraded_msi
        (c, h, w) float32 on the HSI's grid, after co-registration; NaN = invalid.
    mode
        ``auto`` lets held-out blocks decide; ``off`` keeps the MSI; ``gain`` fits one factor per band;
        ``affine`` an affine map across the bands, or per band where the pixels do not suffice.
    suspect
        (h, w) pixels that are known to be off, such as saturated ones; they take no part.

    References
    ----------
    P. J. Huber, Robust estimation of a location parameter, Ann. Math. Stat. 35, 1964,
    doi:10.1214/aoms/1177703732.
    """
    if simulated.shape != degraded_msi.shape:
        raise ValueError(f"simulated has shape {simulated.shape}, degraded_msi {degraded_msi.shape}")
    if mode not in ("auto", "off", "gain", "affine"):
        raise ValueError(f"mode is {mode!r}; one of auto, off, gain, affine is needed")
    valid = np.asarray(~(np.isnan(simulated).any(axis=0) | np.isnan(degraded_msi).any(axis=0)))
    count, bands = int(valid.sum()), simulated.shape[0]
    if mode == "off":
        return _unchanged(bands, {}, 0.0, count, "switched off")
    if count < 12:
        return _unchanged(bands, {}, 0.0, count, f"only {count} pixels are valid in both images")
    trusted = valid if suspect is None or (valid & ~suspect).sum() < 0.4 * count else valid & ~suspect
    outliers = _outliers(simulated, degraded_msi, trusted) | (valid & ~trusted)
    own = _thinned(valid & ~outliers if outliers.sum() < 0.6 * count else valid)
    evidence = Evidence.of(simulated, degraded_msi, own)
    if mode == "auto":
        choice = Choice(evidence, _affordable(bands, own.sum()))
        chosen, table, reason = choice.chosen, choice.told, choice.reason()
    else:
        chosen, reason = _asked(mode, _affordable(bands, own.sum()))
        table = {}
    relation = choice.relation if mode == "auto" else fit_relation(evidence, chosen)
    local = choice.local if mode == "auto" else None
    inliers = float((relation.weights > 0.5).mean() * (1.0 - outliers.sum() / count))
    if mode == "auto" and (chosen != Specification() or local is not None):
        explained = choice.explained()
        if explained < MIN_EXPLAINED:
            why = f"even the best relation explains only {max(explained, 0.0):.0%} of the contrast"
            return replace(_unchanged(bands, table, inliers, count, why), outliers=outliers)
        effect = max(evidence.effect(relation), 0.0 if local is None else local.size)
        if effect < MIN_EFFECT:
            why = f"the {_name(chosen, local)} relation would change it by {effect:.1%}"
            return replace(_unchanged(bands, table, inliers, count, why), outliers=outliers)
    model: Model = "affine" if chosen.across else chosen.line
    return Harmonization(
        model=model, matrix=relation.matrix, offset=relation.offset, heldout_error=table,
        inlier_fraction=inliers, n_pixels=count, reason=reason,
        curve=relation.curve, local=local, outliers=outliers,
    )  # fmt: skip


def _unchanged(bands: int, table: dict[str, float], inliers: float, count: int, reason: str) -> Harmonization:
    return Harmonization(
        model="identity",
        matrix=np.eye(bands),
        offset=np.zeros(bands),
        heldout_error=table,
        inlier_fraction=inliers,
        n_pixels=count,
        reason=reason,
    )


def _outliers(simulated: FloatArray, degraded: FloatArray, valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of clouds, shadow and change, with the MSI raised to a power where that is nearer to a line."""
    wanted, seen = (image[:, valid].astype(np.float64) for image in (simulated, degraded))
    power, narrower = find_power(wanted, seen)
    if narrower > CURVED_NATS:
        degraded = power_curve(seen, power).apply(degraded)
    return outlier_pixels(np.where(valid, simulated, np.float32(np.nan)), degraded)


def _thinned(own: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep a regular grid of the pixels where there are more than the fit needs: about as many of any larger scene."""
    step = max(1.0, float(np.sqrt(own.sum() / _MAX_PIXELS)))
    grid = np.ix_(*(np.arange(0, size, step).astype(int) for size in own.shape))
    kept = np.zeros_like(own)
    kept[grid] = own[grid]
    return kept


def _affordable(bands: int, pixels: int) -> list[Model]:
    """Models with enough pixels per coefficient."""
    coefficients = {"identity": 0, "gain": 1, "gain-offset": 2, "affine": bands + 1}
    return [m for m in MODELS if coefficients[m] * _PIXELS_PER_COEFFICIENT <= pixels * 0.8]


def _asked(mode: Mode, affordable: list[Model]) -> tuple[Specification, str]:
    """What the user asks for, as far as there are pixels for it."""
    if mode == "gain":
        return Specification("gain"), "asked for"
    if "affine" in affordable:
        return Specification("gain-offset", across=True), "asked for"
    line: Literal["gain", "gain-offset"] = "gain-offset" if "gain-offset" in affordable else "gain"
    return Specification(line), "asked for; too few pixels for a map across bands"


def _name(chosen: Specification, local: LocalRelation | None = None) -> str:
    parts = ["affine" if chosen.across else chosen.line, chosen.curve or "", "" if local is None else "local"]
    return " ".join(part for part in parts if part and part != "identity") or "identity"


@dataclass(frozen=True, eq=False)
class _Option:
    """A relation that pays: evidence with what varies set right, and the variation."""

    specification: Specification
    errors: Errors
    evidence: Evidence
    local: LocalRelation | None


class Choice:
    """The relation that held-out pixels choose: a line, then a curve, a variation, a map across bands."""

    def __init__(self, evidence: Evidence, affordable: list[Model]) -> None:
        self.evidence, self.affordable = evidence, affordable
        self.chosen = Specification()
        self.local: LocalRelation | None = None
        self.errors = relation_errors(evidence, self.chosen)
        self.told = {"identity": _rms(self.errors)}
        self._lines()
        for _ in range(3):
            if _rms(self.errors) < LEAST_ERROR or not self._further():
                break
        self.relation = fit_relation(self.evidence, self.chosen)

    def _lines(self) -> None:
        """Climb from none to a gain and an offset while the next pays."""
        for line in ("gain", "gain-offset"):
            if line in self.affordable:
                candidate = Specification(line)
                errors = relation_errors(self.evidence, candidate)
                self.told[_name(candidate)] = _rms(errors)
                if self._pays(errors, MIN_GAIN if self.chosen.line == "identity" else NEXT_GAIN):
                    self.chosen, self.errors = candidate, errors

    def _further(self) -> bool:
        """Add what lowers the error most of a curve, a variation, and a map across bands; tell whether any pays."""
        options = [*self._curve(), *self._variation(), *self._across()]
        for option in options:
            self.told[_name(option.specification, option.local)] = _rms(option.errors)
        if not options:
            return False
        best = min(
            options, key=lambda option: _rms(option.errors) * (ACROSS_LAST if option.specification.across else 1)
        )
        self.chosen, self.local, self.evidence, self.errors = best.specification, best.local, best.evidence, best.errors
        return True

    def _curve(self) -> list[_Option]:
        evidence = self.evidence
        enough = evidence.wanted.shape[1] >= CURVE_PIXELS and "gain-offset" in self.affordable
        if self.chosen.curve is not None or self.chosen.across or not enough:
            return []
        plain = replace(self.chosen, line="gain-offset")
        if curvature(evidence.wanted, evidence.predicted(fit_relation(evidence, plain))) < LEAST_CURVATURE:
            return []
        power, _ = find_power(evidence.wanted, evidence.seen)
        curves = [replace(plain, line="gain", curve="power", power=power), replace(plain, curve="spline")]
        errors = [relation_errors(evidence, curve) for curve in curves]
        offset = replace(plain, curve="power", power=power)
        beside = relation_errors(evidence, offset)
        if _rms(beside) < (1 - CURVE_GAIN) * _rms(errors[0]):  # else nothing stays nothing
            curves[0], errors[0] = offset, beside
        best = int(_rms(errors[1]) < (1 - NEXT_CURVE_GAIN) * _rms(errors[0]))
        option = _Option(curves[best], errors[best], evidence, self.local)
        return [option] if self._pays(errors[best], CURVE_GAIN) else []

    def _variation(self) -> list[_Option]:
        """Let the relation vary over the scene, where cells that took no part are predicted better."""
        evidence = self.evidence
        few = min(evidence.shape) < LOCAL_SIDE or evidence.wanted.shape[1] < LOCAL_PIXELS
        if self.local is not None or self.chosen.across or few or self.explained() < MIN_EXPLAINED:
            return []
        misfit = LocalMisfit.of(evidence, fit_relation(evidence, self.chosen))
        found = [(misfit.errors(variation), variation) for variation in CANDIDATES]
        paying = [(errors, variation) for errors, variation in found if self._pays(errors, LOCAL_GAIN)]
        if not paying:
            return []
        errors, variation = min(paying, key=lambda pair: _rms(pair[0]))
        if self.chosen.line != "identity":  # the line took for its own what nothing else could have then
            misfit = LocalMisfit.of(evidence, fit_relation(misfit.moved(variation), self.chosen))
        return [_Option(self.chosen, errors, misfit.moved(variation), misfit.fit(variation))]

    def _across(self) -> list[_Option]:
        if "affine" not in self.affordable or self.chosen.across:
            return []
        candidate = replace(self.chosen, line="gain-offset", across=True)
        errors = relation_errors(self.evidence, candidate)
        pays = self._pays(errors, CROSS_GAIN) and errors.angle_deg < self.errors.angle_deg
        return [_Option(candidate, errors, self.evidence, self.local)] if pays else []

    def _pays(self, new: Errors, least: float) -> bool:
        """Whether the error falls by a part worth having and beyond chance, and no spectra are turned."""
        old = self.errors
        straight = new.angle_deg < max(MOST_TURN * old.angle_deg, old.angle_deg + ALWAYS_TURN_DEG)
        return _rms(new) < (1 - least) * _rms(old) and straight and new.gain_over(old) > MIN_Z

    def explained(self) -> float:
        """Share of the simulated MSI's variance that the relation explains of held-out pixels."""
        return 1.0 - float(self.errors.squared.mean()) / max(self.evidence.contrast(), 1e-20)

    def reason(self) -> str:
        """One sentence."""
        before = self.told["identity"]
        if self.chosen == Specification() and self.local is None:
            return f"no relation lowers the held-out error of {before:.1%} clearly"
        return f"lowers the held-out error from {before:.1%} to {_rms(self.errors):.1%}"


def _rms(errors: Errors) -> float:
    return float(np.sqrt(errors.squared.mean()))
