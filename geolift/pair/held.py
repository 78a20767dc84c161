"""The MSI that two sensors are compared by: averaged to a few pixels along an HSI pixel, read once, and held."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from geolift.degradation.sampling import FloatArray, area_mean
from geolift.pair.overlay import BAND_FINE_PX, Overlay
from geolift.pair.saturation import Saturation
from geolift.runtime.scratch import ScratchArray

MOST_PX_PER_LR = 12
"""Pixels along an HSI pixel that the MSI is compared at. An HSI pixel sees no more: its own blur is wider, and shifts
are found to a hundredth of such a pixel."""

MARGIN_LR = 12
"""HSI pixels held around the overlay: those read around each window, and what a wandering shift adds."""

STRIP_PX = 1_000_000
"""Fine pixels read at once, or one row of HSI pixels."""


@dataclass(frozen=True, eq=False)
class Held:
    """Values of an MSI on the grid nested in an overlay's, and how they were made.

    Parameters
    ----------
    values
        (n, (h + 2 MARGIN_LR) ratio, (w + 2 MARGIN_LR) ratio), NaN = invalid: the bands; with ``saturation`` also the
        share of each pixel that is saturated.
    bands
        Which of them are read.
    """

    values: ScratchArray
    ratio: int
    bands: slice
    saturation: Saturation | None
    folder: Path | None

    @property
    def saturated(self) -> Held:
        """The share that is saturated, in place of the bands."""
        return replace(self, bands=slice(-1, None))

    def read(self, row: int, col: int, height: int, width: int, margin: int) -> FloatArray:
        """A window as `Overlay.read_plain` gives it; NaN beyond what is held."""
        inside, target = [], []
        for first, count, size in zip((row, col), (height, width), self.values.shape[1:], strict=True):
            start, length = (first - margin + MARGIN_LR) * self.ratio, (count + 2 * margin) * self.ratio
            low, high = max(0, start), max(0, min(size, start + length))
            inside.append(slice(low, high))
            target.append((slice(low - start, high - start), length))
        values = self.values.read(inside[0], inside[1])[self.bands]
        (rows, down), (cols, across) = target
        if values.shape[1:] == (down, across):
            return values
        out = np.full((len(values), down, across), np.nan, np.float32)
        out[:, rows, cols] = values
        return out


def compared_ratio(ratio: int) -> int:
    """Pixels along an HSI pixel that an MSI of so many fine pixels is compared at.

    >>> [compared_ratio(ratio) for ratio in (3, 12, 13, 20, 30, 31, 100)]
    [3, 12, 7, 10, 10, 11, 12]
    """
    return -(-ratio // -(-ratio // MOST_PX_PER_LR))


def hold(overlap: Overlay, folder: Path | None, saturation: Saturation | None = None) -> Overlay:
    """Read the MSI of an overlay once, average it and return the overlay that reads from that.

    ``folder``: where it goes if it is large; without one it stays in memory. ``saturation``: where the MSI saturates;
    what is averaged no longer shows it.
    """
    source, (height, width) = overlap.finest, overlap.grid.shape
    fine, ratio, count = source.ratio, compared_ratio(source.ratio), overlap.msi.shape[0]
    shape = ((height + 2 * MARGIN_LR) * ratio, (width + 2 * MARGIN_LR) * ratio)
    flagged = saturation is not None and saturation.found
    values = ScratchArray((count + flagged, *shape), folder)
    edge = max(1, BAND_FINE_PX // fine)
    strip = max(1, STRIP_PX // (fine * fine * edge))
    for left in range(-MARGIN_LR, width + MARGIN_LR, edge):
        cols = min(edge, width + MARGIN_LR - left)
        for top in range(-MARGIN_LR, height + MARGIN_LR, strip):
            rows = min(strip, height + MARGIN_LR - top)
            part = source.read_plain(top, left, rows, cols, 0)
            if flagged and saturation is not None:
                part = np.concatenate([part, saturation.touched(part)])
            first = (top + MARGIN_LR) * ratio, (left + MARGIN_LR) * ratio
            place = slice(first[0], first[0] + rows * ratio), slice(first[1], first[1] + cols * ratio)
            values.write(*place, area_mean(part, fine, ratio))
    held = Held(values, ratio, slice(0, count), saturation if flagged else None, folder)
    wandering = None if source.wandering is None else source.wandering.scaled(ratio / fine)
    return replace(source, ratio=ratio, px=fine / ratio, held=held, wandering=wandering)


def hold_again(overlap: Overlay) -> Overlay:
    """The same for an overlay whose MSI has been replaced."""
    return overlap if overlap.held is None else hold(overlap, overlap.held.folder, overlap.held.saturation)
