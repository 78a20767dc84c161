"""The per-pixel network: its weights and how they are applied to pixels.

Every method of geolift ends in one form, so that one engine runs them all:

    h_0 = x,  h_i = a(W_i h_{i-1} + b_i) + h_{r_i},  y = B g(H h_L + S x) + o

with the leaky rectifier a, an optional skip S from the input, an optional basis B (the low-rank head) and, where the
coordinates in it are abundances, their constraint g; else g is the identity.
A layer may read another layer than the one before it: several networks side by side are one network then,
whose head reads the last layer of each.
Scaling of inputs and outputs is folded into the weights, so physical units go in and come out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float32]

BATCH_PIXELS = 2048
"""Pixels per matrix product. Fixed: a product of another shape may round differently (law 1)."""

NO_RESIDUAL = -1
INPUT = -1

_guard = threading.Lock()
_guard_depth = 0
_threads_outside = 1


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Run torch's kernels of this thread on one thread, so that sums do not depend on the machine.

    ``torch.set_num_threads`` is global in part (MKL) and per thread in part (OpenMP). The number found
    when the first of several concurrent blocks begins is restored when the last of them ends; worker
    threads that ran a block keep one thread for themselves.
    """
    global _guard_depth, _threads_outside
    with _guard:
        if _guard_depth == 0:
            _threads_outside = torch.get_num_threads()
        _guard_depth += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _guard:
            _guard_depth -= 1
            if _guard_depth == 0:
                torch.set_num_threads(_threads_outside)


@dataclass(frozen=True, eq=False)
class Unmixing:
    """Abundances of endmembers: z + level, constrained.

    Parameters
    ----------
    level
        (K,), added to the coordinates first.
    non_negative, sum_to_one
        Constraints, met by the nearest abundances that meet them.
    """

    level: Floats
    non_negative: bool = False
    sum_to_one: bool = False

    def abundances(self, coordinates: torch.Tensor) -> torch.Tensor:
        """(K, n) abundances of (K, n) coordinates."""
        level = torch.tensor(self.level, device=coordinates.device)
        return self.constrained(coordinates + level[:, None], dim=0)

    def constrained(self, free: torch.Tensor, dim: int) -> torch.Tensor:
        """Abundances under the constraints; the endmembers lie along ``dim``.

        References
        ----------
        A. F. T. Martins, R. F. Astudillo, arXiv 1602.02068, section 2.2: the projection onto the simplex.
        """
        if not self.sum_to_one:
            return free.clamp_min(0) if self.non_negative else free
        if not self.non_negative:
            return free - (free.sum(dim, keepdim=True) - 1) / free.shape[dim]
        falling = free.sort(dim, descending=True).values
        number = torch.ones_like(falling).cumsum(dim)
        surplus = (falling.cumsum(dim) - 1) / number
        used = (falling > surplus).sum(dim, keepdim=True).clamp_min(1)
        return (free - surplus.gather(dim, used - 1)).clamp_min(0)


@dataclass(frozen=True, eq=False)
class Network:
    """Weights of a dense residual network from MSI to HSI values, in physical units.

    Parameters
    ----------
    weights, biases
        One (units, inputs) matrix and one (units,) vector per hidden layer; none for a linear method.
    residuals
        Per hidden layer the index of the earlier layer whose output is added after the activation,
        or ``NO_RESIDUAL``.
    slope
        Slope of the leaky rectifier below zero.
    head
        (K, units of the last hidden layers, side by side); K = C where there is no basis.
    skip
        (K, c), the linear path from the input, or None.
    basis
        (C, K), or None when the head gives the C bands itself.
    offset
        (C,), added last.
    clip
        Lowest and highest value of the product, or None.
    unmixing
        What makes abundances of the coordinates in the basis, whose columns are endmembers then; or None.
    sources
        Per hidden layer the index of the layer it reads, or ``INPUT``; by default the one before.
    """

    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]
    residuals: tuple[int, ...]
    slope: float
    head: Floats | None
    skip: Floats | None
    basis: Floats | None
    offset: Floats
    clip: tuple[float, float] | None = None
    unmixing: Unmixing | None = None
    sources: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not len(self.weights) == len(self.biases) == len(self.residuals):
            raise ValueError("a hidden layer needs a matrix, a bias and a residual index each")
        if (self.head is None) != (not self.weights):
            raise ValueError("hidden layers and a head come together")
        if self.head is None and self.skip is None:
            raise ValueError("a network without hidden layers needs a skip matrix")

    @property
    def reads(self) -> tuple[int, ...]:
        """Per hidden layer the index of the layer it reads."""
        return self.sources if self.sources is not None else tuple(range(-1, len(self.weights) - 1))

    @property
    def last_layers(self) -> tuple[int, ...]:
        """The hidden layers that no other layer reads: what the head reads."""
        return tuple(index for index in range(len(self.weights)) if index not in self.reads)

    @property
    def inputs(self) -> int:
        """Number of MSI bands c."""
        first = self.weights[0] if self.weights else self.skip
        assert first is not None
        return int(first.shape[1])

    @property
    def outputs(self) -> int:
        """Number of HSI bands C."""
        return int(self.offset.shape[0])

    def abundances(self) -> Network:
        """The network of the abundances alone. Raises ValueError where there are none."""
        if self.unmixing is None:
            raise ValueError("only a network that unmixes has abundances")
        return replace(self, basis=None, offset=np.zeros_like(self.unmixing.level), clip=None)

    @property
    def flops_per_pixel(self) -> int:
        """Multiplications and additions of the matrix products for one pixel."""
        parts = [*self.weights, self.head, self.skip, self.basis]
        return 2 * sum(part.size for part in parts if part is not None)


