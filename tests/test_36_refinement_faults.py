"""The law "do no harm": a fault of either sensor never makes the refined product worse where it is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from geolift.refinement import BandsApart, Refined, find_refinement, refine_arrays
from geolift.refinement.find import corrected
from geolift.refinement.footprint import gaussian_footprint
from geolift.refinement.misfit import bounded_regression, fit_misfit, kept_share, local_relation
from geolift.refinement.pair import ArrayPair
from geolift.refinement.process import fit_process
from geolift.training.fit import fit
from geolift.training.training_set import training_set_from_cube

RATIO, SIDE, BANDS = 4, 24, 12
Fault = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def texture(rng: np.random.Generator, count: int, sigma: float) -> np.ndarray:
    """(count, y, x) smooth random fine images of variance one."""
    size = SIDE * RATIO
    images = np.stack([ndimage.gaussian_filter(rng.standard_normal((size, size)), sigma) for _ in range(count)])
    return (images / images.std(axis=(1, 2), keepdims=True)).astype(np.float32)


def pair(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Truth, HSI, MSI and SRF: three materials that the MSI tells apart, and one feature that it does not see."""
    rng = np.random.default_rng(seed)
    weights = np.zeros((3, BANDS), np.float32)
    for band in range(3):
        weights[band, 3 * band : 3 * band + 3] = 1 / 3
    shapes = np.abs(rng.standard_normal((3, BANDS))).astype(np.float32)
    unseen = (np.arange(BANDS) >= 9).astype(np.float32)
    truth = np.einsum("kyx,kb->byx", 1 + 0.3 * texture(rng, 3, 1.5), shapes)
    truth = np.maximum(truth + 0.2 * texture(rng, 1, 9.0) * unseen[:, None, None], 0.02).astype(np.float32)
    msi = np.einsum("cb,byx->cyx", weights, truth) + 0.005 * rng.standard_normal((3, *truth.shape[1:]))
    return truth, seen_by_the_hsi(truth, rng), msi.astype(np.float32), weights


