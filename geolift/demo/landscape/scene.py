"""The demo scene as a truth cube and as two sensors would see it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geolift.degradation import degrade, psf
from geolift.demo.landscape.canvas import Canvas, Layer, Mask
from geolift.demo.landscape.countryside import (
    paint_fields,
    paint_forest,
    paint_lake,
    paint_pit,
    paint_river,
    paint_roads,
    river_course,
)
from geolift.demo.landscape.materials import Material, materials
from geolift.demo.landscape.settlement import paint_greenhouses, paint_town, paint_works

Cube = NDArray[np.float32]

GSD_M, CELLS = 10.0, 4
"""Edge of a pixel in metres, and in cells of the drawing board."""

EPSG = 32632
"""WGS 84 / UTM zone 32N. The place itself is invented."""
UPPER_LEFT_M = (612_000.0, 5_712_000.0)
"""Easting and northing of the upper left corner, on Sentinel-2's 10 m grid."""


@dataclass(frozen=True, kw_only=True)
class DemoScene:
    """Truth of the demo: what is on the ground, at the MSI's pixels, without sensor noise.

    Attributes
    ----------
    reflectance
        (band, y, x), 0…1; NaN in the bands that no product delivers (water vapour), else valid everywhere.
    wavelengths_nm, fwhm_nm, good
        (band,). Two detectors one after the other, as some instruments deliver them: the wavelengths overlap
        about 950 nm and are therefore not sorted. ``good`` is False where the band carries no data.
    noise_sigma
        (band,), standard deviation of the hyperspectral sensor's noise in reflectance.
    fractions
        (material, y, x), share of the pixel covered by each of ``material_names``; sums to 1.
    hsi_swath, msi_swath
        (y, x), True where the sensor's slanted swath saw the ground.
    transform
        GDAL-free affine coefficients (a, b, c, d, e, f): x = a·col + b·row + c, y = d·col + e·row + f.
    """

    reflectance: Cube
    wavelengths_nm: NDArray[np.float64]
    fwhm_nm: NDArray[np.float64]
    good: NDArray[np.bool_]
    noise_sigma: NDArray[np.float64]
    fractions: Cube
    material_names: tuple[str, ...]
    hsi_swath: Mask
    msi_swath: Mask
    transform: tuple[float, float, float, float, float, float]
    epsg: int
    seed: int


def band_grid() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Wavelengths, FWHM (nm) and good flags of the demo's instrument: two detectors, 224 bands."""
    vnir, swir = np.linspace(400.0, 1000.0, 92), np.linspace(905.0, 2450.0, 132)
    wavelengths = np.round(np.concatenate([vnir, swir]), 4)
    fwhm = np.round(np.concatenate([6.6 + 1.8 * (vnir - 400) / 600, 11.2 + 1.0 * (swir - 905) / 1545]), 4)
    opaque = ((wavelengths > 1352) & (wavelengths < 1428)) | ((wavelengths > 1805) & (wavelengths < 1945))
    return wavelengths, fwhm, ~opaque


def noise_by_wavelength(wavelengths_nm: NDArray[np.floating]) -> NDArray[np.float64]:
    """Noise of a spaceborne imaging spectrometer after atmospheric correction, in reflectance, shape (band,).

    About 0.1 % of full scale in the near infrared, several times more in the blue, in the oxygen and water
    vapour bands and beyond 2350 nm, where little light arrives.
    """
    w = np.asarray(wavelengths_nm, np.float64)
    sigma = 0.0011 + 0.0030 * np.exp(-(w - 400) / 45) + 0.0007 * (w > 1000) + 0.0040 * np.exp((w - 2450) / 60)
    for centre, width, extra in ((761, 6, 0.0015), (940, 22, 0.002), (1130, 24, 0.0022), (1390, 55, 0.006)):
        sigma = sigma + extra * np.exp(-0.5 * ((w - centre) / width) ** 2)
    return np.asarray(sigma + 0.008 * np.exp(-0.5 * ((w - 1875) / 75) ** 2))


