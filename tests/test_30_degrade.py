"""Degradations: laws of the kernels, truths planted and recovered, SciPy as an oracle."""

from __future__ import annotations

import doctest
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage, signal

import geolift.degradation.degrade
import geolift.degradation.psf
from geolift.degradation.degrade import (
    add_noise,
    apply_srf,
    block_mean,
    blur,
    degrade,
    gaussian_srf,
    generated_wavelengths_nm,
    normalize_scene,
)
from geolift.degradation.psf import PSF_NAMES, gaussian_kernel_for_fwhm, psf_kernel
from geolift.errors import UsageError

Array = NDArray[np.float64]


@pytest.fixture
def band() -> Array:
    return np.random.default_rng(0).uniform(0.1, 0.9, (37, 45))


@pytest.mark.parametrize("name", PSF_NAMES)
def test_every_kernel_sums_to_one_and_is_centred(name: str) -> None:
    kernel = psf_kernel(name, sigma=3.4, radius=7)
    offsets = np.arange(-7, 8)
    assert kernel.shape == (15, 15)
    assert kernel.sum() == pytest.approx(1)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], rtol=1e-12)
    assert abs(kernel.sum(axis=0) @ offsets) < 1e-12
    assert abs(kernel.sum(axis=1) @ offsets) < 1e-12


def test_the_ten_names_are_those_of_hyperbench() -> None:
    assert set(PSF_NAMES) == {
        "gaussian", "kolmogorov", "airy", "moffat", "sinc",
        "lorentzian2", "hermite", "parabolic", "gabor", "delta",
    }  # fmt: skip


def test_all_but_gabor_look_the_same_along_rows_and_columns() -> None:
    asymmetric = [name for name in PSF_NAMES if not np.allclose(psf_kernel(name), psf_kernel(name).T)]
    assert asymmetric == ["gabor"]


@pytest.mark.parametrize("fwhm_px", [2.0, 3.0, 4.5, 8.0])
def test_a_kernel_for_a_width_has_that_width_and_all_but_a_thousandth_of_its_light(fwhm_px: float) -> None:
    kernel = gaussian_kernel_for_fwhm(fwhm_px)
    centre = kernel.shape[0] // 2
    profile = kernel[centre] / kernel[centre, centre]
    fine = np.linspace(0, centre, 10_001)
    # A logarithmic profile is a parabola, which interpolates exactly between three pixels.
    parabola = np.polynomial.Polynomial.fit(np.arange(3), np.log(profile[centre : centre + 3]), 2)
    half = fine[np.argmin(np.abs(parabola(fine) - np.log(0.5)))]
    assert 2 * half == pytest.approx(fwhm_px, abs=2e-3)
    sigma = fwhm_px / 2.354820045
    wide = psf_kernel("gaussian", sigma=sigma, radius=60)
    lost = 1 - wide[60 - centre : 61 + centre, 60 - centre : 61 + centre].sum()
    assert lost < 1e-3


