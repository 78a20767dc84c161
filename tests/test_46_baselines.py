"""The methods of others in the benchmark, each against plain formulas or a limit in which the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from geolift.benchmark import baselines
from geolift.benchmark.baselines.cnmf import factorise
from geolift.benchmark.baselines.fuse import Blur, solve_sylvester
from geolift.benchmark.baselines.gsa import band_groups
from geolift.benchmark.methods import fuse_arrays, known_methods
from geolift.errors import InputError
from geolift.refinement.footprint import Footprint, gaussian_footprint

RATIO = 4


def mixture(size: int = 64, bands: int = 40, materials: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """A scene (bands, size, size) mixed of a few smooth spectra, with pure pixels, and weights (4, bands)."""
    rng = np.random.default_rng(3)
    fields = np.stack([ndimage.gaussian_filter(rng.standard_normal((size, size)), 3.0) for _ in range(materials)])
    shares = np.exp(4.0 * fields / fields.std(axis=(1, 2), keepdims=True))
    shares /= shares.sum(axis=0)
    x = np.linspace(0, 1, bands)
    centres, widths = rng.uniform(0, 1, materials), rng.uniform(0.1, 0.4, materials)
    spectra = 0.1 + 0.6 * np.exp(-np.square((x - centres[:, None]) / widths[:, None]))
    weights = np.exp(-0.5 * np.square((x - np.array([0.1, 0.35, 0.6, 0.85])[:, None]) / 0.08))
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("mc,myx->cyx", spectra, shares).astype(np.float32), weights.astype(np.float32)


def pair_of(scene: np.ndarray, weights: np.ndarray, zeros: bool = False) -> tuple[np.ndarray, np.ndarray, Footprint]:
    """HSI, MSI and the footprint that made the HSI, mirrored or black beyond the border; a little noise."""
    rng = np.random.default_rng(4)
    footprint = gaussian_footprint(RATIO, (0.0, 0.0), (2.0, 2.0))
    edge = footprint.margin_lr * RATIO
    wide = np.pad(scene, ((0, 0), (edge, edge), (edge, edge)), mode="constant" if zeros else "symmetric")
    hsi = footprint.degrade(wide, footprint.margin_lr)
    msi = np.einsum("mc,cyx->myx", weights, scene).astype(np.float32)
    hsi = hsi + 5e-4 * rng.standard_normal(hsi.shape).astype(np.float32)
    return hsi, msi + 5e-4 * rng.standard_normal(msi.shape).astype(np.float32), footprint


def psnr(product: np.ndarray, truth: np.ndarray) -> float:
    return float(-10 * np.log10(np.square(product - truth).mean()))


def test_the_sylvester_equation_is_solved_as_dense_normal_equations_are() -> None:
    rng = np.random.default_rng(0)
    components, bands, size, ratio = 3, 2, 4, 2
    footprint = Footprint(ratio, (-1, 0), (np.array([0.2, 0.5, 0.3]), np.array([0.1, 0.6, 0.2, 0.1])))
    fine = (size * ratio) ** 2
    low, shown = rng.standard_normal((components, size, size)), rng.standard_normal((bands, size * ratio, size * ratio))
    sensed, prior = rng.standard_normal((bands, components)), np.diag([0.5, 1.0, 2.0])
    mean = rng.standard_normal((components, size * ratio, size * ratio))
    seen_by = np.zeros((size * size, fine))  # written out pixel by pixel, periodic
    for row in range(size):
        for col in range(size):
            for i, down in enumerate(footprint.weights[0]):
                for j, across in enumerate(footprint.weights[1]):
                    y, x = (row * ratio - 1 + i) % (size * ratio), (col * ratio + j) % (size * ratio)
                    seen_by[row * size + col, y * size * ratio + x] += down * across
    spatial, spectral = seen_by.T @ seen_by, sensed.T @ sensed + prior
    system = np.kron(np.eye(components), spatial) + np.kron(spectral, np.eye(fine))
    right = low.reshape(components, -1) @ seen_by + sensed.T @ shown.reshape(bands, -1)
    right += prior @ mean.reshape(components, -1)
    expected = np.linalg.solve(system, right.ravel()).reshape(components, size * ratio, size * ratio)
    found = solve_sylvester(low, shown, sensed, prior, mean, Blur(footprint, (size, size)))
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_fuse_with_next_to_no_noise_agrees_with_both_images() -> None:
    rng = np.random.default_rng(1)
    blur = Blur(gaussian_footprint(RATIO, (0.3, -0.2), (1.5, 1.5)), (8, 8))
    truth = rng.standard_normal((3, 32, 32))
    sensed = rng.standard_normal((2, 3))
    low, shown = blur.degrade(truth), np.einsum("ck,kyx->cyx", sensed, truth)
    found = solve_sylvester(low, shown, sensed, 1e-9 * np.eye(3), np.zeros_like(truth), blur)
    np.testing.assert_allclose(np.einsum("ck,kyx->cyx", sensed, found), shown, atol=1e-5)
    np.testing.assert_allclose(blur.degrade(found), low, atol=1e-5)


def test_a_group_is_sharpened_by_regressed_intensity_and_covariance_gains() -> None:
    scene, weights = mixture(32, 12, 3)
    hsi, msi, _ = pair_of(scene, weights)
    seen = baselines.observe(hsi, msi, weights)
    found = baselines.gsa(seen)
    enlarged = baselines.bicubic(seen.hsi, msi.shape[1:]).astype(np.float64)
    coarse = seen.degrade(seen.msi)
    simulated = np.einsum("mc,cn->mn", weights, seen.hsi.reshape(12, -1))
    correlation = np.corrcoef(np.vstack([seen.hsi.reshape(12, -1), simulated]))[:12, 12:]
    for index in range(4):
        chosen = [band for band in range(12) if correlation[band].argmax() == index]
        columns = [seen.hsi[band].ravel() for band in chosen] + [np.ones(hsi[0].size)]
        fit = np.linalg.lstsq(np.stack(columns, 1).astype(np.float64), coarse[index].ravel(), rcond=1e-8)[0]
        intensity = fit[-1] + sum(w * enlarged[band] for w, band in zip(fit, chosen, strict=False))
        for band in chosen:
            gain = np.cov(enlarged[band].ravel(), intensity.ravel())[0, 1] / intensity.var(ddof=1)
            np.testing.assert_allclose(found[band], enlarged[band] + gain * (msi[index] - intensity), atol=1e-4)


def test_gsa_gives_back_bands_that_are_multiples_of_the_pan_band() -> None:
    scene = mixture(32, 12, 3)[0][:1] * np.array([0.5, 1.0, 0.8], np.float32)[:, None, None]
    weights = np.array([[0.0, 1.0, 0.0]], np.float32)
    hsi, msi, _ = pair_of(scene, weights)
    assert psnr(baselines.gsa(baselines.observe(hsi, msi, weights)), scene) > 55
    assert band_groups(hsi.reshape(3, -1), msi[:, ::RATIO, ::RATIO].reshape(1, -1)).tolist() == [0, 0, 0]


def test_a_step_of_the_factorisation_is_lee_and_seungs() -> None:
    rng = np.random.default_rng(2)
    data, spectra, shares = rng.random((5, 30)), rng.random((5, 3)), rng.random((3, 30))
    errors = []
    for steps in (10, 50, 200):
        w, h = factorise(data, spectra, shares, 0.0)
        errors.append(float(np.square(data - w @ h).sum()))
        assert (w >= 0).all() and (h >= 0).all(), steps
    assert errors[-1] < float(np.square(data - spectra @ shares).sum())
    exact = spectra @ shares  # a factorisation that is exact already stays
    kept = factorise(exact, spectra, shares, 0.0)
    np.testing.assert_allclose(kept[0] @ kept[1], exact, rtol=1e-9)
    one, _ = factorise(data, spectra, shares, 0.0, update_abundances=False)
    slow = spectra.copy()
    for _ in range(200):
        slow = slow * (data @ shares.T) / (slow @ shares @ shares.T)
    assert np.square(data - one @ shares).sum() == pytest.approx(np.square(data - slow @ shares).sum(), rel=0.02)


@pytest.mark.parametrize(("method", "least_db"), [("cnmf", 36), ("fuse", 40), ("gsa", 28)])
def test_a_mixture_of_four_materials_is_recovered_through_a_blind_footprint(method: str, least_db: float) -> None:
    scene, weights = mixture()
    hsi, msi, _ = pair_of(scene, weights)
    found = fuse_arrays(method, hsi, msi, weights).product
    bicubic = fuse_arrays("bicubic", hsi, msi, weights).product
    assert psnr(found, scene) > max(least_db, psnr(bicubic, scene) + 3)


def test_zeros_beyond_the_image_are_divided_out() -> None:
    scene, weights = mixture()
    mirrored, black = (pair_of(scene, weights, zeros)[:2] for zeros in (False, True))
    with_mirror = baselines.observe(*mirrored, weights)
    with_zeros = baselines.observe(*black, weights)
    assert np.abs(black[0] - mirrored[0]).max() > 0.1
    assert np.abs(with_zeros.hsi - with_mirror.hsi).mean() < 0.01
    np.testing.assert_array_equal(with_mirror.hsi, mirrored[0])


def test_baselines_are_methods_of_the_benchmark_and_keep_invalid_pixels_invalid() -> None:
    assert {"bicubic", "gsa", "cnmf", "fuse"} < set(known_methods())
    scene, weights = mixture()
    hsi, msi, _ = pair_of(scene, weights)
    msi[:, 5, 7] = np.nan
    hsi[:, 2, 3] = np.nan
    for method in ("gsa", "cnmf", "fuse"):
        found = fuse_arrays(method, hsi, msi, weights).product
        assert np.isnan(found[:, 5, 7]).all() and np.isfinite(np.delete(found[0].ravel(), 5 * 64 + 7)).all()
    with pytest.raises(InputError, match="no whole multiple"):
        baselines.observe(hsi, msi[:, :-1], weights)
