"""Fill that no tag declares is found by what fill is, told, and never taken from a clean image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scenes import spectra_of, write

from geolift.readers import open_cube
from geolift.settings import Reading

NM = np.linspace(420, 2300, 24)
CORNER = np.zeros((40, 48), bool)
CORNER[:6, :8] = True
SWATH = np.zeros((40, 48), bool)
SWATH[20:23] = True
TRIANGLE = np.add.outer(np.arange(40), np.arange(48)) < 14
FACTORS = np.linspace(0.9, 1.1, 24)[:, None, None]


def scene(bands: int = 24) -> np.ndarray:
    """Reflectance (band, y, x) with some noise, in which no spectrum repeats."""
    values = spectra_of(np.linspace(420, 2300, bands), 40, 48)
    return values + np.random.default_rng(5).normal(0, 0.002, values.shape).astype(np.float32)


def filled(values: np.ndarray, where: np.ndarray, number: object, dtype: str) -> np.ndarray:
    stored = values if dtype.startswith("f") else np.rint(values * 10_000)
    return np.where(where, number, stored).astype(dtype)


VARIANTS: list[tuple[str, object, str, float | None, np.ndarray]] = [
    ("declared NaN", -9999.0, "float32", np.nan, CORNER),
    ("declared 0", -9999.0, "float32", 0.0, CORNER),
    ("declared −9999 holds 0", 0.0, "float32", -9999.0, CORNER),
    ("declared −9999 holds 0 in a swath", 0.0, "float32", -9999.0, SWATH),
    ("float's least", float(np.finfo(np.float32).min), "float32", None, TRIANGLE),
    ("NetCDF's fill", 9.969209968386869e36, "float32", None, CORNER),
    ("1e20", 1e20, "float32", None, CORNER),
    ("−1e20", -1e20, "float32", -9999.0, CORNER),
    ("1e15, which nobody lists", 1e15, "float32", None, CORNER),
    ("−999999", -999_999.0, "float32", None, SWATH),
    ("−1", -1.0, "float32", None, CORNER),
    ("−0.9999", -0.9999, "float32", None, TRIANGLE),
    ("−0.9999 times a gain in every band", -0.9999 * FACTORS, "float32", None, CORNER),
    ("−9999 as uint16", 55_537, "uint16", None, CORNER),
    ("int16's greatest", 32_767, "int16", None, CORNER),
    ("uint16's greatest", 65_535, "uint16", 0, CORNER),
    ("uint16 declares 65535, holds 0", 0, "uint16", 65_535, CORNER),
    ("−1 in int16", -1, "int16", None, CORNER),
    ("−999 in int16", -999, "int16", -9999, CORNER),
    ("−9999 in float64", -9999.0, "float64", None, TRIANGLE),
]


@pytest.mark.parametrize("bands", [24, 4])
@pytest.mark.parametrize(("name", "number", "dtype", "declared", "where"), VARIANTS, ids=[v[0] for v in VARIANTS])
def test_fill_is_recognised_told_and_overridable(
    tmp_path: Path, name: str, number: object, dtype: str, declared: float | None, where: np.ndarray, bands: int
) -> None:
    number = number[:bands] if isinstance(number, np.ndarray) else number
    stored = filled(np.clip(scene(bands), 0.001, None), where, number, dtype)
    file = write(tmp_path / "a.tif", stored, gsd=30, scale=None, nodata=declared, dtype=dtype)
    cube = open_cube(file)
    assert np.array_equal(np.isnan(cube.values), np.broadcast_to(where, stored.shape))
    told = [text for text in cube.attrs["warnings"] if "taken for no data" in text]
    assert len(told) == 1
    assert f"{where.mean():.2%}" in told[0]
    plain = open_cube(file, Reading(nodata=np.nan))
    assert np.isfinite(plain.values).all() or np.isinf(stored).any()


def test_sentinels_mark_single_values_band_by_band(tmp_path: Path) -> None:
    values = scene()
    values[3, 10, 10:14] = -9999
    cube = open_cube(write(tmp_path / "a.tif", values, gsd=30, scale=None, nodata=None, dtype="float32"))
    invalid = np.isnan(cube.values)
    assert invalid[3, 10, 10:14].all()
    assert invalid.sum() == 4


def _plain(values: np.ndarray) -> np.ndarray:
    return values


def _lake_at_zero(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values[:, 12:20, 15:25] = 0
    return values


def _near_infrared_zero_at_the_corner(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values[8:, :6, :8] = 0
    return values


def _below_zero(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values[5:, :6, :8] = -0.01
    return values


def _clipped_at_zero(values: np.ndarray) -> np.ndarray:
    """A coast whose water is dark and noisy, and clipped where it would be negative."""
    values = values.copy()
    water = 0.02 * np.exp(-np.linspace(0, 8, len(values)))[:, None, None]
    noise = np.random.default_rng(7).normal(0, 0.003, values[:, :, :14].shape)
    values[:, :, :14] = np.maximum(water + noise, 0)
    return values


def _saturated_roofs(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values[:, 30:34, 40:44] = 1.6
    values[:, 0, 20:26] = 1.6
    return values


@pytest.mark.parametrize("bands", [24, 4])
@pytest.mark.parametrize("dtype", ["float32", "int16", "uint16"])
@pytest.mark.parametrize(
    "change",
    [
        _plain,
        _lake_at_zero,
        _near_infrared_zero_at_the_corner,
        _below_zero,
        _clipped_at_zero,
        _saturated_roofs,
    ],
)
def test_clean_images_lose_no_pixel(
    tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], dtype: str, bands: int
) -> None:
    values = change(scene(bands))
    if dtype == "uint16":
        values = np.clip(values, 0, None)
    scale = None if dtype == "float32" else 1e-4
    for declared in (None, -9999.0) if dtype != "uint16" else (None, 65_535.0):
        file = write(tmp_path / "a.tif", values, gsd=30, scale=scale, nodata=declared, dtype=dtype)
        cube = open_cube(file)
        assert np.isfinite(cube.values).all(), cube.attrs["warnings"]
        assert not [text for text in cube.attrs["warnings"] if "taken for no data" in text]


def test_an_image_of_one_value_is_not_fill_throughout(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", np.full((4, 20, 20), 0.03, np.float32), gsd=10)
    assert np.isfinite(open_cube(file).values).all()


def test_real_scenes_lose_no_pixel(shared_data: Path) -> None:
    folders = ("neon_plots/OSBS_13_hsi.tif", "neon_plots/OSBS_13_rgb.tif", "envi_odd/AV_mastercal_testdata.bsq")
    for name in (*folders, "hyspex_bavaria/Bavaria_farmland_LMU_Hyspex_subset.bsq"):
        cube = open_cube(shared_data / name)
        assert np.isfinite(cube.values).all(), name


def test_a_scale_of_zero_is_left_out_and_told(tmp_path: Path) -> None:
    import rasterio

    counts = np.rint(scene(4) * 10_000)
    file = write(tmp_path / "a.tif", counts, gsd=10, scale=None)
    with rasterio.open(file, "r+") as target:
        target.scales = (0.0,) * 4
    cube = open_cube(file)
    assert np.allclose(cube.values, scene(4), atol=1e-4)
    assert any("declare the scale 0" in text for text in cube.attrs["warnings"])
