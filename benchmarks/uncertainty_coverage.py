"""How often the truth lies within the stated standard error, over scenes, ratios, bands, with and without refinement.

    python benchmarks/uncertainty_coverage.py [--only TEXT] [--json FILE]

Scenes degraded as HyperBench does (3, 4, 8 bands, ratios 4 and 8), EnMAP Potsdam by Wald's protocol (4 and 10 bands of
Sentinel-2, two parts, without noise and at 35 dB), a mosaic, and the demo scene, whose truth has no noise. ``scale`` is
what the standard error would have to be multiplied by for 68 %, ``needed`` what it would have had to be one level down.
At the end the constants of the method, one for the assessed and one for the others, are chosen without each scene in
turn and judged on it, at several powers of ``needed``; the product takes the first. HELD_APART chooses nothing.
With --json a run goes on where it was stopped, and one that is complete is only reported.
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

from geolift.benchmark.cases import Degradation, Pair, make_pair, open_scene, usual_snr_db
from geolift.datamodel.cube import crop
from geolift.degradation.degrade import add_noise, apply_srf, degrade, gaussian_srf, normalize_scene
from geolift.degradation.psf import psf_kernel
from geolift.demo import landscape
from geolift.network.inference import predict_block
from geolift.pair.coregistration import estimate_shift
from geolift.pipeline import wald
from geolift.readers import open_cube
from geolift.refinement import refine_arrays
from geolift.refinement.find import SEARCH_MARGIN_LR
from geolift.refinement.footprint import gaussian_footprint
from geolift.refinement.pair import ArrayPair
from geolift.settings import Reading, SimulateSettings
from geolift.srf import SpectralResponse
from geolift.training.fit import fit
from geolift.training.noise import least_noise
from geolift.training.training_set import TrainingSet, training_set_from_cube
from geolift.uncertainty.calibration import (
    FINE_OVER_REDUCED,
    FINE_OVER_SHARPENED,
    STATED_SHARE,
    fit_errors,
    observed_pixels,
)
from geolift.uncertainty.reduced_resolution import WINDOW_PX, assess_at_reduced_resolution

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
FOUR = ("B02", "B03", "B04", "B08")
TEN = (*FOUR[:3], "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
HELD_APART = "jasperRidge2_R198"
EXPONENTS = np.linspace(-1.5, 1.5, 301)
POWERS = (1.0, 0.0, 0.5, 0.75, 1.25)
GOAL = 0.60, 0.76
Case = tuple[str, str, Callable[[], Pair]]
Curve = list[float]


def degraded_scenes() -> Iterator[Case]:
    for path in sorted((DATA / "scenes").glob("*.mat")):
        for ratio, bands in ((4, 3), (4, 4), (4, 8), (8, 4), (8, 8)):
            case = Degradation(
                scene=path.stem, psf="gaussian", psf_sigma=3.4, psf_radius=7, ratio=ratio, srf=str(bands),
                msi_bands="", snr_db=usual_snr_db(ratio), msi_snr_db=40.0, noise_seed=0,
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
            scene = landscape.make_scene(seed=seed)
            response = SpectralResponse.from_library("sentinel-2a").select(names)
            weights = response.weights(scene.wavelengths_nm, scene.fwhm_nm, scene.good).weights
            hsi, msi = landscape.observe(scene, weights, ratio)
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


def measure(pair: Pair) -> list[dict[str, Any]]:
    """Coverage at many multiples of sigma, and the spread of single bands, without and with refinement."""

    def refit(part: TrainingSet) -> Any:
        return fit("auto", part, seed=0)

    noise = least_noise([pair.msi])
    training = training_set_from_cube(pair.hsi, pair.weights, noise)
    model = refit(training)
    fused = predict_block(model, pair.msi)
    refined, done = refine_arrays(model, training, pair.hsi, pair.msi, fused.copy(), threads=2)
    spread = np.nanstd(pair.msi.reshape(len(pair.msi), -1), axis=1)
    blur, degraded = _seen(pair)
    errors = fit_errors(training, refit, spread, 0, observed_pixels(degraded, training.rows, training.cols))
    assert errors is not None
    applied = done.correction is not None
    told = assess_at_reduced_resolution(
        _window(pair.hsi), pair.weights, refit, blur, noise, refined=applied, degraded=_window(degraded)
    )
    errors = errors if told is None else replace(errors, needed=told.needed)
    found = [{"refine": "off", "needed": errors.needed, **_coverage(fused, errors.sigma(pair.msi), pair.truth)}]
    if applied:
        errors = errors if told is None else replace(errors, refined_share=told.refined_share)
        curve = _coverage(refined, errors.sigma(pair.msi), pair.truth)
        found.append({"refine": f"on {errors.refined_share:.2f}", "needed": errors.needed, **curve})
    return found


def _window(hsi: np.ndarray) -> np.ndarray:
    first = [max(0, (size - WINDOW_PX) // 2) for size in hsi.shape[1:]]
    return hsi[:, first[0] : first[0] + WINDOW_PX, first[1] : first[1] + WINDOW_PX]


def _seen(pair: Pair) -> tuple[tuple[float, float], np.ndarray]:
    """Blur of the HSI in its pixels, and the MSI (c, h, w) as it sees it."""
    arrays = ArrayPair(pair.hsi, pair.msi)
    fine = arrays.msi(0, 0, *arrays.shape, SEARCH_MARGIN_LR)
    low = apply_srf(pair.hsi, pair.weights.astype(np.float64)).astype(np.float32)
    shift = estimate_shift(low, fine, arrays.ratio, SEARCH_MARGIN_LR)
    blur = shift.blur_sigma_y, shift.blur_sigma_x
    footprint = gaussian_footprint(arrays.ratio, (shift.dy, shift.dx), blur)
    fine = arrays.msi(0, 0, *arrays.shape, footprint.margin_lr)
    return (blur[0] / arrays.ratio, blur[1] / arrays.ratio), footprint.degrade(fine, footprint.margin_lr)


def _coverage(product: np.ndarray, sigma: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    known = np.isfinite(product).all(axis=0) & np.isfinite(truth).all(axis=0)
    needed = np.abs((product - truth)[:, known]) / sigma[:, known]
    curve = [float((needed <= np.exp(exponent)).mean()) for exponent in EXPONENTS]
    return {"curve": curve, "band_spread": float(np.std((needed <= 1).mean(axis=1)))}


def at(curve: Curve, scale: float) -> float:
    return float(np.interp(np.log(scale), EXPONENTS, curve))


def needed_scale(curve: Curve) -> float:
    return float(np.exp(np.interp(STATED_SHARE, curve, EXPONENTS)))


def told(row: dict[str, Any]) -> float:
    """Return the logarithm of what was needed one level down; 0 where nothing was assessed."""
    return 0.0 if row["needed"] is None else float(np.log(row["needed"]))


def within(shares: np.ndarray) -> str:
    good = float(((shares >= GOAL[0]) & (shares <= GOAL[1])).mean())
    return (
        f"{len(shares)} cases without {HELD_APART}, mean {shares.mean():.3f}, lowest {shares.min():.3f}, "
        f"highest {shares.max():.3f}, within {GOAL[0]:.2f} … {GOAL[1]:.2f} {good:.0%}"
    )


def report(rows: list[dict[str, Any]]) -> None:
    for refined in (False, True):
        part = [row for row in rows if row["refine"].startswith("on") == refined]
        shares = np.array([at(row["curve"], 1.0) for row in part if row["scene"] != HELD_APART])
        if not shares.size:
            continue
        print(f"\nrefined {refined}: {within(shares)}")
        for scene in dict.fromkeys(row["scene"] for row in part):
            own = [at(row["curve"], 1.0) for row in part if row["scene"] == scene]
            print(f"  {scene:18} mean {np.mean(own):.3f}  {min(own):.2f} … {max(own):.2f}")
    if len({row["scene"] for row in rows} - {HELD_APART}) > 1:
        for power in POWERS:
            report_left_out(rows, power)


def report_left_out(rows: list[dict[str, Any]], power: float) -> None:
    """Choose the constants without each scene: the others' cases at 68 % in geometric mean."""
    scale = np.array([np.log(needed_scale(row["curve"])) + (1 - power) * told(row) for row in rows])
    scenes = np.array([row["scene"] for row in rows])
    refined = np.array([row["refine"].startswith("on") for row in rows])
    assessed = np.array([row["needed"] is not None for row in rows])
    print(f"\nneeded ** {power}, the constants chosen without each scene:")
    left, chosen = np.zeros(len(rows)), {}
    for scene in dict.fromkeys(scenes.tolist()):
        for group, now in ((assessed, FINE_OVER_REDUCED), (~assessed, FINE_OVER_SHARPENED)):
            others = scale[group & (scenes != scene) & (scenes != HELD_APART)]
            constant = others.mean() if others.size else 0.0
            own = group & (scenes == scene)
            left[own] = scale[own] - constant
            chosen.setdefault(scene, []).append(now * np.exp(constant))
    stated = (at(row["curve"], needed_scale(row["curve"]) / np.exp(x)) for row, x in zip(rows, left, strict=True))
    shares = np.array(list(stated))
    for which in (False, True):
        part = (refined == which) & (scenes != HELD_APART)
        if part.any():
            print(f"  refined {which}: {within(shares[part])}; log error {np.sqrt(np.square(left[part]).mean()):.3f}")
    for scene, constants in chosen.items() if power == 1 else ():
        own = shares[scenes == scene]
        values = " ".join(f"{value:.3f}" for value in constants)
        print(f"  {scene:18} {values}: {np.mean(own):.3f}  {min(own):.2f} … {max(own):.2f}")


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
            for row in measure(make()):
                rows.append({"scene": scene, "case": case, **row})
                needed = "  none" if row["needed"] is None else f"{row['needed']:6.2f}"
                print(
                    f"{scene:18} {case:26} refine {row['refine']:8} covered {at(row['curve'], 1.0):.3f}  scale "
                    f"{needed_scale(row['curve']):.2f}  needed {needed}  bands ± {row['band_spread']:.2f}", flush=True,
                )  # fmt: skip
            if given.json:
                given.json.write_text(json.dumps(rows))
    report(rows)


if __name__ == "__main__":
    main()
