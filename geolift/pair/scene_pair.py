"""The pair: an HSI and an MSI of one place, with everything that was settled about the two."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import dask.array as da
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geolift.datamodel.cube import crop, grid_of
from geolift.pair.masks import mask_of, without
from geolift.pair.region import RegionPlan
from geolift.pair.screening.findings import NOT_SCREENED, Screening
from geolift.pair.spectra import SpectralPlan
from geolift.settings import MaskSettings


@dataclass(frozen=True, eq=False, kw_only=True)
class ScenePair:
    """An HSI and an MSI of one place, what is masked of them, their bands and the window of the product settled.

    Parameters
    ----------
    hsi : DataArray (band, y, x)
        All its bands, on its own grid, never resampled; NaN = invalid or masked.
    msi : DataArray (band, y, x)
        All its bands, on its own grid; NaN = invalid. What is masked still has its values.
    msi_mask : bool dask array (y, x) or None
        What the mask hides of the MSI, on its grid; None = nothing is masked.
    spectra
        Which bands take part, and the SRF weights between them.
    region
        The window of the MSI's grid that is produced.
    screening
        What was found of faults in the HSI, and what became of them.
    """

    hsi: xr.DataArray
    msi: xr.DataArray
    msi_mask: da.Array | None
    spectra: SpectralPlan
    region: RegionPlan
    screening: Screening = NOT_SCREENED

    @cached_property
    def hsi_grid(self) -> GeoBox:
        """The grid of the HSI."""
        return grid_of(self.hsi)

    @cached_property
    def msi_grid(self) -> GeoBox:
        """The grid of the whole MSI."""
        return grid_of(self.msi)

    @cached_property
    def learned_bands(self) -> np.ndarray:
        """0-based bands of the HSI that are learned, in the order of ``spectra.weights``."""
        return self.spectra.learned_bands

    @cached_property
    def unmasked_msi(self) -> xr.DataArray:
        """All bands of the MSI, NaN where it is masked."""
        return without(self.msi, self.msi_mask)

    @cached_property
    def used_msi(self) -> xr.DataArray:
        """The MSI's bands that are used (c, y, x), in the order of ``spectra.msi_names``; NaN where masked."""
        return self.unmasked_msi.isel(band=list(self.spectra.msi_bands))

    @cached_property
    def product_msi(self) -> xr.DataArray:
        """All bands of the MSI in the window of the product, NaN where masked."""
        return crop(self.unmasked_msi, self.region.rows, self.region.cols)

    @cached_property
    def product_mask(self) -> da.Array:
        """What the mask hides in the window of the product, bool (y, x)."""
        data = da.asarray(self.product_msi.data)
        nothing: da.Array = da.zeros(data.shape[1:], chunks=data.chunks[1:], dtype=bool)
        return nothing if self.msi_mask is None else da.asarray(self.msi_mask[self.region.rows, self.region.cols])


def masked_pair(
    hsi: xr.DataArray, msi: xr.DataArray, spectra: SpectralPlan, region: RegionPlan, settings: MaskSettings
) -> ScenePair:
    """Make the pair of two cubes, without what their quality layers or the user's mask hide.

    Raises InputError if a mask file is missing, no raster, or of another place.
    """
    mask = mask_of(msi, settings.mask, settings.mask_dilate)
    hsi = without(hsi, None if settings.mask == "none" else mask_of(hsi, "auto"))
    return ScenePair(hsi=hsi, msi=msi, msi_mask=mask, spectra=spectra, region=region)
