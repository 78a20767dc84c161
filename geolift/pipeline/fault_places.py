"""Where in the scene the faults lie that have a place: coarse maps for the sidecar, drawn by the report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geolift.datamodel.cube import rasterio_crs
from geolift.pair.checks import CheckResult
from geolift.pair.comparison import Comparison
from geolift.pair.robust import outlier_pixels
from geolift.pair.scene_pair import ScenePair
from geolift.pair.screening.findings import PlacedFault
from geolift.pipeline.refining import Refinement

MOST_CELLS = 48
"""Cells along an edge of a map at most: what a small picture can show."""

LINES_PER_CELL = 3
"""Lines of the product that are asked in each row of cells whether the sensors differ there."""

OUTLIER_SIGMA = 6.0
LEVELS = 9

CHANGE, DIFFER = "cloud-or-change", "where the sensors do not show the same"


@dataclass(frozen=True, eq=False)
class FaultMap:
    """Where a fault lies.

    Parameters
    ----------
    code
        Of the finding of the check.
    what
        What the values are, in words.
    values
        (y, x) of the grid, 0 = nothing, NaN = not known.
    grid
        The cells.
    """

    code: str
    what: str
    values: NDArray[np.float32]
    grid: GeoBox

    def to_json(self) -> dict[str, object]:
        """Return it with one digit per cell, in ninths of the largest value; "." = not known."""
        most = float(np.nanmax(self.values))
        digits = np.ceil(LEVELS * np.nan_to_num(self.values) / most).astype(int)
        known = np.isfinite(self.values)
        rows = [
            "".join(str(d) if k else "." for d, k in zip(*row, strict=True)) for row in zip(digits, known, strict=True)
        ]
        crs = rasterio_crs(self.grid)
        return {
            "code": self.code,
            "what": self.what,
            "most": most,
            "crs": None if crs is None else crs.to_string(),
            "transform": list(self.grid.affine)[:6],
            "cells": rows,
        }


def fault_maps(
    pair: ScenePair, compared: Comparison | None, check: CheckResult | None, refinement: Refinement
) -> tuple[FaultMap, ...]:
    """Return a map of each fault that has a place; of none where nothing was found."""
    found = [*_of_the_hsi(pair)]
    if compared is not None and check is not None:
        known = refinement.correction is not None or refinement.change is not None
        found += [*_of_the_msi(compared), *([] if known else _outliers(compared, check))]
        found = [_moved(each, compared) for each in found]
        found += [_differing(pair, refinement)] if known else []
    return tuple(each for each in found if np.nanmax(each.values, initial=0.0) > 0)


def in_cells(values: NDArray[np.floating | np.bool_], grid: GeoBox) -> tuple[NDArray[np.float32], GeoBox]:
    """Average values over cells.

    ``values``: (y, x) of the grid; of length 1 along an axis along which nothing changes. NaN = not known.

    Examples
    --------
    >>> cells, coarse = in_cells(np.eye(96), GeoBox((96, 96), Affine(10, 0, 0, 0, -10, 0), None))
    >>> cells.shape, float(cells[0, 0]), coarse.affine.a
    ((48, 48), 0.5, 20.0)
    """
    steps = [-(-size // MOST_CELLS) for size in values.shape]
    shape = [-(-size // step) for size, step in zip(values.shape, steps, strict=True)]
    sums, counts = np.zeros(shape), np.zeros(shape)
    known = np.isfinite(values)
    at = np.ix_(*(np.arange(size) // step for size, step in zip(values.shape, steps, strict=True)))
    np.add.at(sums, at, np.where(known, values, 0.0))
    np.add.at(counts, at, known)
    down, across = (
        step * size / n for step, size, n in zip(steps, (int(n) for n in grid.shape), values.shape, strict=True)
    )
    cells = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float32)
    return cells, GeoBox((shape[0], shape[1]), grid.affine * Affine.scale(across, down), grid.crs)


def _of_the_hsi(pair: ScenePair) -> Iterator[FaultMap]:
    for fault in pair.screening.faults:
        if isinstance(fault, PlacedFault):
            cells, grid = in_cells(fault.where, pair.hsi_grid)
            touched = cells if fault.is_graded else np.sign(cells)
            yield FaultMap(fault.code, "the columns, lines or pixels concerned", touched, grid)


def _moved(found: FaultMap, compared: Comparison) -> FaultMap:
    """Return a map of HSI pixels where they count as moved to."""
    overlay, grid = compared.overlay, found.grid
    move = Affine.translation(*overlay.shift_units(*overlay.fine_shift(*compared.applied_px)))
    return replace(found, grid=GeoBox(grid.shape, move * grid.affine, grid.crs))


def _differing(pair: ScenePair, refinement: Refinement) -> FaultMap:
    """Where the refinement found that the sensors do not show the same, asked along some lines of the product."""
    height, width = (int(size) for size in pair.region.grid.shape)
    rows = np.linspace(0, height - 1, min(height, LINES_PER_CELL * MOST_CELLS)).round().astype(int)
    lines = np.concatenate([refinement.differs(slice(row, row + 1), slice(0, width)) for row in rows])
    return FaultMap(CHANGE, DIFFER, *in_cells(lines.astype(np.float32), pair.region.grid))


def _outliers(compared: Comparison, check: CheckResult) -> Iterator[FaultMap]:
    """Where the check found it, if it did."""
    if any(finding.code == CHANGE for finding in check.verdict):
        seen = compared.harmonization.apply(compared.degraded)
        outliers = outlier_pixels(compared.simulated, seen, OUTLIER_SIGMA).astype(np.float32)
        yield FaultMap(CHANGE, DIFFER, *in_cells(outliers, compared.overlay.grid))


def _of_the_msi(compared: Comparison) -> Iterator[FaultMap]:
    """Saturation, a shift that wanders, a relation that varies: all on the grid of the HSI's compared pixels."""
    grid = compared.overlay.grid
    if compared.saturated is not None:
        yield FaultMap("saturation", "HSI pixels that see saturated MSI pixels", *in_cells(compared.saturated, grid))
    geometry = compared.geometry
    if geometry is not None and geometry.wandering is not None:
        length = np.hypot(*geometry.wandering.deviation_px)
        what = f"the shift beside the common one, up to {length.max():.1f} MSI pixels"
        yield FaultMap("local-shift", what, *in_cells(length, grid))
    local = compared.harmonization.local
    if local is not None:
        level = np.nanmean(np.abs(compared.degraded), axis=(1, 2))[:, None, None]
        size = np.abs(local.gain + local.offset / np.maximum(level, 1e-12)).mean(axis=0)
        row, col = (first + 0.5 - local.step_px / 2 for first in local.first_px)
        affine = grid.affine * Affine.translation(col, row) * Affine.scale(local.step_px)
        cells = GeoBox((size.shape[0], size.shape[1]), affine, grid.crs)
        yield FaultMap("haze", f"the change of the MSI's values, up to {size.max():.0%}", *in_cells(size, cells))
