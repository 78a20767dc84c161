"""A network made ready to run: its layers as products that the machine does well, its pixels in batches."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from geolift.engine import one_torch_thread
from geolift.network import INPUT, LANES, NO_RESIDUAL, Floats, Network, Precision, without_skip

LINE = 16
"""Numbers in a line of the caches. A tile whose bands do not begin on one takes a quarter longer to write; bands a
power of two apart would all fall on the same lines."""

OUTPUTS = 16
"""MKL's products are quick with a multiple of so many outputs: 128 inputs make 16 in two thirds of the time of 17, and
in half that of 8."""

FEWEST_FUSED_INPUTS = 32
"""oneDNN pays 30 µs a call and more."""

WIDER = 2
"""Batches are so much larger on CPUs with AVX-512, whose caches are: sixteen threads, which wait for each other's turn
at the interpreter, then take half the time."""


class Product(Protocol):
    """A layer a(W h + b) on pixels."""

    def __call__(
        self, hidden: torch.Tensor, out: torch.Tensor | None = None, onto: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return (n, units) of (n, inputs). ``out``: where it may be put. ``onto``: added in place of the bias."""
        ...


def _has_avx512() -> bool:
    return bool(torch.backends.cpu.get_cpu_capability() == "AVX512")


def _fuses(dtype: torch.dtype) -> bool:
    """Tell whether oneDNN's products beat MKL's: with AVX-512, but in fp32 not on Intel's CPUs.

    MKL has half of oneDNN's rate on AMD's; a Xeon took 0.87 to 0.95 of the time with MKL for `auto`, 0.94 to 1.05 for
    the published network.
    """
    told: Any = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.10 and later
    return _has_avx512() and (dtype != torch.float32 or "Intel" not in str(told.get("cpu_name")))


def _fused_layer(weight: torch.Tensor, bias: torch.Tensor, slope: float | None, pixels: int) -> Product | None:
    """The layer as one oneDNN call on packed weights, or None where torch has no such call or MKL is faster.

    ``slope``: of the leaky rectifier a; None = no rectifier. ``pixels``: rows of h.
    """
    if not _fuses(weight.dtype) or weight.shape[1] < FEWEST_FUSED_INPUTS:
        return None
    kind, numbers = ("none", []) if slope is None else ("leaky_relu", [slope]) if slope else ("relu", [])
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, pixels)
        call: Any = torch.ops.mkldnn._linear_pointwise

        def product(
            hidden: torch.Tensor, out: torch.Tensor | None = None, onto: torch.Tensor | None = None
        ) -> torch.Tensor:
            result: torch.Tensor = call(hidden, packed, bias if onto is None else None, kind, numbers, "")
            return result if onto is None else onto.add_(result)

        probe = torch.linspace(-1, 1, pixels * weight.shape[1]).reshape(pixels, -1).to(weight.dtype)
        expected = _plain_layer(weight.float(), bias.float(), slope)(probe.float())
        exact = weight.dtype == torch.float32
        if torch.allclose(product(probe).float(), expected, rtol=1e-3 if exact else 0.05, atol=1e-5 if exact else 0.05):
            return product
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        pass  # the call is not part of torch's public API: other builds go without it
    return None


def _plain_layer(weight: torch.Tensor, bias: torch.Tensor, slope: float | None) -> Product:
    inputs_first = weight.T.contiguous()

    def product(
        hidden: torch.Tensor, out: torch.Tensor | None = None, onto: torch.Tensor | None = None
    ) -> torch.Tensor:
        if onto is not None:
            return onto.addmm_(hidden, inputs_first)
        result = (
            torch.addmm(bias, hidden, inputs_first) if out is None else torch.addmm(bias, hidden, inputs_first, out=out)
        )
        return result if slope is None else torch.nn.functional.leaky_relu_(result, slope)

    return product


@dataclass(frozen=True)
class Room:
    """Where a batch's values go, in memory of one thread; None = wherever torch likes.

    Parameters
    ----------
    layers
        (n, units) for each hidden layer.
    beside_one
        (K' + 1 + J, n): coordinates in the basis, ones, coordinates of the correction.
    low, coordinates
        (n, K') and (J, n): views of it. Made once: threads wait for each other at every call, views included.
    """

    layers: list[torch.Tensor | None]
    low: torch.Tensor | None = None
    beside_one: torch.Tensor | None = None
    coordinates: torch.Tensor | None = None