@pytest.mark.parametrize(
    ("kwargs", "word"),
    [
        ({"name": "gausian"}, "gaussian"),
        ({"name": "airy", "sigma": 0.0}, "sigma"),
        ({"name": "airy", "radius": -1}, "radius"),
    ],
)
def test_a_wrong_kernel_is_refused_with_the_way_out(kwargs: dict[str, object], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        psf_kernel(**kwargs)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", PSF_NAMES)
def test_blur_equals_direct_convolution_with_zeros_outside(name: str, band: Array) -> None:
    kernel = psf_kernel(name)
    expected = signal.convolve2d(band, kernel, mode="same", boundary="fill", fillvalue=0)
    np.testing.assert_allclose(blur(band, kernel), expected, atol=1e-12)


def test_blur_mirrors_a_lopsided_kernel_as_a_convolution_does(band: Array) -> None:
    kernel = np.zeros((3, 3))
    kernel[0, 2] = 1.0  # a convolution moves the image by the kernel's offset: up one, right one
    np.testing.assert_allclose(blur(band, kernel)[:-1, 1:], band[1:, :-1], atol=1e-14)


def test_blur_of_an_image_smaller_than_its_kernel_keeps_its_shape() -> None:
    image = np.arange(6.0).reshape(2, 3)
    for name in ("gaussian", "moffat"):
        expected = signal.convolve2d(image, psf_kernel(name), mode="same")
        np.testing.assert_allclose(blur(image, psf_kernel(name)), expected, atol=1e-14)


@pytest.mark.parametrize("name", [name for name in PSF_NAMES if name != "sinc"])
def test_invalid_pixels_do_not_darken_their_neighbours(name: str) -> None:
    flat = np.full((40, 40), 0.7)
    flat[15:22, 12:30] = np.nan
    flat[30, 5] = np.nan
    blurred = blur(flat, psf_kernel(name), boundary="renormalize")
    np.testing.assert_array_equal(np.isnan(blurred), np.isnan(flat))
    np.testing.assert_allclose(blurred[np.isfinite(flat)], 0.7, rtol=1e-12)


def test_blur_at_a_valid_pixel_is_the_weighted_mean_over_valid_pixels(band: Array) -> None:
    band[10:14, 20:30] = np.nan
    band[5, 5] = np.inf
    kernel = psf_kernel("moffat", sigma=2.0, radius=3)
    row, col = 15, 24
    window = band[row - 3 : row + 4, col - 3 : col + 4]
    weights = np.where(np.isfinite(window), kernel, 0)
    expected = (weights * np.nan_to_num(window)).sum() / weights.sum()
    blurred = blur(band, kernel)
    assert blurred[row, col] == pytest.approx(expected, rel=1e-10)
    assert np.isnan(blurred[5, 5])


def test_far_from_invalid_pixels_blur_is_as_if_there_were_none(band: Array) -> None:
    kernel = psf_kernel("gaussian", sigma=1.5, radius=4)
    holed = band.copy()
    holed[20, 20] = np.nan
    far = np.ones_like(band, dtype=bool)
    far[16:25, 16:25] = False
    np.testing.assert_allclose(blur(holed, kernel)[far], blur(band, kernel)[far], atol=1e-14)


def test_a_signed_kernel_gives_no_value_where_its_valid_weights_cancel() -> None:
    kernel = np.array([[-1.0, 3.0, -1.0]])
    image = np.array([[np.nan, 2.0, 5.0, 5.0, 5.0]])
    assert blur(image, kernel, boundary="renormalize")[0, 1] == pytest.approx((3 * 2 - 5) / 2)
    balanced = np.array([[-1.0, 1.0, 1.0]])  # mirrored: the right neighbour has weight −1, the left one 1
    assert np.isnan(blur(image, balanced, boundary="renormalize")[0, 1])


def test_blur_and_block_mean_keep_the_dtype(band: Array) -> None:
    for dtype in (np.float32, np.float64):
        assert blur(band.astype(dtype), psf_kernel("gaussian")).dtype == dtype
        assert block_mean(band.astype(dtype), 3).dtype == dtype


@pytest.mark.parametrize("ratio", [1, 2, 3, 5])
def test_block_mean_equals_scipy_over_labelled_blocks(band: Array, ratio: int) -> None:
    rows, cols = band.shape[0] // ratio, band.shape[1] // ratio
    labels = np.kron(np.arange(rows * cols).reshape(rows, cols), np.ones((ratio, ratio), dtype=int))
    cropped = band[: rows * ratio, : cols * ratio]
    expected = ndimage.mean(cropped, labels, np.arange(rows * cols)).reshape(rows, cols)
    np.testing.assert_allclose(block_mean(band, ratio), expected, rtol=1e-12)


def test_one_invalid_pixel_makes_its_own_block_invalid_and_no_other() -> None:
    cube = np.ones((3, 9, 9), dtype=np.float32)
    cube[1, 4, 7] = np.nan
    invalid = np.isnan(degrade(cube, psf_kernel("gaussian", 1.0, 3), 3))
    assert np.argwhere(invalid).tolist() == [[1, 1, 2]]


def test_an_infinite_value_is_invalid_as_nan_is() -> None:
    image = np.ones((4, 4))
    image[0, 0], image[0, 1] = np.inf, -np.inf
    image[2, 3] = np.inf
    assert np.isnan(block_mean(image, 2)).tolist() == [[True, False], [False, True]]


def test_a_ratio_larger_than_the_image_is_refused() -> None:
    with pytest.raises(UsageError, match="1 to 4"):
        block_mean(np.ones((4, 6)), 5)


def test_degrading_keeps_a_plane_in_place() -> None:
    rows, cols = np.mgrid[0:48, 0:60].astype(float)
    plane = 3 * rows - 2 * cols
    degraded = degrade(plane[np.newaxis], gaussian_kernel_for_fwhm(4), 4)[0]
    np.testing.assert_allclose(degraded[3:-3, 3:-3], block_mean(plane, 4)[3:-3, 3:-3], atol=1e-10)


@pytest.mark.parametrize("snr_db", [20.0, 35.0])
def test_noise_has_the_asked_power_in_every_band(snr_db: float) -> None:
    levels = np.array([0.05, 0.5, 4.0])[:, None, None]
    cube = levels * np.random.default_rng(1).uniform(0.5, 1.5, (3, 300, 300))
    noise = add_noise(cube, snr_db, np.random.default_rng(2)) - cube
    measured_db = 10 * np.log10(np.square(cube).mean(axis=(1, 2)) / np.square(noise).mean(axis=(1, 2)))
    np.testing.assert_allclose(measured_db, snr_db, atol=0.05)
    assert abs(np.corrcoef(noise.reshape(3, -1)) - np.eye(3)).max() < 0.02


def test_noise_does_not_depend_on_what_is_masked_but_through_its_power() -> None:
    cube = np.ones((2, 20, 20), dtype=np.float32)
    masked = cube.copy()
    masked[0, :5] = np.nan
    noisy = add_noise(cube, 30, np.random.default_rng(3))
    noisy_masked = add_noise(masked, 30, np.random.default_rng(3))
    valid = np.isfinite(masked)
    np.testing.assert_array_equal(np.isfinite(noisy_masked), valid)
    np.testing.assert_array_equal(noisy_masked[valid], noisy[valid])


def test_infinite_snr_adds_nothing_and_nan_is_refused(band: Array) -> None:
    np.testing.assert_array_equal(add_noise(band, np.inf, np.random.default_rng(0)), band)
    with pytest.raises(UsageError, match="SNR"):
        add_noise(band, np.nan, np.random.default_rng(0))


def test_response_of_a_cube_is_the_weighted_sum_of_its_bands() -> None:
    rng = np.random.default_rng(4)
    cube, weights = rng.random((7, 11, 13)), rng.random((3, 7))
    np.testing.assert_allclose(apply_srf(cube, weights), np.einsum("mb,byx->myx", weights, cube), rtol=1e-12)


def test_response_is_invalid_only_where_a_band_with_weight_is() -> None:
    cube = np.ones((3, 2, 2), dtype=np.float32)
    cube[0, 0, 0] = np.nan
    cube[2] = np.nan
    msi = apply_srf(cube, np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]))
    assert np.argwhere(np.isnan(msi)).tolist() == [[0, 0, 0]]
    assert msi.dtype == np.float32


