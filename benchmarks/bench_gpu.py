"""One GPU: training time, pixels per second end to end and kernel only, shares of copy bandwidth and of peak.

Needs geolift, numpy, torch with CUDA and safetensors; neither rasterio nor dask. Without CUDA it says so and
ends well.
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

from geolift.network.engine import Engine
from geolift.network.model import SpectralModel
from geolift.network.torch_backend import TorchNetwork
from geolift.training.fit import fit
from geolift.training.training_set import TrainingSet

PIXELS = 2**20
EDGE = 8192


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


def seconds(run: Callable[[], object], repeats: int = 5) -> float:
    """Return the best time of a few runs, the GPU's work included."""
    run()
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times)


def peaks() -> dict[str, float]:
    """Return the card's matrix rates (GFLOP/s) and its copy rates from and to pinned memory (GB/s)."""
    found = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        square = torch.rand(EDGE, EDGE, device="cuda").to(dtype)
        found[f"{name} GFLOP/s"] = 2 * EDGE**3 / seconds(lambda square=square: square @ square) / 1e9  # type: ignore[misc]
    there = torch.empty(2**28, dtype=torch.uint8, pin_memory=True)
    here = torch.empty(2**28, dtype=torch.uint8, device="cuda")
    found["GB/s there"] = there.numel() / seconds(lambda: here.copy_(there, non_blocking=True)) / 1e9
    found["GB/s back"] = there.numel() / seconds(lambda: there.copy_(here, non_blocking=True)) / 1e9
    return found


def inference(model: SpectralModel, precision: Any, threads: int, card: dict[str, float]) -> dict[str, Any]:
    """Measure one network in one precision, against the CPU's product and the card's peaks."""
    network = model.network
    msi = np.random.default_rng(1).uniform(0.1, 0.6, (network.inputs, PIXELS)).astype("f4")
    alone = TorchNetwork(network, "cuda", precision)
    given = torch.rand(network.inputs, 2**16, device="cuda")
    with torch.inference_mode():
        kernel = seconds(lambda: alone.product(given)) / 2**16
    engine = Engine("cuda", precision)
    tiles = np.array_split(msi, 16, axis=1)
    with ThreadPoolExecutor(threads) as pool:
        whole = seconds(lambda: list(pool.map(lambda tile: model.apply(tile, engine), tiles))) / PIXELS
    exact = model.apply(msi[:, :65_536])
    error = np.abs(model.apply(msi[:, :65_536], engine) - exact)
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


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--bands", type=int, default=191)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device answers: nothing to measure here")
        return
    card = peaks()
    figures: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, **card}
    training = training_set(24_320, given.bands, 4)
    rows = []
    for method in ("auto", "spectralift"):
        models = {}
        for device in ("cuda", "cuda", "cpu") if method == "auto" else ("cuda",):  # the first pays for the start
            started = time.perf_counter()
            models[device] = fit(method, training, device=device)
            torch.cuda.synchronize()
            figures[f"training {method} on {device}, s"] = time.perf_counter() - started
        rows += [inference(models["cuda"], precision, given.threads, card) for precision in ("fp32", "bf16")]
    figures["inference"] = rows
    json.dump(figures, sys.stdout, indent=1)
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
