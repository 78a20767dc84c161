"""What runs a network here: code compiled for this CPU, or torch."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

from geolift.compiled.cpu import this_cpu
from geolift.encoding import Counts, Encoding
from geolift.engine import ON_CPU, Engine, choose_engine
from geolift.network import Floats, Network
from geolift.pixels import Placing
from geolift.torch_network import TorchNetwork


class Runner(Protocol):
    """A network made ready to run; shared by threads. A pixel's values depend on that pixel alone, bit for bit."""

    def __call__(self, msi: Floats, coordinates: Floats | None = None) -> Floats:
        """Apply to (c, n) float32 pixels in physical units; gives (C, n), NaN where a band is not finite.

        ``coordinates``: (J, n) of the correction, where the network has one.
        """
        ...

    def stored(
        self, msi: Floats, encoding: Encoding, placing: Placing, coordinates: Floats | None = None
    ) -> tuple[NDArray[Any], Counts]:
        """Apply to (c, n) pixels, and encode; gives (bands, n) stored numbers and what was met."""
        ...


def made_ready(network: Network, engine: Engine = ON_CPU) -> Runner:
    """Make a network ready to run on an engine. Raises ResourceError where the engine is not there."""
    cpu = this_cpu()
    if engine.device == "cpu" and cpu is not None:
        from geolift.compiled.network import CompiledNetwork, CompiledUnmixing  # llvmlite is not everywhere

        kind = CompiledNetwork if network.unmixing is None else CompiledUnmixing
        return kind(network, cpu, engine.precision)
    if engine.device == "cuda":
        choose_engine(engine.device)  # a worker of a cluster may have none
    return TorchNetwork(network, engine.device, engine.precision)
