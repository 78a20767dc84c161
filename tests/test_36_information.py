"""What the MSI tells of each HSI band: planted shares of variance are measured, noise and chance tell nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from geolift.training.explained_variance import measure_explained_variance
from geolift.training.training_set import TrainingSet

SIDE = 60


def least_squares(part: TrainingSet) -> Callable[[np.ndarray], np.ndarray]:
    def design(msi: np.ndarray) -> np.ndarray:
        return np.c_[msi, np.ones(len(msi))].astype(np.float64)

    solved = np.linalg.lstsq(design(part.simulated), part.spectra.astype(np.float64), rcond=None)[0]
    return lambda msi: design(msi) @ solved


def scene(side: int = SIDE) -> TrainingSet:
    """One MSI band that is HSI band 0; the others share 100, 80, 20 and 0 % of their variance with it."""
    rng = np.random.default_rng(4)
    seen, hidden = rng.standard_normal((2, side * side, 1))
    shares = np.array([[1.0, 0.8, 0.2, 0.0]])
    spectra = (np.sqrt(shares) * seen + np.sqrt(1 - shares) * hidden).astype(np.float32)
    rows, cols = np.divmod(np.arange(side * side), side)
    return TrainingSet(
        spectra=spectra, neighbour_means=spectra, weights=np.array([[1, 0, 0, 0]], np.float32), rows=rows, cols=cols
    )


def test_the_planted_shares_and_bits_are_measured() -> None:
    found = measure_explained_variance(scene(), least_squares)
    assert found is not None
    assert found.held_out == SIDE * SIDE
    assert found.explained == pytest.approx([1.0, 0.8, 0.2, 0.0], abs=0.03)
    assert found.bits[1:] == pytest.approx([1.161, 0.161, 0.0], abs=0.1)


def test_large_scenes_are_measured_on_a_sample_that_the_seed_repeats() -> None:
    training = scene(100)
    one, again = (measure_explained_variance(training, least_squares, seed=3) for _ in range(2))
    assert one is not None
    assert again is not None
    assert one.held_out == 4096
    assert np.array_equal(one.explained, again.explained)


def test_too_few_pixels_tell_nothing() -> None:
    assert measure_explained_variance(scene(5), least_squares) is None
