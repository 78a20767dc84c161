"""A network run by machine code that is written for this CPU: from MSI to values or stored numbers in one call."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geolift.datamodel.encoding import Counts, Encoding
from geolift.network.formula import Floats, Network, Precision
from geolift.network.llvm.code import compiled
from geolift.network.llvm.cpu import Cpu
from geolift.network.llvm.layout import Layout, address, bits
from geolift.network.llvm.tables import JOB, RANGES
from geolift.network.pixels import Placing, blanked, empty_tile, encode_with_care, valid_pixels

PANEL_PIXELS = 1536
"""Pixels whose product is written row by row: rows of some hundred bytes would not fill the lines of the caches."""

PANEL_BYTES = 2**20
"""At most so much is kept for a panel, so that it stays in a core's second cache."""


@dataclass(frozen=True)
class _Given:
    """Pixels made ready.

    Parameters
    ----------
    valid
        (n,) which are.
    pixels
        (c, n or a panel), zeros where invalid or behind the last.
    coordinates
        (J, n or a panel) of the correction.
    panels
        First pixels of what is computed at once.
    """

    valid: NDArray[np.bool_]
    pixels: Floats
    coordinates: Floats
    panels: list[int]


class CompiledNetwork:
    """A network made ready to run on this CPU; may be shared by threads.

    Parameters
    ----------
    network
        Without unmixing.
    cpu
        What the code is written for.
    precision
        With ``bf16`` the products between hidden layers take bfloat16, where the CPU has tiles for it; sums and all
        other products stay fp32.
    """

    def __init__(self, network: Network, cpu: Cpu, precision: Precision = "fp32") -> None:
        if network.unmixing is not None:
            raise ValueError("constraints on abundances are not compiled")
        self.network, self._cpu = network, cpu
        self._mine = threading.local()
        self._layout = Layout(network, cpu, tiled=precision == "bf16" and cpu.tiles)
        blocks = PANEL_PIXELS // cpu.pixels
        while blocks > 1 and blocks * self._block_bytes > PANEL_BYTES:
            blocks //= 2
        self._blocks = blocks

    @property
    def _block_bytes(self) -> int:
        """Of what is kept of a block for its product."""
        beside = 0 if self.network.correction is None else self.network.correction.shape[1]
        return 4 * (len(self._layout.top) + beside) * self._cpu.pixels

    @property
    def panel_pixels(self) -> int:
        """Pixels that are computed at once; fewer take as long."""
        return self._blocks * self._cpu.pixels

    def __call__(self, msi: Floats, coordinates: Floats | None = None) -> Floats:
        """Apply to (c, n) float32 pixels in physical units; gives (C, n), NaN where a band is not finite.

        ``coordinates``: (J, n) of the correction, where the network has one.
        """
        given = self._ready(msi, coordinates)
        fused = empty_tile(self.network.outputs, given.pixels.shape[1])
        self._run(given, fused, np.arange(len(fused)))
        fused = fused[:, : len(given.valid)]
        blanked(fused, given.valid)
        return fused

    def stored(
        self, msi: Floats, encoding: Encoding, placing: Placing, coordinates: Floats | None = None
    ) -> tuple[NDArray[Any], Counts]:
        """Apply to (c, n) pixels as ``__call__`` does, and encode; gives (bands, n) stored numbers and what was met."""
        given = self._ready(msi, coordinates)
        valid, count = given.valid, len(given.valid)
        stored = placing.empty(given.pixels.shape[1], encoding)
        if encoding.dtype == "float32":
            stored = stored[:, :count]
            return stored, encode_with_care(self(msi, coordinates), valid, encoding, placing, stored)
        counts = Counts()
        ranges = self._run(given, stored, placing.places, encoding.steps_per_unit)
        for first, (lowest, highest) in zip(given.panels, ranges, strict=True):
            # The last panel begins where it ends with the pixels: what it shares with the one before counts there.
            part = slice(-(-first // self.panel_pixels) * self.panel_pixels, min(first + self.panel_pixels, count))
            if encoding.fits(lowest, highest):
                counts += encoding.counts_of(self.network.outputs, valid[part])
                continue
            values = self(msi[:, part], None if coordinates is None else coordinates[:, part])
            counts += encode_with_care(values, valid[part], encoding, placing, stored[:, part])
        stored = stored[:, :count]
        if not valid.all():
            np.copyto(stored, stored.dtype.type(encoding.nodata), where=~valid)
        return stored, counts

    def _ready(self, msi: Floats, coordinates: Floats | None) -> _Given:
        valid = valid_pixels(self.network, msi, coordinates)
        missing = max(0, self.panel_pixels - len(valid))

        def whole(rows: Floats) -> Floats:
            rows = np.ascontiguousarray(rows, np.float32)
            return np.pad(rows, ((0, 0), (0, missing))) if missing else rows

        pixels = whole(msi if valid.all() else np.where(valid, msi, np.float32(0)))
        beside = np.empty((0, 0), np.float32) if coordinates is None else whole(coordinates)
        return _Given(valid, pixels, beside, self._panels(valid))

    def _panels(self, valid: NDArray[np.bool_]) -> list[int]:
        """First pixels of the panels with any valid pixel; the last panel ends with the last pixel."""
        size, count = self.panel_pixels, len(valid)
        firsts = (min(first, max(0, count - size)) for first in range(0, count, size))
        return [first for first in firsts if valid[first : first + size].any()]

    def _run(
        self, given: _Given, out: NDArray[Any], bands: NDArray[np.intp], steps_per_unit: float | None = None
    ) -> NDArray[np.float32]:
        """Write the product.

        ``bands``: (C,) rows of ``out``. ``steps_per_unit``: what values are multiplied by before they are rounded to
        two bytes; None = they are written as they are. Returns (panels, 2) lowest and highest number of each, NaN where
        one is not finite; only of what is rounded.
        """
        panels = np.array(given.panels, np.int64)
        ranges = np.zeros((len(panels), RANGES, self._cpu.lanes), np.float32)
        rows = np.ascontiguousarray(bands[self._layout.bands] * (out.strides[0] // out.itemsize), np.int64)
        arena, panel = self._memory()
        arrays = {"arena": arena, "panel": panel, "out": out, "rows": rows, "ranges": ranges}
        arrays |= {"pixels": given.pixels, "coordinates": given.coordinates}
        job = self._layout.job | {name: address(array) for name, array in arrays.items()}
        job["blocks"], job["steps_per_unit"] = self._blocks, bits(steps_per_unit or 0.0)
        job["pixel_stride"], job["coordinate_stride"] = given.pixels.shape[1], given.coordinates.shape[1]
        table = np.array([job[name] for name in JOB], np.int64)
        compiled(self._cpu, steps_per_unit is not None)(address(table), address(panels), len(panels))
        lowest, highest, nan = ranges[:, 0].min(axis=1), ranges[:, 1].max(axis=1), ranges[:, 2].sum(axis=1)
        return np.stack([lowest + nan, highest + nan], axis=1)

    def _memory(self) -> tuple[Floats, Floats]:
        """Memory of this thread for the layers of a block, and for what is kept of a panel."""
        if not hasattr(self._mine, "memory"):
            block = self._layout.rows * self._cpu.pixels
            self._mine.memory = empty_tile(1, block), empty_tile(1, self._blocks * self._block_bytes // 4)
        memory: tuple[Floats, Floats] = self._mine.memory
        return memory


class CompiledUnmixing:
    """A network that unmixes, as two: one gives abundances, which are constrained, one mixes endmembers by them."""

    def __init__(self, network: Network, cpu: Cpu, precision: Precision = "fp32") -> None:
        if network.unmixing is None:
            raise ValueError("only a network that unmixes has abundances")
        self._unmixing = network.unmixing
        level = network.unmixing.level
        free = replace(network, basis=None, offset=level, clip=None, unmixing=None, correction=None)
        self._free = CompiledNetwork(free, cpu, precision)
        basis = np.eye(len(level), dtype=np.float32) if network.basis is None else network.basis
        mixing = Network(
            weights=(),
            biases=(),
            residuals=(),
            slope=0.0,
            head=None,
            skip=basis,
            basis=None,
            offset=network.offset,
            clip=network.clip,
            correction=network.correction,
        )
        self._mixed = CompiledNetwork(mixing, cpu, precision)

    def __call__(self, msi: Floats, coordinates: Floats | None = None) -> Floats:
        """As `CompiledNetwork`."""
        return self._mixed(self._abundances(msi), coordinates)

    def stored(
        self, msi: Floats, encoding: Encoding, placing: Placing, coordinates: Floats | None = None
    ) -> tuple[NDArray[Any], Counts]:
        """As `CompiledNetwork`."""
        return self._mixed.stored(self._abundances(msi), encoding, placing, coordinates)

    def _abundances(self, msi: Floats) -> Floats:
        free = self._free(msi)
        abundances = self._unmixing.nearest(free)
        blanked(abundances, np.isfinite(free).all(axis=0))  # type: ignore[arg-type]
        return abundances
