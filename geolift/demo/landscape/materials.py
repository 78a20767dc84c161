"""Reflectance spectra of the demo scene's materials: a continuum with absorption features on it.

The curves are drawn from what is generally known of each material (where chlorophyll, liquid water,
cellulose, iron oxide, clay, carbonate and plastics absorb, and about how strongly), not taken from a
spectral library.
Every material comes in two states, between which the scene varies from place to place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

Spectrum = NDArray[np.float64]
Feature = tuple[float, float, float]
"""An absorption: centre in nm, standard deviation in nm, depth 0…1."""

CLAY: Feature = (2207.0, 20.0, 0.11)
HYDROXYL: Feature = (1414.0, 24.0, 0.10)
BOUND_WATER: Feature = (1915.0, 42.0, 0.18)
CARBONATE: Feature = (2340.0, 30.0, 0.17)
IRON_BLUE: Feature = (490.0, 38.0, 0.10)
IRON_NIR: Feature = (885.0, 75.0, 0.07)
CELLULOSE: tuple[Feature, ...] = ((2100.0, 48.0, 0.17), (2310.0, 32.0, 0.12), (1730.0, 26.0, 0.05))
POLYMER: tuple[Feature, ...] = ((1215.0, 16.0, 0.08), (1410.0, 22.0, 0.09), (1730.0, 18.0, 0.26), (2310.0, 24.0, 0.32))


@dataclass(frozen=True)
class Material:
    """One material in two states: ``states[0]`` and ``states[1]`` are reflectances, shape (band,)."""

    name: str
    states: NDArray[np.float64]


def _gauss(wavelengths_nm: Spectrum, centre: float, sigma: float) -> Spectrum:
    return np.asarray(np.exp(-0.5 * ((wavelengths_nm - centre) / sigma) ** 2))


def _sigmoid(wavelengths_nm: Spectrum, centre: float, width: float) -> Spectrum:
    return np.asarray(1.0 / (1.0 + np.exp(-(wavelengths_nm - centre) / width)))


def _curve(wavelengths_nm: Spectrum, anchors: Sequence[float], *features: Feature) -> Spectrum:
    """Continuum through reflectances at 400, 480, 560, 650, 760, 900, 1100, 1300, 1650, 2150, 2450 nm."""
    at = (400.0, 480.0, 560.0, 650.0, 760.0, 900.0, 1100.0, 1300.0, 1650.0, 2150.0, 2450.0)
    reflectance = PchipInterpolator(at, anchors, extrapolate=True)(wavelengths_nm)
    for centre, sigma, depth in features:
        reflectance = reflectance * (1.0 - depth * _gauss(wavelengths_nm, centre, sigma))
    return np.asarray(reflectance)


def liquid_water(wavelengths_nm: Spectrum) -> Spectrum:
    """Relative absorption by liquid water in leaves and wet ground, 1 at the 1450 nm band."""
    w = wavelengths_nm
    bands = 0.055 * _gauss(w, 972, 28) + 0.15 * _gauss(w, 1195, 42) + 0.80 * _gauss(w, 1452, 55)
    bands = bands + 1.55 * _gauss(w, 1940, 70) + 1.1 * _gauss(w, 2560, 190)
    return np.asarray(bands + 0.16 * _sigmoid(w, 1370, 35) + 0.42 * _sigmoid(w, 1850, 55))


def vegetation(
    wavelengths_nm: Spectrum, chlorophyll: float, water: float, nir: float, green: float, edge_nm: float
) -> Spectrum:
    """Green canopy: chlorophyll absorptions, a red edge, an NIR plateau and leaf-water bands.

    ``chlorophyll`` and ``water`` are optical depths, ``nir`` and ``green`` the reflectances of the plateau
    and of the unabsorbed visible, ``edge_nm`` the middle of the red edge.
    """
    w = wavelengths_nm
    pigments = 1.30 * _gauss(w, 435, 42) + 0.85 * _gauss(w, 490, 22) + 0.42 * _gauss(w, 625, 28)
    pigments = pigments + 1.15 * _gauss(w, 674, 21)
    visible = 0.014 + 0.12 * green + 0.80 * green * np.exp(-chlorophyll * pigments)
    plateau = nir * (1.0 + 0.06 * (w - 800.0) / 300.0 * _sigmoid(-w, -1150, 60))
    plateau = plateau * (1.0 - 0.16 * _sigmoid(w, 1330, 70))
    cover = _sigmoid(w, edge_nm, 12.0)
    return np.asarray((visible * (1 - cover) + plateau * cover) * np.exp(-water * liquid_water(w)))


def _plants(w: Spectrum) -> dict[str, tuple[Spectrum, Spectrum]]:
    straw = _curve(w, (0.07, 0.11, 0.17, 0.24, 0.31, 0.37, 0.42, 0.44, 0.41, 0.33, 0.26), *CELLULOSE)
    weathered = _curve(w, (0.06, 0.08, 0.11, 0.15, 0.20, 0.25, 0.30, 0.33, 0.32, 0.25, 0.19), *CELLULOSE)
    return {
        "conifer": (vegetation(w, 1.9, 1.3, 0.215, 0.052, 717), vegetation(w, 1.5, 0.95, 0.27, 0.062, 714)),
        "broadleaf": (vegetation(w, 1.9, 1.1, 0.40, 0.085, 719), vegetation(w, 1.3, 0.8, 0.46, 0.105, 714)),
        "crop": (vegetation(w, 1.9, 1.25, 0.48, 0.092, 722), vegetation(w, 1.1, 0.75, 0.42, 0.118, 713)),
        "grass": (vegetation(w, 1.4, 0.95, 0.41, 0.098, 715), vegetation(w, 0.75, 0.45, 0.34, 0.135, 708)),
        "dry vegetation": (straw, weathered * np.exp(-0.25 * liquid_water(w))),
    }


def _ground(w: Spectrum) -> dict[str, tuple[Spectrum, Spectrum]]:
    soil = (HYDROXYL, BOUND_WATER, CLAY, IRON_BLUE, IRON_NIR)
    bright = _curve(w, (0.10, 0.155, 0.225, 0.295, 0.345, 0.385, 0.44, 0.47, 0.51, 0.47, 0.41), *soil)
    dark = _curve(w, (0.045, 0.058, 0.078, 0.105, 0.132, 0.16, 0.20, 0.225, 0.25, 0.225, 0.19), *soil)
    sand = _curve(w, (0.17, 0.25, 0.33, 0.39, 0.43, 0.47, 0.52, 0.55, 0.58, 0.55, 0.50), IRON_BLUE, BOUND_WATER)
    chalk = _curve(w, (0.31, 0.39, 0.45, 0.48, 0.50, 0.515, 0.53, 0.54, 0.55, 0.50, 0.43), CARBONATE, HYDROXYL)
    clear = _curve(w, (0.036, 0.043, 0.040, 0.018, 0.008, 0.004, 0.002, 0.0015, 0.001, 0.001, 0.001))
    silty = _curve(w, (0.048, 0.066, 0.098, 0.083, 0.033, 0.019, 0.006, 0.003, 0.002, 0.0015, 0.001))
    ripple = 1.0 - 0.18 * _gauss(w, 676, 12) + 0.22 * _gauss(w, 704, 14)
    wet = np.exp(-0.75 * liquid_water(w))
    return {
        "bright soil": (bright, 0.66 * bright * wet),
        "dark soil": (dark, 0.68 * dark * wet),
        "sand": (sand, 0.72 * sand * np.exp(-0.6 * liquid_water(w))),
        "limestone": (chalk, 0.70 * chalk * (1.0 - 0.06 * _gauss(w, 490, 60))),
        "water": (clear, silty * ripple),
    }


def _built(w: Spectrum) -> dict[str, tuple[Spectrum, Spectrum]]:
    old = _curve(w, (0.085, 0.105, 0.125, 0.142, 0.155, 0.168, 0.185, 0.20, 0.215, 0.21, 0.195), CARBONATE)
    tar: Feature = (2310.0, 30.0, 0.06)
    new = _curve(w, (0.048, 0.052, 0.057, 0.063, 0.069, 0.076, 0.087, 0.096, 0.108, 0.113, 0.108), tar)
    pale = _curve(w, (0.17, 0.23, 0.275, 0.30, 0.315, 0.325, 0.345, 0.36, 0.37, 0.335, 0.29), CARBONATE, BOUND_WATER)
    tile = _curve(w, (0.05, 0.062, 0.098, 0.235, 0.305, 0.325, 0.40, 0.455, 0.50, 0.50, 0.46), IRON_NIR, CLAY)
    worn = _curve(w, (0.05, 0.06, 0.082, 0.15, 0.19, 0.21, 0.26, 0.295, 0.33, 0.33, 0.30), IRON_NIR, CLAY)
    zinc = _curve(w, (0.25, 0.295, 0.315, 0.325, 0.33, 0.33, 0.345, 0.37, 0.41, 0.44, 0.45), (1020.0, 90.0, 0.07))
    blue = _curve(w, (0.14, 0.225, 0.16, 0.105, 0.17, 0.33, 0.40, 0.42, 0.41, 0.36, 0.32), *POLYMER[2:])
    slate = _curve(w, (0.062, 0.070, 0.077, 0.082, 0.087, 0.092, 0.10, 0.107, 0.118, 0.12, 0.115), CLAY)
    film = _curve(w, (0.24, 0.33, 0.38, 0.41, 0.44, 0.46, 0.47, 0.47, 0.44, 0.37, 0.30), *POLYMER)
    return {
        "asphalt": (old, new),
        "concrete": (pale, 0.74 * pale),
        "red tile": (tile, worn),
        "metal roof": (zinc, blue),
        "slate roof": (slate, 1.5 * slate * (1.0 - 0.10 * _gauss(w, 420, 60))),
        "plastic film": (film, 0.75 * film + 0.25 * vegetation(w, 1.5, 1.0, 0.45, 0.11, 718)),
    }


def materials(wavelengths_nm: NDArray[np.floating]) -> tuple[Material, ...]:
    """Build every material of the demo scene at the given band centres.

    ``wavelengths_nm``: band centres in nanometres, shape (band,), between 380 and 2500.

    Returns
    -------
    tuple of Material
        Sixteen materials, reflectances in 0…1, always in the same order.
    """
    w = np.asarray(wavelengths_nm, dtype=np.float64)
    spectra = {**_plants(w), **_ground(w), **_built(w)}
    return tuple(Material(name, np.stack(states)) for name, states in spectra.items())
