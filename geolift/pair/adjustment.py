"""The MSI set right before anything is made of it: bands coarse or apart, gains and offsets that vary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geolift.datamodel.alignment import positions_on
from geolift.datamodel.cube import bands_of, grid_of, make_cube
from geolift.pair.band_alignment import move_band, reach_px
from geolift.pair.coarse_bands import CoarseBands
from geolift.pair.local_relation import LocalRelation
from geolift.pair.scene_pair import ScenePair


@dataclass(frozen=True, eq=False)
class MsiAdjustment:
    """What an MSI's bands need to lie on each other and to relate to the HSI alike everywhere.

    Parameters
    ----------
    hsi_grid
        The HSI's grid, to which positions of ``local`` refer.
    coarse
        Sharpens bands that are coarser than their pixels, before everything else. None = none.
    band_shifts_px
        (c, 2) dy, dx of each used band in MSI pixels: the motion that brings the others onto it. None = none.
    local
        Gains and offsets that vary over the scene, before everything else of the relation. None = none.
    """

    hsi_grid: GeoBox
    band_shifts_px: NDArray[np.float64] | None = None
    local: LocalRelation | None = None
    coarse: CoarseBands | None = None

    @property
    def is_none(self) -> bool:
        """Whether the MSI stays as it is."""
        return self.band_shifts_px is None and self.local is None and self.coarse is None

    def applied(self, msi: xr.DataArray, bands: Sequence[int]) -> xr.DataArray:
        """Set bands of an MSI (band, y, x) right, lazily; NaN stays NaN.

        ``bands``: 0-based, in the order of the adjustment.
        """
        if self.is_none:
            return msi
        data, grid = da.asarray(msi.data), grid_of(msi)
        if self.coarse is not None:
            data = _sharpened(data, bands, self.coarse)
        if self.band_shifts_px is not None:
            data = self._aligned(data, bands, self.band_shifts_px)
        if self.local is not None:
            data = self._evened(data, bands, grid, self.local)
        return make_cube(data, grid=grid, bands=bands_of(msi), attrs=msi.attrs)

    def _aligned(self, data: da.Array, bands: Sequence[int], shifts: NDArray[np.float64]) -> da.Array:
        def block(values: np.ndarray) -> np.ndarray:
            out = values.astype(np.float32)
            for band, (dy, dx) in zip(bands, shifts, strict=True):
                out[band] = move_band(values[band], float(dy), float(dx))
            return out

        whole = data.rechunk({0: -1})
        reach = reach_px(shifts)
        moved: da.Array = da.map_overlap(
            block, whole, depth={0: 0, 1: reach, 2: reach}, boundary=np.nan, dtype=np.float32,
            meta=np.empty((0, 0, 0), np.float32),
        )  # fmt: skip
        return moved

    def _evened(self, data: da.Array, bands: Sequence[int], grid: GeoBox, local: LocalRelation) -> da.Array:
        places, which = _positions(grid, self.hsi_grid), list(bands)

        def block(values: np.ndarray, block_info: Any = None) -> np.ndarray:
            _, (row, row_end), (col, col_end) = block_info[0]["array-location"]
            out = values.astype(np.float32)
            out[which] = local.apply(values[which], *places(slice(row, row_end), slice(col, col_end)))
            return out

        whole = data.rechunk({0: -1})
        evened: da.Array = whole.map_blocks(block, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
        return evened


def _sharpened(data: da.Array, bands: Sequence[int], coarse: CoarseBands) -> da.Array:
    reach, which = coarse.reach_px, list(bands)

    def block(values: np.ndarray, block_info: Any = None) -> np.ndarray:
        (_, *number), (_, *located) = (block_info[0][key] for key in ("chunk-location", "array-location"))
        row, col = (first - (2 * n + 1) * reach for n, (first, _) in zip(number, located, strict=True))
        out = values.astype(np.float32)
        out[which] = coarse.sharpened(out[which], row, col)
        return out

    sharpened: da.Array = da.map_overlap(
        block, data.rechunk({0: -1}), depth={0: 0, 1: reach, 2: reach}, boundary=np.nan, dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )  # fmt: skip
    return sharpened


def _positions(grid: GeoBox, hsi_grid: GeoBox) -> Any:
    """Tell where pixels of a window lie on the HSI's grid, the centre of its first pixel at 0.

    Told for the whole image, so that a pixel's position does not depend on the window (law 1).
    """
    down, across = positions_on(grid, hsi_grid)
    if down.shape[1] == 1:
        return lambda rows, cols: (down[rows] - 0.5, across[:, cols] - 0.5)
    return lambda rows, cols: (down[rows, cols] - 0.5, across[rows, cols] - 0.5)


def adjusted_pair(pair: ScenePair, adjustment: MsiAdjustment) -> ScenePair:
    """Return the pair with the MSI set right; what is masked keeps its values and takes no part."""
    if adjustment.is_none:
        return pair
    msi = adjustment.applied(pair.unmasked_msi, pair.spectra.msi_bands)
    if pair.msi_mask is not None:
        values = da.where(pair.msi_mask[None], da.asarray(pair.msi.data), da.asarray(msi.data))
        msi = make_cube(values, grid=grid_of(msi), bands=bands_of(msi), attrs=pair.msi.attrs)
    return replace(pair, msi=msi)
