"""A network made ready to run: its pixels in batches, its layers as products that the machine does well."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from geolift.encoding import Counts, Encoding
from geolift.engine import one_torch_thread
from geolift.fused_layers import LayeredNetwork, has_avx512, layers_are_fused
from geolift.network import LINE, Floats, Network, Precision
from geolift.stacked import StackedNetwork

LANES = 8
"""Numbers that a CPU treats at once."""

OUTPUTS = 16
"""Coordinates in the basis come in multiples of so many: 16 outputs take two thirds of the time of 17."""

WIDER = 2
"""Batches are so much larger on CPUs with AVX-512, whose caches are: threads wait for each other at every call. So much
larger again where layers are oneDNN's, whose calls cost more."""


class Trunk(Protocol):
    """What comes before the basis: y = H h + S x + o."""

    def batch(self, pixels: torch.Tensor, out: torch.Tensor) -> None:
        """Apply to pixels (1 + c, n), ones in the first row; writes (K, n)."""
        ...


@dataclass(frozen=True)
class Gathered:
    """Pixels made ready for whole batches.

    Parameters
    ----------
    pixels
        (1 + c, whole batches): ones in the first row, zeros where invalid or beyond the last.
    coordinates
        (J, whole batches) of the correction, or None.
    valid
        (n,) which pixels are.
    """

    pixels: Floats
    coordinates: Floats | None
    valid: NDArray[np.bool_]

    def batches(self, size: int) -> Iterator[slice]:
        """Give the batches with any valid pixel."""
        for start in range(0, self.pixels.shape[1], size):
            part = slice(start, start + size)
            if self.valid[part].any():
                yield part

    def tensors(self, part: slice) -> dict[str, Any]:
        """What `PackedNetwork.batch` takes of one batch."""
        beside = None if self.coordinates is None else torch.from_numpy(self.coordinates[:, part])
        return {"pixels": torch.from_numpy(self.pixels[:, part]), "coordinates": beside}


class Placing:
    """Where the network's outputs stand among the bands of a product; the others are invalid.

    Parameters
    ----------
    places
        (C,) rising positions.
    count
        Bands of the product.
    """

    def __init__(self, places: NDArray[np.intp], count: int) -> None:
        self.count = count
        self.others = np.setdiff1d(np.arange(count), places)
        ends = [0, *(np.flatnonzero(np.diff(places) > 1) + 1), len(places)]
        self.runs = [
            (slice(int(a), int(b)), slice(int(places[a]), int(places[a] + b - a))) for a, b in pairwise(ends) if b > a
        ]

    def empty(self, pixels: int, encoding: Encoding) -> NDArray[Any]:
        """Memory (bands, pixels) for stored numbers; bands that no output has are filled."""
        stored = np.empty((self.count, pixels), encoding.dtype)
        stored[self.others] = encoding.nodata
        return stored

    def put(self, numbers: NDArray[Any], out: NDArray[Any]) -> None:
        """Copy (C, n) whole numbers of any type to their places in (bands, n)."""
        for outputs, bands in self.runs:
            np.copyto(out[bands], numbers[outputs], casting="unsafe")