def make_scene(seed: int = 0, rows: int = 384, cols: int = 384) -> DemoScene:
    """Make a river landscape with a town, fields and woods, drawn finer than its pixels: borders are mixed.

    ``seed``: of everything random. Other seeds give other fields and houses along the same river. ``rows``, ``cols``:
    size in MSI pixels. The whole place is squeezed into any size; fields and houses keep their metres.

    Returns
    -------
    DemoScene
        224 bands, (band, rows, cols).

    Examples
    --------
    >>> scene = make_scene(rows=24, cols=24)
    >>> scene.reflectance.shape, bool(abs(scene.fractions.sum(axis=0) - 1).max() < 1e-5)
    ((224, 24, 24), True)
    """
    wavelengths, fwhm, good = band_grid()
    palette = materials(wavelengths)
    names = tuple(material.name for material in palette)
    canvas = Canvas(rows * CELLS, cols * CELLS, GSD_M / CELLS, np.random.default_rng(seed), names)
    lay_out(canvas)
    truth = _render(canvas, palette, wavelengths, CELLS)
    truth[~good] = np.nan
    hsi_swath, msi_swath = _swaths(rows, cols)
    return DemoScene(
        reflectance=truth,
        wavelengths_nm=wavelengths,
        fwhm_nm=fwhm,
        good=good,
        noise_sigma=noise_by_wavelength(wavelengths),
        fractions=_fractions(canvas, CELLS),
        material_names=names,
        hsi_swath=hsi_swath,
        msi_swath=msi_swath,
        transform=(GSD_M, 0.0, UPPER_LEFT_M[0], 0.0, -GSD_M, UPPER_LEFT_M[1]),
        epsg=EPSG,
        seed=seed,
    )


def lay_out(canvas: Canvas) -> None:
    """Paint the place from the ground up: fields, woods, settlements, water, and the roads over all of it."""
    river = river_course(canvas)
    paint_fields(canvas, river.distance_m > 0)
    paint_forest(canvas, (0.10, 0.06), (0.30, 0.24), 33.0)
    paint_forest(canvas, (0.06, 0.90), (0.19, 0.20), -8.0)
    paint_forest(canvas, (1.00, 0.80), (0.13, 0.26), 11.0)
    paint_greenhouses(canvas, (0.52, 0.88), 0.05, -16.0)
    paint_town(canvas, (0.42, 0.60), 0.165, -12.0, 0.085)
    paint_town(canvas, (0.66, 0.13), 0.06, 24.0, 0.0)
    paint_works(canvas, (0.71, 0.64), (0.07, 0.12), -13.0)
    paint_pit(canvas, (0.93, 0.20), 0.07)
    paint_river(canvas, river)
    paint_lake(canvas, (0.48, 0.17), 0.085, 0.12, "sand", 34.0)
    paint_roads(canvas)


def _swaths(rows: int, cols: int) -> tuple[Mask, Mask]:
    y = (np.arange(rows)[:, None] + 0.5) / rows
    x = (np.arange(cols)[None, :] + 0.5) / cols
    west, east, msi_east = 0.13 - 0.17 * y, 1.09 - 0.17 * y, 1.15 - 0.17 * y
    return (x > west) & (x < east), x < msi_east


