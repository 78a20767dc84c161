"""Alpha bands: one that masks is no band; one that holds a spectral band under the name alpha is data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from rasterio.enums import ColorInterp

from geolift.readers.source import sample_windows

ALPHA_NAME = re.compile(r"^\W*(alpha|mask|data_?mask|valid_?mask|transparency|opacity)\W*$", re.IGNORECASE)
SPECTRAL_NAME = re.compile(
    r"(^|[^a-z])(nir|near|infra|ir|red|green|blue|b\d+a?|band\W*\d+|\d{3,4}\W*nm|swir|vnir|rededge)([^a-z]|$)",
    re.IGNORECASE,
)
OPAQUE = (1, 255, 32_767, 65_535)
"""What programs write for "to be seen"; 0 is transparent."""
TWO_VALUED = 0.95
"""Alpha is 0 or opaque almost everywhere; seams of mosaics may fade."""


@dataclass(frozen=True)
class Alpha:
    """The band called alpha (0-based), whether it masks, and why."""

    band: int
    masks: bool
    reason: str


def alpha_of(source: Any) -> Alpha | None:
    """Find the alpha band of an open rasterio dataset; None if there is none.

    A band counts by its colour interpretation, or by its name; the last of several is also looked at where it holds
    nothing but 0 and 255 or 65 535.
    """
    called = [i for i, kind in enumerate(source.colorinterp) if kind == ColorInterp.alpha]
    named = [i for i, text in enumerate(source.descriptions) if text and ALPHA_NAME.match(text)]
    if source.count < 2 or np.dtype(source.dtypes[-1]).kind == "c":
        return None
    band = (called or named or [source.count - 1])[0]
    values = _sampled(source, band)
    share, opaque = _two_valued(values)
    name = (source.descriptions[band] or "").strip()
    if not called and not named:
        plain = not name and share == 1.0 and opaque in OPAQUE[1:] and bool((values == 0).any())
        whole = np.dtype(source.dtypes[band]).kind in "iu" and source.count > 3
        return Alpha(band, True, f"holds nothing but 0 and {opaque:g}") if plain and whole else None
    if named:
        return Alpha(band, True, f"is named {name!r}")
    if SPECTRAL_NAME.search(name):
        return Alpha(band, False, f"is named {name!r}")
    if share < TWO_VALUED:
        return Alpha(band, False, "holds as many different values as an image does")
    return Alpha(band, True, "is alpha by its colour interpretation")


def _sampled(source: Any, band: int) -> np.ndarray:
    parts = []
    for rows, cols in sample_windows(source.shape):
        window = ((rows.start, rows.stop), (cols.start, cols.stop))
        parts.append(source.read(band + 1, window=window).ravel())
    return np.concatenate(parts)


def _two_valued(values: np.ndarray) -> tuple[float, float]:
    """Return the share of pixels that hold 0 or the most frequent other number, and that number."""
    other = values[values != 0]
    if other.size == 0:
        return 1.0, 0.0
    numbers, counts = np.unique(other, return_counts=True)
    most = int(np.argmax(counts))
    return float((counts[most] + (values == 0).sum()) / values.size), float(numbers[most])
