"""Which band is which: band order and sensor, told from the correlation of every MSI band with every simulated one.

Only correlations are compared, so gains and offsets between the sensors do not matter. Where bands look much alike,
what all of them miss in common (shading, a rest of the shift) hides which is which; the usual mistakes are then
judged once more by what the bands miss together.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from geolift.pair.checks.pair import (
    MIN_PIXELS,
    Candidate,
    DoubleArray,
    Finding,
    PairedPixels,
    Reading,
    correlate,
    correlation_of,
    noise_shares,
    standardise,
)

# Calibrated by benchmarks/check_injection.py: no alarm on the clean pairs, every planted mistake named.
ORDER_GAIN = 0.25
"""Nats per moved band by which another order must explain the MSI better."""

JOINT_PIXELS, JOINT_ROUNDING = 64, 1e-4
"""Pixels from which the bands are judged together, and the part of a band's variance that is not looked into then.
Parts of clean pairs of as many pixels reach 0.12 nats per moved band, NEON's camera with two bands swapped has 0.47."""

SENSOR_GAIN = 0.25
"""Nats per band by which another sensor must; clean pairs reach 0.2, through the noise of narrow bands."""

SENSOR_EVIDENCE = 0.35
"""The same once the HSI's noise is taken off, as sum over the bands by the root of their number: one band that is
clearly another's tells as much as all of them being a little off, and errors of single bands average out."""

NOISE_DOUBT = 0.1
"""Below this evidence the HSI's noise explains all that another sensor gains."""

SENSOR_OVER_SWAP, SENSOR_OVER_SHUFFLE = 0.5, 0.02
"""The same over another order of the named sensor's bands. Two bands swapped, or all reversed, is a usual mistake;
any other shuffle is more likely another sensor in its own order."""

SENSOR_DOUBT = -0.05
"""From this gain on another sensor explains the MSI as well as the named one."""

MAX_TWINS = 12
"""Pairs of bands named in one message."""

MUCH_FOREIGN = 0.18
"""With this part of the pixels under clouds, the evidence on the sensor must be twice as strong."""

BAND_ALIKE_R = 0.98
"""Bands whose simulated images correlate so well can stand for each other."""


@dataclass(frozen=True)
class CandidateFit:
    """The candidate's bands that fit the MSI's best: their positions, correlations (c,), and mean loss in nats."""

    columns: NDArray[np.intp]
    r: DoubleArray
    loss: float


def find_order(pair: PairedPixels) -> NDArray[np.intp] | None:
    """Simulated band that each MSI band holds, if that is clearly not the order given."""
    if len(pair.names) < 2:
        return None
    loss = 0.5 * np.log1p(-(np.maximum(pair.correlation, 0.0) ** 2))
    if (np.diag(loss) <= loss.min(axis=1)).all():
        return None
    from scipy.optimize import linear_sum_assignment  # a quarter of a second

    _, order = linear_sum_assignment(loss)
    gain = np.diag(loss) - loss[np.arange(order.size), order]
    moved = order != np.arange(order.size)
    if not moved.any() or gain[moved].mean() < ORDER_GAIN:
        return None
    return _without_idle_moves(loss, order)


def find_usual_order(pair: PairedPixels, found: NDArray[np.intp] | None) -> NDArray[np.intp] | None:
    """All bands reversed or two swapped, if that explains the bands together better than the order given or found.

    The evidence is half the log determinant of what lines through the bands leave: errors that the bands share, and
    that drown the difference of two similar bands in each of them, count once there.
    """
    if len(pair.names) < 2 or pair.own.sum() < JOINT_PIXELS:
        return found
    given = np.arange(len(pair.names))
    images = np.concatenate([standardise(pair.seen), standardise(pair.simulated)])
    products = images @ images.T / images.shape[1]
    as_given = _joint_loss(products, given)

    def gain(order: NDArray[np.intp]) -> float:
        return (as_given - _joint_loss(products, order)) / int((order != given).sum())

    best = max(_usual_orders(given.size), key=gain)
    worse = gain(best) < ORDER_GAIN or (
        found is not None and _joint_loss(products, found) <= _joint_loss(products, best)
    )
    return found if worse else best


def _usual_orders(count: int) -> list[NDArray[np.intp]]:
    """All bands reversed, and each two of them swapped."""
    orders = [np.arange(count)[::-1]]
    for one, two in combinations(range(count), 2):
        order = np.arange(count)
        order[[one, two]] = two, one
        orders.append(order)
    return orders


def _joint_loss(products: DoubleArray, order: NDArray[np.intp]) -> float:
    """Half the log determinant of the covariance that rising lines through the bands leave, in nats.

    ``products``: (2 c, 2 c) correlations of the seen bands and, after them, the simulated ones.
    """
    count, other = order.size, order.size + order
    crossed = products[:count, other]
    slope = np.maximum(np.diag(crossed), 0.0)
    crossed = crossed * slope
    left = products[:count, :count] - crossed - crossed.T + np.outer(slope, slope) * products[np.ix_(other, other)]
    return 0.5 * float(np.linalg.slogdet(left + JOINT_ROUNDING * np.eye(count))[1])


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


