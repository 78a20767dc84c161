"""The product held against its own inputs, on windows spread over the scene."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add

import dask.array as da
import numpy as np
import xarray as xr

from geolift.datamodel.cube import bands_of, grid_of, window_values
from geolift.datamodel.quality import Flag
from geolift.degradation.degrade import apply_srf
from geolift.errors import InputError
from geolift.metrics.consistency import Agreement, agreement
from geolift.pair.comparison import TYPICAL_BLUR_LR
from geolift.pair.overlay import Overlay, overlay
from geolift.provenance.record import CoregistrationFacts, RunRecord
from geolift.refinement.footprint import Footprint, gaussian_footprint
from geolift.report.scene import Scene

WINDOWS_PER_AXIS = 3
WINDOW_PX = 96
WINDOW_LR = (4, 24)
"""Least and most LR pixels along a window's edge."""

TAILS = 4
"""Sigmas at which the usual blur ends."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Agreements:
    """The product against the harmonised MSI and against the HSI; None where it could not be held against it.

    ``extrapolated``, ``within``: against the HSI where most of an HSI pixel is marked as out of range, and elsewhere;
    None without a quality raster.
    """

    msi: Agreement | None
    msi_bands: tuple[str, ...]
    hsi: Agreement | None
    hsi_wavelength_nm: np.ndarray
    extrapolated: Agreement | None = None
    within: Agreement | None = None


def measure(scene: Scene, record: RunRecord) -> Agreements | None:
    """Hold a product against its inputs, with what the run recorded of the blur; None without a product."""
    if scene.product is None:
        return None
    good = np.flatnonzero(bands_of(scene.product).good)
    msi, names = _against_msi(scene, good)
    hsi, extrapolated, within = _against_hsi(scene, good, record)
    return Agreements(
        msi=msi,
        msi_bands=names,
        hsi=hsi,
        hsi_wavelength_nm=bands_of(scene.product).wavelength_nm[good],
        extrapolated=extrapolated,
        within=within,
    )


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


def _against_hsi(
    scene: Scene, good: np.ndarray, record: RunRecord
) -> tuple[Agreement | None, Agreement | None, Agreement | None]:
    """Degrade the product to the HSI's pixels, as the run saw them, and compare: all, out of range, the others."""
    product, hsi, kept = scene.product, scene.hsi, scene.hsi_bands
    if product is None or hsi is None or kept is None:
        return None, None, None
    overlap = overlay(hsi, product, scene.ratio)
    if overlap is None:
        return None, None, None
    marks = _extrapolation(scene)
    marked = None if marks is None else overlay(hsi, marks, scene.ratio)
    footprint = _footprint(record, overlap.ratio) or _usual_footprint(scene, overlap, record.coregistration)
    edge = int(np.clip(WINDOW_PX // overlap.ratio, *WINDOW_LR))
    every, outside, inside = [], [], []
    for rows, cols in spread_windows((overlap.grid.shape[0], overlap.grid.shape[1]), edge):
        there = (
            slice(overlap.rows.start + rows.start, overlap.rows.start + rows.stop),
            slice(overlap.cols.start + cols.start, overlap.cols.start + cols.stop),
        )
        degraded = _degraded(overlap, rows, cols, footprint)[good]
        seen = window_values(hsi.data, *there)[kept[good]]
        every.append(agreement(degraded, seen))
        if marked is not None:
            mostly = _degraded(marked, rows, cols, footprint)[0] > 0.5
            outside.append(agreement(np.where(mostly, degraded, np.float32(np.nan)), seen))
            inside.append(agreement(np.where(mostly, np.float32(np.nan), degraded), seen))
    if marked is None:
        return reduce(add, every), None, None
    return reduce(add, every), reduce(add, outside), reduce(add, inside)


def _extrapolation(scene: Scene) -> xr.DataArray | None:
    """Return where the quality raster says out of range: lazy (1, y, x), 1 or 0; None without one."""
    quality = scene.side_product(scene.settings.qa)
    if quality is None:
        return None

    def marked(values: np.ndarray) -> np.ndarray:
        bits = np.nan_to_num(values).astype(np.int64)
        return np.asarray((bits & int(Flag.OUT_OF_RANGE)) != 0, np.float32)

    lazy = da.asarray(quality.data).map_blocks(marked, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
    return quality.copy(data=lazy)


def _degraded(overlap: Overlay, rows: slice, cols: slice, footprint: Footprint) -> np.ndarray:
    """Return a window of the fine image as the HSI's pixels see it."""
    margin = footprint.margin_lr + 1
    fine = overlap.read(rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start, margin)
    return np.asarray(footprint.degrade(fine, margin))


def _footprint(record: RunRecord, ratio: int) -> Footprint | None:
    """Return what an HSI pixel sees, as the refinement found it; a shift is part of it."""
    found = None if record.refinement is None else record.refinement.footprint
    if found is None or (record.plan is not None and round(record.plan.region.ratio) != ratio):
        return None
    weights = np.asarray(found.weights_y, np.float64), np.asarray(found.weights_x, np.float64)
    return Footprint(ratio, found.start_px, weights)


def _usual_footprint(scene: Scene, overlap: Overlay, found: CoregistrationFacts | None) -> Footprint:
    """Return the Gaussian of the blur that the co-registration found, or of the usual one if its evidence was weak."""
    moved = overlap.fine_shift(*scene.shift_px) if scene.shift_px != (0.0, 0.0) else (0.0, 0.0)
    if found is not None and found.reliable:
        sigma_y, sigma_x = found.blur_sigma_y, found.blur_sigma_x
        if isinstance(sigma_y, float) and isinstance(sigma_x, float) and min(sigma_y, sigma_x) >= 0:
            return gaussian_footprint(overlap.ratio, moved, (sigma_y, sigma_x), TAILS)
    usual = TYPICAL_BLUR_LR * overlap.ratio
    return gaussian_footprint(overlap.ratio, moved, (usual, usual), TAILS)
