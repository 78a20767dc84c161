"""Plant every mistake the cross-sensor check knows into clean pairs of real scenes, and count what it says.

    python benchmarks/check_injection.py [--quick] [--snr DB]

Pairs: nine AVIRIS scenes degraded by 3 and 4, four sensors each, with an atmosphere between the sensors (gains of
10 % in common and 4 % per band, an offset of 0.01) and noise. The thresholds in geolift/sanity*.py rest on this.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from coregistration_scenes import FOLDER, SCENES, FloatArray, centres_nm, cloudy, hyperspectral
from scipy import ndimage

from geolift.coregistration import estimate_shift
from geolift.degrade import add_noise, block_mean
from geolift.errors import GeoliftError
from geolift.sampling import degrade_msi
from geolift.sanity import Candidate, check_pair
from geolift.srf import SpectralResponse, list_sensors

MARGIN = 2
BANDS: dict[str, tuple[str, ...]] = {
    "sentinel-2a": ("B02", "B03", "B04", "B08"),
    "sentinel-2b": ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"),
    "worldview-2": ("Coastal", "Blue", "Green", "Yellow", "Red", "RedEdge", "NIR1", "NIR2"),
    "landsat-8-oli": ("B2", "B3", "B4", "B5", "B6", "B7"),
}
COUSINS = {
    "sentinel-2a": ("ikonos-2", None),
    "sentinel-2b": None,
    "worldview-2": ("planetscope-psbsd", None),
    "landsat-8-oli": ("landsat-5-tm", None),
}
EXPECTED = {
    "clean": {"ok", "undetermined"},
    "offset +0.1": {"offset"},
    "offset -0.1": {"offset"},
    "x 10000": {"scale"},
    "/ 10000": {"scale"},
    "reversed": {"band-order"},
    "two swapped": {"band-order"},
    "other sensor": {"sensor"},
    "shift 3 px": {"shift"},
    "cloud 30 %": {"cloud-or-change"},
    "other place": {"other-place"},
}


@dataclass(frozen=True)
class Pair:
    scene: str
    sensor: str
    ratio: int
    hsi: FloatArray
    fine: FloatArray
    msi: FloatArray


def weights_of(sensor: str, bands: tuple[str, ...] | None, count: int) -> tuple[tuple[str, ...], np.ndarray]:
    response = SpectralResponse.from_library(sensor)
    chosen = response.select(bands or response.default_bands)
    found = chosen.weights(centres_nm(count), np.full(count, 12.0))
    return found.band_names, found.weights


def seen(cube: FloatArray, sensor: str, bands: tuple[str, ...] | None = None) -> FloatArray:
    return np.einsum("bk,kyx->byx", weights_of(sensor, bands, len(cube))[1], cube).astype(np.float32)


def pairs(quick: bool, snr_db: float, rng: np.random.Generator) -> Iterator[Pair]:
    for scene in SCENES[:: 3 if quick else 1]:
        for ratio in (3, 4):
            cube = hyperspectral(scene)
            rows, columns = (n // ratio * ratio for n in cube.shape[1:])
            cube = cube[:, :rows, :columns]
            sigma = float(rng.choice([0.6, 1.0, 1.4])) * ratio / 2.3548
            hsi = block_mean(ndimage.gaussian_filter(cube, (0, sigma, sigma)), ratio)
            hsi = add_noise(hsi, snr_db, rng)
            for sensor, bands in BANDS.items():
                yield Pair(scene, sensor, ratio, hsi, cube, atmosphere(seen(cube, sensor, bands), snr_db, rng))


def atmosphere(msi: FloatArray, snr_db: float, rng: np.random.Generator) -> FloatArray:
    gain = np.exp(rng.normal(0, 0.1) + rng.normal(0, 0.04, (len(msi), 1, 1)))
    offset = rng.normal(0, 0.01) + rng.normal(0, 0.004, (len(msi), 1, 1))
    return np.asarray(add_noise((msi * gain + offset).astype(np.float32), snr_db + 6.0, rng), np.float32)


def candidates(pair: Pair) -> dict[str, Candidate]:
    found = {}
    for sensor in list_sensors():
        try:
            names, weights = weights_of(sensor, None, len(pair.hsi))
        except GeoliftError:
            continue
        found[sensor] = Candidate(names, np.einsum("bk,kyx->byx", weights, pair.hsi).astype(np.float32))
    return found


def mistakes(
    pair: Pair, simulated: FloatArray, snr_db: float, rng: np.random.Generator
) -> Iterator[tuple[str, FloatArray]]:
    msi = pair.msi
    yield "clean", msi
    yield "offset +0.1", msi + 0.1
    yield "offset -0.1", msi - 0.1
    yield "x 10000", msi * 1e4
    yield "/ 10000", msi / 1e4
    yield "cloud 30 %", cloudy(msi, 0.3, rng)
    alike = np.corrcoef(simulated.reshape(len(msi), -1))
    if alike[0, -1] < 0.98:
        yield "reversed", msi[::-1]
    apart = np.argwhere(np.triu(alike < 0.98))
    if len(apart):
        order = np.arange(len(msi))
        one, two = apart[rng.integers(len(apart))]
        order[[one, two]] = two, one
        yield "two swapped", msi[order]
    yield "shift 3 px", ndimage.shift(msi, (0, 3, 0), order=1, cval=np.nan)
    cousin = COUSINS[pair.sensor]
    if cousin is not None and pair.sensor != "landsat-8-oli":
        bands = weights_of(cousin[0], None, len(pair.hsi))[0][: len(msi)]
        other = seen(pair.fine, cousin[0], bands)
        if len(other) == len(msi):
            yield "other sensor", atmosphere(other, snr_db, rng)
    strange = hyperspectral(SCENES[(SCENES.index(pair.scene) + 3) % len(SCENES)])
    strange = seen(strange, pair.sensor, BANDS[pair.sensor])
    short = [(0, 0), *((0, max(0, a - b)) for a, b in zip(msi.shape[1:], strange.shape[1:], strict=True))]
    yield "other place", np.pad(strange, short, mode="reflect")[:, : msi.shape[1], : msi.shape[2]]


def codes_of(pair: Pair, simulated: FloatArray, msi: FloatArray, others: dict[str, Candidate]) -> set[str]:
    edge = MARGIN * pair.ratio
    fine = np.pad(msi.astype(np.float32), ((0, 0), (edge, edge), (edge, edge)), constant_values=np.nan)
    shift = estimate_shift(simulated, fine, pair.ratio, MARGIN)
    applied = (shift.dy, shift.dx) if shift.reliable else (0.0, 0.0)
    sigma = (shift.blur_sigma_y, shift.blur_sigma_x) if np.isfinite(shift.blur_sigma_y) else (0.35 * pair.ratio,) * 2
    degraded = degrade_msi(fine, pair.ratio, MARGIN, applied, sigma)
    names = BANDS[pair.sensor]
    result = check_pair(simulated, degraded, names, shift, pair.ratio, sensor=pair.sensor, candidates=others)
    return {finding.code for finding in result.verdict}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="a third of the scenes")
    options.add_argument("--snr", type=float, default=30.0, help="of the HSI, per band, in dB")
    given = options.parse_args()
    if not FOLDER.is_dir():
        print("skipped: needs the real scenes in ../shared/data", file=sys.stderr)
        return
    rng = np.random.default_rng(3)
    said: dict[str, Counter[str]] = defaultdict(Counter)
    right: dict[str, list[bool]] = defaultdict(list)
    for pair in pairs(given.quick, given.snr, rng):
        simulated = seen(pair.hsi, pair.sensor, BANDS[pair.sensor])
        others = candidates(pair)
        for name, msi in mistakes(pair, simulated, given.snr, rng):
            codes = codes_of(pair, simulated, msi, others)
            said[name]["+".join(sorted(codes))] += 1
            right[name].append(codes <= EXPECTED[name])
    for name, answers in said.items():
        print(f"{name:14} {sum(right[name]):3} of {len(right[name]):3} right   {dict(answers)}")


if __name__ == "__main__":
    main()
