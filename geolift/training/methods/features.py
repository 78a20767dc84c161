"""Kernel regression with drawn rectifier features on sharpened pixels, averaged with a small network: the default.

One hidden layer whose weights are drawn, not learned; its read-out is ridge regression whose ridge is chosen by
the evidence of the data, per spectral component. As the layer widens, this becomes Gaussian-process regression
with the arc-cosine kernel of order one. A share of plain least squares, chosen on held-out blocks, steadies it
where pixels are few. `docs/method.md` gives equations and measurements.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch

from geolift.network.formula import INPUT, NO_RESIDUAL, Floats, Network
from geolift.network.model import SpectralModel
from geolift.training.methods.common import Progress, input_noise
from geolift.training.methods.normal import NormalSums, accumulate, held_out_share, least_squares, solve
from geolift.training.methods.small_network import SLOPE, train_network
from geolift.training.methods.subspace import Subspace, find_subspace, project
from geolift.training.training_set import TrainingSet, position_hash

WHITENING = 0.5  # exponent: 0 keeps the MSI's covariance, 1 removes it
MAX_SHARPENING = 4.0
MAX_COPIES = 6
MAX_ROWS = 100_000
INPUT_NOISE = 0.1  # of half-whitened inputs: the strongest of what keeps few pixels from being learned by heart
NETWORK_SHARE = 0.5  # of what least squares leaves, where pixels are many
NETWORK_PIXELS = 40  # with so few, half of that
FOLDS = 5
FOLD_BLOCK_PIXELS = 3
FEWEST_PIXELS = 36  # below, what is held out tells nothing of least squares, which then does more harm than good


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


@dataclass(frozen=True, eq=False)
class SharpenedPixels:
    """The training pixels, each sharpened by its own amount a: y + a (y − local mean).

    Parameters
    ----------
    targets, inputs
        (n, K) coordinates in the subspace and (n, c) MSI values.
    weights
        (n,) 1 / (1 + A²), A² being the amplification of the noise's variance: half of the error is taken to be
        noise in an unsharpened pixel.
    """

    targets: torch.Tensor
    inputs: torch.Tensor
    weights: torch.Tensor


def fit_features(
    training: TrainingSet,
    seed: int,
    device: str,
    pool: ThreadPoolExecutor,
    progress: Progress,
    *,
    features: int = 128,
    copies: int | None = None,
    learned: bool = True,
) -> SpectralModel:
    """The default method; ``copies`` of the training pixels, the first one plain, the others sharpened.

    Without what is ``learned`` step by step it is closed-form regression alone.
    """
    count = copies or max(2, min(MAX_COPIES, MAX_ROWS // len(training.spectra)))
    subspace, pixels = sharpen(training, count, seed, device)
    progress(0.1, float("nan"))
    mapping = draw_features(torch.cat([part.inputs for part in pixels]), pixels[0].inputs, features, seed)
    fold = position_hash(training.rows // FOLD_BLOCK_PIXELS, training.cols // FOLD_BLOCK_PIXELS, seed) % FOLDS
    parts = [torch.tensor(np.flatnonzero(fold == index), device=device) for index in range(FOLDS)]
    sums = [_fold_sums(mapping, pixels, part, pool) for part in parts if len(part)]
    progress(0.5, float("nan"))
    total, straight = NormalSums.total([both for both, _ in sums]), NormalSums.total([one for _, one in sums])
    ridge = solve(total)
    plain = least_squares(straight, len(ridge.readout))
    share = 0.0
    if len(training.spectra) >= FEWEST_PIXELS and len(sums) > 1:
        share = held_out_share(sums, subspace.decode.T @ subspace.decode)
    layers, unit = None, torch.eye(subspace.decode.shape[1], dtype=torch.float64, device=device)
    network_share = 0.0
    if learned and training.weights.shape[0] > 1:  # with one band it does not help
        network_share = NETWORK_SHARE * (1 - share) / (1 + NETWORK_PIXELS / len(training.spectra))
        layers, unit = learn_network(training, mapping, subspace, plain[features:], seed)
    readout = (1 - share - network_share) * ridge.readout + share * plain
    network = _network(mapping, readout, subspace, layers, network_share * torch.linalg.inv(unit))
    simulated = training.simulated
    model = SpectralModel("auto", network, simulated.min(axis=0), simulated.max(axis=0))
    error = model.apply(simulated.T)
    error -= training.spectra.T
    loss = float(np.abs(error, out=error).mean())
    progress(1.0, loss)
    choices = {
        "pixels": len(training.spectra),
        "components": int(subspace.decode.shape[1]),
        "features": features,
        "copies": count,
        "input_noise": input_noise(training).tolist(),
        "linear_share": share,
        "network_share": network_share,
        "ridges": ridge.ridges.tolist(),
        "degrees_of_freedom": [round(value, 1) for value in ridge.freedom.tolist()],
        "training_error": loss,
    }
    return replace(model, choices=choices)


def learn_network(
    training: TrainingSet, mapping: FeatureMap, subspace: Subspace, linear: torch.Tensor, seed: int
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The trained network, on V (x − m), and the (K, K) matrix that brings t to its outputs."""
    plain, detail, simulated, simulated_detail = project(training, subspace)
    unit = torch.linalg.qr(subspace.decode).R.T
    unit = unit / (plain @ unit).square().sum(1).mean().sqrt().clamp_min(1e-12)
    inputs, input_detail = (part @ mapping.linear.T for part in (simulated - mapping.centre, simulated_detail))
    seen_noise = mapping.linear * input_noise(training).to(mapping.linear.device)
    least = INPUT_NOISE**2 * torch.eye(len(seen_noise), dtype=torch.float64, device=seen_noise.device)
    noise = torch.linalg.cholesky(least + seen_noise @ seen_noise.T)
    layers = train_network(inputs, input_detail, plain @ unit, detail @ unit, linear @ unit, noise, seed)
    return layers, unit


