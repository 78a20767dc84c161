"""ENVI data whose header GDAL does not recognise: UTF-16, a byte order mark, or lines before the letters ENVI."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from geolift.errors import InputError
from geolift.readers.envi_header import SUFFIX, EnviHeader
from geolift.readers.shared_raster import open_raster
from geolift.readers.source import BandIndices, Layout
from geolift.runtime.scratch import scratch_folder

DTYPES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 6: "c8", 9: "c16", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}
"""NumPy's words for ENVI's `data type`."""
ORDERS = {"bsq": ("byx", (0, 1, 2)), "bil": ("ybx", (1, 0, 2)), "bip": ("yxb", (2, 0, 1))}
"""The axes in the file, and where band, row and column stand among them."""


class EnviData:
    """Raw numbers (band, y, x) behind a header that was found sound (`envi_header.require_whole`)."""

    def __init__(self, header: EnviHeader, path: str) -> None:
        self.path = path
        shape = header.shape()
        sizes = dict(zip("byx", (int(n or 0) for n in shape), strict=True))
        axes, self._order = ORDERS[header.fields["interleave"].strip().lower()]
        kind = np.dtype(DTYPES[header.whole("data_type") or 0])
        self._stored = kind.newbyteorder(">" if header.whole("byte_order") else "<")
        self._shape = tuple(sizes[axis] for axis in axes)
        self._offset = header.whole("header_offset") or 0
        self.layout = Layout(sizes["b"], (sizes["y"], sizes["x"]), kind, (1, sizes["x"]))

    def read(self, rows: slice, cols: slice, bands: BandIndices | None = None) -> tuple[np.ndarray, None]:
        """Return a window of stored numbers. Raises InputError where the file has become shorter."""
        try:
            whole = np.memmap(self.path, self._stored, "r", self._offset, self._shape).transpose(self._order)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path}: cannot be read: {error}. Is the file cut off?") from error
        part = whole[:, rows, cols] if bands is None else whole[list(bands), rows, cols]
        return np.array(part, self.layout.dtype), None


@contextlib.contextmanager
def understood_by_gdal(header: EnviHeader, path: str) -> Iterator[Any]:
    """Open what GDAL makes of a header's text as a rasterio dataset, whose own pixels mean nothing.

    The text lies, as GDAL wants it, in a scratch folder beside an empty file of the data's size; nothing is written
    beside the input.
    """
    with scratch_folder() as folder:
        image = folder / "image"
        image.with_suffix(SUFFIX).write_text(header.text, encoding="utf-8")
        with image.open("wb") as stream:
            stream.truncate(Path(path).stat().st_size)
        with open_raster(str(image)) as source:
            yield source