def order_finding(pair: PairedPixels, order: NDArray[np.intp]) -> Finding:
    """Say which bands hold what, with the option that renames them."""
    names = [pair.names[i] for i in order]
    moved = [i for i in range(order.size) if order[i] != i]
    what = (
        "the MSI bands are in reverse order"
        if list(order) == list(range(order.size))[::-1]
        else "; ".join(f"the file's band {i + 1}, taken for {pair.names[i]}, looks like {names[i]}" for i in moved[:4])
    )
    if "reverse" not in what and len(moved) > 4:
        what += f"; and {len(moved) - 4} more"
    before = np.mean([pair.correlation[i, i] for i in moved])
    after = np.mean([pair.correlation[i, order[i]] for i in moved])
    evidence = f"correlation {before:.2f} as taken, {after:.2f} in the order of the option"
    if after - before < 0.01:
        evidence = f"each correlates alike ({after:.2f}), but what sets them apart fits in the order of the option only"
    return Finding("band-order", f"{what}: {evidence}", f"--msi-bands {','.join(names)}")


@dataclass(frozen=True)
class Rival:
    """Another sensor that explains the MSI clearly better than the named one.

    ``bands`` are those of its bands that fit best, ``r`` their correlations; ``alike`` are sensors nearly
    as good. ``twin``: the named sensor's instrument on another spacecraft.
    """

    name: str
    bands: tuple[str, ...]
    r: DoubleArray
    alike: tuple[str, ...]
    twin: bool


def fit_candidates(
    pair: PairedPixels, sensor: str, candidates: Mapping[str, Candidate], threads: int = 1
) -> dict[str, CandidateFit]:
    """How other sensors than the named one explain the MSI, where they have the bands."""
    others = {key: candidate for key, candidate in candidates.items() if key != sensor}
    seen = standardise(pair.seen)
    with ThreadPoolExecutor(threads) as pool:
        fits = list(pool.map(lambda candidate: _candidate_fit(pair, seen, candidate), others.values()))
    return {key: fit for key, fit in zip(others, fits, strict=True) if fit is not None}


def find_rival(
    pair: PairedPixels,
    order: NDArray[np.intp] | None,
    candidates: Mapping[str, Candidate],
    fits: Mapping[str, CandidateFit],
) -> Rival | None:
    """Another sensor's curves, in their own order, explain the MSI clearly better than the named one's as ordered."""
    columns = np.arange(len(pair.names)) if order is None else order
    named = float(_band_loss(pair.correlation[np.arange(columns.size), columns]).mean())
    if not fits:
        return None
    best = min(fits, key=lambda key: fits[key].loss)
    fit = fits[best]
    gain = named - fit.loss
    if order is None:
        evidence = _evidence(pair, fit, candidates[best])
        explained = evidence < NOISE_DOUBT
        strength = 0.0 if explained else float(np.fmax(gain / SENSOR_GAIN, evidence / SENSOR_EVIDENCE))
    else:
        strength = gain / _least_over(order)
    if strength < (2 if pair.outlier_fraction > MUCH_FOREIGN else 1):
        return None
    alike = tuple(key for key, other in fits.items() if key != best and other.loss - fit.loss < 0.1)
    bands = tuple(candidates[best].names[i] for i in fit.columns)
    return Rival(best, bands, fit.r, alike, candidates[best].twin)


def sensor_finding(pair: PairedPixels, sensor: str, rival: Rival) -> Finding:
    """Say which sensor fits better, and in which band most of all."""
    others = f" (or {', '.join(rival.alike[:3])})" if rival.alike else ""
    given = f"{sensor}'s" if sensor else "the given ones"
    as_named = np.diag(pair.correlation)
    worst = int(np.argmax(_band_loss(as_named) - _band_loss(rival.r)))
    return Finding(
        "sensor",
        f"the MSI fits the bands of {rival.name}{others} better than {given}, most of all the file's "
        f"band {worst + 1} (taken for {pair.names[worst]}): correlation {rival.r[worst]:.5f} against "
        f"{as_named[worst]:.5f}; look up which sensor took the image",
        f"--sensor {rival.name} --msi-bands {','.join(rival.bands)}",
    )


def _evidence(pair: PairedPixels, fit: CandidateFit, candidate: Candidate) -> float:
    """Evidence for the candidate that the HSI's noise does not explain; NaN if the noise is not known.

    A narrow band of the named sensor averages fewer HSI bands than a wide one of the candidate, and fits worse
    through its noise alone. The candidate is charged with the noise that it has less.
    """
    left, other = _unexplained(np.diag(pair.correlation)), _unexplained(fit.r)
    less_noise = pair.noise_share - noise_shares(candidate.simulated[fit.columns], pair.own)
    gain = 0.5 * np.log(left / (other + np.maximum(less_noise, 0.0)))
    return float(gain.sum() / np.sqrt(gain.size))


