"""Masks: brought to the image's grid, grown, and never a pixel more or less."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scenes import ORIGIN, Pair, write
from scipy import ndimage

import geolift
from geolift.errors import InputError
from geolift.pair.masks import mask_of, without


def test_a_mask_on_the_images_grid_is_taken_as_it_is(pair: Pair, tmp_path: Path) -> None:
    flags = np.random.default_rng(0).random((1, 48, 42)) < 0.1
    file = write(tmp_path / "m.tif", flags, gsd=10, scale=None, dtype="uint8", nodata=None)
    mask = mask_of(geolift.open(pair.msi, tile=17), str(file))
    assert mask is not None
    assert np.array_equal(mask.compute(), flags[0])
    grown = mask_of(geolift.open(pair.msi, tile=17), str(file), dilate=2)
    assert grown is not None
    assert np.array_equal(grown.compute(), ndimage.binary_dilation(flags[0], iterations=2))
    masked = without(geolift.open(pair.msi, tile=17), mask)
    assert np.array_equal(np.isnan(masked.values), np.broadcast_to(flags, (4, 48, 42)))


def test_a_coarser_shifted_mask_covers_the_pixels_whose_centre_it_holds(pair: Pair, tmp_path: Path) -> None:
    flags = np.zeros((1, 6, 5))
    flags[0, 2, 1] = 255
    origin = (ORIGIN[0] - 15, ORIGIN[1] + 20)
    file = write(tmp_path / "m.tif", flags, gsd=40, origin=origin, scale=None, dtype="uint8", nodata=None)
    mask = mask_of(geolift.open(pair.msi), str(file))
    assert mask is not None
    # The masked cell reaches from 25 to 65 m in x and from 60 to 100 m in y below the image's corner.
    expected = np.zeros((48, 42), bool)
    expected[6:10, 2:6] = True
    assert np.array_equal(mask.compute(), expected)


def test_a_mask_of_another_place_is_refused_for_it_would_mask_nothing(pair: Pair, tmp_path: Path) -> None:
    origin = (ORIGIN[0] + 5000, ORIGIN[1])
    file = write(tmp_path / "m.tif", np.ones((1, 6, 5)), gsd=40, origin=origin, scale=None, dtype="uint8", nodata=None)
    with pytest.raises(InputError, match="covers no pixel of"):
        mask_of(geolift.open(pair.msi), str(file))


def test_none_masks_nothing_and_auto_asks_the_product(pair: Pair) -> None:
    cube = geolift.open(pair.msi)
    assert mask_of(cube, "none") is None
    assert mask_of(cube, "auto") is None