Product = Callable[[torch.Tensor], torch.Tensor]


def _fused_layer(weight: torch.Tensor, bias: torch.Tensor, slope: float) -> Product | None:
    """The layer a(W h + b) as one oneDNN call on packed weights, or None where torch has no such call."""
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, BATCH_PIXELS)
        call: Any = torch.ops.mkldnn._linear_pointwise

        def product(pixels: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = call(pixels, packed, bias, "leaky_relu", [slope], "")
            return result

        probe = torch.linspace(-1, 1, BATCH_PIXELS * weight.shape[1]).reshape(BATCH_PIXELS, -1)
        if torch.allclose(product(probe), _plain_layer(weight, bias, slope)(probe), rtol=1e-3, atol=1e-5):
            return product
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        pass  # the call is not part of torch's public API: other builds go without it
    return None


def _plain_layer(weight: torch.Tensor, bias: torch.Tensor, slope: float) -> Product:
    def product(pixels: torch.Tensor) -> torch.Tensor:
        hidden = torch.nn.functional.linear(pixels, weight, bias)
        return torch.nn.functional.leaky_relu_(hidden, slope)

    return product


def _band_major(weight: torch.Tensor, pixels: torch.Tensor, *, fused: bool) -> torch.Tensor:
    """W hᵀ: (bands, pixels) from (bands, units) and (pixels, units), without a transpose."""
    if fused:
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(weight, pixels, None, "none", [], "")
        return result
    return weight @ pixels.T


class PackedNetwork:
    """A network made ready to run on one device; may be shared by threads."""

    def __init__(self, network: Network, device: str = "cpu") -> None:
        self.network = network
        self.device = torch.device(device)

        def put(array: Floats | None) -> torch.Tensor | None:
            return None if array is None else torch.tensor(array, device=self.device)

        self._layers: list[Product] = []
        self._reads, self._last = network.reads, network.last_layers
        self._fused = self.device.type == "cpu"
        with torch.inference_mode(), one_torch_thread():
            for weight, bias in zip(network.weights, network.biases, strict=True):
                tensors = torch.tensor(weight, device=device), torch.tensor(bias, device=device)
                fused = _fused_layer(*tensors, network.slope) if self._fused else None
                self._layers.append(fused or _plain_layer(*tensors, network.slope))
                self._fused = self._fused and fused is not None
            self._skip, self._basis = put(network.skip), put(network.basis)
            ends = np.cumsum([len(network.biases[index]) for index in network.last_layers])[:-1]
            heads = [] if network.head is None else np.split(network.head, ends, axis=1)
            self._heads = [put(np.ascontiguousarray(head)) for head in heads]
            self._offset = torch.tensor(network.offset, device=self.device)[:, None]

    def batch(self, pixels: torch.Tensor) -> torch.Tensor:
        """Apply to (BATCH_PIXELS, c) pixels; gives (C, BATCH_PIXELS)."""
        outputs: list[torch.Tensor] = []
        for layer, source, residual in zip(self._layers, self._reads, self.network.residuals, strict=True):
            hidden = layer(pixels if source == INPUT else outputs[source])
            if residual != NO_RESIDUAL:
                hidden.add_(outputs[residual])
            outputs.append(hidden)
        parts = [*zip(self._heads, (outputs[index] for index in self._last), strict=True), (self._skip, pixels)]
        products = [_band_major(w, h, fused=self._fused) for w, h in parts if w is not None]
        result = products[0]
        for product in products[1:]:
            result.add_(product)
        if self.network.unmixing is not None:
            result = self.network.unmixing.abundances(result)
        if self._basis is not None:
            result = self._basis @ result
        result.add_(self._offset)
        if self.network.clip is not None:
            result.clamp_(*self.network.clip)
        return result

    def __call__(self, msi: Floats) -> Floats:
        """Apply to (c, n) float32 pixels in physical units; gives (C, n), NaN where a band is not finite."""
        if msi.ndim != 2 or msi.shape[0] != self.network.inputs:
            raise ValueError(f"expected ({self.network.inputs}, n) MSI values, got {msi.shape}")
        count = msi.shape[1]
        fused = np.empty((self.network.outputs, count), np.float32)
        buffer = torch.zeros((BATCH_PIXELS, self.network.inputs))
        with torch.inference_mode(), one_torch_thread():
            for start in range(0, count, BATCH_PIXELS):
                chunk = msi[:, start : start + BATCH_PIXELS]
                target = fused[:, start : start + BATCH_PIXELS]
                valid = np.isfinite(chunk).all(axis=0)
                if not valid.any():
                    target[:] = np.nan
                    continue
                buffer.numpy()[: chunk.shape[1]] = np.where(valid, chunk, 0).T
                target[:] = self.batch(buffer.to(self.device)).cpu().numpy()[:, : chunk.shape[1]]
                if not valid.all():
                    target[:, ~valid] = np.nan
        return fused
