"""Where two images of one scene agree: windows to compare and the search behind co-registration.

Everything happens on the HSI's pixels. Images are freed of their local mean first, so that haze,
illumination and slow change weigh little; the comparison is band by band with a free gain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from geolift.degradation.sampling import LOST_WEIGHT, AxisKernel, FloatArray, axis_kernel, sample_columns, sample_rows
from geolift.pair.robust import outlier_pixels

BoolArray = NDArray[np.bool_]
DoubleArray = NDArray[np.float64]

LOCAL_MEAN_PX = 11
"""Width of the local mean that is taken off, in LR pixels."""

MAX_BLUR_SIGMA_LR = 1.2
"""Widest Gaussian beside the block mean, in LR pixels (a FWHM of 2.8)."""


MAX_WANDER_LR = 1.5
"""How far the fit may move from the place where the search found agreement, in LR pixels."""


def remove_local_mean(images: FloatArray, valid: BoolArray) -> FloatArray:
    """Take the mean of the valid pixels around each pixel off images (..., h, w); invalid become 0."""
    weight = valid.astype(np.float32)
    filled = images * weight
    mean = _local_sum(filled) / np.maximum(_local_sum(weight), 1e-6)
    return np.asarray((filled - mean) * weight, np.float32)


def _local_sum(images: FloatArray) -> FloatArray:
    rows = ndimage.uniform_filter1d(images, LOCAL_MEAN_PX, axis=-2, mode="constant")
    return np.asarray(ndimage.uniform_filter1d(rows, LOCAL_MEAN_PX, axis=-1, mode="constant"))


class Patch:
    """One window of a pair: chosen bands of the simulated MSI and of the fine MSI under and around it.

    Bands lie in the order in which they are chosen, the most telling first, so that the first few are a view.
    Invalid pixels are set to the band's mean and remembered; a pixel is invalid when any chosen band is.
    """

    def __init__(
        self,
        simulated: FloatArray,
        msi_fine: FloatArray,
        bands: Sequence[int],
        ratio: int,
        margin: int,
        search_px: float,
    ) -> None:
        self.ratio = ratio
        self.height, self.width = simulated.shape[-2:]
        sigma = MAX_BLUR_SIGMA_LR * ratio
        widest = axis_kernel(ratio, 0.5, sigma * sigma)
        reach = int(np.ceil(search_px + (MAX_WANDER_LR + 1.0) * ratio)) - widest.start_px + 2
        beyond = max(0, reach - margin * ratio)
        self.origin = margin * ratio + beyond
        self.msi, self.msi_invalid = _fill(msi_fine, bands, beyond)
        self.simulated, self.simulated_invalid = _fill(simulated, bands)
        self.excluded: BoolArray = np.zeros_like(self.simulated_invalid)
        self.msi_whole = not self.msi_invalid.any()

    def exclude(self, outliers: BoolArray) -> None:
        """Take LR pixels (h, w) out of the comparison, on top of the invalid ones."""
        self.excluded = outliers

    @property
    def valid(self) -> BoolArray:
        """LR pixels (h, w) of the simulated image that take part."""
        return ~(self.simulated_invalid | self.excluded)

    @cached_property
    def _invalid_as_image(self) -> FloatArray:
        return self.msi_invalid.astype(np.float32)[None]

    def degraded(self, dy: float, dx: float, variance_px2: float, n_bands: int) -> tuple[FloatArray, BoolArray]:
        """Degrade the first bands of the MSI on the LR grid; returns images (n_bands, h, w) and validity."""
        return next(iter(self.degraded_at([(dy, dx)], variance_px2, n_bands)))

    def degraded_at(
        self, places_px: Sequence[tuple[float, float]], variance_px2: float, n_bands: int, extend: int = 0
    ) -> Iterator[tuple[FloatArray, BoolArray]]:
        """The same at several places (dy, dx), on the LR grid extended by ``extend`` pixels.

        Places with one dy share the reading along y, which is most of the work, if they follow each other.
        """
        extra, shape = extend * self.ratio, (self.height + 2 * extend, self.width + 2 * extend)
        images = [self.msi[:n_bands], *([] if self.msi_whole else [self._invalid_as_image])]
        rows: list[FloatArray] = []
        before: float | None = None
        for dy, dx in places_px:
            kx = axis_kernel(self.ratio, dx - extra, variance_px2)
            if dy != before:
                ky = axis_kernel(self.ratio, dy - extra, variance_px2)
                taps_y = [ky.taps[:1], np.abs(ky.taps[:1])]
                rows = [
                    sample_rows(image, self.origin + ky.start_px, self.ratio, shape[0], taps)[0]
                    for image, taps in zip(images, taps_y, strict=False)
                ]
                before = dy
            taps_x = [kx.taps[:1], np.abs(kx.taps[:1])]
            seen = [
                sample_columns(image, self.origin + kx.start_px, self.ratio, shape[1], taps)[0]
                for image, taps in zip(rows, taps_x, strict=False)
            ]
            yield seen[0], np.ones(shape, np.bool_) if self.msi_whole else np.asarray(seen[1][0] <= LOST_WEIGHT)

    def seen_at(self, place: DoubleArray) -> FloatArray:
        """The degraded MSI (b, h, w) at dy, dx, var_y, var_x."""
        ky, kx = axis_kernel(self.ratio, place[0], place[2]), axis_kernel(self.ratio, place[1], place[3])
        rows = sample_rows(self._across(kx), self.origin + ky.start_px, self.ratio, self.height, ky.taps[:1])[0]
        return np.asarray(sample_columns(rows, 0, self.ratio, self.width, kx.taps[:1])[0], np.float32)

    def with_derivatives(self, place: DoubleArray) -> FloatArray:
        """The degraded MSI and its derivatives with respect to dy, dx, var_y, var_x: (5, b, h, w)."""
        dy, dx, var_y, var_x = place
        ky, kx = axis_kernel(self.ratio, dy, var_y), axis_kernel(self.ratio, dx, var_x)
        rows = sample_rows(self._across(kx), self.origin + ky.start_px, self.ratio, self.height, ky.taps)
        seen, d_dx, d_var_x = sample_columns(rows[0], 0, self.ratio, self.width, kx.taps)
        d_dy, d_var_y = sample_columns(rows[1:], 0, self.ratio, self.width, kx.taps[:1])[0]
        return np.stack([seen, d_dy, d_dx, d_var_y, d_var_x])

    def _across(self, kernel: AxisKernel) -> FloatArray:
        """The columns of the fine MSI that a kernel along x sees: (b, y, x)."""
        first = self.origin + kernel.start_px
        return self.msi[..., first : first + (self.width - 1) * self.ratio + kernel.taps.shape[1]]


def _fill(images: FloatArray, bands: Sequence[int], beyond: int = 0) -> tuple[FloatArray, BoolArray]:
    """Centre chosen bands, set pixels that are invalid in any of them to zero, and add as many invalid ones around.

    The level that is taken off is that of every fourth row and column: it only keeps float32 sums exact and
    invalid pixels inconspicuous.
    """
    height, width = images.shape[-2:]
    inner = slice(beyond, beyond + height), slice(beyond, beyond + width)
    filled = np.zeros((len(bands), height + 2 * beyond, width + 2 * beyond), np.float32)
    for target, band in zip(filled[:, *inner], bands, strict=True):
        sample = images[band, ::4, ::4]
        valid = sample[np.isfinite(sample)]
        np.subtract(images[band], np.float32(valid.mean(dtype=np.float64) if valid.size else 0.0), out=target)
    invalid = np.ones(filled.shape[1:], np.bool_)
    np.isnan(filled[:, *inner].sum(axis=0), out=invalid[inner])
    if invalid[inner].any():
        filled[:, invalid] = 0.0
    return filled, invalid


def exclude_outliers(patches: Sequence[Patch], n_bands: int, dy: float, dx: float, worth: float = 0.0) -> None:
    """Take clouds and change out of the patches, as far as their first bands show them with the MSI read at a shift.

    If that leaves less than four tenths of the pixels, the radiometry says nothing and all stay; if less
    than ``worth`` of the pixels would go, all stay too, and the weights of the fit deal with them.
    """
    seen, other = [], []
    for patch in patches:
        image, valid = patch.degraded(dy, dx, (0.35 * patch.ratio) ** 2, n_bands)
        valid = valid & ~patch.simulated_invalid
        seen.append(np.where(valid, patch.simulated[:n_bands], np.float32(np.nan)))
        other.append(image)
    for group in _of_one_width(patches):
        below = [np.concatenate([images[i] for i in group], axis=1) for images in (seen, other)]
        outliers = outlier_pixels(below[0], below[1])
        valid_count = sum(int(np.isfinite(seen[i][0]).sum()) for i in group)
        keep = worth * valid_count <= outliers.sum() < 0.6 * valid_count
        ends = np.cumsum([patches[i].height for i in group])[:-1]
        for i, part in zip(group, np.split(outliers, ends), strict=True):
            patches[i].exclude(part if keep else np.zeros_like(part))


def _of_one_width(patches: Sequence[Patch]) -> list[list[int]]:
    """Numbers of the patches that can be stacked: those of one width."""
    groups: dict[int, list[int]] = {}
    for i, patch in enumerate(patches):
        groups.setdefault(patch.width, []).append(i)
    return list(groups.values())


@dataclass(frozen=True)
class SearchResult:
    """Where the coarse search found the two images to agree.

    Parameters
    ----------
    peaks_px
        Up to two places (dy, dx) in fine pixels, best first, at least 1.25 LR pixels apart.
    scores
        Their evidence per LR pixel: the sum over bands of -log(1 - r^2) / 2, in nats.
    correlation
        Mean absolute correlation over the searched bands at the best place.
    """

    peaks_px: tuple[tuple[float, float], ...]
    scores: tuple[float, ...]
    correlation: float

    @property
    def distinctness(self) -> float:
        """How many times the evidence of the best place is that of the next one, 1 ... infinity."""
        return self.scores[0] / max(self.scores[1], 1e-9)


def search_place(patches: Sequence[Patch], search_px: float, n_bands: int) -> SearchResult:
    """Find the shift within ``search_px`` by masked correlation on half-LR-pixel steps.

    The MSI is degraded at four phases of the LR grid and correlated by FFT with the simulated image;
    sums run over all patches. The score adds the bands' log likelihood gains, so an uninformative band
    adds nothing, and a band of reversed contrast still votes for the right place.

    References
    ----------
    D. Padfield, Masked object registration in the Fourier domain, IEEE TIP 21(5), 2012,
    doi:10.1109/TIP.2011.2181402; without its mean terms, since local means are gone.
    """
    ratio = patches[0].ratio
    lags = int(np.ceil(search_px / ratio))
    phases = [0.0, ratio / 2] if ratio > 1 else [0.0]
    size = (2 * lags + 1) * len(phases)
    positions = (np.arange(size) // len(phases) - lags) * ratio + np.resize(phases, size)
    places = [(iy, ix) for iy in range(len(phases)) for ix in range(len(phases))]
    sums = _correlation_sums(patches, [(phases[iy], phases[ix]) for iy, ix in places], lags, n_bands)
    correlation = np.zeros((n_bands, size, size))
    overlap = np.zeros((size, size))
    step = len(phases)
    for (iy, ix), (product, energy_s, energy_m, count) in zip(places, sums, strict=True):
        correlation[:, iy::step, ix::step] = product / np.sqrt(np.maximum(energy_s * energy_m, 1e-20))
        overlap[iy::step, ix::step] = count[0]
    return _pick_peaks(np.clip(correlation, -0.9999, 0.9999), overlap, positions, ratio, search_px)


def _correlation_sums(
    patches: Sequence[Patch], phases: Sequence[tuple[float, float]], lags: int, n_bands: int
) -> list[list[DoubleArray]]:
    """Per phase the sums over pixels valid in both of s d, s^2, d^2 and 1 for each lag: (band, 2 lags + 1, ditto)."""
    span = 2 * lags + 1
    totals = [[np.zeros((n, span, span)) for n in (n_bands, n_bands, n_bands, 1)] for _ in phases]
    for patch in patches:
        shape = [fft.next_fast_len(n + 2 * lags, real=True) for n in (patch.height, patch.width)]
        valid = patch.valid
        seen = remove_local_mean(patch.simulated[:n_bands], valid)
        f_seen, f_seen2, f_valid = (np.conj(fft.rfft2(a, shape)) for a in (seen, seen**2, _image(valid)))
        moved = patch.degraded_at(phases, (0.35 * patch.ratio) ** 2, n_bands, extend=lags)
        for sums, (image, valid_msi) in zip(totals, moved, strict=True):
            image = remove_local_mean(image, valid_msi)
            f_image, f_image2, f_valid_msi = (fft.rfft2(a, shape) for a in (image, image**2, _image(valid_msi)))
            products = f_image * f_seen, f_valid_msi * f_seen2, f_image2 * f_valid, (f_valid_msi * f_valid)[None]
            for total, part in zip(sums, products, strict=True):
                total += fft.irfft2(part, shape)[..., :span, :span]
    return totals


def _image(valid: BoolArray) -> FloatArray:
    return valid.astype(np.float32)


def _pick_peaks(
    correlation: DoubleArray, overlap: DoubleArray, positions: DoubleArray, ratio: int, search_px: float
) -> SearchResult:
    """Best place and the best one at least 1.25 LR pixels from it, where enough pixels overlap."""
    score = (-0.5 * np.log1p(-(correlation**2))).sum(axis=0)
    inside = np.abs(positions) <= search_px + 0.5 * ratio
    usable = (overlap > 0.3 * overlap.max()) & inside[:, None] & inside[None, :]
    score = np.where(usable, score, 0.0)
    peaks: list[tuple[float, float]] = []
    scores: list[float] = []
    best = np.unravel_index(int(score.argmax()), score.shape)
    for _ in range(2):
        y, x = np.unravel_index(int(score.argmax()), score.shape)
        peaks.append((float(positions[y]), float(positions[x])))
        scores.append(float(score[y, x]))
        far = np.abs(positions - positions[y])[:, None] > 1.25 * ratio
        score = np.where(far | (np.abs(positions - positions[x])[None, :] > 1.25 * ratio), score, 0.0)
    return SearchResult(tuple(peaks), tuple(scores), float(np.abs(correlation[:, best[0], best[1]]).mean()))
