"""What a country or an archive costs, from measured rates of one core; tables in Markdown.

    python benchmarks/plan_scale.py --measure rates.json     measure this machine (half a minute)
    python benchmarks/plan_scale.py --rates rates.json       print the tables

Hours are computed: pixels over the smallest of the rates of workers, writer, store and scheduler, and checked by
`simulate_cluster`. Prices are assumptions of the reader's: --core-hour and --gpu-hour.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulate_cluster import Load, simulate

TILE = 256
AREAS_MPX = {"1 000 km²": 10.0, "one Sentinel-2 tile": 10.98**2, "10 000 EnMAP scenes": 9.0 * 10_000}
"""Millions of pixels of 10 m; an EnMAP scene is 30 × 30 km."""

PROCESS_CORES = 6.5
"""Threads of one process keep no more cores busy: they take turns at one interpreter (bench_threads.py, 16 cores)."""

STORED_BYTES = 1.84
"""A value as int16 and ZSTD 1 in real scenes: 345 to 358 bytes a pixel of 191 bands. Invented mixtures take 303."""

GPU_US = 0.021
"""A pixel there, through the network and back: H200, fp32, 191 bands (bench_gpu.py)."""


@dataclass(frozen=True)
class Machine:
    """Where a run goes.

    ``cores`` compute, in threads of one process or, ``workers``, in a process each; ``gpu`` takes the network from
    them; ``shards``: every worker writes.
    """

    name: str
    cores: int
    gpu: bool = False
    workers: bool = False
    shards: bool = False
    disk_gb_s: float = 1.0
    """What one writer's disk, or the store of all workers, takes."""
    source_gb_s: float = 1.0
    """What the MSI's storage gives to all workers together."""

    @property
    def busy(self) -> float:
        """Cores that are kept busy."""
        return self.cores if self.workers else min(self.cores, PROCESS_CORES)


MACHINES = (
    Machine("laptop, 8 cores", 8, source_gb_s=2.0),
    Machine("node, 64 cores", 64, disk_gb_s=2.0, source_gb_s=2.0),
    Machine("one GPU, 16 cores", 16, gpu=True, disk_gb_s=2.0, source_gb_s=2.0),
    Machine("100 workers, one GeoTIFF", 100, workers=True, disk_gb_s=1.0, source_gb_s=5.0),
    Machine("100 workers, Zarr shards", 100, workers=True, shards=True, disk_gb_s=5.0, source_gb_s=5.0),
)


@dataclass(frozen=True)
class Rates:
    """Of one core, in microseconds a pixel, with the bytes a pixel is read and written as.

    ``network_us``: to stored numbers; ``gpu_us``: a GPU's time for a pixel, back to the CPU's memory included;
    ``dispatch_s``: of the scheduler, a tile; ``handling_us``: what writing a pixel takes beside waiting for the
    disk, of the one writer or, on a cluster, of each worker.
    """

    read_us: float
    network_us: float
    compress_us: float
    handling_us: float
    msi_bytes: float
    stored_bytes: float
    gpu_us: float
    dispatch_s: float = 0.001

    def load(self, machine: Machine) -> Load:
        """Return the seconds a tile costs on a machine."""
        pixels = TILE * TILE
        network = 0.0 if machine.gpu else self.network_us
        handling = self.handling_us if machine.workers else 0.0
        compute = (self.read_us + network + self.compress_us + handling) * 1e-6 * machine.cores / machine.busy
        compute = max(compute, machine.cores * self.msi_bytes / (machine.source_gb_s * 1e9))
        if machine.gpu:
            compute = max(compute, machine.cores * self.gpu_us * 1e-6)
        write = self.stored_bytes / (machine.disk_gb_s * 1e9)
        if not machine.workers:
            write += self.handling_us * 1e-6
        return Load(self.dispatch_s if machine.workers else 0.0, compute * pixels, write * pixels)

    def limits(self, machine: Machine) -> dict[str, float]:
        """Return millions of pixels a second of each link of the chain."""
        network = 0.0 if machine.gpu else self.network_us
        handling = self.handling_us if machine.workers else 0.0
        found = {
            "reading from storage": machine.source_gb_s * 1e3 / self.msi_bytes,
            "computing and compressing": machine.busy / (self.read_us + network + self.compress_us + handling),
        }
        if machine.gpu:
            found["the GPU and its bus"] = 1 / self.gpu_us
        load = self.load(machine)
        found["the store" if machine.shards else "the writer and its disk"] = TILE**2 / load.write_s / 1e6
        if load.dispatch_s:
            found["the scheduler"] = TILE**2 / load.dispatch_s / 1e6
        return found


def tables(rates: Rates, core_hour: float, gpu_hour: float) -> list[str]:
    """Return the tables as lines of Markdown."""
    lines = ["| | Mpx/s | bound by | simulated | " + " | ".join(f"{area}, h (cost)" for area in AREAS_MPX) + " |"]
    lines.append("|---" * (4 + len(AREAS_MPX)) + "|")
    for machine in MACHINES:
        limits = rates.limits(machine)
        bound = min(limits, key=lambda name: limits[name])
        outcome = simulate(20_000, machine.cores, rates.load(machine))
        played = outcome.tiles_per_s * TILE**2 / 1e6
        price = machine.cores * core_hour + (gpu_hour if machine.gpu else 0)
        hours = [mpx / played / 3600 for mpx in AREAS_MPX.values()]
        cells = [f"{number(h)} ({number(h * price)})" for h in hours]
        lines.append(f"| {machine.name} | {number(limits[bound])} | {bound} | {number(played)} | {' | '.join(cells)} |")
    return lines


