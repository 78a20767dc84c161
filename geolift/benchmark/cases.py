"""The cases of a sweep: what is degraded how, and the arrays that come of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import astuple, dataclass, fields
from itertools import product, starmap
from math import log2
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from geolift.datamodel.cube import bands_of, window_values
from geolift.degradation.degrade import add_noise, apply_srf, degrade, gaussian_srf, normalize_scene
from geolift.degradation.psf import psf_kernel
from geolift.errors import InputError, UsageError
from geolift.pair.spectra import plan_spectra
from geolift.readers import open_cube
from geolift.readers.mat_scene import open_mat_scene
from geolift.runtime.progress import SILENT, heard_by, warn
from geolift.settings import BandSettings, BenchmarkSettings, Reading, SensorSettings

Cube = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """What becomes of a scene.

    ``srf`` is the number of bands of HyperBench's instrument, or a sensor's name with ``msi_bands``, its bands in
    order, parted by blanks (empty: its usual ones). ``psf_sigma`` and ``psf_radius`` are in HR pixels.
    """

    scene: str
    psf: str
    psf_sigma: float
    psf_radius: int
    ratio: int
    srf: str
    msi_bands: str
    snr_db: float
    msi_snr_db: float
    noise_seed: int


@dataclass(frozen=True)
class Case:
    """A degradation, and the method with its seed that is to undo it."""

    degradation: Degradation
    method: str
    seed: int

    def axes(self) -> dict[str, str]:
        """Return where the case lies on every axis of a sweep, as a CSV holds it."""
        return dict(zip(AXES, map(str, (*astuple(self.degradation), self.method, self.seed)), strict=True))


AXES = (*(field.name for field in fields(Degradation)), "method", "seed")
"""The axes of a sweep, in the order of its loops."""


@dataclass(frozen=True)
class Pair:
    """What a method is given, and the truth: cubes (band, y, x) of float32 in [0, 1] but for noise, NaN = invalid.

    ``weights`` (MSI band, HSI band).
    """

    hsi: Cube
    msi: Cube
    weights: NDArray[np.float32]
    truth: Cube


def usual_snr_db(ratio: int) -> float:
    """Return the LR-HSI's SNR in HyperBench's examples: 35 dB at ratio 4, 5 dB less for each doubling.

    >>> [usual_snr_db(ratio) for ratio in (4, 8, 16, 32)]
    [35.0, 30.0, 25.0, 20.0]
    """
    return round(45 - 5 * log2(ratio), 2)


def expand(scenes: tuple[str, ...], settings: BenchmarkSettings) -> list[Case]:
    """Return every case of a sweep; those of one degradation follow each other.

    Raises UsageError if two scenes have one name: the name is what a case is known by.
    """
    names = [scene_name(scene) for scene in scenes]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UsageError(f"two scenes are called {twice[0]}; give each a name of its own")
    usual = not settings.srf_bands and not settings.sensor
    named = " ".join(settings.msi_bands or ())
    responses = [(str(bands), "") for bands in (("4",) if usual else settings.srf_bands)]
    responses += [(sensor, named) for sensor in settings.sensor]
    sigma, radius = settings.psf_sigma, settings.psf_radius
    degradations = [
        Degradation(
            scene=name,
            psf=psf,
            psf_sigma=sigma,
            psf_radius=radius,
            ratio=ratio,
            srf=srf,
            msi_bands=bands,
            snr_db=snr,
            msi_snr_db=settings.msi_snr,
            noise_seed=settings.noise_seed,
        )
        for name, psf, ratio, (srf, bands) in product(names, settings.psf, settings.ratio, responses)
        for snr in settings.snr or (usual_snr_db(ratio),)
    ]
    return list(dict.fromkeys(starmap(Case, product(degradations, settings.method, settings.seed))))


def scene_name(path: str) -> str:
    """Return what a scene is called in tables: the file's or folder's name without its suffix."""
    return Path(path).stem


def open_scene(path: str, reading: Reading) -> xr.DataArray:
    """Open a scene: a MATLAB file, or whatever else geolift reads. Raises InputError."""
    if Path(path).suffix.lower() == ".mat":
        return open_mat_scene(path, reading)
    return open_cube(path, reading)


def weights_of(scene: xr.DataArray, degradation: Degradation) -> NDArray[np.float32]:
    """Return the SRF weights (MSI band, good HSI band) of a degradation.

    Raises InputError or UsageError if the sensor is not known or cannot be made of the scene, for want of
    wavelengths for instance.
    """
    if degradation.srf.isdigit():
        return gaussian_srf(int(degradation.srf), int(bands_of(scene).good.sum())).astype(np.float32)
    chosen = SensorSettings(sensor=degradation.srf, msi_bands=tuple(degradation.msi_bands.split()) or None)
    plan = plan_spectra(scene, chosen, BandSettings())
    warn(*plan.warnings)
    return plan.weights


def make_pair(scene: xr.DataArray, degradation: Degradation) -> Pair:
    """Degrade a scene as HyperBench 0.1.0 does, once it is cropped to whole LR pixels at the right and the bottom.

    Stretch between the 1 and 99 percentiles; blur with zeros outside, average ratio × ratio blocks, add noise of
    ``noise_seed``; apply the SRF, add noise of the next seed. Where pixels are invalid, which HyperBench refuses, see
    `geolift.degradation.degrade`. Raises InputError or UsageError if the scene is smaller than two LR pixels along an
    edge, or see `weights_of`.
    """
    with heard_by(SILENT):  # what there is to warn of was told when the sweep began
        weights = weights_of(scene, degradation)
    rows, cols = (size // degradation.ratio * degradation.ratio for size in scene.shape[1:])
    if min(rows, cols) < 2 * degradation.ratio:
        raise InputError(
            f"{degradation.scene}: {scene.shape[1]} × {scene.shape[2]} pixels are too few for ratio "
            f"{degradation.ratio}; at least {2 * degradation.ratio} along each edge are needed."
        )
    values = window_values(scene.data, slice(0, rows), slice(0, cols))
    truth = normalize_scene(values[bands_of(scene).good])
    kernel = psf_kernel(degradation.psf, degradation.psf_sigma, degradation.psf_radius)
    hsi = add_noise(
        degrade(truth, kernel, degradation.ratio), degradation.snr_db, np.random.default_rng(degradation.noise_seed)
    )
    msi = add_noise(
        apply_srf(truth, weights.astype(np.float64)),
        degradation.msi_snr_db,
        np.random.default_rng(degradation.noise_seed + 1),
    )
    return Pair(hsi, msi, weights, truth)
