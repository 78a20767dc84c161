"""Agreement with the HSI: the footprint, the residual process, and what they do to a product."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from geolift.errors import ResourceError
from geolift.refinement import Refined, refine_arrays, solution
from geolift.refinement.correction import Correction
from geolift.refinement.footprint import Footprint, fit_footprint, gaussian_footprint
from geolift.refinement.process import ResidualProcess, covariance, cross_covariance, fit_process
from geolift.refinement.solution import correction_fields, solve_block
from geolift.refinement.windows import even_edges
from geolift.runtime.scratch import lent
from geolift.training.fit import fit
from geolift.training.training_set import TrainingSet, training_set_from_cube

RATIO = 4


def texture(rng: np.random.Generator, count: int, size: int, sigma: float) -> np.ndarray:
    """(count, size, size) smooth random images of variance one."""
    images = np.stack([ndimage.gaussian_filter(rng.standard_normal((size, size)), sigma) for _ in range(count)])
    return (images / images.std(axis=(1, 2), keepdims=True)).astype(np.float32)


def test_a_footprint_that_is_no_gaussian_is_recovered_from_the_images() -> None:
    rng = np.random.default_rng(0)
    fine = texture(rng, 4, 30 * RATIO, 1.0)
    weights = np.convolve(np.full(RATIO, 0.25), [0.1, 0.2, 0.5, 0.15, 0.05])
    truth = Footprint(RATIO, (-2, -2), (weights, weights[::-1]))
    low = truth.degrade(fine, 0)
    low += 0.002 * rng.standard_normal(low.shape).astype(np.float32)
    found = fit_footprint([(low, fine)], gaussian_footprint(RATIO, (0.0, 0.0), (1.2, 1.2)), 0)
    assert found.fitted
    for axis in (0, 1):
        wide = np.zeros_like(found.weights[axis])
        first = -2 - found.start_px[axis]
        wide[first : first + len(weights)] = truth.weights[axis]
        assert np.abs(found.weights[axis] - wide).max() < 0.01


def test_clouds_do_not_bend_the_footprint() -> None:
    rng = np.random.default_rng(1)
    fine = texture(rng, 3, 30 * RATIO, 1.0)
    truth = gaussian_footprint(RATIO, (0.3, -0.4), (1.6, 1.3))
    low = truth.degrade(fine, 0)
    low[:, 5:9, 10:16] += 5.0
    start = gaussian_footprint(RATIO, (0.0, 0.0), (1.5, 1.5))
    found = fit_footprint([(low, fine)], start, 0)
    seen = [print_.degrade(fine, 0)[:, 12:28, 2:28] for print_ in (truth, found)]
    assert np.abs(seen[1] - seen[0]).max() < 0.05


def test_few_pixels_leave_the_gaussian_as_it_is() -> None:
    start = gaussian_footprint(RATIO, (0.0, 0.0), (1.5, 1.5))
    fine = texture(np.random.default_rng(2), 1, 6 * RATIO, 1.0)
    assert fit_footprint([(start.degrade(fine, 0), fine)], start, 0) is start


def dense(process: ResidualProcess, factors: np.ndarray, at: np.ndarray | None = None) -> np.ndarray:
    """The covariance of D e between HSI pixels (n, n), term by term, without any block or product trick."""
    rows, cols = np.indices(factors.shape[1:]).reshape(2, -1).astype(float)
    total = np.zeros((rows.size, rows.size))
    for length, share, part in process.terms:
        shape = [covariance(process.footprint, axis, length, v[:, None] - v) for axis, v in enumerate((rows, cols))]
        for factor in factors[part].reshape(-1, rows.size):
            total += share * shape[0] * shape[1] * np.outer(factor, factor)
    return total


@pytest.fixture
def process() -> ResidualProcess:
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))[0]
    footprint = gaussian_footprint(RATIO, (0.2, 0.0), (1.5, 1.8))
    return ResidualProcess(footprint, 1.0, 4.0, 0.3, turn, np.array([50.0, 3.0, 0.0]), np.array([1.0, 1.5, 1.0]))


def test_the_solution_and_the_correction_are_those_of_dense_kriging(
    process: ResidualProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solution, "LEFT_OF_NOISE", 1e-4)
    rng = np.random.default_rng(4)
    residual = rng.standard_normal((3, 9, 8)).astype(np.float32)
    factors = np.concatenate([np.ones((1, 9, 8)), rng.standard_normal((2, 9, 8))]).astype(np.float32)
    residual[:, 4, 3] = np.nan
    beta = solve_block(process, residual, factors)
    known = np.isfinite(residual[0]).ravel()
    gram = dense(process, factors)[np.ix_(known, known)]
    rotated = process.rotation.T @ residual.reshape(3, -1)[:, known]
    expected = [
        np.linalg.solve(s * gram + n * np.eye(known.sum()), r)
        for s, n, r in zip(process.strength, process.noise, rotated, strict=True)
    ]
    expected[2] = np.zeros(known.sum())  # a component of no strength is left alone
    assert np.abs(beta.reshape(3, -1)[:, known] - expected).max() < 5e-4
    assert (beta[:, 4, 3] == 0).all()

    points = np.array([1.3, 4.0]), np.array([2.1, 6.6, 7.0])
    turned = np.einsum("kl,lyx->ykx", process.rotation * process.strength, beta).astype(np.float32)
    shares = np.array([1.0, 0.3, 0.3], np.float32)[:, None, None]
    known = turned, shares * np.nan_to_num(factors)
    fields = correction_fields(process, *known, (0, 0), *points).swapaxes(1, 2)
    rows, cols = np.indices((9, 8)).reshape(2, -1).astype(float)
    for index, (length, share) in enumerate([(1.0, 1.0), (4.0, 0.3), (4.0, 0.3)]):
        along_y = cross_covariance(process.footprint, 0, length, points[0][:, None] - rows)
        along_x = cross_covariance(process.footprint, 1, length, points[1][:, None] - cols)
        weighted = process.strength[:, None] * beta.reshape(3, -1) * factors[index].ravel()
        want = process.rotation @ np.einsum("yn,xn,kn->kyx", along_y, along_x, share * weighted).reshape(3, -1)
        assert np.abs(fields[index].reshape(3, -1) - want).max() < 0.02 * np.abs(want).max()


def test_a_process_without_a_guided_term_leaves_nothing_of_the_memory_it_was_given(process: ResidualProcess) -> None:
    alone = replace(process, guided_length_lr=0.0, guided_share=0.0)
    at = (np.arange(48) + 0.5) / RATIO - 0.5
    for _ in range(3):
        junk = [np.full((5, 48, 3, 48), 1e9, np.float32) for _ in range(4)]
        del junk
        fields = correction_fields(
            alone, np.zeros((12, 3, 12), np.float32), np.ones((5, 12, 12), np.float32), (0, 0), at, at
        )
        assert not fields.any()


def test_tensors_give_a_tensor_of_the_fields_that_arrays_give(process: ResidualProcess) -> None:
    at = (np.arange(6) + 0.5) / RATIO
    known = [np.random.default_rng(0).normal(size=size).astype(np.float32) for size in ((4, 3, 4), (3, 4, 4))]
    fields = correction_fields(process, *map(torch.from_numpy, known), (0, 0), at, at)
    assert torch.equal(fields, torch.from_numpy(correction_fields(process, *known, (0, 0), at, at)))


def test_what_lies_beyond_a_blocks_halo_hardly_changes_its_solution(process: ResidualProcess) -> None:
    rng = np.random.default_rng(9)
    size, halo, core = 56, process.halo_lr, slice(20, 36)
    factors = np.concatenate([np.ones((1, size, size)), texture(rng, 2, size, 0.7)]).astype(np.float32)
    residual = (5 * texture(rng, 3, size, 1.5)).astype(np.float32)
    whole = solve_block(process, residual, factors)[:, core, core]
    seen = slice(core.start - halo, core.stop + halo)
    part = solve_block(process, residual[:, seen, seen], factors[:, seen, seen])[:, halo:-halo, halo:-halo]
    apart = process.noise[:, None, None] * (part - whole)
    assert np.sqrt(np.square(apart).mean()) < 0.2 * solution.LEFT_OF_NOISE


def test_blocks_are_even_and_few() -> None:
    assert even_edges((300, 161), 160) == (150, 81)
    assert even_edges((160, 3), 160) == (160, 3)


def test_no_number_of_the_system_lies_below_those_that_cpus_multiply_fast(process: ResidualProcess) -> None:
    """Intel's CPUs took nine times as long with them."""
    for length in (1.0, 4.0):
        for matrix in solution._matrices(process.footprint, length, (150, 160)):
            assert matrix.max() > 0.1
            assert not ((matrix > 0) & (matrix < 1e-30)).any()


