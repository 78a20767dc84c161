"""Quality measures against a reference: RMSE, PSNR, SSIM, UIQI, ERGAS, SAM; masked, tile by tile.

A pixel counts where every used band is valid in product and reference; a window counts where all its
pixels do. All sums are float64 and per pixel or window, so tiles may come in any order and size.
`docs/metrics.md` states the conventions with their equations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geolift.errors import InputError
from geolift.metrics.conventions import CONVENTIONS, HYPERBENCH_PERCENTS, ConventionName
from geolift.metrics.halo import halo_tiles
from geolift.metrics.similarity import SSIM_SIZE, UIQI_SIZE, ssim_map, whole_windows
from geolift.metrics.value_range import Stretch, Survey, refuse_unequal

Cube = NDArray[np.floating[Any]]
Array64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

_SAM_CHUNK = 1 << 14  # pixels whose spectra are held as float64 at a time
_TILE_PX = 256  # of arrays in memory: small enough for the caches, so that the halo costs little


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Measures of a product against its reference.

    Attributes
    ----------
    rmse
        Over all values, in the reference's unit (stretched under `hyperbench`).
    psnr_db
        Over all values; inf if there is no error.
    ssim, uiqi
        Mean over bands of the mean over windows; NaN if no window is whole.
    ergas
        Relative global error; NaN without a ratio, inf if a band's reference has mean zero.
    sam_deg
        Mean spectral angle; NaN if every spectrum is zero.
    n_pixels, n_invalid_pixels
        Pixels compared, and pixels left out for an invalid used band in either image.
    n_zero_spectra
        Compared pixels with a zero spectrum in either image, which have no angle.
    n_windows_left_out
        SSIM windows inside the image left out because they touch an invalid pixel.
    data_range
        Peak of PSNR and range of SSIM (255 under `hyperbench`).
    ratio
        That of ERGAS; None if unknown.
    convention
        `geolift` or `hyperbench`.
    per_band
        Lists as long as the cube has bands, NaN for unused ones: `rmse`, `psnr_db`, `ssim`, `uiqi`,
        `relative_rmse` (RMSE / mean of the reference) and `mean` (of the reference).
    """

    rmse: float
    psnr_db: float
    ssim: float
    uiqi: float
    ergas: float
    sam_deg: float
    n_pixels: int
    n_invalid_pixels: int
    n_zero_spectra: int
    n_windows_left_out: int
    data_range: float
    ratio: float | None
    convention: ConventionName
    per_band: dict[str, list[float]]


_PER_BAND = ("squared_error", "squared_level_error", "reference", "ssim", "uiqi")
_PER_IMAGE = ("pixels", "invalid", "zero_spectra", "angles", "angle_rad", "ssim_windows", "left_out", "uiqi_windows")


