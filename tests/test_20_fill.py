"""Fill that no tag declares is found by what fill is, told, and never taken from a clean image.

Every number that programs put where there is no data, in every type that holds it, in every place where fill lies, on
every kind of scene; and every scene alone, which must lose no pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scenes import spectra_of, write
from scipy import ndimage

from geolift.readers import open_cube
from geolift.readers.arrays import ArraySource
from geolift.readers.fill import recognise_fill
from geolift.readers.source import Decoding
from geolift.settings import Reading

ROWS, COLS = 40, 48
Y, X = np.mgrid[:ROWS, :COLS]
FLOAT = np.finfo(np.float32)
GAINS = "−0.9999 times a gain in every band"
SENTINEL_AND_0 = "−1 in some bands, 0 in the others"
NUMBERS: list[tuple[float | str, str]] = [
    *((n, "float32") for n in (-9999.0, -1e20, 1e15, 1e30, 9.969209968386869e36, -999_999.0)),
    *((n, "float32") for n in (float(FLOAT.min), float(FLOAT.max), -1.0, -0.9999, -3.2768, -0.2, -0.1, 0.0, -1.5e9)),
    *((n, "int16") for n in (-9999, -999, -1, 32_767, -32_768, -32_767, -10_000, -30_000, -1000, 0)),
    *((n, "uint16") for n in (55_537, 64_537, 65_535, 0)),
    *((n, "int32") for n in (-9999, -2_147_483_648, 2_147_483_647)),
    *((n, "float64") for n in (-9999.0, 1e20)),
    (GAINS, "float32"),
    (GAINS, "float64"),
    (SENTINEL_AND_0, "float32"),
]
PLACES = {
    "corner": (Y < 6) & (X < 8),
    "swath": (Y >= 20) & (Y < 23),
    "tilted swath": abs(Y - 20 - X // 12) < 2,
    "triangle": Y + X < 14,
    "two triangles": (Y + X < 12) | (ROWS - 1 - Y + COLS - 1 - X < 16),
    "strip": X >= 43,
}


def scene(bands: int) -> np.ndarray:
    """Reflectance (band, y, x) with some noise, in which no spectrum repeats."""
    values = spectra_of(np.linspace(420, 2300, bands), ROWS, COLS)
    return values + np.random.default_rng(5).normal(0, 0.002, values.shape).astype(np.float32)


def _disc(y: int, x: int, radius: int) -> np.ndarray:
    return np.asarray((Y - y) ** 2 + (X - x) ** 2 < radius**2)


def _water(
    where: np.ndarray, *, noise: float = 0.0, level: float = 0.0, shore_px: float = 0.0
) -> Callable[..., np.ndarray]:
    """Put water into a scene: dark, clipped at 0, with a shore of mixed pixels."""

    def change(values: np.ndarray) -> np.ndarray:
        land = ndimage.gaussian_filter(1.0 - where, shore_px) if shore_px else 1.0 - where
        land = np.where(land < 0.02, 0.0, land)
        water = level * np.exp(-np.linspace(0, 8, len(values)))[:, None, None]
        water = water + np.random.default_rng(7).normal(0, noise, values.shape)
        return np.maximum(land * values + (1 - land) * water, 0)

    return change


def _where(where: np.ndarray, number: float, first: float = 0.0) -> Callable[..., np.ndarray]:
    """Put one number into the bands from a share of them on."""
    return lambda v: np.where((np.arange(len(v)) >= first * len(v))[:, None, None] & where, number, v)


def _clipped(values: np.ndarray) -> np.ndarray:
    """Water that is 0 nearly everywhere, with a few values above."""
    noise = np.where(np.random.default_rng(1).random(values.shape) < 0.003, 0.001, 0)
    return np.where(X < 14, noise, values)


SCENES: dict[str, Callable[..., np.ndarray]] = {
    "plain": lambda v: v,
    "lake of 0 amid the image": _water(_disc(18, 20, 7)),
    "lake of 0 at one side": _water(_disc(39, 24, 9)),
    "lake of 0 in a corner with a shore": _water(_disc(39, 47, 14), shore_px=0.8),
    "steep coast": lambda v: v * np.clip((X - 12) / 3, 0, 1),
    "coast with a shore": _water(14 + 3 * np.sin(Y / 4) > X, shore_px=0.7),
    "noisy coast": _water(X < 14, noise=0.003, level=0.02),
    "noise around 0": _water(X < 14, noise=0.003),
    "coast clipped at 0": _clipped,
    "river of 0 across with a shore": _water(abs(Y - 20 - 4 * np.sin(X / 9)) < 3, shore_px=0.6),
    "noisy river across": _water(abs(Y - 20 - 4 * np.sin(X / 9)) < 3, noise=0.002),
    "open water": _water(Y >= 0, noise=0.003, level=0.03),
    "near infrared 0 in a corner": _where((Y < 6) & (X < 8), 0.0, 0.33),
    "−0.01 in many bands": _where((Y < 16) & (X < 18), -0.01, 0.25),
    "−0.01 in all bands": _where((Y < 6) & (X < 8), -0.01),
    "saturated roofs": _where(_disc(32, 42, 3) | ((Y == 0) & (X > 20) & (X < 26)), 1.6),
    "saturated snow in a corner": _where((Y > 30) & (X > 36), 1.6),
}


def stored_as(values: np.ndarray, dtype: str) -> np.ndarray:
    if dtype.startswith("f"):
        return values.astype(dtype)
    counts = np.rint(values * 10_000)
    return (np.clip(counts, 0, None) if dtype == "uint16" else counts).astype(dtype)


def valid(stored: np.ndarray, declared: float | None) -> np.ndarray:
    """Tell which stored numbers (band, y, x) are taken for data."""
    count = len(stored)
    plain = Decoding(scale=(1.0,) * count, offset=(0.0,) * count, nodata=(declared,) * count)
    decoding, _, _ = recognise_fill(ArraySource(stored, "a.tif"), plain)
    return np.isfinite(decoding.apply(stored, None))


@pytest.mark.parametrize("bands", [24, 4])
@pytest.mark.parametrize("name", SCENES)
def test_clean_scenes_lose_no_pixel(name: str, bands: int) -> None:
    values = SCENES[name](scene(bands))
    for dtype in ("float32", "int16", "uint16"):
        if dtype == "uint16" and values.min() <= -0.01:
            continue  # it cannot hold them
        for declared in (None, -9999.0 if dtype != "uint16" else 65_535.0):
            assert valid(stored_as(values, dtype), declared).all(), dtype


@pytest.mark.parametrize(
    ("name", "bands"), [("plain", 24), ("plain", 4), ("noisy coast", 24), ("−0.01 in many bands", 4)]
)
@pytest.mark.parametrize("place", PLACES)
def test_every_number_is_recognised_in_every_place(place: str, name: str, bands: int) -> None:
    where, values = PLACES[place], SCENES[name](scene(bands))
    for number, dtype in NUMBERS:
        if number in (0, SENTINEL_AND_0) and name != "plain":
            continue  # one and the same number is water elsewhere
        filling = number
        if isinstance(number, str):
            each = -0.9999 * np.linspace(0.9, 1.1, bands) if number == GAINS else np.where(np.arange(bands) < 2, -1, 0)
            filling = each[:, None, None]
        stored = np.where(where, filling, stored_as(values, dtype)).astype(dtype)
        other = 55_555.0 if dtype == "uint16" else -9999.0
        for declared in (None, np.nan if number == -9999 else other):
            found = valid(stored, declared)
            assert np.array_equal(found, np.broadcast_to(~where, found.shape)), (number, dtype, declared)


def test_fill_is_told_with_its_share_and_overridable(tmp_path: Path) -> None:
    where = PLACES["triangle"]
    stored = np.where(where, -9999.0, scene(24)).astype(np.float32)
    file = write(tmp_path / "a.tif", stored, gsd=30, scale=None, nodata=np.nan, dtype="float32")
    cube = open_cube(file)
    assert np.array_equal(np.isnan(cube.values), np.broadcast_to(where, stored.shape))
    (told,) = [text for text in cube.attrs["warnings"] if "taken for no data" in text]
    assert f"{where.mean():.2%}" in told
    assert "-9999" in told
    assert np.isfinite(open_cube(file, Reading(nodata=np.nan)).values).all()


def test_sentinels_mark_single_values_band_by_band(tmp_path: Path) -> None:
    values = scene(24)
    values[3, 10, 10:14] = -9999
    cube = open_cube(write(tmp_path / "a.tif", values, gsd=30, scale=None, nodata=None, dtype="float32"))
    invalid = np.isnan(cube.values)
    assert invalid[3, 10, 10:14].all()
    assert invalid.sum() == 4


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
