"""Harmonisation of what is no line, or not the same everywhere: planted curves, haze and shading come back."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scenes import mixtures, noisy
from scipy import ndimage

from geolift.pair.harmonization import fit_harmonization
from geolift.pair.local_relation import LocalRelation, Variation, fit_variation, sum_cells
from geolift.pair.tone_curve import ToneCurve, find_power, power_curve, rising_hinges, spline_curve

FloatArray = NDArray[np.float32]


def off(found: FloatArray, wanted: FloatArray) -> float:
    """Relative RMS error, largest band."""
    return float((np.sqrt(np.square(found - wanted).mean(axis=(1, 2))) / wanted.mean(axis=(1, 2))).max())


def lr_places(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.arange(side, dtype=np.float64)[:, None], np.arange(side, dtype=np.float64)[None]


@pytest.mark.parametrize("power", [0.7, 0.85, 0.95, 1.2])
def test_a_gamma_is_recovered(power: float) -> None:
    image = mixtures(48, 5, seed=1)
    msi = noisy(0.6 * image**power, 2e-4, 1)
    found = fit_harmonization(noisy(image, 5e-4, 2), msi)
    assert found.curve is not None
    assert off(found.apply(0.6 * image**power), image) < 0.01


def test_a_gamma_is_recovered_under_a_fifth_of_cloud() -> None:
    image = mixtures(48, 5, seed=2)
    msi = noisy(image**0.8, 2e-4, 1)
    msi[:, 5:28, 8:28] = 0.9
    found = fit_harmonization(noisy(image, 5e-4, 2), msi)
    assert found.curve is not None
    assert found.outliers is not None
    assert found.outliers[7:26, 10:26].mean() > 0.95
    assert off(found.apply(image**0.8), image) < 0.015


def test_a_stretch_that_bends_at_both_ends_is_recovered_within_what_was_seen() -> None:
    image = mixtures(48, 5, seed=3)
    bent = (1 / (1 + np.exp(-9 * (image - 0.22)))).astype(np.float32)
    found = fit_harmonization(noisy(image, 5e-4, 2), noisy(bent, 5e-4, 3))
    assert found.curve is not None
    assert off(found.apply(bent), image) < 0.03


def test_a_line_is_no_curve_and_a_clean_pair_varies_nowhere() -> None:
    for seed in range(6):
        image = mixtures(48, 5, seed=seed)
        found = fit_harmonization(noisy(image, 0.004, seed), noisy(1.2 * image + 0.01, 0.002, seed + 50))
        assert found.curve is None
        assert found.local is None


def test_a_curve_rises_and_can_be_undone() -> None:
    image = mixtures(48, 5, seed=4).reshape(5, -1).astype(np.float64)
    for curve in (power_curve(image, 0.7), spline_curve(np.sqrt(image), image, np.ones(image.shape[1]))):
        assert (np.diff(curve.wanted, axis=1) > 0).all()
        assert np.allclose(curve.undo(curve.apply(image)), image, atol=1e-4)


def test_a_power_leaves_nothing_as_nothing() -> None:
    image = mixtures(48, 5, seed=4).reshape(5, -1).astype(np.float64)
    assert not power_curve(image, 1.3).apply(np.zeros((5, 1), np.float32)).any()
    assert (power_curve(image, 0.7).apply(np.full((5, 1), 1e-4, np.float32)) > 0).all()


def test_a_curve_keeps_nan_and_goes_on_as_a_line() -> None:
    curve = ToneCurve(np.array([[0.0, 1.0]]), np.array([[0.0, 2.0]]), "spline")
    mapped = curve.apply(np.array([[np.nan, -1.0, 0.5, 3.0]], np.float32))
    assert np.isnan(mapped[0, 0])
    assert mapped[0, 1:].tolist() == [-2.0, 1.0, 6.0]


def test_hinges_add_up_to_the_value() -> None:
    values = np.linspace(-1, 2, 50)
    assert np.allclose(rising_hinges(values, np.array([0.0, 0.2, 0.7, 1.0])).sum(axis=0), values)


def test_the_power_is_found_although_a_third_of_the_pixels_are_foreign() -> None:
    rng = np.random.default_rng(0)
    seen = rng.uniform(0.05, 0.5, (4, 600))
    wanted = 0.1 + 2 * seen**1.3
    wanted[:, :200] = rng.uniform(2, 3, (4, 200))
    assert find_power(wanted, seen)[0] == pytest.approx(1.3, abs=0.03)


def test_haze_that_thickens_across_the_scene_is_followed() -> None:
    image, side = mixtures(48, 5, seed=5), 48
    ramp = np.linspace(0, 1, side, dtype=np.float32)[None, None]
    weight = np.linspace(1, 0.2, 5, dtype=np.float32)[:, None, None]
    hazy = image * (1 - 0.1 * ramp * weight) + 0.06 * ramp * weight
    found = fit_harmonization(noisy(image, 5e-4, 1), noisy(hazy, 3e-4, 2))
    assert found.local is not None
    before = fit_harmonization(image, hazy, "affine").apply(hazy)
    after = found.apply(found.local.apply(hazy, *lr_places(side)))
    assert off(after, image) < 0.3 * off(before, image)


def test_shading_common_to_the_bands_is_evened_and_turns_no_spectra() -> None:
    image, side = mixtures(48, 5, seed=6), 48
    shade = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(side, side)), 3.0)
    shaded = image * (1 + 0.15 * shade / shade.std()).astype(np.float32)
    found = fit_harmonization(noisy(image, 5e-4, 1), noisy(shaded, 3e-4, 2))
    assert found.local is not None
    assert found.local.variation.kind == "common-gain"
    assert off(found.apply(found.local.apply(shaded, *lr_places(side))), image) < 0.6 * off(shaded, image)


def test_a_cloud_is_no_variation() -> None:
    image = mixtures(48, 5, seed=7)
    msi = noisy(image, 3e-4, 2)
    msi[:, 10:25, 12:30] = 0.8
    found = fit_harmonization(noisy(image, 5e-4, 1), msi)
    assert found.is_identity
    assert found.local is None


def test_a_gain_that_is_a_plane_comes_back_from_cells() -> None:
    rows, cols = (a.ravel() for a in np.mgrid[:30, :40])
    seen = np.random.default_rng(0).uniform(0.1, 0.5, (2, rows.size))
    gain = 0.1 * (2 * (rows + 0.5) / 30 - 1)
    cells = sum_cells(gain * seen, seen, np.ones(rows.size), (rows, cols), (30, 40))
    found, offset = fit_variation(cells, Variation("gain", 1))
    assert np.allclose(found[0].ravel(), gain, atol=1e-4)
    assert not offset.any()


def test_a_field_is_read_alike_in_tiles_and_along_turned_grids() -> None:
    rng = np.random.default_rng(3)
    fields = rng.normal(size=(2, 3, 9, 11)).astype(np.float32)
    local = LocalRelation(fields[0], fields[1], (1.5, 0.5), 2, Variation("gain-offset", 1))
    msi = rng.random((3, 40, 50)).astype(np.float32)
    rows, cols = (np.arange(40) / 3 - 0.4)[:, None], (np.arange(50) / 3 + 0.2)[None]
    whole = local.apply(msi, rows, cols)
    assert np.array_equal(local.apply(msi[:, 7:19, 20:33], rows[7:19], cols[:, 20:33]), whole[:, 7:19, 20:33])
    turned = local.apply(msi, np.repeat(rows, 50, axis=1), np.repeat(cols, 40, axis=0))
    assert np.allclose(turned, whole, atol=1e-5)
