"""Where the layers of a block lie, and the tables that the code reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geolift.compiled.cpu import Cpu
from geolift.compiled.tables import TILE_PAIRS, TILE_ROWS
from geolift.network import INPUT, NO_RESIDUAL, Floats, Network

NOWHERE = -1
IDENTITY = 1.0
"""Slope of a rectifier that changes nothing."""

TILE_SHAPES = np.frombuffer(
    bytes([1, *[0] * 15, *[4 * TILE_PAIRS, 0] * 8, *[0] * 16, *[TILE_ROWS] * 8, *[0] * 8]), np.uint8
)
"""All eight tiles whole: palette 1, bytes of a row from byte 16 on, rows from byte 48 on."""


class Layout:
    """Where the layers of a block lie, and the tables that the code reads.

    Attributes
    ----------
    rows
        Rows of a block.
    top
        Rows that the product reads.
    bands
        Outputs in the order in which they are computed; the last is computed more than once to fill a group.
    job
        The fields of `JOB` that are the same in all calls.
    """

    def __init__(self, network: Network, cpu: Cpu, tiled: bool) -> None:
        self._cpu, self._tiled = cpu, tiled
        self._alive: list[NDArray[Any]] = []  # what the tables point to
        self.rows = network.inputs
        self._steps: list[list[int]] = []
        self._pairs: list[int] = []
        pixels = list(range(network.inputs))
        first_rows: list[int] = []
        for index, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
            source, added = network.reads[index], network.residuals[index]
            reads = pixels if source == INPUT else _range(first_rows[source], len(network.biases[source]))
            beside = NOWHERE if added == NO_RESIDUAL else first_rows[added]
            add = self._tiled_step if tiled and source != INPUT else self._step
            first_rows.append(add(weight, bias, reads, network.slope, beside))
        top = [row for layer in network.last_layers for row in _range(first_rows[layer], len(network.biases[layer]))]
        matrices = [network.head] if network.head is not None else []
        if network.skip is not None:
            matrices, top = [*matrices, network.skip], top + pixels
        last = np.concatenate(matrices, axis=1)
        if network.basis is not None:
            first = self._step(last, np.zeros(len(last), np.float32), top, IDENTITY, NOWHERE)
            last, top = network.basis, _range(first, len(last))
        self.top = top
        self._finish(network, last)

    def _finish(self, network: Network, last: Floats) -> None:
        pairs = self.rows
        for step in self._pairs:
            self._steps[step][-1] = pairs * self._cpu.pixels
            self.rows = max(self.rows, pairs + self._steps[step][3] * TILE_PAIRS)
        beside = np.empty((network.outputs, 0), np.float32) if network.correction is None else network.correction
        weights = np.concatenate([last, beside], axis=1)
        groups = -(-network.outputs // self._cpu.units)
        self.bands = np.minimum(np.arange(groups * self._cpu.units), network.outputs - 1)
        lowest, highest = network.clip or (0.0, 0.0)
        self.job = {
            **{"steps": self._kept(np.array(self._steps, np.int64)), "n_steps": len(self._steps)},
            **{"top": self._places(self.top), "n_top": len(self.top), "n_inputs": network.inputs},
            **{"n_coordinates": beside.shape[1], "groups": groups, "tile_shapes": self._kept(TILE_SHAPES)},
            **{"weights": self._grouped(weights[self.bands]), "biases": self._kept(network.offset[self.bands])},
            **{"clipped": NOWHERE if network.clip is None else 0, "lowest": bits(lowest), "highest": bits(highest)},
        }

    def _kept(self, array: NDArray[Any]) -> int:
        """The address of an array that stays."""
        self._alive.append(np.ascontiguousarray(array))
        return address(self._alive[-1])

    def _places(self, rows: list[int]) -> int:
        return self._kept(np.array(rows, np.int64) * self._cpu.pixels)

    def _grouped(self, weights: Floats) -> int:
        """(groups, inputs, units of a group)."""
        groups = weights.astype(np.float32).reshape(-1, self._cpu.units, weights.shape[1])
        return self._kept(groups.transpose(0, 2, 1))

    def _added(self, units: int, multiple: int) -> tuple[int, int]:
        """Rows for so many units, in groups: the first row and how many groups."""
        first, groups = self.rows, -(-units // multiple)
        self.rows += groups * multiple
        return first, groups

    def _step(self, weight: Floats, bias: Floats, reads: list[int], slope: float, added: int) -> int:
        """Add a layer; returns its first row."""
        first, groups = self._added(len(bias), self._cpu.units)
        spare = groups * self._cpu.units - len(bias)
        weights, biases = self._grouped(np.pad(weight, ((0, spare), (0, 0)))), self._kept(np.pad(bias, (0, spare)))
        self._add([weights, biases, self._places(reads), len(reads), groups], slope, added, first)
        return first

    def _tiled_step(self, weight: Floats, bias: Floats, reads: list[int], slope: float, added: int) -> int:
        """Add a layer in tiles of bfloat16; returns its first row."""
        first, groups = self._added(len(bias), TILE_ROWS)
        deep = -(-len(reads) // (2 * TILE_PAIRS))
        spare, beyond = groups * TILE_ROWS - len(bias), deep * 2 * TILE_PAIRS - len(reads)
        whole = torch.from_numpy(np.pad(weight, ((0, spare), (0, beyond))))
        short = whole.to(torch.bfloat16).view(torch.int16).numpy()
        tiles = short.reshape(groups, TILE_ROWS, deep, 2 * TILE_PAIRS).transpose(0, 2, 1, 3)
        self._pairs.append(len(self._steps))
        places = self._places(reads + reads[:1] * beyond)
        self._add([self._kept(tiles), self._kept(np.pad(bias, (0, spare))), places, deep, groups], slope, added, first)
        return first

    def _add(self, tables: list[int], slope: float, added: int, first: int) -> None:
        beside = added if added == NOWHERE else added * self._cpu.pixels
        self._steps.append([*tables, bits(slope), beside, first * self._cpu.pixels, NOWHERE])


def _range(first: int, count: int) -> list[int]:
    return list(range(first, first + count))


def address(array: NDArray[Any]) -> int:
    """Where an array's numbers lie."""
    return int(array.ctypes.data)


def bits(value: float) -> int:
    """A float32 as the code's tables hold it."""
    return int(np.float32(value).view(np.uint32))
