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

from geolift.datamodel.cube import Bands, make_cube
from geolift.pair.screening import Screening, screen_hsi
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
def test_nothing_of_real_scenes_is_taken_for_bad_values(scene: str) -> None:
    cube = REAL[scene]()
    _, screening = screen_hsi(cube, np.flatnonzero(cube.coords["good"].values), ScreenSettings())
    assert "bad-values" not in screening.codes
