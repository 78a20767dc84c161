"""The product's standard error: calibrated on the scene, and put on the product's grid."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import dask.array as da
import numpy as np
import xarray as xr

from geolift.datamodel.cube import grid_of, make_cube
from geolift.pair.comparison import Comparison, FineMSI, telling_window
from geolift.pair.harmonization import Harmonization
from geolift.pipeline.plan import Plan
from geolift.pipeline.trained import Trained
from geolift.runtime.machine import available_cpus
from geolift.runtime.progress import SILENT, Listener
from geolift.settings import FuseSettings
from geolift.training.training_set import TrainingSet

if TYPE_CHECKING:
    from geolift.network.model import SpectralModel
    from geolift.uncertainty.calibration import ErrorModel


def calibrate(
    hsi: xr.DataArray,
    training: TrainingSet,
    plan: Plan,
    compared: Comparison | None,
    fine: FineMSI | None,
    settings: FuseSettings,
    device: str,
    *,
    refined: bool,
    listener: Listener = SILENT,
) -> ErrorModel | None:
    """Calibrate the standard error on held-out blocks of the HSI, and rehearse the job one level down.

    Parameters
    ----------
    hsi : DataArray (band, y, x)
        Whole image, masked.
    compared, fine
        The MSI on the HSI's grid and at its own pixels; None where they do not overlap.
    refined
        Whether the product is.

    Returns
    -------
    ErrorModel or None
        None if there are too few HSI pixels to hold some out.
    """
    from geolift.training.fit import fit
    from geolift.uncertainty.calibration import fit_errors
    from geolift.uncertainty.reduced_resolution import WINDOW_PX, rehearse

    def refit(part: TrainingSet) -> SpectralModel:
        threads = settings.threads or available_cpus()
        options = {"device": device, "threads": threads, **settings.method_options}
        return fit(settings.method, part, seed=settings.seed, **options)

    listener.progress("calibrating", 0.0)
    spread = None if fine is None else fine.contrast * training.simulated.std(axis=0)
    errors = fit_errors(training, refit, spread, settings.seed)
    listener.progress("calibrating", 0.5)
    if errors is not None and compared is not None:
        values = telling_window(hsi, compared, plan.spectra, WINDOW_PX)
        blur = compared.blur_sigma_px[0] / compared.overlay.ratio, compared.blur_sigma_px[1] / compared.overlay.ratio
        found = rehearse(values, training.weights, refit, blur, training.msi_noise, refined=refined, seed=settings.seed)
        if found is not None:
            errors = replace(errors, needed=found.needed, refined_share=found.refined_share)
    listener.progress("calibrating", 1.0)
    return errors


def standard_error(
    msi: xr.DataArray,
    msi_bands: tuple[int, ...],
    trained: Trained,
    errors: ErrorModel,
    relation: Harmonization | None = None,
) -> xr.DataArray:
    """Give the standard error of every output pixel and band, lazily: (band, y, x) on the MSI's grid, bad bands NaN."""
    data = da.asarray(msi.data)[list(msi_bands)]
    bands, good = trained.bands, trained.good

    def block(values: np.ndarray) -> np.ndarray:
        valid = np.isfinite(values).all(axis=0)
        values = np.where(valid, values, np.float32(np.nan))
        out = np.full((len(bands), *values.shape[1:]), np.nan, np.float32)
        out[good] = errors.sigma(values if relation is None else relation.apply(values))
        return out

    lazy = data.map_blocks(
        block, chunks=((len(bands),), *data.chunks[1:]), dtype=np.float32, meta=np.empty((0, 0, 0), np.float32)
    )
    return make_cube(lazy, grid=grid_of(msi), bands=bands, attrs={"quantity": "standard error"})
