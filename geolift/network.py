"""The per-pixel network: its weights and how they are applied to pixels.

Every method of geolift ends in one form, so that one engine runs them all:

    h_0 = x,  h_i = a(W_i h_{i-1} + b_i) + h_{r_i},  y = B g(H h_L + S x) + o

with the leaky rectifier a, an optional skip S from the input, an optional basis B (the low-rank head) and, where the
coordinates in it are abundances, their constraint g; else g is the identity. A layer may read another layer than the
one before it: several networks side by side are one network then, whose head reads the last layer of each.
Scaling of inputs and outputs is folded into the weights, so physical units go in and come out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Precision = Literal["fp32", "bf16"]

LARGEST_BATCH = 2048
"""Pixels per batch of a narrow network: the fixed cost of a call is spread over them."""

HIDDEN_VALUES = 2**19
"""Values of the widest hidden layer per batch: they have to stay in a core's caches between two products."""

LANES = 8
"""Numbers that the CPU treats at once. A product with 16 rows takes two thirds of the time of one with 15."""

SPARE_PIXELS = 16
"""Between two bands of a tile: bands a power of two apart would fall on the same lines of the caches."""

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
    def batch_pixels(self) -> int:
        """Pixels per matrix product. Fixed for a network: a product of another shape may round differently (law 1)."""
        widest = max((len(bias) for bias in self.biases), default=1)
        return min(LARGEST_BATCH, 1 << (max(HIDDEN_VALUES // widest, 1).bit_length() - 1))

    @property
    def flops_per_pixel(self) -> int:
        """Multiplications and additions of the matrix products for one pixel."""
        parts = [*self.weights, self.head, self.skip, self.basis]
        return 2 * sum(part.size for part in parts if part is not None)


Product = Callable[[torch.Tensor], torch.Tensor]


def _fused_layer(weight: torch.Tensor, bias: torch.Tensor, slope: float | None, pixels: int) -> Product | None:
    """The layer a(W h + b) as one oneDNN call on packed weights, or None where torch has no such call.

    ``slope``: of the leaky rectifier a; None = no rectifier. ``pixels``: rows of h.
    """
    kind, numbers = ("none", []) if slope is None else ("leaky_relu", [slope]) if slope else ("relu", [])
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, pixels)
        call: Any = torch.ops.mkldnn._linear_pointwise

        def product(hidden: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = call(hidden, packed, bias, kind, numbers, "")
            return result

        probe = torch.linspace(-1, 1, pixels * weight.shape[1]).reshape(pixels, -1).to(weight.dtype)
        expected = _plain_layer(weight.float(), bias.float(), slope)(probe.float())
        exact = weight.dtype == torch.float32
        if torch.allclose(product(probe).float(), expected, rtol=1e-3 if exact else 0.05, atol=1e-5 if exact else 0.05):
            return product
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        pass  # the call is not part of torch's public API: other builds go without it
    return None


def _plain_layer(weight: torch.Tensor, bias: torch.Tensor, slope: float | None) -> Product:
    def product(hidden: torch.Tensor) -> torch.Tensor:
        result = torch.nn.functional.linear(hidden, weight, bias)
        return result if slope is None else torch.nn.functional.leaky_relu_(result, slope)

    return product


def without_skip(network: Network) -> Network:
    """The same function with its linear path through the hidden layer, where that is one layer of rectifiers.

    (1 + slope) x = a(x) − a(−x): two more units for each MSI band cost less than a product of their own.
    """
    if network.skip is None or network.head is None or len(network.weights) != 1:
        return network
    straight = np.eye(network.inputs, dtype=np.float32)
    path = network.skip / np.float32(1 + network.slope)
    weight = np.concatenate([network.weights[0], straight, -straight])
    head = np.concatenate([network.head, path, -path], axis=1)
    spare = -len(weight) % LANES
    weight, head = np.pad(weight, ((0, spare), (0, 0))), np.pad(head, ((0, 0), (0, spare)))
    bias = np.pad(network.biases[0], (0, len(weight) - len(network.biases[0])))
    return replace(network, weights=(weight,), biases=(bias,), head=head, skip=None)


class PackedNetwork:
    """A network made ready to run on one device; may be shared by threads.

    With ``precision`` bf16 the products between hidden layers and into the head take and give bfloat16; the first
    layer, which sees the pixels, the basis and all sums stay fp32.
    """

    def __init__(self, network: Network, device: str = "cpu", precision: Precision = "fp32") -> None:
        # bfloat16 would round the pixels on their way through the hidden layer.
        self.network = network = without_skip(network) if precision == "fp32" else network
        self.device = torch.device(device)
        self.batch_pixels = network.batch_pixels
        self._low = torch.bfloat16 if precision == "bf16" else torch.float32
        with torch.inference_mode(), one_torch_thread():
            self._layers = [
                self._layer(weight, bias, network.slope, torch.float32 if source == INPUT else self._low)
                for weight, bias, source in zip(network.weights, network.biases, network.reads, strict=True)
            ]
            self._pack_head()
        self._spent = self._last_uses()

    def _last_uses(self) -> list[list[int]]:
        """Per hidden layer the outputs that nothing reads after it."""
        net = self.network
        last = {index: index for index in self._tops}
        for index, (source, residual) in enumerate(zip(net.reads, net.residuals, strict=True)):
            last |= dict.fromkeys({source, residual} - {INPUT}, index)
        return [[past for past, at in last.items() if at == index] for index in range(len(net.weights))]

    def _layer(self, weight: Floats, bias: Floats, slope: float | None, dtype: torch.dtype) -> Product:
        tensors = self._tensor(weight).to(dtype), self._tensor(bias).to(dtype)
        fused = _fused_layer(*tensors, slope, self.batch_pixels) if self.device.type == "cpu" else None
        return fused or _plain_layer(*tensors, slope)

    def _tensor(self, array: Floats) -> torch.Tensor:
        return torch.tensor(array, device=self.device)

    def _pack_head(self) -> None:
        """Prepare y = B (H h + S x) + o as low = H' h (+ S' x), y = B' low, or as y = H h + o (+ S x).

        H' has one more row, which gives 1, and B' the offset in that column; more rows of zeros make the number of
        rows one that the CPU likes. So the offset costs no pass over the product.
        """
        net = self.network
        self._tops: dict[int, Product] = {}
        self._head, self._offset = None, self._tensor(net.offset)[:, None]
        self._skip = None if net.skip is None else self._tensor(net.skip).T
        self._basis = None
        self._level = 0.0 if net.unmixing is None else self._tensor(net.unmixing.level)
        if net.head is not None and net.basis is not None:
            count = net.basis.shape[1]
            rows = -(-(count + 1) // LANES) * LANES
            more = ((0, rows - count), (0, 0))
            constant = np.zeros(rows, np.float32)
            constant[count] = 1
            start = 0
            for index in net.last_layers:
                part = np.ascontiguousarray(net.head[:, start : (start := start + len(net.biases[index]))])
                self._tops[index] = self._layer(np.pad(part, more), constant, None, self._low)
                constant = np.zeros(rows, np.float32)
            basis = np.pad(net.basis, more[::-1])
            basis[:, count] = net.offset
            self._basis = self._tensor(basis)
            self._skip = None if net.skip is None else self._tensor(np.pad(net.skip, more)).T
        elif net.head is not None:
            self._head = self._tensor(net.head).to(self._low)
        elif net.basis is not None and net.skip is not None:
            if net.unmixing is None:
                self._skip = self._tensor(net.basis @ net.skip).T
            else:
                self._basis = self._tensor(net.basis)

    def batch(self, pixels: torch.Tensor, out: torch.Tensor) -> None:
        """Apply to (batch_pixels, c) pixels; writes (C, batch_pixels), band-major as files are."""
        net, unmixing = self.network, self.network.unmixing
        low, last = self._hidden(pixels)
        if low is not None and self._basis is not None:
            if self._skip is not None:
                low.addmm_(pixels, self._skip)
            if unmixing is not None:
                abundances = low[:, : len(unmixing.level)]
                abundances.copy_(unmixing.constrained(abundances + self._level, dim=1))
            torch.mm(self._basis, low.T, out=out)
        elif self._head is not None:
            self._wide_head(self._head, last[0] if len(last) == 1 else torch.cat(last, dim=1), out)
            if self._skip is not None:
                out.addmm_(self._skip.T, pixels.T)
        elif self._basis is not None and self._skip is not None and unmixing is not None:
            torch.addmm(self._offset, self._basis, unmixing.abundances(self._skip.T @ pixels.T), out=out)
        else:
            assert self._skip is not None
            torch.addmm(self._offset, self._skip.T, pixels.T, out=out)
        if unmixing is not None and self._basis is None:
            out.copy_(unmixing.abundances(out - self._offset) + self._offset)
        if net.clip is not None:
            out.clamp_(*net.clip)

    def _hidden(self, pixels: torch.Tensor) -> tuple[torch.Tensor | None, list[torch.Tensor]]:
        """The coordinates in the basis (n, K'), or None and what the head reads.

        No layer is kept longer than it is needed: memory that is given back and asked for again is still in the caches.
        """
        net = self.network
        outputs = {INPUT: pixels}
        low: torch.Tensor | None = None
        for index, (layer, source, residual) in enumerate(zip(self._layers, net.reads, net.residuals, strict=True)):
            hidden = layer(outputs[source])
            if hidden.dtype != self._low:
                hidden = hidden.to(self._low)
            if residual != NO_RESIDUAL:
                hidden.add_(outputs[residual])
            outputs[index] = hidden
            if index in self._tops:
                part = self._tops[index](hidden).float()
                low = part if low is None else low.add_(part)
            for spent in self._spent[index]:
                del outputs[spent]
        return low, [outputs[index] for index in net.last_layers if index not in self._tops]

    def _wide_head(self, head: torch.Tensor, hidden: torch.Tensor, out: torch.Tensor) -> None:
        """H h + o as (bands, units) times (units, pixels): the file's order comes out without a transpose."""
        if self.device.type == "cpu":
            try:
                product = torch.ops.mkldnn._linear_pointwise(head, hidden, None, "none", [], "")
            except (AttributeError, NotImplementedError, RuntimeError, TypeError):
                product = head @ hidden.T
            torch.add(product, self._offset, out=out)
        elif self._low == torch.float32:
            torch.addmm(self._offset, head, hidden.T, out=out)
        else:
            torch.add(head @ hidden.T, self._offset, out=out)

    def __call__(self, msi: Floats) -> Floats:
        """Apply to (c, n) float32 pixels in physical units; gives (C, n), NaN where a band is not finite."""
        size = self.batch_pixels
        pixels, valid = self.gathered(msi, size)
        fused = np.empty((self.network.outputs, len(valid) + SPARE_PIXELS), np.float32)[:, : len(valid)]
        with torch.inference_mode(), one_torch_thread():
            given, result = torch.from_numpy(pixels), torch.from_numpy(fused)
            rest = torch.empty(self.network.outputs, size)
            for start in range(0, len(valid), size):
                target = result[:, start : start + size]
                if not valid[start : start + size].any():
                    continue
                if target.shape[1] == size:
                    self.batch(given[start : start + size], target)
                else:
                    self.batch(given[start : start + size], rest)
                    target.copy_(rest[:, : target.shape[1]])
        blanked(fused, valid)
        return fused

    def gathered(self, msi: Floats, size: int) -> tuple[Floats, NDArray[np.bool_]]:
        """Pixels (whole batches, c) with zeros where invalid or beyond the last, and which of the n are valid."""
        if msi.ndim != 2 or msi.shape[0] != self.network.inputs:
            raise ValueError(f"expected ({self.network.inputs}, n) MSI values, got {msi.shape}")
        count = msi.shape[1]
        valid: NDArray[np.bool_] = np.asarray(np.isfinite(msi).all(axis=0))
        pixels = np.zeros((-(-count // size) * size, len(msi)), np.float32)
        np.copyto(pixels[:count], msi.T, where=valid[:, None])
        return pixels, valid


def blanked(fused: Floats, valid: NDArray[np.bool_]) -> None:
    """Set the invalid pixels of a (C, n) product to NaN."""
    if not valid.all():
        np.copyto(fused, np.float32(np.nan), where=~valid)
