"""The default method and the linear one: planted truths, oracles and laws."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from learning import box_weights, same

from geolift.network.model import SpectralModel
from geolift.runtime.blas import set_blas_threads
from geolift.training.fit import fit
from geolift.training.methods.common import NOISE_SHARE, input_noise
from geolift.training.methods.features import learn_network, random_features, sharpen
from geolift.training.methods.normal import CHUNK_PIXELS, PRIOR_PIXELS, NormalSums, accumulate, solve, steady_line
from geolift.training.methods.small_network import evaluate, train_network
from geolift.training.methods.subspace import find_subspace
from geolift.training.training_set import TrainingSet, training_set_from_cube


def curved_scene(rows: int = 30, cols: int = 28, bands: int = 40, noise: float = 0.002, seed: int = 0) -> np.ndarray:
    """(C, y, x): smooth patches whose spectra bend with brightness, plus white noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :cols] / 6.0
    one, two = 0.5 + 0.5 * np.sin(x + 0.3 * y), 0.5 + 0.5 * np.cos(y - 0.2 * x)
    wavelength = np.linspace(0, 1, bands)[:, None, None]
    cube = 0.2 + 0.3 * one * wavelength + 0.2 * two * (1 - wavelength) + 0.3 * np.maximum(one - two, 0) * wavelength**2
    return (cube + noise * rng.standard_normal(cube.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def training() -> TrainingSet:
    return training_set_from_cube(curved_scene(), box_weights(40))


def rmse(model: SpectralModel, training: TrainingSet, truth: np.ndarray) -> float:
    return float(np.sqrt(np.square(model.predict(training.simulated) - truth).mean()))


def test_linear_is_least_squares_with_an_intercept(training: TrainingSet) -> None:
    simulated = training.simulated.astype(np.float64)
    design = np.c_[simulated, np.ones(len(simulated))]
    expected = design @ np.linalg.lstsq(design, training.spectra.astype(np.float64), rcond=None)[0]
    without = replace(training, msi_noise=np.zeros(4))
    assert np.allclose(fit("linear", without).predict(training.simulated), expected, atol=1e-5)


def test_linear_with_noise_is_least_squares_on_noisy_inputs(training: TrainingSet) -> None:
    noise = np.array([0.02, 0.01, 0.03, 0.02])
    rng = np.random.default_rng(0)
    simulated = np.tile(training.simulated.astype(np.float64), (200, 1))
    seen = simulated + NOISE_SHARE * noise * rng.standard_normal(simulated.shape)
    design, targets = np.c_[seen, np.ones(len(seen))], np.tile(training.spectra.astype(np.float64), (200, 1))
    drawn = np.c_[training.simulated, np.ones(len(training.rows))] @ np.linalg.lstsq(design, targets, rcond=None)[0]
    model = fit("linear", replace(training, msi_noise=noise))
    assert np.allclose(model.predict(training.simulated), drawn, atol=1e-3)
    plain = fit("linear", replace(training, msi_noise=np.zeros(4))).predict(training.simulated)
    assert np.abs(plain - drawn).max() > 1e-2


@pytest.mark.parametrize("method", ["auto", "linear"])
@pytest.mark.parametrize("told", [True, False])
def test_noise_is_not_taken_for_information_where_bands_are_nearly_alike(method: str, told: bool) -> None:
    """Four materials under three MSI bands, of which the last two differ by 1:500 of one HSI band."""
    rng = np.random.default_rng(1)
    spectra = rng.random((4, 40)) + 0.2
    cube = np.moveaxis(rng.dirichlet(np.ones(4), (20, 20)) @ spectra, 2, 0).astype(np.float32)
    weights = box_weights(40, 2)[[0, 1, 1]]
    weights[2, 35] += 0.002
    training = training_set_from_cube(cube, weights)
    noise = 0.005
    msi = training.simulated + noise * np.random.default_rng(3).standard_normal(training.simulated.shape)
    blind = fit(method, replace(training, msi_noise=np.zeros(3)))
    careful = fit(method, replace(training, msi_noise=np.full(3, noise) if told else None))
    errors = [np.sqrt(np.square(m.predict(msi.astype(np.float32)) - training.spectra).mean()) for m in (blind, careful)]
    assert errors[1] < 0.2 * errors[0]
    assert errors[1] < 1.1 * training.spectra.std(axis=0).mean()


@pytest.mark.parametrize("method", ["auto", "linear"])
def test_a_truly_linear_scene_is_recovered(method: str) -> None:
    rng = np.random.default_rng(1)
    spectra = rng.random((3, 40)) + 0.2
    cube = np.moveaxis(rng.dirichlet(np.ones(3), (20, 20)) @ spectra, 2, 0).astype(np.float32)
    training = training_set_from_cube(cube, box_weights(40), np.zeros(4))
    shares = rng.dirichlet(np.ones(3), 500)  # other mixtures than those trained on
    truth = (shares @ spectra).astype(np.float32)
    error = np.abs(fit(method, training).predict(training.simulate(truth)) - truth).max()
    assert error < {"linear": 1e-3, "auto": 0.012}[method]  # network: noisy inputs; line: a prior


def test_auto_follows_the_curve_that_linear_misses() -> None:
    training = training_set_from_cube(curved_scene(), box_weights(40, 2))  # three shares, two bands
    truth = curved_scene(noise=0.0)[:, training.rows, training.cols].T
    assert rmse(fit("auto", training), training, truth) < 0.5 * rmse(fit("linear", training), training, truth)


def test_auto_and_linear_do_not_depend_on_threads_and_repeat_by_seed() -> None:
    training = training_set_from_cube(curved_scene(56, 50), box_weights(40))  # several chunks
    for method, options in (("auto", {"features": 256, "copies": 3}), ("linear", {})):
        (before, *_) = set_blas_threads(1)
        try:
            one = fit(method, training, threads=1, seed=3, **options)
            set_blas_threads(2)
            assert same(one, fit(method, training, threads=2, seed=3, **options))
        finally:
            set_blas_threads(before)
    assert not same(fit("auto", training, seed=3, features=64), fit("auto", training, seed=4, features=64))


def test_the_network_of_auto_is_the_average_of_its_parts(training: TrainingSet) -> None:
    model = fit("auto", training, features=96)
    subspace, pixels = sharpen(training, 6, 0)
    mapping = random_features(np.concatenate([part.inputs for part in pixels]), pixels[0].inputs, 96, 0)
    with ThreadPoolExecutor(1) as pool:
        sums = NormalSums.total([accumulate(mapping, p.inputs, p.targets, p.weights, pool) for p in pixels])
        ones = np.ones_like(pixels[0].weights)
        simulated = training.simulated.astype(np.float64)
        straight = accumulate(lambda x: mapping(x)[:, -5:], simulated, pixels[0].targets, ones, pool)
    spread = mapping.linear * input_noise(training)
    ridge, linear = solve(sums).head, steady_line(straight, spread @ spread.T, 101)
    layers, unit = learn_network(training, mapping, subspace, linear[96:], 0)
    learned = evaluate(layers, (pixels[0].inputs - mapping.centre) @ mapping.linear.T) @ np.linalg.inv(unit)
    one, two = model.choices["linear_share"], model.choices["network_share"]
    phi = mapping(pixels[0].inputs)
    mixed = (1 - one - two) * phi @ ridge + one * phi @ linear + two * learned
    expected = subspace.mean + mixed @ subspace.decode.T
    assert np.allclose(model.predict(pixels[0].inputs.astype(np.float32)), expected, atol=2e-4)


def test_scale_and_unit_of_the_data_do_not_matter(training: TrainingSet) -> None:
    scaled = TrainingSet(
        spectra=training.spectra * 1e4,
        neighbour_means=training.neighbour_means * 1e4,
        weights=training.weights,
        rows=training.rows,
        cols=training.cols,
    )
    small, large = fit("auto", training), fit("auto", scaled)
    assert np.allclose(large.predict(scaled.simulated) / 1e4, small.predict(training.simulated), atol=2e-3)


def test_sharpened_pairs_obey_the_spectral_response(training: TrainingSet) -> None:
    subspace, pixels = sharpen(training, 4, seed=0)
    rebuilt = pixels[3].targets @ subspace.decode.T + subspace.mean
    simulated = rebuilt @ training.weights.T.astype(np.float64)
    assert np.allclose(simulated, pixels[3].inputs, atol=0.02)  # up to the noise outside the subspace
    assert pixels[3].targets.var(axis=0)[0] > pixels[0].targets.var(axis=0)[0]
    assert sum(float(part.weights.sum()) for part in pixels) == pytest.approx(len(training.spectra))


def test_the_subspace_finds_the_planted_number_of_components_and_the_noise() -> None:
    rng = np.random.default_rng(2)
    sigma = np.linspace(0.01, 0.03, 60)
    signal = rng.standard_normal((2000, 5)) @ rng.standard_normal((5, 60))
    spectra = signal + sigma * rng.standard_normal((2000, 60))
    found = find_subspace(spectra)
    assert found.decode.shape[1] == 5
    ratio = found.noise / sigma
    assert 0.9 < ratio.min() < np.median(ratio) < 1.1
    assert ratio.max() < 1.5
    rebuilt = (spectra - found.mean) @ found.encode @ found.decode.T + found.mean
    assert np.sqrt(np.square(rebuilt - signal).mean()) < 0.4 * sigma.mean()


def test_sums_over_chunks_equal_the_whole_product() -> None:
    rng = np.random.default_rng(0)
    count = 3 * CHUNK_PIXELS + 5
    x = rng.random((count, 3))
    t = rng.random((count, 2))
    w = rng.random(count)
    with ThreadPoolExecutor(2) as pool:
        sums = accumulate(lambda v: v, x, t, w, pool)
    assert np.allclose(sums.gram, x.T @ (x * w[:, None]))
    assert np.allclose(sums.moment, x.T @ (t * w[:, None]))
    one, other = rng.random((3, 2)), rng.random((3, 2))
    expected = (((t - x @ one) * (t - x @ other)).sum(axis=1) * w).sum()
    assert sums.product(one, other, np.eye(2)) == pytest.approx(float(expected))


def test_the_evidence_picks_a_large_ridge_for_noise_and_a_small_one_for_signal() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((400, 20))
    clean = x @ rng.standard_normal((20, 1))
    noise = rng.standard_normal((400, 1))
    with ThreadPoolExecutor(1) as pool:
        sums = accumulate(lambda v: v, x, np.concatenate([clean, noise], axis=1), np.ones(400), pool)
    found = solve(sums)
    assert found.ridges[0] < 0.01 * found.ridges[1]
    assert found.freedom[0] > 19
    assert np.allclose(np.linalg.solve(sums.gram, sums.moment)[:, :1], found.head[:, :1], atol=1e-3)


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_a_handful_of_pixels_trains_to_something_finite_and_near(count: int) -> None:
    training = training_set_from_cube(curved_scene(), box_weights(40)).subset(np.arange(count))
    product = fit("auto", training).predict(training.simulated)
    assert np.isfinite(product).all()
    assert np.abs(product - training.spectra).mean() < 0.05


@pytest.mark.parametrize("bands", [1, 13])
def test_one_band_and_thirteen_bands_work(bands: int) -> None:
    training = training_set_from_cube(curved_scene(), box_weights(40, bands))
    truth = curved_scene(noise=0.0)[:, training.rows, training.cols].T
    assert rmse(fit("auto", training), training, truth) < 1.05 * rmse(fit("linear", training), training, truth)


def test_a_constant_scene_and_a_dead_band_do_not_break_auto() -> None:
    cube = curved_scene()
    cube[7] = 0.1
    model = fit("auto", training_set_from_cube(cube, box_weights(40)))
    assert np.allclose(model.predict(np.full((1, 4), 0.3, np.float32))[0, 7], 0.1, atol=0.01)
    flat = training_set_from_cube(np.full((40, 6, 6), 0.3, np.float32), box_weights(40))
    assert np.allclose(fit("auto", flat).predict(flat.simulated), 0.3, atol=1e-4)


def test_the_choices_are_told(training: TrainingSet) -> None:
    choices = fit("auto", training).choices
    assert choices["pixels"] == len(training.spectra)
    assert 0 <= choices["linear_share"] <= 0.75
    known = fit("auto", replace(training, msi_noise=np.array([0.002, 0.004, 0.006, 0.008]))).choices["input_noise"]
    assert known == pytest.approx([0.001, 0.002, 0.003, 0.004])
    assert choices["input_noise"] == pytest.approx(
        0.005 * np.sqrt(np.square(training.simulated).mean(axis=0)), rel=1e-4
    )
    assert choices["network_share"] == pytest.approx((1 - choices["linear_share"]) / 2)
    assert len(choices["ridges"]) == choices["components"]


def test_a_handful_of_pixels_leaves_most_to_the_line() -> None:
    choices = fit("auto", training_set_from_cube(curved_scene(5, 6), box_weights(40))).choices
    assert choices["linear_share"] == pytest.approx(0.6, abs=0.08)
    assert choices["network_share"] == pytest.approx((1 - choices["linear_share"]) / 2)


def test_the_line_expects_noise_and_weighs_its_prior_as_half_a_pixel() -> None:
    """The same as least squares on many noisy copies of the pixels and on pixels that show a slope of zero."""
    rng = np.random.default_rng(2)
    x, noise = rng.standard_normal((50, 2)), np.array([[0.3, 0.1], [0.1, 0.2]])
    target = x @ [[1.0], [-2.0]] + 0.5 + 0.1 * rng.standard_normal((50, 1))
    with ThreadPoolExecutor(1) as pool:
        sums = accumulate(lambda part: np.c_[part, np.ones(len(part))], x, target, np.ones(50), pool)
    head = steady_line(sums, noise, 7)
    assert not head[:4].any()
    root = np.linalg.cholesky(50 * noise + PRIOR_PIXELS * np.eye(2))
    design = np.r_[np.c_[x, np.ones(50)], np.c_[root.T, np.zeros(2)]]
    expected = np.linalg.lstsq(design, np.r_[target, np.zeros((2, 1))], rcond=None)[0]
    np.testing.assert_allclose(head[4:], expected, atol=1e-9)


def test_the_small_network_bends_where_least_squares_cannot() -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((600, 2))
    truth = np.stack([np.abs(x[:, 0]), x[:, 1]], axis=1)
    noise = 0.1 * np.eye(2)
    still, linear = np.zeros_like(x), np.array([[0.0, 0.0], [0.0, 1.0], [0.8, 0.0]])
    error = evaluate(train_network(x, still, truth, still, linear, noise, seed=0), x) - truth
    assert np.square(error).mean() < 0.1 * np.square(np.abs(x[:, 0]) - 0.8).mean() / 2


def test_a_share_chosen_on_few_pixels_is_drawn_to_the_usual_one_and_on_many_left_alone() -> None:
    from geolift.training.methods.features import MANY_PIXELS, USUAL_LINE, _shrunk

    assert _shrunk(0.0, MANY_PIXELS, 4) == 0.0 and _shrunk(0.75, 4 * MANY_PIXELS, 4) == 0.75
    few = [_shrunk(0.0, pixels, 4) for pixels in (36, 72, 100)]
    assert USUAL_LINE > few[0] > few[1] > few[2] > 0
    assert _shrunk(0.75, 36, 4) < 0.75
    assert _shrunk(0.0, 36, 1) < few[0]


def test_few_pixels_are_sharpened_less_and_many_as_before() -> None:
    from geolift.training.methods.features import FULLY_SHARPENED, _gently_sharpened

    rng = np.random.default_rng(0)
    weights = np.full((2, 10), 0.1, np.float32)
    few, many = (training_set_from_cube(rng.random((10, side, side)).astype(np.float32), weights) for side in (6, 12))
    assert len(many.spectra) == FULLY_SHARPENED and _gently_sharpened(many) is many
    gently = _gently_sharpened(few)
    np.testing.assert_allclose(
        gently.spectra - gently.neighbour_means, 0.5 * (few.spectra - few.neighbour_means), atol=1e-6
    )
