"""Pixels on their way into a network and out of it: checks, memory, the places of its outputs, stored numbers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geolift.datamodel.encoding import Counts, Encoding
from geolift.network.formula import LINE, Floats, Network


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
        self.places, self.count = places, count
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


def valid_pixels(network: Network, msi: Floats, coordinates: Floats | None) -> NDArray[np.bool_]:
    """(n,) which pixels are finite in all bands.

    Raises ValueError if the bands of (c, n) or the coordinates (J, n) do not fit the network.
    """
    if msi.ndim != 2 or msi.shape[0] != network.inputs:
        raise ValueError(f"expected ({network.inputs}, n) MSI values, got {msi.shape}")
    wanted = None if network.correction is None else (network.correction.shape[1], msi.shape[1])
    if (None if coordinates is None else coordinates.shape) != wanted:
        raise ValueError(f"expected coordinates of the correction of shape {wanted}")
    valid: NDArray[np.bool_] = np.asarray(np.isfinite(msi).all(axis=0))
    return valid


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
