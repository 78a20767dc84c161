"""What the two conventions of `geolift evaluate` disagree about: its own, and HyperBench's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geolift.metrics.similarity import UIQI_SIZE, hyperbench_uiqi_map, uiqi_map

Array64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
ConventionName = Literal["geolift", "hyperbench"]

HYPERBENCH_PERCENTS = (1.0, 99.0)
"""Percentiles of the reference that HyperBench stretches between."""


def spectral_angles_rad(product: Array64, reference: Array64) -> tuple[Array64, Mask]:
    """Return the angle between two spectra at each pixel, exact down to the smallest angles.

    With unit vectors u and v the angle is 2 arcsin(|u − v| / 2): the arc cosine of their product loses half
    the digits near 0, this none, and equal spectra are at 0 exactly.

    ``product``, ``reference``: shape (band, pixel), finite.

    Returns
    -------
    angles_rad
        Shape (pixel,), 0 to pi; 0 where a spectrum is zero.
    non_zero
        Shape (pixel,); False where either spectrum is zero and has no direction.
    """
    norm_x, norm_y = np.sqrt(np.square(product).sum(axis=0)), np.sqrt(np.square(reference).sum(axis=0))
    non_zero = (norm_x > 0) & (norm_y > 0)
    scale_x, scale_y = np.where(non_zero, norm_x, 1.0), np.where(non_zero, norm_y, 1.0)
    chord = np.sqrt(np.square(product / scale_x - reference / scale_y).sum(axis=0))
    return np.where(non_zero, 2 * np.arcsin(np.minimum(1.0, chord / 2)), 0.0), non_zero


def _hyperbench_angles_rad(product: Array64, reference: Array64) -> tuple[Array64, Mask]:
    """Angles as HyperBench has them: float32, 1e-8 added to the norms, zero spectra at 90°."""
    x, y = (np.ascontiguousarray(a.T, dtype=np.float32) for a in (product, reference))
    norms = np.sqrt(np.sum(y**2, axis=-1)) * np.sqrt(np.sum(x**2, axis=-1))
    cosines = np.clip(np.sum(y * x, axis=-1) / (norms + np.float32(1e-8)), -1, 1)
    return np.arccos(cosines).astype(np.float64), np.ones(len(x), dtype=np.bool_)


@dataclass(frozen=True, kw_only=True)
class Convention:
    """What the two conventions disagree about.

    `uiqi_extent` is the side of the square of pixels that must exist for an 8 × 8 window to be counted:
    sewar leaves out the last row and column of windows.
    """

    ssim_window: Literal["gaussian", "uniform"]
    uiqi_map: Callable[[Array64, Array64], Array64]
    uiqi_extent: int
    angles_rad: Callable[[Array64, Array64], tuple[Array64, Mask]]
    quantised: bool
    ergas_ratio: float | None


CONVENTIONS: dict[ConventionName, Convention] = {
    "geolift": Convention(
        ssim_window="gaussian",
        uiqi_map=uiqi_map,
        uiqi_extent=UIQI_SIZE,
        angles_rad=spectral_angles_rad,
        quantised=False,
        ergas_ratio=None,
    ),
    "hyperbench": Convention(
        ssim_window="uniform",
        uiqi_map=hyperbench_uiqi_map,
        uiqi_extent=UIQI_SIZE + 1,
        angles_rad=_hyperbench_angles_rad,
        quantised=True,
        ergas_ratio=4.0,
    ),
}
