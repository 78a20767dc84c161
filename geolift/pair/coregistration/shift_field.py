"""A shift that wanders over the scene: terrain, attitude, lines that jitter; told for every HSI pixel.

Each HSI pixel says how the misfit would change with the shift there: a gradient and a curvature for dy and dx, all
bands together. Sums of both around a pixel give its shift. How far around, and whether at all, is decided by pixels
that are predicted without themselves and their neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geolift.degradation.sampling import FloatArray
from geolift.pair.coregistration.matching import Patch
from geolift.pair.coregistration.shift_fit import local_evidence

DoubleArray = NDArray[np.float64]

WHOLE_LR = 60.0
REACHES_LR: tuple[tuple[float, float], ...] = (
    (1.5, 1.5), (2.5, 2.5), (4.0, 4.0), (7.0, 7.0), (12.0, 12.0), (0.4, WHOLE_LR), (WHOLE_LR, 0.4),
)  # fmt: skip
"""Widths (y, x), sigma in HSI pixels, of the neighbourhoods tried: patches, and whole lines or columns."""

PRIOR_PX = 0.7
"""Shifts that are expected, RMS in fine pixels: a neighbourhood that tells little is drawn to none."""

LEAST_GAIN, LEAST_Z, LEAST_RMS_PX = 0.03, 3.0, 0.06
"""The shift wanders if that lowers the misfit of pixels that took no part by so much of it and so many errors, and if
it does so by so many fine pixels (RMS)."""

BLOCK_LR = 5
"""Edge of the blocks whose scatter tells the error of the gain."""

ROUNDS = 3
"""Turns in which the MSI is brought to the HSI by what was found, and the rest looked for."""

BROUGHT_STEPS = 6
"""Fixed-point steps that undo a wandering shift; each takes off what the field changes by within its own length."""

MOST_PX = 4.0


@dataclass(frozen=True, eq=False)
class WanderingShift:
    """What is added to the scene's one shift at every HSI pixel.

    Parameters
    ----------
    deviation_px
        (2, h, w) dy, dx in fine pixels at the pixels' centres.
    reach_lr
        Width (y, x) of the neighbourhood that told it.
    explained
        Share of the misfit that it explains of pixels that took no part.
    first_lr
        Position (row, col) of its first pixel on the grid that places are counted on.
    """

    deviation_px: FloatArray
    reach_lr: tuple[float, float]
    explained: float
    first_lr: tuple[float, float] = (0.0, 0.0)

    @property
    def rms_px(self) -> float:
        """Root mean square of its length."""
        return float(np.sqrt(np.square(self.deviation_px, dtype=np.float64).sum(axis=0).mean()))

    @property
    def largest_px(self) -> float:
        """Its largest length."""
        return float(np.hypot(*self.deviation_px.astype(np.float64)).max())

    def scaled(self, factor: float) -> WanderingShift:
        """Return it in pixels that are smaller by a factor."""
        return replace(self, deviation_px=self.deviation_px * np.float32(factor))

    def moved(self, rows: float, cols: float) -> WanderingShift:
        """Return it with places counted from another first pixel."""
        return replace(self, first_lr=(self.first_lr[0] + rows, self.first_lr[1] + cols))

    def at(self, rows_lr: DoubleArray, cols_lr: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
        """(dy, dx) in fine pixels at places in HSI pixels, (y, x) each; beyond the scene that of its edge."""
        where = rows_lr - self.first_lr[0], cols_lr - self.first_lr[1]
        dy, dx = (ndimage.map_coordinates(d, where, np.float64, order=1, mode="nearest") for d in self.deviation_px)
        return dy, dx

    def brought(self, rows_lr: DoubleArray, cols_lr: DoubleArray, ratio: int) -> tuple[DoubleArray, DoubleArray]:
        """Where places (y, x) of the MSI, in HSI pixels, lie once the wandering is undone; inverse of adding it."""
        rows, cols = rows_lr, cols_lr
        for _ in range(BROUGHT_STEPS):
            dy, dx = self.at(rows, cols)
            rows, cols = rows_lr - dy / ratio, cols_lr - dx / ratio
        return rows, cols


def find_wandering(look: Callable[[WanderingShift | None], Evidence | None]) -> WanderingShift | None:
    """Tell how the shift wanders over a scene; None where one shift does as well.

    ``look``: gives the evidence of the scene once its MSI is brought to the HSI by a wandering shift.
    """
    evidence = look(None)
    reach = None if evidence is None else evidence.best_reach()
    if evidence is None or reach is None:
        return None
    found = WanderingShift(evidence.solved(reach), reach, evidence.gain(reach)[0])
    for _ in range(ROUNDS - 1):
        rest = look(found)
        if rest is None:
            break
        deviation = np.clip(found.deviation_px + rest.solved(reach), -MOST_PX, MOST_PX)
        found = replace(found, deviation_px=deviation)
    return found if found.rms_px >= LEAST_RMS_PX else None


@dataclass(frozen=True, eq=False)
class Evidence:
    """Gradient (2, h, w) and curvature (3: yy, yx, xx, h, w) of the misfit of each pixel, and the misfit (h, w)."""

    gradient: DoubleArray
    curvature: DoubleArray
    misfit: DoubleArray

    def best_reach(self) -> tuple[float, float] | None:
        """The neighbourhood that predicts pixels best which took no part; None if none does clearly."""
        (gain, z), reach = max(((self.gain(reach), reach) for reach in REACHES_LR), key=lambda pair: pair[0][0])
        return reach if gain > LEAST_GAIN and z > LEAST_Z else None

    def gain(self, reach: tuple[float, float]) -> tuple[float, float]:
        """Share of the misfit that neighbours explain, without a pixel and those beside it, and its standard errors."""
        dy, dx = self._shift(*(_around(field, reach, apart=True) for field in (self.gradient, self.curvature)))
        yy, yx, xx = self.curvature
        gained = 2 * (dy * self.gradient[0] + dx * self.gradient[1]) - (yy * dy**2 + 2 * yx * dy * dx + xx * dx**2)
        rows, cols = (-(-size // BLOCK_LR) for size in gained.shape)
        y, x = np.indices(gained.shape) // BLOCK_LR
        blocks = np.bincount((y * cols + x).ravel(), gained.ravel(), rows * cols)
        chance = blocks.std() * np.sqrt(blocks.size)
        return float(gained.sum() / max(self.misfit.sum(), 1e-30)), float(blocks.sum() / max(chance, 1e-30))

    def solved(self, reach: tuple[float, float]) -> FloatArray:
        """Shift (2, h, w)."""
        shift = self._shift(*(_around(f, reach, apart=False) for f in (self.gradient, self.curvature)))
        return np.stack(shift).astype(np.float32)

    def _shift(self, gradient: DoubleArray, curvature: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
        yy, yx, xx = curvature
        yy, xx = yy + 1.0 / PRIOR_PX**2, xx + 1.0 / PRIOR_PX**2
        det = yy * xx - yx * yx
        dy = (xx * gradient[0] - yx * gradient[1]) / det
        dx = (yy * gradient[1] - yx * gradient[0]) / det
        return dy, dx


def find_evidence(
    simulated: FloatArray, fine: FloatArray, ratio: int, margin: int, place: DoubleArray
) -> Evidence | None:
    """Linearise the misfit of every pixel in its shift.

    Parameters
    ----------
    simulated
        (c, h, w) MSI simulated from the HSI.
    fine
        (c, (h + 2 margin) ratio, …) the fine MSI around it.
    place
        (4,) shift and variances of the scene, in fine pixels.
    """
    reach = float(np.abs(place[:2]).max()) + ratio
    patch = Patch(simulated, fine, range(len(simulated)), ratio, margin, reach)
    told = None if patch.msi_invalid.all() else local_evidence(patch, place)
    return None if told is None else Evidence(*told)


def _around(fields: DoubleArray, reach: tuple[float, float], *, apart: bool) -> DoubleArray:
    """Gaussian sums (n, h, w) around each pixel, one for itself; ``apart`` without it and those beside it."""
    total, near = fields, fields
    for axis, sigma in zip((-2, -1), reach, strict=True):
        size = fields.shape[axis]
        radius = min(size - 1, int(np.ceil(2.5 * sigma)))
        taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
        middle = taps[max(0, radius - 1) : radius + 2]
        total = ndimage.correlate1d(total, taps, axis=axis, mode="constant")
        near = ndimage.correlate1d(near, middle, axis=axis, mode="constant")
    return np.asarray(total - near if apart else total, np.float64)
