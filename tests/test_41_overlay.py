"""Overlay: after any alignment a pixel still says where it came from."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from geolift.datamodel.alignment import bounds_in
from geolift.datamodel.cube import Bands, make_cube
from geolift.pair.overlay import overlay

HSI = GeoBox((20, 24), Affine(30, 0, 364095, 0, -30, 5809965), "EPSG:32633")


def cube(values: np.ndarray, grid: GeoBox) -> xr.DataArray:
    bands = len(values)
    unknown = np.full(bands, np.nan)
    return make_cube(values, grid=grid, bands=Bands(("a",) * bands, unknown, unknown, np.ones(bands, bool)))


def painted(grid: GeoBox) -> xr.DataArray:
    """Paint an MSI with the HSI-CRS coordinates of its own pixel centres, in metres from the HSI's corner."""
    rows, cols = grid.shape
    xs, ys = grid.affine * tuple(np.meshgrid(np.arange(cols) + 0.5, np.arange(rows) + 0.5))
    xs, ys = Transformer.from_crs(grid.crs.proj, HSI.crs.proj, always_xy=True).transform(xs, ys)
    return cube(np.stack([xs - 364095, 5809965 - ys]).astype(np.float32), grid)


def target_coordinates(height: int, width: int, ratio: int, margin: int) -> tuple[np.ndarray, np.ndarray]:
    fine = 30 / ratio
    x = (np.arange((width + 2 * margin) * ratio) + 0.5) * fine - margin * 30
    y = (np.arange((height + 2 * margin) * ratio) + 0.5) * fine - margin * 30
    return x, y


def test_nested_pixels_are_taken_as_they_are() -> None:
    msi = GeoBox((90, 100), Affine(10, 0, 364095 - 120, 0, -10, 5809965 + 90), "EPSG:32633")
    overlap = overlay(cube(np.zeros((1, 20, 24)), HSI), painted(msi), 3.0)
    assert overlap is not None
    assert overlap.ratio == 3
    found = overlap.read(0, 0, 20, 24, 2)
    x, y = target_coordinates(20, 24, 3, 2)
    assert np.array_equal(np.nan_to_num(found[0], nan=-1), np.broadcast_to(x, found[0].shape).astype(np.float32))
    assert np.allclose(found[1], y[:, None])


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:32632", "EPSG:3857", "EPSG:4326"])
def test_warped_pixels_lie_where_they_should_and_windows_agree(crs: str) -> None:
    left, bottom, right, top = bounds_in(HSI, GeoBox((1, 1), Affine.identity(), crs).crs)
    pad = 0.15 * (right - left)
    affine = Affine((right - left + 2 * pad) / 91.7, 0, left - pad, 0, -(top - bottom + 2 * pad) / 83.3, top + pad)
    msi = painted(GeoBox((84, 92), affine, crs))
    overlap = overlay(cube(np.zeros((1, 20, 24)), HSI), msi, 3.2)
    assert overlap is not None
    whole = overlap.read(0, 0, 20, 24, 1)
    x, y = target_coordinates(20, 24, 3, 1)
    inside = np.isfinite(whole[0])
    assert inside.mean() > 0.99
    assert np.abs(whole[0] - x)[inside].max() < 0.1
    assert np.abs(whole[1] - y[:, None])[inside].max() < 0.1
    part = overlap.read(5, 7, 6, 8, 1)
    assert np.abs(part - whole[:, 15:39, 21:51]).max() < 0.02


def test_a_shift_converts_to_msi_pixels_and_back() -> None:
    msi = GeoBox((84, 92), Affine(9.1, 0, 364095 - 30, 0, -9.1, 5809965 + 30), "EPSG:32633")
    overlap = overlay(cube(np.zeros((1, 20, 24)), HSI), painted(msi), 30 / 9.1)
    assert overlap is not None
    dy, dx = overlap.shift_msi_px(1.5, -2.0)
    assert (dy, dx) == pytest.approx((1.5 * 10 / 9.1, -2.0 * 10 / 9.1))
    assert overlap.fine_shift(dy, dx) == pytest.approx((1.5, -2.0))
    assert overlap.shift_units(1.5, -2.0) == pytest.approx((-20.0, -15.0))


def test_invalid_pixels_do_not_leak_into_warped_neighbours() -> None:
    msi = GeoBox((84, 92), Affine(10, 0, 364095 - 34, 0, -10, 5809965 + 34), "EPSG:32633")
    values = np.full((2, 84, 92), 0.5, np.float32)
    values[0, 40:44, 40:44] = np.nan
    overlap = overlay(cube(np.zeros((1, 20, 24)), HSI), cube(values, msi), 3.0)
    assert overlap is not None
    found = overlap.read(0, 0, 20, 24, 0)
    assert np.array_equal(np.isnan(found[0]), np.isnan(found[1]))
    assert np.isnan(found[0]).sum() > 4
    assert np.nanmax(np.abs(found - 0.5)) < 1e-6
