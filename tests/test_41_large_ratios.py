"""Large ratios: the MSI is read once or little more, in memory that does not grow with it."""

from __future__ import annotations

import threading
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from scenes import spectra_of, write

from geolift.datamodel.cube import Bands, make_cube
from geolift.degradation.sampling import area_mean, degrade_msi
from geolift.pair import degraded, held
from geolift.pair.coregistration import Window
from geolift.pair.degraded import degrade_along, degrade_by_rows, degrade_overlay
from geolift.pair.held import hold
from geolift.pair.overlay import Overlay, overlay
from geolift.pipeline import pair_check
from geolift.refinement.footprint import gaussian_footprint
from geolift.refinement.windows import STRIP_PX, block_edge
from geolift.settings import PairSettings
from geolift.srf import SpectralResponse

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


@pytest.mark.parametrize(("ratio", "size"), [(6, 2400), (20, 3000), (31, 3720), (100, 6000)])
def test_what_is_held_was_read_once_and_shows_hsi_pixels_what_the_image_shows_them(
    ratio: int, size: int, tmp_path: Path
) -> None:
    source = Counted(size)
    overlap = hold(laid_over(source, ratio), tmp_path)
    place, blur = np.array([0.3, -0.1]), 0.425
    found = degrade_overlay(overlap, tuple(place * overlap.ratio), (blur * overlap.ratio,) * 2)
    overlap.read(0, 0, *overlap.grid.shape, 8)
    assert source.pixels <= 1.3 * size**2
    assert overlap.ratio <= 12
    assert overlap.finest.ratio == ratio
    expected = degrade_overlay(laid_over(Counted(size), ratio), tuple(place * ratio), (blur * ratio,) * 2)
    known = np.isfinite(found) & np.isfinite(expected)
    assert known.mean() > 0.9 * np.isfinite(expected).mean()
    assert np.abs(found - expected)[known].max() < 0.01 * np.nanstd(expected)


@pytest.mark.parametrize(("ratio", "kept"), [(30, 10), (31, 11), (13, 7)])
def test_an_area_mean_keeps_the_means_of_hsi_pixels_and_leaves_out_what_is_invalid(ratio: int, kept: int) -> None:
    image = np.random.default_rng(0).random((2, 3 * ratio, 4 * ratio), dtype=np.float32)
    means = [
        part.reshape(2, 3, n, 4, n).mean(axis=(2, 4))
        for part, n in ((image, ratio), (area_mean(image, ratio, kept), kept))
    ]
    np.testing.assert_allclose(means[0], means[1], rtol=1e-5)
    image[:, 5, 7] = np.nan
    image[:, -ratio:, -ratio:] = np.nan
    seen = area_mean(image, ratio, kept)
    assert np.isnan(seen[:, -kept:, -kept:]).all()
    assert np.isfinite(seen[:, :-kept]).all()


def test_at_a_large_ratio_shift_and_saturation_are_told_in_pixels_of_the_msi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratio, size, nm = 15, 34, np.linspace(420, 1000, 30)
    truth = spectra_of(nm, *((size + 2) * 3,) * 2).repeat(5, 1).repeat(5, 2)
    low = truth[:, ratio + 4 : -ratio + 4, ratio - 7 : -ratio - 7]
    low = low.reshape(30, size, ratio, size, ratio).mean(axis=(2, 4))
    names, fwhm = ("B02", "B03", "B04", "B08"), np.full(30, 21.0)
    weights = SpectralResponse.from_library("sentinel-2a").select(names).weights(nm, fwhm).weights
    msi = np.einsum("cb,byx->cyx", weights, truth)[:, ratio:-ratio, ratio:-ratio]
    files = (
        write(tmp_path / "h.tif", low, gsd=10 * ratio, wavelength_nm=nm, fwhm_nm=fwhm),
        write(tmp_path / "m.tif", np.minimum(msi, np.quantile(msi[3], 0.97)), gsd=10, names=names),
    )
    settings = PairSettings(sensor="sentinel-2a")
    told = pair_check.coregister_files(*files, None, settings)
    assert told["shift_msi_px"]["dy"] == pytest.approx(4, abs=0.2)
    assert told["shift_msi_px"]["dx"] == pytest.approx(-7, abs=0.2)
    codes = [finding["code"] for finding in pair_check.check_files(*files, settings)["verdict"]]
    assert "saturation" in codes
    monkeypatch.setattr(held, "MOST_PX_PER_LR", ratio)
    unreduced = pair_check.coregister_files(*files, None, settings)
    assert told["sigma_dy"] == pytest.approx(unreduced["sigma_dy"], abs=0.05)
    assert told["shift_m"]["dx"] == pytest.approx(unreduced["shift_m"]["dx"], abs=2)


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
