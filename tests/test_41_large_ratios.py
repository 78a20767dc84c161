"""Large ratios: the MSI is read once or little more, in memory that does not grow with it."""

from __future__ import annotations

import threading

import dask.array as da
import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from geolift.datamodel.cube import Bands, make_cube
from geolift.degradation.sampling import degrade_msi
from geolift.pair import degraded
from geolift.pair.coregistration import Window
from geolift.pair.degraded import degrade_along, degrade_by_rows, degrade_overlay
from geolift.pair.overlay import Overlay, overlay
from geolift.refinement.footprint import gaussian_footprint
from geolift.refinement.windows import STRIP_PX, block_edge

TILE = 256


class Counted:
    """A made-up MSI of one band, lazy in tiles; counts the pixels that are read and remembers the largest read."""

    def __init__(self, size: int) -> None:
        self.size, self.pixels, self._lock = size, 0, threading.Lock()
        sizes = tuple(min(TILE, size - first) for first in range(0, size, TILE))
        self.data = da.map_blocks(
            self._block, chunks=((1,), sizes, sizes), dtype=np.float32, meta=np.empty((0, 0, 0), np.float32)
        )

    def values(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        return (np.sin(rows[:, None] / 37) + np.cos(cols / 23) + 3).astype(np.float32)[None]

    def _block(self, block_info: dict) -> np.ndarray:  # type: ignore[type-arg]
        (_, _), rows, cols = block_info[None]["array-location"]
        with self._lock:
            self.pixels += (rows[1] - rows[0]) * (cols[1] - cols[0])
        return self.values(np.arange(*rows), np.arange(*cols))


def laid_over(source: Counted, ratio: int, turned: float = 0.0) -> Overlay:
    affine = Affine.translation(4e5, 6e6) * Affine.rotation(turned) * Affine.scale(1, -1)
    grid = GeoBox((source.size, source.size), affine, "EPSG:32633")
    nothing = Bands(("a",), np.full(1, np.nan), np.full(1, np.nan), np.ones(1, bool))
    msi = make_cube(source.data, grid=grid, bands=nothing)
    size = source.size // ratio
    hsi_grid = GeoBox((size, size), Affine(ratio, 0, 4e5, 0, -ratio, 6e6), "EPSG:32633")
    overlap = overlay(make_cube(np.zeros((1, size, size), np.float32), grid=hsi_grid, bands=nothing), msi, ratio)
    assert overlap is not None
    return overlap


@pytest.mark.parametrize(("ratio", "size"), [(6, 2400), (20, 3000), (30, 4200), (100, 6000)])
def test_comparing_reads_each_pixel_of_the_msi_at_most_one_point_three_times(ratio: int, size: int) -> None:
    source = Counted(size)
    found = degrade_overlay(laid_over(source, ratio), (0.3 * ratio, -0.4), (0.425 * ratio,) * 2)
    assert source.pixels <= 1.3 * size**2
    assert np.isfinite(found).mean() > 0.9


def test_between_grids_turned_against_each_other_little_is_read_twice() -> None:
    source = Counted(4096)
    degrade_overlay(laid_over(source, 32, turned=2.0), (0.0, 0.0), (13.0, 13.0))
    assert source.pixels <= 1.5 * source.size**2


def test_along_a_field_of_shifts_little_is_read_twice() -> None:
    source = Counted(4096)
    overlap = laid_over(source, 16)
    along = degrade_along(overlap, lambda window: (3.0, -2.0), (6.0, 6.0), 8)
    assert source.pixels <= 1.5 * source.size**2
    at_once = degrade_overlay(overlap, (3.0, -2.0), (6.0, 6.0))
    inside = (slice(None), slice(3, -3), slice(3, -3))
    assert np.isfinite(at_once[inside]).all()
    np.testing.assert_allclose(along[inside], at_once[inside], rtol=1e-5)


@pytest.mark.parametrize("ratio", [2, 6, 12, 20, 30, 100])
def test_the_residual_sees_each_fine_pixel_at_most_one_point_three_times_in_small_strips(ratio: int) -> None:
    margin = gaussian_footprint(ratio, (0.2, 0.1), (0.425 * ratio,) * 2).margin_lr
    edge = block_edge(ratio, margin)
    assert ((edge + 2 * margin) / edge) ** 2 <= 1.31
    rows = max(1, STRIP_PX // ((edge + 2 * margin) * ratio**2))
    assert rows * (edge + 2 * margin) * ratio**2 <= max(STRIP_PX, 32 * 100**2)


@pytest.mark.parametrize(("ratio", "shape", "shift"), [(3, (40, 50), (0.4, -1.2)), (30, (12, 9), (17.3, -40.2))])
def test_row_by_row_gives_what_the_whole_image_gives(
    ratio: int, shape: tuple[int, int], shift: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(degraded, "STRIP_PX", 20_000)
    margin, blur = 8, (0.425 * ratio, 0.3 * ratio)
    height, width = ((size + 2 * margin) * ratio for size in shape)
    fine = np.random.default_rng(0).random((2, height, width), dtype=np.float32)
    fine[:, 30:33, 40:44] = np.nan
    fine[1, :, -(margin + 4) * ratio :] = np.nan

    def read(row: int, col: int, rows: int, cols: int) -> np.ndarray:
        top, left = (row + margin) * ratio, (col + margin) * ratio
        return fine[:, top : top + rows * ratio, left : left + cols * ratio]

    found, expected = degrade_by_rows(read, shape, ratio, shift, blur), degrade_msi(fine, ratio, margin, shift, blur)
    assert (np.isnan(found) == np.isnan(expected)).all()
    assert np.isnan(found).any()
    assert np.nanmax(np.abs(found - expected)) < 1e-4  # the level that stands in for invalid pixels is another


def test_a_footprint_sees_strips_as_it_sees_the_whole() -> None:
    footprint, shape = gaussian_footprint(5, (0.7, -1.1), (2.0, 2.4)), (13, 9)
    margin = footprint.margin_lr
    fine = np.random.default_rng(1).random((3, *((size + 2 * margin) * 5 for size in shape)), dtype=np.float32)
    fine[:, 20:24, 10:40] = np.nan

    def read(row: int, count: int) -> np.ndarray:
        return fine[:, (row + margin) * 5 : (row + margin + count) * 5]

    found = footprint.degrade_by_rows(read, shape, 2)
    np.testing.assert_allclose(found, footprint.degrade(fine, margin), rtol=1e-5)


def test_a_window_of_an_overlay_is_the_same_after_any_other() -> None:
    source = Counted(1000)
    overlap, fresh = laid_over(source, 10), laid_over(Counted(1000), 10)
    for window in (Window(0, 0, 30, 40), Window(30, 0, 30, 40), Window(20, 5, 40, 40), Window(90, 60, 10, 40)):
        place = window.y, window.x, window.height, window.width, 2
        np.testing.assert_array_equal(overlap.read(*place), laid_over(Counted(1000), 10).read(*place))
    assert fresh.ratio == overlap.ratio
