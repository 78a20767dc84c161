"""Kernel regression with random rectifier features on sharpened pixels, solved in closed form: the default.

One hidden layer whose weights are drawn, not learned; its linear read-out is ridge regression whose ridge is
and the weight of its linear path are
chosen by the evidence of the data, per spectral component. As the layer widens, this is Gaussian-process
regression with the arc-cosine kernel of order one. `docs/method.md` gives equations and measurements.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from geolift.methods.common import Progress
from geolift.methods.subspace import Subspace, find_subspace
from geolift.model import SpectralModel
from geolift.network import NO_RESIDUAL, Network
from geolift.training_set import TrainingSet

CHUNK_PIXELS = 2048
"""Rows whose products are summed at once. Fixed, so that sums do not depend on the number of threads."""

CHUNKS_AT_ONCE = 8

WHITENING = 0.5  # exponent: 0 keeps the MSI's covariance, 1 removes it
GAINS = (3.0, 30.0)  # how much cheaper the linear path may be than the features, for the ridge
MAX_SHARPENING = 6.0
PILOT_FEATURES = 256
MAX_ROWS = 100_000
RIDGES = tuple(10.0 ** (step / 2) for step in range(-10, 8))


Sums = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """φ(x) = [sqrt(2/F) max(W x + b, 0), V (x − m), 1], float64.

    Parameters
    ----------
    weight, bias
        (F, c), (F,): the drawn layer, on physical MSI values.
    linear
        (c, c) half-whitening V, on centred MSI values.
    centre
        (c,) m.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    linear: torch.Tensor
    centre: torch.Tensor

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, F + c + 1) features of (n, c) MSI values."""
        hidden = (inputs @ self.weight.T + self.bias).clamp_min(0) * (2 / len(self.bias)) ** 0.5
        straight = (inputs - self.centre) @ self.linear.T
        constant = torch.ones(len(inputs), 1, dtype=inputs.dtype, device=inputs.device)
        return torch.cat([hidden, straight, constant], dim=1)

    def first(self, count: int) -> FeatureMap:
        """The map with fewer features."""
        return FeatureMap(self.weight[:count], self.bias[:count], self.linear, self.centre)


@dataclass(frozen=True, eq=False)
class Normal:
    """Sums of the normal equations: Σ w φφᵀ, Σ w φtᵀ, Σ w t², with weights that sum to n."""

    gram: torch.Tensor
    moment: torch.Tensor
    power: torch.Tensor
    n: int


@dataclass(frozen=True, eq=False)
class Solution:
    """Weights (F, K) and, per component, ridge λ, gain, degrees of freedom and −2 log evidence."""

    readout: torch.Tensor
    ridges: torch.Tensor
    gains: torch.Tensor
    freedom: torch.Tensor
    cost: torch.Tensor

    def or_better(self, other: Solution) -> Solution:
        """Of each component the solution with more evidence."""
        mine = self.cost <= other.cost
        names = ("readout", "ridges", "gains", "freedom", "cost")
        return Solution(*(torch.where(mine, getattr(self, name), getattr(other, name)) for name in names))


@dataclass(frozen=True, eq=False)
class Copy:
    """The pixels, each sharpened by its own amount: t, x, and the amplification of their noise's variance."""

    targets: torch.Tensor
    inputs: torch.Tensor
    noise: torch.Tensor


