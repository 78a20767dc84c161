"""Real scenes as multispectral images with planted shifts; shared by the coregistration benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.io import loadmat

from geolift.degradation.degrade import block_mean, blur
from geolift.degradation.psf import psf_kernel
from geolift.srf import SpectralResponse

FloatArray = NDArray[np.float32]
FOLDER = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "scenes"
SCENES = (
    "abu-airport-1", "abu-airport-2", "abu-airport-3", "abu-beach-1", "abu-beach-2",
    "abu-urban-1", "abu-urban-2", "abu-urban-4", "jasperRidge2_R198",
)  # fmt: skip
CLASSES = {"airport": SCENES[:3], "beach": SCENES[3:5], "urban": SCENES[5:8], "mixed": SCENES}
CROP_PX = 8


@cache
def hyperspectral(name: str) -> FloatArray:
    """One scene as (band, y, x), the brightest half per cent at 0.5."""
    content = loadmat(FOLDER / f"{name}.mat")
    if "Y" in content:
        cube = content["Y"].reshape(198, 100, 100).transpose(0, 2, 1)
    else:
        cube = content["data"].transpose(2, 0, 1)
    return np.asarray(cube / np.percentile(cube, 99.5) * 0.5, np.float32)


@cache
def centres_nm(bands: int) -> NDArray[np.float64]:
    """Band centres; the scenes carry none, so they are spread evenly."""
    return np.linspace(390.0, 2480.0, bands)


@cache
def multispectral(
    name: str, sensor: str = "sentinel-2a", bands: tuple[str, ...] = ("B02", "B03", "B04", "B08")
) -> FloatArray:
    """What a sensor would see of a scene: (c, y, x)."""
    cube = hyperspectral(name)
    response = SpectralResponse.from_library(sensor).select(bands)
    weights = response.weights(centres_nm(len(cube)), np.full(len(cube), 12.0)).weights
    return np.einsum("bk,kyx->byx", weights, cube).astype(np.float32)


def mosaic(names: tuple[str, ...], size: int, seed: int) -> FloatArray:
    """Tiles of 100 x 100 pixels of the scenes, turned and mirrored: (4, size, size)."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(-(-size // 100)):
        row = []
        for _ in range(-(-size // 100)):
            image = multispectral(names[rng.integers(len(names))])
            y, x = (int(rng.integers(n - 99)) for n in image.shape[1:])
            tile = np.rot90(image[:, y : y + 100, x : x + 100], int(rng.integers(4)), (1, 2))
            row.append(tile[:, ::-1] if rng.random() < 0.5 else tile)
        rows.append(np.concatenate(row, axis=2))
    return np.ascontiguousarray(np.concatenate(rows, axis=1)[:, :size, :size])


@dataclass(frozen=True)
class Planted:
    """A pair with its truth: motion (dy, dx) in MSI pixels that brings the HSI onto the MSI."""

    simulated: FloatArray
    msi_fine: FloatArray
    ratio: int
    margin: int
    dy: float
    dx: float


def seen_by_hsi(image: FloatArray, ratio: int, psf: str) -> FloatArray:
    """Blur and average; ``psf`` is none, gauss:FWHM in LR pixels, aniso, or a HyperBench name."""
    if psf.startswith("gauss:"):
        sigma = float(psf[6:]) * ratio / 2.3548
        image = ndimage.gaussian_filter(image, (0, sigma, sigma), mode="nearest")
    elif psf == "aniso":
        image = ndimage.gaussian_filter(image, (0, 0.3 * ratio, 0.55 * ratio), mode="nearest")
    elif psf != "none":
        kernel = psf_kernel(psf, sigma=0.5 * ratio, radius=2 * ratio)
        image = np.stack([blur(band, kernel, "nearest") for band in image])
    return block_mean(image, ratio)


def plant(
    image: FloatArray,
    ratio: int,
    shift_px: tuple[float, float],
    psf: str,
    snr_db: float,
    rng: np.random.Generator,
    *,
    move_hsi: bool = False,
    radiometry: bool = True,
) -> Planted:
    """Move the MSI (or, the other way, the scene that the HSI sees) by a spline, degrade, add noise.

    Gains of 0.8 ... 1.25 and offsets of up to 0.03 lie between the sensors unless ``radiometry`` is off.
    """
    bands, rows, columns = image.shape
    margin = -(-CROP_PX // ratio)
    away = (0.0, -shift_px[0], -shift_px[1]) if move_hsi else (0.0, *shift_px)
    moved = ndimage.shift(image, away, order=5 if rng.random() < 0.5 else 3, mode="nearest")
    ground, msi = (moved, image) if move_hsi else (image, moved)
    height, width = (rows - 2 * CROP_PX) // ratio, (columns - 2 * CROP_PX) // ratio
    start = CROP_PX % ratio
    whole = ground[
        :, start : start + (rows - start) // ratio * ratio, start : start + (columns - start) // ratio * ratio
    ]
    first = CROP_PX // ratio
    hsi = seen_by_hsi(whole, ratio, psf)[:, first : first + height, first : first + width]
    hsi = _noisy(hsi, snr_db, rng)
    if radiometry:
        msi = msi * rng.uniform(0.8, 1.25, (bands, 1, 1)) + rng.uniform(-0.03, 0.03, (bands, 1, 1))
    msi = _noisy(msi, snr_db + 5.0, rng)
    fine = np.full((bands, (height + 2 * margin) * ratio, (width + 2 * margin) * ratio), np.nan, np.float32)
    top = CROP_PX - margin * ratio
    inside = [
        slice(max(0, -top), min(n, limit - top)) for n, limit in zip(fine.shape[1:], (rows, columns), strict=True)
    ]
    taken = [slice(s.start + top, s.stop + top) for s in inside]
    fine[:, inside[0], inside[1]] = msi[:, taken[0], taken[1]]
    return Planted(hsi, fine, ratio, margin, *shift_px)


def _noisy(image: FloatArray, snr_db: float, rng: np.random.Generator) -> FloatArray:
    power = (image.astype(np.float64) ** 2).mean(axis=(1, 2), keepdims=True)
    noise = rng.normal(size=image.shape) * np.sqrt(power / 10 ** (snr_db / 10))
    return np.asarray(image + noise, np.float32)


def cloudy(image: FloatArray, share: float, rng: np.random.Generator) -> FloatArray:
    """Put soft-edged bright clouds over a share of the image."""
    coarse = rng.normal(size=(image.shape[1] // 8 + 2, image.shape[2] // 8 + 2))
    field = ndimage.zoom(ndimage.gaussian_filter(coarse, 2.0), 8, order=1)[: image.shape[1], : image.shape[2]]
    cover = np.clip((field - np.quantile(field, 1 - share)) / field.std() * 3, 0, 1)
    return np.asarray(image * (1 - cover) + cover * rng.uniform(0.6, 0.9), np.float32)
