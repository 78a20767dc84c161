"""The whole job: understand both files, hold them against each other, learn the inversion, apply it lazily."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geolift.datamodel import alignment
from geolift.datamodel.cube import Bands, bands_of, crop, grid_of, in_memory, make_cube
from geolift.datamodel.quality import quality_bits
from geolift.errors import InputError
from geolift.pair.checks import CheckResult, Finding, crosscheck, measure_enlargement
from geolift.pair.comparison import Comparison, compare, look_at_fine_msi
from geolift.pair.masks import mask_of, without
from geolift.pair.region import cut_to_bounds, plan_region
from geolift.pair.spectra import find_response, name_msi_bands, plan_spectra
from geolift.pipeline.memory_plan import estimate_cost, fitted, is_kept
from geolift.pipeline.plan import Plan, file_facts
from geolift.pipeline.refining import refine
from geolift.pipeline.standard_error import calibrate, standard_error
from geolift.pipeline.trained import Inverted, Trained, inverted, kept_or, learn, load_trained, survey
from geolift.pipeline.unmixing import unmixed
from geolift.readers import opened
from geolift.runtime.machine import available_cpus, give_back_memory
from geolift.runtime.progress import SILENT, Listener
from geolift.settings import (
    ApplySettings,
    DeviceSettings,
    FuseSettings,
    MethodSettings,
    SensorSettings,
    TrainSettings,
)
from geolift.training.explained_variance import Information, measure_information
from geolift.training.training_set import TrainingSet

if TYPE_CHECKING:
    from geolift.refinement import Refined
    from geolift.uncertainty.calibration import ErrorModel

STRIP_ROWS = 512


def plan_fusion(hsi: xr.DataArray, msi: xr.DataArray, settings: FuseSettings, output: Path | None = None) -> Plan:
    """Settle everything before the first number is computed. Raises InputError or UsageError."""
    spectra = plan_spectra(hsi, settings, settings, msi)
    region = plan_region(hsi, msi, settings)
    shape = (int(region.grid.shape[0]), int(region.grid.shape[1]))
    cost = estimate_cost(shape, len(spectra.hsi_bands), len(spectra.msi_bands), settings, hsi.nbytes)
    notes = [*hsi.attrs.get("warnings", []), *msi.attrs.get("warnings", []), *spectra.warnings]
    if region.ratio <= 1.0:
        notes.append(
            f"the MSI's pixels ({region.msi_gsd_m:.4g} m) are not finer than the HSI's ({region.hsi_gsd_m:.4g} m)"
        )
    return Plan(file_facts(hsi), file_facts(msi), spectra, region, cost, output, tuple(notes))


def train(hsi: str | Path | xr.DataArray, *, listener: Listener = SILENT, **options: Any) -> Trained:
    """Learn the spectral inversion of an HSI for a sensor; no MSI is needed.

    Parameters
    ----------
    hsi : path or DataArray (band, y, x)
    **options
        Fields of `geolift.settings.TrainSettings`, for example ``sensor="sentinel2"``.
    """
    settings = TrainSettings(**options)
    cube = opened(hsi, settings.hsi_reading)
    device = _device(settings)
    spectra = plan_spectra(cube, settings, settings)
    for text in (*cube.attrs.get("warnings", []), *spectra.warnings):
        listener.warn(text)
    training, _ = survey(cube, spectra, settings, listener)
    return learn(cube, training, spectra, settings, listener, device=device)


def fuse(
    hsi: str | Path | xr.DataArray,
    msi: str | Path | xr.DataArray,
    *,
    listener: Listener = SILENT,
    **options: Any,
) -> xr.DataArray:
    """Fuse an HSI with an MSI: all the bands of the one at the pixels of the other, lazily.

    Training happens here; the pixels are computed when they are asked for.

    Parameters
    ----------
    hsi, msi : path or DataArray (band, y, x)
        As `geolift.open` gives them.
    **options
        Fields of `geolift.settings.FuseSettings`, for example ``sensor="sentinel2"``.

    Returns
    -------
    xarray.DataArray (band, y, x)
        float32 on the MSI's grid, NaN = invalid.

    Raises
    ------
    InputError, UsageError
    """
    settings = FuseSettings(**options)
    hsi_cube = opened(hsi, settings.hsi_reading)
    msi_cube = opened(msi, settings.msi_reading, settings.tile_size, settings.msi_bands)
    return prepare(hsi_cube, msi_cube, settings, listener).fused


@dataclass(frozen=True, eq=False)
class Fusion:
    """A fusion settled and learned, its pixels not yet computed.

    Parameters
    ----------
    compared, check
        What the two sensors say of each other; None where no HSI pixel lies under the MSI.
    refined
        How the product was made to agree with the HSI, or why not; None if that was not asked for.
    product
        The product, lazy (band, y, x), and what its tiles are written from.
    quality
        Lazy (1, y, x), the bits of `geolift.datamodel.quality.Flag`.
    sigma, errors
        Standard error, lazy (band, y, x), and how it was calibrated; None if not asked for or not to be had.
    abundances
        Lazy (endmember, y, x); None if not asked for.
    information
        What the MSI's bands tell of each learned HSI band; None if there are too few HSI pixels to measure it.
    pixels_without_hsi
        Output pixels whose centre lies on no valid HSI pixel; they are fused all the same.
    warnings
        Everything the listener was warned of.
    """

    plan: Plan
    compared: Comparison | None
    check: CheckResult | None
    trained: Trained
    refined: Refined | None
    product: Inverted
    quality: xr.DataArray
    sigma: xr.DataArray | None
    errors: ErrorModel | None
    abundances: xr.DataArray | None
    information: Information | None
    pixels_without_hsi: int
    warnings: tuple[str, ...]

    @property
    def fused(self) -> xr.DataArray:
        """The product, lazy (band, y, x)."""
        return self.product.cube


def prepare(
    hsi: xr.DataArray,
    msi: xr.DataArray,
    settings: FuseSettings,
    listener: Listener = SILENT,
    output: Path | None = None,
    kept_model: Path | None = None,
) -> Fusion:
    """Do everything up to the pixels: plan, mask, compare, check, learn; see `fuse`.

    ``kept_model``: where the model is kept for a run that may have to be resumed, and taken from if it is there.
    """
    plan = plan_fusion(hsi, msi, settings, output)
    warnings = list(plan.warnings)
    for text in warnings:
        listener.warn(text)
    mask = mask_of(msi, settings.mask, settings.mask_dilate)
    hsi, usable = _usable_hsi(hsi, plan, settings, listener), without(msi, mask)
    compared, check = _compare(hsi, usable, plan, settings, listener, warnings)
    _require_something_to_fuse(mask, compared, plan, settings)
    give_back_memory()
    training, hsi_valid = survey(hsi, plan.spectra, settings, listener)
    fine = None if compared is None else look_at_fine_msi(compared)
    training = replace(training, msi_noise=None if fine is None else fine.noise)
    device = _device(settings)
    trained = kept_or(
        kept_model, lambda: learn(hsi, training, plan.spectra, settings, listener, settings.threads, device)
    )
    _look_for_enlargement(compared, trained, listener, warnings)
    give_back_memory()
    rows, cols = plan.region.rows, plan.region.cols
    relation = None if compared is None else compared.harmonization
    streaming = fitted(settings, plan.cost)
    refined, correction = None, None
    if compared is not None and settings.refine != "off":
        folder = None if kept_model is None else kept_model.parent
        refined, correction = refine(hsi, usable, plan, compared, trained, training, streaming, listener, folder)
    give_back_memory()
    product = inverted(crop(usable, rows, cols), plan.spectra.msi_bands, trained, streaming, relation, correction)
    ground = _ground(hsi, hsi_valid, compared)
    quality = _quality(
        crop(msi, rows, cols), None if mask is None else mask[rows, cols], plan, trained, compared, ground
    )
    errors = None
    if settings.uncertainty:
        applied = refined is not None and refined.correction is not None
        errors = calibrate(hsi, training, plan, compared, fine, settings, device, refined=applied, listener=listener)
        if errors is None:
            warnings.append("too few HSI pixels to hold some out: no uncertainty can be given")
            listener.warn(warnings[-1])
    sigma = None
    if errors is not None:
        sigma = standard_error(crop(usable, rows, cols), plan.spectra.msi_bands, trained, errors, relation)
    abundances = None
    if settings.abundances is not None:
        mixing = unmixed(trained)
        abundances = inverted(crop(usable, rows, cols), plan.spectra.msi_bands, mixing, streaming, relation).cube
    missing = _count_missing(plan.region.grid, ground)
    give_back_memory()
    return Fusion(
        plan, compared, check, trained, refined, product, quality, sigma, errors, abundances,
        information_of(training, settings), missing, tuple(warnings),
    )  # fmt: skip


def _usable_hsi(hsi: xr.DataArray, plan: Plan, settings: FuseSettings, listener: Listener) -> xr.DataArray:
    """Leave out what the HSI's own quality layers hide; in memory where there is room."""
    usable = without(hsi, None if settings.mask == "none" else mask_of(hsi, "auto"))
    if not is_kept(hsi.nbytes, plan.cost.budget_bytes):
        return usable
    threads = settings.threads or available_cpus()
    return in_memory(usable, threads, lambda share: listener.progress("reading", share))


