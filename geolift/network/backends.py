"""What runs a network here: code compiled for this CPU, or torch where nothing is compiled and on GPUs."""

from __future__ import annotations

import functools
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geolift.datamodel.encoding import Counts, Encoding
from geolift.network.engine import ON_CPU, Engine, choose_engine, require_torch
from geolift.network.formula import NO_RESIDUAL, Floats, Network
from geolift.network.llvm.cpu import Cpu, this_cpu
from geolift.network.pixels import Placing
from geolift.runtime.machine import available_cpus


class Runner(Protocol):
    """A network made ready to run; shared by threads. A pixel's values depend on that pixel alone, bit for bit."""

    def __call__(self, msi: Floats, coordinates: Floats | None = None) -> Floats:
        """Apply to (c, n) float32 pixels in physical units; gives (C, n), NaN where a band is not finite.

        ``coordinates``: (J, n) of the correction, where the network has one.
        """

    def stored(
        self, msi: Floats, encoding: Encoding, placing: Placing, coordinates: Floats | None = None
    ) -> tuple[NDArray[Any], Counts]:
        """Apply to (c, n) pixels, and encode; gives (bands, n) stored numbers and what was met."""


@functools.cache
def compiled_for() -> Cpu | None:
    """The CPU that networks are compiled for; None where that cannot be done, or gives not what the formula gives."""
    cpu = this_cpu()
    if cpu is None:
        return None
    from geolift.network.llvm.network import CompiledNetwork  # llvmlite is not everywhere

    rng = np.random.default_rng(0)
    deep, head, basis = (rng.normal(0, 0.3, shape).astype(np.float32) for shape in ((2, 20, 20), (9, 20), (17, 9)))
    bias = rng.normal(0, 0.3, 20).astype(np.float32)
    weights, residuals = (deep[0][:, :3], *deep), (NO_RESIDUAL, 0, 1)
    network = Network(
        weights=weights,
        biases=(bias, bias, bias),
        residuals=residuals,
        slope=0.3,
        head=head,
        skip=None,
        basis=basis,
        offset=np.ones(17, np.float32),
    )
    pixels, encoding = rng.random((3, 4000), dtype=np.float32), Encoding("int16", 1e-3, -32768.0)
    try:
        ours = CompiledNetwork(network, cpu).stored(pixels, encoding, Placing(np.arange(17), 17))[0]
    except RuntimeError:  # LLVM's
        return None
    expected = np.rint(_evaluate(network, pixels) * encoding.steps_per_unit)
    return cpu if np.abs(ours - expected).max() <= 1 else None


def _evaluate(network: Network, x: Floats) -> NDArray[np.float64]:
    """(C, n) the formula of `Network` for a plain chain of layers with a head and a basis, in float64."""
    layers: list[NDArray[np.float64]] = []
    for weight, bias, added in zip(network.weights, network.biases, network.residuals, strict=True):
        product = weight.astype(np.float64) @ (layers[-1] if layers else x) + bias[:, None]
        activated = np.maximum(product, network.slope * product)
        layers.append(activated if added == NO_RESIDUAL else activated + layers[added])
    assert network.head is not None and network.basis is not None
    return np.asarray(network.basis @ (network.head @ layers[-1]) + network.offset[:, None], np.float64)


def made_ready(network: Network, engine: Engine = ON_CPU) -> Runner:
    """Make a network ready to run on an engine. Raises ResourceError where the engine is not there."""
    cpu = compiled_for() if engine.device == "cpu" else None
    if cpu is not None:
        from geolift.network.llvm.network import CompiledNetwork, CompiledUnmixing

        kind = CompiledNetwork if network.unmixing is None else CompiledUnmixing
        return kind(network, cpu, engine.precision)
    require_torch("the network where it is not compiled for the CPU")
    from geolift.network.torch_backend import TorchNetwork

    if engine.device == "cuda":
        choose_engine(engine.device)  # a worker of a cluster may have none
    return TorchNetwork(network, engine.device, engine.precision, streams=available_cpus())
