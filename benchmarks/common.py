"""Scenes, measured runs and tables for the benchmarks."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import rasterio
from affine import Affine

from geolift.srf import SpectralResponse

MSI_BANDS = ("B02", "B03", "B04", "B08")
SENSOR = "sentinel-2a"
STRIP = 512


def spectra(bands: int) -> tuple[np.ndarray, np.ndarray]:
    """Return band centres (nm) and four smooth spectra (4, bands)."""
    nm = np.linspace(420, 1000 if bands < 100 else 2400, bands)
    vegetation = 0.05 + 0.4 / (1 + np.exp(-(nm - 715) / 15)) * np.exp(-(nm - 700).clip(0) / 1500)
    return nm, np.stack([0.05 + 0.02 * nm / 600, vegetation, 0.1 + nm / 10000, 0.2 + 0.1 * np.sin(nm / 200)])


def _create(path: Path, values: int, size: int, gsd: float, **options: Any) -> Any:
    grid = Affine(gsd, 0, 4e5, 0, -gsd, 5.8e6)
    shape = {"count": values, "height": size, "width": size, "dtype": "int16", "nodata": -32768}
    return rasterio.open(path, "w", driver="GTiff", crs="EPSG:32633", transform=grid, **shape, **options)


def make_hsi(path: Path, bands: int, gsd: float, size: int = 60) -> Path:
    """Write a small HSI of random mixtures."""
    nm, library = spectra(bands)
    shares = np.random.default_rng(0).dirichlet(np.ones(4) / 2, (size, size))
    with _create(path, bands, size, gsd) as target:
        target.write(np.rint(np.einsum("yxk,kb->byx", shares, library) * 1e4).astype("int16"))
        target.scales = (1e-4,) * bands
        for band in range(bands):
            target.update_tags(band + 1, wavelength=str(nm[band]), wavelength_units="Nanometers", fwhm="10")
    return path


def make_msi(path: Path, bands: int, size: int) -> Path:
    """Write a four-band Sentinel-2 image of patches with noise, strip by strip, as large as wanted."""
    nm, library = spectra(bands)
    weights = SpectralResponse.from_library(SENSOR).select(MSI_BANDS).weights(nm, np.full(bands, 10.0)).weights
    rng = np.random.default_rng(1)
    blocks = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1}
    with _create(path, 4, size, 10, **blocks) as target:
        for row in range(0, size, STRIP):
            rows = min(STRIP, size - row)
            patches = np.kron(rng.dirichlet(np.ones(4) / 2, (rows // 8 + 1, size // 8 + 1)), np.ones((8, 8, 1)))
            shares = patches[:rows, :size] + 0.03 * rng.random((rows, size, 4))
            shares /= shares.sum(axis=2, keepdims=True)
            values = np.einsum("yxk,mk->myx", shares, weights @ library.T)
            target.write(np.rint(values * 1e4).astype("int16"), window=((row, row + rows), (0, size)))
        target.scales = (1e-4,) * 4
        target.descriptions = MSI_BANDS
    return path


def make_pair(folder: Path, bands: int, size: int, ratio: int = 3) -> tuple[Path, Path]:
    """Write an HSI and an MSI of one invented scene of patches, strip by strip, as large as wanted."""
    nm, library = spectra(bands)
    library = np.concatenate([library, 0.7 * library[::-1] + 0.05 * np.sin(nm / 80), 0.5 * library + 0.03])
    weights = SpectralResponse.from_library(SENSOR).select(MSI_BANDS).weights(nm, np.full(bands, 10.0)).weights
    rng = np.random.default_rng(0)
    paths = folder / "hsi.tif", folder / "msi.tif"
    blocks = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "zstd", "zstd_level": 1}
    whole, strip = size // ratio, max(1, 288 // ratio)
    hsi = _create(paths[0], bands, whole, 10 * ratio, **blocks)
    with hsi, _create(paths[1], len(MSI_BANDS), size, 10, **blocks) as msi:
        for row in range(0, whole, strip):
            rows = min(strip, whole - row)
            fine = rows * ratio, whole * ratio
            coarse = rng.dirichlet(np.ones(len(library)) / 3, (fine[0] // 8 + 1, fine[1] // 8 + 1)).astype(np.float32)
            shares = np.kron(coarse, np.ones((8, 8, 1), np.float32))[: fine[0], : fine[1]]
            shares = 0.9 * shares + 0.1 / len(library) * 2 * rng.random(shares.shape, dtype=np.float32)
            seen = np.einsum("yxk,mk->myx", shares, np.asarray(weights @ library.T, np.float32))
            msi.write(np.rint(seen * 1e4).astype("int16"), window=((row * ratio, row * ratio + fine[0]), (0, fine[1])))
            low = shares.reshape(rows, ratio, whole, ratio, -1).mean(axis=(1, 3))
            values = np.einsum("yxk,kb->byx", low, library.astype(np.float32))
            values += 0.002 * rng.standard_normal(values.shape, dtype=np.float32)
            hsi.write(np.rint(values * 1e4).astype("int16"), window=((row, row + rows), (0, whole)))
        hsi.scales, msi.scales, msi.descriptions = (1e-4,) * bands, (1e-4,) * len(MSI_BANDS), MSI_BANDS
        for band in range(bands):
            hsi.update_tags(band + 1, wavelength=str(nm[band]), wavelength_units="Nanometers", fwhm="10")
    return paths


@dataclass(frozen=True)
class Measured:
    """A run of the real command: wall time, processor time, peak of resident memory of all its processes."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


def geolift(*arguments: object) -> Measured:
    """Run `geolift` and measure it."""
    started = time.perf_counter()
    process = psutil.Popen([sys.executable, "-m", "geolift", *map(str, arguments)], stdout=subprocess.DEVNULL)
    peak, cpu = 0, 0.0
    while process.poll() is None:
        try:
            family = [process, *process.children(recursive=True)]
            peak = max(peak, sum(member.memory_info().rss for member in family))
            times = [member.cpu_times() for member in family]
            cpu = max(cpu, sum(t.user + t.system for t in times))
        except psutil.Error:
            pass
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"geolift {arguments[0]} ended with {process.returncode}")
    return Measured(time.perf_counter() - started, cpu, peak)


class Clock:
    """Wall and processor time of a piece of this process."""

    def __enter__(self) -> Clock:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s, self.cpu_s = time.perf_counter() - self._wall, time.process_time() - self._cpu


def in_threads(count: int, jobs: Sequence[Any]) -> None:
    """Run jobs in a number of threads, and let go of each result: memory that is new takes longer than the work."""
    from concurrent.futures import ThreadPoolExecutor

    def do(job: Any) -> None:
        job()

    with ThreadPoolExecutor(count) as pool:
        for _ in pool.map(do, jobs):
            pass


def arguments(description: str, **defaults: int) -> argparse.Namespace:
    """Parse the command line of a benchmark."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--folder", type=Path, help="where the scenes go; default a temporary folder")
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    return parser.parse_args()


def table(rows: list[dict[str, Any]], file: Path | None = None) -> None:
    """Print rows as a table, and write them as JSON."""
    names = list(rows[0])
    texts = [[f"{row[name]:.3g}" if isinstance(row[name], float) else str(row[name]) for name in names] for row in rows]
    widths = [max(len(line[i]) for line in [names, *texts]) for i in range(len(names))]
    for line in [names, *texts]:
        print("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"({os.cpu_count()} CPUs, load {load:.1f}, {threading.active_count()} thread of this process)")
    if file is not None:
        file.write_text(json.dumps(rows, indent=1))
