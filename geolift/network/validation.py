"""Whether a network's arrays fit each other, before any compiled code relies on it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from geolift.network.formula import INPUT, NO_RESIDUAL, Floats, Network

MOST_UNITS = 1_000_000
"""More than any network here has: a number beyond is damage, and memory for it would be asked in vain."""


def checksum(tensors: Mapping[str, Floats], *texts: str) -> str:
    """Return the SHA-256 of a model's arrays, their names and shapes, and what is written beside them."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    for text in texts:
        digest.update(text.encode())
    return digest.hexdigest()


def require_sound(network: Network, low: Floats, high: Floats) -> None:
    """Refuse arrays that do not fit each other, or hold what is no finite number.

    Raises ValueError with what does not fit.

    ``low``, ``high``: (c,) lowest and highest MSI value of the training.
    """
    inputs, outputs = low.size, network.offset.size
    _require_shape("training_low", low, (inputs,))
    _require_shape("training_high", high, (inputs,))
    _require_shape("offset", network.offset, (outputs,))
    units = _units_of_layers(network, inputs)
    rows = outputs if network.basis is None else network.basis.shape[-1] if network.basis.ndim == 2 else 0
    if network.basis is not None:
        _require_shape("basis", network.basis, (outputs, rows))
    if network.head is not None:
        _require_shape("head", network.head, (rows, sum(units[layer] for layer in network.last_layers)))
    if network.skip is not None:
        _require_shape("skip", network.skip, (rows, inputs))
    if network.unmixing is not None:
        _require_shape("level", network.unmixing.level, (rows,))
    if network.correction is not None and (network.correction.ndim != 2 or len(network.correction) != outputs):
        raise ValueError(f"correction has the shape {network.correction.shape} for {outputs} bands")
    clip = network.clip
    if clip is not None and not (np.isfinite(clip).all() and clip[0] < clip[1]):
        raise ValueError(f"clip {clip} is no range")


def _units_of_layers(network: Network, inputs: int) -> list[int]:
    """Return how many units each hidden layer has, all of them checked."""
    units: list[int] = []
    layers = zip(network.weights, network.biases, network.reads, network.residuals, strict=True)
    for index, (weight, bias, read, added) in enumerate(layers):
        if not (read == INPUT or 0 <= read < index):
            raise ValueError(f"hidden layer {index} reads layer {read}, which does not come before it")
        if weight.ndim != 2:
            raise ValueError(f"hidden.{index}.weight has {weight.ndim} dimensions, not 2")
        units.append(len(weight))
        _require_shape(f"hidden.{index}.weight", weight, (units[index], inputs if read == INPUT else units[read]))
        _require_shape(f"hidden.{index}.bias", bias, (units[index],))
        if added != NO_RESIDUAL and not (0 <= added < index and units[added] == units[index]):
            raise ValueError(f"hidden layer {index} adds layer {added}, which has not its {units[index]} units")
    return units


def _require_shape(name: str, array: Floats, shape: tuple[int, ...]) -> None:
    if array.dtype != np.float32:
        raise ValueError(f"{name} holds {array.dtype}, not float32")
    if array.shape != shape or not all(0 < length <= MOST_UNITS for length in shape):
        raise ValueError(f"{name} has the shape {array.shape}, where {shape} fits the others")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds numbers that are not finite")
