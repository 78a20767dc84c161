"""The demo: a small realistic pair with its truth, fused, evaluated and drawn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geolift import plotting
from geolift.datamodel.cube import REFLECTANCE, Bands, bands_of, make_cube
from geolift.demo import landscape
from geolift.pipeline import files, wald
from geolift.pipeline.touched_files import Output, require_untouched
from geolift.readers import open_cube
from geolift.runtime.progress import advance
from geolift.settings import FuseSettings, WritingSettings
from geolift.srf import SpectralResponse
from geolift.writer import Encoding, choose_scale, default_rgb, write_cube

SENSOR = "sentinel-2a"
MSI_BANDS = ("B02", "B03", "B04", "B08")
RATIO = 3
FILES = {"hsi": "hsi.tif", "msi": "msi.tif", "truth": "truth.tif", "fused": "fused.tif", "picture": "demo.png"}


@dataclass(frozen=True)
class DemoPair:
    """Where the demo's files are, and three places worth a look (material, row, col in MSI pixels)."""

    paths: dict[str, Path]
    places: list[tuple[str, int, int]]


def make_pair(folder: Path, seed: int = 0, size: int = 384, overwrite: bool = False) -> DemoPair:
    """Write the demo's HSI, MSI and truth into a folder as real files. Raises OutputExistsError, ResourceError.

    ``folder``: made if it is missing. ``size``: edge of the scene in MSI pixels of 10 m.
    """
    scene = landscape.make_scene(seed=seed, rows=size, cols=size)
    response = SpectralResponse.from_library(SENSOR).select(MSI_BANDS)
    weights = response.weights(scene.wavelengths_nm, scene.fwhm_nm, scene.good).weights
    hsi, msi = landscape.observe(scene, weights, RATIO)
    fine = GeoBox(scene.reflectance.shape[1:], Affine(*scene.transform), f"EPSG:{scene.epsg}")
    coarse = GeoBox(hsi.shape[1:], fine.affine * Affine.scale(RATIO), fine.crs)
    names = tuple(f"band {i + 1}" for i in range(len(scene.good)))
    bands = Bands(names, scene.wavelengths_nm, scene.fwhm_nm, scene.good)
    msi_bands = Bands(MSI_BANDS, response.centres_nm, response.fwhm_nm, np.ones(len(MSI_BANDS), bool))
    folder.mkdir(parents=True, exist_ok=True)
    cubes = {
        "hsi": make_cube(hsi, grid=coarse, bands=bands),
        "msi": make_cube(msi, grid=fine, bands=msi_bands),
        "truth": make_cube(scene.reflectance, grid=fine, bands=bands),
    }
    settings = WritingSettings(overwrite=overwrite)
    paths = {key: folder / FILES[key] for key in cubes}
    for key, cube in cubes.items():
        scale = choose_scale(settings.dtype, REFLECTANCE, cube.values)
        write_cube(cube, paths[key], settings, encoding=Encoding.of(settings, scale))
    return DemoPair(paths, landscape.sample_places(scene))


class Shown(TypedDict):
    """What `geolift demo --json` prints: files, measures against the truth, and the command that does it again."""

    outputs: dict[str, str]
    scores: dict[str, object]
    command: str
    sidecar: str


def run(folder: Path, *, overwrite: bool = False) -> Shown:
    """Make the pair, fuse it, evaluate it, draw it; return paths and scores."""
    outputs = [Output(folder / name, told=key == "fused") for key, name in FILES.items()]
    if folder.exists():
        require_untouched([], outputs, overwrite=overwrite)
    advance("scene", 0.0)
    pair = make_pair(folder, overwrite=overwrite)
    paths = pair.paths
    advance("scene", 1.0)
    fused = folder / FILES["fused"]
    settings = FuseSettings(sensor=SENSOR, overwrite=overwrite)
    result = files.fuse_files(paths["hsi"], paths["msi"], fused, settings)
    scores = wald.evaluate(fused, paths["truth"], ratio=RATIO)
    picture = folder / FILES["picture"]
    title = f"geolift demo: PSNR {scores.psnr_db:.1f} dB, SAM {scores.sam_deg:.2f}°"
    advance("drawing", 0.0)
    draw({**paths, "fused": fused}, pair.places, picture, title)
    advance("drawing", 1.0)
    return {
        "outputs": {key: str(path) for key, path in {**paths, "fused": fused, "picture": picture}.items()},
        "scores": {key: value for key, value in wald.scores_json(scores).items() if key != "per_band"},
        "command": f"geolift fuse {paths['hsi']} {paths['msi']} --sensor {SENSOR} -o {fused}",
        "sidecar": str(result.output.with_suffix(".json")),
    }


def draw(paths: dict[str, Path], places: list[tuple[str, int, int]], picture: Path, title: str) -> None:
    """Draw LR-HSI, MSI, product and truth at one stretch, with the spectra of three places."""
    cubes = {key: open_cube(paths[key]) for key in ("hsi", "msi", "fused", "truth")}
    rgb = {key: _rgb(cube) for key, cube in cubes.items()}
    spectra = [_spectra(cubes, label, row, col) for label, row, col in places]
    plotting.demo_picture(rgb["hsi"], rgb["msi"], rgb["fused"], rgb["truth"], spectra, picture, title)


def _rgb(cube: xr.DataArray) -> np.ndarray:
    chosen = default_rgb(bands_of(cube))
    assert chosen is not None
    return np.asarray(cube.values[list(chosen)])


def _spectra(cubes: dict[str, xr.DataArray], label: str, row: int, col: int) -> plotting.PixelSpectra:
    curves = {
        "truth": cubes["truth"].values[:, row, col],
        "product": cubes["fused"].values[:, row, col],
        "LR-HSI": cubes["hsi"].values[:, row // RATIO, col // RATIO],
    }
    return plotting.PixelSpectra(label, row, col, bands_of(cubes["truth"]).wavelength_nm, curves)
