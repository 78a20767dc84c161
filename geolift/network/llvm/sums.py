"""Sums of some units for the pixels of a block, which stay in registers until all inputs have gone by."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from geolift.network.llvm.cpu import VECTORS
from geolift.network.llvm.words import REAL, Builder, Row, Value


class Sums:
    """One vector for each unit of a group and each third of a block."""

    def __init__(self, b: Builder) -> None:
        self._b = b
        self._rows = [[b.slot() for _ in range(VECTORS)] for _ in range(b.cpu.units)]

    def each(self) -> Iterator[tuple[Value, int, int]]:
        """Slot, unit, first pixel."""
        lanes = self._b.cpu.lanes
        return ((slot, r, j * lanes) for r, row in enumerate(self._rows) for j, slot in enumerate(row))

    def change(self, of: Callable[[Value, int, int], Value]) -> None:
        """Set each to of(what it is, unit, first pixel)."""
        for slot, r, first in self.each():
            self._b.store(of(self._b.held(slot), r, first), slot)

    def begin(self, biases: Value) -> None:
        """Set each to its unit's bias."""
        self.change(lambda _, r, first: self._b.everywhere_at(biases, r))

    def add_products(self, weights: Value, count: Value, row: Row) -> None:
        """Add weights (inputs, units of the group) times so many inputs."""
        b = self._b
        with b.loop(count) as k:
            begin = row(k)
            inputs = [b.vector_at(begin, j * b.cpu.lanes) for j in range(VECTORS)]
            column = b.at(weights, b.times(k, b.cpu.units))
            for r, slots in enumerate(self._rows):
                weight = b.everywhere_at(column, r)
                for slot, values in zip(slots, inputs, strict=True):
                    b.store(b.lane_by_lane("fma", weight, values, b.held(slot)), slot)

    def write_layer(self, step: Callable[..., Value], arena: Value, place: Value) -> None:
        """Write a(sums) + what is added, ``place`` numbers behind where the layer begins."""
        b = self._b
        slope = b.everywhere(step("slope", REAL))
        self.change(lambda value, r, first: b.if_larger(b.fmul(value, slope), value))
        with b.if_then(b.known(step("added"))):
            added = b.at(arena, b.plus(step("added"), place))
            self.change(lambda value, r, first: b.fadd(value, b.vector_at(added, r * b.cpu.pixels + first)))
        written = b.at(arena, b.plus(step("written"), place))
        for slot, r, first in self.each():
            b.put(b.held(slot), written, r * b.cpu.pixels + first)

    def clip(self, job: Callable[..., Value]) -> None:
        """Keep the sums between lowest and highest, if the job has ``clipped``; NaN stays."""
        b = self._b
        with b.if_then(b.known(job("clipped"))):
            lowest, highest = (b.everywhere(job(name, REAL)) for name in ("lowest", "highest"))
            self.change(lambda value, r, first: b.if_larger(lowest, value))
            self.change(lambda value, r, first: b.if_smaller(highest, value))
