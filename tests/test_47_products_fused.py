"""Products as delivered, fused: hyperspectral families with Sentinel-2, EnMAP with each multispectral one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import product_files as made
import pytest
import xarray as xr
from rasterio.crs import CRS
from scenes import RATIO, spectra_of

import geolift
from geolift.datamodel.cube import bands_of, grid_of
from geolift.readers import open_cube, open_cubes
from geolift.readers.hyperion import band_table
from geolift.srf import SpectralResponse

pytestmark = pytest.mark.usefixtures("few_steps")

BANDS, COARSE, FWHM = 24, 16, 24.0
NM = np.linspace(430, 985, BANDS)
TRUTH = spectra_of(NM, COARSE * RATIO, COARSE * RATIO)
HSI = TRUTH.reshape(BANDS, COARSE, RATIO, COARSE, RATIO).mean(axis=(2, 4)).astype(np.float64)
QUICK = {"coregister": "off", "harmonize": "off", "mask": "none"}


def seen_by(sensor: str, names: tuple[str, ...]) -> np.ndarray:
    """The truth through a sensor's bands."""
    weights = SpectralResponse.from_library(sensor).select(names).weights(NM, np.full(BANDS, FWHM)).weights
    return np.einsum("cb,byx->cyx", weights, TRUTH)


def enmap(folder: Path) -> Path:
    return made.enmap(folder / "enmap", values=HSI, nm=NM, fwhm=np.full(BANDS, FWHM))


def prisma(folder: Path) -> Path:
    descending = NM[::-1].tolist()
    slots = {"vnir": [0.0, *descending[8:]], "swir": [*descending[:8], 0.0]}
    return made.prisma(folder / "a.he5", values=HSI, fwhm=FWHM, **slots)


def emit(folder: Path) -> Path:
    lines, samples = np.mgrid[1 : COARSE + 1, 1 : COARSE + 1]
    swath = HSI[:, ::-1].transpose(1, 2, 0)  # flown northwards: the first line is the southernmost
    grid = [made.LEFT, 30.0, 0.0, made.TOP, 0.0, -30.0]
    crs = CRS.from_string(made.UTM33).to_wkt()
    return made.emit(folder / "e.nc", samples, lines[::-1], swath, grid, crs, NM, FWHM)


def hyperion(folder: Path) -> Path:
    """Bands 8–31 lie at 426.8–660.9 nm: the scene's spectra are moved there, as radiance."""
    return made.hyperion(folder / "hyperion", 100 * HSI, tuple(range(8, 8 + BANDS)))


NM_OF_HYPERION = np.array([band_table()[number][0] for number in range(8, 8 + BANDS)])
HYPERSPECTRAL: dict[str, Callable[[Path], Path]] = {
    "enmap": enmap,
    "desis": lambda folder: made.desis(folder / "desis", HSI, NM.tolist(), FWHM),
    "prisma": prisma,
    "emit": emit,
    "tanager": lambda folder: made.tanager(folder / "t.h5", values=HSI, nm=NM.tolist(), fwhm=[FWHM] * BANDS),
    "aviris": lambda folder: made.aviris(folder / "av.nc", HSI, NM.tolist(), FWHM, 30.0),
    "neon": lambda folder: made.neon(folder / "n.h5", HSI, NM.tolist(), FWHM, 30.0),
}


def landsat(folder: Path) -> xr.DataArray:
    """At the HSI's own pixels of 30 m."""
    names = ("B1", "B2", "B3", "B4", "B5")
    values = seen_by("landsat-9-oli2", names).reshape(5, COARSE, RATIO, COARSE, RATIO).mean(axis=(2, 4))
    return open_cube(made.landsat(folder / "landsat", bands=(1, 2, 3, 4, 5), values=values))


def planetscope(folder: Path) -> xr.DataArray:
    values = seen_by("planetscope-psbsd", made.PLANET_8)
    return open_cube(made.planetscope(folder, values=values, pixel=10.0))


def sentinel2(folder: Path) -> xr.DataArray:
    values = dict(zip(made.S2_TEN, seen_by("sentinel-2b", made.S2_TEN), strict=True))
    return open_cube(made.sentinel2(folder / "S2.SAFE", values=values))


def band_files(folder: Path) -> xr.DataArray:
    layers = zip(made.S2_TEN, seen_by("sentinel-2b", made.S2_TEN), strict=True)
    files = [
        made.raster(folder / f"S2B_{name}.tif", made.stored(layer, 1e-4, 0, 0, "uint16"), 10) for name, layer in layers
    ]
    return open_cubes(files)


def rmse(fused: xr.DataArray) -> float:
    """Deviation from the truth over the good bands, on the grid of 10 m."""
    good = bands_of(fused).good
    return float(np.sqrt(np.nanmean((fused.values[good] - TRUTH[good]) ** 2)))


@pytest.mark.parametrize("family", HYPERSPECTRAL)
def test_every_family_gives_the_same_cube_of_one_scene(tmp_path: Path, family: str) -> None:
    cube = open_cube(HYPERSPECTRAL[family](tmp_path))
    good = bands_of(cube).good
    assert np.nanmax(np.abs(cube.values[good] - HSI[good])) < 1.1e-4
    assert np.abs(bands_of(cube).wavelength_nm - NM).max() < 1e-3
    assert np.allclose(bands_of(cube).fwhm_nm, FWHM)
    assert tuple(grid_of(cube).affine)[:6] == pytest.approx((30, 0, made.LEFT, 0, -30, made.TOP), abs=1e-6)


@pytest.mark.parametrize("family", ["enmap", "prisma", "emit"])
def test_a_hyperspectral_product_is_fused_with_a_safe(tmp_path: Path, family: str) -> None:
    hsi = open_cube(HYPERSPECTRAL[family](tmp_path))
    fused = geolift.fuse(hsi, sentinel2(tmp_path), sensor="sentinel2", **QUICK)
    assert fused.shape == TRUTH.shape
    assert rmse(fused) < 0.02


def test_a_hyperion_scene_stays_radiance(tmp_path: Path) -> None:
    fused = geolift.fuse(open_cube(hyperion(tmp_path)), sentinel2(tmp_path), sensor="sentinel2", **QUICK)
    assert fused.attrs["quantity"] == "radiance"
    assert np.array_equal(bands_of(fused).wavelength_nm, NM_OF_HYPERION)
    assert np.isfinite(fused.values).all()


@pytest.mark.parametrize(
    "open_msi, sensor", [(landsat, "landsat"), (planetscope, "planetscope"), (band_files, "sentinel2")]
)
def test_every_multispectral_product_is_fused_with_enmap(
    tmp_path: Path, open_msi: Callable[[Path], xr.DataArray], sensor: str
) -> None:
    fused = geolift.fuse(open_cube(enmap(tmp_path)), open_msi(tmp_path), sensor=sensor, **QUICK)
    assert fused.sizes["band"] == BANDS
    assert np.isfinite(fused.values[bands_of(fused).good]).mean() > 0.9
