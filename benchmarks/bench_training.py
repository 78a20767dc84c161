"""Training: the default method against the published settings, and those against a plain torch loop.

Two LR scenes, 191 bands, four MSI bands, rounds of all three in turn. The published settings are 2 500 epochs of all
pixels; `--epochs` of them are run and the time is scaled: every epoch is the same work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from bench_inference import scene
from common import arguments, table

from geolift.network.formula import NO_RESIDUAL
from geolift.training.fit import fit
from geolift.training.methods.spectralift import PublishedSettings
from geolift.training.training_set import TrainingSet

SCENES = ((25, 25), (320, 76))
PUBLISHED = PublishedSettings()


def seconds(run: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def plain_loop(training: TrainingSet, epochs: int) -> None:
    """Train the published network as one writes it in torch: modules, autograd, Adam, all cores."""
    inputs, targets = torch.from_numpy(training.simulated), torch.from_numpy(training.spectra)
    sizes = [inputs.shape[1], *[PUBLISHED.width] * len(PUBLISHED.residuals)]
    layers = torch.nn.ModuleList(torch.nn.Linear(*pair) for pair in pairwise(sizes))
    head = torch.nn.Linear(PUBLISHED.width, targets.shape[1])
    optimiser = torch.optim.Adam([*layers.parameters(), *head.parameters()], lr=PUBLISHED.first_rate)
    for _ in range(epochs):
        outputs = [inputs]
        for layer, residual in zip(layers, PUBLISHED.residuals, strict=True):
            hidden = torch.nn.functional.leaky_relu(layer(outputs[-1]), PUBLISHED.slope)
            outputs.append(hidden if residual == NO_RESIDUAL else hidden + outputs[residual + 1])
        optimiser.zero_grad()
        torch.nn.functional.l1_loss(head(outputs[-1]), targets).backward()
        optimiser.step()


def main() -> None:
    """Measure."""
    given = arguments(__doc__ or "", bands=191, msi=4, epochs=200, rounds=3)
    rows = []
    for shape in SCENES:
        training = scene(given.msi, given.bands, shape)
        jobs: dict[str, Callable[[], Any]] = {
            "auto": partial(fit, "auto", training),
            "published": partial(fit, "spectralift", training, epochs=given.epochs),
            "plain torch": partial(plain_loop, training, given.epochs),
        }
        times = [{name: seconds(job) for name, job in jobs.items()} for _ in range(given.rounds + 1)]
        scale = {
            "auto": 1.0,
            "published": PUBLISHED.epochs / given.epochs,
            "plain torch": PUBLISHED.epochs / given.epochs,
        }
        # The first round also loads libraries and compiles.
        taken = {name: scale[name] * float(np.median([turn[name] for turn in times[1:]])) for name in jobs}
        rows.append(
            {"LR scene": f"{shape[0]} x {shape[1]}"}
            | {f"{name}, s": value for name, value in taken.items()}
            | {
                "published / auto": taken["published"] / taken["auto"],
                "plain torch / published": taken["plain torch"] / taken["published"],
            }
        )
    table(rows, given.json)


if __name__ == "__main__":
    main()