def test_a_band_of_a_matrix_multiplies_as_the_matrix_does() -> None:
    apart = np.abs(np.arange(150)[:, None] - np.arange(150))
    for sigma, banded in ((2.0, True), (40.0, False)):
        matrix = np.exp(-0.5 * np.square(apart / sigma))
        band = solution._Band(matrix, np, lambda values: values.astype(np.float32))
        x = np.random.default_rng(8).standard_normal((3, 150, 20)).astype(np.float32)
        assert bool(band.parts) == banded
        assert np.abs(band.down(x[0]) - matrix @ x[0]).max() < 1e-3
        assert np.abs(band.across(x[:, :, 0]) - x[:, :, 0] @ matrix).max() < 1e-3


def test_a_strong_long_process_comes_to_rest_too(process: ResidualProcess) -> None:
    """Without an inverse to lean on it takes six hundred steps."""
    rng = np.random.default_rng(6)
    strong = replace(process, guided_length_lr=8.0, guided_share=1.0, strength=np.array([560.0, 50.0, 10.0]))
    factors = np.concatenate([np.ones((1, 24, 24)), texture(rng, 3, 24, 0.7)]).astype(np.float32)
    residual = (40 * texture(rng, 3, 24, 1.5)).astype(np.float32)
    residual[:, 5:9, 3:20] = np.nan
    beta = solve_block(strong, residual, factors)
    known = np.isfinite(residual[0]).ravel()
    gram = dense(strong, factors)[np.ix_(known, known)]
    rotated = strong.rotation.T @ residual.reshape(3, -1)[:, known]
    for k, (s, n) in enumerate(zip(strong.strength, strong.noise, strict=True)):
        left = (s * gram + n * np.eye(known.sum())) @ beta[k].ravel()[known] - rotated[k]
        assert np.linalg.norm(left) < 1.2 * solution.LEFT_OF_NOISE * (n * known.sum()) ** 0.5


