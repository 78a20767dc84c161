"""Places to draw spectra of, chosen before anybody looks: one of each kind of ground the MSI tells apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

KINDS = 6
ROUNDS = 20
CALM_SHARE = 0.2
"""The calmest pixel is taken among this part of a kind's pixels, those most like its mean."""


@dataclass(frozen=True)
class Place:
    """A pixel that stands for a kind of ground: where it is in the picture, and the kind's share of the scene."""

    row: int
    col: int
    share: float


def choose_places(image: FloatArray, usable: NDArray[np.bool_], count: int = KINDS) -> list[Place]:
    """Choose one calm pixel of each kind of ground, the commonest kind first; no randomness.

    Parameters
    ----------
    image
        (band, y, x) MSI values, NaN = invalid.
    usable
        (y, x): pixels that may be chosen.
    count
        Kinds looked for; fewer are found in a scene of fewer distinct pixels.

    Notes
    -----
    k-means on the bands, each scaled to unit spread, started from the pixels farthest from each other within the
    2nd to 98th percentile, so that a single odd pixel is no kind of its own.
    """
    rows, cols = np.nonzero(usable & np.isfinite(image).all(axis=0))
    if rows.size == 0:
        return []
    pixels = image[:, rows, cols].T.astype(np.float64)
    spread = pixels.std(axis=0)
    scaled = (pixels - pixels.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    centres = _started(scaled, count)
    for _ in range(ROUNDS):
        kind = _distances(scaled, centres).argmin(axis=1)
        centres = np.stack([scaled[kind == k].mean(axis=0) for k in np.unique(kind)])
    distances = _distances(scaled, centres)
    kind, unrest = distances.argmin(axis=1), _unrest(image)[rows, cols]
    places = []
    for k in np.unique(kind):
        members = np.flatnonzero(kind == k)
        near = members[np.argsort(distances[members, k], kind="stable")][: max(1, int(CALM_SHARE * members.size))]
        best = near[unrest[near].argmin()]
        places.append(Place(int(rows[best]), int(cols[best]), members.size / rows.size))
    return sorted(places, key=lambda place: -place.share)


def _started(scaled: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    low, high = np.percentile(scaled, [2, 98], axis=0)
    usual = scaled[((scaled >= low) & (scaled <= high)).all(axis=1)]
    usual = np.unique(usual if usual.size else scaled, axis=0)
    chosen = [usual[np.square(usual).sum(axis=1).argmin()]]
    while len(chosen) < min(count, len(usual)):
        chosen.append(usual[_distances(usual, np.stack(chosen)).min(axis=1).argmax()])
    return np.stack(chosen)


def _distances(points: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return squared distances (point, centre)."""
    return np.stack([np.square(points - centre).sum(axis=1) for centre in centres], axis=1)


def _unrest(image: FloatArray) -> NDArray[np.float64]:
    """Return how much the 3 × 3 neighbourhood of each pixel differs from it; infinite beside invalid pixels."""
    padded = np.pad(image.astype(np.float64), ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    rows, cols = image.shape[1:]
    total = np.zeros((rows, cols))
    for dy in range(3):
        for dx in range(3):
            total += np.abs(padded[:, dy : dy + rows, dx : dx + cols] - image).sum(axis=0)
    return np.where(np.isfinite(total), total, np.inf)
