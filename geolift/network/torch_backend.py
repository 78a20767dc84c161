"""A network run by torch: on a GPU, and on CPUs for which it is not compiled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from geolift.datamodel.encoding import Counts, Encoding
from geolift.errors import ResourceError
from geolift.network.engine import alone_on
from geolift.network.formula import INPUT, NO_RESIDUAL, Floats, Network, Precision
from geolift.network.pixels import Placing, blanked, encode_with_care, valid_pixels

T = TypeVar("T")

LARGEST_BATCH = 2**16
SMALLEST_BATCH = 2**10

SHARE_OF_FREE = 0.5
"""Of the device's free memory for the batches of all streams; torch keeps what it has freed, and rounds up."""

CPU_BATCH = 1536
"""Pixels, whose values stay in a core's caches. A multiple of 24, which MKL's products for AVX2 treat at once: it may
round what is left over otherwise, and a pixel's value would depend on its place."""


class TorchNetwork:
    """A network applied batch by batch; may be shared by threads.

    A GPU takes up to 65 536 pixels at once. The product comes back into pinned memory that torch keeps and uses again,
    so that it is written once and no page of it is cleared. Every thread has a stream of its own: what one sends and
    fetches overlaps what others compute. The batch is the largest power of two that fits the free memory, and is halved
    when memory runs out all the same.

    Parameters
    ----------
    precision
        With ``bf16`` the products between hidden layers and into the head take and give bfloat16; the first layers,
        which see the pixels, the linear path and the basis stay fp32.
    streams
        Threads that may compute at once.
    """

    def __init__(
        self,
        network: Network,
        device: str = "cpu",
        precision: Precision = "fp32",
        free_bytes: Callable[[], int] | None = None,
        streams: int = 1,
    ) -> None:
        self.network, self.device = network, torch.device(device)
        self._short = torch.bfloat16 if precision == "bf16" else torch.float32
        self._halving = threading.Lock()
        with alone_on(self.device):
            self._send_weights()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # the threads' streams do not wait for the one that put the weights
        elif free_bytes is None:
            self.batch_pixels = CPU_BATCH
            return
        free = (free_bytes or self._free_bytes)()
        fitting = int(free * SHARE_OF_FREE) // (streams * max(bytes_per_pixel(network), 1))
        self.batch_pixels = max(SMALLEST_BATCH, min(LARGEST_BATCH, 1 << max(fitting.bit_length() - 1, 0)))

    def _send_weights(self) -> None:
        net = self.network

        def sent(array: Any, dtype: torch.dtype = torch.float32) -> Any:
            return None if array is None else torch.tensor(array, device=self.device).to(dtype)

        dtypes = [torch.float32 if source == INPUT else self._short for source in net.reads]
        self._weights = [sent(weight, dtype) for weight, dtype in zip(net.weights, dtypes, strict=True)]
        self._biases = [sent(bias[:, None], dtype) for bias, dtype in zip(net.biases, dtypes, strict=True)]
        self._head, self._skip, self._basis = sent(net.head, self._short), sent(net.skip), sent(net.basis)
        self._offset, self._correction = sent(net.offset[:, None]), sent(net.correction)

    def _free_bytes(self) -> int:
        return int(torch.cuda.mem_get_info(self.device)[0])

    def product(self, x: torch.Tensor, coordinates: torch.Tensor | None = None) -> torch.Tensor:
        """(C, n) product of (c, n) pixels and (J, n) coordinates of the correction: the formula of `network`."""
        net = self.network
        layers: list[torch.Tensor] = []
        for index, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
            read = x if net.reads[index] == INPUT else layers[net.reads[index]]
            hidden = torch.nn.functional.leaky_relu_(torch.addmm(bias, weight, read), net.slope).to(self._short)
            layers.append(hidden if net.residuals[index] == NO_RESIDUAL else hidden.add_(layers[net.residuals[index]]))
        parts = []
        if self._head is not None:
            parts.append((self._head @ torch.cat([layers[layer] for layer in net.last_layers])).float())
        if self._skip is not None:
            parts.append(self._skip @ x)
        y = parts[0] if len(parts) == 1 else parts[0].add_(parts[1])
        if net.unmixing is not None:
            y = net.unmixing.abundances(y)
        y = torch.addmm(self._offset, self._basis, y) if self._basis is not None else y.add_(self._offset)
        if net.clip is not None:
            y.clamp_(*net.clip)
        return y if self._correction is None or coordinates is None else y.addmm_(self._correction, coordinates)

    def __call__(self, msi: Floats, coordinates: Floats | None = None) -> Floats:
        """Apply to (c, n) float32 pixels in physical units; gives (C, n), NaN where a band is not finite.

        ``coordinates``: (J, n) of the correction, where the network has one. Raises ResourceError if not even the
        smallest batch fits the device's memory.
        """
        return self._fitting(lambda size: self._run(msi, coordinates, size))

    def stored(
        self, msi: Floats, encoding: Encoding, placing: Placing, coordinates: Floats | None = None
    ) -> tuple[NDArray[Any], Counts]:
        """Apply to (c, n) pixels as ``__call__`` does, and encode; gives (bands, n) stored numbers and what was met.

        Two bytes of a value come back from a GPU in place of four.
        """

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
                    f"--device {self.device}: its memory does not hold {size} pixels. "
                    "End what else runs there, or pass --device cpu."
                ) from error
            self.batch_pixels = min(self.batch_pixels, size // 2)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _run(self, msi: Floats, coordinates: Floats | None, size: int) -> Floats:
        if msi.shape[-1] <= size:
            return self._batch(msi, coordinates, size)
        fused = np.empty((self.network.outputs, msi.shape[-1]), np.float32)
        for part, pixels, beside in _batches(msi, coordinates, size):
            fused[:, part] = self._batch(pixels, beside, size)
        return fused

    def _batch(self, msi: Floats, coordinates: Floats | None, size: int) -> Floats:
        """Apply to at most ``size`` pixels; so many are computed, since other shapes may round differently (law 1)."""
        valid = valid_pixels(self.network, msi, coordinates)
        with torch.inference_mode(), alone_on(self.device):
            fused: Floats = self._back(self._computed(msi, coordinates, valid, size)[:, : len(valid)])
        blanked(fused, valid)
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
        valid = valid_pixels(self.network, msi, coordinates)
        with torch.inference_mode(), alone_on(self.device):
            rounded = self._computed(msi, coordinates, valid, size).mul_(encoding.steps_per_unit).round_()
            if encoding.fits(rounded.amin().item(), rounded.amax().item()):
                # The low half of a whole number is the same with a sign and without.
                numbers = self._back(rounded[:, : len(valid)].to(torch.int32).to(torch.int16))
                placing.put(numbers.view(encoding.dtype), out)
                np.copyto(out, out.dtype.type(encoding.nodata), where=~valid)
                return encoding.counts_of(len(numbers), valid)
        return encode_with_care(self._batch(msi, coordinates, size), valid, encoding, placing, out)

    def _computed(self, msi: Floats, coordinates: Floats | None, valid: NDArray[np.bool_], size: int) -> torch.Tensor:
        """The product of one batch (C, size) on the device; of zeros where pixels are invalid or missing."""
        missing = ((0, 0), (0, size - len(valid)))
        pixels = np.pad(np.where(valid, msi, np.float32(0)), missing)
        beside = None if coordinates is None else self._sent(np.pad(coordinates, missing))
        return self.product(self._sent(pixels), beside)

    def _back(self, there: torch.Tensor) -> NDArray[Any]:
        """Bring an array from the device in one go, into pinned memory."""
        pinned = self.device.type == "cuda"
        here = torch.empty(there.shape, dtype=there.dtype, pin_memory=pinned)
        here.copy_(there.contiguous(), non_blocking=True)
        if pinned:
            torch.cuda.current_stream(self.device).synchronize()
        return here.numpy()

    def _sent(self, values: Floats) -> torch.Tensor:
        there = torch.from_numpy(np.ascontiguousarray(values))
        if self.device.type == "cuda":
            there = there.pin_memory()
        return there.to(self.device, non_blocking=True)


def _batches(msi: Floats, coordinates: Floats | None, size: int) -> Iterator[tuple[slice, Floats, Floats | None]]:
    for start in range(0, msi.shape[-1], size):
        part = slice(start, start + size)
        yield part, msi[:, part], None if coordinates is None else coordinates[:, part]


def bytes_per_pixel(network: Network) -> int:
    """Memory of a batch on the device, for each pixel: input, layers twice, coordinates, three times the product."""
    hidden = 2 * sum(len(bias) for bias in network.biases)
    low = 0 if network.basis is None else 2 * network.basis.shape[1]
    beside = 0 if network.correction is None else network.correction.shape[1]
    return 4 * (network.inputs + hidden + low + beside + 3 * network.outputs)
