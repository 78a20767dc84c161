"""Small scenes with a known truth, and files made of them, for tests of every storey."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS
from scipy import ndimage

RATIO = 3
UTM = "EPSG:32633"
ORIGIN = (364095.0, 5809965.0)


@dataclass(frozen=True)
class Pair:
    """An HSI file and an MSI file of one place, with the truth on the MSI's grid (band, y, x)."""

    hsi: Path
    msi: Path
    truth: np.ndarray
    wavelength_nm: np.ndarray
    fwhm_nm: np.ndarray


def spectra_of(wavelength_nm: np.ndarray, rows: int, cols: int, seed: int = 0) -> np.ndarray:
    """Mix four smooth spectra by smooth random shares: reflectance (band, y, x) in 0.02 … 0.6."""
    rng = np.random.default_rng(seed)
    x = (wavelength_nm - 400) / 600
    library = np.stack(
        [
            0.05 + 0.02 * x,
            0.06 + 0.4 / (1 + np.exp(-(wavelength_nm - 715) / 15)),
            0.1 + 0.25 * x,
            0.3 + 0.1 * np.sin(3 * x),
        ]
    )
    coarse = rng.dirichlet(np.ones(4) * 0.5, (rows // 3 + 1, cols // 3 + 1))
    shares = np.kron(coarse, np.ones((3, 3, 1)))[:rows, :cols] + 0.05 * rng.random((rows, cols, 4))
    shares /= shares.sum(axis=2, keepdims=True)
    return np.einsum("yxk,kb->byx", shares, library).astype(np.float32)


def mixtures(side: int = 40, bands: int = 4, seed: int = 0) -> np.ndarray:
    """Mixtures of five materials (bands, side, side), patchy in space."""
    rng = np.random.default_rng(seed)
    share = ndimage.gaussian_filter(rng.normal(size=(5, side, side)), (0, 1.5, 1.5))
    share = np.exp(3.0 * share / share.std())
    share /= share.sum(axis=0)
    return np.einsum("mb,myx->byx", rng.uniform(0.03, 0.45, (5, bands)), share).astype(np.float32)


def noisy(image: np.ndarray, level: float, seed: int) -> np.ndarray:
    """Add white noise of this standard deviation."""
    return (image + np.random.default_rng(seed).normal(size=image.shape) * level).astype(np.float32)


def write(
    path: Path,
    values: np.ndarray,
    *,
    gsd: float,
    origin: tuple[float, float] = ORIGIN,
    crs: str | None = UTM,
    scale: float | None = 1e-4,
    nodata: float | None = -32768,
    dtype: str = "int16",
    transform: Affine | None = None,
    wavelength_nm: np.ndarray | None = None,
    fwhm_nm: np.ndarray | None = None,
    names: tuple[str, ...] | None = None,
    bad: tuple[int, ...] = (),
    **profile: Any,
) -> Path:
    """Write values (NaN = invalid) as a raster the way products come."""
    stored = values / (scale or 1)
    if np.issubdtype(np.dtype(dtype), np.integer):
        stored = np.rint(np.where(np.isfinite(stored), stored, nodata or 0))
    elif nodata is not None:
        stored = np.where(np.isfinite(stored), stored, nodata)
    grid = transform or Affine(gsd, 0, origin[0], 0, -gsd, origin[1])
    options = {"driver": "GTiff", "count": values.shape[0], "height": values.shape[1], "width": values.shape[2]}
    options |= {"crs": None if crs is None else CRS.from_user_input(crs), "transform": grid, "nodata": nodata}
    with rasterio.open(path, "w", dtype=dtype, **(options | profile)) as target:
        target.write(stored.astype(dtype))
        if scale not in (None, 1):
            target.scales = (scale,) * values.shape[0]
        for band in range(values.shape[0]):
            tags = {} if wavelength_nm is None else {"wavelength": str(wavelength_nm[band])}
            tags |= {} if wavelength_nm is None else {"wavelength_units": "Nanometers"}
            tags |= {} if fwhm_nm is None else {"fwhm": str(fwhm_nm[band])}
            tags |= {"bbl": "0"} if band in bad else {}
            target.update_tags(band + 1, **tags)
        if names:
            target.descriptions = names
    return path


def make_pair(folder: Path, rows: int = 48, cols: int = 42, bands: int = 30, **msi_options: Any) -> Pair:
    """Write an HSI (30 m) and a four-band Sentinel-2A image (10 m) of one small place."""
    from geolift.srf import SpectralResponse

    folder.mkdir(parents=True, exist_ok=True)
    wavelength = np.linspace(420, 1000, bands)
    fwhm = np.full(bands, 21.0)
    truth = spectra_of(wavelength, rows, cols)
    coarse = truth.reshape(bands, rows // RATIO, RATIO, cols // RATIO, RATIO).mean(axis=(2, 4))
    names = ("B02", "B03", "B04", "B08")
    weights = SpectralResponse.from_library("sentinel-2a").select(names).weights(wavelength, fwhm).weights
    msi = np.einsum("cb,byx->cyx", weights, truth)
    hsi_file = write(folder / "hsi.tif", coarse, gsd=30, wavelength_nm=wavelength, fwhm_nm=fwhm)
    msi_file = write(folder / "msi.tif", msi, **({"gsd": 10, "names": names} | msi_options))
    return Pair(hsi_file, msi_file, truth, wavelength, fwhm)
