"""Harmonisation: planted relations come back, clean pairs are left alone, clouds do not pull."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenes import mixtures, noisy
from scipy import ndimage

from geolift.degradation.sampling import degrade_msi
from geolift.pair.harmonization import Harmonization, fit_harmonization
from geolift.pair.robust import outlier_pixels, robust_line

FloatArray = NDArray[np.float32]


@pytest.mark.parametrize("seed", range(8))
def test_a_clean_pair_is_left_alone_although_it_is_noisy(seed: int) -> None:
    image = mixtures(seed=seed)
    found = fit_harmonization(noisy(image, 0.006, seed), noisy(image, 0.002, seed + 100))
    assert found.is_identity
    assert found.apply(image) is image


def test_one_gain_per_band_is_recovered_to_a_hundredth() -> None:
    image, gain = mixtures(seed=1), np.array([0.8, 1.1, 1.25, 0.7], np.float32)
    found = fit_harmonization(noisy(image, 0.002, 1), noisy(image / gain[:, None, None], 0.001, 2))
    assert found.model in ("gain", "gain-offset")
    assert np.diag(found.matrix) == pytest.approx(gain, rel=1e-2)
    assert np.abs(found.offset).max() < 3e-3


def test_gains_and_offsets_are_recovered_under_a_quarter_of_cloud() -> None:
    image = mixtures(60, seed=2)
    gain = np.array([0.8, 1.1, 1.2, 0.9], np.float32)[:, None, None]
    offset = np.array([0.03, 0.02, -0.02, 0.05], np.float32)[:, None, None]
    msi = noisy((image - offset) / gain, 0.001, 3)
    msi[:, 5:35, 8:38] = 0.75
    found = fit_harmonization(noisy(image, 0.002, 4), msi)
    assert np.abs(found.apply((image - offset) / gain) - image).max() < 0.01
    assert 0.6 < found.inlier_fraction < 0.85


def test_a_map_across_bands_is_recovered_when_there_are_enough_pixels() -> None:
    image = mixtures(60, seed=3)
    mixing = np.eye(4) + 0.15 * np.random.default_rng(0).normal(size=(4, 4))
    msi = np.einsum("ab,byx->ayx", np.linalg.inv(mixing), image - 0.02)
    found = fit_harmonization(noisy(image, 0.001, 5), msi.astype(np.float32))
    assert found.model == "affine"
    assert np.abs(found.apply(msi.astype(np.float32)) - image).max() < 0.01


def test_few_pixels_take_few_coefficients() -> None:
    image = mixtures(5, bands=4, seed=4)
    found = fit_harmonization(noisy(image, 0.001, 1), image / 1.3, "affine")
    assert found.model in ("gain", "gain-offset")
    assert np.abs(found.apply(image / 1.3) - image).max() < 0.02
    almost_none = np.full((4, 3, 3), 0.2, np.float32)
    assert fit_harmonization(almost_none, 2 * almost_none).is_identity


def test_auto_does_not_map_one_place_onto_another() -> None:
    found = fit_harmonization(mixtures(40, seed=5), 0.5 * mixtures(40, seed=6))
    assert found.is_identity


def test_the_asked_for_model_is_fitted_and_off_fits_none() -> None:
    image = mixtures(seed=7)
    assert fit_harmonization(image, 0.5 * image, "off").is_identity
    assert np.diag(fit_harmonization(image, 0.5 * image, "gain").matrix) == pytest.approx(2.0, rel=1e-6)
    assert fit_harmonization(image, image, "gain").model == "gain"


def test_mistaken_arguments_are_refused() -> None:
    image = mixtures()
    with pytest.raises(ValueError, match="degraded_msi"):
        fit_harmonization(image, image[:2])
    with pytest.raises(ValueError, match="auto, off, gain, affine"):
        fit_harmonization(image, image, "both")  # type: ignore[arg-type]


def test_invalid_pixels_stay_invalid_and_take_no_part() -> None:
    image = mixtures(seed=8)
    msi = image / 1.2
    holed = msi.copy()
    holed[:, 10:20, 10:20] = np.nan
    plain, found = fit_harmonization(image, msi, "gain"), fit_harmonization(image, holed, "gain")
    assert np.diag(found.matrix) == pytest.approx(np.diag(plain.matrix), rel=1e-4)
    assert np.array_equal(np.isnan(found.apply(holed)), np.isnan(holed))


@given(st.floats(0.05, 20.0), st.floats(-0.2, 0.2))
@settings(max_examples=15, deadline=None)
def test_the_relation_follows_a_change_of_unit(scale: float, offset: float) -> None:
    image = mixtures(seed=9)
    msi = ((image - offset) / scale).astype(np.float32)
    found = fit_harmonization(image, msi, "affine")
    assert np.abs(found.apply(msi) - image).max() < 1e-3


@given(st.integers(0, 1000), st.floats(0.0, 0.4))
@settings(max_examples=25, deadline=None)
def test_a_robust_line_ignores_up_to_two_fifths_of_foreign_points(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 1, 300)
    y = 1.7 * x - 0.2 + rng.normal(size=300) * 0.01
    outliers = rng.permutation(300)[: int(share * 300)]
    y[outliers] = rng.uniform(2.5, 4.0, outliers.size)
    slope, intercept, scale = robust_line(x, y)
    assert slope == pytest.approx(1.7, abs=0.03)
    assert intercept == pytest.approx(-0.2, abs=0.02)
    assert scale < 0.03


def test_a_robust_line_is_least_squares_on_clean_points() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=400)
    y = 0.5 * x + 1 + rng.normal(size=400) * 0.1
    slope, intercept, _ = robust_line(x, y)
    assert (slope, intercept) == pytest.approx(tuple(np.polyfit(x, y, 1)), abs=0.01)


def test_clouds_are_foreign_and_a_clean_scene_hardly_is() -> None:
    image = mixtures(50, seed=11)
    other = noisy(1.3 * image + 0.02, 0.004, 1)
    assert outlier_pixels(image, other).mean() < 0.05
    other[:, 10:25, 12:30] = 0.8
    marked = outlier_pixels(image, other)
    assert marked[11:24, 13:29].all()
    assert marked.mean() < 0.2


def test_paris_comes_within_the_goal_with_the_shift_and_relation_found(shared_data: Path) -> None:
    from scipy.io import loadmat

    from geolift.pair.coregistration import estimate_shift

    images = loadmat(shared_data / "paris_eo1" / "paris_data_hs_ms.mat")
    srf = loadmat(shared_data / "paris_eo1" / "fuvar_R_HysureParis.mat")["R"]
    truth = images["HSim"].transpose(2, 0, 1).astype(np.float32)
    ali = images["MSim"].transpose(2, 0, 1).astype(np.float32)
    blurred = ndimage.gaussian_filter(truth, (0, 3 / 2.3548, 3 / 2.3548))
    hsi = blurred.reshape(128, 24, 3, 24, 3).mean(axis=(2, 4))
    simulated = np.einsum("bk,kyx->byx", srf / srf.sum(axis=1, keepdims=True), hsi).astype(np.float32)
    fine = np.pad(ali, ((0, 0), (6, 6), (6, 6)), constant_values=np.nan)
    shift = estimate_shift(simulated, fine, 3, 2)
    blur = (shift.blur_sigma_y, shift.blur_sigma_x)
    degraded = degrade_msi(fine, 3, 2, (shift.dy, shift.dx), blur)
    relation = fit_harmonization(simulated, degraded)
    moved = ndimage.shift(ali, (0, -shift.dy, -shift.dx), order=3, mode="nearest")
    x = np.vstack([simulated.reshape(9, -1), np.ones(576)])
    weights = np.linalg.lstsq(x.T.astype(float), hsi.reshape(128, -1).T.astype(float), rcond=None)[0]
    fused = weights.T @ np.vstack([relation.apply(moved).reshape(9, -1), np.ones(72 * 72)])
    psnr = 10 * np.log10(truth.max() ** 2 / np.mean((fused - truth.reshape(128, -1)) ** 2))
    assert relation.model == "affine"
    assert psnr > 36.0


def test_a_pixel_is_mapped_alike_in_tiles_of_any_shape() -> None:
    rng = np.random.default_rng(4)
    msi = rng.random((7, 61, 47)).astype(np.float32)
    relation = Harmonization(
        model="affine",
        matrix=rng.random((7, 7)),
        offset=rng.random(7),
        heldout_error={},
        inlier_fraction=1.0,
        n_pixels=100,
        reason="planted",
    )
    whole = relation.apply(msi)
    for rows, cols in ((slice(0, 1), slice(0, 1)), (slice(3, 20), slice(5, 46)), (slice(60, 61), slice(0, 47))):
        assert np.array_equal(relation.apply(msi[:, rows, cols]), whole[:, rows, cols])
    assert np.allclose(whole[:, 5, 6], relation.matrix @ msi[:, 5, 6] + relation.offset, rtol=1e-5)


def test_areas_over_most_of_a_scene_that_do_not_follow_are_marked_where_asked() -> None:
    rng = np.random.default_rng(3)
    image = 0.3 + ndimage.gaussian_filter(rng.standard_normal((3, 40, 40)), (0, 2.0, 2.0)).astype(np.float32)
    cloud, shadow = np.zeros((2, 40, 40), bool)
    cloud[:, :13] = shadow[26:, 13:] = True
    opacity = np.where(cloud, rng.uniform(0.3, 0.9, (40, 40)), 0).astype(np.float32)
    other = np.where(shadow, np.float32(0.35), (1 - opacity)) * image + opacity * np.float32(0.75)
    other += np.float32(0.005) * rng.standard_normal(image.shape).astype(np.float32)
    marked, usual = (outlier_pixels(image, other, few=few) for few in (True, False))
    assert marked[cloud | shadow].mean() > 0.9
    assert marked[~(cloud | shadow)].mean() < 0.15
    assert usual[cloud | shadow].mean() < 0.8
