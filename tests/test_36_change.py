"""Change of ground between the dates: found at fine pixels, where the product then shows what the HSI saw."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import ndimage

from geolift.refinement import Change, ChangedPair, find_change
from geolift.refinement.change import _confined, _worthwhile
from geolift.refinement.changed_share import least_near
from geolift.refinement.footprint import gaussian_footprint
from geolift.refinement.pair import ArrayPair, AveragedPair
from geolift.runtime.scratch import lent

RATIO, SIDE, BANDS = 3, 26, 4
SIZE = SIDE * RATIO
NOISE = 0.001
BLUR = (1.3, 1.3)
Images = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def images() -> Images:
    """HSI and MSI of one ground, in the same bands."""
    rng = np.random.default_rng(4)
    fields = ndimage.gaussian_filter(rng.standard_normal((BANDS, SIZE, SIZE)), (0, 2.0, 2.0))
    mixing = rng.uniform(0.2, 1.0, (BANDS, BANDS))
    truth = np.einsum("cd,dyx->cyx", mixing, fields / fields.std(axis=(1, 2), keepdims=True))
    truth = np.maximum(0.3 + 0.04 * truth, 0.01).astype(np.float32)
    wide = np.pad(truth, ((0, 0), (3 * RATIO, 3 * RATIO), (3 * RATIO, 3 * RATIO)), mode="edge")
    hsi = gaussian_footprint(RATIO, (0.0, 0.0), BLUR, 3.0).degrade(wide, 3)
    hsi, msi = (image + NOISE * rng.standard_normal(image.shape).astype(np.float32) for image in (hsi, truth))
    return hsi, msi


def found_in(hsi: np.ndarray, msi: np.ndarray, limit: float = np.inf) -> Change | None:
    pair = ArrayPair(hsi, msi)

    def saturated(row: int, col: int, height: int, width: int, margin: int) -> np.ndarray:
        return np.asarray((np.nan_to_num(pair.msi(row, col, height, width, margin)) >= limit).any(axis=0))

    return find_change(pair, np.eye(BANDS), np.full(BANDS, NOISE), (0.0, 0.0), BLUR, saturated=saturated)


def test_where_the_ground_changed_the_msi_gives_way_to_the_hsi_and_clear_neighbours_stay(images: Images) -> None:
    hsi, msi = images
    truth, changed = msi.copy(), np.zeros((SIZE, SIZE), bool)
    changed[20:33, 31:41] = changed[SIZE - 5 :, 50:60] = True  # off the HSI's grid; at the border
    msi[:, changed] = np.array([0.9, 0.1, 0.6, 0.3], np.float32)[:, None]
    change = found_in(hsi, msi)
    assert change is not None
    share = change.share.read(slice(None), slice(None))[0]
    assert share[changed].mean() > 0.9
    assert (share[~changed] > 0).mean() < 0.002
    shown = ChangedPair(ArrayPair(hsi, msi), change).msi(0, 0, SIDE, SIDE, 0)
    assert np.array_equal(shown[:, share == 0], msi[:, share == 0])
    errors = [np.square(image - truth)[:, changed].mean() for image in (msi, shown)]
    assert errors[1] < 0.05 * errors[0]


def test_hsi_pixels_that_see_changed_ground_tell_nothing_of_the_others(images: Images) -> None:
    hsi, msi = images
    msi[:, 18:36, 30:48] += 0.4
    change = found_in(hsi, msi)
    assert change is not None
    told = np.isfinite(ChangedPair(ArrayPair(hsi, msi), change).hsi(slice(0, SIDE), slice(0, SIDE))[0])
    assert not told[6:12, 10:16].any()
    told[3:15, 7:19] = True  # the rim, which the footprint reaches into, may go as well
    assert told.all()


def test_a_pixel_gives_way_alike_in_every_tile(images: Images) -> None:
    hsi, msi = images
    msi[:, 20:33, 31:41] += 0.4
    change = found_in(hsi, msi)
    assert change is not None
    places = (np.arange(SIZE) + 0.5) / RATIO - 0.5
    whole = change.applied(msi, places[:, None], places[None])
    part = change.applied(msi[:, 11:29, 30:55], places[11:29, None], places[None, 30:55])
    assert not np.array_equal(whole, msi)
    assert np.array_equal(whole[:, 11:29, 30:55], part)


def test_a_pixel_gives_way_alike_where_only_pieces_of_the_arrays_are(images: Images) -> None:
    hsi, msi = images
    msi[:, 20:33, 31:41] += 0.4
    change = found_in(hsi, msi)
    assert change is not None
    rows, cols = ((np.arange(first, last) + 0.5) / RATIO - 0.5 for first, last in ((11, 29), (30, 55)))
    tile, places = msi[:, 11:29, 30:55], (rows[:, None], cols[None])
    elsewhere: Change = pickle.loads(pickle.dumps(change))
    with lent(change.pieces(*places)):
        assert np.array_equal(elsewhere.applied(tile, *places), change.applied(tile, *places))
        with pytest.raises(IndexError, match="not lent"):
            elsewhere.share_at(rows[:, None], cols[None] + 1)


def test_of_an_averaged_msi_the_same_ground_gives_way_at_the_pixels_it_was_averaged_from(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    hsi, msi = images
    msi[:, 20:33, 31:41] += 0.4
    fine = msi.repeat(4, axis=1).repeat(4, axis=2)
    monkeypatch.setattr("geolift.refinement.pair.AVERAGED_PX", 20_000)  # strips
    averaged = AveragedPair(ArrayPair(hsi, fine), RATIO)
    np.testing.assert_allclose(averaged.msi(2, 3, 9, 7, 2), ArrayPair(hsi, msi).msi(2, 3, 9, 7, 2), rtol=1e-5)
    change = find_change(averaged, np.eye(BANDS), np.full(BANDS, NOISE), (0.0, 0.0), BLUR)
    expected = found_in(hsi, msi)
    assert change is not None
    assert expected is not None
    shown = ChangedPair(ArrayPair(hsi, fine), change).msi(0, 0, SIDE, SIDE, 0)
    small = ChangedPair(ArrayPair(hsi, msi), expected).msi(0, 0, SIDE, SIDE, 0)
    assert not np.array_equal(small, msi)
    gives_way = (small != msi).repeat(4, axis=1).repeat(4, axis=2)
    assert np.array_equal(shown != fine, gives_way)
    means = shown.reshape(BANDS, SIZE, 4, SIZE, 4).mean(axis=(2, 4))
    assert np.abs(means - small)[small != msi].mean() < 0.02 * 0.4  # what is shown varies within a pixel


def test_a_clean_pair_is_left_alone(images: Images) -> None:
    assert found_in(*images) is None


def test_what_is_smaller_than_an_hsi_pixel_is_no_change_of_ground() -> None:
    share = np.zeros((12, 12), np.float32)
    share[4:7, 4:7] = 1
    msi, sigma = np.full((BANDS, 12, 12), 0.3, np.float32), np.full(BANDS, NOISE, np.float32)
    won, lost = np.full_like(msi, 0.1), np.zeros_like(msi)
    alone = _confined(share, msi, sigma)
    assert (alone > 0).sum() == 1
    assert not _worthwhile(alone, won, lost, sigma, 9).any()
    msi[:, 4:7, 4:7] = 0.5
    apart = _confined(share, msi, sigma)
    assert np.allclose(apart, share, atol=1e-3)
    assert np.array_equal(_worthwhile(apart, won, lost, sigma, 9), apart)


def test_an_area_gives_way_only_where_the_msi_is_more_wrong_than_it_is_detailed(images: Images) -> None:
    hsi, msi = images
    areas = np.zeros((24, 24), np.float32)
    areas[2:8, 2:8] = areas[12:20, 12:20] = 1
    won, lost, sigma = np.full((BANDS, 24, 24), 0.1), np.zeros((BANDS, 24, 24)), np.full(BANDS, NOISE)
    lost[:, 12:] = 0.2
    kept = _worthwhile(areas, won.astype(np.float32), lost.astype(np.float32), sigma.astype(np.float32), 9)
    assert np.array_equal(kept > 0, (areas > 0) & (np.arange(24) < 10)[:, None])
    brighter = msi.copy()
    brighter[:, 18:48, 18:48] *= 1.03  # much more than the noise, much less than the detail
    assert found_in(hsi, brighter) is None
    brighter[:, 18:48, 18:48] *= 1.5
    assert found_in(hsi, brighter) is not None


def test_a_bright_clear_pixel_beside_a_change_is_not_its_cheapest_explanation(images: Images) -> None:
    hsi, msi = images
    truth = msi.copy()
    truth[:, 33:36, 32:36] += 0.5
    wide = np.pad(truth, ((0, 0), (9, 9), (9, 9)), mode="edge")
    hsi = gaussian_footprint(RATIO, (0.0, 0.0), BLUR, 3.0).degrade(wide, 3)
    msi, changed = truth.copy(), np.zeros((SIZE, SIZE), bool)
    changed[15:33, 24:48] = True
    msi[:, changed] *= 0.5
    change = found_in(hsi, msi)
    assert change is not None
    share = change.share.read(slice(None), slice(None))[0]
    assert not share[33:36, 32:36].any()
    assert share[changed].mean() > 0.7


def test_a_faulty_pixel_or_a_displaced_line_of_the_hsi_is_no_change_of_ground(images: Images) -> None:
    hsi, msi = images
    hsi[:, 7, 9] *= 2.5
    hsi[:, 18] = np.roll(hsi[:, 18], 1, axis=1)
    assert found_in(hsi, msi) is None


def test_what_the_msi_shows_as_near_as_the_shift_wanders_has_not_changed(images: Images) -> None:
    moved, new = images[0].copy(), images[0].copy()
    moved[:, 8:14, 8:14] = images[0][:, 8:14, 9:15]
    new[:, 8:14, 8:14] = 0.6 - new[:, 8:14, 8:14]
    inside = np.zeros((SIDE, SIDE), bool)
    inside[9:13, 9:13] = True
    variance = np.full_like(moved, (2 * NOISE) ** 2)

    def unlike(hsi: np.ndarray, reach: float) -> float:
        return float(np.median(least_near(hsi, images[0], variance, inside, reach)))

    assert unlike(moved, 0.5) > unlike(moved, 0.0) / 4
    assert unlike(moved, 1.0) < 1e-3 < 0.5 * unlike(new, 0.0) < unlike(new, 1.0)


def test_what_is_saturated_is_no_change_of_ground_and_tells_nothing_of_the_rest(images: Images) -> None:
    hsi, msi = images
    limit = float(np.quantile(msi, 0.98))
    np.minimum(msi, np.float32(limit), out=msi)
    change = found_in(hsi, msi, limit)
    assert change is not None
    assert change.pixels == 0
    saturated = (msi >= limit).any(axis=0).reshape(SIDE, RATIO, SIDE, RATIO).any(axis=(1, 3))
    told = np.isfinite(ChangedPair(ArrayPair(hsi, msi), change).hsi(slice(0, SIDE), slice(0, SIDE))[0])
    assert not told[saturated].any()
    assert told.any()
