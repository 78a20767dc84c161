"""The product held against its own inputs, on windows spread over the scene."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from geolift.datamodel.cube import bands_of, grid_of, window_values
from geolift.degradation.degrade import apply_srf
from geolift.errors import InputError
from geolift.metrics.consistency import Agreement, agreement
from geolift.pair.comparison import TYPICAL_BLUR_LR
from geolift.pair.overlay import Overlay, overlay
from geolift.refinement.footprint import Footprint, gaussian_footprint
from geolift.report.scene import Scene

WINDOWS_PER_AXIS = 3
WINDOW_PX = 96
WINDOW_LR = (4, 24)
"""Least and most LR pixels along a window's edge."""

TAILS = 4
"""Sigmas at which the usual blur ends."""


@dataclass(frozen=True, eq=False)
class Agreements:
    """The product against the harmonised MSI and against the HSI; None where it could not be held against it."""

    msi: Agreement | None
    msi_bands: tuple[str, ...]
    hsi: Agreement | None
    hsi_wavelength_nm: np.ndarray


def measure(scene: Scene, facts: dict[str, Any]) -> Agreements | None:
    """Hold a product against its inputs, with what the sidecar's ``facts`` tell of blur; None without a product."""
    if scene.product is None:
        return None
    good = np.flatnonzero(bands_of(scene.product).good)
    msi, names = _against_msi(scene, good)
    hsi = _against_hsi(scene, good, facts)
    return Agreements(msi, names, hsi, bands_of(scene.product).wavelength_nm[good])


def spread_windows(shape: tuple[int, int], edge: int, per_axis: int = WINDOWS_PER_AXIS) -> list[tuple[slice, slice]]:
    """Spread windows of ``edge`` evenly over a shape, without overlap; fewer where there is less room.

    >>> spread_windows((5, 2), 2, 2)
    [(slice(0, 2, None), slice(0, 2, None)), (slice(3, 5, None), slice(0, 2, None))]
    """

    def starts(size: int) -> list[int]:
        count = max(1, min(per_axis, size // edge))
        return [round(v) for v in np.linspace(0, max(0, size - edge), count)]

    rows, cols = shape
    return [(slice(r, min(rows, r + edge)), slice(c, min(cols, c + edge))) for r in starts(rows) for c in starts(cols)]


def _against_msi(scene: Scene, good: np.ndarray) -> tuple[Agreement | None, tuple[str, ...]]:
    """Apply the SRF to the product and compare with the harmonised MSI."""
    product, msi = scene.product, scene.msi
    if product is None or msi is None or scene.response is None:
        return None, ()
    bands, grid = bands_of(product), grid_of(product)
    offset = ~grid_of(msi).affine * (grid.affine.c, grid.affine.f)
    col, row = (round(v) for v in offset)
    if msi.sizes["y"] < row + grid.shape[0] or msi.sizes["x"] < col + grid.shape[1] or min(row, col) < 0:
        return None, ()  # another MSI lies under the sidecar's name by now
    names = scene.msi_names
    try:
        weighed = scene.response.select(names).weights(bands.wavelength_nm[good], bands.fwhm_nm[good])
    except InputError:
        return None, ()
    if not np.all(weighed.kept):
        return None, ()
    parts = []
    for rows, cols in spread_windows((grid.shape[0], grid.shape[1]), WINDOW_PX):
        fused = window_values(product.data, rows, cols)[good]
        seen = window_values(
            msi.data, slice(rows.start + row, rows.stop + row), slice(cols.start + col, cols.stop + col)
        )
        parts.append(agreement(apply_srf(fused, weighed.weights), scene.harmonized(seen)))
    return reduce(add, parts), names


def _against_hsi(scene: Scene, good: np.ndarray, facts: dict[str, Any]) -> Agreement | None:
    """Degrade the product to the HSI's pixels, as the run saw them, and compare with the HSI."""
    product, hsi, kept = scene.product, scene.hsi, scene.hsi_bands
    if product is None or hsi is None or kept is None:
        return None
    laid = overlay(hsi, product, scene.ratio)
    if laid is None:
        return None
    footprint = _footprint(facts, laid.ratio) or _usual_footprint(scene, laid, facts.get("coregistration") or {})
    edge = int(np.clip(WINDOW_PX // laid.ratio, *WINDOW_LR))
    parts = [
        _window_agreement(scene, laid, rows, cols, good, footprint)
        for rows, cols in spread_windows((laid.grid.shape[0], laid.grid.shape[1]), edge)
    ]
    return reduce(add, parts)


def _window_agreement(
    scene: Scene,
    laid: Overlay,
    rows: slice,
    cols: slice,
    good: np.ndarray,
    footprint: Footprint,
) -> Agreement:
    assert scene.hsi is not None
    assert scene.hsi_bands is not None
    margin = footprint.margin_lr + 1
    fine = laid.read(rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start, margin)[good]
    degraded = footprint.degrade(fine, margin)
    there = (
        slice(laid.rows.start + rows.start, laid.rows.start + rows.stop),
        slice(laid.cols.start + cols.start, laid.cols.start + cols.stop),
    )
    return agreement(degraded, window_values(scene.hsi.data, *there)[scene.hsi_bands[good]])


def _footprint(facts: dict[str, Any], ratio: int) -> Footprint | None:
    """Return what an HSI pixel sees, as the refinement found it; a shift is part of it."""
    told = (facts.get("refinement") or {}).get("footprint")
    if not told or round(float(facts.get("plan", {}).get("region", {}).get("ratio", ratio))) != ratio:
        return None
    weights = [np.asarray(told[f"weights_{axis}"], np.float64) for axis in "yx"]
    return Footprint(ratio, (int(told["start_px"][0]), int(told["start_px"][1])), (weights[0], weights[1]))


def _usual_footprint(scene: Scene, laid: Overlay, coregistration: dict[str, Any]) -> Footprint:
    """Return the Gaussian of the blur that the co-registration found, or of the usual one if its evidence was weak."""
    moved = laid.fine_shift(*scene.shift_px) if scene.shift_px != (0.0, 0.0) else (0.0, 0.0)
    found = [coregistration.get(f"blur_sigma_{axis}") for axis in "yx"]
    if coregistration.get("reliable") and all(isinstance(value, float) and value >= 0 for value in found):
        return gaussian_footprint(laid.ratio, moved, (float(found[0] or 0.0), float(found[1] or 0.0)), TAILS)
    usual = TYPICAL_BLUR_LR * laid.ratio
    return gaussian_footprint(laid.ratio, moved, (usual, usual), TAILS)
