"""How often the truth lies within the stated standard error, over scenes, ratios, bands, with and without refinement.

    python benchmarks/uncertainty_coverage.py [--only TEXT] [--json FILE]

Scenes degraded as HyperBench does (3, 4, 8 bands, ratios 4 and 8), EnMAP Potsdam by Wald's protocol (4 and 10 bands of
Sentinel-2, two parts, without noise and at 35 dB), a mosaic, and the demo scene, whose truth has no noise. ``scale`` is
what the standard error would have to be multiplied by for 68 %. At the end the one constant of the method,
FINE_OVER_SHARPENED, is chosen without each scene in turn and judged on it. One scene, HELD_APART, chooses nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from geolift import demo_scene, wald
from geolift.benchmark.cases import Degradation, Pair, make_pair, open_scene, usual_snr_db
from geolift.coregistration import estimate_shift
from geolift.cube import crop
from geolift.degrade import add_noise, apply_srf, degrade, gaussian_srf, normalize_scene
from geolift.inference import predict_block
from geolift.noise import least_noise
from geolift.psf import psf_kernel
from geolift.readers import open_cube
from geolift.refinement import refine_arrays
from geolift.refinement.find import SEARCH_MARGIN_LR
from geolift.refinement.pair import ArrayPair
from geolift.rehearsal import WINDOW_PX, refined_share
from geolift.settings import Reading, SimulateSettings
from geolift.srf import SpectralResponse
from geolift.training import fit
from geolift.training_set import TrainingSet, training_set_from_cube
from geolift.uncertainty import FINE_OVER_SHARPENED, STATED_SHARE, fit_errors

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
FOUR = ("B02", "B03", "B04", "B08")
TEN = (*FOUR[:3], "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
HELD_APART = "jasperRidge2_R198"
EXPONENTS = np.linspace(-1.5, 1.5, 301)
Case = tuple[str, str, Callable[[], Pair]]
Curve = list[float]


def degraded_scenes() -> Iterator[Case]:
    for path in sorted((DATA / "scenes").glob("*.mat")):
        for ratio, bands in ((4, 3), (4, 4), (4, 8), (8, 4), (8, 8)):
            case = Degradation(
                path.stem, "gaussian", 3.4, 7, ratio, str(bands), "", usual_snr_db(ratio), 40.0, 0
            )  # fmt: skip
            yield (
                path.stem,
                f"ratio {ratio}, {bands} bands",
                lambda p=path, c=case: make_pair(open_scene(str(p), Reading()), c),
            )


def enmap() -> Iterator[Case]:
    for part, rows, cols in (("a", slice(96, 160), slice(32, 160)), ("b", slice(0, 64), slice(0, 96))):
        for names in (FOUR, TEN):
            for snr in (None, 35.0):

                def make(rows: slice = rows, cols: slice = cols, names: Any = names, snr: Any = snr) -> Pair:
                    cube = crop(open_cube(DATA / "enmap_potsdam" / "enmap_potsdam.tif"), rows, cols)
                    settings = SimulateSettings(sensor="sentinel-2a", ratio=3, msi_bands=names, snr=snr)
                    triple = wald.degrade_pair(cube, settings)
                    good = np.asarray(triple.spectra.hsi_bands)[list(triple.spectra.good)]
                    hsi, truth = triple.hsi.values[good], triple.reference.values[good]
                    return Pair(hsi, triple.msi.values, np.asarray(triple.spectra.weights, np.float32), truth)

                yield f"enmap {part}", f"ratio 3, {len(names)} bands, {snr or 'no'} dB", make


def demo() -> Iterator[Case]:
    for seed, ratio, names in ((0, 3, FOUR), (0, 3, TEN), (0, 6, FOUR), (1, 3, FOUR), (1, 3, TEN)):

        def make(seed: int = seed, ratio: int = ratio, names: Any = names) -> Pair:
            scene = demo_scene.make_scene(seed=seed)
            response = SpectralResponse.from_library("sentinel-2a").select(names)
            weights = response.weights(scene.wavelengths_nm, scene.fwhm_nm, scene.good).weights
            hsi, msi = demo_scene.observe(scene, weights, ratio)
            used = scene.good
            return Pair(hsi[used], msi, np.asarray(weights[:, used], np.float32), scene.reflectance[used])

        yield "demo", f"ratio {ratio}, {len(names)} bands, seed {seed}", make


def mosaic() -> Iterator[Case]:
    """Six AVIRIS scenes beside each other, 200 × 300 pixels."""
    for ratio, bands in ((4, 4), (4, 8)):

        def make(ratio: int = ratio, bands: int = bands) -> Pair:
            names = [f"abu-{name}" for name in ("airport-1", "airport-2", "beach-2", "urban-1", "urban-4", "airport-3")]
            tiles = [
                open_scene(str(DATA / "scenes" / f"{name}.mat"), Reading()).values[:, :100, :100] for name in names
            ]
            count = min(map(len, tiles))
            rows = [np.concatenate([tile[:count] for tile in tiles[k : k + 3]], axis=2) for k in (0, 3)]
            truth = normalize_scene(np.concatenate(rows, axis=1))
            weights = gaussian_srf(bands, count)
            low = degrade(truth, psf_kernel("gaussian", 3.4, 7), ratio)
            hsi = add_noise(low, usual_snr_db(ratio), np.random.default_rng(0))
            msi = add_noise(apply_srf(truth, weights), 40.0, np.random.default_rng(1))
            return Pair(hsi, msi, weights.astype(np.float32), truth)

        yield "mosaic", f"ratio {ratio}, {bands} bands", make


def measure(pair: Pair) -> list[tuple[str, Curve, float]]:
    """Coverage at many multiples of sigma, and the spread of single bands, without and with refinement."""

    def refit(part: TrainingSet) -> Any:
        return fit("auto", part, seed=0)

    training = training_set_from_cube(pair.hsi, pair.weights)
    model = refit(training)
    fused = predict_block(model, pair.msi)
    refined, done = refine_arrays(model, training, pair.hsi, pair.msi, fused.copy(), threads=2)
    spread = np.nanstd(pair.msi.reshape(len(pair.msi), -1), axis=1)
    noise = least_noise([pair.msi])
    errors = fit_errors(training, refit, spread, noise)
    assert errors is not None
    found = [("off", *_coverage(fused, errors.sigma(pair.msi), pair.truth))]
    if done.correction is not None:
        share = refined_share(_window(pair.hsi), pair.weights, refit, _blur(pair), noise)
        sigma = replace(errors, refined_share=share).sigma(pair.msi)
        found.append((f"on {share:.2f}", *_coverage(refined, sigma, pair.truth)))
    return found


def _window(hsi: np.ndarray) -> np.ndarray:
    first = [max(0, (size - WINDOW_PX) // 2) for size in hsi.shape[1:]]
    return hsi[:, first[0] : first[0] + WINDOW_PX, first[1] : first[1] + WINDOW_PX]


def _blur(pair: Pair) -> tuple[float, float]:
    arrays = ArrayPair(pair.hsi, pair.msi)
    fine = arrays.msi(0, 0, *arrays.shape, SEARCH_MARGIN_LR)
    low = apply_srf(pair.hsi, pair.weights.astype(np.float64)).astype(np.float32)
    shift = estimate_shift(low, fine, arrays.ratio, SEARCH_MARGIN_LR)
    return shift.blur_sigma_y / arrays.ratio, shift.blur_sigma_x / arrays.ratio


def _coverage(product: np.ndarray, sigma: np.ndarray, truth: np.ndarray) -> tuple[Curve, float]:
    known = np.isfinite(product).all(axis=0) & np.isfinite(truth).all(axis=0)
    needed = np.abs((product - truth)[:, known]) / sigma[:, known]
    curve = [float((needed <= np.exp(exponent)).mean()) for exponent in EXPONENTS]
    return curve, float(np.std((needed <= 1).mean(axis=1)))


def at(curve: Curve, scale: float) -> float:
    return float(np.interp(np.log(scale), EXPONENTS, curve))


def needed_scale(curve: Curve) -> float:
    return float(np.exp(np.interp(STATED_SHARE, curve, EXPONENTS)))


def report(rows: list[dict[str, Any]]) -> None:
    for refined in (False, True):
        part = [row for row in rows if row["refine"].startswith("on") == refined]
        if not part:
            continue
        shares = np.array([at(row["curve"], 1.0) for row in part if row["scene"] != HELD_APART])
        if not shares.size:
            continue
        good = float(((shares >= 0.6) & (shares <= 0.76)).mean())
        print(f"\nrefined {refined}: {len(shares)} cases without {HELD_APART}, mean {shares.mean():.3f}, ", end="")
        print(f"lowest {shares.min():.3f}, highest {shares.max():.3f}, within 0.60 … 0.76 {good:.0%}")
        for scene in dict.fromkeys(row["scene"] for row in part):
            own = [at(row["curve"], 1.0) for row in part if row["scene"] == scene]
            print(f"  {scene:18} mean {np.mean(own):.3f}  {min(own):.2f} … {max(own):.2f}")
    print("\nthe constant chosen without each scene (all cases of the others at 68 % in geometric mean):")
    for scene in dict.fromkeys(row["scene"] for row in rows):
        others = [np.log(needed_scale(row["curve"])) for row in rows if row["scene"] not in (scene, HELD_APART)]
        if not others:
            return
        scale = float(np.exp(np.mean(others)))
        own = [at(row["curve"], scale) for row in rows if row["scene"] == scene]
        print(f"  {scene:18} {FINE_OVER_SHARPENED * scale:.2f}: {np.mean(own):.3f}  {min(own):.2f} … {max(own):.2f}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", default="", help="part of a case's name")
    options.add_argument("--json", type=Path, help="also write the curves here, and continue them")
    given = options.parse_args()
    if not DATA.is_dir():
        print("skipped: needs the real scenes in ../shared/data", file=sys.stderr)
        return
    rows = json.loads(given.json.read_text()) if given.json and given.json.exists() else []
    have = {(row["scene"], row["case"]) for row in rows}
    for make_cases in (enmap, degraded_scenes, mosaic, demo):
        for scene, case, make in make_cases():
            if (scene, case) in have or given.only not in f"{scene} {case}":
                continue
            for refine, curve, bands in measure(make()):
                rows.append({"scene": scene, "case": case, "refine": refine, "curve": curve, "band_spread": bands})
                print(
                    f"{scene:18} {case:26} refine {refine:8} covered {at(curve, 1.0):.3f}  scale "
                    f"{needed_scale(curve):.2f}  bands ± {bands:.2f}", flush=True,
                )  # fmt: skip
            if given.json:
                given.json.write_text(json.dumps(rows))
    report(rows)


if __name__ == "__main__":
    main()
