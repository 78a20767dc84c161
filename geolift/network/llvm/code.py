"""The code: one layer on one block, the product of a panel, and the way of all panels through both."""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir

from geolift.network.llvm.cpu import AVX512, Cpu
from geolift.network.llvm.sums import Sums
from geolift.network.llvm.tables import JOB, RANGES, STEP
from geolift.network.llvm.tiles import begin_tiles, end_tiles, tiled_layer
from geolift.network.llvm.words import ADDRESS, HALF, NUMBER, REAL, SHORT, Builder, Row, Value

_compiling = threading.Lock()


def compiled(cpu: Cpu, rounds: bool) -> Callable[[int, int, int], None]:
    """Return run(job, panels, how many): the addresses of a job (`JOB`) and of the panels' first pixels, int64.

    ``rounds``: it writes round(value x steps per unit) in two bytes, and lowest, highest and NaN of each panel; else
    float32. Threads run it at the same time.
    """
    with _compiling:
        return _compiled(cpu, rounds)[1]


@functools.cache
def _compiled(cpu: Cpu, rounds: bool) -> tuple[Any, Callable[[int, int, int], None]]:
    """The engine that keeps the code alive, and its way in."""
    features = binding.get_host_cpu_features().flatten()
    if cpu.lanes == AVX512.lanes:
        features += ",-prefer-256-bit"
    target = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=features, opt=3, jit=True
    )
    engine = binding.create_mcjit_compiler(written(cpu, rounds, target), target)
    engine.finalize_object()
    address = ctypes.c_int64
    return engine, ctypes.CFUNCTYPE(None, address, address, address)(engine.get_function_address("run"))


def written(cpu: Cpu, rounds: bool, target: Any) -> Any:
    """Return the code as LLVM's module, made ready for a target machine."""
    module = ir.Module("geolift")
    module.triple = target.triple
    layers = _layer(module, cpu), tiled_layer(module, cpu) if cpu.tiles else None
    _run(module, cpu, *layers, _read_out(module, cpu, rounds))
    ready = binding.parse_assembly(str(module))
    options = binding.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    passes = binding.create_pass_builder(target, options)
    passes.getModulePassManager().run(ready, passes)
    return ready


def _run(module: ir.Module, cpu: Cpu, layer: ir.Function, tiled_layer: ir.Function | None, head: ir.Function) -> None:
    """Write the way in: panel by panel, its blocks through the hidden layers, then its product."""
    b = Builder(module, cpu, "run", NUMBER, NUMBER, NUMBER)
    table, panels = (b.inttoptr(given, ADDRESS) for given in b.arguments[:2])
    job = b.fields(JOB, table)
    arena = job("arena", ADDRESS)
    if tiled_layer is not None:
        begin_tiles(b, job("tile_shapes", ADDRESS))
    with b.loop(b.arguments[2]) as panel:
        first_pixel = b.number_at(panels, panel)
        with b.loop(job("blocks")) as block:
            pixel = b.plus(first_pixel, b.times(block, cpu.pixels))
            b.copy_rows(job("n_inputs"), _given(b, job, "pixels", "pixel_stride", pixel), b.rows_of_block(arena))
            with b.loop(job("n_steps")) as number:
                step = b.at(job("steps", ADDRESS), b.times(number, len(STEP)), NUMBER)
                _call_layer(b, step, arena, layer, tiled_layer)
            kept, beside = _kept(b, job, block)
            b.copy_rows(job("n_top"), b.listed(job("top", ADDRESS), arena), kept)
            b.copy_rows(job("n_coordinates"), _given(b, job, "coordinates", "coordinate_stride", pixel), beside)
        b.call(head, [table, first_pixel, b.at(job("ranges", ADDRESS), b.times(panel, RANGES * cpu.lanes))])
    if tiled_layer is not None:
        end_tiles(b)
    b.ret_void()


def _given(b: Builder, job: Callable[..., Value], name: str, stride: str, pixel: Value) -> Row:
    """Rows of an array of the call, from one pixel on."""
    return lambda k: b.at(job(name, ADDRESS), b.plus(b.times(k, job(stride)), pixel))


def _call_layer(b: Builder, step: Value, arena: Value, layer: ir.Function, tiled_layer: ir.Function | None) -> None:
    """Compute a layer, in tiles if it has pairs."""
    if tiled_layer is None:
        b.call(layer, [step, arena])
        return
    with b.if_else(b.known(b.fields(STEP, step)("pairs"))) as (in_tiles, plain):
        with in_tiles:
            b.call(tiled_layer, [step, arena])
        with plain:
            b.call(layer, [step, arena])


