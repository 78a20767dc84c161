"""The cross-sensor check: names the likely mistake in a pair, in words and with the option to add.

The MSI degraded to the HSI's pixels is held against the MSI simulated from the HSI, band by band. Each
test asks one question (right place? right order? right scale? right offset? right sensor? aligned?
clear?) and speaks only beyond what different atmospheres, dates and noise do to a clean pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from geolift.coregistration import ShiftEstimate
from geolift.robust import foreign_pixels, robust_line

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# Calibrated by benchmarks/check_injection.py: no alarm on the clean pairs, every planted mistake named.
MIN_PIXELS = 16
OTHER_PLACE_R, NOTHING_R = 0.55, 0.3
OTHER_PLACE_CONFIDENCE = 0.3
ORDER_GAIN = 0.25
ORDER_ALIKE_R = 0.98
SENSOR_GAIN = 0.3
SENSOR_ALIKE_R = 0.9995
OFFSETS = (0.1, -0.1)
OFFSET_COST = 1.0
OFFSET_TOLERANCE = 0.045
IMPLAUSIBLE = (3e-5, 3e4)
SHIFT_LR = 0.5
FOREIGN_SIGMA = 6.0
FOREIGN_FRACTION = 0.12


@dataclass(frozen=True)
class Finding:
    """One result of the check.

    Parameters
    ----------
    code
        ok, offset, scale, units, band-order, sensor, shift, cloud-or-change, no-overlap, other-place, or
        undetermined.
    message
        One sentence with the numbers.
    option
        The option that repairs it, empty if there is none.
    """

    code: str
    message: str
    option: str = ""


@dataclass(frozen=True)
class BandCheck:
    """How one MSI band relates to its simulated counterpart: msi = slope x simulated + intercept.

    Parameters
    ----------
    name
        Band name.
    slope, intercept
        Robust line through the LR pixels; the intercept in the MSI's unit.
    r
        Correlation over the pixels that belong to the scene.
    best_match
        Name of the simulated band that correlates best.
    """

    name: str
    slope: float
    intercept: float
    r: float
    best_match: str


@dataclass(frozen=True)
class CheckResult:
    """Findings, the most fundamental first, and the table they rest on."""

    verdict: tuple[Finding, ...]
    bands: tuple[BandCheck, ...]
    n_pixels: int
    foreign_fraction: float

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """Findings that need a hand: neither ok nor undetermined."""
        return tuple(f for f in self.verdict if f.code not in ("ok", "undetermined"))


@dataclass(frozen=True)
class Candidate:
    """What another sensor, or all bands of the named one, would have seen.

    Parameters
    ----------
    names
        Band names (c',).
    simulated
        (c', h, w) float32 on the HSI's grid.
    """

    names: tuple[str, ...]
    simulated: FloatArray


@dataclass(frozen=True)
class Reading:
    """How the values were read (value = DN x scale + offset), so that options can be given in full.

    Parameters
    ----------
    msi_scale, msi_offset, hsi_scale, hsi_offset
        Applied by the readers.
    sensor_known, bands_known
        Whether product metadata names the spacecraft, and the bands.
    """

    msi_scale: float = 1.0
    msi_offset: float = 0.0
    hsi_scale: float = 1.0
    hsi_offset: float = 0.0
    sensor_known: bool = False
    bands_known: bool = False
    reflectance: bool = True


@dataclass(frozen=True, eq=False)
class _Pair:
    """Pixels that belong to the scene, (c, n) each, and what was left out."""

    names: tuple[str, ...]
    own: BoolArray
    simulated: DoubleArray
    seen: DoubleArray
    foreign_fraction: float
    correlation: DoubleArray


_Fit = tuple[float, list[str], DoubleArray]


def check_pair(
    simulated: FloatArray,
    degraded_msi: FloatArray,
    band_names: Sequence[str],
    shift: ShiftEstimate | None,
    ratio: float,
    *,
    sensor: str = "",
    candidates: Mapping[str, Candidate] | None = None,
    reading: Reading | None = None,
) -> CheckResult:
    """Check a pair for the mistakes that make a plausible, wrong product.

    Parameters
    ----------
    simulated, degraded_msi
        (c, h, w) float32 on the HSI's grid, after the shift if one was applied; NaN = invalid.
    band_names
        Names of the c bands, in the order of the arrays.
    shift
        The shift found, None if it was not looked for.
    ratio
        MSI pixels per HSI pixel.
    sensor
        The sensor named by the user or the metadata.
    candidates
        What other sensors would have seen, by sensor; under the named sensor's own key, all its bands.
    reading
        How the values were read.
    """
    known = reading or Reading()
    names = tuple(band_names)
    pair = _pair(simulated, degraded_msi, names)
    if pair is None:
        message = "the two images share no valid pixels" if shift is None else f"nothing to compare: {shift.reason}"
        return CheckResult((Finding("no-overlap", message),), (), 0, 0.0)
    place = _other_place(pair, shift)
    if place is not None:
        return CheckResult((place,), _table(pair), pair.own.sum().item(), pair.foreign_fraction)
    findings: list[Finding] = []
    order = _order(pair)
    other = _sensor(pair, order, sensor, candidates or {})
    if other is not None:
        findings.append(other)
    elif order is not None:
        findings.append(_order_finding(pair, order))
        pair = _pair(simulated[order], degraded_msi, tuple(names[i] for i in order)) or pair
    findings += _scale_or_offset(pair, known)
    findings += _shift(shift, ratio)
    findings += _clouds(pair)
    if not findings:
        findings += _undetermined(pair, sensor, candidates or {}, known)
    if not findings:
        findings.append(_ok(pair))
    bands = _table(_pair(simulated, degraded_msi, names) or pair)
    return CheckResult(tuple(findings), bands, int(pair.own.sum()), pair.foreign_fraction)


def _pair(simulated: FloatArray, degraded: FloatArray, names: tuple[str, ...]) -> _Pair | None:
    """Keep the pixels that are valid in both and belong to the scene; None if there are too few."""
    valid = np.asarray(~(np.isnan(simulated).any(axis=0) | np.isnan(degraded).any(axis=0)))
    if valid.sum() < MIN_PIXELS:
        return None
    foreign = foreign_pixels(simulated, degraded, FOREIGN_SIGMA)
    fraction = float(foreign.sum() / valid.sum())
    own = valid & ~foreign if fraction < 0.6 else valid
    x, y = simulated[:, own].astype(np.float64), degraded[:, own].astype(np.float64)
    return _Pair(names, own, x, y, fraction, _correlation(y, x))


def _ok(pair: _Pair) -> Finding:
    r = np.diag(pair.correlation)
    text = f"no mistake found: the bands correlate {r.min():.3f} ... {r.max():.3f}"
    gain = float(np.median(_lines(pair)[0]))
    if not 0.2 < gain < 5.0:
        text += f"; the MSI is in another unit than the HSI (gain {gain:.3g}), which harmonisation takes up"
    return Finding("ok", text)


def _correlation(rows: DoubleArray, columns: DoubleArray) -> DoubleArray:
    """Correlation of each row image with each column image, gross outliers clipped."""
    a, b = _standard(rows), _standard(columns)
    return np.asarray(np.clip(a @ b.T / a.shape[1], -0.99999, 0.99999), np.float64)


def _standard(images: DoubleArray) -> DoubleArray:
    low, high = np.quantile(images, (0.005, 0.995), axis=1, keepdims=True)
    clipped = np.clip(images, low, high)
    clipped = clipped - clipped.mean(axis=1, keepdims=True)
    return np.asarray(clipped / np.maximum(clipped.std(axis=1, keepdims=True), 1e-12))


def _table(pair: _Pair) -> tuple[BandCheck, ...]:
    rows = []
    for band, name in enumerate(pair.names):
        slope, intercept, _ = robust_line(pair.simulated[band], pair.seen[band])
        best = pair.names[int(np.argmax(pair.correlation[band]))]
        rows.append(BandCheck(name, slope, intercept, float(pair.correlation[band, band]), best))
    return tuple(rows)


def _other_place(pair: _Pair, shift: ShiftEstimate | None) -> Finding | None:
    """No band follows any simulated band, and no shift was found where one does."""
    best = float(np.sort(np.abs(pair.correlation).max(axis=1))[-max(1, len(pair.names) // 2) :].mean())
    confidence = 0.0 if shift is None else shift.confidence
    doubtful = confidence < OTHER_PLACE_CONFIDENCE or (best < NOTHING_R and not (shift and shift.reliable))
    if best >= OTHER_PLACE_R or not doubtful:
        return None
    return Finding(
        "other-place",
        f"the images do not show the same scene: the best-matching bands correlate {best:.2f}, and no shift "
        "within the search radius makes them agree; check that both files are of one place, or the CRS",
        "",
    )


def _order(pair: _Pair) -> NDArray[np.intp] | None:
    """Simulated band that each MSI band holds, if that is clearly not the order given."""
    if len(pair.names) < 2:
        return None
    loss = 0.5 * np.log1p(-(np.maximum(pair.correlation, 0.0) ** 2))
    _, order = linear_sum_assignment(loss)
    gain = np.diag(loss) - loss[np.arange(order.size), order]
    moved = order != np.arange(order.size)
    if not moved.any() or gain[moved].mean() < ORDER_GAIN:
        return None
    return _without_idle_moves(loss, order)


def _without_idle_moves(loss: DoubleArray, order: NDArray[np.intp]) -> NDArray[np.intp] | None:
    """Undo the cycles of the permutation that gain too little; None if nothing is left."""
    kept = np.arange(order.size)
    for start in range(order.size):
        cycle, band = [start], int(order[start])
        while band != start:
            cycle.append(band)
            band = int(order[band])
        gains = [loss[b, b] - loss[b, order[b]] for b in cycle]
        if len(cycle) > 1 and np.mean(gains) >= ORDER_GAIN:
            kept[cycle] = order[cycle]
    return kept if (kept != np.arange(order.size)).any() else None


def _order_finding(pair: _Pair, order: NDArray[np.intp]) -> Finding:
    names = [pair.names[i] for i in order]
    moved = [i for i in range(order.size) if order[i] != i]
    what = (
        "the MSI bands are in reverse order"
        if list(order) == list(range(order.size))[::-1]
        else "; ".join(f"band {i + 1} ({pair.names[i]}) looks like {names[i]}" for i in moved[:4])
    )
    before = np.mean([pair.correlation[i, i] for i in moved])
    after = np.mean([pair.correlation[i, order[i]] for i in moved])
    return Finding(
        "band-order",
        f"{what}: correlation {before:.2f} as given, {after:.2f} that way",
        f"--msi-bands {','.join(names)}",
    )


def _sensor(
    pair: _Pair, order: NDArray[np.intp] | None, sensor: str, candidates: Mapping[str, Candidate]
) -> Finding | None:
    """Another sensor's curves, in their own order, explain the MSI clearly better than the named one's."""
    columns = np.arange(len(pair.names)) if order is None else order
    named = float(_band_loss(pair.correlation[np.arange(columns.size), columns]).mean())
    tried = {key: _candidate_fit(pair, c) for key, c in candidates.items() if key != sensor}
    fits = {key: fit for key, fit in tried.items() if fit is not None}
    if not fits:
        return None
    best = min(fits, key=lambda key: fits[key][0])
    loss, names, r = fits[best]
    if named - loss < SENSOR_GAIN:
        return None
    alike = [key for key, fit in fits.items() if key != best and fit[0] - loss < 0.1]
    others = f" (or {', '.join(alike[:3])})" if alike else ""
    given = f"{sensor}'s" if sensor else "the given"
    return Finding(
        "sensor",
        f"the MSI fits the bands of {best}{others} better than {given}: mean correlation "
        f"{np.mean(r):.3f} against {np.diag(pair.correlation).mean():.3f}",
        f"--sensor {best} --msi-bands {','.join(names)}",
    )


def _band_loss(r: DoubleArray) -> DoubleArray:
    """Half the log of the variance that a line through the band leaves."""
    return np.asarray(0.5 * np.log1p(-(np.maximum(r, 0.0) ** 2)), np.float64)


def _candidate_fit(pair: _Pair, candidate: Candidate) -> _Fit | None:
    """Mean loss, band names and correlations of the candidate's bands that fit best; None if too few."""
    if len(candidate.names) < len(pair.names):
        return None
    values = candidate.simulated[:, pair.own].astype(np.float64)
    usable = np.isfinite(values).all(axis=0)
    if usable.sum() < MIN_PIXELS:
        return None
    correlation = _correlation(pair.seen[:, usable], values[:, usable])
    columns = _rising_assignment(_band_loss(correlation))
    r = correlation[np.arange(columns.size), columns]
    return float(_band_loss(r).mean()), [candidate.names[i] for i in columns], r


def _rising_assignment(loss: DoubleArray) -> NDArray[np.intp]:
    """Cheapest choice of one column per row with rising columns: bands keep their sensor's order."""
    rows, columns = loss.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0] = 0.0
    for row in range(rows):
        for column in range(row, columns):
            taken = total[row, column] + loss[row, column]
            total[row + 1, column + 1] = min(total[row + 1, column], taken)
    chosen, column = [], columns
    for row in range(rows, 0, -1):
        while total[row, column - 1] <= total[row, column]:
            column -= 1
        column -= 1
        chosen.append(column)
    return np.array(chosen[::-1], np.intp)


def _lines(pair: _Pair) -> tuple[DoubleArray, DoubleArray, DoubleArray]:
    """Slope, value at the middle, and the middle, per band: seen against simulated.

    The slope of the robust line is divided by the correlation of the band (reduced major axis), since
    noise and misregistration in the simulated band flatten it.
    """
    r = np.maximum(np.diag(pair.correlation), 0.3)
    lines = [robust_line(x, y) for x, y in zip(pair.simulated, pair.seen, strict=True)]
    middle = np.median(pair.simulated, axis=1)
    slope = np.array([line[0] for line in lines])
    value = slope * middle + np.array([line[1] for line in lines])
    return slope / r, value, middle


def _scale_or_offset(pair: _Pair, known: Reading) -> list[Finding]:
    """A factor of a power of ten, Landsat's numbers taken for reflectance, or a lost or doubled offset."""
    slope, value, middle = _lines(pair)
    factor = float(np.median(slope))
    if not known.reflectance or factor <= 0:
        return []
    if not IMPLAUSIBLE[0] < factor < IMPLAUSIBLE[1] and not _plausible(pair.seen):
        return [_scale_finding(pair, factor, round(np.log10(factor) / 4) * 4, known)]
    power = round(np.log10(factor))
    if abs(power) in (2, 4, 8) and abs(np.log10(factor) - power) < 0.4 and not _counts(pair, power):
        return [_scale_finding(pair, factor, power, known)]
    intercept = value - slope * middle
    if 2.5 < np.median(slope) < 5.0 and 0.5 < np.median(intercept) < 0.95:
        return [_landsat_finding(float(np.median(slope)), float(np.median(intercept)), known)]
    if 0.2 < factor < 5.0:
        return _offset(pair, slope, value, middle, known)
    return []


def _counts(pair: _Pair, power: int) -> bool:
    """Whether a factor of a hundred comes from 8-bit counts, whose gain is arbitrary."""
    top = float(np.quantile(pair.seen, 0.99))
    return power == 2 and 30.0 < top <= 256.0


def _plausible(values: DoubleArray) -> bool:
    """Whether values can be reflectance."""
    return bool(0.002 < np.median(np.abs(values)) < 1.5)


def _scale_finding(pair: _Pair, factor: float, power: int, known: Reading) -> Finding:
    which = "hsi" if _plausible(pair.seen) and not _plausible(pair.simulated) else "msi"
    size = 10.0 ** (power if which == "msi" else -power)
    scale = known.msi_scale if which == "msi" else known.hsi_scale
    name = which.upper()
    relation = f"the MSI is {factor:.3g} times the MSI simulated from the HSI"
    if size > 1:
        why = f"the {name}'s scale factor of {1 / size:g} was not applied"
    else:
        why = f"the {name} was divided by {1 / size:g} once too often"
    return Finding("scale", f"{relation} in all bands: {why}", f"--{which}-scale {scale / size:.6g}")


def _landsat_finding(slope: float, intercept: float, known: Reading) -> Finding:
    return Finding(
        "scale",
        f"the MSI is {slope:.2f} times the simulated one plus {intercept:.2f}: Landsat Collection 2 numbers "
        "were read as reflectance x 10000",
        "--msi-scale 2.75e-05 --msi-offset -0.2",
    )


def _offset(pair: _Pair, slope: DoubleArray, value: DoubleArray, middle: DoubleArray, known: Reading) -> list[Finding]:
    """A common offset near plus or minus 0.1 explains the bands, and none does not."""
    r = np.diag(pair.correlation)
    cost = {c: _offset_cost(c, slope, value, middle, r) for c in (0.0, *OFFSETS)}
    grid = np.linspace(-0.25, 0.25, 101)
    free = float(grid[np.argmin([_offset_cost(c, slope, value, middle, r) for c in grid])])
    best = min(OFFSETS, key=lambda c: cost[c])
    if cost[0.0] - cost[best] < OFFSET_COST or abs(free - best) > OFFSET_TOLERANCE:
        return []
    return [_offset_finding(pair, best, free, known)]


def _offset_cost(offset: float, slope: DoubleArray, value: DoubleArray, middle: DoubleArray, r: DoubleArray) -> float:
    """How strained the bands are under a common offset: each may choose its gain, at a price."""
    gain = np.geomspace(0.3, 3.0, 121)[:, None]
    slope_sigma = np.maximum(slope, 0.1) * (0.06 + 0.8 * (1.0 - r))
    strain = ((slope - gain) / slope_sigma) ** 2
    strain = strain + ((value - gain * middle - offset) / 0.02) ** 2 + (np.log(gain) / 0.25) ** 2
    return float(np.minimum(strain, 25.0).min(axis=0).mean())


def _offset_finding(pair: _Pair, offset: float, found: float, known: Reading) -> Finding:
    dark_hsi = float(np.quantile(pair.simulated, 0.01))
    dark_msi = float(np.quantile(pair.seen, 0.01))
    at_hsi = offset > 0 and dark_hsi < -0.03 and dark_msi > -0.03
    side = "darker" if offset < 0 else "brighter"
    text = f"the MSI is {abs(found):.2f} {side} than the MSI simulated from the HSI in all bands"
    if at_hsi:
        hsi_offset = known.hsi_offset + offset
        why = f"the HSI's darkest pixels are at {dark_hsi:.2f}, so it is the HSI that is too dark"
        return Finding("offset", f"{text}: {why}", f"--hsi-offset {hsi_offset:.6g}")
    why = (
        "the Sentinel-2 processing-baseline offset of -1000 was not applied"
        if offset > 0
        else "the Sentinel-2 processing-baseline offset of -1000 was applied twice"
    )
    return Finding("offset", f"{text}: {why}", f"--msi-offset {known.msi_offset - offset:.6g}")


def _shift(shift: ShiftEstimate | None, ratio: float) -> list[Finding]:
    """The HSI lies half an HSI pixel or more beside the MSI."""
    if shift is None or not shift.reliable:
        return []
    size = float(np.hypot(shift.dy, shift.dx))
    error = float(np.hypot(shift.sigma_dy, shift.sigma_dx))
    if size < max(SHIFT_LR * ratio, 1.0) or size < 3.0 * error:
        return []
    return [
        Finding(
            "shift",
            f"the HSI lies {size:.1f} MSI pixels off the MSI: moving it by dy {shift.dy:+.2f}, "
            f"dx {shift.dx:+.2f} raises the agreement from {shift.agreement_before:.2f} to "
            f"{shift.agreement_after:.2f}",
            f"--coregister {shift.dy:.2f},{shift.dx:.2f}",
        )
    ]


def _clouds(pair: _Pair) -> list[Finding]:
    if pair.foreign_fraction < FOREIGN_FRACTION:
        return []
    return [
        Finding(
            "cloud-or-change",
            f"{pair.foreign_fraction:.0%} of the compared pixels do not follow the others: clouds, shadow, or "
            "change between the two dates",
            "--mask FILE",
        )
    ]


def _undetermined(pair: _Pair, sensor: str, candidates: Mapping[str, Candidate], known: Reading) -> list[Finding]:
    """What nothing contradicts and nothing settles: spacecraft of one family, bands that look alike here."""
    findings = []
    if not known.sensor_known:
        alike = [k for k, c in candidates.items() if k != sensor and _alike_sensor(pair, c)]
        if alike:
            names = ", ".join(alike[:4]) + (f" and {len(alike) - 4} more" if len(alike) > 4 else "")
            text = f"the images cannot tell {sensor or 'the sensor named'} from {names}; nothing else is wrong"
            findings.append(Finding("undetermined", text, "--sensor NAME"))
    if not known.bands_known:
        twins = _alike_bands(pair, candidates.get(sensor))
        if twins:
            text = f"the images cannot tell these bands apart: {', '.join(twins[:4])}; nothing else is wrong"
            findings.append(Finding("undetermined", text, "--msi-bands LIST"))
    return findings


def _alike_sensor(pair: _Pair, candidate: Candidate) -> bool:
    """Whether a sensor of as many bands would have seen nearly the same."""
    if len(candidate.names) != len(pair.names):
        return False
    values = candidate.simulated[:, pair.own].astype(np.float64)
    return bool(np.diag(_correlation(pair.simulated, values)).min() > SENSOR_ALIKE_R)


def _alike_bands(pair: _Pair, whole: Candidate | None) -> list[str]:
    """Pairs of bands, one of them in the file, whose simulated images can stand for each other."""
    names, images = list(pair.names), pair.simulated
    if whole is not None:
        extra = [i for i, name in enumerate(whole.names) if name not in names]
        names += [whole.names[i] for i in extra]
        images = np.concatenate([images, whole.simulated[extra][:, pair.own].astype(np.float64)])
    close = _correlation(images[: len(pair.names)], images) > ORDER_ALIKE_R
    return [f"{names[i]}/{names[j]}" for i in range(len(pair.names)) for j in range(i + 1, len(names)) if close[i, j]]
