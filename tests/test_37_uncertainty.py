"""The stated error of a product: planted noise, planted scatter, planted worth of the refinement."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom
from scipy.spatial import KDTree

from geolift.demo.landscape import make_scene, observe
from geolift.srf import SpectralResponse
from geolift.training.fit import fit
from geolift.training.noise import least_noise, quiet_noise, unshared_noise
from geolift.training.training_set import TrainingSet, training_set_from_cube
from geolift.uncertainty.calibration import FINE_OVER_SHARPENED, fit_errors, observed_pixels
from geolift.uncertainty.reduced_resolution import assess_at_reduced_resolution

BANDS = 12
WEIGHTS = np.eye(2, BANDS, dtype=np.float32)
HIDDEN = np.linspace(0.6, 1.4, BANDS - 2)[:, None, None]


def refit(part: TrainingSet):  # type: ignore[no-untyped-def]
    return fit("linear", part, threads=1)


def scene(scatter: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(12, h, w): two bands that the MSI sees, and ten mixtures of them with a scatter that it does not show."""
    one, two = rng.random((2, *scatter.shape)) * 0.3 + 0.1
    hidden = scatter * rng.standard_normal(scatter.shape)
    mixed = [share * one + (1 - share) * two for share in np.linspace(0.1, 0.9, BANDS - 2)]
    return np.concatenate([[one, two], mixed + HIDDEN * hidden]).astype(np.float32)


@pytest.mark.parametrize("sigma", [0.001, 0.004])
def test_noise_is_found_under_texture_that_the_bands_share(sigma: float) -> None:
    rng = np.random.default_rng(0)
    texture = 0.02 * rng.standard_normal((96, 96))
    gains = np.array([1.0, 0.7, 1.3, 0.9])[:, None, None]
    image = (0.2 + gains * texture + sigma * rng.standard_normal((4, 96, 96))).astype(np.float32)
    assert unshared_noise(image) == pytest.approx(np.full(4, sigma), rel=0.35)
    assert (quiet_noise(image) > 2 * sigma).all()


def test_an_image_smaller_than_a_block_has_no_noise_to_be_found() -> None:
    assert unshared_noise(np.zeros((3, 8, 8), np.float32)).tolist() == [0, 0, 0]


