"""Whether the two images show one place at all, or too little to tell.

Texture tells: what neighbouring pixels share is no noise, and two images of one place share it with each other too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geolift.pair.checks.pair import BoolArray, DoubleArray, Finding, FloatArray, PairedPixels, correlate
from geolift.pair.coregistration import ShiftEstimate
from geolift.pair.coregistration.matching import remove_local_mean

OTHER_PLACE_R, NOTHING_R = 0.55, 0.3
OTHER_PLACE_CONFIDENCE = 0.3
CHANCE_SIGMAS = 3.0


@dataclass(frozen=True)
class _Agreement:
    """Correlation found, what two images of one place with this texture reach at least, and what chance does."""

    found: float
    expected: float
    chance: float


def find_place_doubt(
    simulated: FloatArray, degraded: FloatArray, pair: PairedPixels, shift: ShiftEstimate | None
) -> Finding | None:
    """No shift was found, and no band follows any simulated band: another place, or nothing to see.

    ``simulated``, ``degraded``: (c, h, w), NaN = invalid.
    """
    confidence = 0.0 if shift is None else shift.confidence
    whole = _agreement(simulated, degraded, pair.own, np.abs(pair.correlation))
    doubtful = confidence < OTHER_PLACE_CONFIDENCE or (whole.found < NOTHING_R and not (shift and shift.reliable))
    if not doubtful:
        return None
    fine = _fine_agreement(simulated, degraded, pair.own)
    apart = whole.found < OTHER_PLACE_R
    if (apart and whole.expected > OTHER_PLACE_R) or (fine.found < fine.chance < fine.expected):
        least = fine if not apart else whole
        what = "the texture of the best-matching bands correlates" if not apart else "the best-matching bands correlate"
        return Finding(
            "other-place",
            f"the images do not show the same scene: {what} {least.found:.2f}, and no shift within the search radius "
            "makes them agree; look whether both files are of one place, their CRS and coordinates are right "
            "(`geolift info FILE`), and clouds do not hide most of it",
        )
    if not apart:
        return None
    return Finding(
        "undetermined",
        f"the images show too little to compare: the best-matching bands correlate {whole.found:.2f}, and what "
        "neighbouring pixels share is hardly more than noise; check a part of the scene with texture, such as shores",
    )


def _fine_agreement(simulated: FloatArray, degraded: FloatArray, own: BoolArray) -> _Agreement:
    """The same with local means taken off, so that the layout of dark and bright areas counts for nothing."""
    first, second = (
        remove_local_mean(np.where(own, image, 0.0).astype(np.float32), own) for image in (simulated, degraded)
    )
    r = np.abs(correlate(second[:, own].astype(np.float64), first[:, own].astype(np.float64)))
    return _agreement(first, second, own, r)


def _agreement(first: FloatArray, second: FloatArray, own: BoolArray, r: DoubleArray) -> _Agreement:
    """Agreement of two images from the correlations of their bands (c, c) and of their neighbouring pixels.

    The part of the variance that is no noise is at least the correlation of neighbours. By chance, two images with
    correlations a and b of neighbours correlate with a variance of ((1 + a b) / (1 - a b))² / n.

    References
    ----------
    P. Clifford, S. Richardson, D. Hémon, Assessing the significance of the correlation between two spatial processes,
    Biometrics 45, 1989, doi:10.2307/2532039; here for correlations that fall off geometrically.
    """
    shared = [_upper_half(_neighbours(image, own)) for image in (first, second)]
    product = float(np.prod(np.clip(shared, 0.0, 0.99)))
    chance = CHANCE_SIGMAS * (1.0 + product) / (1.0 - product) / float(np.sqrt(own.sum()))
    return _Agreement(_upper_half(r.max(axis=1)), float(np.sqrt(product)), chance)


def _upper_half(values: DoubleArray) -> float:
    """Mean of the better half of the bands; some show nothing in any scene."""
    return float(np.sort(values)[-max(1, values.size // 2) :].mean())


def _neighbours(images: FloatArray, own: BoolArray) -> DoubleArray:
    """Correlation of each band (c, h, w) with itself one pixel away: (c,)."""
    values = np.where(own, images, 0.0)
    centred = np.where(own, values - values[:, own].mean(axis=1, dtype=np.float64)[:, None, None], 0.0)
    power = np.square(centred[:, own]).mean(axis=1)
    alive = power > 1e-12 * np.square(values[:, own]).mean(axis=1) + 1e-30
    across, down = own[:, 1:] & own[:, :-1], own[1:] & own[:-1]
    products = (centred[:, :, 1:] * centred[:, :, :-1])[:, across].sum(axis=1) + (centred[:, 1:] * centred[:, :-1])[
        :, down
    ].sum(axis=1)
    shared = products / max(1, int(across.sum() + down.sum()))
    return np.where(alive, shared / np.maximum(power, 1e-30), 0.0)