class Evaluation:
    """Running sums of all measures; give it every tile once, in any order, then ask for the `Scores`.

    Parameters
    ----------
    n_bands
        Bands of both images.
    data_range
        Peak of PSNR and range of SSIM, in the reference's unit: by convention the reference's maximum
        (`Survey.reference_max`). Ignored under `hyperbench`, where it is 255.
    ratio
        Ground sampling distance of the LR-HSI over the product's, for ERGAS; None if unknown.
    bands
        Used bands, shape (band,); all by default. A pixel counts where all of them are valid.
    convention
        `geolift`, or `hyperbench` for HyperBench's figures.
    stretch
        Needed under `hyperbench`: between the reference's 1 and 99 percentiles (`ExactPercentile`).

    Examples
    --------
    >>> truth = np.random.default_rng(0).uniform(0.1, 0.9, (3, 20, 20))
    >>> evaluation = Evaluation(3, data_range=1.0, ratio=4)
    >>> evaluation.update(2 * truth, truth)
    >>> f"{evaluation.result().sam_deg:.6f}"
    '0.000000'
    """

    def __init__(
        self,
        n_bands: int,
        *,
        data_range: float = 1.0,
        ratio: float | None = None,
        bands: Mask | None = None,
        convention: ConventionName = "geolift",
        stretch: Stretch | None = None,
    ) -> None:
        if convention not in CONVENTIONS:
            raise InputError(f"convention {convention!r} is not known; use geolift or hyperbench.")
        if convention == "hyperbench" and stretch is None:
            raise InputError("convention hyperbench needs the stretch between the reference's percentiles.")
        if not (np.isfinite(data_range) and data_range > 0):
            raise InputError(f"The data range is {data_range}; it must be positive. Pass --data-range.")
        if ratio is not None and not ratio > 0:
            raise InputError(f"The ratio is {ratio}; it must be positive.")
        self._name: ConventionName = convention
        self._convention = CONVENTIONS[convention]
        self._stretch = stretch if convention == "hyperbench" else None
        self._data_range = 255.0 if self._convention.quantised else float(data_range)
        self._ratio = self._convention.ergas_ratio or ratio
        self._bands = np.ones(n_bands, dtype=np.bool_) if bands is None else np.asarray(bands, dtype=np.bool_)
        if self._bands.shape != (n_bands,):
            raise InputError(f"The band selection has shape {self._bands.shape}; it must be ({n_bands},).")
        self._per_band = {name: np.zeros(n_bands) for name in _PER_BAND}
        self._per_image = dict.fromkeys(_PER_IMAGE, 0.0)

    def update(self, product: Cube, reference: Cube, interior: tuple[slice, slice] | None = None) -> None:
        """Take in a tile.

        ``product``, ``reference``: shape (band, y, x), NaN = invalid, with a halo of `HALO_PX` wherever the raster goes
        on. ``interior``: (rows, cols) of the tile within its halo, as `halo_tiles` gives it; the whole by default.
        """
        refuse_unequal(product, reference, len(self._bands))
        used = [int(band) for band in np.flatnonzero(self._bands)]
        rows, cols = interior or (slice(0, product.shape[1]), slice(0, product.shape[2]))
        valid = np.ones(product.shape[1:], dtype=np.bool_)
        for band in used:
            valid &= np.isfinite(product[band]) & np.isfinite(reference[band])
        inside = np.zeros_like(valid)
        inside[rows, cols] = True
        windows = self._count(valid, inside)
        for band in used:
            self._add_band(band, product[band], reference[band], valid, inside & valid, windows)
        self._add_angles(product, reference, inside & valid)

    def _count(self, valid: Mask, inside: Mask) -> tuple[Mask, Mask]:
        """Count pixels and windows; return which SSIM and UIQI windows are whole and centred inside."""
        self._per_image["pixels"] += int((valid & inside).sum())
        self._per_image["invalid"] += int((~valid & inside).sum())
        radius = SSIM_SIZE // 2
        centred = inside[radius : len(inside) - radius, radius : inside.shape[1] - radius]
        ssim_windows = whole_windows(valid, SSIM_SIZE) & centred
        self._per_image["ssim_windows"] += int(ssim_windows.sum())
        self._per_image["left_out"] += int((centred & ~ssim_windows).sum())
        # A window of even size has no central pixel; it belongs to the one right below its middle.
        before = UIQI_SIZE // 2
        uiqi_windows = whole_windows(valid, UIQI_SIZE)
        n_rows, n_cols = (max(0, size - self._convention.uiqi_extent + 1) for size in valid.shape)
        centred = np.zeros_like(uiqi_windows)
        centred[:n_rows, :n_cols] = inside[before : before + n_rows, before : before + n_cols]
        uiqi_windows = uiqi_windows & centred
        self._per_image["uiqi_windows"] += int(uiqi_windows.sum())
        return ssim_windows, uiqi_windows

    def _add_band(
        self, band: int, product: Cube, reference: Cube, valid: Mask, counted: Mask, windows: tuple[Mask, Mask]
    ) -> None:
        sums, (ssim_windows, uiqi_windows) = self._per_band, windows
        x, y = self._values(product, valid), self._values(reference, valid)
        sums["squared_error"][band] += np.square(x - y).sum(where=counted)
        sums["reference"][band] += y.sum(where=counted)
        sums["uiqi"][band] += self._convention.uiqi_map(x, y).sum(where=uiqi_windows)
        if self._convention.quantised:
            x, y = _levels(x), _levels(y)
            sums["squared_level_error"][band] += np.square(x - y).sum(where=counted)
        ssim = ssim_map(x, y, self._data_range, self._convention.ssim_window)
        sums["ssim"][band] += ssim.sum(where=ssim_windows)

    def _values(self, values: Cube, valid: Mask) -> Array64:
        """Return the values that the convention compares, with zeros where invalid, as float64."""
        finite = np.where(valid, values, 0)
        return np.asarray(finite if self._stretch is None else self._stretch.apply(finite), dtype=np.float64)

    def _add_angles(self, product: Cube, reference: Cube, counted: Mask) -> None:
        sums, step = self._per_image, max(1, _SAM_CHUNK // counted.shape[1])
        for start in range(0, len(counted), step):
            rows = slice(start, start + step)
            x, y = (self._spectra(cube[:, rows], counted[rows]) for cube in (product, reference))
            angles_rad, has_angle = self._convention.angles_rad(x, y)
            sums["angle_rad"] += float(angles_rad.sum(where=has_angle))
            sums["angles"] += int(has_angle.sum())
            sums["zero_spectra"] += int((~x.any(axis=0) | ~y.any(axis=0)).sum())

    def _spectra(self, cube: Cube, counted: Mask) -> Array64:
        """Return the used bands of the counted pixels, shape (band, pixel)."""
        spectra = cube[self._bands][:, counted]
        return self._values(spectra, np.ones(spectra.shape, dtype=np.bool_))

    def result(self) -> Scores:
        """Return the measures of all tiles so far. Raises InputError if no pixel is valid in both images."""
        if not self._per_image["pixels"] or not self._bands.any():
            raise InputError("no pixel is valid in product and reference in all bands that are compared.")
        per_band = self._per_band_measures()
        used = {name: np.asarray(values)[self._bands] for name, values in per_band.items()}
        mean_level_error = float(self._mean_squared_level_error()[self._bands].mean())
        relative = float(np.sqrt(np.square(used["relative_rmse"]).mean()))
        count = self._per_image
        return Scores(
            rmse=float(np.sqrt(np.square(used["rmse"]).mean())),
            psnr_db=float(_psnr_db(np.array(mean_level_error), self._data_range)),
            ssim=float(used["ssim"].mean()),
            uiqi=float(used["uiqi"].mean()),
            ergas=np.nan if self._ratio is None else 100 / self._ratio * relative,
            sam_deg=float(np.degrees(_ratio_of(count["angle_rad"], count["angles"]))),
            n_pixels=int(count["pixels"]),
            n_invalid_pixels=int(count["invalid"]),
            n_zero_spectra=int(count["zero_spectra"]),
            n_windows_left_out=int(count["left_out"]),
            data_range=self._data_range,
            ratio=self._ratio,
            convention=self._name,
            per_band={name: [float(value) for value in values] for name, values in per_band.items()},
        )

    def _mean_squared_level_error(self) -> Array64:
        """Per band, of what PSNR compares: 8-bit levels under `hyperbench`, else the values."""
        name = "squared_level_error" if self._convention.quantised else "squared_error"
        return np.asarray(self._per_band[name] / self._per_image["pixels"])

    def _per_band_measures(self) -> dict[str, Array64]:
        sums, count = self._per_band, self._per_image
        rmse = np.sqrt(sums["squared_error"] / count["pixels"])
        mean = sums["reference"] / count["pixels"]
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.where(rmse == 0, 0.0, rmse / mean)
        measures = {
            "rmse": rmse,
            "psnr_db": _psnr_db(self._mean_squared_level_error(), self._data_range),
            "ssim": _ratio_of(sums["ssim"], count["ssim_windows"]),
            "uiqi": _ratio_of(sums["uiqi"], count["uiqi_windows"]),
            "relative_rmse": relative,
            "mean": mean,
        }
        return {name: np.where(self._bands, values, np.nan) for name, values in measures.items()}


def _levels(stretched: Array64) -> Array64:
    """Return truncated 8-bit levels; the product is rounded to float32 first, as in HyperBench."""
    return np.asarray(np.floor(stretched.astype(np.float32) * np.float32(255)), dtype=np.float64)


def _ratio_of(total: Array64 | float, count: float) -> Array64:
    return np.asarray(total / count if count else np.full_like(total, np.nan, dtype=np.float64))


def _psnr_db(mean_squared_error: Array64, peak: float) -> Array64:
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(peak**2 / mean_squared_error))