def sharpen(
    training: TrainingSet, copies: int, seed: int, device: str = "cpu"
) -> tuple[Subspace, list[SharpenedPixels]]:
    """The subspace, and the training pairs of y + a (y − local mean) in it; a = 0 in the first copy.

    The SRF is linear, so the pairs are exact: they imitate undoing the blur of the HSI's pixels. The MSI values are as
    noisy as those the model will meet, or it would take their noise for information.
    """
    subspace = find_subspace(torch.from_numpy(training.spectra).to(device), spare=True)
    plain, detail, simulated, simulated_detail = project(training, subspace)
    generator, noise_generator = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed)
    seen_noise = input_noise(training).to(plain.device)
    pixels = []
    for index in range(copies):
        amount = torch.zeros(len(plain), 1, dtype=torch.float64)
        if index:  # strata: the copies of one pixel share the range evenly
            drawn = torch.rand(len(plain), 1, generator=generator, dtype=torch.float64)
            amount = (drawn + index - 1) * (MAX_SHARPENING / (copies - 1))
        amount = amount.to(plain.device)
        noise = (1 + amount * 8 / 9).square() + amount.square() * 8 / 81  # of a pixel and its eight neighbours
        drawn = torch.randn(simulated.shape, generator=noise_generator, dtype=torch.float64).to(plain.device)
        inputs = simulated + amount * simulated_detail + drawn * seen_noise
        pixels.append(SharpenedPixels(plain + amount * detail, inputs, 1 / (1 + noise[:, 0])))
    scale = len(plain) / float(torch.cat([part.weights for part in pixels]).sum())
    return subspace, [SharpenedPixels(p.targets, p.inputs, p.weights * scale) for p in pixels]


