"""Plant every mistake the cross-sensor check knows into clean pairs of real scenes, and count what it says.

    python benchmarks/check_injection.py [--quick] [--snr DB]

Pairs: nine AVIRIS scenes degraded by 3 and 4, four sensors each, with an atmosphere between the sensors (gains of
10 % in common and 4 % per band, an offset of 0.01) and noise. The thresholds in geolift/pair/checks/ rest on this.
Micrometres for nanometres are a matter of files: those pairs are written, and read as `geolift check` does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from coregistration_scenes import FOLDER, SCENES, FloatArray, centres_nm, cloudy, hyperspectral
from scipy import ndimage

from geolift.degradation.degrade import add_noise, block_mean
from geolift.degradation.sampling import degrade_msi
from geolift.errors import GeoliftError
from geolift.pair.checks import Candidate, check_pair
from geolift.pair.coregistration import estimate_shift
from geolift.pipeline.pair_check import check_files
from geolift.settings import PairSettings
from geolift.srf import SpectralResponse, list_sensors, twins_of

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
    "S2A for S2B": {"undetermined"},
    "B07 for B8A": {"undetermined"},
    "files, clean": {"ok", "undetermined"},
    "um as nm": {"units"},
    "um, no unit": {"units"},
    "nm as um": {"units"},
}
BESIDE = {"um as nm", "um, no unit", "nm as um"}
"""Mistakes that the reader sets right: what else is said is what a clean pair may say."""

UNITS = {
    "files, clean": (1.0, "Nanometers"),
    "um as nm": (1e-3, "Nanometers"),
    "um, no unit": (1e-3, ""),
    "nm as um": (1.0, "Micrometers"),
}
"""Factor on the wavelengths in nm, and the unit that is declared."""


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
        image = np.einsum("bk,kyx->byx", weights, pair.hsi).astype(np.float32)
        found[sensor] = Candidate(names, image, sensor in twins_of(pair.sensor))
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
    if pair.sensor == "sentinel-2b":
        bands = BANDS[pair.sensor]
        yield "S2A for S2B", atmosphere(seen(pair.fine, "sentinel-2a", bands), snr_db, rng)
        order = [bands.index("B07") if band == "B8A" else i for i, band in enumerate(bands)]
        yield "B07 for B8A", msi[order]
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


def codes_of_files(pair: Pair, factor: float, unit: str, folder: Path) -> set[str]:
    """Write the pair with its wavelengths in some unit, and check the files as a user does."""
    hsi, msi = folder / "hsi.tif", folder / "msi.tif"
    centres = centres_nm(len(pair.hsi)) * factor
    tags = [{"wavelength": f"{c:.6g}", "fwhm": f"{12 * factor:.6g}", "wavelength_units": unit} for c in centres]
    write(hsi, pair.hsi, 10.0 * pair.ratio, tags)
    write(msi, pair.msi, 10.0, [{} for _ in pair.msi], BANDS[pair.sensor])
    settings = PairSettings(sensor=pair.sensor, overwrite=True)
    return {finding["code"] for finding in check_files(hsi, msi, settings)["verdict"]}


def write(
    path: Path,
    values: FloatArray,
    gsd_m: float,
    tags: list[dict[str, str]],
    names: tuple[str, ...] = (),
    edge_px: int = 0,
) -> None:
    """Write a cube whose first ``edge_px`` rows and columns lie above and left of the common corner."""
    count, height, width = values.shape
    grid = Affine(gsd_m, 0, 364_000 - edge_px * gsd_m, 0, -gsd_m, 5_810_000 + edge_px * gsd_m)
    with rasterio.open(
        path, "w", "GTiff", width, height, count, "EPSG:32633", grid, dtype="float32", nodata=float("nan")
    ) as target:
        target.write(values.astype(np.float32))
        for band, entries in enumerate(tags, start=1):
            target.update_tags(band, **entries)
        if names:
            target.descriptions = names


def answers(pair: Pair, snr_db: float, rng: np.random.Generator, folder: Path) -> Iterator[tuple[str, set[str]]]:
    """Each mistake planted into the pair, with the codes that the check says."""
    simulated = seen(pair.hsi, pair.sensor, BANDS[pair.sensor])
    others = candidates(pair)
    for name, msi in mistakes(pair, simulated, snr_db, rng):
        yield name, codes_of(pair, simulated, msi, others)
    for name, (factor, unit) in UNITS.items() if pair.ratio == 3 else ():  # the ratio does not matter here
        yield name, codes_of_files(pair, factor, unit, folder)


def grade(name: str, codes: set[str]) -> str:
    """Return "named", "undetermined", or "wrong" (something else, or ok where something is amiss)."""
    rest = codes - {"units", "ok", "undetermined"} if name in BESIDE else codes - EXPECTED[name]
    if not rest and codes & EXPECTED[name]:
        return "named"
    return "undetermined" if codes == {"undetermined"} else "wrong"


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
    grades: dict[str, Counter[str]] = defaultdict(Counter)
    with tempfile.TemporaryDirectory() as folder:
        for pair in pairs(given.quick, given.snr, rng):
            for name, codes in answers(pair, given.snr, rng, Path(folder)):
                said[name]["+".join(sorted(codes))] += 1
                grades[name][grade(name, codes)] += 1
    print(f"{'planted':14} {'pairs':>5} {'named':>6} {'undetermined':>13} {'wrong':>6}")
    for name, found in grades.items():
        named, open_, wrong = (found[key] for key in ("named", "undetermined", "wrong"))
        print(f"{name:14} {found.total():5} {named:6} {open_:13} {wrong:6}   {dict(said[name])}")


if __name__ == "__main__":
    main()
