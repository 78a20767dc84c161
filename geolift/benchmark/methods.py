"""The methods of a sweep on arrays in memory, with the clock running."""

from __future__ import annotations

import inspect
import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from geolift.errors import InputError, UsageError
from geolift.network.inference import predict_block
from geolift.refinement import refine_arrays
from geolift.runtime.machine import available_cpus
from geolift.training.fit import METHODS, fit
from geolift.training.noise import least_noise
from geolift.training.training_set import training_set_from_cube

Cube = NDArray[np.float32]

BICUBIC = "bicubic"
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
    return (BICUBIC, *METHODS, *(method + REFINED for method in METHODS))


def require_known(method: str) -> None:
    """Refuse a method that a sweep does not know. Raises UsageError."""
    if method not in known_methods():
        raise UsageError(f"--method: {method!r} is not known. Choose among {', '.join(known_methods())}.")


def fuse_arrays(
    method: str, hsi: Cube, msi: Cube, weights: NDArray[np.float32], *, seed: int = 0, refine: Refine = "auto"
) -> Fused:
    """Fuse an LR-HSI with an HR-MSI, both scaled to [0, 1].

    Methods that can keep the scale of such data, as `spectralift` can, are told to.

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

    Raises
    ------
    UsageError
        For an unknown method.
    InputError
        If the refinement is `on` and cannot be found, as where LR pixels are no whole blocks of HR pixels.
    """
    require_known(method)
    started = time.perf_counter()
    if method == BICUBIC:
        product = bicubic(hsi, msi.shape[1:])
        product[:, ~np.isfinite(msi).all(axis=0)] = np.nan
        return Fused(np.clip(product, 0, 1), 0.0, time.perf_counter() - started)
    name = method.removesuffix(REFINED)
    keeps_scale = "unit_scale" in inspect.signature(METHODS[name]).parameters
    options: dict[str, Any] = {"unit_scale": True} if keeps_scale else {}
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
    refining_s = time.perf_counter() - predicted
    return Fused(np.clip(product, 0, 1), learned - started + refining_s, predicted - learned, note)


def bicubic(image: Cube, shape: tuple[int, ...]) -> Cube:
    """Upsample an image (band, y, x) to (rows, cols) by cubic convolution with a = −½; weights outside are shared.

    Invalid pixels take the value of the nearest valid one first.

    References
    ----------
    R. Keys, Cubic convolution interpolation for digital image processing, IEEE Trans. ASSP 29(6), 1981,
    doi:10.1109/TASSP.1981.1163711.
    """
    from scipy.ndimage import distance_transform_edt

    invalid = ~np.isfinite(image).all(axis=0)
    if invalid.any():
        rows, cols = distance_transform_edt(invalid, return_distances=False, return_indices=True)
        image = image[:, rows, cols]
    tensor = torch.from_numpy(np.ascontiguousarray(image))[None]
    # Torch's plain bicubic has a = −¾, which bends planes; its antialiased one, upsampling, is Keys' own.
    fine = torch.nn.functional.interpolate(tensor, size=tuple(shape), mode="bicubic", antialias=True)
    return fine[0].numpy()
