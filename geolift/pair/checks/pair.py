"""What the cross-sensor check says, and the pixels it rests on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geolift.pair.robust import outlier_pixels, robust_line
from geolift.training.noise import unshared_noise

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

MIN_PIXELS = 16
OUTLIER_SIGMA = 6.0

QUANTILE_PIXELS = 16_384
"""Most pixels of which gross outliers are told by their quantiles."""


@dataclass(frozen=True)
class Finding:
    """One result of the check.

    Parameters
    ----------
    code
        ok, offset, scale, units, band-order, sensor, shift, cloud-or-change, no-overlap, other-place, or
        undetermined.
    message
        One sentence with the numbers.
    option
        The option that repairs it, empty if there is none.
    settled
        Whether it has been set right already, and is only told.
    """

    code: str
    message: str
    option: str = ""
    settled: bool = False


@dataclass(frozen=True)
class BandCheck:
    """How one MSI band relates to its simulated counterpart: msi = slope x simulated + intercept.

    Parameters
    ----------
    name
        Band name.
    slope, intercept
        Robust line through the LR pixels; the intercept in the MSI's unit.
    r
        Correlation over the pixels that belong to the scene.
    best_match
        Name of the simulated band that correlates best.
    """

    name: str
    slope: float
    intercept: float
    r: float
    best_match: str


@dataclass(frozen=True)
class CheckResult:
    """Findings, the most fundamental first, and the table they rest on."""

    verdict: tuple[Finding, ...]
    bands: tuple[BandCheck, ...]
    n_pixels: int
    outlier_fraction: float

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """Findings that need a hand: neither ok nor undetermined nor settled."""
        return tuple(f for f in self.verdict if not f.settled and f.code not in ("ok", "undetermined"))

    @property
    def remarks(self) -> tuple[Finding, ...]:
        """Findings about these very images that no option settles, such as a dead band: no alarm, but to be told."""
        return tuple(f for f in self.verdict if f.code == "undetermined" and not f.option)


@dataclass(frozen=True)
class Candidate:
    """What another sensor, or all bands of the named one, would have seen.

    Parameters
    ----------
    names
        Band names (c',).
    simulated
        (c', h, w) float32 on the HSI's grid.
    twin
        Whether it is the named sensor's instrument on another spacecraft.
    """

    names: tuple[str, ...]
    simulated: FloatArray
    twin: bool = False


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the values were read (value = DN x scale + offset), so that options can be given in full.

    Parameters
    ----------
    msi_scale, msi_offset, hsi_scale, hsi_offset
        Applied by the readers.
    sensor_known, bands_known
        Whether product metadata names the spacecraft, and the bands.
    msi_bytes
        Whether the MSI is stored in 8 bits, whose gain is arbitrary.
    """

    msi_scale: float = 1.0
    msi_offset: float = 0.0
    hsi_scale: float = 1.0
    hsi_offset: float = 0.0
    sensor_known: bool = False
    bands_known: bool = False
    reflectance: bool = True
    msi_bytes: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class PairedPixels:
    """Pixels that belong to the scene, (c, n) each, and what was left out.

    ``outlier_fraction`` counts the pixels left out, ``outlier_core`` those of them that are outliers
    themselves and not only beside some. ``noise_share`` is the part of each simulated band's variance
    that is the HSI's noise (c,), NaN where too few pixels tell.
    """

    names: tuple[str, ...]
    own: BoolArray
    simulated: DoubleArray
    seen: DoubleArray
    outlier_fraction: float
    outlier_core: float
    correlation: DoubleArray
    noise_share: DoubleArray


def pair_pixels(simulated: FloatArray, degraded: FloatArray, names: tuple[str, ...]) -> PairedPixels | None:
    """Keep the pixels that are valid in both and belong to the scene; None if there are too few."""
    valid = np.asarray(~(np.isnan(simulated).any(axis=0) | np.isnan(degraded).any(axis=0)))
    if valid.sum() < MIN_PIXELS:
        return None
    outliers = outlier_pixels(simulated, degraded, OUTLIER_SIGMA)
    fraction = float(outliers.sum() / valid.sum())
    own = valid & ~outliers if fraction < 0.6 else valid
    x, y = simulated[:, own].astype(np.float64), degraded[:, own].astype(np.float64)
    core = _far_from_line(x, y, simulated[:, outliers], degraded[:, outliers]) if outliers.any() else 0
    noise = noise_shares(simulated, own)
    return PairedPixels(
        names=names,
        own=own,
        simulated=x,
        seen=y,
        outlier_fraction=fraction,
        outlier_core=core / float(valid.sum()),
        correlation=correlate(y, x),
        noise_share=noise,
    )


def noise_shares(images: FloatArray, own: BoolArray) -> DoubleArray:
    """Part of each image's variance over its own pixels that is noise; NaN if no block of pixels can tell.

    Where every block has texture the estimate is too high, never too low.
    """
    noise = unshared_noise(images)
    if not noise.any():
        return np.full(len(images), np.nan)
    return np.asarray(noise**2 / np.maximum(_clipped(images[:, own].astype(np.float64)).var(axis=1), 1e-30))


def _far_from_line(x: DoubleArray, y: DoubleArray, other_x: FloatArray, other_y: FloatArray) -> int:
    """Count the other pixels that lie far from the lines through the own ones, in the median over bands."""
    distance = []
    for band in range(len(x)):
        slope, intercept, sigma = robust_line(x[band], y[band])
        distance.append(np.abs(other_y[band] - slope * other_x[band] - intercept) / sigma)
    return int((np.median(distance, axis=0) > OUTLIER_SIGMA).sum())


def is_flat(values: DoubleArray) -> bool:
    """Whether values differ by no more than float32 rounds."""
    return bool(np.ptp(values) <= 1e-6 * np.abs(values).max())


def correlate(rows: DoubleArray, columns: DoubleArray) -> DoubleArray:
    """Correlation of each row image with each column image, gross outliers clipped."""
    return correlation_of(standardise(rows), standardise(columns))


def correlation_of(rows: DoubleArray, columns: DoubleArray) -> DoubleArray:
    """Correlation of standardised images."""
    return np.asarray(np.clip(rows @ columns.T / rows.shape[1], -0.99999, 0.99999), np.float64)


def standardise(images: DoubleArray) -> DoubleArray:
    """Bands (c, n) of mean 0 and standard deviation 1, gross outliers clipped first."""
    clipped = _clipped(images)
    clipped -= clipped.mean(axis=1, keepdims=True)
    power = np.einsum("cn,cn->c", clipped, clipped)[:, None] / clipped.shape[1]
    clipped /= np.maximum(np.sqrt(power), 1e-12)
    return clipped


def _clipped(images: DoubleArray) -> DoubleArray:
    step = -(-images.shape[1] // QUANTILE_PIXELS)
    low, high = np.quantile(images[:, ::step], (0.005, 0.995), axis=1, keepdims=True)
    return np.asarray(np.clip(images, low, high))


def fit_lines(pair: PairedPixels) -> tuple[DoubleArray, DoubleArray, DoubleArray]:
    """Slope, value at the middle, and the middle, per band: seen against simulated.

    The slope of the robust line is divided by the correlation that its own residuals leave (reduced major axis), since
    noise and misregistration in the simulated band flatten it. Clouds that are left, which do not fit the line, would
    make that correlation, and the slope with it, look worse than it is.
    """
    lines = [robust_line(x, y) for x, y in zip(pair.simulated, pair.seen, strict=True)]
    slope, level, sigma = np.array(lines, np.float64).T
    explained = np.abs(slope) * _clipped(pair.simulated).std(axis=1)
    r = np.maximum(explained / np.maximum(np.hypot(explained, sigma), 1e-30), 0.3)
    middle = np.median(pair.simulated, axis=1)
    return slope / r, slope * middle + level, middle
