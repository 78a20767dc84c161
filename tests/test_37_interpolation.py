"""Whether fusing pays, told one level down: planted pairs of which one does and one does not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geolift.network.model import SpectralModel
from geolift.training.fit import fit
from geolift.training.training_set import TrainingSet
from geolift.uncertainty.interpolation import Worth, weigh_against_interpolation

SIDE, BANDS = 20, 24


def scene(smooth_px: float) -> NDArray[np.float32]:
    """Mixtures of four materials."""
    rng = np.random.default_rng(3)
    share = ndimage.gaussian_filter(rng.normal(size=(4, SIDE, SIDE)), (0, smooth_px, smooth_px))
    share = np.exp(2 * share / share.std())
    spectra = ndimage.gaussian_filter1d(rng.uniform(0.05, 0.5, (4, BANDS)), 2, axis=1)
    return np.einsum("mb,myx->byx", spectra, share / share.sum(axis=0)).astype(np.float32)


def quick(part: TrainingSet) -> SpectralModel:
    return fit("auto", part, seed=0, features=32, copies=1, learned=False)


def weighed(truth: NDArray[np.float32], bands: int, noise: float) -> Worth | None:
    weights = np.kron(np.eye(bands), np.full(BANDS // bands, bands / BANDS)).astype(np.float32)
    msi = np.einsum("cb,byx->cyx", weights, truth)
    return weigh_against_interpolation(truth, msi, weights, quick, 0.42, np.full(bands, noise), 3.0)


def test_six_bands_of_a_scene_with_detail_are_worth_fusing() -> None:
    worth = weighed(scene(0.6), 6, 0.0005)
    assert worth is not None
    assert not worth.is_none
    assert worth.error < 0.5


def test_two_noisy_bands_of_a_smooth_scene_are_not() -> None:
    worth = weighed(scene(4.0), 2, 0.05)
    assert worth is not None
    assert worth.is_none


def test_a_handful_of_pixels_tells_nothing() -> None:
    assert weighed(scene(0.6)[:, :6, :6], 6, 0.0005) is None
