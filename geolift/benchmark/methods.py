"""The methods of a sweep on arrays in memory, with the clock running."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geolift.benchmark import baselines
from geolift.errors import InputError, UsageError
from geolift.network.inference import predict_block
from geolift.refinement import learn_arrays_twice, refine_arrays
from geolift.runtime.machine import available_cpus
from geolift.training.fit import METHODS, PUBLISHED, fit
from geolift.training.noise import least_noise
from geolift.training.training_set import training_set_from_cube

Cube = NDArray[np.float32]

BICUBIC = "bicubic"
BASELINES: dict[str, Callable[[baselines.Observation], Cube]] = {
    "gsa": baselines.gsa,
    "cnmf": baselines.cnmf,
    "fuse": baselines.fuse,
}
"""Methods of others that see both images at once; for comparison only."""

REFINED = "+refine"


Refine = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class Fused:
    """A product (band, y, x) in [0, 1], NaN where the MSI is invalid.

    ``train_s`` counts learning, and the refinement, which is nearly all search; ``note`` says what became of it.
    """

    product: Cube
    train_s: float
    inference_s: float
    note: str = ""


def known_methods() -> tuple[str, ...]:
    """Return the names a sweep knows, each of METHODS also refined."""
    return (BICUBIC, *BASELINES, *METHODS, *(method + REFINED for method in METHODS))


def require_known(method: str) -> None:
    """Refuse a method that a sweep does not know. Raises UsageError."""
    if method not in known_methods():
        raise UsageError(f"--method: {method!r} is not known. Choose among {', '.join(known_methods())}.")


def fuse_arrays(
    method: str, hsi: Cube, msi: Cube, weights: NDArray[np.float32], *, seed: int = 0, refine: Refine = "auto"
) -> Fused:
    """Fuse an LR-HSI with an HR-MSI, both scaled to [0, 1].

    Methods that can keep the scale of such data, as `spectralift` can, are told to. Raises UsageError for an unknown
    method; InputError if the refinement is `on` and cannot be found, as where LR pixels are no whole blocks of HR
    pixels.

    Parameters
    ----------
    method
        One of `known_methods`.
    hsi, msi
        (band, y, x), NaN = invalid, of the same ground.
    weights
        (MSI band, HSI band), rows sum to 1.
    seed
        Of everything random.
    refine
        What ``+refine`` means: `auto`, if held-out LR pixels speak for it, or `on`, always.
    """
    require_known(method)
    started = time.perf_counter()
    if method == BICUBIC or method in BASELINES:
        if method == BICUBIC:
            product = baselines.bicubic(hsi, msi.shape[1:])
        else:
            product = BASELINES[method](baselines.observe(hsi, msi, weights))
        product[:, ~np.isfinite(msi).all(axis=0)] = np.nan
        return Fused(np.clip(product, 0, 1), 0.0, time.perf_counter() - started)
    name = method.removesuffix(REFINED)
    options: dict[str, Any] = {"unit_scale": True} if name in PUBLISHED else {}
    training = training_set_from_cube(hsi, weights, least_noise([msi]))
    model = fit(name, training, seed=seed, **options)
    learned = time.perf_counter()
    product, note = predict_block(model, msi), ""
    predicted = time.perf_counter()
    if name != method:
        forced = refine == "on"
        product, result = refine_arrays(model, training, hsi, msi, product, forced=forced, threads=available_cpus())
        if forced and result.correction is None:
            raise InputError(f"the product cannot be refined: {result.reason}")
        note = result.reason
        if name == "auto" and result.correction is not None:
            better, lesson = learn_arrays_twice(
                model, training, hsi, msi, result, seed=seed, threads=available_cpus(),
                fit=lambda part: fit(name, part, seed=seed),
                trial=lambda part: fit(name, part, seed=seed, learned=False),
            )  # fmt: skip
            product, note = (product if better is None else better), f"{note}; learned twice: {lesson.reason}"
    refining_s = time.perf_counter() - predicted
    return Fused(np.clip(product, 0, 1), learned - started + refining_s, predicted - learned, note)
