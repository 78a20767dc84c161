"""Wald's protocol on files: degrade one HSI into a pair with its truth, and measure a product against a truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import rasterio.warp
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling

from geolift.datamodel.cube import Bands, bands_of, crop, grid_of, make_cube, rasterio_crs, window_values
from geolift.degradation.degrade import add_noise, apply_srf, block_mean, blur
from geolift.degradation.psf import gaussian_kernel_for_fwhm, psf_kernel
from geolift.errors import InputError
from geolift.metrics import Evaluation, Scores
from geolift.metrics.conventions import HYPERBENCH_PERCENTS
from geolift.metrics.halo import halo_tiles
from geolift.metrics.value_range import ExactPercentile, Stretch, Survey
from geolift.pair.spectra import SpectralPlan, find_response, plan_spectra
from geolift.pipeline.side_products import drafts_of
from geolift.pipeline.touched_files import Output, require_untouched
from geolift.provenance.sidecar import (
    dump_settings,
    input_facts,
    read_sidecar,
    sidecar_path,
    software_versions,
    write_json,
)
from geolift.readers import open_cube
from geolift.runtime.progress import Listener, advance, heard_by, warn
from geolift.settings import BandSettings, EvaluateSettings, SimulateSettings
from geolift.settings.typed import EvaluateOptions
from geolift.settings.validation import validated
from geolift.writer import SUFFIXES, Encoding, choose_scale, require_packages, write_cube

TILE_PX = 512
HYPERBENCH_SIGMA, HYPERBENCH_RADIUS = 3.4, 7
NAMES = {"hsi": "lr_hsi", "msi": "hr_msi", "reference": "reference"}


# -- simulate ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Triple:
    """An LR-HSI, an HR-MSI and the reference they stem from, all on nested grids."""

    hsi: xr.DataArray
    msi: xr.DataArray
    reference: xr.DataArray
    spectra: SpectralPlan


def psf_of(settings: SimulateSettings) -> np.ndarray:
    """Return the PSF kernel of a simulation; by default a Gaussian as wide (FWHM) as the LR pixel."""
    if settings.psf == "gaussian" and settings.psf_sigma is None and settings.psf_radius is None:
        return gaussian_kernel_for_fwhm(settings.ratio)
    sigma = settings.psf_sigma or HYPERBENCH_SIGMA
    return psf_kernel(settings.psf, sigma, settings.psf_radius or HYPERBENCH_RADIUS)


def degrade_pair(hsi: xr.DataArray, settings: SimulateSettings) -> Triple:
    """Degrade one HSI: blur, block average, noise; and apply the SRF. The LR-HSI and HR-MSI are in memory.

    Raises InputError if the image is smaller than two LR pixels along an edge, or the sensor cannot be simulated from
    it.
    """
    source = str(hsi.attrs.get("source", "HSI"))
    ratio = settings.ratio
    rows, cols = (size // ratio * ratio for size in hsi.shape[1:])
    if rows < 2 * ratio or cols < 2 * ratio:
        raise InputError(
            f"{source}: {hsi.shape[1]} × {hsi.shape[2]} pixels are too few for ratio {ratio}; "
            f"at least {2 * ratio} along each edge are needed."
        )
    reference = crop(hsi, slice(0, rows), slice(0, cols))
    spectra = plan_spectra(reference, settings, BandSettings())
    warn(*hsi.attrs.get("warnings", []), *spectra.warnings)
    lr, msi = _degraded(reference, spectra, settings)
    if settings.snr is not None:
        lr = _noisy(lr, settings.snr, settings.seed, 0)
        msi = _noisy(msi, settings.snr, settings.seed, 1)
    grid = grid_of(reference)
    lr_grid = GeoBox((rows // ratio, cols // ratio), grid.affine * Affine.scale(ratio), grid.crs)
    attrs = {key: reference.attrs[key] for key in ("quantity", "acquired", "source") if key in reference.attrs}
    return Triple(
        make_cube(lr, grid=lr_grid, bands=bands_of(reference), attrs=attrs),
        make_cube(msi, grid=grid, bands=_msi_bands(spectra, settings), attrs=attrs),
        reference,
        spectra,
    )


def _degraded(
    reference: xr.DataArray, spectra: SpectralPlan, settings: SimulateSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Degrade strip by strip: the HSI is read once and never held whole."""
    ratio, kernel = settings.ratio, psf_of(settings)
    halo = kernel.shape[0] // 2
    rows, cols = reference.shape[1:]
    good = np.asarray(spectra.hsi_bands)[list(spectra.good)]
    strip = max(ratio, TILE_PX // ratio * ratio)
    lr = np.full((reference.shape[0], rows // ratio, cols // ratio), np.nan, np.float32)
    msi = np.empty((len(spectra.msi_names), rows, cols), np.float32)
    for row in range(0, rows, strip):
        end = min(rows, row + strip)
        top, bottom = max(0, row - halo), min(rows, end + halo)
        block = window_values(reference.data, slice(top, bottom), slice(None))
        inner = slice(row - top, end - top)
        for band in range(block.shape[0]):
            if np.isfinite(block[band]).any():
                blurred = blur(block[band], kernel, "renormalize")
                lr[band, row // ratio : end // ratio] = block_mean(blurred[inner], ratio)
        # A pixel invalid in any good band gives no MSI value, as a real image would have none there.
        msi[:, row:end] = apply_srf(block[good][:, inner], spectra.weights.astype(np.float64))
        advance("degrading", end / rows)
    return lr, msi


def _noisy(cube: np.ndarray, snr_db: float, seed: int, stream: int) -> np.ndarray:
    """Add noise band by band, each from its own seeded generator."""
    noisy = np.empty_like(cube)
    for band in range(cube.shape[0]):
        rng = np.random.default_rng([seed, stream, band])
        noisy[band] = add_noise(cube[band], snr_db, rng) if np.isfinite(cube[band]).any() else cube[band]
    return noisy


def _msi_bands(spectra: SpectralPlan, settings: SimulateSettings) -> Bands:
    srf, _ = find_response(settings, None)
    chosen = srf.select(spectra.msi_names)
    return Bands(spectra.msi_names, chosen.centres_nm, chosen.fwhm_nm, np.ones(len(spectra.msi_names), bool))


class Simulated(TypedDict):
    """What `geolift simulate --json` prints: the files by their names, and what they were made with."""

    outputs: dict[str, str]
    ratio: int
    sensor: str
    msi_bands: list[str]


def simulate_files(hsi: str | Path, folder: Path, settings: SimulateSettings) -> Simulated:
    """Write ``lr_hsi``, ``hr_msi``, ``reference`` and ``simulate.json`` into a folder; see `degrade_pair`."""
    folder.mkdir(exist_ok=True) if folder.parent.is_dir() else None
    paths = {key: folder / f"{name}{SUFFIXES[settings.of]}" for key, name in NAMES.items()}
    document_path = folder / "simulate.json"
    files = [Output(path) for path in (*paths.values(), document_path)]
    require_untouched([hsi, settings.wavelengths, settings.srf], files, overwrite=settings.overwrite)
    require_packages(settings.of)
    triple = degrade_pair(open_cube(hsi, settings.hsi_reading), settings)
    quantity = str(triple.reference.attrs.get("quantity", "unknown"))
    encoding = Encoding.of(settings, choose_scale(settings.dtype, quantity, triple.hsi.values))
    with drafts_of({**paths, "document": document_path}) as drafts:
        for index, (key, path) in enumerate(paths.items()):
            write_cube(getattr(triple, key), path, settings, encoding=encoding, draft=drafts[key])
            advance("writing", (index + 1) / len(paths))
        told = Simulated(
            outputs={NAMES[key]: str(path) for key, path in paths.items()},
            ratio=settings.ratio,
            sensor=triple.spectra.sensor,
            msi_bands=list(triple.spectra.msi_names),
        )
        beside = {
            "srf_weights": triple.spectra.weights,
            "psf": psf_of(settings),
            "settings": dump_settings(settings),
            "inputs": {"hsi": input_facts(str(hsi))},
            "software": software_versions(),
        }
        write_json(drafts["document"].finished, {**told, **beside})
        first, *others = drafts.values()
        first.publish(others)
    return told


# -- evaluate ---------------------------------------------------------------------------------------------------------


def evaluate(
    product: str | Path | xr.DataArray,
    reference: str | Path | xr.DataArray,
    settings: EvaluateSettings | None = None,
    *,
    listener: Listener | None = None,
    **options: Unpack[EvaluateOptions],
) -> Scores:
    """Measure a product against its reference: RMSE, PSNR, SSIM, UIQI, ERGAS, SAM, over what is valid in both.

    Parameters
    ----------
    product, reference : path or DataArray (band, y, x)
        On one grid, or with ``resample=`` on two.
    settings
        Every option at once; ``**options`` take precedence.
    **options
        Fields of `geolift.settings.EvaluateSettings`.

    Raises
    ------
    InputError
        If grids or bands differ, or nothing is valid in both.
    """
    with heard_by(listener):
        return _scores(product, reference, validated(EvaluateSettings, options, given=settings))


def _scores(
    product: str | Path | xr.DataArray, reference: str | Path | xr.DataArray, settings: EvaluateSettings
) -> Scores:
    truth = reference if isinstance(reference, xr.DataArray) else open_cube(reference)
    given = product if isinstance(product, xr.DataArray) else open_cube(product)
    given, truth = _same_bands(given, truth)
    given = _on_grid(given, truth, settings)
    ratio = settings.ratio or (None if isinstance(product, xr.DataArray) else _ratio_from_sidecar(Path(product)))
    used = bands_of(given).good & bands_of(truth).good

    def pairs(halo: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray, Any, float]]:
        tiles = list(halo_tiles((truth.shape[1], truth.shape[2]), TILE_PX))
        for done, tile in enumerate(tiles, start=1):
            rows, cols = tile.rows, tile.cols
            if not halo:
                rows = slice(rows.start + tile.interior[0].start, rows.start + tile.interior[0].stop)
                cols = slice(cols.start + tile.interior[1].start, cols.start + tile.interior[1].stop)
            yield (
                window_values(given.data, rows, cols),
                window_values(truth.data, rows, cols),
                tile.interior,
                done / len(tiles),
            )

    survey = Survey(given.shape[0], used)
    for product_tile, reference_tile, _, share in pairs():
        survey.update(product_tile, reference_tile)
        advance("surveying", share)
    if not survey.bands.any():
        raise InputError(f"{_name(given)} and {_name(truth)}: no pixel is valid in both; nothing to compare")
    stretch = _stretch(survey.bands, pairs) if settings.convention == "hyperbench" else None
    evaluation = Evaluation(
        given.shape[0],
        data_range=settings.data_range or (1.0 if stretch else survey.reference_max),
        ratio=ratio,
        bands=survey.bands,
        convention=settings.convention,
        stretch=stretch,
    )
    for product_tile, reference_tile, interior, share in pairs(halo=True):
        evaluation.update(product_tile, reference_tile, interior)
        advance("measuring", share)
    return evaluation.result()


def _name(cube: xr.DataArray) -> str:
    return str(cube.attrs.get("source", "array"))


def _same_bands(product: xr.DataArray, reference: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Pair the bands: by position where counts agree, else by wavelength where each product band has one."""
    ours, truth = bands_of(product), bands_of(reference)
    known = np.isfinite(ours.wavelength_nm).all() and np.isfinite(truth.wavelength_nm).all()
    if len(ours) == len(truth):
        if known and np.abs(ours.wavelength_nm - truth.wavelength_nm).max() > 0.5:
            worst = int(np.argmax(np.abs(ours.wavelength_nm - truth.wavelength_nm)))
            raise InputError(
                f"{_name(product)}: band {worst + 1} is at {ours.wavelength_nm[worst]:.2f} nm, the reference's at "
                f"{truth.wavelength_nm[worst]:.2f} nm; both need the same bands in the same order."
            )
        return product, reference
    if known and len(ours) < len(truth):
        distance = np.abs(truth.wavelength_nm[None, :] - ours.wavelength_nm[:, None])
        nearest = distance.argmin(axis=1)
        if distance.min(axis=1).max() <= 0.5 and np.unique(nearest).size == nearest.size:
            return product, reference.isel(band=nearest)
    raise InputError(
        f"{_name(product)} has {len(ours)} bands, {_name(reference)} {len(truth)}; both need the same bands."
    )


def _on_grid(product: xr.DataArray, reference: xr.DataArray, settings: EvaluateSettings) -> xr.DataArray:
    ours, truth = grid_of(product), grid_of(reference)
    same = ours.shape == truth.shape and ours.crs == truth.crs
    if same and _max_shift_px(ours, truth) < 1e-3:
        return product
    if settings.resample is None:
        raise InputError(
            f"{_name(product)} ({ours.shape[0]} × {ours.shape[1]} px) and {_name(reference)} "
            f"({truth.shape[0]} × {truth.shape[1]} px) are not on one grid. "
            "Pass --resample nearest|bilinear|cubic to bring the product to the reference's."
        )
    return _resampled(product, truth, settings.resample)


def _max_shift_px(ours: GeoBox, truth: GeoBox) -> float:
    rows, cols = truth.shape
    relative = ~truth.affine * ours.affine
    moved = [relative * corner for corner in ((0, 0), (cols, rows))]
    return float(np.abs(np.subtract(moved, ((0, 0), (cols, rows)))).max())


def _resampled(product: xr.DataArray, target: GeoBox, method: str) -> xr.DataArray:
    """Warp a product to another grid in memory, band by band, invalid pixels kept out of the kernel."""
    source = grid_of(product)
    values = window_values(product.data, slice(None), slice(None))
    warped = np.full((values.shape[0], *target.shape), np.nan, np.float32)
    for band in range(values.shape[0]):
        rasterio.warp.reproject(
            np.ascontiguousarray(values[band], dtype=np.float32),
            warped[band],
            src_transform=source.affine,
            src_crs=rasterio_crs(source),
            dst_transform=target.affine,
            dst_crs=rasterio_crs(target),
            src_nodata=np.nan,
            dst_nodata=np.nan,
            resampling=Resampling[method],
            tolerance=0,
        )
    return make_cube(warped, grid=target, bands=bands_of(product), attrs=product.attrs)


def _ratio_from_sidecar(product: Path) -> float | None:
    try:
        plan = read_sidecar(sidecar_path(product)).get("plan", {})
    except InputError:
        return None
    ratio = plan.get("region", {}).get("ratio")
    return None if ratio is None else float(ratio)


def _stretch(used: np.ndarray, pairs: Callable[[], Iterator[tuple[np.ndarray, np.ndarray, Any, float]]]) -> Stretch:
    """Find the reference's 1 and 99 percentiles exactly, in two passes."""
    percentile = ExactPercentile(HYPERBENCH_PERCENTS)
    for take in (percentile.count, percentile.refine):
        for product, reference, _, _ in pairs():
            both = np.isfinite(product[used]) & np.isfinite(reference[used])
            take(reference[used][both])
    low, high = percentile.result()
    return Stretch(low, high)


def scores_json(scores: Scores) -> dict[str, object]:
    """Return scores as plain JSON types; what is undefined is null, an infinite PSNR is null with a note."""

    def plain(value: Any) -> Any:
        if isinstance(value, float) and not np.isfinite(value):
            return None
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list) else value

    document: dict[str, object] = plain(asdict(scores))
    if np.isinf(scores.psnr_db):
        document["identical"] = True
    return document
