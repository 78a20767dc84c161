"""Co-registration: planted shifts come back, errors are honest, weak evidence is called weak."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from geolift.degradation.degrade import add_noise, apply_srf, degrade, normalize_scene
from geolift.degradation.psf import psf_kernel
from geolift.degradation.sampling import axis_kernel, degrade_msi
from geolift.pair.coregistration import (
    ShiftEstimate,
    Window,
    choose_windows,
    cut_window,
    estimate_shift,
    estimate_shift_by_windows,
)
from geolift.pair.coregistration.cubic import resample
from geolift.pair.coregistration.estimate import _best_of
from geolift.pair.coregistration.local_shift import estimate_local_shifts
from geolift.pair.coregistration.shift_fit import FitResult
from geolift.readers.mat_scene import open_mat_scene

FloatArray = NDArray[np.float32]


def scene(size: int, seed: int = 0, bands: int = 3) -> FloatArray:
    """Reflectance-like fields (bands, size, size): patches with edges, and texture with a 1/f spectrum."""
    rng = np.random.default_rng(seed)
    fields = rng.integers(0, 6, (size // 14 + 1, size // 14 + 1))
    patches = np.kron(fields, np.ones((14, 14), np.int64))[:size, :size]
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None])
    amplitude = 1.0 / np.maximum(frequency, 1.0 / size) ** 1.4
    spectrum = np.fft.fft2(rng.normal(size=(size, size))) * amplitude
    texture = np.fft.ifft2(spectrum).real
    texture /= texture.std()
    tint = rng.uniform(0.1, 0.4, (bands, 6))
    image = np.stack([tint[b][patches] + 0.03 * texture for b in range(bands)])
    return ndimage.gaussian_filter(image, (0, 0.7, 0.7)).astype(np.float32)


def planted(
    image: FloatArray,
    ratio: int,
    dy: float,
    dx: float,
    *,
    blur: float = 0.42,
    snr_db: float = 35.0,
    margin: int = 2,
    seed: int = 0,
) -> tuple[FloatArray, FloatArray]:
    """Simulated image from the scene, fine MSI of the same scene moved by (dy, dx), another radiometry."""
    rng = np.random.default_rng(seed)
    bands, size, _ = image.shape
    count = size // ratio - 2 * margin
    wide = ndimage.gaussian_filter(image, (0, blur * ratio, blur * ratio)) if blur else image
    blocks = wide[:, : size // ratio * ratio, : size // ratio * ratio]
    blocks = blocks.reshape(bands, size // ratio, ratio, size // ratio, ratio).mean(axis=(2, 4))
    hsi = blocks[:, margin : margin + count, margin : margin + count]
    msi = ndimage.shift(image, (0, dy, dx), order=5, mode="nearest") * rng.uniform(0.8, 1.2, (bands, 1, 1)) + 0.02
    noise = 10 ** (-snr_db / 20)
    hsi = hsi + rng.normal(size=hsi.shape) * noise * np.sqrt((hsi**2).mean())
    msi = msi + rng.normal(size=msi.shape) * noise * np.sqrt((msi**2).mean())
    width = (count + 2 * margin) * ratio
    return hsi.astype(np.float32), msi[:, :width, :width].astype(np.float32)


def error_px(found: ShiftEstimate, dy: float, dx: float) -> float:
    return float(np.hypot(found.dy - dy, found.dx - dx))


@pytest.mark.parametrize("ratio", [3, 4, 6])
@pytest.mark.parametrize("blur", [0.0, 0.42, 0.68])
def test_planted_shifts_come_back_to_a_fiftieth_of_an_msi_pixel_whatever_the_psf(ratio: int, blur: float) -> None:
    dy, dx = 2.37, -4.81
    found = estimate_shift(*planted(scene(240), ratio, dy, dx, blur=blur), ratio, 2)
    assert error_px(found, dy, dx) < 0.02 * max(1.0, ratio / 4)
    assert found.reliable
    assert found.confidence > 0.95


def test_shifts_beyond_the_margin_and_of_many_hsi_pixels_are_found() -> None:
    found = estimate_shift(*planted(scene(300), 4, -13.6, 14.2), 4, 2)
    assert error_px(found, -13.6, 14.2) < 0.03


def test_ratio_ten_reaches_a_fiftieth_of_an_hsi_pixel() -> None:
    errors = []
    for seed in range(4):
        hsi, msi = planted(scene(300, seed), 10, 3.3, -1.7, seed=seed)
        errors.append(error_px(estimate_shift(hsi, msi, 10, 2), 3.3, -1.7) / 10)
    assert np.median(errors) < 0.02


def test_the_stated_error_covers_the_true_one() -> None:
    scores = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        dy, dx = rng.uniform(-5, 5, 2)
        found = estimate_shift(*planted(scene(120, seed), 4, dy, dx, snr_db=20, seed=seed), 4, 2)
        scores += [(found.dy - dy) / found.sigma_dy, (found.dx - dx) / found.sigma_dx]
    assert np.mean(np.abs(scores) < 1.0) > 0.5
    assert np.mean(np.abs(scores) < 2.0) > 0.85


def test_clouds_over_a_quarter_of_the_scene_do_not_move_it() -> None:
    hsi, msi = planted(scene(240, 3), 4, 1.25, -2.5)
    cloudy = msi.copy()
    rows, columns = np.mgrid[: msi.shape[1], : msi.shape[2]]
    for y, x, radius in ((50, 60, 38), (150, 170, 45), (190, 40, 25)):
        cloudy[:, np.hypot(rows - y, columns - x) < radius] = 0.8
    found = estimate_shift(hsi, cloudy, 4, 2)
    assert error_px(found, 1.25, -2.5) < 0.1
    assert found.usable_fraction < estimate_shift(hsi, msi, 4, 2).usable_fraction


def test_masked_pixels_take_no_part_whatever_lies_under_them() -> None:
    hsi, msi = planted(scene(240, 4), 4, -1.5, 0.75)
    msi[:, 40:90, 100:180] = np.nan
    hsi[:, 5:9, :20] = np.nan
    found = estimate_shift(hsi, msi, 4, 2)
    assert error_px(found, -1.5, 0.75) < 0.05


def test_the_bands_may_be_in_another_order() -> None:
    hsi, msi = planted(scene(240, 5, bands=4), 4, 2.0, -1.0)
    assert error_px(estimate_shift(hsi, msi[::-1].copy(), 4, 2), 2.0, -1.0) < 0.5


def test_two_places_are_not_matched_with_confidence() -> None:
    for seed in range(4):
        hsi, _ = planted(scene(160, seed), 4, 0, 0)
        _, msi = planted(scene(160, seed + 50), 4, 0, 0)
        found = estimate_shift(hsi, msi, 4, 2)
        assert found.confidence < 0.3
        assert not found.reliable


def test_a_scene_without_texture_says_so_and_is_not_moved() -> None:
    flat = np.full((3, 40, 40), 0.2, np.float32)
    found = estimate_shift(flat, np.full((3, 176, 176), 0.2, np.float32), 4, 2)
    assert (found.dy, found.dx, found.reliable) == (0.0, 0.0, False)
    assert "texture" in found.reason


def test_an_msi_without_texture_says_so() -> None:
    hsi, msi = planted(scene(120), 3, 0.0, 0.0)
    found = estimate_shift(hsi, np.full_like(msi, 0.1), 3, 2)
    assert not found.reliable
    assert found.confidence == 0
    assert "no texture" in found.reason


def test_of_two_fits_that_end_at_one_place_the_one_that_rests_is_taken() -> None:
    def fit(evidence: float, converged: bool, dx: float) -> FitResult:
        place, flat = np.array([3.0, dx, 1.0, 1.0]), np.zeros((1, 2))
        strength = np.array([np.sqrt(1 - np.exp(-2 * evidence))])
        return FitResult(
            place=place,
            votes_px=flat,
            vote_sigma_px=flat,
            covariance_px2=np.eye(2),
            correlation=strength,
            agreement=0.9,
            agreement_at_zero=0.5,
            used_fraction=1.0,
            n_pixels=100,
            converged=converged,
        )

    rested, ran_out, elsewhere = fit(1.0, True, 0.0), fit(1.01, False, 0.01), fit(0.5, True, 9.0)
    assert _best_of([((3.0, 0.0), rested), ((0.0, 4.5), ran_out)], 3)[1] is rested
    assert _best_of([((0.0, 4.5), ran_out), ((3.0, 9.0), elsewhere)], 3)[1] is ran_out


def test_noise_alone_is_not_reliable() -> None:
    rng = np.random.default_rng(0)
    hsi = rng.normal(size=(3, 40, 40)).astype(np.float32)
    msi = rng.normal(size=(3, 176, 176)).astype(np.float32)
    found = estimate_shift(hsi, msi, 4, 2)
    assert not found.reliable


def test_no_shift_is_returned_that_makes_the_agreement_worse() -> None:
    for seed in range(6):
        hsi, msi = planted(scene(100, seed), 5, 0.0, 0.0, snr_db=8, seed=seed)
        found = estimate_shift(hsi, msi, 5, 2)
        assert found.agreement_after >= found.agreement_before


def test_nothing_valid_in_common_gives_no_estimate() -> None:
    hsi, msi = planted(scene(100), 4, 0, 0)
    found = estimate_shift(hsi, np.full_like(msi, np.nan), 4, 2)
    assert not found.reliable
    assert found.confidence == 0.0


def test_arrays_that_do_not_fit_are_refused_with_the_shape_needed() -> None:
    with pytest.raises(ValueError, match=r"needs \(3, 56, 56\)"):
        estimate_shift(np.zeros((3, 10, 10), np.float32), np.zeros((3, 40, 40), np.float32), 4, 2)


@pytest.fixture(scope="module")
def large() -> tuple[FloatArray, FloatArray]:
    return planted(scene(900, 7), 3, 2.3, -1.2)


def test_a_large_scene_is_judged_by_textured_windows_in_bounded_time(large: tuple[FloatArray, FloatArray]) -> None:
    hsi, msi = large
    windows = choose_windows(hsi)
    assert sum(w.height * w.width for w in windows) < 10_000 < hsi[0].size
    read: list[int] = []

    def reader(w: Window) -> FloatArray:
        read.append(w.height * w.width)
        return msi[:, 3 * w.y : 3 * (w.y + w.height + 4), 3 * w.x : 3 * (w.x + w.width + 4)]

    found = estimate_shift_by_windows(hsi, reader, 3, 2)
    assert error_px(found, 2.3, -1.2) < 0.02
    assert found == estimate_shift(hsi, msi, 3, 2)
    assert sum(read) < 10_000


def test_a_large_scene_that_hides_under_clouds_is_looked_at_through_wide_windows(
    large: tuple[FloatArray, FloatArray],
) -> None:
    hsi, msi = large[0], large[1].copy()
    for w in choose_windows(hsi):
        msi[:, 3 * w.y : 3 * (w.y + w.height + 4), 3 * w.x : 3 * (w.x + w.width + 4)] = np.nan
    assert error_px(estimate_shift(hsi, msi, 3, 2), 2.3, -1.2) < 0.02


def test_windows_are_put_where_the_texture_is() -> None:
    quiet = np.full((2, 300, 300), 0.2, np.float32)
    quiet += np.random.default_rng(0).normal(size=quiet.shape).astype(np.float32) * 1e-4
    quiet[:, 200:264, 10:74] = scene(64, bands=2)
    assert any(w.y < 264 and w.y + w.height > 200 and w.x < 74 for w in choose_windows(quiet))


def fine_part(hsi: np.ndarray, msi: np.ndarray, window: Window) -> np.ndarray:
    return cut_window(hsi, msi, 3, 2, window)[1]


def test_an_affine_distortion_is_followed_and_a_plain_shift_is_not_bent() -> None:
    image = scene(360, 9)
    rows, columns = np.mgrid[:360, :360].astype(float)
    v, u = 2 * rows / 360 - 1, 2 * columns / 360 - 1
    for bend in (0.0, 0.8):
        dy, dx = 1.0 + bend * (v - 0.5 * u), -0.5 + bend * 0.6 * u
        moved = np.stack(
            [ndimage.map_coordinates(b, [rows - dy, columns - dx], order=3, mode="nearest") for b in image]
        )
        hsi, _ = planted(image, 3, 0, 0)
        msi = moved[:, : (hsi.shape[1] + 4) * 3, : (hsi.shape[2] + 4) * 3].astype(np.float32)
        read = functools.partial(fine_part, hsi, msi)
        field = estimate_local_shifts(hsi, read, 3, 2, estimate_shift(hsi, msi, 3, 2))
        assert field.degree == (0 if bend == 0 else field.degree) and (bend == 0 or field.degree >= 1)
        y, x = np.mgrid[: hsi.shape[1], : hsi.shape[2]]
        found_dy, found_dx = field.at(y, x)
        truth = (dy[7::3, 7::3], dx[7::3, 7::3])
        error = np.hypot(
            found_dy - truth[0][: y.shape[0], : y.shape[1]], found_dx - truth[1][: y.shape[0], : y.shape[1]]
        )
        assert np.sqrt((error**2).mean()) < 0.08


def test_resampling_reproduces_a_quadratic_and_keeps_away_from_what_is_invalid() -> None:
    rows, columns = np.mgrid[:12, :15].astype(float)
    image = np.stack([1 + rows - 2 * columns + 0.1 * rows * columns + 0.05 * columns**2, columns]).astype(np.float32)
    y, x = rows + 0.3, columns - 0.7
    read = resample(image, y, x)
    inner = (slice(2, -3), slice(2, -3))
    assert np.allclose(read[0][inner], (1 + y - 2 * x + 0.1 * y * x + 0.05 * x**2)[inner], atol=1e-4)
    assert np.isnan(read[:, 0]).all()
    image[:, 6, 6] = np.nan
    assert np.isnan(resample(image, y, x)).sum() == np.isnan(read).sum() + 2 * 16


def test_kernels_sum_to_one_and_their_derivatives_are_the_differences() -> None:
    step = 1e-4
    for shift, variance in ((0.3, 0.4), (-1.49, 3.0), (2.5, 0.05)):
        taps = axis_kernel(4, shift, variance).taps
        assert taps[0].sum() == pytest.approx(1.0, abs=1e-9)
        ahead, behind = axis_kernel(4, shift + step, variance), axis_kernel(4, shift - step, variance)
        if ahead.start_px == behind.start_px:
            assert np.allclose((ahead.taps[0] - behind.taps[0]) / (2 * step), taps[1], atol=1e-5)
        wider, narrower = axis_kernel(4, shift, variance + step), axis_kernel(4, shift, variance - step)
        if wider.taps.shape == narrower.taps.shape == taps.shape:
            assert np.allclose((wider.taps[0] - narrower.taps[0]) / (2 * step), taps[2], atol=1e-3)


def test_degrading_without_shift_and_blur_is_the_block_mean() -> None:
    image = scene(60, 1)
    blocks = image.reshape(3, 20, 3, 20, 3).mean(axis=(2, 4))[:, 4:-4, 4:-4]
    assert np.allclose(degrade_msi(image, 3, 4), blocks, atol=1e-6)


def test_degrading_at_a_shift_follows_a_plane_exactly() -> None:
    rows, columns = np.mgrid[:72, :72].astype(np.float32)
    plane = (0.01 * rows - 0.02 * columns)[None]
    at_rest = degrade_msi(plane, 4, 6, (0.0, 0.0), (1.1, 1.7))
    moved = degrade_msi(plane, 4, 6, (0.37, -1.61), (1.1, 1.7))
    assert np.allclose(moved - at_rest, 0.01 * 0.37 + 0.02 * 1.61, atol=1e-5)


def test_degrading_never_mixes_in_invalid_pixels() -> None:
    image = scene(96, 2)
    hole = image.copy()
    hole[:, 40:44, 40:44] = np.nan
    whole, holed = degrade_msi(image, 4, 4, (0.4, 0.2), (1.5, 1.5)), degrade_msi(hole, 4, 4, (0.4, 0.2), (1.5, 1.5))
    assert np.isnan(holed).any()
    kept = np.isfinite(holed)
    assert np.abs(holed[kept] - whole[kept]).max() < 0.02


def test_hyperion_and_ali_over_paris_lie_half_a_pixel_apart(shared_data: Path) -> None:
    from scipy.io import loadmat

    folder = shared_data / "paris_eo1"
    images = loadmat(folder / "paris_data_hs_ms.mat")
    srf = loadmat(folder / "fuvar_R_HysureParis.mat")["R"]
    hyperion = images["HSim"].transpose(2, 0, 1)
    hyperion = (
        ndimage.gaussian_filter(hyperion, (0, 3 / 2.3548, 3 / 2.3548)).reshape(128, 24, 3, 24, 3).mean(axis=(2, 4))
    )
    simulated = np.einsum("bk,kyx->byx", srf / srf.sum(axis=1, keepdims=True), hyperion).astype(np.float32)
    ali = np.pad(images["MSim"].transpose(2, 0, 1), ((0, 0), (6, 6), (6, 6)), constant_values=np.nan)
    found = estimate_shift(simulated, ali.astype(np.float32), 3, 2)
    assert found.reliable
    assert found.dy == pytest.approx(0.15, abs=0.08)
    assert found.dx == pytest.approx(0.51, abs=0.08)
    assert found.blur_sigma_y == pytest.approx(1.27, abs=0.3)


def test_one_band_whose_images_agree_but_for_their_noise_comes_to_rest(shared_data: Path) -> None:
    # The robust weights follow the residuals slowly here: after as many steps as elsewhere the fit is still on its way.
    ratio, margin = 8, 8
    cube = normalize_scene(open_mat_scene(next((shared_data / "scenes").glob("*beach-1.mat"))).values)
    truth = cube[:, : cube.shape[1] // ratio * ratio, : cube.shape[2] // ratio * ratio]
    weights = np.exp(-8.8 * np.linspace(-0.5, 0.5, len(truth))[None] ** 2)
    weights /= weights.sum()
    hsi = add_noise(degrade(truth, psf_kernel("gaussian"), ratio), 30.0, np.random.default_rng(42))
    msi = add_noise(apply_srf(truth, weights), 40.0, np.random.default_rng(43))
    edge = margin * ratio
    fine = np.pad(msi, ((0, 0), (edge, edge), (edge, edge)), constant_values=np.nan).astype(np.float32)
    found = estimate_shift(apply_srf(hsi, weights).astype(np.float32), fine, ratio, margin)
    assert found.reliable, found.reason
    assert error_px(found, 0.0, 0.0) < 0.2
