"""Where the layers of a block lie, and the tables that the code reads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geolift.network.formula import INPUT, NO_RESIDUAL, Floats, Network
from geolift.network.llvm.cpu import Cpu
from geolift.network.llvm.tables import STEP, TILE_PAIRS, TILE_ROWS

NOWHERE = -1
IDENTITY = 1.0
"""Slope of a rectifier that changes nothing."""

TILE_SHAPES = np.frombuffer(
    bytes([1, *[0] * 15, *[4 * TILE_PAIRS, 0] * 8, *[0] * 16, *[TILE_ROWS] * 8, *[0] * 8]), np.uint8
)
"""All eight tiles whole: palette 1, bytes of a row from byte 16 on, rows from byte 48 on."""


class Layout:
    """Where the layers of a block lie, and the tables that the code reads.

    Parameters
    ----------
    tiled
        Whether products between hidden layers are done in tiles of bfloat16.

    Attributes
    ----------
    rows
        Rows of a block: of its pixels, of its layers, of pairs for tiles.
    top
        Rows that the last product reads.
    bands
        Outputs in the order in which they are computed; the last is computed again and again to fill a group.
    job
        The fields of `JOB` that are the same in all calls.
    """

    def __init__(self, network: Network, cpu: Cpu, tiled: bool) -> None:
        self._cpu = cpu
        self._alive: list[NDArray[Any]] = []  # what the tables point to
        self._steps: list[dict[str, int]] = []
        self.rows = network.inputs
        pixels = list(range(network.inputs))
        layers: list[list[int]] = []
        for index, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
            source, added = network.reads[index], network.residuals[index]
            reads = pixels if source == INPUT else layers[source]
            add = self._add_tiled if tiled and source != INPUT else self._add
            beside = NOWHERE if added == NO_RESIDUAL else layers[added][0]
            layers.append(add(weight, bias, reads, network.slope, beside))
        last, self.top = _last_product(network, layers, pixels)
        if network.basis is not None:
            self.top = self._add(last, np.zeros(len(last), np.float32), self.top, IDENTITY, NOWHERE)
            last = network.basis
        self._find_room_for_pairs()
        beside_last = np.empty((network.outputs, 0), np.float32) if network.correction is None else network.correction
        self.bands = np.minimum(np.arange(_up(network.outputs, cpu.units)), network.outputs - 1)
        self.job = self._job(network, np.concatenate([last, beside_last], axis=1)[self.bands])

    def _job(self, network: Network, weights: Floats) -> dict[str, int]:
        lowest, highest = network.clip or (0.0, 0.0)
        steps = np.array([[step[name] for name in STEP] for step in self._steps], np.int64)
        return {
            "tile_shapes": self._kept(TILE_SHAPES),
            "steps": self._kept(steps),
            "n_steps": len(self._steps),
            "top": self._places(self.top),
            "n_top": len(self.top),
            "n_inputs": network.inputs,
            "n_coordinates": weights.shape[1] - len(self.top),
            "weights": self._grouped(weights),
            "biases": self._kept(network.offset[self.bands]),
            "groups": len(weights) // self._cpu.units,
            "clipped": NOWHERE if network.clip is None else 0,
            "lowest": bits(lowest),
            "highest": bits(highest),
        }

    def _add(self, weight: Floats, bias: Floats, reads: list[int], slope: float, added: int) -> list[int]:
        """Add a layer; returns its rows."""
        spare = _up(len(bias), self._cpu.units) - len(bias)
        tables = {
            "weights": self._grouped(np.pad(weight, ((0, spare), (0, 0)))),
            "reads": self._places(reads),
            "n_reads": len(reads),
            "groups": (len(bias) + spare) // self._cpu.units,
        }
        return self._placed(tables, np.pad(bias, (0, spare)), slope, added)[: len(bias)]

    def _add_tiled(self, weight: Floats, bias: Floats, reads: list[int], slope: float, added: int) -> list[int]:
        """Add a layer in tiles of bfloat16; returns its rows."""
        deep = 2 * TILE_PAIRS
        spare, beyond = _up(len(bias), TILE_ROWS) - len(bias), _up(len(reads), deep) - len(reads)
        tiles = _bfloat16(np.pad(weight, ((0, spare), (0, beyond)))).reshape(
            -1, TILE_ROWS, (len(reads) + beyond) // deep, deep
        )
        tables = {
            "weights": self._kept(tiles.transpose(0, 2, 1, 3)),
            "reads": self._places(reads + reads[:1] * beyond),
            "n_reads": (len(reads) + beyond) // deep,
            "groups": (len(bias) + spare) // TILE_ROWS,
            "pairs": 0,
        }
        return self._placed(tables, np.pad(bias, (0, spare)), slope, added)[: len(bias)]

    def _placed(self, tables: dict[str, int], bias: Floats, slope: float, added: int) -> list[int]:
        """Give a layer its rows behind those of the others."""
        rows = list(range(self.rows, self.rows + len(bias)))
        self.rows += len(bias)
        places = {
            "biases": self._kept(bias),
            "slope": bits(slope),
            "added": NOWHERE if added == NOWHERE else added * self._cpu.pixels,
            "written": rows[0] * self._cpu.pixels,
        }
        self._steps.append({"pairs": NOWHERE} | tables | places)
        return rows

    def _find_room_for_pairs(self) -> None:
        """Behind all layers; those in tiles take turns there."""
        tiled = [step for step in self._steps if step["pairs"] != NOWHERE]
        for step in tiled:
            step["pairs"] = self.rows * self._cpu.pixels
        self.rows += max((step["n_reads"] * TILE_PAIRS for step in tiled), default=0)

    def _grouped(self, weights: Floats) -> int:
        """(groups, inputs, units of a group)."""
        groups = weights.astype(np.float32).reshape(-1, self._cpu.units, weights.shape[1])
        return self._kept(groups.transpose(0, 2, 1))

    def _places(self, rows: list[int]) -> int:
        return self._kept(np.array(rows, np.int64) * self._cpu.pixels)

    def _kept(self, array: NDArray[Any]) -> int:
        """The address of an array that stays."""
        self._alive.append(np.ascontiguousarray(array))
        return address(self._alive[-1])


def _last_product(network: Network, layers: list[list[int]], pixels: list[int]) -> tuple[Floats, list[int]]:
    """The head and the linear path side by side, and the rows that they read."""
    parts = [] if network.head is None else [network.head]
    rows = [row for layer in network.last_layers for row in layers[layer]]
    if network.skip is not None:
        parts, rows = [*parts, network.skip], rows + pixels
    return np.concatenate(parts, axis=1), rows


def _up(count: int, multiple: int) -> int:
    """The next multiple."""
    return -(-count // multiple) * multiple


def address(array: NDArray[Any]) -> int:
    """Where an array's numbers lie."""
    return int(array.ctypes.data)


def bits(value: float) -> int:
    """A float32 as the code's tables hold it."""
    return int(np.float32(value).view(np.uint32))


def _bfloat16(values: Floats) -> NDArray[np.int16]:
    """The bits of finite float32 numbers rounded to bfloat16, to the nearest, to even where two are near."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16).view(np.int16)
