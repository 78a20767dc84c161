"""Where not to trust the product: a bit mask per pixel."""

from __future__ import annotations

from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]


class Flag(IntFlag):
    """What each bit of the quality raster says; 0 = nothing known against the pixel."""

    NODATA = 1
    """The MSI has no value here, so the product has none."""

    MASKED = 2
    """Cloud, shadow, saturation or the user's mask: the product has no value here."""

    OUT_OF_RANGE = 4
    """The MSI's value, harmonised, lies outside what the network was trained on: it extrapolates."""

    LOW_CONFIDENCE = 8
    """Co-registration could not be trusted: borders may carry their neighbours' spectra."""

    OUTSIDE_HSI = 16
    """No valid HSI pixel lies here: what stands here was learned elsewhere."""

    DIFFERS = 32
    """The sensors do not show the same here: cloud, shadow, change, saturation, or a fault of one of them. Where the
    bit below is not set, the product shows what the HSI saw."""

    NOT_REFINED = 64
    """The product is refined, but little or not at all here, in or beside such a place: it is what the MSI shows."""


def marks_in_words(bits: int) -> str:
    """Return quality bits as words.

    >>> marks_in_words(20), marks_in_words(0)
    ('out of range, outside HSI', '')
    """
    names = (str(flag.name).replace("_", " ").lower() for flag in Flag if bits & flag)
    return ", ".join(names).replace("hsi", "HSI")


def quality_bits(
    *,
    nodata: BoolArray,
    masked: BoolArray,
    out_of_range: BoolArray,
    outside_hsi: BoolArray,
    low_confidence: bool,
    differs: BoolArray | None = None,
    not_refined: BoolArray | None = None,
) -> NDArray[np.uint16]:
    """Combine findings (y, x) into the quality bits; a pixel without data has no range to be outside of.

    >>> flags = dict(nodata=np.array([False, True]), masked=np.array([False, False]), low_confidence=False)
    >>> quality_bits(**flags, out_of_range=np.array([True, True]), outside_hsi=np.array([False, True])).tolist()
    [4, 17]
    """
    bits = np.zeros(nodata.shape, np.uint16)
    bits[nodata] |= np.uint16(Flag.NODATA)
    bits[masked] |= np.uint16(Flag.MASKED)
    bits[out_of_range & ~nodata & ~masked] |= np.uint16(Flag.OUT_OF_RANGE)
    bits[outside_hsi] |= np.uint16(Flag.OUTSIDE_HSI)
    for found, flag in ((differs, Flag.DIFFERS), (not_refined, Flag.NOT_REFINED)):
        if found is not None:
            bits[found & ~nodata & ~masked] |= np.uint16(flag)
    if low_confidence:
        bits |= np.uint16(Flag.LOW_CONFIDENCE)
    return bits