def seen_by_the_hsi(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    wide = np.pad(truth, ((0, 0), (2 * RATIO, 2 * RATIO), (2 * RATIO, 2 * RATIO)), mode="edge")
    hsi = gaussian_footprint(RATIO, (0.0, 0.0), (1.8, 1.8), 3.0).degrade(wide, 2)
    return np.asarray(hsi + 0.01 * rng.standard_normal(hsi.shape), np.float32)


def refined(
    hsi: np.ndarray, msi: np.ndarray, weights: np.ndarray, *, forced: bool = False
) -> tuple[np.ndarray, np.ndarray, Refined]:
    training = training_set_from_cube(hsi, weights)
    model = fit("linear", training)
    before = model.apply(msi.reshape(3, -1)).reshape(BANDS, *msi.shape[1:])
    return before, *refine_arrays(model, training, hsi, msi, before.copy(), forced=forced)


def patch(first: tuple[int, int], size: int) -> np.ndarray:
    """(y, x) a square of fine pixels."""
    inside = np.zeros((SIDE * RATIO, SIDE * RATIO), bool)
    inside[first[0] : first[0] + size, first[1] : first[1] + size] = True
    return inside


def cloud(hsi: np.ndarray, msi: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    hidden = patch((10, 12), 26)
    msi[:, hidden] = 4.0
    shadow = patch((50, 40), 26)
    msi[:, shadow] *= 0.35
    return hidden | shadow


def change(hsi: np.ndarray, msi: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    changed = patch((30, 50), 34)
    msi[:, changed] = np.roll(msi, (29, 37), (1, 2))[:, changed]
    return changed


def saturation(hsi: np.ndarray, msi: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    limit = np.quantile(msi, 0.95, axis=(1, 2))[:, None, None]
    touched = (msi > limit).any(axis=0)
    np.minimum(msi, limit, out=msi)
    return np.asarray(touched)


def dead_columns(hsi: np.ndarray, msi: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    hsi[:, :, [5, 14]] = 0.0
    return np.zeros(msi.shape[1:], bool)


def jittered_lines(hsi: np.ndarray, msi: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    for row, apart in enumerate(0.3 * rng.standard_normal(SIDE)):
        hsi[:, row] = ndimage.shift(hsi[:, row], (0, apart), order=3, mode="nearest")
    return np.zeros(msi.shape[1:], bool)


def stripes(hsi: np.ndarray, msi: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    hsi *= (1 + 0.05 * rng.standard_normal((BANDS, 1, SIDE))).astype(np.float32)
    return np.zeros(msi.shape[1:], bool)


def local_shift(hsi: np.ndarray, msi: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Moves the HSI: the product keeps the MSI's geometry."""
    fields = [ndimage.zoom(f[:: RATIO * 4, :: RATIO * 4], 4, order=3) for f in 0.25 * texture(rng, 2, 20.0)]
    places = np.indices((SIDE, SIDE)) + np.array(fields)
    for band in hsi:
        band[:] = ndimage.map_coordinates(band.copy(), places, order=3, mode="nearest")
    return np.zeros(msi.shape[1:], bool)


def bands_apart(hsi: np.ndarray, msi: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Spoils the product of the inversion too."""
    msi[1] = ndimage.shift(msi[1], (0.4, -0.5), order=3, mode="nearest")
    return np.zeros(msi.shape[1:], bool)


@pytest.mark.parametrize("seed", [3, 4])
@pytest.mark.parametrize(
    "fault",
    [cloud, change, saturation, dead_columns, jittered_lines, stripes, local_shift, bands_apart],
    ids=lambda f: f.__name__,
)
def test_a_fault_does_no_harm_where_it_is_not(fault: Fault, seed: int) -> None:
    truth, hsi, msi, weights = pair(seed)
    touched = fault(hsi, msi, np.random.default_rng(seed + 10))
    before, after, _ = refined(hsi, msi, weights)
    clear = ~touched
    errors = [float(np.square(product - truth)[:, clear].mean()) for product in (before, after)]
    assert errors[1] < 10**0.03 * errors[0]


def test_what_the_msi_cannot_see_comes_in_beside_a_cloud_and_ends_at_it() -> None:
    truth, hsi, msi, weights = pair(3)
    touched = cloud(hsi, msi, np.random.default_rng(0))
    before, after, done = refined(hsi, msi, weights)
    assert done.correction is not None
    assert np.array_equal(before[:, 16:32, 18:34], after[:, 16:32, 18:34])  # inside the cloud
    far = ~ndimage.binary_dilation(touched, iterations=2 * RATIO)
    errors = [float(np.square(product - truth)[:, far].mean()) for product in (before, after)]
    assert errors[1] < 0.5 * errors[0]


def test_a_relation_that_varies_over_the_scene_is_set_right_by_the_hsi() -> None:
    truth, hsi, msi, weights = pair(3)
    across = np.linspace(-1, 1, SIDE * RATIO, dtype=np.float32)
    before, after, done = refined(hsi, msi * (1 + 0.1 * across), weights)
    assert done.correction is not None
    errors = [float(np.square(product - truth).mean()) for product in (before, after)]
    assert errors[1] < 0.5 * errors[0]


def test_the_local_relation_follows_a_gain_and_leaves_a_shift() -> None:
    rng = np.random.default_rng(2)
    seen = 1 + 0.2 * ndimage.gaussian_filter(rng.standard_normal((1, 30, 30)), (0, 1.5, 1.5)) / 0.15
    gain = 0.05 * np.linspace(-1, 1, 30)
    spread = np.array([[seen.std(), *(np.gradient(seen[0], axis=axis).std() for axis in (0, 1))]])
    for misfit, share in ((gain * seen, 1.0), (0.3 * np.gradient(seen, axis=2), 0.0)):
        found = local_relation(misfit, seen, np.ones((30, 30)), np.array([seen.mean()]), spread)
        inner = np.s_[:, 5:-5, 5:-5]
        assert abs((found * misfit)[inner].sum() / np.square(misfit)[inner].sum() - share) < 0.15


def test_what_a_column_has_to_itself_is_not_confirmed_by_the_others() -> None:
    rng = np.random.default_rng(5)
    footprint = gaussian_footprint(RATIO, (0.0, 0.0), (1.5, 1.5))
    smooth = ndimage.gaussian_filter(rng.standard_normal((24, 24)), 1.2)
    striped = np.repeat(rng.standard_normal((1, 24)), 24, axis=0)
    residual = 5 * np.stack([smooth / smooth.std(), striped]) + rng.standard_normal((2, 24, 24))
    ones = np.ones((1, 24, 24), np.float32)
    found, _, _ = fit_process([(residual.astype(np.float32), ones)], footprint, np.eye(2))
    share = np.square(found.rotation.T) @ np.array([1.0, 0.0])  # of the smooth field in each component
    assert found.trust[np.argmax(share)] > 0.9
    assert found.trust[np.argmin(share)] < 0.1


def test_only_what_its_surroundings_predict_is_kept_of_a_misfit() -> None:
    rng = np.random.default_rng(3)
    misfit = rng.standard_normal((2, 400))
    predicted = np.stack([misfit[0] + 0.2 * rng.standard_normal(400), rng.standard_normal(400)])
    assert np.allclose(kept_share(misfit, predicted, np.ones(400)), [1.0, 0.0], atol=0.1)


@pytest.mark.parametrize(("kind", "stays"), [("fields", True), ("shifted lines", False), ("stripes", False)])
def test_a_difference_by_field_stays_with_the_hsi_and_a_fault_in_place_does_not(kind: str, stays: bool) -> None:
    rng = np.random.default_rng(6)
    seen = (1 + ndimage.gaussian_filter(rng.standard_normal((3, 32, 32)), (0, 1, 1))).astype(np.float32)
    misfit = {
        "fields": 0.1 * rng.standard_normal((3, 8, 8)).repeat(4, 1).repeat(4, 2) * seen,
        "shifted lines": 0.3 * rng.standard_normal((32, 1)) * np.gradient(seen, axis=2),
        "stripes": 0.1 * rng.standard_normal((3, 1, 32)) * np.ones_like(seen),
    }[kind]
    misfit = (misfit + 0.005 * rng.standard_normal(seen.shape)).astype(np.float32)
    residual = misfit[:2] + 0.01 * rng.standard_normal((2, 32, 32)).astype(np.float32)
    model = fit_misfit([(residual, misfit, seen)], np.full(3, 0.002))
    assert model is not None
    removed = np.diag(model.regression)
    assert np.all(removed < 0.3) if stays else np.all(removed > 0.7)


def test_a_regression_on_chance_is_shrunk_to_nothing_and_one_on_a_fault_is_not() -> None:
    rng = np.random.default_rng(4)
    misfit = rng.standard_normal((4, 200))
    wanted = np.array([[1.0, -2.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0]])
    found = bounded_regression(wanted @ misfit + 0.1 * rng.standard_normal((2, 200)), misfit, np.ones(4))
    assert np.abs(found[0] - wanted[0]).max() < 0.05
    assert np.abs(found[1]).max() < 0.01


def test_bands_of_the_hsi_that_lie_apart_are_held_against_the_product_where_they_saw_it() -> None:
    truth, _, msi, weights = pair(3)
    off = 0.6 * RATIO * (np.arange(BANDS) / (BANDS - 1) - 0.5)
    apart = np.stack([ndimage.shift(b, (0, -d), order=3, mode="nearest") for b, d in zip(truth, off, strict=True)])
    hsi = seen_by_the_hsi(apart.astype(np.float32), np.random.default_rng(1))
    training, images = training_set_from_cube(hsi, weights), ArrayPair(hsi, msi)
    model = fit("linear", training)
    product = model.apply(msi.reshape(3, -1)).reshape(truth.shape)

    def error(keystone: BandsApart | None) -> float:
        found = find_refinement(images, model, training, (0, 0), (1.8, 1.8), forced=True, keystone=keystone)
        assert found.correction is not None
        result = corrected(product, found.correction, images, msi, (0, 0))
        return float(np.sqrt(np.square(result - truth).mean()))

    assert error(BandsApart(1, np.arange(BANDS, dtype=float))) < 0.95 * error(None)
