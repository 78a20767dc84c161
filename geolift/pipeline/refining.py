"""The two images of a fusion as the refinement reads them, and its correction on the tiles of the product."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geolift.datamodel.alignment import positions_on
from geolift.datamodel.cube import window_values
from geolift.pair.comparison import Comparison
from geolift.pair.harmonization import Harmonization
from geolift.pair.overlay import Overlay, overlay
from geolift.pipeline.plan import Plan
from geolift.pipeline.trained import TileCorrection, Trained
from geolift.runtime.machine import available_cpus
from geolift.runtime.progress import SILENT, Listener
from geolift.settings import FuseSettings
from geolift.training.training_set import TrainingSet

if TYPE_CHECKING:
    from geolift.refinement import Refined
    from geolift.refinement.correction import Places


@dataclass(frozen=True, eq=False)
class FusionPair:
    """`geolift.refinement.pair.Pair` of an HSI and the MSI laid over it.

    Parameters
    ----------
    laid
        The whole overlap.
    hsi_data
        (C, y, x) of the overlap, lazy or in memory, all bands kept.
    positions
        Which of them are good.
    relation
        Applied to the MSI.
    """

    laid: Overlay
    hsi_data: object
    positions: np.ndarray
    relation: Harmonization

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the overlap, in HSI pixels."""
        rows, cols = self.laid.grid.shape
        return int(rows), int(cols)

    @property
    def ratio(self) -> int:
        """Fine pixels per HSI pixel."""
        return self.laid.ratio

    def hsi(self, rows: slice, cols: slice) -> np.ndarray:
        """(C, y, x) good bands."""
        return np.asarray(window_values(self.hsi_data, rows, cols)[self.positions], np.float32)

    def msi(self, row: int, col: int, height: int, width: int, margin: int) -> np.ndarray:
        """The harmonised MSI on the nested fine grid; NaN = invalid or beyond the image."""
        return np.asarray(self.relation.apply(self.laid.read(row, col, height, width, margin)))

    def beyond(self, row: int, col: int, height: int, width: int, margin: int) -> np.ndarray:
        """Fine pixels of the same window beyond the MSI's image."""
        return self.laid.beyond(row, col, height, width, margin)


def refine(
    hsi: xr.DataArray,
    msi: xr.DataArray,
    plan: Plan,
    compared: Comparison,
    trained: Trained,
    training: TrainingSet,
    settings: FuseSettings,
    listener: Listener = SILENT,
    folder: Path | None = None,
) -> tuple[Refined, TileCorrection | None]:
    """Find the correction that makes the product agree with the HSI; see `geolift.refinement`.

    Parameters
    ----------
    hsi, msi : DataArray (band, y, x)
        Whole images, masked.
    folder
        For large intermediate arrays; without one they stay in memory.
    """
    from geolift.network.engine import choose_engine
    from geolift.refinement import Refined, find_refinement

    forced = settings.refine == "on"
    if not (forced or compared.located):
        return Refined(None, "the place of the HSI on the MSI is not known well enough"), None
    laid = overlay(hsi, msi.isel(band=list(plan.spectra.msi_bands)), plan.region.ratio, whole=True)
    if laid is None:
        return Refined(None, "no HSI pixel lies under the MSI"), None
    positions = np.asarray(plan.spectra.hsi_bands)[list(plan.spectra.good)]
    pair = FusionPair(laid, hsi.data[:, laid.rows, laid.cols], positions, compared.harmonization)
    found = find_refinement(
        pair,
        trained.model,
        training,
        laid.fine_shift(*compared.applied_px),
        compared.blur_sigma_px,
        forced=forced,
        folder=folder if settings.scheduler is None else None,
        threads=settings.threads or available_cpus(),
        engine=choose_engine(settings.device),
        progress=lambda share: listener.progress("refining", share),
    )
    if found.correction is None:
        return found, None
    correction = found.correction
    region, ground = plan.region.grid, laid.grid

    shape = (int(region.shape[0]), int(region.shape[1]))
    places = _places(region, ground)

    def coordinates(harmonised: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
        return correction.coordinates(harmonised, corner, shape, places)

    return found, TileCorrection(correction.decode, coordinates)


def _places(product: GeoBox, ground: GeoBox) -> Places:
    """Where the pixels of a window of the product lie on the HSI's grid, the centre of its first pixel at 0."""

    def places(rows: slice, cols: slice) -> tuple[np.ndarray, np.ndarray]:
        down, across = positions_on(product[rows, cols], ground)
        return down - 0.5, across - 0.5

    if product.crs != ground.crs:
        return places
    down, across = places(slice(None), slice(None))
    return lambda rows, cols: (down[rows], across[:, cols])