def _require_something_to_fuse(
    mask: da.Array | None, compared: Comparison | None, plan: Plan, settings: FuseSettings
) -> None:
    """Refuse a mask that leaves nothing of the product. Raises InputError."""
    if mask is None or (compared is not None and compared.harmonization.n_pixels > 0):
        return
    if bool(mask[plan.region.rows, plan.region.cols].all().compute()):
        what = "the MSI's own quality layers hide" if settings.mask == "auto" else f"{settings.mask}: hides"
        raise InputError(f"{what} every pixel of the product. Pass another --mask, or --mask none.")


def _look_for_enlargement(
    compared: Comparison | None, trained: Trained, listener: Listener, warnings: list[str]
) -> None:
    """Warn where the model enlarges what the sensors disagree about."""
    if compared is None:
        return
    degraded = compared.harmonization.apply(compared.degraded)
    found = measure_enlargement(trained.model.predict, compared.simulated, degraded)
    if found is not None and found.excessive:
        other = "" if trained.facts["method"] == "auto" else ", or --method auto"
        warnings.append(
            f"the real MSI differs from the simulated one by {found.seen:.1%}, what is made of the two by "
            f"{found.product:.0%}: the method takes noise for information, as where the HSI's bands are too broad to "
            f"tell MSI bands apart. Pass fewer --msi-bands{other}."
        )
        listener.warn(warnings[-1])


