"""What the methods share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from geolift.training.training_set import TrainingSet

Progress = Callable[[float, float], None]
"""Told the finished fraction (0 … 1) and the current loss; ends the training by raising."""

NOISE_SHARE = 0.5
"""Of the MSI's noise: coarse pixels have less contrast than fine ones, and what is told of the noise is a bound. Chosen
among 0.25, 0.35, 0.5, 0.7 and 1 on nine scenes: see docs/method.md."""

USUAL_NOISE = 0.01
"""Of the band's root mean square, a signal-to-noise ratio of 40 dB: where the MSI is not known."""


def input_noise(training: TrainingSet) -> NDArray[np.float64]:
    """(c,) float64 standard deviation of what is added to simulated MSI values before something is learned from them.

    Simulated values have none of the MSI's own noise. Where bands are simulated from the same few bands of the HSI they
    differ by next to nothing, and what is learned from them without noise multiplies the real MSI's.
    """
    noise = training.msi_noise
    if noise is None:
        noise = USUAL_NOISE * np.sqrt(np.square(training.simulated).mean(axis=0, dtype=np.float64))
    return np.asarray(NOISE_SHARE * noise, np.float64)