def test_response_does_not_depend_on_how_rows_are_chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    cube, weights = rng.random((9, 31, 8)).astype(np.float32), gaussian_srf(4, 9)
    cube[3, 7, 7] = np.nan
    whole = apply_srf(cube, weights)
    monkeypatch.setattr("geolift.degradation.degrade._CHUNK_VALUES", 9 * 8 * 4)
    np.testing.assert_allclose(apply_srf(cube, weights), whole, rtol=1e-7)


def test_weights_for_another_number_of_bands_are_refused() -> None:
    with pytest.raises(UsageError, match="5 bands"):
        apply_srf(np.ones((5, 2, 2)), np.ones((3, 4)))


@pytest.mark.parametrize("n_msi_bands", [3, 4, 8, 16])
def test_gaussian_response_peaks_at_its_centres_with_the_width_it_should_have(n_msi_bands: int) -> None:
    weights = gaussian_srf(n_msi_bands, 20_000)
    wavelengths_nm = generated_wavelengths_nm(n_msi_bands, 20_000)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-12)
    blue_green = [(480, 539 - 421), (552, 624 - 480)] if n_msi_bands < 8 else [(478, 515 - 442), (546, 586 - 506)]
    if n_msi_bands == 16:
        blue_green = [(481, 517 - 445), (547, 586 - 507)]
    for row, (centre_nm, width_nm) in zip(weights[n_msi_bands >= 8 :], blue_green, strict=False):
        above_half = wavelengths_nm[row > row.max() / 2]
        assert wavelengths_nm[row.argmax()] == pytest.approx(centre_nm, abs=0.2)
        assert np.ptp(above_half) == pytest.approx(2.3548 * width_nm / 4.2, abs=0.5)


def test_a_number_of_bands_that_hyperbench_does_not_know_is_refused() -> None:
    with pytest.raises(UsageError, match="3, 4, 8 or 16"):
        gaussian_srf(5, 100)


def test_normalised_scene_spans_zero_to_one_with_a_hundredth_clipped_at_each_end() -> None:
    scene = np.random.default_rng(6).gamma(2, 300, (10, 60, 60)).astype(np.float32)
    scene[4, :3] = np.nan
    stretched = normalize_scene(scene)
    values = stretched[np.isfinite(stretched)]
    np.testing.assert_array_equal(np.isnan(stretched), np.isnan(scene))
    assert values.min() == 0 and values.max() == pytest.approx(1, abs=1e-6)
    assert (values == 0).mean() == pytest.approx(0.01, abs=1e-3)
    assert (values >= values.max()).mean() == pytest.approx(0.01, abs=1e-3)


@pytest.mark.parametrize("module", [geolift.degradation.psf, geolift.degradation.degrade])
def test_the_examples_of_the_docstrings_hold(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0
