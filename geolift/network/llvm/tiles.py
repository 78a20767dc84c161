"""A layer in tiles of bfloat16, for CPUs that multiply them (AMX)."""

from __future__ import annotations

from llvmlite import ir

from geolift.network.llvm.cpu import VECTORS, Cpu
from geolift.network.llvm.sums import Sums
from geolift.network.llvm.tables import STEP, TILE_PAIRS, TILE_ROWS
from geolift.network.llvm.words import ADDRESS, BFLOAT, BYTE, HALF, NOTHING, NUMBER, Builder, Row, Value

WEIGHTS, FIRST_PIXELS = VECTORS, VECTORS + 1
"""Tiles: the sums of each third of a block come first, then the weights, then the pixels."""


def tiled_layer(module: ir.Module, cpu: Cpu) -> ir.Function:
    """Write one layer on one block, its products of bfloat16; sums and what follows are float32."""
    b = Builder(module, cpu, "tiled_layer", ADDRESS, ADDRESS)
    table, arena = b.arguments
    step, deep = b.fields(STEP, table), b.fields(STEP, table)("n_reads")
    pairs = b.at(arena, step("pairs"))
    _pair(b, b.listed(step("reads", ADDRESS), arena), pairs, b.times(deep, TILE_PAIRS))
    sums = Sums(b)
    with b.loop(step("groups")) as group:
        first = b.times(group, TILE_ROWS)
        place = b.times(first, cpu.pixels)
        written = b.at(arena, b.plus(step("written"), place))
        _multiply(b, b.at(step("weights", ADDRESS), b.times(b.times(first, deep), TILE_PAIRS)), pairs, deep)
        for j in range(VECTORS):
            _memory(b, "tilestored64", j, b.at(written, j * cpu.lanes), cpu.pixels)
        biases = b.at(step("biases", ADDRESS), first)
        for part in range(0, TILE_ROWS, cpu.units):
            rows, some = b.at(written, part * cpu.pixels), b.at(biases, part)
            sums.begin(some)
            sums.change(lambda bias, r, pixel, rows=rows: b.fadd(b.vector_at(rows, r * cpu.pixels + pixel), bias))  # type: ignore[misc]
            sums.write_layer(step, arena, b.plus(place, part * cpu.pixels))
    b.ret_void()
    return b.function


def begin_tiles(b: Builder, shapes: Value) -> None:
    """Set the shapes of the tiles."""
    b.call_intrinsic("llvm.x86.ldtilecfg", NOTHING, shapes)


def end_tiles(b: Builder) -> None:
    """Give the tiles back."""
    b.call_intrinsic("llvm.x86.tilerelease", NOTHING)


def _multiply(b: Builder, weights: Value, pairs: Value, deep: Value) -> None:
    """Set the tiles of sums to weights times pixels, so many tiles deep."""
    for j in range(VECTORS):
        b.call_intrinsic("llvm.x86.tilezero", NOTHING, _tile(j))
    with b.loop(deep) as k:
        _memory(b, "tileloadd64", WEIGHTS, b.at(weights, b.times(k, TILE_ROWS * TILE_PAIRS)), TILE_PAIRS)
        column = b.at(pairs, b.times(k, TILE_PAIRS * b.cpu.pixels))
        for j in range(VECTORS):
            _memory(b, "tileloadd64", FIRST_PIXELS + j, b.at(column, j * b.cpu.lanes), b.cpu.pixels)
            b.call_intrinsic("llvm.x86.tdpbf16ps", NOTHING, *map(_tile, (j, WEIGHTS, FIRST_PIXELS + j)))


def _tile(number: int) -> Value:
    return ir.Constant(BYTE, number)


def _memory(b: Builder, name: str, tile: int, address: Value, row: int) -> None:
    """Load or store a tile whose rows are so many numbers of four bytes apart."""
    b.call_intrinsic(f"llvm.x86.{name}", NOTHING, _tile(tile), address, ir.Constant(NUMBER, 4 * row))


def _pair(b: Builder, row: Row, pairs: Value, count: Value) -> None:
    """Round rows to bfloat16, two and two interleaved."""
    lanes = b.cpu.lanes
    order = [lane + half * lanes for lane in range(lanes) for half in range(2)]
    interleaved = ir.Constant(ir.VectorType(HALF, 2 * lanes), order)
    with b.loop(count) as pair:
        even = b.times(pair, 2)
        rows, target = (row(even), row(b.plus(even, 1))), b.at(pairs, b.times(pair, b.cpu.pixels))
        for first in range(0, VECTORS * lanes, lanes):
            halves = [b.fptrunc(b.vector_at(each, first), ir.VectorType(BFLOAT, lanes)) for each in rows]
            b.store(b.shuffle_vector(*halves, interleaved), b.at(target, first), align=4)