def information_of(training: TrainingSet, settings: MethodSettings) -> Information | None:
    """Measure what the MSI tells of each HSI band, with the default method in closed form: five fits in a second."""
    from geolift.training.fit import fit

    def refit(part: TrainingSet) -> Callable[[np.ndarray], np.ndarray]:
        return fit("auto", part, seed=settings.seed, features=128, copies=1, learned=False).predict

    return measure_information(training, refit, settings.seed)


def _compare(
    hsi: xr.DataArray,
    msi: xr.DataArray,
    plan: Plan,
    settings: FuseSettings,
    listener: Listener,
    warnings: list[str],
) -> tuple[Comparison | None, CheckResult | None]:
    """Hold the two sensors against each other and say what was found; TrustError under ``strict``."""
    listener.progress("comparing", 0.0)
    compared = compare(hsi, msi.isel(band=list(plan.spectra.msi_bands)), plan.spectra, plan.region, settings)
    listener.progress("comparing", 1.0)
    if compared is None:
        found = ["no HSI pixel lies under the MSI: the two sensors could not be compared"]
        result = None
    else:
        result = crosscheck.check(hsi, msi, plan.spectra, compared, settings.threads or available_cpus())
        told = (*result.alarms, *result.remarks)
        found = [*compared.warnings, *(crosscheck.sentence(f) for f in told if not _settled(f, compared))]
        if settings.strict:
            crosscheck.enforce(result)
    for text in found:
        listener.warn(text)
    warnings.extend(found)
    return compared, result


def _settled(finding: Finding, compared: Comparison) -> bool:
    """Tell whether a finding is a shift that has been corrected: told in the sidecar, no reason to worry."""
    return finding.code == "shift" and compared.applied_px != (0.0, 0.0)


Ground = tuple[GeoBox, np.ndarray]


def _ground(hsi: xr.DataArray, valid: np.ndarray, compared: Comparison | None) -> Ground:
    """Return the HSI's grid, moved by the shift applied, and where it is valid."""
    grid = grid_of(hsi)
    if compared is None or compared.applied_px == (0.0, 0.0):
        return grid, valid
    laid = compared.overlay
    move_x, move_y = laid.shift_units(*laid.fine_shift(*compared.applied_px))
    return GeoBox(grid.shape, Affine.translation(move_x, move_y) * grid.affine, grid.crs), valid


