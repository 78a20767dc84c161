"""Kernel regression with drawn rectifier features on sharpened pixels, averaged with a small network: the default.

One hidden layer whose weights are drawn, not learned; its linear head is ridge regression whose ridge is chosen by
the evidence of the data, per spectral component. As the layer widens, this becomes Gaussian-process regression
with the arc-cosine kernel of order one. A share of plain least squares, chosen on held-out blocks, steadies it
where pixels are few. `docs/method.md` gives equations and measurements.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from geolift.network.formula import INPUT, NO_RESIDUAL, Floats, Network
from geolift.network.model import SpectralModel
from geolift.training.draws import Draws, sobol_points
from geolift.training.methods.common import Progress, input_noise
from geolift.training.methods.normal import NormalSums, accumulate, held_out_share, solve, steady_line
from geolift.training.methods.small_network import SLOPE, train_network
from geolift.training.methods.subspace import Subspace, project, subspace_of
from geolift.training.training_set import TrainingSet, position_hash

DoubleArray = NDArray[np.float64]

WHITENING = 0.5  # exponent: 0 keeps the MSI's covariance, 1 removes it
MAX_SHARPENING = 4.0
MAX_COPIES = 6
MAX_ROWS = 100_000
INPUT_NOISE = 0.1  # of half-whitened inputs: the strongest of what keeps few pixels from being learned by heart
NETWORK_SHARE = 0.5  # of what the line leaves
FOLDS = 5
FOLD_BLOCK_PIXELS = 3
FULLY_SHARPENED = 144  # from so many pixels on
MANY_PIXELS = 250  # from here on held-out pixels choose the line's share alone
USUAL_LINE, USUAL_LINE_PER_BAND = 0.6, 0.4  # its share where they are few, at most and for each MSI band


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

    weight: DoubleArray
    bias: DoubleArray
    linear: DoubleArray
    centre: DoubleArray

    def __call__(self, inputs: DoubleArray) -> DoubleArray:
        """(n, F + c + 1) features of (n, c) MSI values."""
        hidden = np.maximum(inputs @ self.weight.T + self.bias, 0) * (2 / len(self.bias)) ** 0.5
        straight = (inputs - self.centre) @ self.linear.T
        return np.concatenate([hidden, straight, np.ones((len(inputs), 1))], axis=1)


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

    targets: DoubleArray
    inputs: DoubleArray
    weights: DoubleArray


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

    Without what is ``learned`` step by step it is closed-form regression alone. Either takes a core a second or two, so
    it is done on the CPU whatever the ``device``.
    """
    training = _gently_sharpened(training)
    count = copies or max(2, min(MAX_COPIES, MAX_ROWS // len(training.spectra)))
    subspace, pixels = sharpen(training, count, seed)
    progress(0.1, float("nan"))
    mapping = random_features(np.concatenate([part.inputs for part in pixels]), pixels[0].inputs, features, seed)
    fold = position_hash(training.rows // FOLD_BLOCK_PIXELS, training.cols // FOLD_BLOCK_PIXELS, seed) % FOLDS
    parts = [np.flatnonzero(fold == index) for index in range(FOLDS)]
    simulated = training.simulated
    sums = [_fold_sums(mapping, pixels, simulated, part, pool) for part in parts if len(part)]
    progress(0.5, float("nan"))
    total, straight = NormalSums.total([both for both, _ in sums]), NormalSums.total([one for _, one in sums])
    ridge = solve(total)
    spread = mapping.linear * input_noise(training)
    line = partial(steady_line, noise=spread @ spread.T, rows=len(ridge.head))
    plain = line(straight)
    share = held_out_share(sums, line, subspace.decode.T @ subspace.decode) if len(sums) > 1 else 0.0
    share = _shrunk(share, len(training.spectra) if len(sums) > 1 else 1, len(training.weights))
    layers, outward = None, np.eye(subspace.decode.shape[1])
    network_share = 0.0
    if learned and training.weights.shape[0] > 1:  # with one band it does not help
        network_share = NETWORK_SHARE * (1 - share)
        layers, unit = learn_network(training, mapping, subspace, plain[features:], seed)
        outward = np.asarray(np.linalg.inv(unit), np.float64)
    head = (1 - share - network_share) * ridge.head + share * plain
    network = _network(mapping, head, subspace, layers, network_share * outward)
    model = SpectralModel(
        method="auto", network=network, training_low=simulated.min(axis=0), training_high=simulated.max(axis=0)
    )
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
    training: TrainingSet, mapping: FeatureMap, subspace: Subspace, linear: DoubleArray, seed: int
) -> tuple[list[Floats], DoubleArray]:
    """The trained network, on V (x − m), and the (K, K) matrix that brings t to its outputs."""
    plain, detail, simulated, simulated_detail = project(training, subspace)
    unit = np.asarray(np.linalg.qr(subspace.decode, mode="r"), np.float64).T
    unit = unit / max(float(np.sqrt(np.square(plain @ unit).sum(axis=1).mean())), 1e-12)
    inputs, input_detail = (part @ mapping.linear.T for part in (simulated - mapping.centre, simulated_detail))
    seen_noise = mapping.linear * input_noise(training)
    least = INPUT_NOISE**2 * np.eye(len(seen_noise))
    noise = np.asarray(np.linalg.cholesky(least + seen_noise @ seen_noise.T), np.float64)
    layers = train_network(inputs, input_detail, plain @ unit, detail @ unit, linear @ unit, noise, seed)
    return layers, unit


def _shrunk(share: float, pixels: int, bands: int) -> float:
    """Draw a share chosen on few held-out pixels, which is nearly a matter of chance, towards the usual one."""
    weight = max(0.0, MANY_PIXELS / pixels - 1.0)
    return (share + min(USUAL_LINE, USUAL_LINE_PER_BAND * bands) * weight) / (1.0 + weight)


def _gently_sharpened(training: TrainingSet) -> TrainingSet:
    """Bring the local means nearer to their pixels where these are few.

    Three by three of few pixels are a good part of the scene: what a pixel has beside such a mean is another material
    rather than the detail that the blur has hidden.
    """
    share = (len(training.spectra) / FULLY_SHARPENED) ** 0.5
    if share >= 1:
        return training
    means = training.spectra + np.float32(share) * (training.neighbour_means - training.spectra)
    return replace(training, neighbour_means=means)


def sharpen(training: TrainingSet, copies: int, seed: int) -> tuple[Subspace, list[SharpenedPixels]]:
    """The subspace, and the training pairs of y + a (y − local mean) in it; a = 0 in the first copy.

    The SRF is linear, so the pairs are exact: they imitate undoing the blur of the HSI's pixels. The MSI values are as
    noisy as those the model will meet, or it would take their noise for information.
    """
    subspace = subspace_of(training, spare=True)
    plain, detail, simulated, simulated_detail = project(training, subspace)
    draws, noise_draws = Draws(seed), Draws(seed)
    seen_noise = input_noise(training)
    pixels = []
    for index in range(copies):
        amount = np.zeros((len(plain), 1))
        if index:  # strata: the copies of one pixel share the range evenly
            amount = (draws.uniform(len(plain), 1) + index - 1) * (MAX_SHARPENING / (copies - 1))
        noise = np.square(1 + amount * 8 / 9) + np.square(amount) * 8 / 81  # of a pixel and its eight neighbours
        inputs = simulated + amount * simulated_detail + noise_draws.normal(*simulated.shape) * seen_noise
        pixels.append(SharpenedPixels(plain + amount * detail, inputs, 1 / (1 + noise[:, 0])))
    scale = len(plain) / float(np.concatenate([part.weights for part in pixels]).sum())
    return subspace, [SharpenedPixels(p.targets, p.inputs, p.weights * scale) for p in pixels]


def random_features(inputs: DoubleArray, plain: DoubleArray, count: int, seed: int) -> FeatureMap:
    """Low-discrepancy normal directions and biases, in half-whitened MSI values of scale one.

    Half-whitening lets the differences between bands count more than brightness does, without blowing up noise.
    """
    c = inputs.shape[1]
    centre = plain.mean(axis=0)
    least = max(1e-6 * float(np.abs(centre).max()), 1e-12)  # a constant scene has no contrast of its own
    scale = max(float(np.sqrt(plain.var(axis=0).mean())), least)
    covariance = np.atleast_2d(np.cov(((inputs - centre) / scale).T, bias=True))
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, max(float(values.max()) * 1e-4, 1e-6))
    whitening = (vectors * values ** (-WHITENING / 2)) @ vectors.T
    whitening = whitening / np.sqrt((values ** (1 - WHITENING)).mean()) / scale
    uniform = np.clip(sobol_points(count, c + 1, seed), 1e-6, 1 - 1e-6)
    drawn = np.vectorize(NormalDist().inv_cdf)(uniform)
    weight = drawn[:, :c] @ whitening
    return FeatureMap(weight, drawn[:, c] - weight @ centre, whitening, centre)


def _fold_sums(
    mapping: FeatureMap,
    pixels: list[SharpenedPixels],
    simulated: Floats,
    members: NDArray[np.intp],
    pool: ThreadPoolExecutor,
) -> tuple[NormalSums, NormalSums]:
    """Sums of one fold: over all copies with all features, and over plain pixels without noise with the linear ones."""
    columns = pixels[0].inputs.shape[1] + 1
    chosen = [SharpenedPixels(p.targets[members], p.inputs[members], p.weights[members]) for p in pixels]
    first, ones = chosen[0], np.ones_like(chosen[0].weights)
    everything = [accumulate(mapping, p.inputs, p.targets, p.weights, pool) for p in chosen]
    linear = accumulate(
        lambda x: mapping(x)[:, -columns:], simulated[members].astype(np.float64), first.targets, ones, pool
    )
    return NormalSums.total(everything), linear


def _network(
    mapping: FeatureMap, head: DoubleArray, subspace: Subspace, learned: list[Floats] | None, outward: DoubleArray
) -> Network:
    """The same function as one network: a drawn layer and the learned ones side by side, a linear path, a basis.

    The drawn layer has the learned ones' slope s: max(z, 0) = (leaky(z) − s z) / (1 − s).
    """
    count = len(mapping.bias)
    drawn = head[:count].T * (2 / count) ** 0.5
    skip = head[count:-1].T @ mapping.linear - SLOPE / (1 - SLOPE) * drawn @ mapping.weight
    level = head[-1] - head[count:-1].T @ mapping.linear @ mapping.centre
    level = level - SLOPE / (1 - SLOPE) * drawn @ mapping.bias
    weights, biases, heads = [mapping.weight], [mapping.bias], [drawn / (1 - SLOPE)]
    sources, residuals = [INPUT], [NO_RESIDUAL]
    if learned is not None:
        parts = [part.astype(np.float64) for part in learned]
        head, straight, constant = ((part @ outward).T for part in parts[-3:])
        hidden, offsets = [part.T for part in parts[:-3:2]], [part[0] for part in parts[1:-3:2]]
        offsets[0] = offsets[0] - hidden[0] @ mapping.linear @ mapping.centre
        hidden[0] = hidden[0] @ mapping.linear
        weights, biases, heads = weights + hidden, biases + offsets, [*heads, head]
        skip = skip + straight @ mapping.linear
        level = level + constant[:, 0] - straight @ mapping.linear @ mapping.centre
        sources += [INPUT, *range(1, len(hidden))]
        residuals += [NO_RESIDUAL, *range(1, len(hidden))]

    def plain(array: DoubleArray) -> Floats:
        return array.astype(np.float32)

    return Network(
        weights=tuple(plain(weight) for weight in weights),
        biases=tuple(plain(bias) for bias in biases),
        residuals=tuple(residuals),
        slope=SLOPE,
        head=plain(np.concatenate(heads, axis=1)),
        skip=plain(skip),
        basis=plain(subspace.decode),
        offset=plain(subspace.mean + subspace.decode @ level),
        sources=tuple(sources),
    )
