"""Faults of the HSI: each is planted, found by name and place, and does no harm; clean images stay untouched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy import ndimage

from geolift.datamodel.cube import Bands, grid_of, make_cube
from geolift.pair.screening import Screening, screen_hsi
from geolift.pair.screening.survey import lattice_sample
from geolift.readers import open_cube
from geolift.settings import Reading, ScreenSettings

BANDS, ROWS, COLS = 60, 40, 48
CENTRES_NM = np.linspace(420, 2400, BANDS)
SCENES = Path(__file__).parent.parent.parent / "shared" / "data"


@pytest.fixture
def values() -> NDArray[np.float32]:
    """Five materials in fields, mixed at their edges, with noise of 1 in 150."""
    rng = np.random.default_rng(3)
    spectra = 0.25 + 0.2 * ndimage.gaussian_filter1d(rng.standard_normal((5, BANDS)), 6, axis=1) / 0.25
    spectra = np.clip(spectra, 0.02, 0.7)
    fields = ndimage.gaussian_filter(rng.standard_normal((5, ROWS, COLS)), (0, 2, 2)) * 12
    shares = np.exp(fields) / np.exp(fields).sum(axis=0)
    cube = np.einsum("mb,myx->byx", spectra, shares)
    return np.asarray(cube * (1 + rng.standard_normal(cube.shape) / 150), np.float32)


def cube_of(values: NDArray[np.float32], chunks: tuple[int, int] | None = None) -> xr.DataArray:
    data = values if chunks is None else da.from_array(values, chunks=(len(values), *chunks))
    centres = np.linspace(420, 2400, len(values))
    names = tuple(f"band {i + 1}" for i in range(len(values)))
    bands = Bands(names, centres, np.full(len(values), 20.0), np.ones(len(values), bool))
    grid = GeoBox(values.shape[1:], Affine(30, 0, 400_000, 0, -30, 5_800_000), "EPSG:32633")
    return make_cube(data, grid=grid, bands=bands)


def screened(values: NDArray[np.float32], **how: str) -> tuple[NDArray[np.float32], Screening]:
    cube, screening = screen_hsi(cube_of(values), np.arange(len(values)), ScreenSettings(**how))
    return np.asarray(cube.values), screening


def test_the_sample_is_every_nth_pixel_and_reads_each_block_once(
    values: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geolift.pair.screening.survey.SAMPLE_PX", 130)  # every fourth
    read: list[object] = []

    def note(block: NDArray[np.float32], block_info: object = None) -> NDArray[np.float32]:
        read.append(block_info[None]["chunk-location"])  # type: ignore[index]
        return block

    for chunks in ((7, 48), (3, 5), (40, 48)):
        read.clear()
        lazy = da.from_array(values, chunks=(BANDS, *chunks)).map_blocks(note, dtype=np.float32, meta=values[:0])
        sample = lattice_sample(lazy, np.arange(BANDS)[::-1])
        np.testing.assert_array_equal(sample.values, values[::-1, ::4, ::4].reshape(BANDS, -1))
        np.testing.assert_array_equal(sample.values, values[::-1, sample.rows, sample.cols])
        assert len(read) == len(set(read))


def test_a_clean_image_is_returned_as_it_is(values: NDArray[np.float32]) -> None:
    cube = cube_of(values)
    out, screening = screen_hsi(cube, np.arange(BANDS), ScreenSettings())
    assert out is cube
    assert screening.faults == ()
    assert screening.screened


@pytest.mark.parametrize("value", [-9999.0, 6.5535, 100.0, -3.4e38, 1e30, np.nan, np.inf, -0.9999])
@pytest.mark.parametrize("where", [slice(20, 21), slice(0, 1), slice(57, 60), slice(None)])
def test_values_that_no_sensor_measures_are_found_and_nothing_else_changes(
    values: NDArray[np.float32], value: float, where: slice
) -> None:
    if np.isnan(value) and where == slice(None):
        pytest.skip("a pixel without any value is declared to have none")
    faulty = values.copy()
    faulty[where, 11, 17] = value
    out, screening = screened(faulty)
    (fault,) = screening.faults
    assert fault.code == "bad-values"
    assert (fault.rows, fault.cols) == ((11,), (17,))
    assert fault.size == len(range(*where.indices(BANDS)))
    assert "line 11, column 17" in fault.sentence
    others = np.ones((ROWS, COLS), bool)
    others[11, 17] = False
    np.testing.assert_array_equal(out[:, others], values[:, others])
    if where == slice(None):
        assert np.isnan(out[:, 11, 17]).all()
    else:
        assert fault.bands == tuple(range(BANDS + 1))[where.start + 1 : where.stop + 1]
        np.testing.assert_allclose(out[:, 11, 17], values[:, 11, 17], rtol=0.3)


def test_bright_roofs_glint_and_dark_water_are_data(values: NDArray[np.float32]) -> None:
    values[:, 5, 5] *= 6.0  # glint
    values[:, 20:24, 20:26] *= 2.5  # roofs
    values[20:, 30:, 10:20] = -0.01  # water
    values[30:, 30:, 12:14] = 0.0
    _, screening = screened(values)
    assert screening.faults == ()


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("where", [(4,), (0, 7, 8), (15, 16, 17, 18, 19, 39)])
def test_dead_columns_and_lines_are_left_out(values: NDArray[np.float32], axis: int, where: tuple[int, ...]) -> None:
    faulty = np.moveaxis(values.copy(), axis, 0)
    faulty[list(where)] = 0.0
    out, screening = screened(np.ascontiguousarray(np.moveaxis(faulty, 0, axis)))
    (fault,) = screening.faults
    assert fault.code == "stripes"
    assert (fault.cols if axis == 2 else fault.rows) == where
    kept = np.setdiff1d(np.arange(values.shape[axis]), where)
    assert np.isnan(np.take(out, where, axis)).all()
    np.testing.assert_array_equal(np.take(out, kept, axis), np.take(values, kept, axis))


def test_a_column_that_is_dead_in_one_band_is_set_right_by_the_others(values: NDArray[np.float32]) -> None:
    faulty = values.copy()
    faulty[30, :, 9] = 0.0
    out, screening = screened(faulty)
    (fault,) = screening.faults
    assert (fault.code, fault.cols, fault.bands, fault.action) == ("stripes", (9,), (31,), "mended")
    np.testing.assert_allclose(out[30, :, 9], values[30, :, 9], rtol=0.2)


def test_the_result_does_not_depend_on_the_blocks_the_image_is_read_in(values: NDArray[np.float32]) -> None:
    values[10, 3, 40] = -9999.0
    values[:, 33, 2] = 6.5535
    values[:, :, 12] = 0.0
    values *= 1 + 0.03 * np.random.default_rng(8).standard_normal((BANDS, 1, COLS)).astype(np.float32)
    values[30] += 0.3 * np.random.default_rng(9).standard_normal((ROWS, COLS)).astype(np.float32)
    whole, of_whole = screened(values)
    for chunks in ((7, 48), (40, 5), (13, 11)):
        cube, screening = screen_hsi(cube_of(values, chunks), np.arange(BANDS), ScreenSettings())
        np.testing.assert_array_equal(cube.values, whole)
        assert screening == of_whole


def test_it_only_tells_or_does_not_even_look_where_that_is_asked_for(values: NDArray[np.float32]) -> None:
    values[:, 33, 2] = 6.5535
    out, screening = screened(values, screen="report")
    np.testing.assert_array_equal(out, values)
    assert screening.codes == ("bad-values",)
    _, screening = screened(values, screen="off")
    assert screening == Screening(screened=False)


@pytest.mark.parametrize("axis", [1, 2])
def test_stripes_are_found_and_mostly_set_right(values: NDArray[np.float32], axis: int) -> None:
    rng = np.random.default_rng(8)
    shape = [BANDS, 1, 1]
    shape[axis] = values.shape[axis]
    stripes = 1 + 0.03 * rng.standard_normal(shape)
    out, screening = screened((values * stripes).astype(np.float32))
    (fault,) = screening.faults
    assert (fault.code, fault.action) == ("stripes", "mended")
    assert fault.size == pytest.approx(0.03, rel=0.3)
    assert np.abs(out / values - 1).mean() < 0.5 * np.abs(stripes - 1).mean()


def test_faint_stripes_are_left_alone(values: NDArray[np.float32]) -> None:
    stripes = 1 + 0.003 * np.random.default_rng(8).standard_normal((BANDS, 1, COLS))
    faint = (values * stripes).astype(np.float32)
    out, screening = screened(faint)
    assert screening.faults == ()
    np.testing.assert_array_equal(out, faint)


def test_bands_of_noise_are_replaced_by_what_the_others_tell(values: NDArray[np.float32]) -> None:
    noisy = [28, 29, 44]
    faulty = values.copy()
    faulty[noisy] += 0.3 * np.random.default_rng(8).standard_normal((3, ROWS, COLS)).astype(np.float32)
    out, screening = screened(faulty)
    (fault,) = screening.faults
    assert (fault.code, fault.bands) == ("noisy-bands", (29, 30, 45))
    assert np.abs(out[noisy] - values[noisy]).mean() < 0.1 * np.abs(faulty[noisy] - values[noisy]).mean()
    others = np.setdiff1d(np.arange(BANDS), noisy)
    np.testing.assert_array_equal(out[others], values[others])


def turned(values: NDArray[np.float32], degrees: float, step: float, order: int) -> NDArray[np.float32]:
    """Return the image on a grid that is turned and ``step`` times finer."""
    angle, size = np.deg2rad(degrees), int(30 * step)
    y, x = (np.mgrid[:size, :size] + 0.5 - size / 2) / step
    at = np.array(
        [np.cos(angle) * y - np.sin(angle) * x + ROWS / 2 - 0.5, np.sin(angle) * y + np.cos(angle) * x + COLS / 2 - 0.5]
    )
    return np.array([ndimage.map_coordinates(band, at, order=order, mode="nearest") for band in values], np.float32)


@pytest.mark.parametrize(("step_y", "step_x"), [(3.0, 3.0), (1.5, 2.5), (1.0, 4.0)])
@pytest.mark.parametrize("offset", [0.0, 0.4])
def test_repeated_pixels_go_back_to_the_grid_they_came_from(
    values: NDArray[np.float32], step_y: float, step_x: float, offset: float
) -> None:
    rows, cols = (
        np.floor((np.arange(int((size - 2) * step)) + 0.5) / step + offset).astype(int)
        for size, step in ((ROWS, step_y), (COLS, step_x))
    )
    cube, screening = screen_hsi(cube_of(values[:, rows][:, :, cols]), np.arange(BANDS), ScreenSettings())
    (fault,) = screening.faults
    assert (fault.code, fault.action, fault.displaces) == ("resampled", "mended", False)
    np.testing.assert_array_equal(cube.values, values[:, np.unique(rows)][:, :, np.unique(cols)])
    affine = grid_of(cube).affine
    assert (affine.a, affine.e) == pytest.approx((30 * step_x, -30 * step_y))
    assert (affine.c - 400_000) / 30 == pytest.approx(-offset * step_x, abs=0.5)
    assert (5_800_000 - affine.f) / 30 == pytest.approx(-offset * step_y, abs=0.5)


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("where", [(17,), (5, 12, 30), (4, 11, 18, 33)])
def test_lines_recorded_twice_are_left_out_and_not_called_resampled(
    values: NDArray[np.float32], axis: int, where: tuple[int, ...]
) -> None:
    faulty, lines = values.copy(), np.moveaxis(values, axis, 0)
    for line in where:
        np.moveaxis(faulty, axis, 0)[line] = lines[line - 1]
    out, screening = screened(faulty)
    (fault,) = screening.faults
    both = tuple(sorted({*where, *(line - 1 for line in where)}))
    assert (fault.code, fault.action, fault.rows or fault.cols) == ("line-jitter", "left out", both)
    left = np.isnan(np.moveaxis(out, axis, 0)).all(axis=(1, 2))
    assert tuple(np.flatnonzero(left)) == both
    np.testing.assert_array_equal(np.moveaxis(out, axis, 0)[~left], lines[~left])


def test_pixels_repeated_here_and_there_are_not_where_they_say(values: NDArray[np.float32]) -> None:
    for degrees, step in ((2.0, 1.02), (20.0, 1.0), (3.0, 3.0)):
        _, screening = screen_hsi(cube_of(turned(values, degrees, step, 0)), np.arange(BANDS), ScreenSettings())
        assert screening.codes == ("resampled",)
        assert screening.displacement is not None


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("step", [2, 3, 5])
def test_an_image_interpolated_onto_a_finer_grid_is_used_on_the_one_it_resolves(
    values: NDArray[np.float32], step: int, order: int
) -> None:
    fine = np.array([ndimage.zoom(b, step, order=order, grid_mode=True, mode="nearest") for b in values], np.float32)
    out, screening = screened(fine)
    (fault,) = screening.faults
    assert (fault.code, fault.size, fault.displaces) == ("resampled", step, False)
    assert out.shape == values.shape
    within = np.s_[:, 2:-2, 2:-2]
    if step % 2:  # the middle of the finer pixels is the pixel itself
        np.testing.assert_allclose(out[within], values[within], atol=2e-6)
    else:
        assert np.corrcoef(out[within].ravel(), values[within].ravel())[0, 1] > 0.98


def test_a_blur_that_reaches_over_several_pixels_is_no_resampling(values: NDArray[np.float32]) -> None:
    blurred = ndimage.gaussian_filter(values, (0, 0.9, 0.45)).astype(np.float32)
    _, screening = screened(blurred)
    assert screening.faults == ()


REAL: dict[str, Callable[[], xr.DataArray]] = {
    name: lambda path=path: open_cube(SCENES / path, Reading())  # type: ignore[misc]
    for name, path in {
        "EnMAP": "enmap_potsdam/enmap_potsdam.tif",
        "HySpex": "hyspex_bavaria/Bavaria_farmland_LMU_Hyspex_subset.bsq",
        "AVIRIS-NG": "avirisng_topoflux/ang20160910t185702_2rdn_img",
        "NEON forest": "neon_plots/MLBS_39_hsi.tif",
        "NEON savanna": "neon_plots/OSBS_13_hsi.tif",
        "NEON hdf5": "neon_plots/neon_sjer_30x30x426.h5",
        "Berlin": "berlin_urban_gradient/enmap_sim_30m.bsq",
    }.items()
}


@pytest.mark.skipif(not SCENES.is_dir(), reason="needs the real scenes in ../shared/data")
@pytest.mark.parametrize("scene", REAL)
def test_real_scenes_raise_no_alarm(scene: str) -> None:
    cube = REAL[scene]()
    _, screening = screen_hsi(cube, np.flatnonzero(cube.coords["good"].values), ScreenSettings())
    # The water bands of the NEON file are noise, and no one flags them there.
    assert screening.codes == (("noisy-bands",) if scene == "NEON hdf5" else ())
