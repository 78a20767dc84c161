"""A network as few matrix products: values band by band, all layers below each other in one block of memory.

A product with wide rows is what BLAS does best, and next to the products little else is left to do:

- a row of ones stands below every layer, so that biases are a column of the weights and no pass of their own;
- layers that read the pixels are one product, and so is the head, whose inputs lie together;
- the linear path rides through the rectifiers;
- a layer takes the rows of one that nobody reads any more: memory that is used again is still in the caches.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from geolift.network import INPUT, LINE, NO_RESIDUAL, Floats, Network, without_skip

BETWEEN_ROWS = 2 * LINE
"""Numbers, so that rows a power of two apart do not fall on the same lines of the caches; a line of bfloat16."""


@dataclass(frozen=True)
class Step:
    """One product and what follows it: rows ``written`` = a(weight times rows ``read``) + rows ``added``.

    ``read`` None = the pixels.
    """

    weight: torch.Tensor
    read: slice | None
    written: slice
    added: slice | None


@dataclass(frozen=True)
class Memory:
    """Memory for hidden layers, as views: threads wait for each other at every call, those that make views included.

    Parameters
    ----------
    steps
        Weight, rows read, written and added of each step.
    top
        What the head reads; None = the pixels.
    """

    steps: list[tuple[torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor | None]]
    top: torch.Tensor | None


class StackedNetwork:
    """y = H h + S x + o of a network on batches of pixels; may be shared by threads.

    Parameters
    ----------
    network
        Without basis, constraints, clipping and correction.
    dtype
        Of the products between hidden layers and into the head. The first layers and all sums are fp32.

    Attributes
    ----------
    rows
        Values of hidden layers for each pixel.
    """

    def __init__(self, network: Network, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self._exact = dtype == torch.float32
        # bfloat16 would round the pixels on their way through the hidden layers.
        self.network = network = without_skip(network) if self._exact else network
        self._device, self._dtype = device, dtype
        order, begins, self.rows = _places(network)
        self._steps = [*self._input_steps(order, begins), *self._hidden_steps(order, begins)]
        self._pack_head()
        self._mine = threading.local()

    def _tensor(self, array: NDArray[np.floating], dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.tensor(np.ascontiguousarray(array, np.float32), device=self._device).to(dtype)

    def _input_steps(self, order: list[int], begins: list[int]) -> list[Step]:
        """Products of the pixels; layers that lie one behind the other are one, the row of ones between them too."""
        net = self.network
        steps: list[Step] = []
        run: list[int] = []
        layers = [layer for layer in order if net.reads[layer] == INPUT]
        for layer in sorted(layers, key=begins.__getitem__):
            if run and begins[layer] != _end(net, begins, run[-1]):
                steps.append(self._input_step(run, begins))
                run = []
            run.append(layer)
        return [*steps, self._input_step(run, begins)] if run else steps

    def _input_step(self, run: list[int], begins: list[int]) -> Step:
        net = self.network
        one = np.eye(1, 1 + net.inputs, dtype=np.float32)  # a(1) = 1
        parts = [part for layer in run for part in (np.column_stack([net.biases[layer], net.weights[layer]]), one)]
        written = slice(begins[run[0]], _end(net, begins, run[-1]) - 1)
        return Step(self._tensor(np.concatenate(parts[:-1])), None, written, None)

    def _hidden_steps(self, order: list[int], begins: list[int]) -> list[Step]:
        net = self.network

        def units(layer: int) -> slice:
            return slice(begins[layer], _end(net, begins, layer) - 1)

        return [
            Step(
                self._tensor(np.column_stack([net.weights[layer], net.biases[layer]]), self._dtype),
                slice(begins[net.reads[layer]], _end(net, begins, net.reads[layer])),
                units(layer),
                None if net.residuals[layer] == NO_RESIDUAL else units(net.residuals[layer]),
            )
            for layer in order
            if net.reads[layer] != INPUT
        ]

    def _pack_head(self) -> None:
        """Prepare y = H h + S x + o as [H 0 o] [h 1], or as [o S] [1 x] where there are no hidden layers."""
        net = self.network
        self._constant = self._skip = None
        if net.head is None:
            assert net.skip is not None
            self._top, self._head = None, self._tensor(np.column_stack([net.offset, net.skip]))
            return
        parts: list[Floats] = []
        start, zeros = 0, np.zeros((net.outputs, 1), np.float32)
        for layer in net.last_layers:
            parts += [net.head[:, start : (start := start + len(net.biases[layer]))], zeros]
        if self._exact:
            parts[-1] = net.offset[:, None]
        else:
            self._constant = self._tensor(net.offset)[:, None]
            self._skip = None if net.skip is None else self._tensor(net.skip)
        head = np.column_stack(parts)
        self._top, self._head = slice(0, head.shape[1]), self._tensor(head, self._dtype)

    def batch(self, pixels: torch.Tensor, out: torch.Tensor) -> None:
        """Apply to pixels (1 + c, n), ones in the first row; writes (C, n)."""
        slope = self.network.slope
        memory = self._memory(pixels.shape[1])
        for weight, read, written, added in memory.steps:
            if read is not None:
                torch.mm(weight, read, out=written)
            elif self._exact:
                torch.mm(weight, pixels, out=written)
            else:
                written.copy_(torch.nn.functional.leaky_relu_(weight @ pixels, slope))
                continue
            torch.nn.functional.leaky_relu_(written, slope)
            if added is not None:
                written.add_(added)
        top = pixels if memory.top is None else memory.top
        if self._head.dtype == out.dtype:
            torch.mm(self._head, top, out=out)
        else:  # one pass of mixed types takes longer than two
            out.copy_(self._head @ top)
        if self._constant is not None:
            out.add_(self._constant)
        if self._skip is not None:
            out.addmm_(self._skip, pixels[1:])

    def _memory(self, pixels: int) -> Memory:
        """Memory for hidden layers of so many pixels; on the CPU each thread keeps its own."""
        if self._device.type == "cpu" and getattr(self._mine, "pixels", None) == pixels:
            kept: Memory = self._mine.memory
            return kept
        rows = torch.ones(self.rows, pixels + BETWEEN_ROWS, dtype=self._dtype, device=self._device)[:, :pixels]

        def view(part: slice | None) -> torch.Tensor | None:
            return None if part is None else rows[part]

        steps = [(step.weight, view(step.read), rows[step.written], view(step.added)) for step in self._steps]
        memory = Memory(steps, view(self._top))
        if self._device.type == "cpu":
            self._mine.pixels, self._mine.memory = pixels, memory
        return memory


def _end(network: Network, begins: list[int], layer: int) -> int:
    """The row behind a layer's row of ones."""
    return begins[layer] + len(network.biases[layer]) + 1