def evaluate_arrays(
    product: Cube,
    reference: Cube,
    *,
    ratio: float | None = None,
    data_range: float | None = None,
    bands: Mask | None = None,
    convention: ConventionName = "geolift",
    stretch: Stretch | None = None,
) -> Scores:
    """Evaluate two cubes in memory.

    Parameters
    ----------
    product, reference
        Shape (band, y, x), NaN = invalid.
    ratio, convention
        See `Evaluation`.
    bands
        Bands to compare, shape (band,), all by default; those without a value valid in both are left out.
    data_range
        Peak of PSNR and range of SSIM; by default the reference's maximum in those bands, over values
        valid in both.
    stretch
        Under `hyperbench`: by default between the reference's 1 and 99 percentiles; `Stretch(0, 1)` for
        images that HyperBench has normalised already.

    Raises
    ------
    InputError
        Unequal shapes, nothing valid in both, or a reference that is nowhere positive without `data_range`.
    """
    survey = Survey(len(product), bands)
    survey.update(product, reference)
    chosen = survey.bands
    if convention == "hyperbench" and stretch is None:
        values = reference[chosen][np.isfinite(product[chosen]) & np.isfinite(reference[chosen])]
        low, high = np.percentile(values.astype(np.float32), HYPERBENCH_PERCENTS) if values.size else (0, 1)
        stretch = Stretch(float(low), float(high))
    if convention == "hyperbench" or not survey.bands.any():
        data_range = 1.0  # not used: the levels have their own range, and nothing valid is an error below
    elif data_range is None:
        data_range = survey.reference_max
    evaluation = Evaluation(
        len(product), data_range=data_range, ratio=ratio, bands=chosen, convention=convention, stretch=stretch
    )
    for tile in halo_tiles((product.shape[1], product.shape[2]), _TILE_PX):
        window = (slice(None), tile.rows, tile.cols)
        evaluation.update(product[window], reference[window], tile.interior)
    return evaluation.result()
