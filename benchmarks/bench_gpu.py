"""One GPU: training, pixels per second end to end and kernel only, the refinement's equations; shares of what it can.

Needs geolift, numpy, scipy, torch and safetensors; neither rasterio nor dask. Takes less than four minutes. ``--device
cpu`` lets torch on the CPU stand in for the GPU, with smaller work, to show that the script runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geolift.network.model import SpectralModel
from geolift.network.torch_backend import TorchNetwork
from geolift.refinement.footprint import gaussian_footprint
from geolift.refinement.process import ResidualProcess
from geolift.refinement.solution import solve_block
from geolift.training.fit import fit
from geolift.training.training_set import TrainingSet

DEVICE = "cuda"
PIXELS, EDGE, BYTES, BLOCK_LR = 2**20, 8192, 2**28, 160
SMALL = 2**15, 512, 2**22, 40
"""The same where the CPU stands in."""


def training_set(pixels: int, bands: int, msi: int) -> TrainingSet:
    """Return smooth random spectra and a smooth response, as many as asked for."""
    rng = np.random.default_rng(0)
    shapes = np.cumsum(rng.standard_normal((12, bands)), axis=1) / bands**0.5
    spectra = (0.3 + 0.1 * rng.random((pixels, 12)) @ shapes + 0.002 * rng.standard_normal((pixels, bands))).astype(
        "f4"
    )
    weights = np.exp(-0.5 * ((np.arange(bands) - np.linspace(0, bands, msi)[:, None]) / (bands / 12)) ** 2)
    rows, cols = np.divmod(np.arange(pixels), 250)
    means = spectra + rng.normal(0, 0.001, spectra.shape).astype("f4")
    return TrainingSet(
        spectra=spectra,
        neighbour_means=means,
        weights=(weights / weights.sum(axis=1, keepdims=True)).astype("f4"),
        rows=rows,
        cols=cols,
    )


def wait() -> None:
    """Wait for what the GPU has been given."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def seconds(run: Callable[[], object], repeats: int = 5) -> float:
    """Return the best time of a few runs, the GPU's work included."""
    run()
    times = []
    for _ in range(repeats):
        wait()
        started = time.perf_counter()
        run()
        wait()
        times.append(time.perf_counter() - started)
    return min(times)


def peaks() -> dict[str, float]:
    """Return the card's matrix rates (GFLOP/s) and its copy rates from and to pinned memory (GB/s)."""
    found = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        square = torch.rand(EDGE, EDGE, device=DEVICE).to(dtype)
        found[f"{name} GFLOP/s"] = 2 * EDGE**3 / seconds(lambda square=square: square @ square) / 1e9  # type: ignore[misc]
    there = torch.empty(BYTES, dtype=torch.uint8, pin_memory=DEVICE == "cuda")
    here = torch.empty(BYTES, dtype=torch.uint8, device=DEVICE)
    found["GB/s there"] = there.numel() / seconds(lambda: here.copy_(there, non_blocking=True)) / 1e9
    found["GB/s back"] = there.numel() / seconds(lambda: there.copy_(here, non_blocking=True)) / 1e9
    return found


def inference(model: SpectralModel, precision: Any, threads: int, card: dict[str, float]) -> dict[str, Any]:
    """Measure one network in one precision, against the CPU's product and the card's peaks."""
    network = model.network
    msi = np.random.default_rng(1).uniform(0.1, 0.6, (network.inputs, PIXELS)).astype("f4")
    alone = TorchNetwork(network, DEVICE, precision, streams=threads)
    given = torch.rand(network.inputs, min(PIXELS, 2**16), device=DEVICE)
    with torch.inference_mode():
        kernel = seconds(lambda: alone.product(given)) / given.shape[1]
    tiles = np.array_split(msi, 16, axis=1)
    with ThreadPoolExecutor(threads) as pool:
        whole = seconds(lambda: list(pool.map(alone, tiles))) / PIXELS
    exact = model.apply(msi[:, :65_536])
    error = np.abs(alone(msi[:, :65_536]) - exact)
    return {
        "method": model.method,
        "precision": precision,
        "kernel Mpx/s": 1e-6 / kernel,
        "share of matrix peak": network.flops_per_pixel / kernel / 1e9 / card[f"{precision} GFLOP/s"],
        "end to end Mpx/s": 1e-6 / whole,
        "share of copy rate": 4 * network.outputs / whole / 1e9 / card["GB/s back"],
        "mean error": float(error.mean() / np.abs(exact).mean()),
        "largest error": float(error.max()),
    }


def equations(components: int = 24) -> dict[str, float]:
    """Measure the refinement's equations on a block, on the device and on one core of the CPU."""
    rng = np.random.default_rng(2)
    footprint = gaussian_footprint(3, (0.2, 0.0), (1.5, 1.8))
    turn = np.linalg.qr(rng.standard_normal((components, components)))[0]
    strength = np.geomspace(50, 0.1, components)
    process = ResidualProcess(footprint, 1.0, 4.0, 0.3, turn, strength, np.ones(components))
    residual = rng.standard_normal((components, BLOCK_LR, BLOCK_LR)).astype("f4")
    factors = np.concatenate([np.ones((1, BLOCK_LR, BLOCK_LR)), rng.standard_normal((3, BLOCK_LR, BLOCK_LR))])
    found, times = {}, {}
    for device in dict.fromkeys((DEVICE, "cpu")):
        times[device] = seconds(
            lambda device=device: found.update({device: solve_block(process, residual, factors, device)}), 2
        )  # type: ignore[misc]
    apart = np.abs(found[DEVICE] - found["cpu"]).max() / np.abs(found["cpu"]).max()
    pixels = BLOCK_LR**2
    return {f"us a HSI pixel on {d}": 1e6 * t / pixels for d, t in times.items()} | {"largest difference": float(apart)}


def main() -> None:
    """Measure."""
    global DEVICE, PIXELS, EDGE, BYTES, BLOCK_LR
    started = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--bands", type=int, default=191)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device answers: nothing to measure here")
        return
    DEVICE, name = given.device, "CPU"
    if DEVICE == "cpu":
        PIXELS, EDGE, BYTES, BLOCK_LR = SMALL
    else:
        name = torch.cuda.get_device_name()
    card = peaks()
    figures: dict[str, Any] = {"device": name, "torch": torch.__version__, **card}
    training = training_set(24_320 if DEVICE == "cuda" else 2_000, given.bands, 4)
    rows = []
    for method, options in (("auto", {}), ("spectralift", {} if DEVICE == "cuda" else {"epochs": 20})):
        models = {}
        # The first on a GPU pays for the start.
        for device in (DEVICE, DEVICE, "cpu") if method == "auto" or DEVICE == "cuda" else (DEVICE,):
            begun = time.perf_counter()
            models[device] = fit(method, training, device=device, **options)  # type: ignore[arg-type]
            wait()
            figures[f"training {method} on {device}, s"] = time.perf_counter() - begun
        rows += [inference(models[DEVICE], precision, given.threads, card) for precision in ("fp32", "bf16")]
    figures |= {"inference": rows, "equations": equations(), "all of it, s": time.perf_counter() - started}
    json.dump(figures, sys.stdout, indent=1)
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
