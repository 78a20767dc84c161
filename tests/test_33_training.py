"""Training: the sample of pixels, the published method, its laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from learning import box_weights, same

from geolift.errors import UsageError
from geolift.network.formula import NO_RESIDUAL
from geolift.runtime.blas import set_blas_threads
from geolift.training.fit import fit
from geolift.training.methods.spectralift import LayerStack, PublishedSettings, absolute_error
from geolift.training.training_set import Seam, TrainingSampler, TrainingSet, training_set_from_cube


def mixed_scene(rows: int = 24, cols: int = 20, bands: int = 30, seed: int = 0) -> np.ndarray:
    """A (C, y, x) scene of smooth mixtures of four smooth spectra."""
    rng = np.random.default_rng(seed)
    spectra = np.cumsum(rng.normal(0, 0.03, (4, bands)), axis=1) + rng.uniform(0.2, 0.5, (4, 1))
    shares = rng.dirichlet(np.full(4, 0.4), (rows, cols))
    return np.moveaxis(shares @ spectra, 2, 0).astype(np.float32)


@pytest.fixture(scope="module")
def training() -> TrainingSet:
    return training_set_from_cube(mixed_scene(), box_weights(30))


def test_the_sample_is_the_same_for_any_blocks_in_any_order() -> None:
    scene = mixed_scene(40, 37)
    scene[:, 3:9, 5:30] = np.nan
    scene[7, 20, 20] = np.nan
    whole = training_set_from_cube(scene, box_weights(30), limit=150, seed=5)
    sampler = TrainingSampler(box_weights(30), limit=150, seed=5)
    for row in reversed(range(0, 40, 7)):
        for col in range(0, 37, 11):
            top, left = max(row - 1, 0), max(col - 1, 0)
            block = scene[:, top : row + 8, left : col + 12]
            sampler.add(block, top, left, (slice(row - top, row - top + 7), slice(col - left, col - left + 11)))
    parts = sampler.finish()
    assert len(whole.spectra) == 150
    for name in ("spectra", "neighbour_means", "rows", "cols"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name)), name


@pytest.mark.parametrize("limit", [150, 1400])
@pytest.mark.parametrize("edges", [(7, 11), (1, 5), (13, 1), (40, 37)])
def test_blocks_read_once_row_by_row_give_the_same_sample(edges: tuple[int, int], limit: int) -> None:
    scene = mixed_scene(40, 37)
    scene[:, 3:9, 5:30] = np.nan
    scene[7, 20, 20] = np.nan
    whole = training_set_from_cube(scene, box_weights(30), limit=limit, seed=5)
    sampler, seam = TrainingSampler(box_weights(30), limit=limit, seed=5), Seam(30, (40, 37))
    for row in range(0, 40, edges[0]):
        for col in range(0, 37, edges[1]):
            rows, cols = slice(row, min(row + edges[0], 40)), slice(col, min(col + edges[1], 37))
            sampler.add(*seam.joined(scene[:, rows, cols], rows, cols))
    parts = sampler.finish()
    for name in ("spectra", "neighbour_means", "rows", "cols"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name)), name


def test_the_sample_takes_every_valid_pixel_when_the_limit_allows_and_no_invalid_one() -> None:
    scene = mixed_scene(10, 9)
    scene[2, 4, 4] = np.nan
    scene[0, 0, 1] = np.inf
    training = training_set_from_cube(scene, box_weights(30))
    assert len(training.spectra) == 88
    assert np.array_equal(training.spectra, scene[:, training.rows, training.cols].T)


def test_the_sample_is_spread_evenly_over_the_scene() -> None:
    training = training_set_from_cube(mixed_scene(80, 80), box_weights(30), limit=1600)
    counts = np.histogram2d(training.rows, training.cols, bins=4, range=((0, 80), (0, 80)))[0]
    assert counts.min() > 60  # 100 expected, standard deviation 8.7
    assert counts.max() < 140


def test_neighbour_means_count_valid_pixels_only() -> None:
    scene = np.ones((2, 3, 3), np.float32)
    scene[:, 1, 1] = 4
    scene[0, 0, 0] = np.nan
    training = training_set_from_cube(scene, np.full((1, 2), 0.5, np.float32))
    centre = (training.rows == 1) & (training.cols == 1)
    assert np.allclose(training.neighbour_means[centre], (7 + 4) / 8)
    corner = (training.rows == 2) & (training.cols == 2)
    assert np.allclose(training.neighbour_means[corner], (3 + 4) / 4)


def test_the_gradient_by_hand_is_the_gradient_of_autograd() -> None:
    residuals = PublishedSettings().residuals
    stack = LayerStack([(8, 3)] + [(8, 8)] * 5 + [(11, 8)], residuals, 0.3)
    generator = torch.Generator().manual_seed(1)
    flat = stack.glorot(generator).double() + 0.01
    inputs = torch.rand(50, 3, generator=generator, dtype=torch.float64)
    targets = torch.rand(50, 11, generator=generator, dtype=torch.float64)

    def loss_of(parameters: torch.Tensor) -> torch.Tensor:
        outputs = [inputs]
        layers = stack.views(parameters)
        for (weight, bias), residual in zip(layers[:-1], residuals, strict=True):
            hidden = torch.nn.functional.leaky_relu(outputs[-1] @ weight.T + bias, 0.3)
            outputs.append(hidden if residual == NO_RESIDUAL else hidden + outputs[residual + 1])
        return (outputs[-1] @ layers[-1][0].T + layers[-1][1] - targets).abs().sum()

    leaf = flat.clone().requires_grad_()
    expected_loss = loss_of(leaf)
    (expected,) = torch.autograd.grad(expected_loss, leaf)
    loss, gradient = stack.gradient(flat, inputs, targets, absolute_error)
    assert torch.allclose(loss, expected_loss.detach())
    assert torch.allclose(gradient, expected)


def test_the_learning_rate_follows_the_published_one_cycle() -> None:
    settings = PublishedSettings()
    rates = [settings.learning_rate(epoch) for epoch in range(settings.epochs)]
    assert rates[0] == pytest.approx(1e-3)
    assert max(rates) == rates[750] == pytest.approx(1e-2)
    assert rates[375] == pytest.approx(5.5e-3)
    assert rates[-1] == pytest.approx(1e-6)


def test_the_published_network_has_the_published_number_of_parameters() -> None:
    scene = mixed_scene(3, 3, bands=191)
    training = training_set_from_cube(scene, box_weights(191))
    model = fit("spectralift", training, epochs=1)
    tensors = [*model.network.weights, *model.network.biases, model.network.head, model.network.offset]
    assert sum(t.size for t in tensors if t is not None) == 320 + 5 * 4160 + 191 * 65


def test_the_published_method_learns_the_spectra_of_a_mixed_scene(training: TrainingSet) -> None:
    model = fit("spectralift", training, epochs=400)
    error = np.abs(model.predict(training.simulated) - training.spectra).mean()
    assert error < 0.004
    assert model.history[-1].loss < 0.05 * model.history[0].loss


def test_the_model_does_not_depend_on_threads_and_repeats_by_seed() -> None:
    training = training_set_from_cube(mixed_scene(80, 60), box_weights(30))  # three gradient chunks
    one = fit("spectralift", training, epochs=12, threads=1, seed=3)
    two = fit("spectralift", training, epochs=12, threads=2, seed=3)
    other = fit("spectralift", training, epochs=12, threads=2, seed=4)
    assert same(one, two)
    assert not same(one, other)


def test_training_leaves_the_thread_settings_of_torch_and_blas_alone(training: TrainingSet) -> None:
    (outside, *_) = set_blas_threads(2)
    try:
        before = torch.get_num_threads()
        fit("spectralift", training, epochs=2)
        fit("auto", training)
        assert torch.get_num_threads() == before
        assert set(set_blas_threads(2)) == {2}
    finally:
        set_blas_threads(outside)  # other tests compare numbers that a thread more would round otherwise


def test_scaling_the_scene_scales_the_product(training: TrainingSet) -> None:
    scaled = TrainingSet(
        spectra=training.spectra * 1e4,
        neighbour_means=training.neighbour_means * 1e4,
        weights=training.weights,
        rows=training.rows,
        cols=training.cols,
    )
    small = fit("spectralift", training, epochs=20)
    large = fit("spectralift", scaled, epochs=20)
    assert np.allclose(large.predict(scaled.simulated) / 1e4, small.predict(training.simulated), atol=2e-3)


def test_unit_scale_keeps_the_scale_of_the_data_and_clips_to_it(training: TrainingSet) -> None:
    model = fit("spectralift", training, epochs=20, unit_scale=True)
    product = model.predict(np.array([[9.0] * 4, [-9.0] * 4], np.float32))
    assert product.min() >= 0
    assert product.max() <= 1
    assert model.choices["scale_low"] == 0
    assert model.choices["scale_high"] == 1


def test_progress_rises_to_one_and_an_exception_in_it_ends_the_training(training: TrainingSet) -> None:
    fractions: list[float] = []
    fit("spectralift", training, epochs=50, progress=lambda fraction, loss: fractions.append(fraction))
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1

    class Cancelled(Exception):
        pass

    def cancel(fraction: float, loss: float) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        fit("spectralift", training, progress=cancel)


def test_an_unknown_method_or_option_is_named(training: TrainingSet) -> None:
    with pytest.raises(UsageError, match=r"'magic'.*spectralift"):
        fit("magic", training)
    with pytest.raises(UsageError, match="epochz"):
        fit("spectralift", training, epochz=3)


def test_a_constant_scene_trains() -> None:
    training = training_set_from_cube(np.full((30, 4, 4), 0.3, np.float32), box_weights(30))
    model = fit("spectralift", training, epochs=300)
    assert np.allclose(model.predict(training.simulated), 0.3, atol=0.05)
