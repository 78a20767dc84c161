"""A small residual network trained on sharpened pixels: the part of the default method that learns its features."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from geolift.training.draws import Draws, box_muller

Floats = NDArray[np.float32]
DoubleArray = NDArray[np.float64]

DEPTH = 4
WIDTH = 64
SLOPE = 0.3
FEWEST_STEPS, MOST_STEPS = 200, 1000
BATCH = 256
PEAK_RATE = 5e-3
RISING_SHARE = 0.2
MOST_SHARPENING = 5.0
SHARPENED = 0.8  # probability
DECAY = 1e-2
SOFTNESS = 1e-2  # errors below this share of the scene's contrast count squared
STEPS_DRAWN = 50  # at once

Layers = Sequence[Floats]


def train_network(
    inputs: DoubleArray,
    input_detail: DoubleArray,
    targets: DoubleArray,
    target_detail: DoubleArray,
    linear: DoubleArray,
    noise: DoubleArray,
    seed: int,
) -> list[Floats]:
    """Learn targets + a · detail from inputs + a · detail, a drawn anew in every step; starts at least squares.

    The loss is the mean length of the error, not its square, so that bright pixels do not decide alone. Returns
    float32: weight (inputs, units) and bias (1, units) of each layer, then head, skip and constant.

    Parameters
    ----------
    inputs, input_detail
        (n, c), of scale one, and what is added for each unit of sharpening.
    targets, target_detail
        (n, K) in orthonormal coordinates of scale one, and likewise.
    linear
        (c + 1, K) linear head of least squares, its constant last.
    noise
        (c, c) factor L of the covariance L Lᵀ of what is added to the inputs, drawn anew in every step.

    References
    ----------
    I. Loshchilov, F. Hutter, Decoupled weight decay regularization, arXiv 1711.05101.
    """
    draws = Draws(seed)
    n, c = inputs.shape
    plain, detail = (
        np.concatenate(parts, axis=1).astype(np.float32) for parts in ((inputs, targets), (input_detail, target_detail))
    )
    colour = noise.T.astype(np.float32)
    flat, layers = _start(c, targets.shape[1], linear.astype(np.float32), draws)
    gradient, first, second, scratch = (np.zeros_like(flat) for _ in range(4))
    network = _Gradient(layers, _views(gradient, [layer.shape for layer in layers]))
    steps = min(max(n, FEWEST_STEPS), MOST_STEPS)
    for step, (chosen, amount, drawn) in enumerate(_batches(draws, n, c, steps)):
        pair = detail[chosen]
        pair *= amount
        pair += plain[chosen]
        network(pair[:, :c] + drawn @ colour, pair[:, c:])
        rate = _rate(step, steps)
        np.subtract(gradient, first, out=scratch)
        scratch *= np.float32(0.1)
        first += scratch
        np.multiply(gradient, gradient, out=scratch)
        scratch -= second
        scratch *= np.float32(0.01)
        second += scratch
        flat *= np.float32(1 - rate * DECAY)
        np.multiply(second, np.float32(1 / (1 - 0.99 ** (step + 1))), out=scratch)
        np.sqrt(scratch, out=scratch)
        scratch += np.float32(1e-8)
        np.divide(first, scratch, out=scratch)
        scratch *= np.float32(-rate / (1 - 0.9 ** (step + 1)))
        flat += scratch
    return layers


def evaluate(layers: Layers, inputs: DoubleArray) -> Floats:
    """(n, K) float32 outputs for (n, c) inputs."""
    x = hidden = inputs.astype(np.float32)
    for index in range(DEPTH):
        product = hidden @ layers[2 * index] + layers[2 * index + 1]
        activated = np.maximum(product, SLOPE * product)
        hidden = activated + hidden if index else activated
    return np.asarray(hidden @ layers[-3] + x @ layers[-2] + layers[-1], np.float32)


def _rate(step: int, steps: int) -> float:
    """One cycle: linear up, half a cosine down."""
    rising = int(RISING_SHARE * steps)
    if step < rising:
        return PEAK_RATE * (0.04 + 0.96 * step / rising)
    return PEAK_RATE * 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))


def _batches(draws: Draws, n: int, bands: int, steps: int) -> Iterator[tuple[NDArray[np.intp], Floats, Floats]]:
    """Per step which pixels (BATCH,), how much they are sharpened (BATCH, 1), and normal numbers (BATCH, bands)."""
    words = BATCH * (3 + bands)
    for start in range(0, steps, STEPS_DRAWN):
        count = min(STEPS_DRAWN, steps - start)
        drawn = draws.words(count * words).reshape(count, words)
        chosen = (drawn[:, :BATCH] % np.uint64(n)).astype(np.intp)
        uniform = (drawn[:, BATCH:] & np.uint64(2**24 - 1)).astype(np.float32) * np.float32(2.0**-24)
        amount = uniform[:, :BATCH] * np.float32(MOST_SHARPENING)
        amount *= uniform[:, BATCH : 2 * BATCH] < SHARPENED
        normal = box_muller(uniform[:, 2 * BATCH :].reshape(-1, 16)).reshape(count, BATCH, bands)
        yield from zip(chosen, amount[:, :, None], normal, strict=True)


def _views(flat: Floats, shapes: Sequence[tuple[int, ...]]) -> list[Floats]:
    parts, start = [], 0
    for rows, cols in shapes:
        parts.append(flat[start : start + rows * cols].reshape(rows, cols))
        start += rows * cols
    return parts


def _start(inputs: int, outputs: int, linear: Floats, draws: Draws) -> tuple[Floats, list[Floats]]:
    """Drawn hidden layers, a head of zeros, the linear path of least squares."""
    shapes = [(inputs, WIDTH), (1, WIDTH)] + [(WIDTH, WIDTH), (1, WIDTH)] * (DEPTH - 1)
    shapes += [(WIDTH, outputs), (inputs, outputs), (1, outputs)]
    flat = np.zeros(sum(rows * cols for rows, cols in shapes), np.float32)
    layers = _views(flat, shapes)
    for index in range(DEPTH):
        gain = (2 / shapes[2 * index][0]) ** 0.5 * (0.5 if index else 1.0)
        layers[2 * index][...] = _normal(draws, *shapes[2 * index]) * np.float32(gain)
    layers[1][...] = _normal(draws, 1, WIDTH) * np.float32(0.5)
    layers[-2][...] = linear[:-1]
    layers[-1][...] = linear[-1:]
    return flat, layers


def _normal(draws: Draws, rows: int, cols: int) -> Floats:
    uniform = (draws.words(rows * cols) & np.uint64(2**24 - 1)).astype(np.float32) * np.float32(2.0**-24)
    return np.asarray(box_muller(uniform.reshape(-1, 16)).reshape(rows, cols), np.float32)


class _Gradient:
    """The gradient of the mean length of the error of a batch, written into ``slots``; its memory is used again."""

    def __init__(self, layers: Layers, slots: Layers) -> None:
        self.layers, self.slots = layers, slots
        shape = BATCH, WIDTH
        self._activated, self._summed = np.empty((2, DEPTH, *shape), np.float32)
        self._upstream, self._local, self._product = np.empty((3, *shape), np.float32)
        self._ones = np.ones((1, BATCH), np.float32)

    def __call__(self, x: Floats, target: Floats) -> None:
        """Of (BATCH, c) inputs and (BATCH, K) targets."""
        layers, slots, upstream, product = self.layers, self.slots, self._upstream, self._product
        error = self._output(x)
        error -= target
        length = np.sqrt(np.einsum("nk,nk->n", error, error) + np.float32(SOFTNESS**2))
        error *= (np.float32(1.0 / BATCH) / length)[:, None]
        for slot, left in zip(slots[-3:], (self._summed[-1].T, x.T, self._ones), strict=True):
            np.matmul(left, error, out=slot)
        np.matmul(error, layers[-3].T, out=upstream)
        for index in range(DEPTH - 1, -1, -1):
            local = self._local
            np.multiply(self._activated[index] > 0, np.float32(1 - SLOPE), out=local)
            local += np.float32(SLOPE)
            local *= upstream
            np.matmul((self._summed[index - 1] if index else x).T, local, out=slots[2 * index])
            np.matmul(self._ones, local, out=slots[2 * index + 1])
            if index:
                upstream += np.matmul(local, layers[2 * index].T, out=product)

    def _output(self, x: Floats) -> Floats:
        """(BATCH, K) outputs; keeps the activations, and the activations with the layer before added."""
        layers, hidden = self.layers, x
        for index in range(DEPTH):
            activated, summed = self._activated[index], self._summed[index]
            np.matmul(hidden, layers[2 * index], out=activated)
            activated += layers[2 * index + 1]
            np.maximum(activated, np.multiply(activated, np.float32(SLOPE), out=self._product), out=activated)
            if index:
                np.add(activated, hidden, out=summed)
            else:
                summed[...] = activated
            hidden = summed
        return np.asarray(hidden @ layers[-3] + x @ layers[-2] + layers[-1])
