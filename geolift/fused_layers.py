"""A network as layers that oneDNN computes in one call each, on weights in its own order: values pixel by pixel."""

from __future__ import annotations

import functools
import threading
from typing import Any, Protocol

import numpy as np
import torch

from geolift.network import INPUT, LINE, NO_RESIDUAL, Floats, Network

FEWEST_FUSED_INPUTS = 32
"""oneDNN pays 30 µs a call and more."""

NARROW = 64
"""Outputs up to which the head is read out pixel by pixel, part by part, and turned."""


class Layer(Protocol):
    """a(W h + b)."""

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return (n, units) of (n, inputs)."""
        ...


def has_avx512() -> bool:
    """Tell whether torch's own kernels use AVX-512."""
    return bool(torch.backends.cpu.get_cpu_capability() == "AVX512")


def layers_are_fused(dtype: torch.dtype) -> bool:
    """Tell whether oneDNN's layers beat products of BLAS: with AVX-512, but in fp32 not on Intel's CPUs.

    MKL has half of oneDNN's rate on AMD's.
    """
    told: Any = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.10 and later
    return has_avx512() and (dtype != torch.float32 or "Intel" not in str(told.get("cpu_name")))


def fused_layer(weight: torch.Tensor, bias: torch.Tensor, slope: float | None, pixels: int) -> Layer | None:
    """The layer as one oneDNN call, or None where torch has no such call or the layer is too narrow for it.

    ``slope``: of the leaky rectifier a; None = no rectifier. ``pixels``: rows of h.
    """
    if weight.shape[1] < FEWEST_FUSED_INPUTS:
        return None
    kind, numbers = ("none", []) if slope is None else ("leaky_relu", [slope]) if slope else ("relu", [])
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, pixels)
        call: Any = torch.ops.mkldnn._linear_pointwise

        def layer(hidden: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = call(hidden, packed, bias, kind, numbers, "")
            return result

        probe = torch.linspace(-1, 1, pixels * weight.shape[1]).reshape(pixels, -1).to(weight.dtype)
        expected = _plain_layer(weight.float(), bias.float(), slope)(probe.float())
        exact = weight.dtype == torch.float32
        if torch.allclose(layer(probe).float(), expected, rtol=1e-3 if exact else 0.05, atol=1e-5 if exact else 0.05):
            return layer
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        pass  # the call is not part of torch's public API: other builds go without it
    return None


def _plain_layer(weight: torch.Tensor, bias: torch.Tensor, slope: float | None) -> Layer:
    inputs_first = weight.T.contiguous()

    def layer(hidden: torch.Tensor) -> torch.Tensor:
        result = torch.addmm(bias, hidden, inputs_first)
        return result if slope is None else torch.nn.functional.leaky_relu_(result, slope)

    return layer


class LayeredNetwork:
    """y = H h + S x + o of a network on batches of so many pixels, on a CPU; may be shared by threads.

    Parameters
    ----------
    network
        Without basis, constraints, clipping and correction.
    dtype
        Of the products between hidden layers. The first layers, the head and all sums are fp32.
    """

    def __init__(self, network: Network, dtype: torch.dtype, pixels: int) -> None:
        self.network, self._dtype, self._pixels = network, dtype, pixels
        layers = zip(network.weights, network.biases, network.reads, strict=True)
        self._layers = [
            self._input_layer(weight, bias) if source == INPUT else self._layer(weight, bias)
            for weight, bias, source in layers
        ]
        assert network.head is not None
        self._offset = torch.tensor(network.offset)[:, None]
        ends = np.cumsum([len(network.biases[index]) for index in network.last_layers])
        parts = np.split(network.head, ends[:-1], axis=1) if len(network.head) <= NARROW else []
        self._heads = [self._read_out(part) for part in parts]
        self._head = torch.tensor(network.head)
        self._head_and_offset = torch.tensor(np.column_stack([network.head, network.offset]))
        self._mine = threading.local()
        self._skip = None if network.skip is None else torch.tensor(network.skip)

    def _input_layer(self, weight: Floats, bias: Floats) -> Layer:
        inputs_first, slope = torch.tensor(np.column_stack([bias, weight])).T.contiguous(), self.network.slope
        return lambda pixels: torch.nn.functional.leaky_relu_(pixels @ inputs_first, slope).to(self._dtype)

    def _layer(self, weight: Floats, bias: Floats) -> Layer:
        tensors = torch.tensor(weight).to(self._dtype), torch.tensor(bias).to(self._dtype)
        return fused_layer(*tensors, self.network.slope, self._pixels) or _plain_layer(*tensors, self.network.slope)

    def batch(self, pixels: torch.Tensor, out: torch.Tensor) -> None:
        """Apply to pixels (1 + c, n), ones in the first row; writes (C, n)."""
        net = self.network
        outputs = {INPUT: pixels.T}
        for index, (layer, source, residual) in enumerate(zip(self._layers, net.reads, net.residuals, strict=True)):
            hidden = layer(outputs[source])
            outputs[index] = hidden if residual == NO_RESIDUAL else hidden.add_(outputs[residual])
        last = [outputs[index].float() for index in net.last_layers]
        if self._heads:
            products = [head(hidden) for head, hidden in zip(self._heads, last, strict=True)]
            out.copy_(functools.reduce(torch.Tensor.add_, products).T).add_(self._offset)
        else:
            self._wide(last[0] if len(last) == 1 else torch.cat(last, dim=1), out)
        if self._skip is not None:
            out.addmm_(self._skip, pixels[1:])

    def _read_out(self, part: Floats) -> Layer:
        """A part of the head, without the offset."""
        tensors = torch.tensor(part), torch.zeros(len(part))
        fused = fused_layer(*tensors, None, self._pixels) if layers_are_fused(torch.float32) else None
        return fused or _plain_layer(*tensors, None)

    def _wide(self, hidden: torch.Tensor, out: torch.Tensor) -> None:
        """H h + o as (outputs, units) times (units, pixels): the file's order comes out without a transpose."""
        if not layers_are_fused(torch.float32):
            torch.mm(self._head_and_offset, self._beside_one(hidden).T, out=out)
            return
        try:
            product = torch.ops.mkldnn._linear_pointwise(self._head, hidden, None, "none", [], "")
        except (AttributeError, NotImplementedError, RuntimeError, TypeError):
            product = self._head @ hidden.T
        torch.add(product, self._offset, out=out)

    def _beside_one(self, hidden: torch.Tensor) -> torch.Tensor:
        """(n, units + 1): values with ones behind them; each thread keeps its own memory."""
        pixels, units = hidden.shape
        if getattr(self._mine, "pixels", None) != pixels:
            self._mine.pixels, self._mine.memory = pixels, torch.ones(pixels, units + LINE)[:, : units + 1]
        memory: torch.Tensor = self._mine.memory
        memory[:, :units].copy_(hidden)
        return memory
