"""Applying a model to a cube in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geolift.datamodel.encoding import Counts, Encoding
from geolift.network.engine import ON_CPU, Engine
from geolift.network.formula import Floats
from geolift.network.model import SpectralModel
from geolift.network.pixels import Placing


def predict_block(
    model: SpectralModel, msi: Floats, engine: Engine = ON_CPU, coordinates: Floats | None = None
) -> Floats:
    """The fused block of an MSI block.

    ``msi``: (c, y, x) in the unit the model was trained on; NaN or infinite = invalid. ``coordinates``: (J, y, x) of
    the correction, where the model's network has one. Returns (C, y, x) float32, NaN in all bands of a pixel where any
    MSI band is invalid. A pixel's values depend on that pixel alone, bit for bit: neither on the block's shape nor on
    threads.
    """
    msi = np.asarray(msi, np.float32)
    rows, cols = msi.shape[1:]
    beside = None if coordinates is None else np.asarray(coordinates, np.float32).reshape(-1, rows * cols)
    return model.apply(msi.reshape(msi.shape[0], rows * cols), engine, beside).reshape(-1, rows, cols)


def encode_block(
    model: SpectralModel,
    msi: Floats,
    encoding: Encoding,
    placing: Placing,
    engine: Engine = ON_CPU,
    coordinates: Floats | None = None,
) -> tuple[NDArray[Any], Counts]:
    """The stored numbers (band, y, x) of an MSI block: those of `predict_block` encoded, and what was met.

    ``placing``: where the model's outputs stand among the bands; the others are invalid.
    """
    msi = np.asarray(msi, np.float32)
    rows, cols = msi.shape[1:]
    beside = None if coordinates is None else np.asarray(coordinates, np.float32).reshape(-1, rows * cols)
    stored, counts = model.runner(engine).stored(msi.reshape(-1, rows * cols), encoding, placing, beside)
    return stored.reshape(-1, rows, cols), counts
