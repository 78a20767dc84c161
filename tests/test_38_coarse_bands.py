"""MSI bands that repeat or interpolate a coarser grid, planted, told and sharpened."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy import ndimage

from geolift.datamodel.cube import Bands, make_cube
from geolift.pair.adjustment import MsiAdjustment
from geolift.pair.checks.relation import coarse_findings
from geolift.pair.coarse_bands import CoarseBands, Grid, Kind, find_coarse_bands, through

FloatArray = NDArray[np.float32]
COARSE = (3, 4)


def scene(noise: float = 0.002, seed: int = 0) -> FloatArray:
    """Five bands of mixtures of four materials."""
    rng = np.random.default_rng(seed)
    share = ndimage.gaussian_filter(rng.normal(size=(4, 96, 96)), (0, 1.0, 1.0))
    share = np.exp(3 * share / share.std())
    bands = np.einsum("mb,myx->byx", rng.uniform(0.05, 0.5, (4, 5)), share / share.sum(axis=0))
    return np.asarray(bands * (1 + noise * rng.normal(size=bands.shape)), np.float32)


def coarsened(image: FloatArray, kind: Kind, factor: int, first: tuple[int, int]) -> FloatArray:
    out = image.copy()
    for band in COARSE:
        out[band] = through(Grid(kind, factor, first), image[band], 0, 0)  # NaN in cells that the image cuts
    return out


def error(image: FloatArray, truth: FloatArray) -> float:
    inner = (list(COARSE), slice(12, -12), slice(12, -12))
    return float(np.sqrt(np.square(image[inner] - truth[inner]).mean()))


@pytest.mark.parametrize(
    ("kind", "factor", "first"),
    [("repeated", 2, (0, 0)), ("repeated", 3, (1, 2)), ("bilinear", 2, (1, 0)), ("cubic", 3, (0, 2))],
)
def test_the_coarser_grid_of_bands_is_told_and_its_detail_restored(
    kind: Kind, factor: int, first: tuple[int, int]
) -> None:
    truth = scene()
    msi = coarsened(truth, kind, factor, first)
    found = find_coarse_bands([(msi, 0, 0)])
    assert found is not None
    assert [grid is not None for grid in found.grids] == [False, False, False, True, True]
    told = found.grids[3]
    assert told == Grid(kind, factor, first)
    assert error(found.sharpened(msi, 0, 0), truth) < 0.4 * error(msi, truth)


def test_what_stays_unknown_is_told_within_a_factor_of_three() -> None:
    truth = scene()
    truth[4] += 0.03 * ndimage.gaussian_filter(np.random.default_rng(5).normal(size=(96, 96)), 1.0).astype(np.float32)
    msi = coarsened(truth, "repeated", 2, (0, 0))
    found = find_coarse_bands([(msi, 0, 0)])
    assert found is not None
    left = np.sqrt(np.nanmean(np.square(found.sharpened(msi, 0, 0) - truth), axis=(1, 2)))
    assert (found.missing[3:] > left[3:] / 3).all()
    assert (found.missing[3:] < left[3:] * 3).all()
    assert not found.missing[:3].any()


@pytest.mark.parametrize(("noise", "blur"), [(0.0, 0.0), (0.03, 0.0), (0.0, 0.8), (0.01, 1.2)])
def test_bands_as_fine_as_their_pixels_are_left_alone(noise: float, blur: float) -> None:
    image = ndimage.gaussian_filter(scene(0.0, seed=1), (0, blur, blur)) if blur else scene(0.0, seed=1)
    image = image * (1 + noise * np.random.default_rng(2).normal(size=image.shape))
    assert find_coarse_bands([(image.astype(np.float32), 0, 0)]) is None


def test_an_image_that_is_coarse_as_a_whole_has_no_band_to_be_sharpened_by() -> None:
    cells = scene()[:, ::2, ::2]
    assert find_coarse_bands([(cells.repeat(2, 1).repeat(2, 2), 0, 0)]) is None


def test_sharpened_bands_are_alike_in_tiles_and_keep_their_holes() -> None:
    msi = coarsened(scene(), "bilinear", 3, (1, 0))
    msi[3, 40:44, 30:33] = np.nan
    msi[0, 70:72, 50] = np.nan
    weights = np.zeros((5, 5))
    weights[3:, :3] = 0.3
    grid = Grid("bilinear", 3, (1, 0))
    coarse = CoarseBands((None, None, None, grid, grid), weights, np.zeros(5))
    geobox = GeoBox((96, 96), GeoBox.from_bbox((0, 0, 96, 96), "EPSG:32633", resolution=1).affine, "EPSG:32633")
    bands = Bands(tuple("abcde"), np.full(5, np.nan), np.full(5, np.nan), np.ones(5, bool))
    adjustment = MsiAdjustment(geobox, coarse=coarse)
    products = [
        adjustment.applied(make_cube(da.from_array(msi, chunks=(5, rows, cols)), grid=geobox, bands=bands), range(5))
        for rows, cols in ((96, 96), (31, 17))
    ]
    whole, tiled = (np.asarray(product.data.compute(scheduler="synchronous")) for product in products)
    assert np.array_equal(whole, tiled, equal_nan=True)
    assert np.array_equal(np.isnan(whole), np.isnan(msi))


def test_coarse_bands_are_named_with_those_that_sharpen_them() -> None:
    grids = (None, Grid("repeated", 2), Grid("repeated", 2), Grid("cubic", 3))
    (finding,) = coarse_findings(CoarseBands(grids, np.zeros((4, 4)), np.zeros(4)), ("B02", "B05", "B11", "B01"))
    assert finding.code == "resampled"
    assert finding.settled
    assert "B05, B11 2 times as coarse, repeated; B01 3 times as coarse, interpolated (cubic)" in finding.message
    assert coarse_findings(None, ()) == []
