"""SpectraMorph: endmembers, abundances under constraints, the published settings, its laws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from geolift.network.backends import made_ready
from geolift.network.formula import Unmixing
from geolift.network.model import SpectralModel, load_model, save_model
from geolift.settings import UnmixingSettings
from geolift.training.fit import fit
from geolift.training.methods import spectramorph
from geolift.training.methods.endmembers import find_endmembers
from geolift.training.training_set import TrainingSet, training_set_from_cube

BANDS = 40
CONSTRAINTS = [(False, False), (True, False), (False, True), (True, True)]


def pure_spectra() -> np.ndarray:
    """(3, C) spectra, each with a stretch of bands where it alone is not dark."""
    wavelength = np.linspace(0, 1, BANDS)
    peaks = np.exp(-(((wavelength - np.array([[0.15], [0.5], [0.85]])) / 0.13) ** 2))
    return np.where(peaks < 0.01, 0, peaks) * np.array([[0.3], [0.8], [0.5]])


def shares(rows: int = 14, cols: int = 15, seed: int = 0) -> np.ndarray:
    """(rows, cols, 3) shares that sum to one, pure pixels among them."""
    drawn = np.random.default_rng(seed).dirichlet(np.full(3, 0.5), (rows, cols))
    drawn[0, :3] = np.eye(3)
    return drawn


@pytest.fixture(scope="module")
def training() -> TrainingSet:
    scene = np.moveaxis(shares() @ pure_spectra(), 2, 0).astype(np.float32)
    weights = np.zeros((4, BANDS), np.float32)
    for index, members in enumerate(np.array_split(np.arange(BANDS), 4)):
        weights[index, members] = 1 / len(members)
    return training_set_from_cube(scene, weights)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectramorph, "AUTHORS", replace(spectramorph.AUTHORS, width=64))


def learned(training: TrainingSet, epochs: int = 3, seed: int = 0, **options: object) -> SpectralModel:
    unmixing = UnmixingSettings(**({"endmembers": 3} | options))
    return fit("spectramorph", training, seed=seed, epochs=epochs, unmixing=unmixing)


def abundances_of(model: SpectralModel, msi: np.ndarray) -> np.ndarray:
    """(K, n) of (n, c)."""
    return made_ready(model.network.abundances())(np.ascontiguousarray(msi.T))


def test_planted_endmembers_are_found() -> None:
    spectra = pure_spectra()
    values = torch.tensor(shares().reshape(-1, 3) @ spectra)
    found = find_endmembers(values, 3)
    assert found.unexplained < 1e-3
    cosine = spectra @ found.spectra.numpy().T
    cosine /= np.outer(np.linalg.norm(spectra, axis=1), np.linalg.norm(found.spectra.numpy(), axis=1))
    assert cosine.max(axis=1).min() > 0.999
    # Abundances of a pixel sum to about one: the spectra have the size of the planted ones.
    sizes = np.sort(np.linalg.norm(found.spectra.numpy(), axis=1))
    assert np.allclose(sizes, np.sort(np.linalg.norm(spectra, axis=1)), rtol=0.02)


def test_a_scene_has_no_more_endmembers_than_its_rank() -> None:
    values = torch.tensor(shares().reshape(-1, 3) @ pure_spectra())
    assert len(find_endmembers(values, 9).spectra) == 3
    assert find_endmembers(torch.zeros(5, 4, dtype=torch.float64), 3).spectra.tolist() == [[0.0] * 4]


def test_the_factorisation_explains_as_much_as_another_solver_does() -> None:
    rng = np.random.default_rng(3)
    values = rng.random((60, 4)) @ rng.random((4, 25)) + 0.05 * rng.random((60, 25))
    abundances, spectra = rng.random((60, 4)), rng.random((4, 25))
    for _ in range(4000):  # Lee and Seung's multiplicative rule
        abundances *= (values @ spectra.T) / (abundances @ (spectra @ spectra.T))
        spectra *= (abundances.T @ values) / ((abundances.T @ abundances) @ spectra)
    expected = np.linalg.norm(values - abundances @ spectra) / np.linalg.norm(values)
    assert find_endmembers(torch.tensor(values), 4).unexplained < 1.01 * expected


@pytest.mark.parametrize(("non_negative", "sum_to_one"), CONSTRAINTS)
def test_the_gradient_under_constraints_is_the_one_autograd_finds(non_negative: bool, sum_to_one: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    free = torch.randn(30, 3, generator=generator, dtype=torch.float64)
    endmembers, targets = torch.tensor(pure_spectra()), torch.rand(30, BANDS, generator=generator, dtype=torch.float64)
    limits = Unmixing(np.zeros(3, np.float32), non_negative, sum_to_one)
    leaf = free.clone().requires_grad_()
    expected_loss = (limits.constrained(leaf, dim=1) @ endmembers - targets).abs().sum()
    (expected,) = torch.autograd.grad(expected_loss, leaf)
    loss, gradient = spectramorph.mixing_error(endmembers, limits)(free, targets)
    assert torch.allclose(loss, expected_loss.detach())
    assert torch.allclose(gradient, expected)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(("non_negative", "sum_to_one"), CONSTRAINTS)
def test_abundances_keep_their_constraints_on_pixels_never_seen(
    training: TrainingSet, non_negative: bool, sum_to_one: bool
) -> None:
    model = learned(training, non_negative=non_negative, sum_to_one=sum_to_one)
    msi = np.random.default_rng(1).uniform(-1, 3, (500, 4)).astype(np.float32)
    abundances = abundances_of(model, msi)
    assert (abundances.min() >= 0) == non_negative
    assert np.allclose(abundances.sum(axis=0), 1, atol=1e-5) == sum_to_one
    # Mixing the endmembers by them gives the product.
    basis = model.network.basis
    assert basis is not None
    assert np.allclose(model.predict(msi), (basis @ abundances).T, atol=1e-5)


@pytest.mark.usefixtures("narrow")
def test_planted_abundances_are_found_again(training: TrainingSet) -> None:
    model = learned(training, epochs=400, non_negative=True, sum_to_one=True)
    assert np.abs(model.predict(training.simulated) - training.spectra).max() < 0.02
    found = abundances_of(model, training.simulated)
    truth = shares().reshape(-1, 3).T
    order = [int(np.argmax([np.corrcoef(planted, one)[0, 1] for one in found])) for planted in truth]
    assert np.abs(found[order] - truth).mean() < 0.02


@pytest.mark.usefixtures("narrow")
def test_the_model_does_not_depend_on_threads_and_repeats_by_seed(training: TrainingSet) -> None:
    tensors = [
        fit("spectramorph", training, seed=seed, threads=threads, epochs=4).to_tensors()
        for seed, threads in ((3, 1), (3, 2), (4, 2))
    ]
    assert all(np.array_equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    assert not np.array_equal(tensors[0]["head"], tensors[2]["head"])
    assert np.array_equal(tensors[0]["basis"], tensors[2]["basis"])  # endmembers are not drawn


def test_the_network_has_the_published_width_and_endmembers(training: TrainingSet) -> None:
    rng = np.random.default_rng(0)
    noisy = TrainingSet(
        spectra=training.spectra + 0.01 * rng.random(training.spectra.shape, np.float32),
        neighbour_means=training.neighbour_means, weights=training.weights, rows=training.rows, cols=training.cols,
    )  # fmt: skip
    network = fit("spectramorph", noisy, epochs=1).network
    assert network.weights[0].shape == (1024, 4)
    assert network.head is not None
    assert network.head.shape == (7, 1024)
    assert network.skip is None


@pytest.mark.usefixtures("narrow")
def test_the_unit_does_not_matter(training: TrainingSet) -> None:
    scaled = TrainingSet(
        spectra=training.spectra * 512,
        neighbour_means=training.neighbour_means * 512,
        weights=training.weights,
        rows=training.rows,
        cols=training.cols,
    )
    small, large = learned(training, epochs=20), learned(scaled, epochs=20)
    assert np.allclose(large.predict(scaled.simulated), 512 * small.predict(training.simulated), rtol=1e-3, atol=0.05)


@pytest.mark.usefixtures("narrow")
def test_a_saved_model_keeps_its_abundances(training: TrainingSet, tmp_path: Path) -> None:
    model = learned(training, non_negative=True, sum_to_one=True)
    save_model(tmp_path / "model.safetensors", model, {})
    loaded, _ = load_model(tmp_path / "model.safetensors")
    assert np.array_equal(abundances_of(loaded, training.simulated), abundances_of(model, training.simulated))
    assert np.array_equal(loaded.predict(training.simulated), model.predict(training.simulated))


def test_a_network_that_does_not_unmix_has_no_abundances(training: TrainingSet) -> None:
    with pytest.raises(ValueError, match="unmixes"):
        fit("linear", training).network.abundances()


def test_a_black_scene_is_fitted(training: TrainingSet) -> None:
    black = np.zeros_like(training.spectra)
    dark = TrainingSet(
        spectra=black, neighbour_means=black, weights=training.weights, rows=training.rows, cols=training.cols
    )
    assert np.abs(learned(dark).predict(dark.simulated)).max() == 0
