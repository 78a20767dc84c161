"""An HSI interpolated onto a finer grid than it was measured on.

The noise of neighbouring pixels of an image as it was measured cannot be told from each other. Where it can, from every
k-th pixel, along both axes, the image resolves no more than those.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEFT = 0.05
"""Share of the noise that interpolation from every k-th pixel may leave. On its own grid it leaves half and more, also
of images whose blur reaches over several pixels."""

LARGEST = 10
FEWEST_NODES = 6
"""Every k-th pixels that must fit into the image along each axis."""

NODE_CONTRAST = 1.15
"""Variance of the noise at pixels that were not interpolated, against that half-way between."""

NODE_BESIDE = 0.15
"""Pixels between the most noise and the pixel that counts as not interpolated, at most."""

TAPS = (-1, 0, 1, 2)


@dataclass(frozen=True)
class CoarseAxis:
    """How lines of an image become lines of the grid it resolves.

    ``step``: lines that become one. ``phase``: the first of them. ``picked``: whether the line at ``phase`` is taken as
    it is, instead of the mean of ``step`` lines from ``phase`` on.
    """

    step: int
    phase: int
    picked: bool

    @property
    def start(self) -> float:
        """Where the first line of the coarse grid begins, in lines of the image."""
        return self.phase + 0.5 - self.step / 2 if self.picked else float(self.phase)

    def count(self, length: int) -> int:
        """Return how many lines of the coarse grid a number of lines gives."""
        return (length - self.phase + (self.step - 1 if self.picked else 0)) // self.step


def resolved_step(pattern: NDArray[np.float64]) -> int:
    """Return how many pixels along a line the image resolves as one; 1 for an image on its own grid.

    ``pattern``: (B, y, x) the image's noise, see `noise_pattern`.
    """
    found = 1
    for step in range(2, LARGEST + 1):
        if min(pattern.shape[1:]) < FEWEST_NODES * step:
            break
        if max(_left(pattern, axis, step) for axis in (1, 2)) <= LEFT:
            found = step
        elif step > found + 1:
            break
    return found


def _left(pattern: NDArray[np.float64], axis: int, step: int) -> float:
    """Return the share of the noise between every step-th line that these do not tell, with the best first line."""
    lines = np.moveaxis(pattern, axis, -1)
    return min(_left_between(lines, step, phase) for phase in range(step))


def _left_between(lines: NDArray[np.float64], step: int, phase: int) -> float:
    left = total = 0.0
    for offset in range(1, step):
        at = np.arange(phase + step + offset, lines.shape[-1] - 2 * step, step)
        if at.size == 0:
            return 1.0
        nodes = np.stack([lines[..., at - offset + tap * step].ravel() for tap in TAPS])
        between = lines[..., at].ravel()
        gram = nodes @ nodes.T
        gram[np.diag_indices_from(gram)] += 1e-9 * max(float(np.trace(gram)), 1e-30)
        remainder = between - np.linalg.solve(gram, nodes @ between) @ nodes
        left += float(remainder @ remainder)
        total += float(between @ between)
    return left / total if total > 0 else 1.0


def coarse_axis(pattern: NDArray[np.float64], axis: int, step: int) -> CoarseAxis:
    """Choose how lines become coarser ones: the measured lines themselves where they are, else means.

    Interpolation averages, so lines that were not interpolated have the most noise, and the means that fit best have
    more than others.
    """
    lines = np.moveaxis(pattern, axis, 0)
    single = np.array([np.square(lines[phase::step]).mean() for phase in range(step)])
    best = int(np.argmax(single))
    before, after = single[best - 1], single[(best + 1) % step]
    beside = 0.5 * (before - after) / min(before - 2 * single[best] + after, -1e-30)
    if single[best] >= NODE_CONTRAST * single.min() and abs(beside) <= NODE_BESIDE:
        return CoarseAxis(step, best, True)
    means = []
    for phase in range(step):
        count = (len(lines) - phase) // step
        blocks = lines[phase : phase + count * step].reshape(count, step, *lines.shape[1:])
        means.append(np.square(blocks.mean(axis=1)).mean())
    return CoarseAxis(step, int(np.argmax(means)), False)
