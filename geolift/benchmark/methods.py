"""The methods of a sweep on arrays in memory, with the clock running."""

from __future__ import annotations

import inspect
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geolift.errors import UsageError
from geolift.inference import predict_block
from geolift.training import METHODS, fit
from geolift.training_set import training_set_from_cube

Cube = NDArray[np.float32]

BICUBIC = "bicubic"
REFINED = "+refine"


@dataclass(frozen=True)
class Fused:
    """A product (band, y, x) in [0, 1], NaN where the MSI is invalid, and the seconds it took."""

    product: Cube
    train_s: float
    inference_s: float


def known_methods() -> tuple[str, ...]:
    """Return the names a sweep knows."""
    return (BICUBIC, *METHODS)


def require_known(method: str) -> None:
    """Refuse a method that a sweep does not know. Raises UsageError."""
    if method not in known_methods():
        hint = f" {REFINED} is not part of this geolift." if method.endswith(REFINED) else ""
        raise UsageError(f"--method: {method!r} is not known.{hint} Choose among {', '.join(known_methods())}.")


def fuse_arrays(method: str, hsi: Cube, msi: Cube, weights: NDArray[np.float32], *, seed: int = 0) -> Fused:
    """Fuse an LR-HSI with an HR-MSI, both scaled to [0, 1].

    Methods that can keep the scale of such data, as `spectralift` can, are told to.

    Parameters
    ----------
    method
        One of `known_methods`.
    hsi, msi
        (band, y, x), NaN = invalid; one LR pixel covers a whole block of HR pixels.
    weights
        (MSI band, HSI band), rows sum to 1.
    seed
        Of everything random.

    Raises
    ------
    UsageError
        For an unknown method.
    """
    require_known(method)
    started = time.perf_counter()
    if method == BICUBIC:
        product = bicubic(hsi, msi.shape[1:])
        product[:, ~np.isfinite(msi).all(axis=0)] = np.nan
        return Fused(np.clip(product, 0, 1), 0.0, time.perf_counter() - started)
    keeps_scale = "unit_scale" in inspect.signature(METHODS[method]).parameters
    options: dict[str, Any] = {"unit_scale": True} if keeps_scale else {}
    model = fit(method, training_set_from_cube(hsi, weights), seed=seed, **options)
    trained = time.perf_counter()
    product = predict_block(model, msi)
    return Fused(np.clip(product, 0, 1), trained - started, time.perf_counter() - trained)


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
