"""Geometry beyond one shift: bands that lie apart, and a shift that wanders, planted and recovered."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from geolift.degradation.sampling import degrade_msi
from geolift.pair.band_alignment import lost_by_moving, move_band, reach_px
from geolift.pair.coregistration.band_shift import find_band_shifts, find_keystone, tell_bands
from geolift.pair.coregistration.cubic import brought_to
from geolift.pair.coregistration.shift_field import WanderingShift, find_evidence, find_wandering
from geolift.pair.saturation import find_saturation

FloatArray = NDArray[np.float32]
RATIO, MARGIN, SIDE = 3, 8, 36
PLACE = np.array([0.0, 0.0, 1.3**2, 1.3**2])


def texture(bands: int = 5, seed: int = 0) -> FloatArray:
    """Mixtures of four materials on the fine grid with its margin."""
    rng = np.random.default_rng(seed)
    size = (SIDE + 2 * MARGIN) * RATIO
    share = ndimage.gaussian_filter(rng.normal(size=(4, size, size)), (0, 1.8, 1.8))
    share = np.exp(3 * share / share.std())
    share /= share.sum(axis=0)
    return np.einsum("mb,myx->byx", rng.uniform(0.05, 0.5, (4, bands)), share).astype(np.float32)


def seen(fine: FloatArray) -> FloatArray:
    return degrade_msi(fine, RATIO, MARGIN, (0.0, 0.0), (1.3, 1.3))


def warped(fine: FloatArray, dy: NDArray[np.float64], dx: NDArray[np.float64]) -> FloatArray:
    rows, cols = np.indices(fine.shape[1:]).astype(float)
    return np.stack([ndimage.map_coordinates(b, (rows - dy, cols - dx), order=3, mode="nearest") for b in fine])


def noisy(image: FloatArray, share: float, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    return (image * (1 + share * rng.normal(size=image.shape))).astype(np.float32)


def wandering_of(low: FloatArray, fine: FloatArray) -> WanderingShift | None:
    def look(wandering: WanderingShift | None):  # type: ignore[no-untyped-def]
        image = fine
        if wandering is not None:
            places = (np.arange(fine.shape[1]) + 0.5) / RATIO - 0.5 - MARGIN
            shift = wandering.at(*np.meshgrid(places, places, indexing="ij"))
            image = brought_to(fine, *shift, (slice(0, fine.shape[1]), slice(0, fine.shape[2])))
        return find_evidence(low, image, RATIO, MARGIN, PLACE)

    return find_wandering(look)


def test_bands_that_lie_apart_are_found_to_a_hundredth_of_a_pixel() -> None:
    fine = texture(6)
    apart = np.array([[0.0, 0.0], [0.3, -0.2], [-0.25, 0.1], [0.0, 0.4], [0.1, -0.3], [-0.15, 0.0]])
    msi = np.stack([warped(b[None], np.full(b.shape, dy), np.full(b.shape, dx))[0]
                    for b, (dy, dx) in zip(fine, apart, strict=True)])  # fmt: skip
    found = find_band_shifts([(noisy(seen(fine), 0.005, 1), noisy(msi, 0.005, 2))], RATIO, MARGIN, PLACE)
    assert found is not None
    assert found.apart_px + found.common_px == pytest.approx(apart, abs=0.02)


def test_bands_of_the_hsi_that_lie_apart_are_no_fault_of_the_msi() -> None:
    fine = texture(6, seed=1)
    low = np.stack([seen(warped(b[None], np.zeros(b.shape), np.full(b.shape, 0.15 * k)))[0]
                    for k, b in enumerate(fine)])  # fmt: skip
    assert find_band_shifts([(low, fine)], RATIO, MARGIN, PLACE) is None


@pytest.mark.parametrize("span_lr", [0.0, 0.3, -0.6])
def test_bands_of_the_hsi_that_lie_apart_by_wavelength_are_told_as_keystone(span_lr: float) -> None:
    fine, nm = texture(6, seed=1), np.array([490.0, 560, 665, 865, 1610, 2200])
    place = (nm - nm[0]) / (nm[-1] - nm[0])
    low = np.stack([seen(warped(b[None], np.zeros(b.shape), np.full(b.shape, span_lr * RATIO * p)))[0]
                    for b, p in zip(fine, place, strict=True)])  # fmt: skip
    told = tell_bands([(noisy(low, 0.003, 1), noisy(fine, 0.003, 2))], RATIO, MARGIN, PLACE)
    assert told is not None
    found = find_keystone(told, nm, RATIO)
    if span_lr == 0:
        assert found is None
    else:
        assert found is not None
        assert found.axis == 1
        assert found.span_lr == pytest.approx(span_lr, rel=0.25)


@pytest.mark.parametrize("noise", [0.002, 0.03])
def test_bands_that_lie_on_each_other_are_left_alone(noise: float) -> None:
    fine = texture(6, seed=2)
    assert find_band_shifts([(noisy(seen(fine), noise, 1), noisy(fine, noise, 2))], RATIO, MARGIN, PLACE) is None


def test_a_shift_that_follows_the_terrain_is_recovered() -> None:
    fine = texture(seed=3)
    rng = np.random.default_rng(5)
    field = ndimage.gaussian_filter(rng.normal(size=(2, *fine.shape[1:])), (0, 15, 15))
    field *= 0.5 / field.std()
    found = wandering_of(noisy(seen(fine), 0.005, 1), noisy(warped(fine, *field), 0.005, 2))
    assert found is not None
    middles = slice(MARGIN * RATIO + 1, -MARGIN * RATIO, RATIO)
    planted = field[:, middles, middles]
    left = np.sqrt(np.square(found.deviation_px - planted).mean(axis=(1, 2)))
    assert (left < 0.45 * planted.std(axis=(1, 2))).all()
    assert found.explained > 0.4


def test_lines_that_jitter_are_told_as_lines() -> None:
    fine = texture(seed=4)
    shift = np.repeat(np.random.default_rng(2).normal(size=SIDE + 2 * MARGIN) * 0.6, RATIO)
    low = seen(warped(fine, np.zeros_like(fine[0]), np.repeat(-shift[:, None], fine.shape[2], axis=1)))
    found = wandering_of(noisy(low, 0.003, 1), fine)
    assert found is not None
    assert found.reach_lr[0] < 1 < found.reach_lr[1]


@pytest.mark.parametrize(("low_noise", "fine_noise"), [(0.0, 0.0), (0.05, 0.01), (0.01, 0.07)])
def test_one_shift_does_not_wander_however_noisy(low_noise: float, fine_noise: float) -> None:
    fine = texture(seed=5)
    assert wandering_of(noisy(seen(fine), low_noise, 1), noisy(fine, fine_noise, 2)) is None


def test_undoing_a_wandering_shift_is_the_inverse_of_adding_it() -> None:
    field = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(2, 20, 24)), (0, 4, 4)).astype(np.float32)
    field *= 0.8 / field.std()
    wandering = WanderingShift(field, (4.0, 4.0), 0.5)
    rows, cols = np.meshgrid(np.arange(3.0, 16.0), np.arange(3.0, 20.0), indexing="ij")
    dy, dx = wandering.at(rows, cols)
    again = wandering.brought(rows + dy / RATIO, cols + dx / RATIO, RATIO)
    assert np.allclose(again, (rows, cols), atol=2e-3)


def test_a_moved_band_keeps_its_holes_and_is_alike_in_tiles() -> None:
    band = texture(1, seed=6)[0].copy()
    band[40:44, 50:60] = np.nan
    moved, reach = move_band(band, 0.3, -1.4), reach_px(np.array([[0.3, -1.4]]))
    assert np.array_equal(np.isnan(moved), np.isnan(band))
    tile = move_band(band[30 - reach : 70 + reach, 35 - reach : 80 + reach], 0.3, -1.4)[reach:-reach, reach:-reach]
    assert np.array_equal(tile, moved[30:70, 35:80], equal_nan=True)


def test_what_a_band_loses_by_being_moved_is_its_noise() -> None:
    fine, apart = texture(3, seed=8), np.array([[0.0, 0.0], [0.5, 0.0], [0.45, -0.5]])
    delivered = np.stack([move_band(band, *map(float, -shift)) for band, shift in zip(fine, apart, strict=True)])
    moved = np.stack([move_band(band, *map(float, shift)) for band, shift in zip(delivered, apart, strict=True)])
    lost = lost_by_moving([moved], apart, lambda msi: msi)
    inner = (slice(None), slice(10, -10), slice(10, -10))
    truly = np.sqrt(np.square((moved - fine)[inner]).mean(axis=(1, 2)))
    assert lost[0] == 0
    assert (lost[1:] > 0.3 * truly[1:]).all()
    assert (lost[1:] < 1.5 * truly[1:]).all()


def test_a_saturated_band_is_found_and_a_bright_one_is_not() -> None:
    image = np.random.default_rng(7).lognormal(-1.5, 0.5, (3, 20_000)).astype(np.float32)
    cut = np.minimum(image, np.quantile(image, 0.98, axis=1, keepdims=True)).astype(np.float32)
    assert np.isfinite(find_saturation(cut).level).all()
    assert find_saturation(cut).share == pytest.approx([0.02] * 3, abs=0.002)
    assert not find_saturation(image).found
    assert not find_saturation(np.round(image * 200)).found
