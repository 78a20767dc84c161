"""Both images as the baselines take them: without gaps, without simulated borders, with a footprint found blindly."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geolift.benchmark.baselines.interpolation import Cube, fill_invalid
from geolift.degradation.degrade import apply_srf
from geolift.degradation.sampling import LOST_WEIGHT
from geolift.errors import InputError
from geolift.pair.coregistration import estimate_shift
from geolift.refinement.footprint import Footprint, fit_footprint, gaussian_footprint
from geolift.training.noise import least_noise

SEARCH_MARGIN_LR = 8
"""HSI pixels around the image within which its place on the MSI is looked for."""

USUAL_BLUR_LR = 0.425
"""Sigma of a Gaussian whose FWHM is one HSI pixel, in HSI pixels: where the blur cannot be found."""

BORDER_PIXELS, BORDER_ERROR = 8, 4.0
"""A zero border is believed from so many border pixels on, if their squared error is not so many times that inside."""

FEWEST_SEEN = 0.2
"""Of the footprint that must lie on the image for what lies beyond to be divided out."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Observation:
    """What a baseline is given.

    Parameters
    ----------
    hsi, msi
        (C, h, w) and (c, h ratio, w ratio) float32, finite everywhere.
    weights
        (c, C) SRF weights, rows sum to one.
    footprint
        How an HSI pixel sees the fine image.
    msi_noise
        (c,) standard deviation of the MSI's noise.
    """

    hsi: Cube
    msi: Cube
    weights: NDArray[np.float32]
    footprint: Footprint
    msi_noise: NDArray[np.float64]

    @property
    def ratio(self) -> int:
        """Fine pixels per HSI pixel."""
        return self.footprint.ratio

    def degrade(self, fine: Cube) -> Cube:
        """(n, h, w): an image (n, h ratio, w ratio) through the footprint, mirrored beyond its border."""
        margin = self.footprint.margin_lr
        edge = margin * self.ratio
        return self.footprint.degrade(np.pad(fine, ((0, 0), (edge, edge), (edge, edge)), mode="symmetric"), margin)

    def padded(self) -> Observation:
        """The same with both images mirrored beyond their borders by the reach of the footprint."""
        low = self.footprint.margin_lr
        pads = [((0, 0), (edge, edge), (edge, edge)) for edge in (low, low * self.ratio)]
        hsi, msi = (np.pad(image, pad, "symmetric") for image, pad in zip((self.hsi, self.msi), pads, strict=True))
        return replace(self, hsi=hsi, msi=msi)


def observe(hsi: Cube, msi: Cube, weights: NDArray[np.float32]) -> Observation:
    """Prepare a pair (C, h, w), (c, h ratio, w ratio), NaN = invalid, over the same ground.

    Simulated HSI may have seen zeros beyond the image (HyperBench does so). Where they have, their values are divided
    by the part of the footprint that lies on the image: these methods do not model such a border, and lose 6 to 9 dB to
    it otherwise. Raises InputError if HSI pixels are no whole blocks of MSI pixels.
    """
    ratio = msi.shape[1] // hsi.shape[1]
    if ratio < 1 or msi.shape[1:] != (hsi.shape[1] * ratio, hsi.shape[2] * ratio):
        raise InputError(f"{msi.shape[1:]} MSI pixels are no whole multiple of {hsi.shape[1:]} HSI pixels")
    noise = np.asarray(least_noise([msi]), np.float64)
    edge = SEARCH_MARGIN_LR * ratio
    simulated = apply_srf(hsi, weights.astype(np.float64)).astype(np.float32)
    around = np.pad(msi, ((0, 0), (edge, edge), (edge, edge)), constant_values=np.nan)
    found = estimate_shift(simulated, around, ratio, SEARCH_MARGIN_LR)
    blur = (USUAL_BLUR_LR * ratio,) * 2
    start = gaussian_footprint(ratio, (0.0, 0.0), blur)
    if found.reliable:
        start = gaussian_footprint(ratio, (found.dy, found.dx), (found.blur_sigma_y, found.blur_sigma_x))
    margin = start.margin_lr
    edge = margin * ratio
    fine = np.pad(msi, ((0, 0), (edge, edge), (edge, edge)), constant_values=np.nan)
    footprint = fit_footprint([(simulated, fine)], start, margin)
    seen = _part_on_image(footprint, hsi.shape[1:])
    if _sees_zeros(simulated, np.nan_to_num(fine), footprint, margin, seen):
        hsi = (hsi / np.maximum(seen, FEWEST_SEEN)).astype(np.float32)
    return Observation(
        hsi=fill_invalid(hsi), msi=fill_invalid(msi), weights=weights, footprint=footprint, msi_noise=noise
    )


def _part_on_image(footprint: Footprint, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """(h, w) part of each HSI pixel's footprint that lies on an image of this many HSI pixels."""
    margin, ratio = footprint.margin_lr, footprint.ratio
    inside = np.zeros((1, *((size + 2 * margin) * ratio for size in shape)), np.float32)
    inside[:, margin * ratio : (margin + shape[0]) * ratio, margin * ratio : (margin + shape[1]) * ratio] = 1
    return np.asarray(footprint.degrade(inside, margin)[0])


def _sees_zeros(simulated: Cube, fine: Cube, footprint: Footprint, margin: int, seen: NDArray[np.float32]) -> bool:
    """Tell whether border pixels are explained by zeros beyond the image nearly as well as inner pixels are."""
    error = np.square(simulated - footprint.degrade(fine, margin)).mean(axis=0)
    known = np.isfinite(error)
    border, inner = (error[known & part] for part in (seen < 1 - LOST_WEIGHT, seen >= 1 - LOST_WEIGHT))
    if min(border.size, inner.size) < BORDER_PIXELS:
        return False
    return bool(np.median(border) < BORDER_ERROR * np.median(inner))