def fit_features(
    training: TrainingSet,
    seed: int,
    device: str,
    pool: ThreadPoolExecutor,
    progress: Progress,
    *,
    features: int = 768,
    copies: int | None = None,
) -> SpectralModel:
    """The default method; ``copies`` of the training pixels (the first one plain, the others sharpened)."""
    spectra = torch.tensor(training.spectra, dtype=torch.float64, device=device)
    means = torch.tensor(training.neighbour_means, dtype=torch.float64, device=device)
    srf = torch.tensor(training.weights, dtype=torch.float64, device=device)
    simulated = training.simulated
    subspace = find_subspace(spectra)
    progress(0.1, float("nan"))
    generator = torch.Generator().manual_seed(seed)
    count = copies or max(2, min(6, MAX_ROWS // len(spectra)))
    sharpened = [_copy(spectra, means, srf, subspace, k, count, generator) for k in range(count)]
    inputs = torch.cat([copy.inputs for copy in sharpened])
    mapping = draw_features(inputs, sharpened[0].inputs, features, seed)
    misfit = _misfit(mapping.first(PILOT_FEATURES), sharpened[0], subspace, pool)
    progress(0.3, float("nan"))
    weights = [1 / (misfit + copy.noise) for copy in sharpened]
    scale = len(spectra) / float(torch.cat(weights).sum())
    normal = _sum(mapping, sharpened, [weight * scale for weight in weights], len(spectra), pool)
    progress(0.8, float("nan"))
    solution = solve(normal, straight=srf.shape[0] + 1)
    error = mapping(sharpened[0].inputs) @ solution.readout - sharpened[0].targets
    loss = float((error @ subspace.decode.T).abs().mean())
    progress(1.0, loss)
    choices = {
        "pixels": len(spectra),
        "components": int(subspace.decode.shape[1]),
        "features": features,
        "copies": count,
        "misfit_over_noise": misfit,
        "ridges": solution.ridges.tolist(),
        "linear_gains": solution.gains.tolist(),
        "degrees_of_freedom": [round(value, 1) for value in solution.freedom.tolist()],
        "training_error": loss,
    }
    network = _network(mapping, solution.readout, subspace)
    return SpectralModel("auto", network, simulated.min(axis=0), simulated.max(axis=0), (), choices)


def _copy(
    spectra: torch.Tensor,
    means: torch.Tensor,
    srf: torch.Tensor,
    subspace: Subspace,
    index: int,
    copies: int,
    generator: torch.Generator,
) -> Copy:
    """Training pairs of y + a (y − local mean) and its MSI values; a = 0 in the first copy."""
    amount = torch.zeros(len(spectra), 1, dtype=torch.float64)
    if index:  # strata: the copies of one pixel share the range evenly
        drawn = torch.rand(len(spectra), 1, generator=generator, dtype=torch.float64)
        amount = (drawn + index - 1) * (MAX_SHARPENING / (copies - 1))
    amount = amount.to(spectra.device)
    sharp = spectra + amount * (spectra - means)
    noise = (1 + amount * 8 / 9).square() + amount.square() * 8 / 81  # of a pixel and its eight neighbours
    return Copy((sharp - subspace.mean) @ subspace.encode, sharp @ srf.T, noise[:, 0])


def draw_features(inputs: torch.Tensor, plain: torch.Tensor, count: int, seed: int) -> FeatureMap:
    """Low-discrepancy normal directions and biases, in half-whitened MSI values of scale one.

    Half-whitening lets the differences between bands count more than brightness does, without blowing up noise.
    """
    c = inputs.shape[1]
    centre = plain.mean(0)
    scale = plain.var(0, correction=0).mean().sqrt().clamp_min(1e-30)
    scaled = (inputs - centre) / scale
    covariance = torch.cov(scaled.T, correction=0).reshape(c, c)
    values, vectors = torch.linalg.eigh(covariance)
    values = values.clamp_min(max(float(values.max()) * 1e-4, 1e-30))
    whitening = (vectors * values ** (-WHITENING / 2)) @ vectors.T
    whitening = whitening / ((whitening @ covariance @ whitening).trace() / c).sqrt().clamp_min(1e-30)
    engine = torch.quasirandom.SobolEngine(c + 1, scramble=True, seed=seed)  # type: ignore[no-untyped-call]
    uniform = engine.draw(count, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
    drawn = torch.special.ndtri(uniform).to(inputs.device)
    weight = drawn[:, :c] @ whitening / scale
    bias = drawn[:, c] - weight @ centre
    return FeatureMap(weight, bias, whitening / scale, centre)


def _sum(
    mapping: FeatureMap, copies: list[Copy], weights: list[torch.Tensor], n: int, pool: ThreadPoolExecutor
) -> Normal:
    """Sums over all copies in fixed chunks and fixed order."""

    chunks = [
        (copy.inputs[start : start + CHUNK_PIXELS], copy.targets[start : start + CHUNK_PIXELS], part[:, None])
        for copy, weight in zip(copies, weights, strict=True)
        for start, part in zip(range(0, len(weight), CHUNK_PIXELS), torch.split(weight, CHUNK_PIXELS), strict=True)
    ]

    def sums(chunk: Sums) -> Sums:
        inputs, targets, weight = chunk
        phi = mapping(inputs)
        weighted = (phi * weight).T
        return weighted @ phi, weighted @ targets, (targets.square() * weight).sum(0)

    total: Sums | None = None
    for start in range(0, len(chunks), CHUNKS_AT_ONCE):  # in waves: every sum is a large matrix
        for part in pool.map(sums, chunks[start : start + CHUNKS_AT_ONCE]):
            total = part if total is None else (total[0] + part[0], total[1] + part[1], total[2] + part[2])
    assert total is not None
    return Normal(*total, n)


def solve(normal: Normal, straight: int) -> Solution:
    """Ridge regression; ridge and gain of the linear path are those of highest evidence per component.

    With weights β ~ N(0, σ²/λ), noise σ² and eigenvalues e of the Gram matrix the log evidence is, up to a
    constant, −½ (n log q(λ) + Σ log(1 + e/λ)) with q the penalised residual sum of squares, σ² = q/n.

    Parameters
    ----------
    straight
        How many of the last features are the linear path; they are multiplied by the gain.

    References
    ----------
    D. J. C. MacKay, Bayesian interpolation, Neural Comput. 4(3), 1992, doi:10.1162/neco.1992.4.3.415.
    """
    best: Solution | None = None
    for gain in GAINS:
        stretch = torch.ones(len(normal.gram), dtype=torch.float64, device=normal.gram.device)
        stretch[-straight:] = gain
        values, vectors = torch.linalg.eigh(normal.gram * torch.outer(stretch, stretch))
        values = values.clamp_min(0)
        rotated = vectors.T @ (normal.moment * stretch[:, None])
        floor = 1e-12 * normal.power.clamp_min(1e-30)
        left = torch.stack([normal.power - (rotated.square() / (values + r)[:, None]).sum(0) for r in RIDGES])
        left = torch.maximum(left, floor)
        complexity = torch.stack([torch.log1p(values / ridge).sum() for ridge in RIDGES])
        cost, index = (normal.n * (left / normal.n).log() + complexity[:, None]).min(0)
        ridges = torch.tensor(RIDGES, dtype=torch.float64, device=values.device)[index]
        readout = stretch[:, None] * (vectors @ (rotated / (values[:, None] + ridges)))
        freedom = torch.stack([(values / (values + ridge)).sum() for ridge in ridges])
        found = Solution(readout, ridges, torch.full_like(ridges, gain), freedom, cost)
        best = found if best is None else best.or_better(found)
    assert best is not None
    return best


def _misfit(mapping: FeatureMap, plain: Copy, subspace: Subspace, pool: ThreadPoolExecutor) -> float:
    """Variance that the MSI cannot explain, over the variance of the noise, averaged in physical units.

    Where it is large, noisy sharpened pixels are as good as plain ones; where it is small, they count less.
    """
    n = len(plain.inputs)
    normal = _sum(mapping, [plain], [torch.ones(n, dtype=torch.float64, device=plain.inputs.device)], n, pool)
    solution = solve(normal, straight=plain.inputs.shape[1] + 1)
    squares = (plain.targets - mapping(plain.inputs) @ solution.readout).square().sum(0)
    excess = (squares / (n - solution.freedom).clamp_min(1) - 1).clamp_min(0)
    energy = subspace.decode.square().sum(0)
    return float((excess * energy).sum() / energy.sum())


def _network(mapping: FeatureMap, readout: torch.Tensor, subspace: Subspace) -> Network:
    """The same function as a network: one hidden layer, a linear path, a low-rank head."""
    count = len(mapping.bias)
    head = readout[:count].T * (2 / count) ** 0.5
    skip = readout[count:-1].T @ mapping.linear
    level = readout[-1] - skip @ mapping.centre

    def plain(tensor: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return tensor.cpu().numpy().astype(np.float32)

    return Network(
        weights=(plain(mapping.weight),),
        biases=(plain(mapping.bias),),
        residuals=(NO_RESIDUAL,),
        slope=0.0,
        head=plain(head),
        skip=plain(skip),
        basis=plain(subspace.decode),
        offset=plain(subspace.mean + subspace.decode @ level),
    )
