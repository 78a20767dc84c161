"""Smile: planted across the track, it is found in its size, and nothing else is taken for it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from geolift.pair.smile import Smile, derivative_weights, find_smile

NM = np.arange(420.0, 1000.0, 10.0)
CENTRES_NM, WIDTH_NM = (490.0, 560.0, 665.0, 705.0, 740.0, 842.0), 15.0
ROWS, COLS = 32, 40
X = np.linspace(-1.0, 1.0, COLS)
Images = NDArray[np.float64]


def pair(smile_nm: float = 0.0, haze: float = 0.0, lines_px: float = 0.0) -> Smile | None:
    """What is told of three materials in fields, one with a red edge, seen by six bands."""
    rng = np.random.default_rng(4)
    spectra = np.stack(
        [0.05 + 0.4 / (1 + np.exp((710 - NM) / 20)), 0.1 + 0.3 * (NM - 400) / 600, 0.3 - 0.1 * np.sin(NM / 60)]
    )
    fields = np.exp(4 * ndimage.gaussian_filter(rng.standard_normal((3, ROWS, COLS)), (0, 1, 1)) / 0.28)
    shares = fields / fields.sum(axis=0)
    weights = np.exp(-0.5 * np.square((NM - np.array(CENTRES_NM)[:, None]) / WIDTH_NM))
    weights /= weights.sum(axis=1, keepdims=True)
    truth = np.einsum("kb,kyx->byx", spectra, shares)
    seen = np.stack([np.interp(NM + smile_nm * np.square(x), NM, s) for x in X for s in spectra]).reshape(COLS, 3, -1)
    hsi = np.einsum("xkb,kyx->byx", seen, shares) + 0.002 * rng.standard_normal(truth.shape)
    msi = np.einsum("cb,byx->cyx", weights, truth) * (1.1 + 0.1 * X) + 0.02 + haze * np.square(X)
    msi += lines_px * rng.standard_normal((ROWS, 1)) * np.gradient(msi, axis=2)
    slopes = np.einsum("cb,byx->cyx", derivative_weights(weights, NM), hsi)
    return find_smile(np.einsum("cb,byx->cyx", weights, hsi), msi, slopes)


@pytest.mark.parametrize("smile_nm", [-4.0, 2.0, 8.0])
def test_a_smile_is_found_in_its_size(smile_nm: float) -> None:
    found = pair(smile_nm)
    assert found is not None
    assert found.curvature_nm == pytest.approx(smile_nm, rel=0.2)
    assert abs(found.curvature_nm - smile_nm) < 4 * max(found.sigma_nm, 0.1)


@pytest.mark.parametrize("other", [{}, {"haze": 0.05}, {"lines_px": 0.3}, {"smile_nm": 0.2}])
def test_nothing_else_is_taken_for_a_smile(other: dict[str, float]) -> None:
    assert pair(**other) is None


def test_the_slope_of_a_straight_spectrum_is_its_slope_whatever_the_order_of_the_bands() -> None:
    order = np.random.default_rng(0).permutation(NM.size)
    assert derivative_weights(np.full((1, NM.size), 1 / NM.size), NM[order]) @ (3 * NM[order]) == pytest.approx(3.0)
