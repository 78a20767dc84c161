"""Mistakes planted into a pair, alone and together, and what `geolift check` says; shared by benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from check_injection import write
from coregistration_scenes import FloatArray, cloudy
from numpy.typing import NDArray
from scipy import ndimage

from geolift.degradation.degrade import apply_srf
from geolift.pair.checks import Reading, check_pair
from geolift.pair.checks.crosscheck import simulate_candidates
from geolift.pair.comparison import compare
from geolift.pipeline.pair_check import open_pair
from geolift.settings import PairSettings

ALIKE_R = 0.98
OPEN = {"ok", "undetermined"}
Planted = tuple[str, set[str], FloatArray]


@dataclass(frozen=True)
class Pair:
    """An HSI (k, h, w) and the image of a sensor (c, y, x) that reaches ``edge_px`` fine pixels beyond it.

    ``others`` are images that hold something else than they should: name, codes to be said, values.
    """

    label: dict[str, object]
    hsi: FloatArray
    centres_nm: NDArray[np.float64]
    fwhm_nm: NDArray[np.float64]
    msi: FloatArray
    sensor: str
    names: tuple[str, ...]
    ratio: int
    edge_px: int
    others: tuple[Planted, ...] = ()
    counts: bool = False


def mistakes(pair: Pair, simulated: FloatArray, bands: list[int]) -> Iterator[Planted]:
    """Name, codes to be said, and the spoilt image; ``bands`` of the MSI are simulated.

    Of 8-bit counts neither scale nor offset is known, so none is planted.
    """
    rng = np.random.default_rng(int(str(pair.label["seed"])) + 1)
    msi, ratio = pair.msi, pair.ratio
    down = 3.0 if ratio <= 4 else 0.75 * ratio
    moved = ndimage.shift(msi, (0, down, 0), order=1, cval=np.nan)
    clouded = cloudy(msi, 0.3, rng)
    yield "clean", OPEN, msi
    yield "shift", {"shift"}, moved
    if not pair.counts:
        yield from _values(msi, moved, clouded)
    yield from _order(msi, moved, simulated, bands, rng, pair.counts)
    yield from pair.others


def _values(msi: FloatArray, moved: FloatArray, clouded: FloatArray) -> Iterator[Planted]:
    yield "offset +0.1", {"offset"}, msi + 0.1
    yield "offset -0.1", {"offset"}, msi - 0.1
    yield "x 10000", {"scale"}, msi * 1e4
    yield "/ 10000", {"scale"}, msi / 1e4
    yield "offset +0.1, shift", {"offset", "shift"}, moved + 0.1
    yield "x 10000, shift", {"scale", "shift"}, moved * 1e4
    yield "x 10000, offset +0.1", {"scale", "offset"}, (msi + 0.1) * 1e4
    yield "cloud 30 %", {"cloud-or-change"}, clouded
    yield "cloud 30 %, x 10000", {"cloud-or-change", "scale"}, clouded * 1e4
    yield "cloud 30 %, offset +0.1", {"cloud-or-change", "offset"}, clouded + 0.1


def _order(
    msi: FloatArray, moved: FloatArray, simulated: FloatArray, bands: list[int], rng: np.random.Generator, counts: bool
) -> Iterator[Planted]:
    alike = np.corrcoef(simulated.reshape(len(bands), -1))
    apart = np.array(bands)[np.argwhere(np.triu(alike < ALIKE_R))]
    if len(bands) == len(msi) and alike[0, -1] < ALIKE_R:
        yield "reversed", {"band-order"}, msi[::-1]
        yield "reversed, shift", {"band-order", "shift"}, moved[::-1]
        if not counts:
            yield "reversed, x 10000", {"band-order", "scale"}, msi[::-1] * 1e4
            yield "reversed, offset +0.1", {"band-order", "offset"}, msi[::-1] + 0.1
    if len(apart):
        order = np.arange(len(msi))
        one, two = apart[rng.integers(len(apart))]
        order[[one, two]] = two, one
        yield "two swapped", {"band-order"}, msi[order]
        yield "two swapped, shift", {"band-order", "shift"}, moved[order]


def ask(pair: Pair, folder: Path) -> Iterator[dict[str, object]]:
    """Write the pair, read it as `geolift check` does, and ask about each mistake: one row per answer.

    The files are read, and other sensors simulated, once: neither depends on the mistake.
    """
    hsi_path, msi_path = folder / "hsi.tif", folder / "msi.tif"
    tags = [
        {"wavelength": f"{c:.6g}", "fwhm": f"{w:.5g}", "wavelength_units": "Nanometers"}
        for c, w in zip(pair.centres_nm, pair.fwhm_nm, strict=True)
    ]
    write(hsi_path, pair.hsi, 10.0 * pair.ratio, tags)
    write(msi_path, pair.msi, 10.0, [{} for _ in pair.msi], edge_px=pair.edge_px)
    settings = PairSettings(sensor=pair.sensor, msi_bands=",".join(pair.names), harmonize="off")
    opened = open_pair(hsi_path, msi_path, settings)
    opened, spectra = replace(opened, hsi=opened.hsi.compute()), opened.spectra
    others = simulate_candidates(opened, (slice(None), slice(None)))
    bands = list(spectra.msi_bands)
    simulated = apply_srf(opened.hsi.data[list(spectra.good)], spectra.weights.astype(np.float64))
    for name, expected, image in mistakes(pair, simulated, bands):
        mistaken = replace(opened, msi=opened.msi.copy(data=image.astype(np.float32)))
        compared = compare(mistaken, settings)
        if compared is None:
            raise RuntimeError(f"{pair.label}: no overlap")
        shift = compared.shift
        result = check_pair(
            compared.simulated, compared.degraded, spectra.msi_names, shift, pair.ratio,
            sensor=spectra.sensor, candidates=others, reading=Reading(reflectance=not pair.counts),
        )  # fmt: skip
        said = {finding.code for finding in result.verdict}
        yield pair.label | {
            "planted": name,
            "grade": grade(expected, said),
            "said": "+".join(sorted(said)),
            "dy": shift.dy if shift else 0.0,
            "dx": shift.dx if shift else 0.0,
            "confidence": shift.confidence if shift else 0.0,
            "messages": " | ".join(f"{f.message} [{f.option}]" for f in result.verdict),
        }


def grade(expected: set[str], said: set[str]) -> str:
    """Return "named" (exactly what was planted), "more" (and something else), "undetermined", or "missed"."""
    if expected == OPEN:
        return "named" if said <= OPEN else "more"
    if expected <= said:
        return "named" if said == expected else "more"
    return "undetermined" if said == {"undetermined"} else "missed"
