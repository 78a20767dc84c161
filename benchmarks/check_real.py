"""Real pairs for the check: two instruments where there are two, Wald's protocol on EnMAP else."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
from check_planted import Pair, Planted, ask
from coregistration_scenes import FOLDER, FloatArray
from numpy.typing import NDArray
from scipy import ndimage
from scipy.io import loadmat

from geolift.degradation.degrade import block_mean
from geolift.readers import open_cube
from geolift.srf import SpectralResponse

DATA = FOLDER.parent
ENMAP_BLOCKS = ((slice(96, 160), slice(32, 160)), (slice(0, 64), slice(0, 96)))
"""Rows and columns of the EnMAP scene that are wholly valid."""


def answers() -> Iterator[dict[str, object]]:
    with tempfile.TemporaryDirectory() as folder:
        for pair in pairs():
            yield from ask(pair, Path(folder))


def pairs() -> Iterator[Pair]:
    yield paris()
    for number, (rows, columns) in enumerate(ENMAP_BLOCKS):
        for sensor, count in (("sentinel-2a", 4), ("sentinel-2b", 10), ("landsat-8-oli", 7), ("worldview-2", 8)):
            for ratio in (3, 4):
                yield enmap(number, rows, columns, sensor, count, ratio)
    for plot, other in (("MLBS_39", "OSBS_13"), ("OSBS_13", "OSBS_32"), ("OSBS_32", "MLBS_39")):
        yield neon(plot, other)


def _coarse(cube: FloatArray, ratio: int) -> FloatArray:
    sigma = ratio / 2.3548
    rows, columns = (n // ratio * ratio for n in cube.shape[1:])
    return block_mean(ndimage.gaussian_filter(cube[:, :rows, :columns], (0, sigma, sigma)), ratio)


def _turned(image: FloatArray) -> Planted:
    """Another place of the same kind: the image, both ways round."""
    return "other place", {"other-place"}, np.ascontiguousarray(image[:, ::-1, ::-1])


def paris() -> Pair:
    """Hyperion degraded by 3, and the Advanced Land Imager: two instruments of one spacecraft."""
    images = loadmat(DATA / "paris_eo1" / "paris_data_hs_ms.mat")
    number = images["non_del_bands"].ravel().astype(float)
    centres = np.where(number < 71, 355.59 + 10.1747 * (number - 1), 851.92 + 10.0890 * (number - 71))
    ali = images["MSim"].transpose(2, 0, 1).astype(np.float32)
    names = ("MS-1p", "MS-1", "MS-2", "MS-3", "MS-4", "MS-4p", "MS-5p", "MS-5", "MS-7")
    hsi = _coarse(images["HSim"].transpose(2, 0, 1).astype(np.float32), 3)
    label = {"seed": 0, "pair": "Hyperion and ALI, Paris", "ratio": 3}
    return Pair(label, hsi, centres, np.full(number.size, 11.0), ali, "eo1-ali", names, 3, 0, (_turned(ali),))


def enmap(number: int, rows: slice, columns: slice, sensor: str, count: int, ratio: int) -> Pair:
    """A block of the EnMAP scene degraded, and a sensor's image of the block itself."""
    cube = open_cube(DATA / "enmap_potsdam" / "enmap_potsdam.tif")
    values = np.asarray(cube.data[:, rows, columns], np.float32)
    usable = np.isfinite(values).all(axis=(1, 2))
    values = values[usable]
    centres, widths = (np.asarray(cube.coords[key].values, float)[usable] for key in ("wavelength", "fwhm"))
    response = SpectralResponse.from_library(sensor)
    found = response.select(response.order_for(count)).weights(centres, widths)
    msi = np.einsum("bk,kyx->byx", found.weights, values).astype(np.float32)
    others = [_turned(msi)]
    if sensor == "sentinel-2b":
        others.append(_twin(values, centres, widths, found.band_names))
    label: dict[str, object] = {"seed": number, "pair": f"EnMAP {number}, {sensor} {count}", "ratio": ratio}
    names = tuple(found.band_names)
    return Pair(label, _coarse(values, ratio), centres, widths, msi, sensor, names, ratio, 0, tuple(others))


def _twin(
    values: FloatArray, centres: NDArray[np.float64], widths: NDArray[np.float64], names: tuple[str, ...]
) -> Planted:
    weights = SpectralResponse.from_library("sentinel-2a").select(names).weights(centres, widths).weights
    return "S2A for S2B", {"undetermined"}, np.einsum("bk,kyx->byx", weights, values).astype(np.float32)


def neon(plot: str, other: str) -> Pair:
    """An imaging spectrometer and a camera whose counts are no reflectance."""
    folder = DATA / "neon_plots"
    wavelengths = np.genfromtxt(folder / "wavelengths_369_derived.csv", delimiter=",", names=True)
    centres = np.asarray(wavelengths[wavelengths.dtype.names[-1]], float)
    with rasterio.open(folder / f"{plot}_hsi.tif") as source:
        hsi = source.read().astype(np.float32) / 1e4
    images = []
    for name in (plot, other):
        with rasterio.open(folder / f"{name}_rgb.tif") as source:
            images.append(source.read().astype(np.float32))
    label: dict[str, object] = {"seed": 0, "pair": f"NEON {plot}", "ratio": 10}
    stranger = ("other place", {"other-place"}, images[1])
    widths = np.full(centres.size, 5.8)
    names = ("Red", "Green", "Blue")
    return Pair(label, hsi, centres, widths, images[0], "generic-rgb", names, 10, 0, (stranger,), counts=True)
