"""Which window of the MSI's grid is produced."""

from __future__ import annotations

from dataclasses import dataclass

import xarray as xr
from odc.geo.geobox import GeoBox

from geolift.datamodel.alignment import bounds_on, gsd_m, gsd_ratio, require_north_up, window_of
from geolift.datamodel.cube import grid_of
from geolift.errors import InputError, NoOverlapError, UsageError
from geolift.settings import RegionSettings


@dataclass(frozen=True, kw_only=True)
class RegionPlan:
    """The window of the MSI grid that is produced; ``grid`` is the window's own grid, ``ratio`` HSI to MSI GSD."""

    rows: slice
    cols: slice
    grid: GeoBox
    ratio: float
    hsi_gsd_m: float
    msi_gsd_m: float

    def to_json(self) -> dict[str, object]:
        """Return shape, window and GSDs."""
        return {
            "shape": [int(n) for n in self.grid.shape],
            "window": {"row": self.rows.start, "col": self.cols.start},
            "ratio": round(self.ratio, 6),
            "hsi_gsd_m": round(self.hsi_gsd_m, 6),
            "msi_gsd_m": round(self.msi_gsd_m, 6),
        }


def plan_region(hsi: xr.DataArray, msi: xr.DataArray, settings: RegionSettings) -> RegionPlan:
    """Settle which window of the MSI grid is produced.

    Raises InputError if a grid cannot be used, or HSI, MSI and --bounds do not meet.
    """
    hsi_grid, msi_grid = grid_of(hsi), grid_of(msi)
    hsi_name, msi_name = (str(c.attrs.get("source", n)) for c, n in ((hsi, "HSI"), (msi, "MSI")))
    for cube, grid, name in ((hsi, hsi_grid, hsi_name), (msi, msi_grid, msi_name)):
        require_north_up(grid, name, cube.attrs.get("georeference"))
    overlap = window_of(msi_grid, bounds_on(hsi_grid, msi_grid))
    if overlap is None:
        raise NoOverlapError(
            f"{hsi_name} and {msi_name} do not overlap: {_box_text(bounds_on(hsi_grid, msi_grid))} against "
            f"{_box_text(bounds_on(msi_grid, msi_grid))} in the MSI's CRS. Is one CRS wrong?"
        )
    window = (slice(0, msi_grid.shape[0]), slice(0, msi_grid.shape[1])) if settings.extent == "msi" else overlap
    window = cut_to_bounds(msi_grid, window, settings, msi_name)
    return RegionPlan(
        rows=window[0],
        cols=window[1],
        grid=msi_grid[window],
        ratio=gsd_ratio(hsi_grid, msi_grid),
        hsi_gsd_m=gsd_m(hsi_grid),
        msi_gsd_m=gsd_m(msi_grid),
    )


def cut_to_bounds(
    grid: GeoBox, window: tuple[slice, slice], settings: RegionSettings, name: str
) -> tuple[slice, slice]:
    """Intersect a window with --bounds (left, bottom, right, top in the grid's CRS)."""
    if settings.bounds is None:
        return window
    left, bottom, right, top = settings.bounds
    if left >= right or bottom >= top:
        raise UsageError(f"--bounds: left,bottom,right,top is expected, got {settings.bounds}")
    asked = window_of(grid, settings.bounds)
    if asked is not None:
        rows = slice(max(window[0].start, asked[0].start), min(window[0].stop, asked[0].stop))
        cols = slice(max(window[1].start, asked[1].start), min(window[1].stop, asked[1].stop))
        if rows.start < rows.stop and cols.start < cols.stop:
            return rows, cols
    raise InputError(f"--bounds {settings.bounds}: nothing of {name} (with --extent) lies there")


def _box_text(bounds: tuple[float, float, float, float]) -> str:
    left, bottom, right, top = bounds
    return f"x {left:.6g} to {right:.6g}, y {bottom:.8g} to {top:.8g}"
