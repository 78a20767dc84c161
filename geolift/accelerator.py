"""A network on a device with memory of its own: tiles travel there and back while those of other threads compute."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import torch

from geolift.engine import own_stream
from geolift.errors import ResourceError
from geolift.network import Floats
from geolift.packed import PackedNetwork, blanked

LARGEST_BATCH = 2**16
SMALLEST_BATCH = 2**10

SHARE_OF_FREE = 0.5
"""Of the device's free memory for one batch; threads share the rest."""


class Accelerated:
    """A packed network applied on a device, up to 65 536 pixels at once; may be shared by threads.

    The product comes back into pinned memory that torch keeps and uses again, so that it is written once and no page
    of it is cleared. Every thread has a stream of its own: what one sends and fetches overlaps what others compute.
    The batch is the largest power of two that fits the free memory, and is halved when memory runs out all the same.
    """

    def __init__(self, packed: PackedNetwork, free_bytes: Callable[[], int] | None = None) -> None:
        self.packed = packed
        self._halving = threading.Lock()
        if packed.device.type == "cuda":
            torch.cuda.synchronize(packed.device)  # the threads' streams do not wait for the one that put the weights
        free = (free_bytes or self._free_bytes)()
        fitting = int(free * SHARE_OF_FREE) // max(bytes_per_pixel(packed), 1)
        self.batch_pixels = max(SMALLEST_BATCH, min(LARGEST_BATCH, 1 << max(fitting.bit_length() - 1, 0)))

    def _free_bytes(self) -> int:
        if self.packed.device.type != "cuda":
            return 2**40
        return int(torch.cuda.mem_get_info(self.packed.device)[0])

    def __call__(self, msi: Floats, coordinates: Floats | None = None) -> Floats:
        """Apply to (c, n) float32 pixels; as `PackedNetwork`.

        Raises
        ------
        ResourceError
            If not even the smallest batch fits the device's memory.
        """
        while True:
            size = self.batch_pixels
            try:
                return self._run(msi, coordinates, size)
            except torch.cuda.OutOfMemoryError as error:
                self._halve(size, error)

    def _halve(self, size: int, error: Exception) -> None:
        with self._halving:
            if size <= SMALLEST_BATCH:
                raise ResourceError(
                    f"--device {self.packed.device}: its memory does not hold {size} pixels. "
                    "End what else runs there, or pass --device cpu."
                ) from error
            self.batch_pixels = min(self.batch_pixels, size // 2)
        if self.packed.device.type == "cuda":
            torch.cuda.empty_cache()

    def _run(self, msi: Floats, coordinates: Floats | None, size: int) -> Floats:
        count = msi.shape[-1]
        if count <= size:
            return self._batch(msi, coordinates, size)
        fused = np.empty((self.packed.network.outputs, count), np.float32)
        for start in range(0, count, size):
            part = slice(start, start + size)
            beside = None if coordinates is None else coordinates[:, part]
            fused[:, part] = self._batch(msi[:, part], beside, size)
        return fused

    def _batch(self, msi: Floats, coordinates: Floats | None, size: int) -> Floats:
        """Apply to at most ``size`` pixels; so many are computed, since other shapes may round differently (law 1)."""
        pixels, beside, valid = self.packed.gathered(msi, coordinates, size)
        device, bands = self.packed.device, self.packed.network.outputs
        pinned = device.type == "cuda"
        back = torch.empty((bands, len(valid)), pin_memory=pinned)
        with torch.inference_mode(), own_stream(device):
            result = torch.empty((bands, len(pixels)), device=device)
            self.packed.batch(self._sent(pixels), result, None if beside is None else self._sent(beside))
            back.copy_(result[:, : len(valid)].contiguous(), non_blocking=True)
            if pinned:
                torch.cuda.current_stream(device).synchronize()
        fused: Floats = back.numpy()
        blanked(fused, valid)
        return fused

    def _sent(self, values: Floats) -> torch.Tensor:
        there = torch.from_numpy(np.ascontiguousarray(values))
        if self.packed.device.type == "cuda":
            there = there.pin_memory()
        return there.to(self.packed.device, non_blocking=True)


def bytes_per_pixel(packed: PackedNetwork) -> int:
    """Memory of a batch on the device, for each pixel: input, coordinates, two layers, three times the product."""
    net = packed.network
    widest = max((len(bias) for bias in net.biases), default=0)
    low = 0 if net.basis is None else net.basis.shape[1]
    beside = 0 if net.correction is None else net.correction.shape[1]
    return 4 * (net.inputs + 2 * widest + low + beside + 3 * net.outputs)
