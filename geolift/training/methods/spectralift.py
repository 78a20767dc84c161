"""SpectraLift as published: the baseline, kept exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from geolift.network.formula import NO_RESIDUAL, Floats, Network
from geolift.network.model import SpectralModel, TrainingStep
from geolift.training.methods.common import Progress
from geolift.training.training_set import TrainingSet

CHUNK_PIXELS = 2048
"""Rows whose gradient is summed at once. Fixed, so that sums do not depend on the number of threads."""


@dataclass(frozen=True, kw_only=True)
class PublishedSettings:
    """The settings of the authors of SpectraLift (arXiv 2507.13339), from their benchmark example."""

    width: int = 64
    slope: float = 0.3
    epochs: int = 2500
    first_rate: float = 1e-3
    peak_rate: float = 1e-2
    last_rate: float = 1e-6
    rising_share: float = 0.3
    residuals: tuple[int, ...] = (NO_RESIDUAL, 0, NO_RESIDUAL, 1, NO_RESIDUAL, 3)

    def learning_rate(self, epoch: int) -> float:
        """Linear from the first to the peak rate, then linear to the last."""
        peak_epoch = self.rising_share * self.epochs
        if epoch < peak_epoch:
            return self.first_rate + (self.peak_rate - self.first_rate) * epoch / peak_epoch
        falling = (epoch - peak_epoch) / max(self.epochs - 1 - peak_epoch, 1)
        return self.peak_rate + (self.last_rate - self.peak_rate) * min(falling, 1.0)


def glorot_uniform(outputs: int, inputs: int, generator: torch.Generator) -> torch.Tensor:
    """(outputs, inputs) uniform in ± sqrt(6 / (inputs + outputs)) (Glorot and Bengio 2010, eq. 16)."""
    bound = (6 / (inputs + outputs)) ** 0.5
    return torch.empty(outputs, inputs).uniform_(-bound, bound, generator=generator)


Loss = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""From (n, K) outputs and (n, C) targets to the loss, a float64 sum, and its (n, K) gradient."""