def _places(network: Network) -> tuple[list[int], list[int], int]:
    """Return the order in which layers are computed, the first row of each, and the number of rows.

    Those that read the pixels come first in order, those that the head reads first in memory. A layer has a row more
    than units, of ones. It takes the rows of one with as many units that nobody reads any more, and those of one that
    the head reads until that is computed.
    """
    units = [len(bias) for bias in network.biases]
    order = sorted(range(len(units)), key=lambda layer: network.reads[layer] != INPUT)
    turn = {layer: at for at, layer in enumerate(order)}
    read_until = dict.fromkeys(network.last_layers, len(order))
    for layer, sources in enumerate(zip(network.reads, network.residuals, strict=True)):
        for source in set(sources) - {INPUT, NO_RESIDUAL}:
            read_until[source] = max(read_until.get(source, 0), turn[layer])
    begins, rows = [-1] * len(units), 0
    free_from: dict[int, int] = {}  # by first row: the turn from which it may be written
    wanted_at: dict[int, int] = {}
    size: dict[int, int] = {}
    for layer in network.last_layers:
        begins[layer] = rows
        free_from[rows], wanted_at[rows], size[rows] = 0, turn[layer], units[layer]
        rows += units[layer] + 1
    for layer in order:
        if begins[layer] < 0:
            fitting = (
                begin
                for begin in size
                if size[begin] == units[layer]
                and free_from[begin] <= turn[layer]
                and read_until[layer] < wanted_at[begin]
            )
            begins[layer] = begin = next(fitting, rows)
            if begin == rows:
                wanted_at[begin], size[begin] = len(order) + 1, units[layer]
                rows += units[layer] + 1
        free_from[begins[layer]] = read_until[layer] + 1
    return order, begins, rows