def test_a_gpu_that_is_asked_every_tenth_step_finds_the_same_solution(
    process: ResidualProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solution, "LEFT_OF_NOISE", 0.05)
    rng = np.random.default_rng(4)
    residual, factors = (rng.standard_normal((3, 30, 20)).astype(np.float32) for _ in range(2))
    residual[1] = 0  # at rest from the first step on
    here = solve_block(process, residual, factors)
    looks = {1: 0, solution.STEPS_UNASKED: 0}
    whole = torch.Tensor.all
    monkeypatch.setattr(solution, "_computing", on_torch)
    for steps in looks:

        def counted(tensor: torch.Tensor, steps: int = steps) -> torch.Tensor:
            looks[steps] += 1
            return whole(tensor)

        monkeypatch.setattr(torch.Tensor, "all", counted)
        monkeypatch.setattr(solution, "STEPS_UNASKED", steps)
        there = solve_block(process, residual, factors, "stand-in")
        assert np.abs(there - here).max() < 0.05 * np.abs(here).max()
    assert 5 * looks[10] < looks[1]


@contextmanager
def on_torch(device: str, pixels: int) -> Iterator[tuple[Any, Any]]:
    """A CPU that stands in for a GPU."""
    yield torch, lambda values: torch.from_numpy(values.astype(np.float32))


