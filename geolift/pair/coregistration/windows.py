"""The windows that stand for a large scene when its shift is estimated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geolift.degradation.sampling import FloatArray
from geolift.pair.coregistration.matching import BoolArray, remove_local_mean

WINDOW_PX, WIDE_WINDOW_PX = 40, 96
"""Side of the windows that stand for a large scene, in LR pixels; the wide ones where the others do not tell."""

MAX_WINDOWS = 4
"""Windows that stand for a large scene: they bound time and memory, and are enough for 0.01 MSI pixel.
A scene of at most as many LR pixels as they hold, and a tenth more, is used whole."""


MOST_FINE_PX, FEWEST_LR = 8_000_000, 16
"""Fine pixels of all windows together, margins included, and the side below which there are rather fewer windows:
at a ratio of 100 four windows of 40 LR pixels would hold 125 million."""


@dataclass(frozen=True)
class Window:
    """A rectangle of LR pixels: rows y ... y + height, columns x ... x + width."""

    y: int
    x: int
    height: int
    width: int


def cut_window(
    simulated: FloatArray, msi_fine: FloatArray, ratio: int, margin: int, window: Window
) -> tuple[FloatArray, FloatArray]:
    """Cut one window out of a pair, with the same margin of fine pixels around it."""
    rows = slice(window.y, window.y + window.height)
    columns = slice(window.x, window.x + window.width)
    fine_rows = slice(window.y * ratio, (window.y + window.height + 2 * margin) * ratio)
    fine_columns = slice(window.x * ratio, (window.x + window.width + 2 * margin) * ratio)
    return simulated[:, rows, columns], msi_fine[:, fine_rows, fine_columns]


def affordable_windows(ratio: int, margin: int, side: int = WINDOW_PX, count: int = MAX_WINDOWS) -> tuple[int, int]:
    """Side and number of windows whose fine pixels, with a margin of LR pixels, are not too many to be held.

    >>> affordable_windows(6, 8), affordable_windows(30, 8, 96), affordable_windows(100, 8)
    ((40, 4), (31, 4), (12, 1))
    """
    while True:
        fitting = math.isqrt(MOST_FINE_PX // count) // ratio - 2 * margin
        if fitting >= min(side, FEWEST_LR) or count == 1:
            return max(1, min(side, fitting)), count
        count //= 2


def middles(windows: Sequence[Window], ratio: int, most_px: int) -> tuple[Window, ...]:
    """Cut windows to their middles, square, so that they hold no more than so many fine pixels together, about."""
    side = max(1, math.isqrt(most_px // len(windows)) // ratio)
    cut = []
    for w in windows:
        height, width = min(w.height, side), min(w.width, side)
        cut.append(Window(w.y + (w.height - height) // 2, w.x + (w.width - width) // 2, height, width))
    return tuple(cut)


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
