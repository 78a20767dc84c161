"""The demo scene: a truth that behaves as land does, and two sensors that see it as they should."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from geolift.degradation import degrade
from geolift.demo.landscape import DemoScene, make_scene, materials, observe, sample_places
from geolift.demo.landscape import scene as scene_module
from geolift.demo.landscape.canvas import Canvas, cut_parcels


@pytest.fixture(scope="module")
def small() -> DemoScene:
    return make_scene(seed=3, rows=96, cols=120)


@pytest.fixture(scope="module")
def weights(small: DemoScene) -> np.ndarray:
    boxes = np.stack([(np.abs(small.wavelengths_nm - centre) < 20) & small.good for centre in (490, 665, 842)])
    return boxes / boxes.sum(axis=1, keepdims=True)


def _mean_spectrum(scene: DemoScene, material: str) -> np.ndarray:
    pure = scene.fractions[scene.material_names.index(material)] > 0.9
    assert pure.any(), material
    return scene.reflectance[:, pure].mean(axis=1)


def test_every_good_value_is_a_reflectance_and_every_bad_band_is_empty(small: DemoScene) -> None:
    good = small.reflectance[small.good]
    assert good.dtype == np.float32
    assert np.isfinite(good).all() and good.min() > 0 and good.max() <= 1
    assert np.isnan(small.reflectance[~small.good]).all()
    assert 10 <= (~small.good).sum() <= 30


def test_bands_cover_400_to_2450_nm_with_overlapping_unsorted_detectors(small: DemoScene) -> None:
    w = small.wavelengths_nm
    assert w.min() == 400 and w.max() == 2450 and len(w) > 200
    assert np.count_nonzero(np.diff(w) < 0) == 1
    assert np.unique(w).size == w.size, "no two bands may share a centre"
    assert small.fwhm_nm.min() > 5 and small.fwhm_nm.max() < 15


def test_fractions_are_a_partition_of_every_pixel_with_mixed_pixels(small: DemoScene) -> None:
    np.testing.assert_allclose(small.fractions.sum(axis=0), 1, atol=1e-5)
    assert small.fractions.min() >= 0
    present = (small.fractions > 0.5).any(axis=(1, 2)).sum()
    assert present >= 8
    assert (small.fractions.max(axis=0) < 0.9).mean() > 0.2


def test_the_whole_demo_place_shows_sixteen_materials() -> None:
    scene = make_scene(rows=192, cols=192)
    assert len(scene.material_names) == 16
    assert (scene.fractions.max(axis=(1, 2)) > 0.5).all()


def test_forest_has_a_red_edge_and_leaf_water_and_water_is_dark_beyond_the_visible(small: DemoScene) -> None:
    wood, water = _mean_spectrum(small, "conifer"), _mean_spectrum(small, "water")
    at = {nm: int(np.argmin(np.where(small.good, np.abs(small.wavelengths_nm - nm), 1e9))) for nm in
          (560, 670, 860, 1080, 1195, 1650, 1960)}  # fmt: skip
    assert wood[at[860]] > 4 * wood[at[670]]
    assert wood[at[560]] > wood[at[670]]
    assert wood[at[1195]] < wood[at[1080]]
    assert wood[at[1960]] < 0.5 * wood[at[1650]]
    assert water[at[560]] > 0.03 and water[at[1650]] < 0.03


@pytest.mark.parametrize(
    ("name", "centre", "shoulders"),
    [
        ("bright soil", 2207, (2130, 2270)),
        ("limestone", 2340, (2250, 2430)),
        ("dry vegetation", 2100, (2000, 2210)),
        ("plastic film", 1730, (1670, 1790)),
        ("crop", 672, (560, 760)),
    ],
)
def test_diagnostic_absorptions_lie_below_the_line_between_their_shoulders(
    name: str, centre: int, shoulders: tuple[int, int]
) -> None:
    palette = {m.name: m.states[0] for m in materials.materials(np.array([shoulders[0], centre, shoulders[1]]))}
    left, bottom, right = palette[name]
    share = (centre - shoulders[0]) / (shoulders[1] - shoulders[0])
    assert bottom < 0.97 * (left + share * (right - left))


def test_the_same_seed_gives_the_same_scene_and_another_seed_another() -> None:
    first, again, other = (make_scene(seed=seed, rows=30, cols=30) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.reflectance, again.reflectance)
    assert not np.allclose(first.reflectance, other.reflectance, equal_nan=True)


def test_a_tower_throws_its_shadow_away_from_the_sun_and_nowhere_else() -> None:
    canvas = Canvas(60, 60, 2.5, np.random.default_rng(0), ("ground",))
    canvas.height_m[30:32, 30:32] = 30.0
    dark_y, dark_x = np.nonzero(~canvas.sunlit(45.0))
    assert len(dark_y) > 10
    assert dark_y.max() <= 31 and dark_x.max() <= 31, "the sun is in the south-east"
    reach_m = 2.5 * np.hypot(30 - dark_y.min(), 30 - dark_x.min())
    assert reach_m == pytest.approx(30.0, abs=4.0), "at 45° a shadow is as long as its tower is high"


def test_parcels_are_rectangles_of_the_asked_size_that_tile_the_plane() -> None:
    canvas = Canvas(200, 200, 2.5, np.random.default_rng(0), ("ground",))
    parcels = cut_parcels(*canvas.rotated(20.0), 60, 120, canvas.rng)
    sides = parcels.sides_m[np.unique(parcels.index)]
    assert sides.max() <= 1.5 * 120 and sides.min() > 15
    u, v = canvas.rotated(20.0)
    extent = (u.max() - u.min() + 1) * (v.max() - v.min() + 1)
    assert np.prod(parcels.sides_m.astype(float), axis=1).sum() == pytest.approx(extent, rel=1e-4)
    inside = (parcels.u <= sides.max() + 2) & (parcels.u > -3) & (parcels.v > -3)
    assert inside.all()


def test_noise_fields_are_smooth_over_their_length_and_standardised() -> None:
    canvas = Canvas(256, 256, 2.5, np.random.default_rng(0), ("ground",))
    coarse, fine = canvas.noise(200.0), canvas.noise(10.0)
    for field in (coarse, fine):
        assert field.mean() == pytest.approx(0, abs=1e-3) and field.std() == pytest.approx(1, abs=1e-3)
    assert np.diff(coarse, axis=0).std() < 0.35 * np.diff(fine, axis=0).std()


def test_the_coarse_sensor_sees_block_means_plus_its_own_noise(small: DemoScene, weights: np.ndarray) -> None:
    delta = np.zeros((3, 3))
    delta[1, 1] = 1
    hsi, _ = observe(small, weights, ratio=3, kernel=delta)
    difference = hsi - degrade.block_mean(small.reflectance, 3)
    measured = np.nanstd(difference[small.good], axis=(1, 2))
    np.testing.assert_allclose(measured, small.noise_sigma[small.good], rtol=0.15)
    z = np.nanmean(difference[small.good], axis=(1, 2)) / small.noise_sigma[small.good]
    assert np.abs(z).max() < 5 / np.sqrt(np.isfinite(hsi[0]).sum())


def test_the_fine_sensor_sees_the_srf_of_the_truth_plus_noise(small: DemoScene, weights: np.ndarray) -> None:
    _, msi = observe(small, weights, msi_noise_sigma=0.002)
    expected = np.einsum("cb,byx->cyx", weights[:, small.good], small.reflectance[small.good])
    assert np.nanstd(msi - expected) == pytest.approx(0.002, rel=0.05)


def test_swath_edges_are_slanted_and_an_hsi_pixel_needs_all_its_ground(small: DemoScene, weights: np.ndarray) -> None:
    hsi, msi = observe(small, weights)
    first = np.argmax(small.hsi_swath, axis=1)
    assert first[0] > first[-1] and (np.diff(first) <= 0).all()
    valid = np.isfinite(hsi[small.good])
    assert (valid.all(axis=0) == valid.any(axis=0)).all(), "a pixel is seen in all good bands or in none"
    ground = small.hsi_swath.reshape(32, 3, 40, 3).all(axis=(1, 3))
    np.testing.assert_array_equal(valid[0], ground)
    np.testing.assert_array_equal(np.isfinite(msi[0]), small.msi_swath)
    assert small.msi_swath[small.hsi_swath].all(), "the MSI sees all that the HSI sees"


def test_noise_is_worst_in_the_blue_in_water_vapour_and_at_the_long_end(small: DemoScene) -> None:
    def sigma(nm: float) -> float:
        return float(small.noise_sigma[np.argmin(np.abs(small.wavelengths_nm - nm))])

    assert sigma(405) > 2 * sigma(600) and sigma(940) > 1.5 * sigma(860)
    assert sigma(1350) > 2 * sigma(1250) and sigma(2445) > 2 * sigma(2200)


def test_the_grid_is_utm_at_ten_metres_and_nests_in_30_m(small: DemoScene) -> None:
    a, b, c, d, e, f = small.transform
    assert (a, b, d, e) == (10.0, 0.0, 0.0, -10.0) and small.epsg == 32632
    assert c % 30 == 0 and f % 30 == 0


def test_sample_places_are_seen_by_the_hsi_and_covered_by_what_they_are_named_after(small: DemoScene) -> None:
    for name, row, col in sample_places(small):
        assert small.hsi_swath[row, col]
        assert small.fractions[small.material_names.index(name), row, col] > 0.5


def test_the_examples_in_the_docstrings_are_true() -> None:
    assert doctest.testmod(scene_module).failed == 0