def observe(
    scene: DemoScene,
    msi_weights: NDArray[np.floating],
    ratio: int = 3,
    kernel: NDArray[np.float64] | None = None,
    msi_noise_sigma: float = 0.0012,
) -> tuple[Cube, Cube]:
    """See the scene with two sensors: a coarse one with all the bands, a fine one with a few.

    Parameters
    ----------
    scene
        The truth.
    msi_weights
        SRF of the multispectral sensor on the scene's bands, shape (msi band, band), rows summing to 1 and
        zero on the bands that are not good.
    ratio
        MSI pixels along a side of an HSI pixel.
    kernel
        PSF of the hyperspectral sensor in MSI pixels; by default a Gaussian whose FWHM is one HSI pixel.
    msi_noise_sigma
        Noise of the multispectral sensor in reflectance.

    Returns
    -------
    hsi
        (band, y // ratio, x // ratio), NaN outside its swath and in bad bands.
    msi
        (msi band, y, x), NaN outside its swath.
    """
    blur = psf.gaussian_kernel_for_fwhm(float(ratio)) if kernel is None else kernel
    rng = np.random.default_rng([scene.seed, 1])
    seen = degrade.block_mean(scene.hsi_swath.astype(np.float32), ratio) == 1
    hsi = np.full((len(scene.good), *seen.shape), np.nan, np.float32)
    for band in np.flatnonzero(scene.good):
        noise = scene.noise_sigma[band] * rng.standard_normal(seen.shape)
        coarse = degrade.degrade(scene.reflectance[band : band + 1], blur, ratio, boundary="renormalize")[0]
        hsi[band] = np.where(seen, coarse + noise, np.nan)
    msi = degrade.apply_srf(scene.reflectance, np.asarray(msi_weights, np.float64))
    msi += (msi_noise_sigma * rng.standard_normal(msi.shape)).astype(np.float32)
    msi[:, ~scene.msi_swath] = np.nan
    return hsi, msi


def sample_places(scene: DemoScene) -> list[tuple[str, int, int]]:
    """Pick one nearly pure pixel of each material, near the middle but apart, as (material, row, col)."""
    rows, cols = scene.hsi_swath.shape
    y, x = np.ogrid[:rows, :cols]
    far = np.hypot(y - rows / 2, x - cols / 2)
    places = []
    for name in ("red tile", "crop", "bright soil"):
        share = np.where(scene.hsi_swath, scene.fractions[scene.material_names.index(name)], 0)
        wrong = share < 0.9 * share.max()
        row, col = (int(index) for index in np.unravel_index(np.argmin(far + 1e6 * wrong), far.shape))
        places.append((name, row, col))
        far = far + 1e3 * (np.hypot(y - row, x - col) < min(rows, cols) / 6)  # the next one elsewhere
    return places


def _block_mean(layer: NDArray[np.floating], cells: int) -> Layer:
    rows, cols = layer.shape[0] // cells, layer.shape[1] // cells
    return np.asarray(layer.reshape(rows, cells, cols, cells).mean(axis=(1, 3), dtype=np.float64), np.float32)


def _shares(canvas: Canvas, number: int) -> Layer:
    cover = np.where(canvas.cover == number, canvas.density, np.float32(0))
    return np.asarray(cover + np.where(canvas.ground == number, 1 - canvas.density, np.float32(0)))


def _fractions(canvas: Canvas, cells: int) -> Cube:
    return np.stack([_block_mean(_shares(canvas, number), cells) for number in range(len(canvas.names))])


def _render(canvas: Canvas, palette: tuple[Material, ...], wavelengths_nm: NDArray[np.float64], cells: int) -> Cube:
    """Add up what every material, in both states, in sun and in shade, sends from each pixel."""
    relief = 1 + 0.018 * canvas.noise(900, 1.6)
    light = canvas.brightness * relief
    lit = canvas.sunlit()
    sky = 0.16 + 0.26 * (450.0 / wavelengths_nm) ** 2.2
    weights, spectra = [], []
    for number, material in enumerate(palette):
        share = _shares(canvas, number) * light
        if not share.any():
            continue
        for state, amount in ((0, 1 - canvas.state), (1, canvas.state)):
            for seen, shade in ((lit, np.ones_like(sky)), (~lit, sky)):
                weights.append(_block_mean(share * amount * seen, cells))
                spectra.append(material.states[state] * shade)
    basis = np.asarray(spectra, np.float32)
    mixed = np.tensordot(basis.T, np.stack(weights), axes=1)
    return np.asarray(np.clip(mixed, 0.0005, 1.0), np.float32)
