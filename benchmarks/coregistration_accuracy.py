"""Planted shifts over scenes, ratios, point spread functions and noise: errors, coverage, confidence, time.

    python benchmarks/coregistration_accuracy.py [--quick] [--csv FILE]

Large: mosaics of 620 x 620 MSI pixels. Small: the single scenes, down to 8 x 8 HSI pixels. Hard: noise, clouds,
soft scenes and HSIs of another place, for the confidence.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from coregistration_scenes import CLASSES, FOLDER, SCENES, Planted, cloudy, mosaic, multispectral, plant
from scipy import ndimage

from geolift.pair.coregistration import estimate_shift

PSFS = ("gauss:1.0", "none", "gauss:0.6", "gauss:1.6", "aniso", "moffat", "airy", "hermite")
Case = tuple[str, int, str, Planted]


def large_cases(quick: bool) -> Iterator[Case]:
    rng = np.random.default_rng(1)
    for number, (name, members) in enumerate(CLASSES.items()):
        for seed in range(1 if quick else 2):
            image = mosaic(members, 620, 10 * number + seed)
            for ratio in (3, 4, 6, 10):
                for psf in PSFS[:: 3 if quick else 1]:
                    shift = tuple(rng.uniform(-6, 6, 2))
                    snr = float(rng.uniform(25, 40))
                    yield f"large {name}", ratio, psf, plant(image, ratio, shift, psf, snr, rng, move_hsi=bool(seed))


def small_cases(quick: bool) -> Iterator[Case]:
    rng = np.random.default_rng(2)
    for name in SCENES[:: 3 if quick else 1]:
        for ratio in (3, 4, 6, 8, 10):
            for psf in PSFS[::2]:
                shift = tuple(rng.uniform(-6, 6, 2))
                yield (
                    "small",
                    ratio,
                    psf,
                    plant(multispectral(name), ratio, shift, psf, float(rng.uniform(25, 40)), rng),
                )


def hard_cases(quick: bool) -> Iterator[Case]:
    rng = np.random.default_rng(3)
    for index, name in enumerate(SCENES[:: 3 if quick else 1]):
        image = multispectral(name)
        for ratio in (3, 4, 6, 8, 10):
            reach = float(min(4 * ratio, 16))
            shift = tuple(rng.uniform(-reach, reach, 2))
            psf = PSFS[int(rng.integers(4))]
            yield "noise 10 dB", ratio, psf, plant(image, ratio, shift, psf, 10.0, rng)
            soft = ndimage.gaussian_filter(image, (0, 6, 6))
            yield "soft", ratio, psf, plant(soft, ratio, shift, psf, 30.0, rng)
            pair = plant(image, ratio, shift, psf, 30.0, rng)
            clouded = cloudy(pair.msi_fine, 0.3, rng)
            yield "cloud 30 %", ratio, psf, Planted(pair.simulated, clouded, ratio, pair.margin, pair.dy, pair.dx)
            other = multispectral(SCENES[(index + 4) % len(SCENES)])[:, : image.shape[1], : image.shape[2]]
            stranger = plant(other, ratio, shift, psf, 30.0, rng)
            if stranger.simulated.shape == pair.simulated.shape:
                wrong = Planted(stranger.simulated, pair.msi_fine, ratio, pair.margin, np.inf, np.inf)
                yield "other place", ratio, psf, wrong


def measure(case: Case) -> dict[str, object]:
    kind, ratio, psf, pair = case
    begin = time.perf_counter()
    found = estimate_shift(pair.simulated, pair.msi_fine, ratio, pair.margin)
    took = time.perf_counter() - begin
    return {
        "kind": kind, "ratio": ratio, "psf": psf, "lr_pixels": pair.simulated[0].size, "dy": pair.dy, "dx": pair.dx,
        "error_px": float(np.hypot(found.dy - pair.dy, found.dx - pair.dx)),
        "z_dy": (found.dy - pair.dy) / found.sigma_dy, "z_dx": (found.dx - pair.dx) / found.sigma_dx,
        "sigma_px": float(np.hypot(found.sigma_dy, found.sigma_dx) / np.sqrt(2)), "confidence": found.confidence,
        "reliable": found.reliable, "seconds": took,
    }  # fmt: skip


def report(rows: list[dict[str, object]]) -> None:
    groups: dict[tuple[object, object], list[dict[str, object]]] = defaultdict(list)
    for row in rows:
        groups[row["kind"], row["ratio"]].append(row)
    print("kind            ratio   n  LR px  median    p95  median/LR  |z|<1  |z|<2  confid.  reliable  seconds")
    for (kind, ratio), part in groups.items():
        error = np.array([r["error_px"] for r in part])
        z = np.abs([[r["z_dy"], r["z_dx"]] for r in part])
        confidence, reliable, seconds = (
            np.array([r[k] for r in part], float) for k in ("confidence", "reliable", "seconds")
        )
        place = np.median(error) / float(str(ratio))
        worst = np.sort(error)[int(0.95 * (error.size - 1))]
        print(
            f"{kind!s:16} {ratio!s:>4} {len(part):4} {part[0]['lr_pixels']!s:>6} {np.median(error):7.3f} {worst:7.3f}"
            f" {place:9.4f} {(z < 1).mean():6.2f} {(z < 2).mean():6.2f} {np.median(confidence):8.2f}"
            f" {reliable.mean():8.2f} {np.median(seconds):9.3f}"
        )
    calibration(rows)


def calibration(rows: list[dict[str, object]]) -> None:
    """How often the error is as small as the confidence says."""
    confidence = np.array([r["confidence"] for r in rows], float)
    limit = np.maximum(0.5, 0.1 * np.array([r["ratio"] for r in rows], float))
    near = np.array([r["error_px"] for r in rows], float) < limit
    print("\nconfidence      n  error below max(0.5 MSI px, 0.1 HSI px)")
    for low, high in ((0, 0.1), (0.1, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 0.9), (0.9, 0.99), (0.99, 1.01)):
        inside = (confidence >= low) & (confidence < high)
        if inside.any():
            print(f"{low:4.2f} - {min(high, 1):4.2f} {inside.sum():5}  {near[inside].mean():.2f}")
    rank = np.argsort(np.argsort(confidence))
    if near.any() and not near.all():
        area = (rank[near].mean() - rank[~near].mean()) / len(rows) + 0.5
        print(f"confidence ranks the failures: area under the curve {area:.3f}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="a third of the cases")
    options.add_argument("--csv", type=Path, help="also write every case")
    given = options.parse_args()
    if not FOLDER.is_dir():
        print(f"skipped: needs the real scenes in {FOLDER.name}", file=sys.stderr)
        return
    cases = (case for make in (large_cases, small_cases, hard_cases) for case in make(given.quick))
    rows = [measure(case) for case in cases]
    report(rows)
    if given.csv:
        with given.csv.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