class PackedNetwork:
    """A network made ready to run on one device; may be shared by threads.

    With ``precision`` bf16 the products between hidden layers and into the head take and give bfloat16; the first
    layer, which sees the pixels, the basis and all sums stay fp32.
    """

    def __init__(self, network: Network, device: str = "cpu", precision: Precision = "fp32") -> None:
        # bfloat16 would round the pixels on their way through the hidden layer.
        self.network = network = without_skip(network) if precision == "fp32" else network
        self.device = torch.device(device)
        self.batch_pixels = network.batch_pixels * (WIDER if _has_avx512() else 1)
        self._low = torch.bfloat16 if precision == "bf16" else torch.float32
        with torch.inference_mode(), one_torch_thread():
            self._layers = [
                self._layer(weight, bias, network.slope, torch.float32 if source == INPUT else self._low)
                for weight, bias, source in zip(network.weights, network.biases, network.reads, strict=True)
            ]
            self._pack_head()
        self._spent = self._last_uses()
        self._mine = threading.local()

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
        """Prepare y = B (H h + S x) + o + D z as low = H h (+ S x), y = [B o D] [low 1 z], or as y = H h + o (+ S x).

        The column of ones and the correction's coordinates stand beside low in memory, so that neither costs a pass
        over the product; rows of zeros in H make their number one that the CPU likes.
        """
        net = self.network
        self._tops: dict[int, Product] = {}
        self._head, self._offset = None, self._tensor(net.offset)[:, None]
        self._skip = None if net.skip is None else self._tensor(net.skip).T
        self._basis, self._coordinates = None, 0
        self._level = 0.0 if net.unmixing is None else self._tensor(net.unmixing.level)
        self._correction = None if net.correction is None else self._tensor(net.correction)
        if net.head is not None and net.basis is not None:
            count = net.basis.shape[1]
            rows = -(-count // OUTPUTS) * OUTPUTS
            more = ((0, rows - count), (0, 0))
            start, self._coordinates = 0, rows
            for index in net.last_layers:
                part = np.ascontiguousarray(net.head[:, start : (start := start + len(net.biases[index]))])
                self._tops[index] = self._layer(np.pad(part, more), np.zeros(rows, np.float32), None, self._low)
            self._basis = self._tensor(np.pad(net.basis, more[::-1]))
            parts = [self._basis, self._offset, self._correction]
            self._basis_and_offset = torch.column_stack([part for part in parts if part is not None])
            self._skip = None if net.skip is None else self._tensor(np.pad(net.skip, more)).T
        elif net.head is not None:
            self._head = self._tensor(net.head).to(self._low)
        elif net.basis is not None and net.skip is not None:
            if net.unmixing is None:
                self._skip = self._tensor(net.basis @ net.skip).T
            else:
                self._basis = self._tensor(net.basis)

    def batch(self, pixels: torch.Tensor, out: torch.Tensor, coordinates: torch.Tensor | None = None) -> None:
        """Apply to (batch_pixels, c) pixels; writes (C, batch_pixels), band-major as files are.

        ``coordinates``: (J, batch_pixels) of the correction, where the network has one.
        """
        net, unmixing = self.network, self.network.unmixing
        left = self._correction  # to be added
        room = self._room(len(pixels))
        low, last = self._hidden(pixels, room)
        if low is not None and self._basis is not None:
            if self._skip is not None:
                low.addmm_(pixels, self._skip)
            if unmixing is not None:
                abundances = low[:, : len(unmixing.level)]
                abundances.copy_(unmixing.constrained(abundances + self._level, dim=1))
            if room.beside_one is None or room.coordinates is None:
                torch.addmm(self._offset, self._basis, low.T, out=out)
            else:
                if coordinates is not None:
                    room.coordinates.copy_(coordinates)
                torch.mm(self._basis_and_offset, room.beside_one, out=out)
                left = None
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
        if left is not None and coordinates is not None:
            out.addmm_(left, coordinates)

    def _hidden(self, pixels: torch.Tensor, room: Room) -> tuple[torch.Tensor | None, list[torch.Tensor]]:
        """The coordinates in the basis (n, K'), or None and what the head reads.

        No layer is kept longer than it is needed: memory that is used again is still in the caches.
        """
        net = self.network
        outputs = {INPUT: pixels}
        low: torch.Tensor | None = None
        low_room = room.low
        steps = zip(self._layers, net.reads, net.residuals, room.layers, strict=True)
        for index, (layer, source, residual, place) in enumerate(steps):
            hidden = layer(outputs[source], place)
            if hidden.dtype != self._low:
                hidden = hidden.to(self._low)
            if residual != NO_RESIDUAL:
                hidden.add_(outputs[residual])
            outputs[index] = hidden
            if index in self._tops:
                top = self._tops[index]
                if low is None:
                    low = top(hidden, low_room)
                    if low_room is None:
                        low = low.float()
                    elif low is not low_room:
                        low = low_room.copy_(low)
                elif self._low == torch.float32:
                    top(hidden, onto=low)
                else:
                    low.add_(top(hidden).float())
            for spent in self._spent[index]:
                del outputs[spent]
        return low, [outputs[index] for index in net.last_layers if index not in self._tops]

    def _room(self, pixels: int) -> Room:
        """Memory of this thread for batches of so many pixels."""
        units = [len(bias) for bias in self.network.biases]
        if self.device.type != "cpu" or self._low != torch.float32:
            return Room([None] * len(units))
        if getattr(self._mine, "pixels", None) != pixels:
            begins = _begins(units, self._spent)
            end = max((begin + count for begin, count in zip(begins, units, strict=True)), default=0)
            memory = torch.empty(pixels * end)
            room = Room(
                [
                    memory[pixels * begin : pixels * (begin + count)].view(pixels, count)
                    for begin, count in zip(begins, units, strict=True)
                ]
            )
            if self._tops:
                first = self._coordinates + 1
                width = first + (0 if self._correction is None else self._correction.shape[1])
                beside_one = torch.ones((pixels, -(-width // LANES) * LANES))[:, :width]
                room = Room(room.layers, beside_one[:, : first - 1], beside_one.T, beside_one[:, first:].T)
            self._mine.pixels, self._mine.room = pixels, room
        kept: Room = self._mine.room
        return kept

    def _wide_head(self, head: torch.Tensor, hidden: torch.Tensor, out: torch.Tensor) -> None:
        """H h + o as (bands, units) times (units, pixels): the file's order comes out without a transpose."""
        if self.device.type == "cpu":
            try:
                product = torch.ops.mkldnn._linear_pointwise(head, hidden, None, "none", [], "")
            except (AttributeError, NotImplementedError, RuntimeError, TypeError):
                product = head @ hidden.T
            if product.dtype == out.dtype:
                torch.add(product, self._offset, out=out)
            else:  # one pass of mixed types takes longer than two
                out.copy_(product).add_(self._offset)
        elif self._low == torch.float32:
            torch.addmm(self._offset, head, hidden.T, out=out)
        else:
            torch.add(head @ hidden.T, self._offset, out=out)

    def __call__(self, msi: Floats, coordinates: Floats | None = None) -> Floats:
        """Apply to (c, n) float32 pixels in physical units; gives (C, n), NaN where a band is not finite.

        ``coordinates``: (J, n) of the correction, where the network has one.
        """
        size = self.batch_pixels
        pixels, beside, valid = self.gathered(msi, coordinates, size)
        fused = empty_tile(self.network.outputs, len(valid))
        with torch.inference_mode(), one_torch_thread():
            given, result = torch.from_numpy(pixels), torch.from_numpy(fused)
            rest = torch.empty(self.network.outputs, size)
            starts = range(0, len(valid), size)
            wanted = np.logical_or.reduceat(valid, starts) if len(starts) else np.zeros(0, bool)
            corrections = [None] * len(starts) if beside is None else torch.split(torch.from_numpy(beside), size, dim=1)
            batches = zip(wanted, torch.split(given, size), torch.split(result, size, dim=1), corrections, strict=True)
            for any_valid, batch, target, correction in batches:
                if not any_valid:
                    continue
                whole = target.shape[1] == size
                self.batch(batch, target if whole else rest, correction)
                if not whole:
                    target.copy_(rest[:, : target.shape[1]])
        blanked(fused, valid)
        return fused

    def gathered(
        self, msi: Floats, coordinates: Floats | None, size: int
    ) -> tuple[Floats, Floats | None, NDArray[np.bool_]]:
        """Pixels (whole batches, c) and coordinates (J, whole batches), and which of the n pixels are valid.

        Zeros where invalid or beyond the last.
        """
        net = self.network
        if msi.ndim != 2 or msi.shape[0] != net.inputs:
            raise ValueError(f"expected ({net.inputs}, n) MSI values, got {msi.shape}")
        count = msi.shape[1]
        wanted = None if net.correction is None else (net.correction.shape[1], count)
        if (None if coordinates is None else coordinates.shape) != wanted:
            raise ValueError(f"expected coordinates of the correction of shape {wanted}")
        valid: NDArray[np.bool_] = np.asarray(np.isfinite(msi).all(axis=0))
        pixels = np.zeros((-(-count // size) * size, len(msi)), np.float32)
        np.copyto(pixels[:count], msi.T, where=valid[:, None])
        if coordinates is not None and len(pixels) != count:
            coordinates = np.pad(coordinates, ((0, 0), (0, len(pixels) - count)))
        return pixels, coordinates, valid


def empty_tile(bands: int, pixels: int) -> Floats:
    """Memory (bands, pixels) whose bands begin on lines of the caches, each on another one."""
    stride = (-(-pixels // LINE) + 1) * LINE
    memory = np.empty(bands * stride + LINE, np.float32)
    first = -(memory.ctypes.data // memory.itemsize) % LINE
    return memory[first : first + bands * stride].reshape(bands, stride)[:, :pixels]


def _begins(units: list[int], spent: list[list[int]]) -> list[int]:
    """Per layer where its memory begins, in units: over that of layers nobody reads any more.

    >>> _begins([128, 64, 64, 64], [[0], [], [1], [2]])
    [0, 0, 64, 0]
    """
    begins: list[int] = []
    alive: list[int] = []
    for index, (count, past) in enumerate(zip(units, spent, strict=True)):
        begin = 0
        for other in sorted(alive, key=begins.__getitem__):
            if begin + count <= begins[other]:
                break
            begin = max(begin, begins[other] + units[other])
        begins.append(begin)
        alive = [layer for layer in (*alive, index) if layer not in past]
    return begins


def blanked(fused: Floats, valid: NDArray[np.bool_]) -> None:
    """Set the invalid pixels of a (C, n) product to NaN."""
    if not valid.all():
        np.copyto(fused, np.float32(np.nan), where=~valid)
