"""Plant mistakes, alone and together, into pairs of many kinds, and ask `geolift check` about the files.

    python benchmarks/check_wide.py [--pairs N] [--first N] [--real] [--csv FILE]

Each pair draws its scene class, sensor (3 to 10 bands), HSI (AVIRIS- and EMIT-like, DESIS-like 400 to 1000 nm),
ratio (3, 4, 6, 10) and noise (25 or 40 dB, of either image) from a seed of its own. The HSI has 40 × 40 pixels.
``--real`` asks about the real pairs instead.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import check_real
import numpy as np
from check_injection import atmosphere
from check_planted import Pair, Planted, ask
from coregistration_scenes import CLASSES, FOLDER, SCENES, FloatArray, centres_nm, hyperspectral
from numpy.typing import NDArray
from scipy import ndimage

from geolift.degradation.degrade import add_noise, block_mean
from geolift.srf import SpectralResponse

SIDE_LR, EDGE_LR = 40, 1
SENSORS: tuple[tuple[str, int], ...] = (
    ("sentinel-2a", 4), ("sentinel-2b", 10), ("worldview-2", 8), ("worldview-3", 8), ("landsat-8-oli", 6),
    ("landsat-9-oli2", 7), ("planetscope-psbsd", 8), ("planetscope-ps2sd", 4), ("generic-rgb", 3), ("pleiades-1a", 4),
    ("rapideye", 5),
)  # fmt: skip
COUSINS = {
    "sentinel-2a": "ikonos-2", "worldview-2": "planetscope-psbsd", "worldview-3": "planetscope-psbsd",
    "planetscope-psbsd": "worldview-2", "planetscope-ps2sd": "ikonos-2", "rapideye": "worldview-2",
    "sentinel-2b": "sentinel-2a",
}  # fmt: skip
SPECTROMETERS: dict[str, tuple[NDArray[np.float64], float]] = {
    "AVIRIS": (np.arange(400.0, 2480.0, 10.0), 10.0),
    "EMIT": (np.arange(395.0, 2478.0, 7.4), 8.5),
    "DESIS": (np.arange(402.0, 1000.0, 2.55), 3.5),
}


@cache
def _spectra(name: str) -> FloatArray:
    """One scene on 210 common bands, so that scenes can be joined."""
    cube = hyperspectral(name)
    return _at(cube, centres_nm(len(cube)), centres_nm(210))


def _at(cube: FloatArray, centres: NDArray[np.float64], wanted: NDArray[np.float64]) -> FloatArray:
    """Interpolate spectra (k, y, x) at other centres."""
    place = np.interp(wanted, centres, np.arange(len(centres)))
    low = np.minimum(place.astype(int), len(centres) - 2)
    part = (place - low).astype(np.float32)[:, None, None]
    return cube[low] * (1 - part) + cube[low + 1] * part


def ground_of(members: tuple[str, ...], side: int, rng: np.random.Generator) -> FloatArray:
    """A mosaic of 100 × 100 tiles of scenes, turned at random: (210, side, side)."""
    count = -(-side // 100)
    tiles = [
        np.rot90(_spectra(members[rng.integers(len(members))])[:, :100, :100], int(rng.integers(4)), (1, 2))
        for _ in range(count**2)
    ]
    rows = [np.concatenate(tiles[i * count : (i + 1) * count], axis=2) for i in range(count)]
    return np.ascontiguousarray(np.concatenate(rows, axis=1)[:, :side, :side])


def seen(cube: FloatArray, sensor: str, names: tuple[str, ...], centres: NDArray[np.float64]) -> FloatArray:
    weights = SpectralResponse.from_library(sensor).select(names).weights(centres, np.full(len(centres), 10.0))
    if not weights.kept.all():
        raise LookupError(sensor)
    return np.einsum("bk,kyx->byx", weights.weights, cube).astype(np.float32)


def draw(seed: int) -> Pair:
    """Draw one pair."""
    rng = np.random.default_rng(seed)
    kind = str(rng.choice(list(CLASSES)))
    sensor, count = SENSORS[seed % len(SENSORS)]
    spectrometer = str(rng.choice(list(SPECTROMETERS)))
    ratio = int((3, 4, 6, 10)[rng.integers(4)])
    snr_hsi, snr_msi = (float(rng.choice([25.0, 40.0])) for _ in range(2))
    names = SpectralResponse.from_library(sensor).order_for(count)
    ground = ground_of(CLASSES[kind], (SIDE_LR + 2 * EDGE_LR) * ratio, rng)
    centres, fwhm = SPECTROMETERS[spectrometer]
    sigma = float(rng.choice([0.6, 1.0, 1.4])) * ratio / 2.3548
    coarse = block_mean(ndimage.gaussian_filter(ground, (0, sigma, sigma)), ratio)
    inner = (slice(None), slice(EDGE_LR, -EDGE_LR), slice(EDGE_LR, -EDGE_LR))
    hsi = add_noise(_at(coarse, centres_nm(210), centres)[inner], snr_hsi, rng)
    msi = atmosphere(seen(ground, sensor, names, centres_nm(210)), snr_msi - 6.0, rng)
    label: dict[str, object] = {"seed": seed, "scene": kind, "sensor": sensor, "bands": count, "hsi": spectrometer}
    label |= {"ratio": ratio, "snr_hsi": snr_hsi, "snr_msi": snr_msi}
    others = tuple(_others(ground, kind, sensor, names, snr_msi - 6.0, rng))
    widths = np.full(len(centres), fwhm)
    return Pair(label, hsi, centres, widths, msi, sensor, names, ratio, EDGE_LR * ratio, others)


def _others(
    ground: FloatArray, kind: str, sensor: str, names: tuple[str, ...], snr_db: float, rng: np.random.Generator
) -> Iterator[Planted]:
    """Images of another sensor, of other bands, and of another place."""
    image = atmosphere(seen(ground, sensor, names, centres_nm(210)), snr_db, rng)
    if sensor in COUSINS:
        other = SpectralResponse.from_library(COUSINS[sensor]).order_for(len(names))
        cousin = atmosphere(seen(ground, COUSINS[sensor], other, centres_nm(210)), snr_db, rng)
        same = sensor == "sentinel-2b"
        yield ("S2A for S2B", {"undetermined"}, cousin) if same else ("other sensor", {"sensor"}, cousin)
    if sensor == "sentinel-2b":
        yield "B07 for B8A", {"undetermined"}, image[[names.index("B07" if n == "B8A" else n) for n in names]]
    strangers = tuple(name for name in SCENES if name not in CLASSES[kind]) or SCENES
    strange = ground_of(strangers, ground.shape[1], rng)[:, ::-1]  # mirrored: no tile is one of the pair's
    yield "other place", {"other-place"}, atmosphere(seen(strange, sensor, names, centres_nm(210)), snr_db, rng)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pairs", type=int, default=66, help="how many pairs to draw")
    options.add_argument("--first", type=int, default=0, help="the first seed")
    options.add_argument("--real", action="store_true", help="the real pairs instead")
    options.add_argument("--csv", type=Path, help="also write every answer")
    given = options.parse_args()
    if not FOLDER.is_dir():
        print(f"skipped: needs the real scenes in {FOLDER.name}", file=sys.stderr)
        return
    rows = list(check_real.answers() if given.real else drawn(range(given.first, given.first + given.pairs)))
    grades: dict[str, Counter[str]] = defaultdict(Counter)
    other: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        grades[str(row["planted"])][str(row["grade"])] += 1
        if row["grade"] != "named":
            other[str(row["planted"])][str(row["said"])] += 1
    print(f"{'planted':24} {'pairs':>5} {'named':>6} {'more':>5} {'undetermined':>13} {'missed':>7}")
    for name, found in grades.items():
        counts = [found[key] for key in ("named", "more", "undetermined", "missed")]
        line = f"{name:24} {found.total():5} {counts[0]:6} {counts[1]:5} {counts[2]:13} {counts[3]:7}"
        print(f"{line}   {dict(other[name])}")
    if given.csv:
        with given.csv.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def drawn(seeds: range) -> Iterator[dict[str, object]]:
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            yield from ask(draw(seed), Path(folder))


if __name__ == "__main__":
    main()
