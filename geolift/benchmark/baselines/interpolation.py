"""Enlarging an image by cubic convolution: what fusion has to beat, for it does not look at the MSI."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

Cube = NDArray[np.float32]


def bicubic(image: Cube, shape: tuple[int, ...]) -> Cube:
    """Upsample an image (band, y, x) to (rows, cols) by cubic convolution with a = −½; weights outside are shared.

    Invalid pixels take the value of the nearest valid one first.

    References
    ----------
    R. Keys, Cubic convolution interpolation for digital image processing, IEEE Trans. ASSP 29(6), 1981,
    doi:10.1109/TASSP.1981.1163711.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(fill_invalid(image)))[None]
    # Torch's plain bicubic has a = −¾, which bends planes; its antialiased one, upsampling, is Keys' own.
    fine = torch.nn.functional.interpolate(tensor, size=tuple(shape), mode="bicubic", antialias=True)
    return fine[0].numpy()


def fill_invalid(image: Cube) -> Cube:
    """Give the invalid pixels of an image (band, y, x) the value of the nearest valid one."""
    from scipy.ndimage import distance_transform_edt

    invalid = ~np.isfinite(image).all(axis=0)
    if not invalid.any():
        return image
    rows, cols = distance_transform_edt(invalid, return_distances=False, return_indices=True)
    return np.asarray(image[:, rows, cols])