def _kept(b: Builder, job: Callable[..., Value], block: Value) -> tuple[Row, Row]:
    """What the product reads of one block of the panel: rows of hidden layers, and of the correction's coordinates."""
    rows = b.plus(job("n_top"), job("n_coordinates"))
    top = b.at(job("panel", ADDRESS), b.times(b.times(block, rows), b.cpu.pixels))
    return b.rows_of_block(top), b.rows_of_block(b.at(top, b.times(job("n_top"), b.cpu.pixels)))


def _layer(module: ir.Module, cpu: Cpu) -> ir.Function:
    """Write one layer on one block."""
    b = Builder(module, cpu, "layer", ADDRESS, ADDRESS)
    table, arena = b.arguments
    step, sums = b.fields(STEP, table), Sums(b)
    with b.loop(step("groups")) as group:
        first = b.times(group, cpu.units)
        weights = b.at(step("weights", ADDRESS), b.times(first, step("n_reads")))
        sums.begin(b.at(step("biases", ADDRESS), first))
        sums.add_products(weights, step("n_reads"), b.listed(step("reads", ADDRESS), arena))
        sums.write_layer(step, arena, b.times(first, cpu.pixels))
    b.ret_void()
    return b.function


def _read_out(module: ir.Module, cpu: Cpu, rounds: bool) -> ir.Function:
    """Write the product of a panel: all its blocks for some bands, then the next bands."""
    b = Builder(module, cpu, "read_out", ADDRESS, NUMBER, ADDRESS)
    table, first_pixel, ranges = b.arguments
    job, sums = b.fields(JOB, table), Sums(b)
    rounding = _Rounding(b, job) if rounds else None
    reads = b.plus(job("n_top"), job("n_coordinates"))
    with b.loop(job("groups")) as group:
        band = b.times(group, cpu.units)
        weights = b.at(job("weights", ADDRESS), b.times(band, reads))
        out_rows = b.at(job("rows", ADDRESS), band, NUMBER)
        with b.loop(job("blocks")) as block:
            kept, beside = _kept(b, job, block)
            sums.begin(b.at(job("biases", ADDRESS), band))
            sums.add_products(weights, job("n_top"), kept)
            sums.clip(job)
            sums.add_products(b.at(weights, b.times(job("n_top"), cpu.units)), job("n_coordinates"), beside)
            pixel = b.plus(first_pixel, b.times(block, cpu.pixels))
            for slot, r, first in sums.each():
                value = b.held(slot) if rounding is None else rounding.rounded(b.held(slot))
                place = b.plus(b.plus(b.number_at(out_rows, r), pixel), first)
                kind = REAL if rounding is None else SHORT
                b.store(value, b.at(job("out", ADDRESS), place, kind), align=4 if rounding is None else 2)
    if rounding is not None:
        rounding.tell(ranges)
    b.ret_void()
    return b.function


class _Rounding:
    """Rounds values to whole numbers, and remembers what was met."""

    def __init__(self, b: Builder, job: Callable[..., Value]) -> None:
        self._b, self._job = b, job
        first = float("inf"), float("-inf"), 0.0
        self._lowest, self._highest, self._nan = self._slots = [b.slot(b.everywhere(value)) for value in first]

    def rounded(self, value: Value) -> Value:
        """Whole numbers of two bytes. The low half of a whole number is the same with a sign and without."""
        b, lanes = self._b, self._b.cpu.lanes
        whole = b.lane_by_lane("rint", b.fmul(value, b.everywhere(self._job("steps_per_unit", REAL))))
        b.store(b.if_smaller(whole, b.held(self._lowest)), self._lowest)
        b.store(b.if_larger(whole, b.held(self._highest)), self._highest)
        b.store(b.lane_by_lane("fma", whole, b.everywhere(0.0), b.held(self._nan)), self._nan)
        return b.trunc(b.fptosi(whole, ir.VectorType(HALF, lanes)), ir.VectorType(SHORT, lanes))

    def tell(self, ranges: Value) -> None:
        """Write lowest, highest, and zero or NaN."""
        for index, slot in enumerate(self._slots):
            self._b.put(self._b.held(slot), ranges, index * self._b.cpu.lanes)
