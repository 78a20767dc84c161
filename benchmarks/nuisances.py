"""What ordinary faults of real pairs cost, with and without geolift's measures: the table of docs/real-pairs.md.

    python benchmarks/nuisances.py                        # a made-up landscape, middle strengths
    python benchmarks/nuisances.py --scene truth.tif      # your own: a GeoTIFF or ENVI cube with wavelengths
    python benchmarks/nuisances.py --strengths 0,1,2 --only cloud,change -o table.md

PSNR in dB (peak: the truth's 99.9th percentile of each band, mean over bands) and SAM in degrees, on the pixels that
the fault leaves alone, in the MSI's geometry. The law: the default is at most 0.3 dB and 3 % of the angle worse than
the better of ``--refine off`` and the interpolated HSI.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from affine import Affine
from faults import FAULTS, RATIO, Pair, flawless
from odc.geo.geobox import GeoBox
from scipy import ndimage

import geolift
from geolift.datamodel.cube import Bands, bands_of, make_cube
from geolift.demo.landscape import make_scene
from geolift.srf import SpectralResponse

SENSOR = "sentinel-2a"
MSI_BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
DB, ANGLE = 0.3, 1.03
EVERY, EDGE_PX = 3, 126
GRID = Affine(30.0, 0, 364095.0, 0, -30.0, 5809965.0)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fault at one strength: (PSNR dB, SAM degrees) of each way, and the codes of what was found."""

    fault: str
    strength: float
    interpolated: tuple[float, float]
    off: tuple[float, float]
    default: tuple[float, float]
    codes: tuple[str, ...]

    @property
    def harm(self) -> bool:
        """Whether the default breaks the law."""
        psnr = max(self.off[0], self.interpolated[0])
        angle = min(self.off[1], self.interpolated[1])
        return self.default[0] < psnr - DB or self.default[1] > ANGLE * angle


def scene(path: Path | None, seed: int) -> Pair:
    """A truth with the pair that faultless sensors see: a file's, or that of a made-up landscape."""
    if path is None:
        made = make_scene(seed=seed, rows=EDGE_PX, cols=EDGE_PX)
        values, nm, fwhm, good = made.reflectance, made.wavelengths_nm, made.fwhm_nm, made.good
    else:
        cube = geolift.open(path)
        bands, values = bands_of(cube), cube.values
        nm, fwhm, good = bands.wavelength_nm, bands.fwhm_nm, bands.good
    chosen = np.flatnonzero(good)[np.argsort(nm[good])][::EVERY]
    rows, cols = (size // RATIO * RATIO for size in values.shape[1:])
    response = SpectralResponse.from_library(SENSOR).select(MSI_BANDS)
    weights = response.weights(nm[chosen], EVERY * fwhm[chosen]).weights
    truth = np.asarray(values[chosen, :rows, :cols], np.float32)
    return flawless(truth, nm[chosen], response.centres_nm, weights, seed)


def score(product: np.ndarray, pair: Pair) -> tuple[float, float]:
    """PSNR and SAM on the pixels that the fault leaves alone, in the MSI's geometry."""
    truth = pair.truth if pair.moved_truth is None else pair.moved_truth
    used = np.isfinite(product).all(axis=0) & np.isfinite(truth).all(axis=0) & ~pair.touched
    ours, right = product[:, used].astype(float), truth[:, used].astype(float)
    peak = np.percentile(right, 99.9, axis=1)
    psnr = 10 * np.log10(peak**2 / np.maximum(np.square(ours - right).mean(axis=1), 1e-12))
    length = np.linalg.norm(ours, axis=0) * np.linalg.norm(right, axis=0)
    angle = np.degrees(np.arccos(np.clip((ours * right).sum(axis=0) / np.maximum(length, 1e-9), -1, 1)))
    return float(psnr.mean()), float(angle.mean())


def interpolated(pair: Pair) -> np.ndarray:
    """The HSI alone, at the fine pixels by cubic splines."""
    valid = np.isfinite(pair.hsi).all(axis=0)
    nearest = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    filled = pair.hsi[:, nearest[0], nearest[1]]
    return np.stack([ndimage.zoom(band, RATIO, order=3, mode="nearest", grid_mode=True) for band in filled])


def fused(pair: Pair, **options: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The product of the pair, and the codes of what was found in it."""
    coarse_grid = GeoBox(pair.hsi.shape[1:], GRID * Affine.scale(RATIO), "EPSG:32633")
    fine_grid = GeoBox(pair.msi.shape[1:], GRID, "EPSG:32633")
    count, unknown = len(pair.hsi), np.full(len(pair.msi), np.nan)
    hsi_bands = Bands(
        tuple(f"band {i + 1}" for i in range(count)), pair.wavelength_nm, np.full(count, 30.0), np.ones(count, bool)
    )
    msi_bands = Bands(MSI_BANDS, unknown, unknown, np.ones(len(pair.msi), bool))
    attrs = {"quantity": "reflectance"}
    cubes = (
        make_cube(pair.hsi, grid=coarse_grid, bands=hsi_bands, attrs=attrs),
        make_cube(pair.msi.astype(np.float32), grid=fine_grid, bands=msi_bands, attrs=attrs),
    )
    fusion = geolift.prepare(*cubes, sensor=SENSOR, msi_bands=MSI_BANDS, **options)
    checked = () if fusion.check is None else tuple(finding.code for finding in fusion.check.verdict)
    codes = dict.fromkeys(code for code in (*fusion.screening.codes, *checked) if code not in ("ok", "undetermined"))
    return fusion.fused.values, tuple(codes)


def rows(pair: Pair, only: list[str], strengths: list[int], seed: int) -> Iterator[Row]:
    """Plant each fault and fuse what comes of it."""
    for name, (fault, levels) in FAULTS.items():
        if only and not any(word in name for word in only):
            continue
        for level in sorted({min(index, len(levels) - 1) for index in strengths}):
            planted = fault(_drawn(pair, seed), levels[level])
            off, _ = fused(planted, refine="off")
            product, codes = fused(planted)
            yield Row(
                fault=name, strength=levels[level], interpolated=score(interpolated(planted), planted),
                off=score(off, planted), default=score(product, planted), codes=codes,
            )  # fmt: skip


def _drawn(pair: Pair, seed: int) -> Pair:
    """The pair with its random numbers from the start: a fault is the same alone and among others."""
    return flawless(pair.truth, pair.wavelength_nm, pair.msi_nm, pair.weights, seed)


def line(row: Row) -> str:
    """A row of the table."""
    cells = [f"{psnr:.1f} / {angle:.1f}" for psnr, angle in (row.interpolated, row.off, row.default)]
    harm = "  <- harm" if row.harm else ""
    return f"| {row.fault} {row.strength:g} | {' | '.join(cells)} | {', '.join(row.codes) or '–'} |{harm}"


def main() -> int:
    """Print the table; exit 1 if the law is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", type=Path)
    parser.add_argument("--only", default="", help="words of the faults' names, parted by commas")
    parser.add_argument("--strengths", default="1", help="0 low, 1 middle, 2 high")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    only = [word for word in given.only.split(",") if word]
    lines = ["| fault | interpolated HSI | refine off | default | found |", "|---|---|---|---|---|"]
    harmed = 0
    print("\n".join(lines))
    for row in rows(scene(given.scene, given.seed), only, [int(n) for n in given.strengths.split(",")], given.seed):
        lines.append(line(row))
        harmed += row.harm
        print(lines[-1], flush=True)
    if given.output is not None:
        given.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(harmed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