def landscape(bands: int, rng: np.random.Generator, rows: int = 128) -> np.ndarray:
    """(bands, rows, rows) without noise: fields with sharp borders, and each band has a texture of its own on most."""
    fields = np.kron(0.1 + 0.3 * rng.random((bands, rows // 16, rows // 16)), np.ones((16, 16)))
    texture = gaussian_filter(rng.standard_normal(fields.shape), (0, 1.0, 1.0))
    texture[:, : rows // 4] = 0
    return np.asarray(fields + 0.03 * texture)


@pytest.mark.parametrize("bands", [1, 3, 4, 10, 30])
@pytest.mark.parametrize("sigma", [0.001, 0.01])
def test_the_least_noise_is_the_planted_one_whatever_the_number_of_bands(bands: int, sigma: float) -> None:
    rng = np.random.default_rng(bands)
    planted = sigma * np.linspace(0.7, 1.4, bands)[:, None, None]
    image = (landscape(bands, rng) + planted * rng.standard_normal((bands, 128, 128))).astype(np.float32)
    found = least_noise([image[:, :, :64], image[:, :, 64:]])
    assert (np.abs(np.log(found / planted.ravel())) < np.log(1.5)).all()


def test_the_least_noise_of_integers_holds_that_of_rounding() -> None:
    rng = np.random.default_rng(7)
    image = landscape(4, rng) * 10_000 + 3.0 * rng.standard_normal((4, 128, 128))
    assert least_noise([np.round(image).astype(np.int16).astype(np.float32)]) == pytest.approx(
        np.full(4, 3.01), rel=0.4
    )


def test_the_least_noise_is_that_of_a_pixel_in_an_interpolated_band_too() -> None:
    rng = np.random.default_rng(8)
    image = landscape(3, rng) + 0.01 * rng.standard_normal((3, 128, 128))
    coarse = 0.01 * rng.standard_normal((64, 64))
    image[1] = zoom(landscape(1, rng, 64)[0] + coarse, 2, order=1, mode="nearest", grid_mode=True)
    planted = [0.01, zoom(coarse, 2, order=1, mode="nearest", grid_mode=True).std(), 0.01]
    assert (np.abs(np.log(least_noise([image.astype(np.float32)]) / planted)) < np.log([1.5, 2, 1.5])).all()


def test_a_filled_corner_does_not_make_an_image_free_of_noise() -> None:
    rng = np.random.default_rng(9)
    image = (landscape(3, rng) + 0.005 * rng.standard_normal((3, 128, 128))).astype(np.float32)
    image[:, -40:, -40:] = 0
    assert least_noise([image]) == pytest.approx(np.full(3, 0.005), rel=0.4)


def test_texture_of_the_near_infrared_alone_is_not_its_noise() -> None:
    """There three visible bands tell little of the fourth, which `unshared_noise` takes for noise."""
    scene = make_scene(rows=192, cols=192)
    response = SpectralResponse.from_library("sentinel-2a").select(("B02", "B03", "B04", "B08"))
    weights = response.weights(scene.wavelengths_nm, scene.fwhm_nm, scene.good).weights
    _, msi = observe(scene, weights, msi_noise_sigma=0.0012)
    found = least_noise([msi]) / 0.0012
    assert (found > 0.9).all() and (found[:3] < 1.3).all() and found[3] < 1.7
    assert unshared_noise(msi)[3] > 2 * 0.0012


def test_an_image_too_small_to_tell_has_no_noise_to_be_found_at_all() -> None:
    assert least_noise([np.ones((3, 5, 5), np.float32)]).tolist() == [0, 0, 0]
    assert least_noise([np.full((3, 40, 40), np.nan, np.float32)]).tolist() == [0, 0, 0]


def test_the_stated_error_is_the_planted_scatter_where_it_was_planted() -> None:
    rng = np.random.default_rng(1)
    hsi = scene(np.full((40, 40), 0.01), rng)
    errors = fit_errors(training_set_from_cube(hsi, WEIGHTS), refit, None)
    assert errors is not None
    stated = np.median(errors.sigma(np.einsum("cb,byx->cyx", WEIGHTS, hsi)), axis=(1, 2))
    # With the allowance for texture finer than the HSI's, of which there is none.
    assert stated[2:] == pytest.approx(0.01 * FINE_OVER_SHARPENED * HIDDEN.ravel(), rel=0.15)
    assert (stated[:2] < 0.1 * stated[2:].min()).all()


def test_errors_larger_on_bright_pixels_are_stated_larger_there() -> None:
    rng = np.random.default_rng(2)
    bright = np.zeros((48, 48), bool)
    bright[:, 24:] = True
    hsi = scene(np.full((48, 48), 0.004), rng)
    hsi[:, :, 24:] += 0.5
    hsi[2:, :, 24:] += (HIDDEN * 0.03 * rng.standard_normal((48, 24))).astype(np.float32)
    errors = fit_errors(training_set_from_cube(hsi, WEIGHTS), refit, None)
    assert errors is not None
    sigma = errors.sigma(np.einsum("cb,byx->cyx", WEIGHTS, hsi))[5]
    assert np.median(sigma[bright]) > 2 * np.median(sigma[~bright])


def test_the_stated_error_of_a_pixel_does_not_depend_on_its_neighbours() -> None:
    hsi = scene(np.full((30, 30), 0.01), np.random.default_rng(3))
    errors = fit_errors(training_set_from_cube(hsi, WEIGHTS), refit, None)
    assert errors is not None
    msi = np.einsum("cb,byx->cyx", WEIGHTS, hsi).astype(np.float32)
    assert np.array_equal(errors.sigma(msi)[:, 7:19, 3:22], errors.sigma(msi[:, 7:19, 3:22]))
    msi[:, 4, 4] = np.nan
    assert np.isnan(errors.sigma(msi)[:, 4, 4]).all()


def test_what_is_wrong_with_the_real_msi_is_in_the_stated_error() -> None:
    rng = np.random.default_rng(15)
    hsi = scene(np.full((40, 40), 0.001), rng)
    training = training_set_from_cube(hsi, WEIGHTS)
    wrong = hsi[:2] + (0.02 * rng.standard_normal((2, 40, 40))).astype(np.float32)
    calm, told = (
        fit_errors(training, refit, None, observed=observed_pixels(seen, training.rows, training.cols))
        for seen in (hsi[:2], wrong)
    )
    assert calm is not None and told is not None
    assert 0.0005 < np.median(calm.typical) < 0.002
    assert 0.01 < np.median(told.typical) < 0.03


def test_pixels_are_looked_up_where_the_msi_lies_and_unknown_elsewhere() -> None:
    image = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    image[0, 2, 3] = np.nan
    found = observed_pixels(image, np.array([5, 6, 7, 0]), np.array([5, 6, 8, 0]), corner=(5, 5))
    assert found.values[:2, 0].tolist() == [0, 5] and found.neighbour_means[:2, 0].tolist() == [2.5, 5]
    assert found.known.tolist() == [True, True, False, False]


def test_nothing_is_rehearsed_where_there_is_too_little_to_rehearse_on() -> None:
    hsi = scene(np.full((12, 12), 0.01), np.random.default_rng(4))
    assert assess_at_reduced_resolution(hsi, WEIGHTS, refit, (0.4, 0.4), refined=True) is None


def test_a_product_that_is_not_refined_keeps_all_of_its_error() -> None:
    found = assess_at_reduced_resolution(
        fields_and_scatter(np.random.default_rng(6)), WEIGHTS, refit, (0.4, 0.4), refined=False
    )
    assert found is not None
    assert found.refined_share == 1.0


def seen_in_fields(hidden: np.ndarray, rng: np.random.Generator, edge: int = 8) -> np.ndarray:
    """(12, h, w): what the MSI sees is one value per field of edge × edge pixels; ``hidden`` is what it does not."""
    rows, cols = (size // edge for size in hidden.shape)
    one, two = np.kron(rng.random((2, rows, cols)) * 0.3 + 0.1, np.ones((edge, edge)))
    mixed = [share * one + (1 - share) * two for share in np.linspace(0.1, 0.9, BANDS - 2)]
    return np.concatenate([[one, two], mixed + HIDDEN * hidden]).astype(np.float32)


def needed(hidden: np.ndarray) -> float:
    hsi = seen_in_fields(hidden, np.random.default_rng(12))
    found = assess_at_reduced_resolution(hsi, WEIGHTS, refit, (0.0, 0.0), refined=False)
    assert found is not None
    return found.needed


def test_hidden_texture_that_is_lost_when_coarsened_is_told_by_the_level_below() -> None:
    """Single pixels lose half of their contrast when coarsened by two, and the standard error calibrated below misses
    that half; blocks of 2 × 2 pixels keep theirs."""
    rng = np.random.default_rng(11)
    pixels = 0.01 * rng.standard_normal((64, 64))
    blocks = 0.01 * np.kron(rng.standard_normal((32, 32)), np.ones((2, 2)))
    assert needed(pixels) == pytest.approx(2.0, rel=0.2)
    assert needed(pixels) / needed(blocks) == pytest.approx(2.0, rel=0.2)


def test_texture_that_the_msi_shows_too_needs_far_less() -> None:
    """The sharpened pixels, as contrasted as the fine ones, stand for most of it already."""
    hsi = scene(np.full((64, 64), 0.01), np.random.default_rng(12))
    found = assess_at_reduced_resolution(hsi, WEIGHTS, refit, (0.0, 0.0), refined=False)
    assert found is not None
    assert 0.9 < found.needed < 1.4


def test_a_scene_whose_only_error_is_the_hsis_noise_needs_no_error_of_zero() -> None:
    rng = np.random.default_rng(14)
    hsi = scene(np.zeros((40, 40)), rng) + (0.002 * rng.standard_normal((BANDS, 40, 40))).astype(np.float32)
    found = assess_at_reduced_resolution(hsi, WEIGHTS, refit, (0.0, 0.0), refined=False)
    assert found is not None
    assert 0.3 < found.needed < 3


def test_the_stated_error_follows_the_level_below() -> None:
    hsi = scene(np.full((30, 30), 0.01), np.random.default_rng(3))
    errors = fit_errors(training_set_from_cube(hsi, WEIGHTS), refit, None)
    assert errors is not None
    msi = np.einsum("cb,byx->cyx", WEIGHTS, hsi).astype(np.float32)
    once, twice = (replace(errors, needed=needed).sigma(msi) for needed in (1.0, 2.0))
    assert twice == pytest.approx(2 * once, rel=1e-5)


class ByHeart:
    """The nearest of the pixels learned: no error where it was trained, the scatter twice over elsewhere."""

    def __init__(self, part: TrainingSet) -> None:
        self.tree, self.spectra = KDTree(part.simulated), part.spectra

    def predict(self, msi: np.ndarray) -> np.ndarray:
        return np.asarray(self.spectra[self.tree.query(msi)[1]])

    def apply(self, msi: np.ndarray, engine: object, coordinates: object) -> np.ndarray:
        return self.predict(msi.T).T


def test_a_model_that_knows_its_pixels_by_heart_is_asked_for_others() -> None:
    """All of a coarse pixel is alike, so a model that has seen it would make no error in it, and nothing be needed."""
    texture = scene(np.full((32, 32), 0.01), np.random.default_rng(13))
    found = assess_at_reduced_resolution(
        texture.repeat(2, axis=1).repeat(2, axis=2), WEIGHTS, ByHeart, (0.0, 0.0), refined=False
    )  # type: ignore[arg-type]
    assert found is not None
    assert found.needed > 0.7


def fields_and_scatter(rng: np.random.Generator) -> np.ndarray:
    """(12, 48, 48): what the MSI does not show is one value per field of 8 × 8 pixels in all bands but the last four,
    where it is another in each pixel: the HSI can tell the one, not the other."""
    hsi = scene(np.zeros((48, 48)), rng)
    hsi[2:-4] += np.kron(0.05 * rng.standard_normal((6, 6)), np.ones((8, 8))).astype(np.float32)
    hsi[-4:] += (0.05 * rng.standard_normal((48, 48))).astype(np.float32)
    return hsi + (0.0005 * rng.standard_normal(hsi.shape)).astype(np.float32)


def share_left(hsi: np.ndarray) -> float:
    found = assess_at_reduced_resolution(hsi, WEIGHTS, refit, (0.4, 0.4), refined=True)
    assert found is not None
    return found.refined_share


def test_an_error_common_to_whole_fields_is_rehearsed_as_refined_away() -> None:
    """What the MSI does not show is one value per field of 8 × 8 HSI pixels: the HSI itself can tell it."""
    rng = np.random.default_rng(5)
    hsi = scene(np.zeros((48, 48)), rng)
    hsi[2:] += np.kron(0.05 * rng.standard_normal((6, 6)), np.ones((8, 8))).astype(np.float32)
    hsi += (0.0005 * rng.standard_normal(hsi.shape)).astype(np.float32)
    assert 0.0 < share_left(hsi) < 0.85


def test_the_worth_of_the_refinement_does_not_depend_on_the_unit_of_a_band() -> None:
    hsi = fields_and_scatter(np.random.default_rng(6))
    share = share_left(hsi)
    assert share < 0.9
    hsi[-4:] *= 20
    assert share_left(hsi) == pytest.approx(share, abs=0.03)