def draw_features(inputs: torch.Tensor, plain: torch.Tensor, count: int, seed: int) -> FeatureMap:
    """Low-discrepancy normal directions and biases, in half-whitened MSI values of scale one.

    Half-whitening lets the differences between bands count more than brightness does, without blowing up noise.
    """
    c = inputs.shape[1]
    centre = plain.mean(0)
    least = max(1e-6 * float(centre.abs().max()), 1e-12)  # a constant scene has no contrast of its own
    scale = plain.var(0, correction=0).mean().sqrt().clamp_min(least)
    covariance = torch.cov(((inputs - centre) / scale).T, correction=0).reshape(c, c)
    values, vectors = torch.linalg.eigh(covariance)
    values = values.clamp_min(max(float(values.max()) * 1e-4, 1e-6))
    whitening = (vectors * values ** (-WHITENING / 2)) @ vectors.T
    whitening = whitening / (values ** (1 - WHITENING)).mean().sqrt() / scale
    engine = torch.quasirandom.SobolEngine(c + 1, scramble=True, seed=seed)  # type: ignore[no-untyped-call]
    uniform = engine.draw(count, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
    drawn = torch.special.ndtri(uniform).to(inputs.device)
    weight = drawn[:, :c] @ whitening
    return FeatureMap(weight, drawn[:, c] - weight @ centre, whitening, centre)


def _fold_sums(
    mapping: FeatureMap, pixels: list[SharpenedPixels], members: torch.Tensor, pool: ThreadPoolExecutor
) -> tuple[NormalSums, NormalSums]:
    """Sums of one fold: over all copies with all features, and over the plain copy with the linear ones."""
    columns = pixels[0].inputs.shape[1] + 1
    chosen = [SharpenedPixels(p.targets[members], p.inputs[members], p.weights[members]) for p in pixels]
    first, ones = chosen[0], torch.ones_like(chosen[0].weights)
    everything = [accumulate(mapping, p.inputs, p.targets, p.weights, pool) for p in chosen]
    linear = accumulate(lambda x: mapping(x)[:, -columns:], first.inputs, first.targets, ones, pool)
    return NormalSums.total(everything), linear


def _network(
    mapping: FeatureMap,
    readout: torch.Tensor,
    subspace: Subspace,
    learned: list[torch.Tensor] | None,
    outward: torch.Tensor,
) -> Network:
    """The same function as one network: a drawn layer and the learned ones side by side, a linear path, a basis.

    The drawn layer has the learned ones' slope s: max(z, 0) = (leaky(z) − s z) / (1 − s).
    """
    count = len(mapping.bias)
    drawn = readout[:count].T * (2 / count) ** 0.5
    skip = readout[count:-1].T @ mapping.linear - SLOPE / (1 - SLOPE) * drawn @ mapping.weight
    level = readout[-1] - readout[count:-1].T @ mapping.linear @ mapping.centre
    level = level - SLOPE / (1 - SLOPE) * drawn @ mapping.bias
    weights, biases, heads = [mapping.weight], [mapping.bias], [drawn / (1 - SLOPE)]
    sources, residuals = [INPUT], [NO_RESIDUAL]
    if learned is not None:
        parts = [part.double().to(level.device) for part in learned]
        head, straight, constant = ((part @ outward).T for part in parts[-3:])
        hidden, offsets = [part.T for part in parts[:-3:2]], [part[0] for part in parts[1:-3:2]]
        offsets[0] = offsets[0] - hidden[0] @ mapping.linear @ mapping.centre
        hidden[0] = hidden[0] @ mapping.linear
        weights, biases, heads = weights + hidden, biases + offsets, [*heads, head]
        skip = skip + straight @ mapping.linear
        level = level + constant[:, 0] - straight @ mapping.linear @ mapping.centre
        sources += [INPUT, *range(1, len(hidden))]
        residuals += [NO_RESIDUAL, *range(1, len(hidden))]

    def plain(tensor: torch.Tensor) -> Floats:
        return tensor.cpu().numpy().astype(np.float32)

    return Network(
        weights=tuple(plain(weight) for weight in weights),
        biases=tuple(plain(bias) for bias in biases),
        residuals=tuple(residuals),
        slope=SLOPE,
        head=plain(torch.cat(heads, 1)),
        skip=plain(skip),
        basis=plain(subspace.decode),
        offset=plain(subspace.mean + subspace.decode @ level),
        sources=tuple(sources),
    )
