"""Pictures: the stretch is one and the same, invalid pixels stay empty, files are real images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from geolift.errors import ResourceError
from geolift.plotting import PixelSpectra, demo_picture, srf_picture, stretch_limits, to_display


def test_black_white_and_grey_go_where_the_limits_say() -> None:
    rgb = np.array([0.1, 0.3, 0.2, -1.0, 9.0])[np.newaxis, np.newaxis].repeat(3, axis=0)
    shown = to_display(rgb, (0.1, 0.3))
    np.testing.assert_allclose(shown[0, [0, 1, 3, 4], :3], np.array([0, 1, 0, 1])[:, None].repeat(3, 1), atol=1e-6)
    assert 0.5 < shown[0, 2, 0] < 1 and np.ptp(shown[0, 2, :3]) == 0


def test_invalid_pixels_are_transparent_and_do_not_move_the_stretch() -> None:
    rgb = np.random.default_rng(0).random((3, 20, 20))
    expected = np.percentile(rgb[:, 1:], [1, 99])
    rgb[:, 0] = np.nan
    assert stretch_limits(rgb) == pytest.approx(tuple(expected))
    alpha = to_display(rgb, stretch_limits(rgb))[..., 3]
    assert (alpha[0] == 0).all() and (alpha[1:] == 1).all()


@pytest.mark.parametrize("rgb", [np.full((3, 4, 4), np.nan), np.full((3, 4, 4), 0.2), np.zeros((3, 0, 0))])
def test_flat_or_empty_pictures_still_have_a_stretch(rgb: np.ndarray) -> None:
    low, high = stretch_limits(rgb)
    assert high > low


def _image(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    return np.asarray(imread(path))


def test_the_demo_picture_shows_panels_of_different_sizes_and_every_place(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((3, 60, 90)) * 0.3
    lr = truth[:, ::3, ::3].copy()
    lr[:, :5] = np.nan
    wavelengths = np.array([500.0, 900.0, 850.0, 1500.0])
    curve = np.array([0.1, 0.3, np.nan, 0.2])
    places = [PixelSpectra(f"place {n}", 5 * n, 80, wavelengths, {"truth": curve, "other": curve}) for n in (0, 11)]
    demo_picture(lr, truth, truth, truth, places, tmp_path / "demo.png", "a title")
    image = _image(tmp_path / "demo.png")
    assert image.shape[1] > 1200 and image[..., :3].std() > 0.1
    demo_picture(lr, truth, truth, truth, [], tmp_path / "no places.png")
    assert (tmp_path / "no places.png").stat().st_size > 10_000


def test_the_srf_picture_draws_every_band(tmp_path: Path) -> None:
    w = np.arange(400.0, 1000.0, 2.0)
    curves = np.stack([np.exp(-0.5 * ((w - centre) / 20) ** 2) for centre in (490, 560, 665, 842)])
    srf_picture(w, curves.T, ["B2", "B3", "B4", "B8"], tmp_path / "srf.png", "four bands")
    four = _image(tmp_path / "srf.png")
    srf_picture(w, curves[:1].T, ["B2"], tmp_path / "one.png", "four bands")
    assert four.shape[1] > 1000
    assert (four[..., :3] < 0.9).any(axis=-1).sum() > (_image(tmp_path / "one.png")[..., :3] < 0.9).any(axis=-1).sum()


def test_a_folder_that_is_not_there_is_the_callers_business_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"nowhere.*cannot be written"):
        srf_picture(np.arange(5.0), np.ones((5, 1)), ["a"], tmp_path / "nowhere" / "srf.png")
