"""Applying a model to a cube in memory."""

from __future__ import annotations

import numpy as np

from geolift.engine import Engine
from geolift.model import ON_CPU, SpectralModel
from geolift.network import Floats


def predict_block(
    model: SpectralModel, msi: Floats, engine: Engine = ON_CPU, coordinates: Floats | None = None
) -> Floats:
    """The fused block of an MSI block.

    Parameters
    ----------
    msi
        (c, y, x) in the unit the model was trained on; NaN or infinite = invalid.
    coordinates
        (J, y, x) of the correction, where the model's network has one.

    Returns
    -------
    numpy.ndarray
        (C, y, x) float32, NaN in all bands of a pixel where any MSI band is invalid. A pixel's values
        depend on that pixel alone, bit for bit: neither on the block's shape nor on threads.
    """
    msi = np.asarray(msi, np.float32)
    rows, cols = msi.shape[1:]
    beside = None if coordinates is None else np.asarray(coordinates, np.float32).reshape(-1, rows * cols)
    return model.packed(msi.reshape(msi.shape[0], rows * cols), engine, beside).reshape(-1, rows, cols)
