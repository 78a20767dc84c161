"""Screen an HSI before anything is learned of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from geolift.datamodel.cube import bands_of, grid_of, make_cube
from geolift.pair.screening.bad_values import mend_values
from geolift.pair.screening.describe import (
    bad_value_faults,
    dead_faults,
    doubled_faults,
    noisy_band_faults,
    stripe_faults,
)
from geolift.pair.screening.findings import NOT_SCREENED, NOTHING_FOUND, Fault, Screening, only_told
from geolift.pair.screening.repeated import is_repeated
from geolift.pair.screening.source_grid import on_resolved_grid, without_repetitions
from geolift.pair.screening.survey import Survey, strips, survey_hsi
from geolift.settings import ScreenSettings

FEWEST_BANDS = 8
"""Bands with which a spectrum says what its bands should be."""


def screen_hsi(hsi: xr.DataArray, good: NDArray[np.intp], settings: ScreenSettings) -> tuple[xr.DataArray, Screening]:
    """Find the faults of an HSI, set right what is safe, and leave out what is not.

    The result does not depend on the blocks the image is read in. With nothing found, it is the very image given.

    Parameters
    ----------
    hsi : DataArray (band, y, x)
        Masked; NaN = invalid.
    good
        0-based bands that take part.
    settings
        Whether to look, and whether to act.

    Returns
    -------
    hsi, screening
        The image to go on with, lazy if the one given is, and what was found.
    """
    bands = bands_of(hsi)
    good = np.asarray(good, np.intp)
    if settings.screen == "off" or good.size < FEWEST_BANDS:
        return hsi, NOT_SCREENED
    order = good[np.argsort(bands.wavelength_nm[good], kind="stable")]
    given, survey = hsi, survey_hsi(hsi.data, order)
    faults: tuple[Fault, ...] = ()
    doubled = survey.doubled_lines.any() or survey.doubled_columns.any()
    if not doubled and is_repeated(survey.down, survey.right):
        hsi, fault = without_repetitions(hsi, survey)
        faults = (fault,)
    if hsi is given and (resolved := on_resolved_grid(hsi, order, survey)) is not None:
        hsi, fault = resolved
        faults = (fault,)
    survey = survey if hsi is given else survey_hsi(hsi.data, order)
    repair = Repair(order, survey)
    singles = (
        *dead_faults(survey, bands, order),
        *doubled_faults(survey),
        *bad_value_faults(survey, bands, order),
        *stripe_faults(survey),
        *noisy_band_faults(survey, bands, order),
    )
    faults += singles
    if not faults:
        return given, NOTHING_FOUND
    if settings.screen == "report":
        return given, Screening(tuple(only_told(fault) for fault in faults))
    return _applied(hsi, repair) if singles else hsi, Screening(faults)


@dataclass(frozen=True, eq=False)
class Repair:
    """What becomes of each block of an HSI.

    Parameters
    ----------
    order
        (B,) the bands that take part, in the order of their wavelengths.
    survey
        What was found in them.
    """

    order: NDArray[np.intp]
    survey: Survey

    def block(self, values: np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Return a block (band, y, x) mended; the same array where nothing is wrong with it."""
        spectra = values[self.order]
        wrong, stripes = self.survey.wrong(spectra, rows, cols), self.survey.stripes
        if wrong is None and stripes is None and self.survey.noisy is None:
            return values
        out = np.array(values, np.float32)
        if wrong is not None:
            spectra = mend_values(spectra, wrong, self.survey.limits)
        if stripes is not None:
            gain = stripes.gain[:, None, cols] if stripes.axis == 2 else stripes.gain[:, rows, None]
            spectra = (spectra / gain).astype(np.float32)
        if self.survey.noisy is not None:
            spectra = self.survey.noisy.replaced(spectra)
        out[self.order] = spectra
        return out


def _applied(hsi: xr.DataArray, repair: Repair) -> xr.DataArray:
    """Return the HSI with each block mended: in memory if it is, else lazily."""
    if isinstance(hsi.data, np.ndarray):
        data: Any = np.array(hsi.data)
        for rows in strips(data.shape):
            data[:, rows] = repair.block(data[:, rows], rows, slice(0, data.shape[2]))
    else:

        def block(values: np.ndarray, block_info: Any = None) -> np.ndarray:
            _, rows, cols = block_info[0]["array-location"]
            return repair.block(values, slice(*rows), slice(*cols))

        data = da.asarray(hsi.data).rechunk({0: -1})
        data = data.map_blocks(block, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
    return make_cube(data, grid=grid_of(hsi), bands=bands_of(hsi), attrs=hsi.attrs)
