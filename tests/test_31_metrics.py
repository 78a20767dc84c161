"""Quality measures: closed forms, laws, and two libraries (scikit-image, Spectral Python) as oracles."""

from __future__ import annotations

import doctest
import math
import random
from dataclasses import asdict
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import skimage.metrics
import spectral
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

import geolift.metrics.scores
import geolift.metrics.value_range
from geolift.errors import InputError
from geolift.metrics import (
    Evaluation,
    ExactPercentile,
    Scores,
    Stretch,
    Survey,
    evaluate_arrays,
    halo_tiles,
    spectral_angles_rad,
    ssim_map,
    uiqi_map,
)
from geolift.metrics.similarity import sliding_sum

Array = NDArray[np.float64]

# scikit-image has no type hints here.
structural_similarity: Any = skimage.metrics.structural_similarity
peak_signal_noise_ratio: Any = skimage.metrics.peak_signal_noise_ratio


def smooth_cube(seed: int, shape: tuple[int, int, int] = (6, 45, 52)) -> Array:
    """Return values of 0.05 to 0.9 with structure at several scales, so that SSIM is neither 0 nor 1."""
    rng = np.random.default_rng(seed)
    coarse = np.kron(rng.random((shape[0], 1 + shape[1] // 6, 1 + shape[2] // 6)), np.ones((1, 6, 6)))
    return 0.05 + 0.7 * coarse[:, : shape[1], : shape[2]] + 0.15 * rng.random(shape)


@pytest.fixture
def reference() -> Array:
    return smooth_cube(0)


@pytest.fixture
def product(reference: Array) -> Array:
    return 0.97 * reference + 0.01 + np.random.default_rng(1).normal(0, 0.05, reference.shape)


def masked(cube: Array) -> Array:
    """Return the cube with an empty band, an empty corner and a few holes, one of them in one band only."""
    holed = cube.copy()
    holed[2] = np.nan
    holed[:, :13, :9] = np.nan
    holed[4, 30, 33] = np.nan
    holed[:, 40:, 50:] = np.inf
    return holed


def assert_same(left: Scores, right: Scores, rtol: float = 1e-9) -> None:
    """Compare two scores, lists and all."""
    for name, value in asdict(left).items():
        other = asdict(right)[name]
        if name == "per_band":
            for measure, values in value.items():
                np.testing.assert_allclose(other[measure], values, rtol=rtol, err_msg=measure)
        elif isinstance(value, float):
            np.testing.assert_allclose(other, value, rtol=rtol, err_msg=name)
        else:
            assert other == value, name


# ---------------------------------------------------------------- against other libraries, closed forms


def test_rmse_and_psnr_equal_scikit_image(product: Array, reference: Array) -> None:
    scores = evaluate_arrays(product, reference)
    assert scores.rmse == pytest.approx(math.sqrt(skimage.metrics.mean_squared_error(reference, product)))
    expected_db = peak_signal_noise_ratio(reference, product, data_range=reference.max())
    assert scores.psnr_db == pytest.approx(expected_db, rel=1e-12)
    assert scores.data_range == reference.max()


def test_psnr_of_an_even_error_is_its_closed_form(reference: Array) -> None:
    scores = evaluate_arrays(reference + 0.02, reference, data_range=2.0)
    assert scores.psnr_db == pytest.approx(40.0)
    np.testing.assert_allclose(scores.per_band["psnr_db"], 40.0)


def test_ssim_equals_scikit_image_with_gaussian_weights(product: Array, reference: Array) -> None:
    scores = evaluate_arrays(product, reference, data_range=0.9)
    expected = [
        structural_similarity(x, y, data_range=0.9, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
        for x, y in zip(product, reference, strict=True)
    ]
    np.testing.assert_allclose(scores.per_band["ssim"], expected, rtol=1e-12)
    assert scores.ssim == pytest.approx(np.mean(expected), rel=1e-12)
    assert scores.ssim < 0.98


def test_ssim_of_two_constants_is_its_luminance_term() -> None:
    x, y, data_range = 0.3, 0.5, 1.0
    c1 = (0.01 * data_range) ** 2
    expected = (2 * x * y + c1) / (x**2 + y**2 + c1)
    np.testing.assert_allclose(ssim_map(np.full((15, 14), x), np.full((15, 14), y), data_range), expected)
    assert ssim_map(np.ones((15, 14)), np.ones((15, 14)), 1.0).shape == (5, 4)


def test_uniform_ssim_equals_scikit_image_with_a_flat_window(product: Array, reference: Array) -> None:
    found = ssim_map(product[0], reference[0], 1.0, window="uniform").mean()
    expected = structural_similarity(product[0], reference[0], data_range=1.0, win_size=11, use_sample_covariance=False)
    assert found == pytest.approx(expected, rel=1e-10)


def test_uiqi_equals_the_definition_window_by_window(product: Array, reference: Array) -> None:
    found = uiqi_map(product[0], reference[0])
    assert found.shape == (45 - 7, 52 - 7)
    for row, col in [(0, 0), (5, 17), (37, 44)]:
        x = product[0, row : row + 8, col : col + 8].ravel()
        y = reference[0, row : row + 8, col : col + 8].ravel()
        (vx, c), (_, vy) = np.cov(x, y)
        expected = 4 * c * x.mean() * y.mean() / ((vx + vy) * (x.mean() ** 2 + y.mean() ** 2))
        assert found[row, col] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("gain", [0.5, 0.9, 1.3])
def test_uiqi_of_a_gain_is_its_closed_form(gain: float, reference: Array) -> None:
    expected = (2 * gain / (1 + gain**2)) ** 2
    assert evaluate_arrays(gain * reference, reference).uiqi == pytest.approx(expected, rel=1e-9)


def test_uiqi_of_flat_windows_compares_means_and_of_zeros_is_one() -> None:
    flat, zeros = np.full((9, 9), 0.1), np.zeros((9, 9))
    np.testing.assert_allclose(uiqi_map(flat, 3 * flat), 2 * 3 / (1 + 9))
    jitter = 1 + 1e-15 * np.random.default_rng(4).normal(size=(2, 30, 30))  # a rounding is no texture
    np.testing.assert_allclose(uiqi_map(0.5 * jitter[0], 0.45 * jitter[1]), 1.8 / 1.81)
    np.testing.assert_array_equal(uiqi_map(zeros, zeros), 1.0)
    np.testing.assert_array_equal(uiqi_map(zeros, flat), 0.0)
    checkers = np.where(np.indices((9, 9)).sum(axis=0) % 2, 1.0, -1.0)
    np.testing.assert_allclose(uiqi_map(2 * checkers, checkers), 2 * 2 / (4 + 1))


@pytest.mark.parametrize("ratio", [2, 4, 10])
def test_ergas_of_planted_relative_errors_is_its_closed_form(ratio: int, reference: Array) -> None:
    relative = np.array([0.01, 0.02, 0.05, 0.1, 0.0, 0.3])
    signs = np.where(np.indices(reference.shape[1:]).sum(axis=0) % 2, 1, -1)
    errors = relative[:, None, None] * reference.mean(axis=(1, 2), keepdims=True) * signs
    scores = evaluate_arrays(reference + errors, reference, ratio=ratio)
    assert scores.ergas == pytest.approx(100 / ratio * math.sqrt(np.mean(relative**2)))
    np.testing.assert_allclose(scores.per_band["relative_rmse"], relative, atol=1e-14)
    np.testing.assert_allclose(scores.per_band["mean"], reference.mean(axis=(1, 2)))


def test_ergas_without_a_ratio_is_not_a_number(product: Array, reference: Array) -> None:
    assert math.isnan(evaluate_arrays(product, reference).ergas)


def test_sam_equals_spectral_python_pixel_by_pixel(product: Array, reference: Array) -> None:
    x, y = product.reshape(6, -1), reference.reshape(6, -1)
    angles_rad, non_zero = spectral_angles_rad(x[:, :40], y[:, :40])
    expected = np.diag(spectral.spectral_angles(x[:, :40].T.reshape(1, 40, 6), y[:, :40].T)[0])
    assert non_zero.all()
    np.testing.assert_allclose(angles_rad, expected, rtol=1e-6)


@pytest.mark.parametrize("angle_rad", [1e-9, 1e-5, 0.02, 1.0, math.pi / 2, 3.0])
def test_sam_recovers_a_planted_angle_however_small(angle_rad: float) -> None:
    rng = np.random.default_rng(2)
    first, other = np.linalg.qr(rng.normal(size=(50, 2)))[0].T
    turned = 3 * (math.cos(angle_rad) * first + math.sin(angle_rad) * other)
    found, _ = spectral_angles_rad(turned[:, None], first[:, None])
    assert found[0] == pytest.approx(angle_rad, rel=1e-6)


# ---------------------------------------------------------------- laws


def test_an_image_equals_itself_exactly(reference: Array) -> None:
    scores = evaluate_arrays(reference.astype(np.float32), reference.astype(np.float32), ratio=4)
    assert (scores.rmse, scores.ergas, scores.sam_deg) == (0.0, 0.0, 0.0)
    assert scores.psnr_db == math.inf
    assert scores.ssim == pytest.approx(1, abs=1e-14) and scores.uiqi == pytest.approx(1, abs=1e-12)


def test_sam_does_not_see_brightness(reference: Array) -> None:
    gains = np.random.default_rng(3).uniform(0.2, 5, reference.shape[1:])
    assert evaluate_arrays(gains * reference, reference).sam_deg < 1e-6


def test_relative_measures_do_not_depend_on_the_unit(product: Array, reference: Array) -> None:
    here = evaluate_arrays(product, reference, ratio=3)
    there = evaluate_arrays(1e4 * product, 1e4 * reference, ratio=3)
    assert there.rmse == pytest.approx(1e4 * here.rmse)
    for name in ("psnr_db", "ssim", "uiqi", "ergas", "sam_deg"):
        assert getattr(there, name) == pytest.approx(getattr(here, name), rel=1e-9), name


def test_zero_spectra_are_left_out_of_sam_and_counted(product: Array, reference: Array) -> None:
    before = spectral_angles_rad(product.reshape(6, -1), reference.reshape(6, -1))[0].reshape(45, 52)
    product[:, 7, 8] = 0
    reference[:, 20, 21] = 0
    keep = np.ones((45, 52), dtype=bool)
    keep[7, 8] = keep[20, 21] = False
    scores = evaluate_arrays(product, reference)
    assert scores.n_zero_spectra == 2
    assert scores.n_pixels == 45 * 52
    assert scores.sam_deg == pytest.approx(np.degrees(before[keep].mean()), rel=1e-12)


def test_sam_of_only_zero_spectra_is_not_a_number(reference: Array) -> None:
    scores = evaluate_arrays(np.zeros_like(reference), reference)
    assert math.isnan(scores.sam_deg)
    assert scores.n_zero_spectra == 45 * 52


@pytest.mark.parametrize("tile_px", [6, 16, 33, 200])
@pytest.mark.parametrize("convention", ["geolift", "hyperbench"])
def test_scores_do_not_depend_on_tiling(tile_px: int, convention: str, product: Array, reference: Array) -> None:
    product, reference = masked(product), reference.astype(np.float32)
    survey = Survey(6)
    survey.update(product, reference)
    kwargs = {
        "data_range": survey.reference_max,
        "ratio": 4,
        "bands": survey.bands,
        "convention": convention,
        "stretch": Stretch(0.06, 0.85),
    }
    whole = Evaluation(6, **kwargs)  # type: ignore[arg-type]
    whole.update(product, reference)
    tiled = Evaluation(6, **kwargs)  # type: ignore[arg-type]
    tiles = list(halo_tiles((45, 52), tile_px))
    random.Random(tile_px).shuffle(tiles)
    for tile in tiles:
        window = (slice(None), tile.rows, tile.cols)
        tiled.update(product[window], reference[window], tile.interior)
    assert_same(tiled.result(), whole.result())
    assert math.isfinite(whole.result().ssim + whole.result().uiqi + whole.result().ergas)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 70), cols=st.integers(1, 70), tile_px=st.integers(1, 40))
def test_tiles_partition_the_raster_and_their_halos_stay_inside(rows: int, cols: int, tile_px: int) -> None:
    seen = np.zeros((rows, cols), dtype=int)
    for tile in halo_tiles((rows, cols), tile_px):
        assert tile.rows.start >= 0 and tile.rows.stop <= rows
        assert tile.cols.start >= 0 and tile.cols.stop <= cols
        seen[tile.rows, tile.cols][tile.interior] += 1
    assert (seen == 1).all()


def test_an_invalid_border_gives_the_scores_of_the_image_without_it(product: Array, reference: Array) -> None:
    bordered = product.copy()
    bordered[:, 38:] = np.nan
    reference[:, :, :6] = np.nan
    inner = evaluate_arrays(product[:, :38, 6:], reference[:, :38, 6:], ratio=3, data_range=1.0)
    outer = evaluate_arrays(bordered, reference, ratio=3, data_range=1.0)
    assert outer.n_invalid_pixels == 45 * 52 - 38 * 46
    assert outer.n_windows_left_out == (45 - 10) * (52 - 10) - (38 - 10) * (46 - 10)
    for name in ("rmse", "psnr_db", "ssim", "uiqi", "ergas", "sam_deg", "n_pixels"):
        assert getattr(outer, name) == pytest.approx(getattr(inner, name), rel=1e-9), name


def test_bands_without_valid_values_are_left_out_and_keep_their_place(product: Array, reference: Array) -> None:
    kept = [0, 1, 3, 4, 5]
    without = evaluate_arrays(product[kept], reference[kept], ratio=3)
    product[2] = np.nan
    scores = evaluate_arrays(product, reference, ratio=3)
    assert scores.psnr_db == pytest.approx(without.psnr_db) and scores.sam_deg == pytest.approx(without.sam_deg)
    for name, values in scores.per_band.items():
        assert len(values) == 6 and math.isnan(values[2])
        np.testing.assert_allclose(np.delete(values, 2), without.per_band[name])


def test_a_chosen_subset_of_bands_is_what_is_compared(product: Array, reference: Array) -> None:
    chosen = np.array([True, False, True, True, False, False])
    reference[1] *= 50  # would raise the peak
    product[4, 3, 3] = np.nan  # would cost a pixel
    alone = evaluate_arrays(product[chosen], reference[chosen], ratio=3)
    scores = evaluate_arrays(product, reference, ratio=3, bands=chosen)
    for name in ("rmse", "psnr_db", "ssim", "uiqi", "ergas", "sam_deg", "n_pixels", "data_range"):
        assert getattr(scores, name) == pytest.approx(getattr(alone, name)), name


def test_an_image_smaller_than_a_window_has_no_structural_measures(product: Array, reference: Array) -> None:
    scores = evaluate_arrays(product[:, :7, :30], reference[:, :7, :30], ratio=2)
    assert math.isnan(scores.ssim) and math.isnan(scores.uiqi)
    assert math.isfinite(scores.rmse + scores.psnr_db + scores.ergas + scores.sam_deg)


@settings(max_examples=40, deadline=None)
@given(
    plane=hnp.arrays(np.int64, st.tuples(st.integers(1, 24), st.integers(1, 24)), elements=st.integers(-99, 99)),
    size=st.integers(1, 12),
)
def test_sliding_sums_equal_those_of_the_windows(plane: NDArray[np.int64], size: int) -> None:
    found = sliding_sum(plane, size)
    if min(plane.shape) < size:
        assert found.size == 0
    else:
        np.testing.assert_array_equal(found, sliding_window_view(plane, (size, size)).sum(axis=(2, 3)))


# ---------------------------------------------------------------- hyperbench's stretch, percentiles


def test_under_hyperbench_the_product_is_stretched_as_the_reference_is(product: Array, reference: Array) -> None:
    # A common affine change of both images is undone by the stretch.
    here = evaluate_arrays(product, reference, convention="hyperbench")
    there = evaluate_arrays(800 * product - 90, 800 * reference - 90, convention="hyperbench")
    assert here.data_range == 255
    for name in ("rmse", "psnr_db", "ssim", "uiqi", "ergas", "sam_deg"):
        assert getattr(there, name) == pytest.approx(getattr(here, name), rel=2e-4), name


def test_stretched_values_saturate_at_exactly_zero_and_one() -> None:
    values = np.linspace(0.03, 0.97, 1001, dtype=np.float32)
    for low, high in [(0.1234567, 0.7654321), (0.3, 0.6), (0.0999999, 0.8100003)]:
        stretched = Stretch(low, high).apply(values)
        assert stretched.dtype == np.float32
        np.testing.assert_array_equal(stretched[values <= low - 1e-6], 0)
        np.testing.assert_array_equal(stretched[values >= high + 1e-6], 1)


def test_a_constant_reference_cannot_be_stretched() -> None:
    with pytest.raises(InputError, match="constant"):
        evaluate_arrays(np.ones((2, 20, 20)), np.ones((2, 20, 20)), convention="hyperbench")


finite_float32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=60, deadline=None)
@given(
    values=hnp.arrays(np.float32, st.integers(1, 200), elements=finite_float32),
    percents=st.lists(st.floats(0, 100), min_size=1, max_size=4),
    n_parts=st.integers(1, 5),
)
def test_streamed_percentiles_equal_numpy_of_all_values(
    values: NDArray[np.float32], percents: list[float], n_parts: int
) -> None:
    percentile = ExactPercentile(percents)
    for part in np.array_split(values, n_parts):
        percentile.count(part)
    for part in reversed(np.array_split(values, n_parts)):
        percentile.refine(part)
    exact = values.astype(np.float64)
    # Between two values of either sign what is interpolated may be near 0; its rounding is that of the values.
    neighbours = [np.abs(np.percentile(exact, percents, method=method)) for method in ("lower", "higher")]
    error = np.abs(percentile.result() - np.percentile(exact, percents))
    assert (error <= 1e-12 * np.max(neighbours, axis=0) + 1e-40).all()


def test_streamed_percentiles_of_a_large_cube_leave_out_nan() -> None:
    cube = np.random.default_rng(7).normal(0.2, 0.3, (8, 100, 90)).astype(np.float32)
    cube[:, ::7] = np.nan
    percentile = ExactPercentile([1, 50, 99])
    for band in cube:
        percentile.count(band)
    for band in cube:
        percentile.refine(band)
    assert percentile.n_values == np.isfinite(cube).sum()
    np.testing.assert_allclose(percentile.result(), np.nanpercentile(cube.astype(float), [1, 50, 99]), rtol=1e-12)


def test_percentiles_want_both_passes_over_the_same_values() -> None:
    percentile = ExactPercentile([50])
    with pytest.raises(ValueError, match="no finite value"):
        percentile.refine(np.ones(3))
    percentile.count(np.arange(9.0))
    percentile.refine(np.arange(4.0))
    with pytest.raises(RuntimeError, match="second pass"):
        percentile.result()
    with pytest.raises(RuntimeError, match="second pass has begun"):
        percentile.count(np.ones(1))


# ---------------------------------------------------------------- refusals, docstrings


def test_what_cannot_be_evaluated_is_refused_with_the_reason(reference: Array) -> None:
    with pytest.raises(InputError, match="no pixel is valid"):
        evaluate_arrays(np.full_like(reference, np.nan), reference)
    with pytest.raises(InputError, match="shape"):
        evaluate_arrays(reference[:, :-1], reference)
    with pytest.raises(InputError, match="data range"):
        evaluate_arrays(reference, -reference)
    with pytest.raises(InputError, match="stretch"):
        Evaluation(3, convention="hyperbench")
    with pytest.raises(InputError, match="ratio"):
        Evaluation(3, ratio=0)


@pytest.mark.parametrize("module", [geolift.metrics.scores, geolift.metrics.value_range])
def test_the_examples_of_the_docstrings_hold(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0