class LayerStack:
    """Parameters of a residual network as views of one flat vector, with its gradient by hand.

    One flat vector makes the optimiser a few long operations; the gradient by hand costs no graph and
    runs in threads without sharing anything.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], residuals: Sequence[int], slope: float) -> None:
        self.shapes, self.residuals, self.slope = list(shapes), list(residuals), slope
        self.size = sum(outputs * inputs + outputs for outputs, inputs in shapes)

    def views(self, flat: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The (weight, bias) of each layer inside the flat vector."""
        layers, start = [], 0
        for outputs, inputs in self.shapes:
            weight = flat[start : start + outputs * inputs].view(outputs, inputs)
            start += outputs * inputs
            layers.append((weight, flat[start : start + outputs]))
            start += outputs
        return layers

    def glorot(self, generator: torch.Generator) -> torch.Tensor:
        """Fresh parameters: Glorot-uniform weights, biases zero."""
        flat = torch.zeros(self.size)
        for (weight, _), (outputs, inputs) in zip(self.views(flat), self.shapes, strict=True):
            weight.copy_(glorot_uniform(outputs, inputs, generator))
        return flat

    def gradient(
        self, flat: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor, loss: Loss
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of f(inputs) and its gradient with respect to the flat parameters."""
        layers = self.views(flat)
        activated, outputs = [], [inputs]
        for (weight, bias), residual in zip(layers[:-1], self.residuals, strict=True):
            hidden = torch.nn.functional.leaky_relu_(torch.addmm(bias, outputs[-1], weight.T), self.slope)
            activated.append(hidden)
            outputs.append(hidden if residual == NO_RESIDUAL else hidden + outputs[residual + 1])
        value, upstream = loss(torch.addmm(layers[-1][1], outputs[-1], layers[-1][0].T), targets)
        gradient = torch.empty_like(flat)
        slots = self.views(gradient)
        torch.mm(upstream.T, outputs[-1], out=slots[-1][0])
        torch.sum(upstream, 0, out=slots[-1][1])
        behind: list[torch.Tensor | None] = [None] * len(outputs)
        behind[-1] = upstream @ layers[-1][0]
        for index in range(len(layers) - 2, -1, -1):
            here = behind[index + 1]
            assert here is not None
            residual = self.residuals[index]
            if residual != NO_RESIDUAL:
                behind[residual + 1] = _added(behind[residual + 1], here)
            local = torch.ops.aten.leaky_relu_backward(here, activated[index], self.slope, True)
            torch.mm(local.T, outputs[index], out=slots[index][0])
            torch.sum(local, 0, out=slots[index][1])
            if index:
                behind[index] = _added(behind[index], local @ layers[index][0])
        return value, gradient


def absolute_error(outputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of |outputs − targets| and its gradient with respect to the outputs, which are overwritten."""
    error = outputs.sub_(targets)
    return error.abs().sum(dtype=torch.float64), error.sign_()


def _added(total: torch.Tensor | None, term: torch.Tensor) -> torch.Tensor:
    return term if total is None else total + term


def fit_published(
    training: TrainingSet,
    seed: int,
    device: str,
    pool: ThreadPoolExecutor,
    progress: Progress,
    *,
    unit_scale: bool = False,
    epochs: int | None = None,
) -> SpectralModel:
    """SpectraLift exactly as published; ``unit_scale`` keeps inputs that are in [0, 1] and clips to it."""
    settings = PublishedSettings() if epochs is None else PublishedSettings(epochs=epochs)
    low, high = (0.0, 1.0) if unit_scale else _percentile_range(training.spectra)
    simulated = training.simulated
    inputs = torch.tensor((simulated - low) / (high - low), device=device, dtype=torch.float32)
    targets = torch.tensor((training.spectra - low) / (high - low), device=device, dtype=torch.float32)
    width, hidden = settings.width, len(settings.residuals)
    shapes = [(width, inputs.shape[1])] + [(width, width)] * (hidden - 1) + [(targets.shape[1], width)]
    stack = LayerStack(shapes, settings.residuals, settings.slope)
    flat = stack.glorot(torch.Generator().manual_seed(seed)).to(device)
    history = full_batch_adam(stack, flat, inputs, targets, settings, pool, progress)
    network = _folded(stack, flat.cpu(), low, high, clip=(0.0, 1.0) if unit_scale else None)
    return SpectralModel(
        method="spectralift",
        network=network,
        training_low=simulated.min(axis=0),
        training_high=simulated.max(axis=0),
        history=history,
        choices={"scale_low": low, "scale_high": high, "epochs": settings.epochs, "pixels": len(simulated)},
    )


def _percentile_range(spectra: Floats) -> tuple[float, float]:
    low, high = (float(value) for value in np.percentile(spectra, (1, 99)))
    return (low, high) if high > low else (low, low + 1.0)  # a constant scene: any scale will do


def full_batch_adam(
    stack: LayerStack,
    flat: torch.Tensor,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    settings: PublishedSettings,
    pool: ThreadPoolExecutor,
    progress: Progress,
    loss: Loss = absolute_error,
) -> tuple[TrainingStep, ...]:
    """Adam on the mean loss of all pixels' values; updates ``flat`` in place."""
    size = CHUNK_PIXELS if flat.device.type == "cpu" else len(inputs)  # a GPU is one worker, and wants large products
    chunks = [(inputs[i : i + size], targets[i : i + size]) for i in range(0, len(inputs), size)]
    optimiser = torch.optim.Adam([flat], lr=settings.first_rate, eps=1e-7)
    history = []
    every = max(settings.epochs // 200, 1)

    def part(chunk: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode():
            return stack.gradient(flat, *chunk, loss)

    for epoch in range(settings.epochs):
        rate = settings.learning_rate(epoch)
        parts = list(pool.map(part, chunks) if len(chunks) > 1 else map(part, chunks))
        gradient = parts[0][1].clone()
        for _, term in parts[1:]:
            gradient += term
        flat.grad = gradient / targets.numel()
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()
        if epoch % every == 0 or epoch == settings.epochs - 1:  # a GPU is waited for only here
            mean = sum(float(p[0]) for p in parts) / targets.numel()
            history.append(TrainingStep(epoch, mean, rate))
            progress((epoch + 1) / settings.epochs, mean)
    return tuple(history)


def _folded(
    stack: LayerStack, flat: torch.Tensor, low: float, high: float, clip: tuple[float, float] | None
) -> Network:
    """The network with inputs (x − low) / (high − low) and outputs low + y · (high − low) in its weights."""
    layers = [(w.double().numpy(), b.double().numpy()) for w, b in stack.views(flat)]
    span = high - low
    first, bias = layers[0]
    layers[0] = (first / span, bias - first.sum(axis=1) * low / span)
    head, offset = layers[-1]
    return Network(
        weights=tuple(w.astype(np.float32) for w, _ in layers[:-1]),
        biases=tuple(b.astype(np.float32) for _, b in layers[:-1]),
        residuals=tuple(stack.residuals),
        slope=stack.slope,
        head=(head * span).astype(np.float32),
        skip=None,
        basis=None,
        offset=(offset * span + low).astype(np.float32),
        clip=clip,
    )
