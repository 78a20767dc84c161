"""A network on a device with memory of its own: tiles travel there and back while those of other threads compute."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from geolift.encoding import Counts, Encoding
from geolift.engine import own_stream
from geolift.errors import ResourceError
from geolift.network import Floats
from geolift.packed import OUTPUTS, Gathered, PackedNetwork, Placing, blanked, encode_with_care

T = TypeVar("T")

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
        return self._fitting(lambda size: self._run(msi, coordinates, size))

    def stored(
        self, msi: Floats, encoding: Encoding, placing: Placing, coordinates: Floats | None = None
    ) -> tuple[NDArray[Any], Counts]:
        """Stored numbers of (c, n) pixels; as `PackedNetwork`. Two bytes of a value come back in place of four."""

        def run(size: int) -> tuple[NDArray[Any], Counts]:
            stored, counts = placing.empty(msi.shape[-1], encoding), Counts()
            for part, pixels, beside in _batches(msi, coordinates, size):
                counts += self._store(pixels, beside, size, encoding, placing, stored[:, part])
            return stored, counts

        return self._fitting(run)

    def _fitting(self, run: Callable[[int], T]) -> T:
        """Run with the batch that fits, smaller and smaller ones while it does not."""
        while True:
            size = self.batch_pixels
            try:
                return run(size)
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
        if msi.shape[-1] <= size:
            return self._batch(msi, coordinates, size)
        fused = np.empty((self.packed.network.outputs, msi.shape[-1]), np.float32)
        for part, pixels, beside in _batches(msi, coordinates, size):
            fused[:, part] = self._batch(pixels, beside, size)
        return fused

    def _batch(self, msi: Floats, coordinates: Floats | None, size: int) -> Floats:
        """Apply to at most ``size`` pixels; so many are computed, since other shapes may round differently (law 1)."""
        given = self.packed.gathered(msi, coordinates, size)
        with torch.inference_mode(), own_stream(self.packed.device):
            fused: Floats = self._back(self._computed(given)[:, : len(given.valid)])
        blanked(fused, given.valid)
        return fused

    def _store(
        self,
        msi: Floats,
        coordinates: Floats | None,
        size: int,
        encoding: Encoding,
        placing: Placing,
        out: NDArray[Any],
    ) -> Counts:
        """Encode at most ``size`` pixels into ``out`` (bands, n)."""
        given = self.packed.gathered(msi, coordinates, size)
        valid = given.valid
        with torch.inference_mode(), own_stream(self.packed.device):
            rounded = self._computed(given).mul_(encoding.steps_per_unit).round_()
            if encoding.fits(rounded.amin().item(), rounded.amax().item()):
                # The low half of a whole number is the same with a sign and without.
                numbers = self._back(rounded[:, : len(valid)].to(torch.int32).to(torch.int16))
                placing.put(numbers.view(encoding.dtype), out)
                np.copyto(out, out.dtype.type(encoding.nodata), where=~valid)
                return encoding.counts_of(len(numbers), valid)
        return encode_with_care(self._batch(msi, coordinates, size), valid, encoding, placing, out)

    def _computed(self, given: Gathered) -> torch.Tensor:
        """The product of one batch (C, batch) on the device."""
        pixels, beside = self._sent(given.pixels), None
        if given.coordinates is not None:
            beside = self._sent(given.coordinates)
        result = torch.empty((self.packed.network.outputs, pixels.shape[1]), device=self.packed.device)
        self.packed.batch(pixels, result, beside)
        return result

    def _back(self, there: torch.Tensor) -> NDArray[Any]:
        """Bring an array from the device in one go, into pinned memory."""
        pinned = self.packed.device.type == "cuda"
        here = torch.empty(there.shape, dtype=there.dtype, pin_memory=pinned)
        here.copy_(there.contiguous(), non_blocking=True)
        if pinned:
            torch.cuda.current_stream(self.packed.device).synchronize()
        return here.numpy()

    def _sent(self, values: Floats) -> torch.Tensor:
        there = torch.from_numpy(np.ascontiguousarray(values))
        if self.packed.device.type == "cuda":
            there = there.pin_memory()
        return there.to(self.packed.device, non_blocking=True)


def _batches(msi: Floats, coordinates: Floats | None, size: int) -> Iterator[tuple[slice, Floats, Floats | None]]:
    for start in range(0, msi.shape[-1], size):
        part = slice(start, start + size)
        yield part, msi[:, part], None if coordinates is None else coordinates[:, part]


def bytes_per_pixel(packed: PackedNetwork) -> int:
    """Memory of a batch on the device, for each pixel: input, layers, coordinates twice, three times the product."""
    net = packed.network
    hidden = sum(len(bias) + 1 for bias in net.biases)
    low = 0 if net.basis is None else net.basis.shape[1] + OUTPUTS
    beside = 0 if net.correction is None else net.correction.shape[1]
    return 4 * (1 + net.inputs + hidden + low + 2 * beside + 3 * net.outputs)
