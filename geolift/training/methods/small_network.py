"""A small residual network trained on sharpened pixels: the part of the default method that learns its features."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

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

Layers = Sequence[torch.Tensor]


def train_network(
    inputs: torch.Tensor,
    input_detail: torch.Tensor,
    targets: torch.Tensor,
    target_detail: torch.Tensor,
    linear: torch.Tensor,
    noise: torch.Tensor,
    seed: int,
) -> list[torch.Tensor]:
    """Learn targets + a · detail from inputs + a · detail, a drawn anew in every step; starts at least squares.

    The loss is the mean length of the error, not its square, so that bright pixels do not decide alone.

    Parameters
    ----------
    inputs, input_detail
        (n, c), of scale one, and what is added for each unit of sharpening.
    targets, target_detail
        (n, K) in orthonormal coordinates of scale one, and likewise.
    linear
        (c + 1, K) read-out of least squares, its constant last.
    noise
        (c, c) factor L of the covariance L Lᵀ of what is added to the inputs, drawn anew in every step.

    Returns
    -------
    list of torch.Tensor
        float32: weight (inputs, units) and bias (1, units) of each layer, then head, skip and constant.

    References
    ----------
    I. Loshchilov, F. Hutter, Decoupled weight decay regularization, arXiv 1711.05101.
    """
    generator = torch.Generator().manual_seed(seed)
    n, c = inputs.shape
    plain, detail = torch.cat([inputs, targets], 1).float().cpu(), torch.cat([input_detail, target_detail], 1).float()
    detail, colour = detail.cpu(), noise.T.float().cpu()
    flat, layers = _start(c, targets.shape[1], linear.float().cpu(), generator)
    gradient = torch.zeros_like(flat)
    slots = _views(gradient, [layer.shape for layer in layers])
    first, second = torch.zeros_like(flat), torch.zeros_like(flat)
    steps = min(max(n, FEWEST_STEPS), MOST_STEPS)
    for step in range(steps):
        chosen = torch.randint(n, (BATCH,), generator=generator)
        amount = torch.rand(BATCH, 1, generator=generator) * MOST_SHARPENING
        amount *= torch.rand(BATCH, 1, generator=generator) < SHARPENED
        pair = torch.addcmul(plain[chosen], amount, detail[chosen])
        x = torch.addmm(pair[:, :c], torch.randn(BATCH, c, generator=generator), colour)
        _norm_gradient(layers, slots, x, pair[:, c:])
        rate = _rate(step, steps)
        first.lerp_(gradient, 0.1)
        second.mul_(0.99).addcmul_(gradient, gradient, value=0.01)
        flat.mul_(1 - rate * DECAY)
        spread = (second / (1 - 0.99 ** (step + 1))).sqrt_().add_(1e-8)
        flat.addcdiv_(first, spread, value=-rate / (1 - 0.9 ** (step + 1)))
    return layers


def evaluate(layers: Layers, inputs: torch.Tensor) -> torch.Tensor:
    """(n, K) float32 outputs for (n, c) inputs."""
    return _forward(layers, inputs.float().cpu())[0]


def _rate(step: int, steps: int) -> float:
    """One cycle: linear up, half a cosine down."""
    rising = int(RISING_SHARE * steps)
    if step < rising:
        return PEAK_RATE * (0.04 + 0.96 * step / rising)
    return PEAK_RATE * 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))


def _views(flat: torch.Tensor, shapes: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    parts, start = [], 0
    for rows, cols in shapes:
        parts.append(flat[start : start + rows * cols].view(rows, cols))
        start += rows * cols
    return parts


def _start(
    inputs: int, outputs: int, linear: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Drawn hidden layers, a head of zeros, the linear path of least squares."""
    shapes = [(inputs, WIDTH), (1, WIDTH)] + [(WIDTH, WIDTH), (1, WIDTH)] * (DEPTH - 1)
    shapes += [(WIDTH, outputs), (inputs, outputs), (1, outputs)]
    flat = torch.zeros(sum(rows * cols for rows, cols in shapes))
    layers = _views(flat, shapes)
    for index in range(DEPTH):
        gain = (2 / shapes[2 * index][0]) ** 0.5 * (0.5 if index else 1.0)
        layers[2 * index].copy_(torch.randn(shapes[2 * index], generator=generator) * gain)
    layers[1].copy_(torch.randn(1, WIDTH, generator=generator) * 0.5)
    layers[-2].copy_(linear[:-1])
    layers[-1].copy_(linear[-1:])
    return flat, layers


def _forward(layers: Layers, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """Output, activations, and activations with the layer before added."""
    activated: list[torch.Tensor] = []
    summed: list[torch.Tensor] = []
    hidden = x
    for index in range(DEPTH):
        product = torch.addmm(layers[2 * index + 1], hidden, layers[2 * index])
        activated.append(torch.nn.functional.leaky_relu_(product, SLOPE))
        hidden = activated[-1] + hidden if index else activated[-1]
        summed.append(hidden)
    return torch.addmm(layers[-1], hidden, layers[-3]).addmm_(x, layers[-2]), activated, summed


def _norm_gradient(layers: Layers, slots: Layers, x: torch.Tensor, target: torch.Tensor) -> None:
    """Gradient of the mean length of the error, into ``slots``."""
    output, activated, summed = _forward(layers, x)
    error = output - target
    error *= torch.rsqrt(error.square().sum(1, keepdim=True) + SOFTNESS**2) / len(x)
    ones = torch.ones(1, len(x))
    for slot, left in zip(slots[-3:], (summed[-1].T, x.T, ones), strict=True):
        torch.mm(left, error, out=slot)
    upstream = error @ layers[-3].T
    for index in range(DEPTH - 1, -1, -1):
        local = torch.ops.aten.leaky_relu_backward(upstream, activated[index], SLOPE, True)
        torch.mm((summed[index - 1] if index else x).T, local, out=slots[2 * index])
        torch.mm(ones, local, out=slots[2 * index + 1])
        if index:
            upstream = upstream.addmm(local, layers[2 * index].T)
