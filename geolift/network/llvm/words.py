"""The words that code is written in: functions, loops, addresses, vectors of pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from geolift.network.llvm.cpu import VECTORS, Cpu

Value = Any
"""What the code computes; llvmlite has no types of its own. An int stands for itself where a number is wanted."""

Row = Callable[[Value], Value]
"""The address of the k-th row of pixels."""

NUMBER, HALF, SHORT, BYTE = (ir.IntType(bits) for bits in (64, 32, 16, 8))
REAL, ADDRESS, NOTHING = ir.FloatType(), ir.PointerType(), ir.VoidType()


class _BFloat(ir.Type):  # type: ignore[misc]
    """LLVM's bfloat, which llvmlite has no name for."""

    def _to_string(self) -> str:
        return "bfloat"


BFLOAT = _BFloat()


class Builder(ir.IRBuilder):  # type: ignore[misc]
    """Writes one function, line by line.

    Parameters
    ----------
    kinds
        Of its arguments.

    Attributes
    ----------
    arguments
        Their values.
    """

    def __init__(self, module: ir.Module, cpu: Cpu, name: str, *kinds: ir.Type) -> None:
        made = ir.Function(module, ir.FunctionType(NOTHING, kinds), name)
        made.attributes.add("noinline")
        super().__init__(made.append_basic_block())
        self.cpu, self.arguments = cpu, made.args
        self.kind = ir.VectorType(REAL, cpu.lanes)

    def call_intrinsic(self, name: str, result: ir.Type, *values: Value) -> Value:
        """Call what LLVM has built in."""
        known = self.module.globals.get(name)
        kinds = [value.type for value in values]
        return self.call(known or ir.Function(self.module, ir.FunctionType(result, kinds), name), values)

    @contextmanager
    def loop(self, count: Value) -> Iterator[Value]:
        """Write the body of a loop over 0 … count − 1."""
        before, head = self.block, self.append_basic_block()
        body, after = self.append_basic_block(), self.append_basic_block()
        self.branch(head)
        self.position_at_end(head)
        index = self.phi(NUMBER)
        index.add_incoming(ir.Constant(NUMBER, 0), before)
        self.cbranch(self.icmp_signed("<", index, count), body, after)
        self.position_at_end(body)
        yield index
        index.add_incoming(self.plus(index, 1), self.block)
        self.branch(head)
        self.position_at_end(after)

    # -- whole numbers and addresses ----------------------------------------------------------------------------------

    def plus(self, first: Value, second: Value) -> Value:
        """The sum of two whole numbers."""
        return self.add(*map(_number, (first, second)))

    def times(self, first: Value, second: Value) -> Value:
        """The product of two whole numbers."""
        return self.mul(*map(_number, (first, second)))

    def known(self, number: Value) -> Value:
        """Whether a number is not negative."""
        return self.icmp_signed(">=", number, ir.Constant(NUMBER, 0))

    def at(self, address: Value, index: Value, kind: ir.Type = REAL) -> Value:
        """The address of a number in an array."""
        return self.gep(address, [_number(index)], source_etype=kind)

    def number_at(self, address: Value, index: Value) -> Value:
        """A whole number of an array."""
        return self.load(self.at(address, index, NUMBER), typ=NUMBER)

    def fields(self, names: Sequence[str], table: Value) -> Callable[..., Value]:
        """Read a table by names: field(name, kind)."""
        return lambda name, kind=NUMBER: self.load(self.at(table, names.index(name), NUMBER), typ=kind)

    def listed(self, places: Value, base: Value) -> Row:
        """Rows whose places in an array are listed."""
        return lambda k: self.at(base, self.number_at(places, k))

    def rows_of_block(self, first: Value) -> Row:
        """Rows that lie one behind the other."""
        return lambda k: self.at(first, self.times(k, self.cpu.pixels))

    # -- vectors of pixels --------------------------------------------------------------------------------------------

    def slot(self, value: Value | None = None) -> Value:
        """A vector that changes. LLVM turns it into a register."""
        slot = self.alloca(self.kind)
        if value is not None:
            self.store(value, slot)
        return slot

    def held(self, slot: Value) -> Value:
        """What a slot holds."""
        return self.load(slot, typ=self.kind)

    def everywhere(self, value: Value) -> Value:
        """One real number in all lanes."""
        if isinstance(value, float):
            value = ir.Constant(REAL, value)
        empty, lanes = ir.Constant(self.kind, ir.Undefined), ir.VectorType(HALF, self.cpu.lanes)
        one = self.insert_element(empty, value, ir.Constant(HALF, 0))
        return self.shuffle_vector(one, empty, ir.Constant(lanes, [0] * self.cpu.lanes))

    def everywhere_at(self, address: Value, index: Value) -> Value:
        """One real number of an array in all lanes."""
        return self.everywhere(self.load(self.at(address, index), typ=REAL))

    def vector_at(self, address: Value, index: Value = 0) -> Value:
        """The vector that begins there."""
        return self.load(self.at(address, index), typ=self.kind, align=4)

    def put(self, vector: Value, address: Value, index: Value = 0) -> None:
        """Write a vector of reals."""
        self.store(vector, self.at(address, index), align=4)

    def lane_by_lane(self, name: str, *vectors: Value) -> Value:
        """Call fma or rint."""
        return self.call_intrinsic(f"llvm.{name}.v{self.cpu.lanes}f32", self.kind, *vectors)

    def if_smaller(self, first: Value, second: Value) -> Value:
        """The first where it is smaller than the second, else the second; so too where either is NaN."""
        return self.select(self.fcmp_ordered("<", first, second), first, second)

    def if_larger(self, first: Value, second: Value) -> Value:
        """The first where it is larger than the second, else the second; so too where either is NaN."""
        return self.select(self.fcmp_ordered(">", first, second), first, second)

    def copy_rows(self, count: Value, source: Row, target: Row) -> None:
        """Copy rows of a block."""
        with self.loop(count) as k:
            begin, end = source(k), target(k)
            for first in range(0, VECTORS * self.cpu.lanes, self.cpu.lanes):
                self.put(self.vector_at(begin, first), end, first)


def _number(value: Value) -> Value:
    return ir.Constant(NUMBER, value) if isinstance(value, int) else value