def test_a_correction_that_does_not_come_to_rest_is_left_out_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solution, "MAX_ITERATIONS", 1)
    _, low, msi, weights = scene(7, 1.0, 0.002)
    training = training_set_from_cube(low, weights)
    model = fit("linear", training)
    fused = model.apply(msi.reshape(len(msi), -1)).reshape(len(low), *msi.shape[1:])
    product, result = refine_arrays(model, training, low, msi, fused, forced=True)
    assert product is fused
    assert result.correction is None
    assert "did not come to rest" in result.reason


def test_a_device_too_small_for_the_equations_is_a_resource_error(
    process: ResidualProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("made up")

    monkeypatch.setattr(solution, "conjugate_gradients", full)
    residual, factors = np.ones((3, 6, 5), np.float32), np.ones((3, 6, 5), np.float32)
    with pytest.raises(ResourceError, match=r"does not hold 30 HSI pixels of the refinement.*--device cpu"):
        solve_block(process, residual, factors, "meta")


def test_the_parameters_tell_structure_from_noise() -> None:
    rng = np.random.default_rng(5)
    footprint = gaussian_footprint(RATIO, (0.0, 0.0), (1.5, 1.5))
    smooth = ndimage.gaussian_filter(rng.standard_normal((24, 24)), 1.2)
    noise = rng.standard_normal((2, 24, 24))
    residual = np.stack([5 * smooth / smooth.std() + noise[0], noise[1]]).astype(np.float32)
    found, explained, doubt = fit_process([(residual, np.ones((1, 24, 24), np.float32))], footprint, np.eye(2))
    assert (found.strength > 0).tolist() == [True, False]
    assert 0.7 < explained < 1.0
    assert doubt < 0.1
    _, nothing, doubt = fit_process(
        [(noise.astype(np.float32), np.ones((1, 24, 24), np.float32))], footprint, np.eye(2)
    )
    assert nothing <= 2.0 * doubt


def scene(seed: int, hidden: float, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Truth, HSI, MSI and SRF of a scene with a spectral feature the MSI does not see."""
    rng = np.random.default_rng(seed)
    size, bands = 24 * RATIO, 12
    weights = np.zeros((3, bands), np.float32)
    weights[0, :3], weights[1, 3:6], weights[2, 6:9] = 1 / 3, 1 / 3, 1 / 3
    shapes = np.abs(rng.standard_normal((3, bands))).astype(np.float32)
    unseen = np.zeros(bands, np.float32)
    unseen[9:] = 1.0
    images = 1 + 0.3 * texture(rng, 3, size, 1.5)
    fields = texture(rng, 1, size, 9.0)[0]
    truth = np.einsum("kyx,kb->byx", images, shapes) + hidden * fields * unseen[:, None, None]
    truth = truth.astype(np.float32)
    hsi = gaussian_footprint(RATIO, (0.0, 0.0), (1.8, 1.8), 3.0).degrade(truth, 0)
    edge = np.isnan(hsi[0])
    hsi[:, edge] = truth.reshape(bands, 24, RATIO, 24, RATIO).mean(axis=(2, 4))[:, edge]
    hsi = hsi + noise * rng.standard_normal(hsi.shape).astype(np.float32)
    msi = np.einsum("cb,byx->cyx", weights, truth) + 0.005 * rng.standard_normal((3, size, size))
    return truth, hsi.astype(np.float32), msi.astype(np.float32), weights


def refined(seed: int, hidden: float, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, Refined]:
    """Truth, product before and after, and what was done."""
    truth, hsi, msi, weights = scene(seed, hidden, noise)
    training: TrainingSet = training_set_from_cube(hsi, weights)
    model = fit("linear", training)
    before = model.apply(msi.reshape(3, -1)).reshape(truth.shape)
    after, done = refine_arrays(model, training, hsi, msi, before)
    return truth, before, after, done


def test_what_the_msi_cannot_see_is_brought_in_from_the_hsi() -> None:
    truth, before, after, done = refined(6, hidden=0.2, noise=0.01)
    assert done.correction is not None
    errors = [float(np.square(p - truth).mean()) for p in (before, after)]
    assert errors[1] < 0.2 * errors[0]
    agreement = done.facts["agreement_with_hsi"]
    assert agreement["rmse_after"] < 0.5 * agreement["rmse_before"]


def test_where_the_inversion_leaves_noise_alone_nothing_is_lost() -> None:
    truth, before, after, done = refined(7, hidden=0.0, noise=0.05)
    assert done.reason
    assert np.square(after - truth).mean() < 1.01 * np.square(before - truth).mean()


def test_tiles_of_any_size_are_corrected_alike() -> None:
    truth, hsi, msi, weights = scene(6, 0.2, 0.01)
    training = training_set_from_cube(hsi, weights)
    model = fit("linear", training)
    flat = model.apply(msi.reshape(3, -1)).reshape(truth.shape)
    whole, done = refine_arrays(model, training, hsi, msi, flat)
    assert done.correction is not None

    def places(rows: slice, cols: slice) -> tuple[np.ndarray, np.ndarray]:
        down, across = ((np.arange(part.start, part.stop) + 0.5) / RATIO - 0.5 for part in (rows, cols))
        return down[:, None], across[None]

    found = done.correction.coordinates(msi, (0, 0), truth.shape[1:], places)
    assert np.allclose(flat + np.einsum("ck,kyx->cyx", done.correction.decode, found), whole, atol=1e-6)
    for row in range(0, truth.shape[1], 40):
        for col in range(0, truth.shape[2], 56):
            tile = (slice(None), slice(row, row + 40), slice(col, col + 56))
            piece = done.correction.coordinates(msi[tile], (row, col), truth.shape[1:], places)
            assert np.array_equal(piece, found[tile])


@pytest.mark.parametrize("turned", [0.0, 0.1])
def test_a_tile_is_corrected_alike_where_only_pieces_of_the_arrays_are(turned: float) -> None:
    truth, hsi, msi, weights = scene(6, 0.2, 0.01)
    training = training_set_from_cube(hsi, weights)
    model = fit("linear", training)
    flat = model.apply(msi.reshape(3, -1)).reshape(truth.shape)
    here = refine_arrays(model, training, hsi, msi, flat)[1].correction
    assert here is not None

    def places(rows: slice, cols: slice) -> tuple[np.ndarray, np.ndarray]:
        down, across = ((np.arange(part.start, part.stop) + 0.5) / RATIO - 0.5 for part in (rows, cols))
        if not turned:
            return down[:, None], across[None]
        return down[:, None] + turned * across[None], across[None] - turned * down[:, None]

    elsewhere: Correction = pickle.loads(pickle.dumps(here))
    for row, col in ((0, 0), (40, 56)):
        corner, tile = (row, col), msi[:, row : row + 40, col : col + 56]
        with lent(here.pieces(corner, (40, 56), truth.shape[1:], places)):
            lend = elsewhere.coordinates(tile, corner, truth.shape[1:], places)
        assert np.array_equal(lend, here.coordinates(tile, corner, truth.shape[1:], places))


def test_grids_turned_against_each_other_give_nearly_the_same() -> None:
    _, hsi, msi, weights = scene(6, 0.2, 0.01)
    training = training_set_from_cube(hsi, weights)
    model = fit("linear", training)
    flat = model.apply(msi.reshape(3, -1)).reshape(12, *msi.shape[1:])
    _, done = refine_arrays(model, training, hsi, msi, flat)
    assert done.correction is not None
    places = (np.arange(32) + 0.5) / RATIO - 0.5
    guides = done.correction.guides(msi[:, :32, :32])
    straight = done.correction.cell(guides, places[:, None], places[None])
    full = np.broadcast_to(places[:, None], (32, 32)), np.broadcast_to(places, (32, 32))
    turned = done.correction.cell(guides, *full)
    assert np.abs(turned - straight).max() < 0.03 * np.abs(straight).max()
