"""What a run takes, and how it is cut to fit: tile size and tiles under way by the memory allowed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import xarray as xr

from geolift.errors import ResourceError
from geolift.pair.coregistration import affordable_windows
from geolift.runtime.machine import available_cpus, block_cache_bytes, spare_memory_bytes
from geolift.settings import ApplySettings, FuseSettings
from geolift.writer import Encoding, copying_bytes, overview_factors, tile_shape

Streamed = TypeVar("Streamed", FuseSettings, ApplySettings)

IMPORTS_BYTES = 560_000_000
"""Resident memory before the first tile: Python, libraries, the trained model, what the allocator keeps."""

PREPARED_BYTES, PREPARED_BYTES_PER_BAND, BLOCKS_PREPARED = 470_000_000, 100_000, 5.6
"""Peak of a fusion before its first tile: libraries and what the allocator keeps, each band, and so many decoded blocks
of the HSI. Measured with 40 to 425 bands, 60² to 500² HSI pixels: 1 to 15 % above the peak of resident memory."""

LEFT_BYTES, BLOCKS_LEFT = 430_000_000, 3
"""The same when the first tile is made: what is still there, or not yet given back."""

WINDOW_MARGIN_LR, WINDOW_COPIES = 3, 10
"""HSI pixels around the windows that stand for a scene, and copies of their MSI while the guides are found."""

KEPT_FROM_BYTES, KEPT_SHARE = 2 * 10**9, 0.5
"""An HSI is read five times before the first tile. Of what the budget has beyond two billion bytes a decoded HSI may
take half; it is read once then. With less, the peak stays the same for any HSI."""

READING_BYTES = 200_000_000
"""What reading and looking at an HSI takes beside it, where it is kept."""


@dataclass(frozen=True)
class Preparing:
    """What a fusion holds before its first tile.

    ``hsi_bytes``: of the decoded HSI; ``block_bytes``: of the largest piece that it is read in; ``window_px``: fine
    pixels of the windows that stand for the scene.
    """

    hsi_bytes: int = 0
    block_bytes: int = 0
    window_px: int = 0

    @classmethod
    def of(cls, hsi: xr.DataArray, ratio: float) -> Preparing:
        """Return what an HSI and the MSI's pixels along one of its take."""
        chunks = getattr(hsi.data, "chunks", None)
        block = 4 * math.prod(max(sizes) for sizes in chunks) if chunks else 0
        side, count = affordable_windows(max(1, round(ratio)), WINDOW_MARGIN_LR)
        pixels = min(count * (side + 2 * WINDOW_MARGIN_LR) ** 2, hsi.shape[1] * hsi.shape[2])
        return cls(hsi.nbytes, block, round(pixels * max(1.0, ratio) ** 2))

    def peak_bytes(self, hsi_bands: int, msi_bands: int) -> int:
        """Peak before the first tile, without GDAL's cache."""
        held = round(BLOCKS_PREPARED * self.block_bytes) + WINDOW_COPIES * 4 * msi_bands * self.window_px
        return PREPARED_BYTES + PREPARED_BYTES_PER_BAND * hsi_bands + held

    def left_bytes(self, hsi_bands: int) -> int:
        """What is left of it when the first tile is made."""
        return LEFT_BYTES + PREPARED_BYTES_PER_BAND * hsi_bands + BLOCKS_LEFT * self.block_bytes


@dataclass(frozen=True)
class Cost:
    """What a run takes and how it is cut.

    ``memory_bytes``: peak of resident memory; ``budget_bytes``: what it may take; ``disk_bytes``: uncompressed size,
    an upper bound, overviews and the draft of a COG included; ``threads``: tiles computed at once, one more waits for
    the writer.
    """

    memory_bytes: int
    budget_bytes: int
    disk_bytes: int
    tile_px: int
    threads: int

    def line(self) -> str:
        """Tell it to a person."""
        threads = f"{self.threads} thread" + "s" * (self.threads > 1)
        return (
            f"memory about {self.memory_bytes / 1e9:.1f} GB of {self.budget_bytes / 1e9:.1f} GB allowed, disk at most "
            f"{self.disk_bytes / 1e9:.2f} GB, tiles of {self.tile_px} px, {threads}"
        )


