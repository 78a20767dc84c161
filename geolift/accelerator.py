"""A network on a device with memory of its own: batches travel there and back while others are computed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from geolift.errors import ResourceError
from geolift.network import Floats
from geolift.packed import PackedNetwork, blanked

LARGEST_BATCH = 2**16
SMALLEST_BATCH = 2**10
LANES_PER_THREAD = 2
"""One batch on its way there or back, one computed."""

SHARE_OF_FREE = 0.25
"""Of the device's free memory for one lane; threads share the rest."""


class Accelerated:
    """A packed network applied through pinned memory, batch by batch; may be shared by threads.

    The batch is the largest power of two up to 65 536 pixels that fits the free memory, and is halved when memory
    runs out all the same. Every thread has two lanes, each with a stream of its own.
    """

    def __init__(self, packed: PackedNetwork, free_bytes: Callable[[], int] | None = None) -> None:
        self.packed = packed
        self._mine = threading.local()
        self._halving = threading.Lock()
        if packed.device.type == "cuda":
            torch.cuda.synchronize(
                packed.device
            )  # the lanes' streams do not wait for the one that put the weights there
        free = (free_bytes or self._free_bytes)()
        fitting = int(free * SHARE_OF_FREE) // max(bytes_per_pixel(packed), 1)
        self.batch_pixels = max(SMALLEST_BATCH, min(LARGEST_BATCH, 1 << max(fitting.bit_length() - 1, 0)))

    def _free_bytes(self) -> int:
        if self.packed.device.type != "cuda":
            return 2**40
        return int(torch.cuda.mem_get_info(self.packed.device)[0])

    def __call__(self, msi: Floats) -> Floats:
        """Apply to (c, n) float32 pixels; as `PackedNetwork`.

        Raises
        ------
        ResourceError
            If not even the smallest batch fits the device's memory.
        """
        while True:
            size = self.batch_pixels
            try:
                return self._run(msi, size)
            except torch.cuda.OutOfMemoryError as error:
                self._mine.__dict__.clear()
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

    def _run(self, msi: Floats, size: int) -> Floats:
        pixels, valid = self.packed.gathered(msi, size)
        fused = np.empty((self.packed.network.outputs, len(valid)), np.float32)
        lanes = self._lanes(size)
        for number, start in enumerate(range(0, len(valid), size)):
            lane = lanes[number % len(lanes)]
            lane.collect()
            lane.launch(pixels[start : start + size], fused[:, start : start + size])
        for lane in lanes:
            lane.collect()
        blanked(fused, valid)
        return fused

    def _lanes(self, size: int) -> list[Lane]:
        if getattr(self._mine, "size", None) != size:
            self._mine.size, self._mine.lanes = size, [Lane(self.packed, size) for _ in range(LANES_PER_THREAD)]
        lanes: list[Lane] = self._mine.lanes
        for lane in lanes:
            lane.target = None  # of a call that broke off
        return lanes


class Lane:
    """One batch under way: its pinned memory, its stream, and where its result goes."""

    def __init__(self, packed: PackedNetwork, size: int) -> None:
        cuda = packed.device.type == "cuda"
        self.packed = packed
        self.target: Floats | None = None
        self._stream: Any = torch.cuda.Stream(packed.device) if cuda else None  # type: ignore[no-untyped-call]
        self._there = torch.empty(size, packed.network.inputs, pin_memory=cuda)
        self._back = torch.empty(packed.network.outputs, size, pin_memory=cuda)
        self._result = torch.empty(packed.network.outputs, size, device=packed.device)

    def launch(self, pixels: Floats, target: Floats) -> None:
        """Send (size, c) pixels; their product is put into ``target`` (C, at most size) by `collect`."""
        self._there.numpy()[:] = pixels
        self.target = target
        with torch.inference_mode(), self._in_stream():
            given = self._there.to(self.packed.device, non_blocking=True)
            self.packed.batch(given, self._result)
            self._back.copy_(self._result, non_blocking=True)

    def collect(self) -> None:
        """Wait for the batch under way and hand its product over."""
        if self.target is None:
            return
        if self._stream is not None:
            self._stream.synchronize()
        self.target[:] = self._back.numpy()[:, : self.target.shape[1]]
        self.target = None

    def _in_stream(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)


def bytes_per_pixel(packed: PackedNetwork) -> int:
    """Memory of a batch on the device, for each pixel: input, two hidden layers, low-rank values, the product twice."""
    net = packed.network
    widest = max((len(bias) for bias in net.biases), default=0)
    low = 0 if net.basis is None else net.basis.shape[1]
    return 4 * (net.inputs + 2 * widest + low + 2 * net.outputs)