def number(value: float) -> str:
    """Write a number with two or three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def growth(rates: Rates) -> list[str]:
    """Return how far workers help, with one GeoTIFF and with shards, as lines of Markdown."""
    lines = [
        "| workers | one GeoTIFF, Mpx/s | writer busy | Zarr shards, Mpx/s | store busy |",
        "|---|---|---|---|---|",
    ]
    for workers in (1, 4, 16, 64, 100, 256, 1000):
        cells = []
        for machine in (
            Machine("workers", workers, workers=True, disk_gb_s=1.0, source_gb_s=5.0),
            Machine("workers", workers, workers=True, shards=True, disk_gb_s=5.0, source_gb_s=5.0),
        ):
            outcome = simulate(max(5000, 40 * workers), workers, rates.load(machine))
            cells += [number(outcome.tiles_per_s * TILE**2 / 1e6), f"{outcome.writer_busy:.0%}"]
        lines.append(f"| {workers} | {' | '.join(cells)} |")
    return lines


def measure(bands: int, msi_bands: int) -> dict[str, float]:
    """Measure one core of this machine: a tile's steps, best of a few."""
    import numpy as np
    import torch
    from bench_inference import scene
    from common import MSI_BANDS, make_hsi, make_msi

    from geolift.datamodel.encoding import Counts
    from geolift.network.backends import made_ready
    from geolift.network.pixels import Placing
    from geolift.readers import open_cube
    from geolift.training.fit import fit
    from geolift.writer import Encoding
    from geolift.writer.growing import TiffPacker
    from geolift.writer.tiles import Tile

    torch.set_num_threads(1)
    network = fit("auto", scene(msi_bands, bands)).network
    runner, placing = made_ready(network), Placing(np.arange(bands), bands)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        msi = open_cube(make_msi(folder / "msi.tif", 60, 2 * TILE), None, TILE)
        assert len(MSI_BANDS) == msi_bands
        hsi = open_cube(make_hsi(folder / "hsi.tif", bands, 30, TILE)).values[
            :bands
        ]  # mixtures, compressible as scenes
        values = (hsi + 0.002 * rng.standard_normal(hsi.shape)).astype(np.float32)
        encoding = Encoding("int16", 1e-4, -32768)
        stored, counts = encoding.encode_block(values)
        options = {"driver": "GTiff", "dtype": "int16", "nodata": -32768, "compress": "ZSTD", "zstd_level": 1}
        blocks = {"tiled": True, "blockxsize": TILE, "blockysize": TILE, "interleave": "band"}
        import rasterio

        packer = TiffPacker({**options, **blocks, "transform": rasterio.Affine.scale(2.0)})
        tile = Tile(0, 0, TILE, TILE)
        content = packer(tile, stored, counts).content
        assert content is not None
        pixels = rng.random((msi_bands, TILE * TILE), dtype=np.float32)

        def written() -> None:
            with (folder / "w").open("wb") as stream:
                for _ in range(8):
                    stream.write(content)
                os.fsync(stream.fileno())

        found = {
            "read_us": cpu(lambda: msi[:, :TILE, :TILE].values),
            "network_us": cpu(lambda: runner.stored(pixels, encoding, placing)),
            "compress_us": cpu(lambda: packer(tile, stored, Counts())),
            "handling_us": cpu(written) / 8,
            "msi_bytes": float((folder / "msi.tif").stat().st_size / (4 * TILE * TILE)),
            "stored_bytes": STORED_BYTES * bands,
        }
    return found | {"gpu_us": GPU_US}


def cpu(run: Callable[[], Any], repeats: int = 25) -> float:
    """Return the least processor time of a run over a tile, in microseconds a pixel: what else runs only adds to it."""
    run()
    times = []
    for _ in range(repeats):
        started = time.thread_time()
        run()
        times.append(time.thread_time() - started)
    return min(times) / TILE**2 * 1e6


def main() -> None:
    """Measure, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", type=Path, metavar="FILE", help="measure this machine and keep the rates here")
    parser.add_argument("--rates", type=Path, default=Path(__file__).with_name("rates.json"))
    parser.add_argument("--bands", type=int, default=191)
    parser.add_argument("--core-hour", type=float, default=0.04, help="price of a core for an hour (an assumption)")
    parser.add_argument("--gpu-hour", type=float, default=3.0, help="price of a GPU for an hour (an assumption)")
    given = parser.parse_args()
    if given.measure is not None:
        given.measure.write_text(json.dumps(measure(given.bands, 4), indent=1) + "\n")
        given.rates = given.measure
    rates = Rates(**json.loads(given.rates.read_text(encoding="utf-8")))
    print(rates, "", *tables(rates, given.core_hour, given.gpu_hour), "", *growth(rates), sep="\n")


if __name__ == "__main__":
    main()
