"""Learning twice: from the refined product, where held-out HSI pixels speak for it, and not at all elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from geolift.benchmark.methods import fuse_arrays
from geolift.network.inference import predict_block
from geolift.network.model import SpectralModel
from geolift.refinement import Patchwork, Refined, learn_arrays_twice, refine_arrays, trial
from geolift.refinement.footprint import gaussian_footprint
from geolift.refinement.learning_twice import learn_twice, sample_refined
from geolift.refinement.pair import ArrayPair
from geolift.refinement.trial import amplified_noise, run_trial
from geolift.training.fit import fit
from geolift.training.training_set import TrainingSet, training_set_from_cube

RATIO, BANDS = 4, 30


def scene(size: int, seed: int = 0) -> np.ndarray:
    """(BANDS, size, size): small sharp patches of materials whose mixtures bend what three bands tell of the rest."""
    rng = np.random.default_rng(seed)
    x = np.linspace(0, 1, BANDS)
    fields = np.stack([ndimage.gaussian_filter(rng.standard_normal((size, size)), 1.2) for _ in range(5)])
    shares = np.exp(5 * fields / fields.std(axis=(1, 2), keepdims=True))
    shares /= shares.sum(axis=0)
    spectra = 0.2 + 0.15 * np.sin(2 * np.pi * (np.outer(rng.uniform(0.5, 2.5, 5), x) + rng.uniform(0, 1, (5, 1))))
    mixed = np.einsum("mc,myx->cyx", spectra, shares)
    return np.asarray(mixed**1.5, np.float32)


def pair_of(truth: np.ndarray, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """HSI, MSI and weights of three bands."""
    rng = np.random.default_rng(seed)
    weights = np.zeros((3, BANDS), np.float32)
    for band, centre in enumerate((4, 14, 24)):
        weights[band, centre - 2 : centre + 3] = 0.2
    footprint = gaussian_footprint(RATIO, (0.0, 0.0), (1.6, 1.6))
    edge = footprint.margin_lr * RATIO
    hsi = footprint.degrade(np.pad(truth, ((0, 0), (edge, edge), (edge, edge)), mode="symmetric"), footprint.margin_lr)
    msi = np.einsum("mc,cyx->myx", weights, truth).astype(np.float32)
    hsi = hsi + 5e-4 * rng.standard_normal(hsi.shape).astype(np.float32)
    return hsi, msi + 3e-4 * rng.standard_normal(msi.shape).astype(np.float32), weights


def error(product: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(np.square(product - truth).mean()))


@pytest.fixture(scope="module")
def first_round() -> tuple[np.ndarray, np.ndarray, np.ndarray, TrainingSet, SpectralModel, np.ndarray, Refined]:
    truth = scene(112)
    hsi, msi, weights = pair_of(truth)
    training = training_set_from_cube(hsi, weights, np.full(3, 3e-4))
    model = fit("auto", training, threads=1)
    product, refined = refine_arrays(model, training, hsi, msi, predict_block(model, msi))
    assert refined.correction is not None
    return truth, hsi, msi, training, model, product, refined


def fits() -> dict[str, Callable[[TrainingSet], SpectralModel]]:
    return {
        "fit": lambda part: fit("auto", part, threads=1),
        "trial": lambda part: fit("auto", part, threads=1, learned=False),
    }


def test_the_second_model_and_its_product_are_nearer_to_the_truth(first_round: tuple) -> None:
    truth, hsi, msi, training, model, product, refined = first_round
    second, lesson = learn_arrays_twice(model, training, hsi, msi, refined, **fits())
    assert second is not None and lesson.applied and lesson.facts["held_out_gain"] > 0
    assert error(predict_block(lesson.model, msi), truth) < 0.93 * error(predict_block(model, msi), truth)
    assert error(second, truth) < 0.97 * error(product, truth)
    assert lesson.model.choices["learned_from"] == "the refined product"


def test_where_a_trial_speaks_against_it_the_first_product_stays(first_round: tuple) -> None:
    _, hsi, msi, training, model, _, refined = first_round
    seen: list[int] = []

    def misled(part: TrainingSet) -> SpectralModel:
        seen.append(len(part.rows))
        spoilt = part if len(seen) % 2 else replace(part, spectra=part.spectra + 0.05)  # every second set is refined
        return fit("linear", spoilt, threads=1)

    product, lesson = learn_arrays_twice(model, training, hsi, msi, refined, fit=fits()["fit"], trial=misled)
    assert product is None and not lesson.applied and lesson.model is model and lesson.refined is refined
    assert "at held-out HSI pixels rose by" in lesson.reason and lesson.to_json()["held_out_gain"] < 0


def test_where_the_second_inversion_leaves_as_much_of_the_hsi_the_first_product_stays(first_round: tuple) -> None:
    _, hsi, msi, training, model, _, refined = first_round
    trial = fits()["trial"]
    product, lesson = learn_arrays_twice(model, training, hsi, msi, refined, fit=lambda part: model, trial=trial)
    assert product is None and not lesson.applied and lesson.model is model and lesson.refined is refined
    assert lesson.to_json()["left_of_hsi"] == pytest.approx(1, abs=1e-6)
    assert lesson.reason == "the second inversion would leave 100% of the first one's squared error"


def test_ground_that_the_refinement_must_not_see_teaches_as_the_hsi_shows_it(first_round: tuple) -> None:
    _, hsi, msi, training, model, _, refined = first_round
    hsi = hsi.copy()
    hsi[:, :, :14] = np.nan
    hidden, given = training.subset(training.cols < 14), []

    def fitted(part: TrainingSet) -> SpectralModel:
        given.append(part)
        return model

    lesson = learn_twice(
        ArrayPair(hsi, msi), model, training, refined, fit=fitted, trial=fits()["trial"], limit=4096, hidden=hidden,
        refine=lambda second, known: Refined(None, "not asked"),
    )  # fmt: skip
    np.testing.assert_array_equal(given[0].spectra[-len(hidden.rows) :], hidden.spectra)
    assert len(given[0].rows) == lesson.facts["pixels"] > 3 * len(hidden.rows)


def test_the_hsi_itself_is_learned_from_beside_the_product(first_round: tuple) -> None:
    _, hsi, msi, training, model, _, refined = first_round
    given: list[TrainingSet] = []

    def fitted(part: TrainingSet) -> SpectralModel:
        given.append(part)
        return model

    learn_arrays_twice(model, training, hsi, msi, refined, fit=fitted, trial=fits()["trial"])
    assert len(given[0].rows) == 4096 + len(training.rows)
    np.testing.assert_array_equal(given[0].spectra[4096:], training.spectra)


def test_nothing_is_learned_where_nothing_was_refined(first_round: tuple) -> None:
    _, hsi, msi, training, model, _, _ = first_round
    left = Refined(None, "asked not to")
    product, lesson = learn_arrays_twice(model, training, hsi, msi, left, **fits())
    assert product is None and not lesson.applied and lesson.model is model and lesson.refined is left
    assert lesson.to_json() == {"applied": False, "reason": "nothing was refined"}


def test_a_trial_tells_the_better_of_two_training_sets() -> None:
    truth = scene(96, seed=2)
    hsi, msi, weights = pair_of(truth)
    pair, footprint = ArrayPair(hsi, msi), gaussian_footprint(RATIO, (0.0, 0.0), (1.6, 1.6))
    coarse = training_set_from_cube(hsi, weights)
    fine = training_set_from_cube(truth, weights, limit=1500)
    fine = replace(fine, rows=fine.rows // RATIO, cols=fine.cols // RATIO)
    better = run_trial(pair, coarse, fine, footprint, fits()["trial"], lambda rows, cols: (rows, cols))
    worse = run_trial(pair, fine, coarse, footprint, fits()["trial"], lambda rows, cols: (rows, cols))
    assert better.gain > 2 * better.doubt > 0 > worse.gain
    assert better.pixels == worse.pixels > 100


def test_the_sample_is_the_refined_product_with_the_noise_of_the_hsi(first_round: tuple) -> None:
    _, hsi, msi, training, model, product, refined = first_round
    msi = msi.copy()
    hsi = hsi.copy()
    hsi[:, 3, 4] = np.nan
    assert refined.correction is not None
    drawn = sample_refined(ArrayPair(hsi, msi), model, refined.correction, training, limit=10**6, seed=0)
    assert drawn is not None
    assert len(drawn.rows) == 112 * 112 - RATIO**2 and not ((drawn.rows == 3) & (drawn.cols == 4)).any()
    expected = np.delete(
        product.reshape(BANDS, 28, 4, 28, 4).transpose(1, 3, 2, 4, 0).reshape(28 * 28, -1, BANDS), 88, 0
    )
    order = np.lexsort((drawn.cols, drawn.rows))
    means = drawn.spectra[order].reshape(-1, RATIO**2, BANDS).mean(axis=1)
    left = means - expected.mean(axis=1)
    assert np.abs(left.mean()) < 2e-5 and left.std() == pytest.approx(5e-4 / RATIO, rel=0.3)
    again = sample_refined(ArrayPair(hsi, msi), model, refined.correction, training, limit=500, seed=0)
    assert again is not None and len(again.rows) == 500


def test_a_patchwork_shows_windows_of_the_scene_and_their_rims_do_not_count() -> None:
    rows, cols = np.mgrid[:260, :300]
    place = (rows * 1000 + cols).astype(np.float32)  # a pixel says where it comes from
    fine = np.repeat(np.repeat(place, 2, 0), 2, 1)
    patchwork = Patchwork(ArrayPair(place[None], fine[None]))
    assert Patchwork.is_worth_it((260, 300)) and not Patchwork.is_worth_it((100, 1000))
    whole = (slice(0, 120), slice(0, 120))
    hsi, msi = patchwork.hsi(*whole)[0], patchwork.msi(0, 0, 120, 120, 0)[0]
    y, x = np.nonzero(np.isfinite(hsi))
    assert len(y) == 9 * 24 * 24
    down, across = patchwork.placed(y, x)
    np.testing.assert_array_equal(hsi[y, x], down * 1000 + across)
    np.testing.assert_array_equal(msi[::2, ::2][y, x], hsi[y, x])
    part = patchwork.msi(30, 50, 20, 10, 4)[0]
    np.testing.assert_array_equal(part, msi[52:108, 92:128])
    np.testing.assert_array_equal(patchwork.hsi(slice(30, 50), slice(50, 60))[0], hsi[30:50, 50:60])
    assert np.isnan(patchwork.msi(0, 0, 5, 5, 1)[0, :2]).all()
    above = patchwork.msi(-3, -3, 2, 30, 0)  # a strip of the margin, as it is read at large ratios
    assert above.shape == (1, 4, 60) and np.isnan(above).all()


def test_the_default_of_the_benchmark_learns_twice_and_says_so() -> None:
    truth = scene(96, seed=5)
    hsi, msi, weights = pair_of(truth)
    found = fuse_arrays("auto+refine", hsi, msi, weights)
    assert "learned twice:" in found.note
    assert "learned twice" not in fuse_arrays("linear+refine", hsi, msi, weights).note


def test_what_a_linear_fit_makes_of_the_noise_of_the_msi_is_its_gain_times_the_noise(first_round: tuple) -> None:
    training: TrainingSet = replace(first_round[3], msi_noise=np.full(len(first_round[3].weights), 0.01))
    model = fit("linear", training)
    base = model.predict(training.simulated[:1])
    gains = [model.predict(training.simulated[:1] + step) - base for step in np.eye(len(training.weights), dtype="f4")]
    told = amplified_noise(model, training, seed=0)
    assert told == pytest.approx(0.01 * np.sqrt(np.square(gains).sum()), rel=0.1)
    assert amplified_noise(model, replace(training, msi_noise=None), seed=0) == 0


def test_a_window_of_the_trial_seen_in_strips_leaves_the_same(
    first_round: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, hsi, msi, _, model, _, refined = first_round
    footprint = refined.correction.process.footprint
    margin = footprint.margin_lr
    fine = ArrayPair(hsi, msi).msi(0, 0, *hsi.shape[1:], margin)
    whole = trial._error(hsi, fine, model, footprint)
    monkeypatch.setattr(trial, "AT_ONCE_PX", 10_000)
    assert fine[0].size > 10_000
    np.testing.assert_allclose(trial._error(hsi, fine, model, footprint), whole, rtol=1e-3, atol=1e-6)
