"""SpectraMorph as published: a spectrum is a mixture of a few endmembers, its abundances come from the MSI."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from geolift.network.backends import made_ready
from geolift.network.formula import NO_RESIDUAL, Network, Unmixing
from geolift.network.model import SpectralModel
from geolift.training.methods.common import Progress
from geolift.training.methods.endmembers import find_endmembers
from geolift.training.methods.spectralift import LayerStack, Loss, PublishedSettings, absolute_error, full_batch_adam
from geolift.training.training_set import TrainingSet

if TYPE_CHECKING:
    from geolift.settings import UnmixingSettings

AUTHORS = PublishedSettings(width=1024, slope=0.0, residuals=(NO_RESIDUAL,))
"""Of arXiv 2510.20814, from their benchmark example: SpectraLift's optimiser and schedule, one hidden layer."""

BRIGHT_PERCENTILE = 99  # of the spectra: the scale at which the network learns


def fit_spectramorph(
    training: TrainingSet,
    seed: int,
    device: str,
    pool: ThreadPoolExecutor,
    progress: Progress,
    *,
    unmixing: UnmixingSettings | None = None,
    unit_scale: bool = False,
    epochs: int | None = None,
) -> SpectralModel:
    """SpectraMorph with the settings of the authors' benchmark example; ``unit_scale`` as in SpectraLift.

    References
    ----------
    R. Shah, M. Duarte, arXiv 2510.20814. Endmembers by non-negative matrix factorisation, one hidden layer of
    1 024 rectifiers, linear abundances. We depart in the scale on rasters: values are divided by a percentile and
    not shifted, so that endmembers are spectra in the unit of the HSI.
    """
    if unmixing is None:
        from geolift.settings import UnmixingSettings  # pydantic is missing where only training is wanted

        unmixing = UnmixingSettings()
    options = unmixing
    settings = AUTHORS if epochs is None else replace(AUTHORS, epochs=epochs)
    scale = 1.0 if unit_scale else _bright(training)
    simulated = training.simulated
    found = find_endmembers(torch.tensor(training.spectra, dtype=torch.float64) / scale, options.endmembers)
    inputs = torch.tensor(simulated / scale, device=device, dtype=torch.float32)
    targets = torch.tensor(training.spectra / scale, device=device, dtype=torch.float32)
    count = len(found.spectra)
    shapes = [(settings.width, inputs.shape[1]), (count, settings.width)]
    stack = LayerStack(shapes, settings.residuals, settings.slope)
    flat = stack.glorot(torch.Generator().manual_seed(seed)).to(device)
    limits = Unmixing(np.zeros(count, np.float32), options.non_negative, options.sum_to_one)
    # Free abundances are learned in the balanced scale of the factorisation, as the authors do.
    balance = torch.ones_like(found.balance) if options.sum_to_one else found.balance
    loss = mixing_error((found.spectra * balance[:, None]).to(device, torch.float32), limits)
    history = full_batch_adam(stack, flat, inputs, targets, settings, pool, progress, loss)
    choices = {
        "endmembers": count,
        "factorisation_rounds": found.rounds,
        "unexplained": found.unexplained,
        "epochs": settings.epochs,
        "pixels": len(simulated),
        "scale": scale,
    }
    clip = (0.0, 1.0) if unit_scale else None
    network = _network(stack, flat.cpu(), found.spectra, balance, limits, scale, clip)
    seen = made_ready(network.abundances())(simulated.T)
    choices["largest_abundance"] = float(np.abs(seen).max())
    return SpectralModel(
        method="spectramorph",
        network=network,
        training_low=simulated.min(axis=0),
        training_high=simulated.max(axis=0),
        history=history,
        choices=choices,
    )


def _bright(training: TrainingSet) -> float:
    level = float(np.percentile(training.spectra, BRIGHT_PERCENTILE))
    return level if level > 0 else 1.0  # a black scene: any scale will do


def mixing_error(endmembers: torch.Tensor, limits: Unmixing) -> Loss:
    """The absolute error of abundances · endmembers as a loss of the free abundances."""

    def loss(free: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        abundances = limits.constrained(free, dim=1)
        value, upstream = absolute_error(abundances @ endmembers, targets)
        slope = upstream @ endmembers.T
        # Projections are linear where they do not bend: what a constraint holds at zero has no slope, and what sums
        # to one only that of the differences.
        free_to_move = (abundances > 0).to(slope.dtype) if limits.non_negative else torch.ones_like(slope)
        slope = slope * free_to_move
        if limits.sum_to_one:
            slope -= free_to_move * slope.sum(1, keepdim=True) / free_to_move.sum(1, keepdim=True)
        return value, slope

    return loss


def _network(
    stack: LayerStack,
    flat: torch.Tensor,
    endmembers: torch.Tensor,
    balance: torch.Tensor,
    limits: Unmixing,
    scale: float,
    clip: tuple[float, float] | None,
) -> Network:
    """The network on physical units: inputs and endmembers carry the scale, the head the balance."""
    (hidden, bias), (head, level) = [(w.double().numpy(), b.double().numpy()) for w, b in stack.views(flat)]
    factors = balance.numpy()
    return Network(
        weights=((hidden / scale).astype(np.float32),),
        biases=(bias.astype(np.float32),),
        residuals=(NO_RESIDUAL,),
        slope=stack.slope,
        head=(head * factors[:, None]).astype(np.float32),
        skip=None,
        basis=(endmembers.T.numpy() * scale).astype(np.float32),
        offset=np.zeros(endmembers.shape[1], np.float32),
        clip=clip,
        unmixing=replace(limits, level=(level * factors).astype(np.float32)),
    )
