"""Methods side by side on HyperBench's degradations of real scenes; one line per case, resumable.

    python benchmarks/method_sweep.py ../shared/data/scenes --out sweep.jsonl
    python benchmarks/method_sweep.py ../shared/data/scenes --out sweep.jsonl --table

Scenes are .mat files with a cube `data` (rows, cols, bands) or `Y` (bands, pixels of a square, column-major).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from geolift.degrade import add_noise, apply_srf, degrade, gaussian_srf, normalize_scene
from geolift.psf import psf_kernel
from geolift.training import fit
from geolift.training_set import training_set_from_cube

SNR_DB = {4: 35.0, 8: 30.0}
MSI_SNR_DB = 40.0
SEED = 42  # HyperBench's: the LR-HSI's noise draws from it, the MSI's from the next


def load_scene(path: Path) -> np.ndarray:
    """(C, y, x) of a scene, stretched to its 1 and 99 percentiles."""
    content = scipy.io.loadmat(path)
    if "data" in content:
        return normalize_scene(np.moveaxis(content["data"], 2, 0))
    bands, pixels = content["Y"].shape
    side = int(pixels**0.5)
    return normalize_scene(content["Y"].reshape(bands, side, side).transpose(0, 2, 1))


def make_case(scene: np.ndarray, ratio: int, bands: int, psf: str) -> tuple[np.ndarray, ...]:
    """Reference, LR-HSI, HR-MSI and SRF weights."""
    rows, cols = (size // ratio * ratio for size in scene.shape[1:])
    truth = scene[:, :rows, :cols]
    weights = gaussian_srf(bands, len(truth)).astype(np.float32)
    low = add_noise(degrade(truth, psf_kernel(psf), ratio), SNR_DB[ratio], np.random.default_rng(SEED))
    msi = add_noise(apply_srf(truth, weights), MSI_SNR_DB, np.random.default_rng(SEED + 1))
    return truth, low, msi, weights


def scores(truth: np.ndarray, fused: np.ndarray) -> tuple[float, float]:
    """PSNR in dB on truncated 8-bit values, and SAM in degrees, as HyperBench computes them."""
    fused = np.clip(fused, 0, 1)
    levels = [(values * 255).astype(np.uint8).astype(np.float64) for values in (truth, fused)]
    psnr = 10 * np.log10(255**2 / np.square(levels[0] - levels[1]).mean())
    norms = np.sqrt(np.square(truth).sum(axis=0) * np.square(fused).sum(axis=0))
    cosine = (truth * fused).sum(axis=0) / (norms + 1e-8)
    return float(psnr), float(np.degrees(np.arccos(np.clip(cosine, -1, 1)).mean()))


def run(path: Path, case: dict[str, Any]) -> dict[str, Any]:
    """Fit, apply and score one case."""
    truth, low, msi, weights = make_case(load_scene(path), case["ratio"], case["bands"], case["psf"])
    options = {"unit_scale": True} if case["method"] == "spectralift" else {}
    started = time.perf_counter()
    model = fit(case["method"], training_set_from_cube(low, weights), seed=case["seed"], **options)
    seconds = time.perf_counter() - started
    psnr, sam = scores(truth.reshape(len(truth), -1), model.packed(msi.reshape(len(msi), -1)))
    return {**case, "psnr_db": psnr, "sam_deg": sam, "train_s": seconds}


def table(lines: list[dict[str, Any]]) -> None:
    """Print `auto` against the mean of the published seeds and against linear regression, per setting."""
    cells: dict[tuple[Any, ...], dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        key = (line["psf"], line["ratio"], line["bands"], line["scene"])
        cells[key][line["method"]].append((line["psnr_db"], line["sam_deg"]))
    groups: dict[tuple[Any, ...], list[np.ndarray]] = defaultdict(list)
    for key, methods in cells.items():
        if {"auto", "linear", "spectralift"} <= set(methods):
            means = [np.mean(methods[name], axis=0) for name in ("auto", "spectralift", "linear")]
            groups[key[:3]].append(np.concatenate(means))
            groups[("all",)].append(np.concatenate(means))
    print("psf, ratio, bands: cases | auto | published | linear | gain dB | SAM ratio | worst against the better")
    for name, rows in groups.items():
        auto, auto_sam, published, published_sam, linear, linear_sam = np.array(rows).T
        worst = (auto - np.maximum(published, linear)).min()
        print(
            f"{', '.join(map(str, name))}: {len(rows)} | {auto.mean():.2f} {auto_sam.mean():.2f}° "
            f"| {published.mean():.2f} {published_sam.mean():.2f}° | {linear.mean():.2f} {linear_sam.mean():.2f}° "
            f"| {(auto - published).mean():+.2f} | {auto_sam.mean() / published_sam.mean():.3f} | {worst:+.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, help="folder of .mat scenes")
    parser.add_argument("--out", type=Path, default=Path("sweep.jsonl"))
    parser.add_argument("--seeds", type=int, default=2, help="seeds of the published method")
    parser.add_argument("--table", action="store_true", help="only print the table of what is there")
    arguments = parser.parse_args()
    text = arguments.out.read_text(encoding="utf-8") if arguments.out.exists() else ""
    lines = [json.loads(line) for line in text.splitlines()]
    axes = ("scene", "ratio", "bands", "psf", "method", "seed")
    done = {tuple(line[axis] for axis in axes) for line in lines}
    wanted = [("auto", 0), ("linear", 0), *(("spectralift", seed) for seed in range(arguments.seeds))]
    cases = product(sorted(arguments.scenes.glob("*.mat")), (4, 8), (3, 4, 8, 16), ("gaussian", "moffat"), wanted)
    for path, ratio, bands, psf, (method, seed) in [] if arguments.table else cases:
        case = dict(zip(axes, (path.stem, ratio, bands, psf, method, seed), strict=True))
        if tuple(case.values()) not in done:
            lines.append(run(path, case))
            with arguments.out.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(lines[-1]) + "\n")
            print(lines[-1], file=sys.stderr)
    table(lines)


if __name__ == "__main__":
    main()