def _least_over(order: NDArray[np.intp]) -> float:
    """Gain that a sensor needs over an order of the named one's bands."""
    moved = int((order != np.arange(order.size)).sum())
    usual = moved == 2 or bool((order[::-1] == np.arange(order.size)).all())
    return SENSOR_OVER_SWAP if usual else SENSOR_OVER_SHUFFLE


def _band_loss(r: DoubleArray) -> DoubleArray:
    """Half the log of the variance that a line through the band leaves."""
    return np.asarray(0.5 * np.log(_unexplained(r)), np.float64)


def _unexplained(r: DoubleArray) -> DoubleArray:
    """Part of a band's variance that a rising line leaves."""
    return np.asarray(1.0 - np.maximum(r, 0.0) ** 2, np.float64)


def _candidate_fit(pair: PairedPixels, seen: DoubleArray, candidate: Candidate) -> CandidateFit | None:
    """Choose the candidate's bands that fit best, in its own order; None if they or the pixels are too few.

    ``seen``: the pair's, standardised.
    """
    if len(candidate.names) < len(pair.names):
        return None
    values = candidate.simulated[:, pair.own].astype(np.float64)
    usable = np.isfinite(values).all(axis=0)
    if usable.sum() < MIN_PIXELS:
        return None
    if not usable.all():
        seen, values = standardise(pair.seen[:, usable]), values[:, usable]
    correlation = correlation_of(seen, standardise(values))
    columns = _rising_assignment(_band_loss(correlation))
    r = correlation[np.arange(columns.size), columns]
    return CandidateFit(columns, r, float(_band_loss(r).mean()))


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


def find_doubts(
    pair: PairedPixels,
    sensor: str,
    candidates: Mapping[str, Candidate],
    fits: Mapping[str, CandidateFit],
    known: Reading,
    rival: Rival | None = None,
) -> list[Finding]:
    """What nothing contradicts and nothing settles: spacecraft of one family, bands that look alike here.

    ``rival``: the twin that fits better. Which spacecraft it was, metadata tell better than images.
    """
    findings = [] if known.sensor_known else _sensor_doubt(pair, sensor, candidates, fits, rival)
    if not known.bands_known:
        twins = _alike_bands(pair, candidates.get(sensor))
        if twins:
            more = f" and {len(twins) - MAX_TWINS} more pairs" if len(twins) > MAX_TWINS else ""
            text = "these bands look so alike in this scene that one could stand for the other unnoticed: "
            text += f"{', '.join(twins[:MAX_TWINS])}{more}; make sure which bands the file holds, in which order"
            findings.append(Finding("undetermined", text, "--msi-bands LIST"))
    return findings


def _sensor_doubt(
    pair: PairedPixels,
    sensor: str,
    candidates: Mapping[str, Candidate],
    fits: Mapping[str, CandidateFit],
    rival: Rival | None,
) -> list[Finding]:
    if rival is not None:
        text = (
            f"the images speak for {rival.name} rather than {sensor}, whose bands differ little (the same instrument "
        )
        return [Finding("undetermined", text + "on two spacecraft); name the one that took the MSI", "--sensor NAME")]
    # Sensors of as many bands that explain the MSI as well as the named one.
    named = float(_band_loss(np.diag(pair.correlation)).mean())
    many = [key for key in fits if len(candidates[key].names) == len(pair.names)]
    alike = [key for key in many if named - fits[key].loss > SENSOR_DOUBT]
    if not alike:
        return []
    names = ", ".join(alike[:4]) + (f" and {len(alike) - 4} more" if len(alike) > 4 else "")
    text = f"nothing contradicts {sensor or 'the sensor'}, but the images cannot tell it from {names}; name the "
    return [Finding("undetermined", text + "one that took the MSI", "--sensor NAME")]


def _alike_bands(pair: PairedPixels, whole: Candidate | None) -> list[str]:
    """Pairs of bands, one of them in the file, whose simulated images can stand for each other; closest first."""
    names, images = list(pair.names), pair.simulated
    if whole is not None:
        extra = [i for i, name in enumerate(whole.names) if name not in names]
        names += [whole.names[i] for i in extra]
        images = np.concatenate([images, whole.simulated[extra][:, pair.own].astype(np.float64)])
    r = correlate(images[: len(pair.names)], images)
    close = [
        (r[i, j], i, j) for i in range(len(pair.names)) for j in range(i + 1, len(names)) if r[i, j] > BAND_ALIKE_R
    ]
    return [f"{names[i]}/{names[j]}" for _, i, j in sorted(close, reverse=True)]