def _count_missing(grid: GeoBox, ground: Ground) -> int:
    height = int(grid.shape[0])
    strips = (grid[row : min(row + STRIP_ROWS, height), :] for row in range(0, height, STRIP_ROWS))
    return sum(int((~alignment.covered(strip, *ground)).sum()) for strip in strips)


def _quality(
    msi: xr.DataArray,
    mask: da.Array | None,
    plan: Plan,
    trained: Trained,
    compared: Comparison | None,
    ground: Ground,
) -> xr.DataArray:
    """Put the quality bits of every output pixel on the product's grid, lazily."""
    data = da.asarray(msi.data)[list(plan.spectra.msi_bands)]
    masked = da.zeros(data.shape[1:], chunks=data.chunks[1:], dtype=bool) if mask is None else mask
    grid, relation = plan.region.grid, None if compared is None else compared.harmonization
    doubtful = compared is None or (compared.shift is not None and not compared.shift.reliable)

    def block(values: np.ndarray, hidden: np.ndarray, block_info: Any = None) -> np.ndarray:
        (_, _), (row, row_end), (col, col_end) = block_info[None]["array-location"]
        harmonised = values if relation is None else relation.apply(values)
        bits = quality_bits(
            nodata=~np.isfinite(values).all(axis=0),
            masked=hidden[0],
            out_of_range=trained.model.out_of_range(harmonised),
            outside_hsi=~alignment.covered(grid[row:row_end, col:col_end], *ground),
            low_confidence=doubtful,
        )
        return bits[None].astype(np.float32)

    flags = data.map_blocks(
        block,
        masked[None].rechunk((1, *data.chunks[1:])),
        chunks=((1,), *data.chunks[1:]),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )
    unknown = np.array([np.nan])
    return make_cube(flags, grid=grid, bands=Bands(("qa",), unknown, unknown, np.array([True])))


def _device(settings: DeviceSettings) -> str:
    from geolift.network.engine import choose_engine

    return choose_engine(settings.device).device


def apply(
    model: str | Path,
    msi: str | Path | xr.DataArray,
    *,
    listener: Listener = SILENT,
    **options: Any,
) -> xr.DataArray:
    """Apply a saved model to an MSI of its sensor, lazily.

    Raises
    ------
    InputError
        If the MSI's bands are not those the model was trained for.
    """
    settings = ApplySettings(**options)
    trained = load_trained(model)
    cube = opened(msi, settings.msi_reading, settings.tile_size, settings.msi_bands)
    window, bands, notes = match_bands(trained, cube, settings)
    for text in notes:
        listener.warn(text)
    return inverted(window, bands, trained, settings).cube


def match_bands(
    trained: Trained, msi: xr.DataArray, settings: ApplySettings
) -> tuple[xr.DataArray, tuple[int, ...], list[str]]:
    """Find the model's bands in an MSI file and cut its window; refuse what does not match."""
    source = str(msi.attrs.get("source", "MSI"))
    grid = grid_of(msi)
    alignment.require_north_up(grid, source)
    notes = list(msi.attrs.get("warnings", []))
    wanted = trained.facts["msi_bands"]
    names = _file_band_names(trained, msi, settings, notes)
    missing = [name for name in wanted if name not in names]
    if missing:
        raise InputError(
            f"{source}: the model needs {trained.facts['sensor']} bands {', '.join(wanted)}; "
            f"{', '.join(missing)} not found among {', '.join(str(n) for n in names)}. "
            "Pass --msi-bands with the bands of the file, in file order."
        )
    window = cut_to_bounds(grid, (slice(0, grid.shape[0]), slice(0, grid.shape[1])), settings, source)
    return crop(msi, *window), tuple(names.index(name) for name in wanted), notes


def _file_band_names(
    trained: Trained, msi: xr.DataArray, settings: ApplySettings, notes: list[str]
) -> list[str | None]:
    sensor = str(trained.facts["sensor"])
    try:
        srf, _ = find_response(SensorSettings(sensor=sensor), msi)
    except InputError:
        # A model trained with --srf: its own band names are all that is known.
        names = list(settings.msi_bands or bands_of(msi).names)
        if len(names) != msi.sizes["band"]:
            raise InputError(f"--msi-bands names {len(names)} bands, the file has {msi.sizes['band']}") from None
        return list(names)
    return name_msi_bands(srf, settings.msi_bands, msi, notes)