class PackedNetwork:
    """A network made ready to run on one device; may be shared by threads.

    With ``precision`` bf16 the products between hidden layers take and give bfloat16, on a GPU those into the head too;
    the first layers, which see the pixels, the basis and all sums stay fp32.
    """

    def __init__(self, network: Network, device: str = "cpu", precision: Precision = "fp32") -> None:
        self.network = network
        self.device = torch.device(device)
        with torch.inference_mode(), one_torch_thread():
            self._pack_basis()
            self._trunk, self.batch_pixels = self._made_trunk(torch.bfloat16 if precision == "bf16" else torch.float32)
        self._mine = threading.local()

    def _made_trunk(self, dtype: torch.dtype) -> tuple[Trunk, int]:
        """What comes before the basis, and how many pixels it takes at once."""
        net = replace(self.network, basis=None, unmixing=None, clip=None, correction=None)
        if self._basis is not None:
            level = () if self.network.unmixing is None else self.network.unmixing.level
            net = replace(net, head=self._rows(net.head), skip=self._rows(net.skip), offset=self._rows(level))
        size = net.batch_pixels * (WIDER if has_avx512() else 1)
        if net.weights and self.device.type == "cpu" and layers_are_fused(dtype):
            return LayeredNetwork(net, dtype, WIDER * size), WIDER * size
        return StackedNetwork(net, self.device, dtype), size

    def _rows(self, matrix: Any) -> Any:
        """The matrix with rows of zeros, as many as there are coordinates in the basis."""
        if matrix is None:
            return None
        array = np.asarray(matrix, np.float32)
        return np.pad(array, ((0, self._coordinates - len(array)), *((0, 0),) * (array.ndim - 1)))

    def _pack_basis(self) -> None:
        """Prepare y = B low + o + D z as [B o D] [low 1 z]; neither o nor D z costs a pass over the product then."""
        net = self.network
        self._basis: torch.Tensor | None = None
        self._coordinates = 0
        self._offset = self._tensor(net.offset[:, None])
        self._correction = None if net.correction is None else self._tensor(net.correction)
        self._rides = net.basis is not None and net.clip is None and net.correction is not None
        if net.basis is not None:
            count = net.basis.shape[1]
            self._coordinates = -(-count // OUTPUTS) * OUTPUTS
            basis = np.pad(net.basis, ((0, 0), (0, self._coordinates - count)))
            columns = [basis, net.offset, *([net.correction] if self._rides else [])]
            self._basis = self._tensor(np.column_stack(columns))  # type: ignore[arg-type]

    def _tensor(self, array: Floats) -> torch.Tensor:
        return torch.tensor(array, device=self.device)

    def batch(self, pixels: torch.Tensor, out: torch.Tensor, coordinates: torch.Tensor | None = None) -> None:
        """Apply to (1 + c, batch_pixels) pixels, ones in the first row; writes (C, batch_pixels), as files are.

        ``coordinates``: (J, batch_pixels) of the correction, where the network has one.
        """
        net, unmixing = self.network, self.network.unmixing
        if self._basis is None:
            self._trunk.batch(pixels, out)
            if unmixing is not None:
                out.copy_(unmixing.abundances(out - self._offset) + self._offset)
        else:
            low, beside = self._beside(pixels.shape[1])
            self._trunk.batch(pixels, low)
            if unmixing is not None:
                abundances = low[: len(unmixing.level)]
                abundances.copy_(unmixing.constrained(abundances, dim=0))
            beside[: self._coordinates].copy_(low)
            if self._rides and coordinates is not None:
                beside[self._coordinates + 1 :].copy_(coordinates)
            torch.mm(self._basis, beside, out=out)
        if net.clip is not None:
            out.clamp_(*net.clip)
        if self._correction is not None and coordinates is not None and not self._rides:
            out.addmm_(self._correction, coordinates)

    def _beside(self, pixels: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(K', pixels) for coordinates in the basis, and (K' + 1 + J, pixels) for them, ones, those of the correction.

        The second lies pixel by pixel: MKL then writes a product of few inputs a third faster where it is not in the
        caches. Each thread keeps its own.
        """
        if self.device.type == "cpu" and getattr(self._mine, "pixels", None) == pixels:
            kept: tuple[torch.Tensor, torch.Tensor] = self._mine.beside
            return kept
        assert self._basis is not None
        rows = self._basis.shape[1]
        low = torch.empty(self._coordinates, pixels + LINE, device=self.device)[:, :pixels]
        made = low, torch.ones(pixels, -(-rows // LANES) * LANES, device=self.device).T[:rows]
        if self.device.type == "cpu":
            self._mine.pixels, self._mine.beside = pixels, made
        return made

    def __call__(self, msi: Floats, coordinates: Floats | None = None) -> Floats:
        """Apply to (c, n) float32 pixels in physical units; gives (C, n), NaN where a band is not finite.

        ``coordinates``: (J, n) of the correction, where the network has one.
        """
        size = self.batch_pixels
        given = self.gathered(msi, coordinates, size)
        fused = empty_tile(self.network.outputs, len(given.valid))
        result = torch.from_numpy(fused)
        with torch.inference_mode(), one_torch_thread():
            rest = torch.empty(self.network.outputs, size)
            for part in given.batches(size):
                target = result[:, part]
                whole = target.shape[1] == size
                self.batch(**given.tensors(part), out=target if whole else rest)
                if not whole:
                    target.copy_(rest[:, : target.shape[1]])
        blanked(fused, given.valid)
        return fused

    def stored(
        self, msi: Floats, encoding: Encoding, placing: Placing, coordinates: Floats | None = None
    ) -> tuple[NDArray[Any], Counts]:
        """Apply to (c, n) pixels as ``__call__`` does, and encode; gives (bands, n) stored numbers and what was met.

        A batch is rounded and encoded while it is in the core's caches, so that no tile of floats is written and read.
        """
        size = self.batch_pixels
        given = self.gathered(msi, coordinates, size)
        stored = placing.empty(len(given.valid), encoding)
        counts = Counts()
        with torch.inference_mode(), one_torch_thread():
            values = self._values(size)
            for part in given.batches(size):
                counts += self._store(given, part, values, encoding, placing, stored[:, part])
        if not given.valid.all():
            np.copyto(stored, stored.dtype.type(encoding.nodata), where=~given.valid)
        return stored, counts

    def _store(
        self,
        given: Gathered,
        part: slice,
        values: torch.Tensor,
        encoding: Encoding,
        placing: Placing,
        out: NDArray[Any],
    ) -> Counts:
        """Encode one batch into ``out`` (bands, n); invalid pixels get any number. ``values``: memory to work in."""
        self.batch(**given.tensors(part), out=values)
        valid, rounded = given.valid[part], values.mul_(encoding.steps_per_unit).round_()
        if encoding.fits(rounded.amin().item(), rounded.amax().item()):
            placing.put(rounded.numpy()[:, : len(valid)], out)
            return encoding.counts_of(len(values), valid)
        self.batch(**given.tensors(part), out=values)
        return encode_with_care(values.numpy()[:, : len(valid)], valid, encoding, placing, out)

    def _values(self, pixels: int) -> torch.Tensor:
        """Memory of this thread for a batch of the product."""
        kept: torch.Tensor | None = getattr(self._mine, "values", None)
        if kept is None:
            self._mine.values = kept = torch.from_numpy(empty_tile(self.network.outputs, pixels))
        return kept

    def gathered(self, msi: Floats, coordinates: Floats | None, size: int) -> Gathered:
        """Make (c, n) pixels ready for batches of so many. Raises ValueError if bands or coordinates do not fit."""
        net = self.network
        if msi.ndim != 2 or msi.shape[0] != net.inputs:
            raise ValueError(f"expected ({net.inputs}, n) MSI values, got {msi.shape}")
        count = msi.shape[1]
        wanted = None if net.correction is None else (net.correction.shape[1], count)
        if (None if coordinates is None else coordinates.shape) != wanted:
            raise ValueError(f"expected coordinates of the correction of shape {wanted}")
        valid: NDArray[np.bool_] = np.asarray(np.isfinite(msi).all(axis=0))
        whole = -(-count // size) * size
        pixels = empty_tile(1 + len(msi), whole)
        pixels[0] = 1
        pixels[1:, count:] = 0
        pixels[1:, :count] = msi if valid.all() else np.where(valid, msi, 0)
        if coordinates is not None and whole != count:
            coordinates = np.pad(coordinates, ((0, 0), (0, whole - count)))
        return Gathered(pixels, coordinates, valid)


def empty_tile(bands: int, pixels: int) -> Floats:
    """Memory (bands, pixels) whose bands begin on lines of the caches, each on another one.

    A tile whose bands do not begin on one takes a quarter longer to write; bands a power of two apart would all fall on
    the same lines.
    """
    stride = (-(-pixels // LINE) + 1) * LINE
    memory = np.empty(bands * stride + LINE, np.float32)
    first = -(memory.ctypes.data // memory.itemsize) % LINE
    return memory[first : first + bands * stride].reshape(bands, stride)[:, :pixels]


def encode_with_care(
    values: Floats, valid: NDArray[np.bool_], encoding: Encoding, placing: Placing, out: NDArray[Any]
) -> Counts:
    """Encode a (C, n) product into its places in (bands, n), with clipping and nodata; the values are spent."""
    blanked(values, valid)
    numbers, counts = encoding.encode_block(values[:, None])
    placing.put(numbers[:, 0], out)
    return counts


def blanked(fused: Floats, valid: NDArray[np.bool_]) -> None:
    """Set the invalid pixels of a (C, n) product to NaN."""
    if not valid.all():
        np.copyto(fused, np.float32(np.nan), where=~valid)
