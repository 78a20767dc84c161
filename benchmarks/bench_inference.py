"""The network alone: pixels per second, and the share of the best matrix rate measured in the same run.

One thread on one core, rounds of all candidates in turn, so that what else the machine does falls on all of them.
`oneDNN` and `MKL` are the two libraries behind torch's products; the better of them is the measure.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from common import arguments, table

from geolift.datamodel.encoding import Encoding
from geolift.network.backends import Runner, made_ready
from geolift.network.engine import Engine, cpu_has_bf16
from geolift.network.formula import Floats, Network
from geolift.network.llvm.network import CompiledNetwork
from geolift.network.pixels import Placing
from geolift.network.torch_backend import CPU_BATCH
from geolift.training.fit import fit
from geolift.training.training_set import TrainingSet, training_set_from_cube

EDGE = 1024
PIXELS = 256 * 256


def scene(msi: int, hsi: int, shape: tuple[int, int] = (25, 25), materials: int = 20) -> TrainingSet:
    """Return LR pixels of random smooth spectra, with noise of 35 dB, and an MSI of even bands."""
    rng = np.random.default_rng(0)
    nm = np.linspace(0, 1, hsi)
    place, width = rng.random((2, materials, 12, 1))
    library = np.exp(-np.square((nm - place) / (0.05 + 0.3 * width))).mean(axis=1)
    cube = np.einsum("yxm,mc->cyx", rng.dirichlet(np.ones(materials) / 4, shape), library)
    cube += rng.normal(0, cube.std() / 56, cube.shape)
    weights = np.kron(np.eye(msi), np.ones(-(-hsi // msi)))[:, :hsi]
    return training_set_from_cube(cube.astype(np.float32), (weights / weights.sum(1, keepdims=True)).astype(np.float32))


def pixels(network: Network) -> Floats:
    """Return a tile of an MSI."""
    return np.random.default_rng(1).random((network.inputs, PIXELS), dtype=np.float32)


def kernel(runner: Runner, network: Network) -> Callable[[], None]:
    """Return the network alone: some pixels after the others, whose values stay in the caches."""
    msi = pixels(network)
    size = runner.panel_pixels if isinstance(runner, CompiledNetwork) else CPU_BATCH
    parts = [np.ascontiguousarray(msi[:, start : start + size]) for start in range(0, PIXELS, size)]

    def run() -> None:
        for part in parts:
            runner(part)

    return run


def values(runner: Runner, network: Network) -> Callable[[], object]:
    """Return a tile from MSI to product, as Python gets it."""
    msi = pixels(network)
    return lambda: runner(msi)


def stored(runner: Runner, network: Network) -> Callable[[], object]:
    """Return a tile from MSI to int16, as files get it."""
    msi, bands = pixels(network), network.outputs
    return lambda: runner.stored(msi, Encoding("int16", 1e-4, -32768.0), Placing(np.arange(bands), bands))


def peaks() -> dict[str, Callable[[], object]]:
    """Return square products through both libraries."""
    square = torch.rand(EDGE, EDGE)
    found: dict[str, Callable[[], object]] = {"MKL": lambda: square @ square}
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(square, EDGE)
        call = torch.ops.mkldnn._linear_pointwise
        call(square, packed, None, "none", [], "")
        found["oneDNN"] = lambda: call(square, packed, None, "none", [], "")
    except (AttributeError, NotImplementedError, RuntimeError):
        pass
    return found


def main() -> None:
    """Measure."""
    given = arguments(__doc__ or "", bands=191, msi=4, rounds=20)
    torch.set_num_threads(1)
    training = scene(given.msi, given.bands)
    networks = {"published": fit("spectralift", training, epochs=1).network, "auto": fit("auto", training).network}
    jobs: dict[str, tuple[Callable[[], object], float, float]] = {
        f"peak {name}": (run, 2.0 * EDGE**3, 0.0) for name, run in peaks().items()
    }
    for precision in ["fp32", "bf16"] if cpu_has_bf16() else ["fp32"]:
        for name, network in networks.items():
            runner = made_ready(network, Engine(precision=precision))  # type: ignore[arg-type]
            flops = float(network.flops_per_pixel * PIXELS)
            for what in (kernel, values, stored):
                jobs[f"{name} {precision} {what.__name__}"] = (what(runner, network), flops, PIXELS)
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    with torch.inference_mode():
        for turn in range(given.rounds + 1):
            for name, (run, _, _) in jobs.items():
                started = time.thread_time()
                run()
                if turn:  # the first is to warm up
                    seconds[name].append(time.thread_time() - started)
    rates = {name: flops / np.array(seconds[name]) / 1e9 for name, (_, flops, _) in jobs.items()}
    best = max((np.median(rate), np.max(rate)) for name, rate in rates.items() if name.startswith("peak"))
    rows = []
    for name, (_, flops, pixels) in jobs.items():
        rows.append(
            {
                "what": name,
                "GFLOP/s median": float(np.median(rates[name])),
                "best": float(np.max(rates[name])),
                "share of peak, medians": float(np.median(rates[name]) / best[0]),
                "share, best of each": float(np.max(rates[name]) / best[1]),
                "Mpx/s and core": float(pixels / flops * np.median(rates[name]) * 1e3),
            }
        )
    table(rows, given.json)


if __name__ == "__main__":
    main()