def fitted(settings: Streamed, cost: Cost) -> Streamed:
    """Return the settings with the tile size and threads that fit; the product is the same."""
    return settings.model_copy(update={"tile_size": cost.tile_px, "threads": cost.threads})


def is_kept(hsi_bytes: int, budget_bytes: int) -> bool:
    """Tell whether a decoded HSI stays in memory while a run compares, learns and refines."""
    return 0 < hsi_bytes <= KEPT_SHARE * (budget_bytes - KEPT_FROM_BYTES)


def pinned_bytes(hsi_bands: int, msi_bands: int) -> int:
    """Return what a thread pins for its tile to and from a GPU: torch keeps whole powers of two."""
    from geolift.network.torch_backend import LARGEST_BATCH

    return sum(1 << (4 * LARGEST_BATCH * bands - 1).bit_length() for bands in (hsi_bands, msi_bands))


def estimate_cost(
    shape: tuple[int, int],
    hsi_bands: int,
    msi_bands: int,
    settings: FuseSettings | ApplySettings,
    preparing: Preparing | None = None,
) -> Cost:
    """Choose tile size and threads for the memory allowed, and tell what the run takes.

    The tile the user asked for is kept where one thread can have it; else it shrinks down to one block of the file.
    Raises ResourceError if ``--memory`` was given and not even one thread with the smallest tile fits.

    ``shape``: of the product (y, x). ``preparing``: what a fusion does first; None = nothing is known of it.
    """
    budget = settings.memory or spare_memory_bytes()
    wanted = settings.threads or available_cpus()
    encoding = Encoding.of(settings, 1.0)

    pinned = pinned_bytes(hsi_bands, msi_bands) if settings.device == "cuda" else 0

    first = preparing or Preparing()
    base = first.left_bytes(hsi_bands) if isinstance(settings, FuseSettings) else IMPORTS_BYTES

    def peak(tile: int, threads: int) -> int:
        rows, cols = tile_shape(tile, settings, shape)
        pixels = min(rows, shape[0]) * min(cols, shape[1])
        # Computing: the product and its encoding; packing: encoding, compressed file, its blocks. The MSI on the way
        # is decoded in float64. One packed tile waits for the writer.
        encoded = hsi_bands * encoding.itemsize
        working = pixels * (max(4 * hsi_bands + encoded, 3 * encoded) + 24 * msi_bands)
        return base + block_cache_bytes(budget) + threads * (working + pinned) + pixels * encoded

    tile, threads = settings.tile_size, wanted
    while threads > 1 and peak(tile, threads) > budget:
        threads -= 1
    while peak(tile, threads) > budget and tile > 16:
        tile = max(16, tile // 2)
    memory = peak(tile, threads)
    copying = copying_bytes(settings, hsi_bands, encoding.itemsize)
    if copying:
        memory = max(memory, IMPORTS_BYTES + block_cache_bytes(budget) + copying)
    if isinstance(settings, FuseSettings):
        kept = READING_BYTES + first.hsi_bytes if is_kept(first.hsi_bytes, budget) else 0
        memory = max(memory, first.peak_bytes(hsi_bands, msi_bands) + kept + block_cache_bytes(budget))
    if settings.memory is not None and memory > budget:
        blocks = "--co BLOCKSIZE" if settings.of == "COG" else "--co BLOCKXSIZE, BLOCKYSIZE"
        raise ResourceError(
            f"--memory {budget / 1e9:.2f}GB: {hsi_bands} bands need at least {memory / 1e9:.2f} GB. "
            f"Give more, or keep fewer bands (--bands), or choose smaller file blocks ({blocks})."
        )
    copies = 2.0 if settings.of == "COG" else 1.0
    copies += sum(factor**-2 for factor in overview_factors(shape, settings))
    disk = round(shape[0] * shape[1] * hsi_bands * encoding.itemsize * copies)
    return Cost(memory, budget, disk, tile, threads)
