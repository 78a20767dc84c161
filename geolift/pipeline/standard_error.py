"""The product's standard error: calibrated on the scene, and put on the product's grid."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr

from geolift.datamodel.cube import grid_of, make_cube
from geolift.pair.comparison import Comparison
from geolift.pair.fine_msi import look_at_fine_msi, telling_window
from geolift.pair.harmonization import Harmonization
from geolift.pair.scene_pair import ScenePair
from geolift.pipeline.interpolation import comparable_msi
from geolift.pipeline.run import Run
from geolift.pipeline.trained import Trained
from geolift.runtime.progress import advance
from geolift.training.training_set import TrainingSet

if TYPE_CHECKING:
    from geolift.network.model import SpectralModel
    from geolift.refinement import Refined
    from geolift.uncertainty.calibration import ErrorModel


def calibrate(
    pair: ScenePair, compared: Comparison | None, training: TrainingSet, run: Run, refined: Refined | None
) -> ErrorModel | None:
    """Calibrate the standard error on held-out blocks of the HSI, and at reduced resolution.

    ``compared``: the MSI on the HSI's grid; None where they do not overlap. ``refined``: what became of the refinement.
    Returns None if there are too few HSI pixels to hold some out, which the run is told.
    """
    from geolift.training.fit import fit
    from geolift.uncertainty.calibration import fit_errors, observed_pixels
    from geolift.uncertainty.reduced_resolution import WINDOW_PX, assess_at_reduced_resolution

    settings = run.settings

    def refit(part: TrainingSet, **more: Any) -> SpectralModel:
        options = {"device": run.device, "threads": run.threads, **settings.method_options, **more}
        return fit(settings.method, part, seed=settings.seed, **options)

    twice = refined is not None and bool(refined.facts.get("learned_twice", {}).get("applied"))

    advance("calibrating", 0.0)
    fine = None if compared is None else look_at_fine_msi(compared)
    if compared is None or fine is None:
        errors = fit_errors(training, refit, None, settings.seed)
    else:
        spread = fine.contrast * training.simulated.std(axis=0)
        seen, (values, place) = comparable_msi(compared), telling_window(pair, compared, WINDOW_PX)
        blur = compared.blur_sigma_px[0] / compared.overlay.ratio, compared.blur_sigma_px[1] / compared.overlay.ratio
        corner = compared.overlay.rows.start, compared.overlay.cols.start
        observed = observed_pixels(seen, training.rows, training.cols, corner)
        errors = fit_errors(training, refit, spread, settings.seed, observed)
        advance("calibrating", 0.5)
        found = assess_at_reduced_resolution(
            values, training.weights, refit, blur, training.msi_noise,
            refined=refined is not None and refined.correction is not None,
            degraded=seen[(slice(None), *place)],
            trial=(lambda part: refit(part, learned=False)) if twice else None, seed=settings.seed,
        )  # fmt: skip
        if errors is not None and found is not None:
            errors = replace(errors, needed=found.needed, refined_share=found.refined_share)
    advance("calibrating", 1.0)
    if errors is None:
        run.warn("too few HSI pixels to hold some out: no uncertainty can be given")
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
