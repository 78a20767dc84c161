"""The whole job: understand both images, hold them against each other, learn the inversion, apply it lazily."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np
import xarray as xr

from geolift.datamodel.cube import in_memory
from geolift.errors import InputError
from geolift.pair.checks import CheckResult, Finding, crosscheck, measure_noise_amplification
from geolift.pair.comparison import Comparison, compare
from geolift.pair.declared_offset import with_true_offset
from geolift.pair.fine_msi import look_at_fine_msi
from geolift.pair.region import plan_region
from geolift.pair.scene_pair import ScenePair, masked_pair
from geolift.pair.screening import Screening, screen_hsi
from geolift.pair.screening.screened_pair import screened_pair
from geolift.pair.spectra import plan_spectra
from geolift.pipeline.fault_places import FaultMap, fault_maps
from geolift.pipeline.interpolation import NO_GAIN, with_worth
from geolift.pipeline.marked_ground import with_marked
from geolift.pipeline.memory_plan import Preparing, estimate_cost, fitted, is_kept
from geolift.pipeline.plan import Plan, file_facts
from geolift.pipeline.quality_raster import hsi_coverage, quality_raster
from geolift.pipeline.refining import product_input, refine
from geolift.pipeline.run import Run
from geolift.pipeline.standard_error import calibrate, standard_error
from geolift.pipeline.trained import Inverted, Trained, inverted, kept_or, learn, survey
from geolift.pipeline.unmixing import unmixed
from geolift.readers import opened
from geolift.runtime.machine import give_back_memory
from geolift.runtime.progress import Listener, advance, heard_by, of_stage, warn
from geolift.settings import FuseSettings, MethodSettings, TrainSettings
from geolift.settings.typed import FuseOptions, TrainOptions
from geolift.settings.validation import validated
from geolift.training.explained_variance import ExplainedVariance, measure_explained_variance
from geolift.training.training_set import TrainingSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from geolift.readers.places import Places
    from geolift.refinement import Refined
    from geolift.uncertainty.calibration import ErrorModel

NOT_SAVED = (
    "the model saved was learned from an MSI set right first (coarse bands sharpened, bands moved, or gains evened "
    "that vary over the scene): 'geolift apply' does not repeat that. Apply it to an MSI without these faults."
)


def plan_fusion(hsi: xr.DataArray, msi: xr.DataArray, settings: FuseSettings, output: Path | None = None) -> Plan:
    """Settle everything before the first number is computed. Raises InputError or UsageError."""
    spectra = plan_spectra(hsi, settings, settings, msi)
    region = plan_region(hsi, msi, settings)
    shape = (int(region.grid.shape[0]), int(region.grid.shape[1]))
    cost = estimate_cost(
        shape, len(spectra.hsi_bands), len(spectra.msi_bands), settings, Preparing.of(hsi, region.ratio)
    )
    notes = [*hsi.attrs.get("warnings", []), *msi.attrs.get("warnings", []), *spectra.warnings]
    if region.ratio <= 1.0:
        notes.append(
            f"the MSI's pixels ({region.msi_gsd_m:.4g} m) are not finer than the HSI's ({region.hsi_gsd_m:.4g} m)"
        )
    return Plan(
        hsi=file_facts(hsi),
        msi=file_facts(msi),
        spectra=spectra,
        region=region,
        cost=cost,
        output=output,
        warnings=tuple(notes),
    )


def train(
    hsi: str | Path | xr.DataArray,
    settings: TrainSettings | None = None,
    *,
    listener: Listener | None = None,
    **options: Unpack[TrainOptions],
) -> Trained:
    """Learn the spectral inversion of an HSI for a sensor; no MSI is needed.

    Parameters
    ----------
    hsi : path or DataArray (band, y, x)
    settings
        Every option at once; ``**options`` take precedence.
    **options
        Fields of `geolift.settings.TrainSettings`, for example ``sensor="sentinel2"``.

    Raises
    ------
    InputError, UsageError
    """
    with heard_by(listener):
        return _trained(hsi, validated(TrainSettings, options, given=settings))


def _trained(hsi: str | Path | xr.DataArray, settings: TrainSettings) -> Trained:
    from geolift.network.engine import choose_engine

    cube = opened(hsi, settings.hsi_reading)
    choose_engine(settings.device)  # refuses one that is not there before anything is read
    spectra = plan_spectra(cube, settings, settings)
    warn(*cube.attrs.get("warnings", []), *spectra.warnings)
    cube, screening = screen_hsi(cube, spectra.learned_bands, settings)
    warn(*screening.sentences)
    training, _ = survey(cube, spectra, settings)
    return learn(cube, training, spectra, settings)


def fuse(
    hsi: str | Path | xr.DataArray,
    msi: str | Path | xr.DataArray,
    settings: FuseSettings | None = None,
    *,
    listener: Listener | None = None,
    **options: Unpack[FuseOptions],
) -> xr.DataArray:
    """Fuse an HSI with an MSI: all the bands of the one at the pixels of the other, lazily.

    Training happens here; the pixels are computed when they are asked for.

    Parameters
    ----------
    hsi, msi : path or DataArray (band, y, x)
        As `geolift.open` gives them.
    settings
        Every option at once; ``**options`` take precedence.
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
    return prepare(hsi, msi, settings, listener, **options).fused


@dataclass(frozen=True, eq=False, kw_only=True)
class Fusion:
    """A fusion settled and learned, its pixels not yet computed.

    Parameters
    ----------
    settings, pair
        What it was told, and the two images as they were used.
    screening
        What was found of faults in the HSI, and what became of them.
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
    fault_maps
        Where the faults lie that have a place.
    warnings
        Everything that was warned of.
    """

    settings: FuseSettings
    pair: ScenePair
    plan: Plan
    screening: Screening
    compared: Comparison | None
    check: CheckResult | None
    trained: Trained
    refined: Refined | None
    product: Inverted
    quality: xr.DataArray
    sigma: xr.DataArray | None
    errors: ErrorModel | None
    abundances: xr.DataArray | None
    information: ExplainedVariance | None
    pixels_without_hsi: int
    fault_maps: tuple[FaultMap, ...]
    warnings: tuple[str, ...]

    @property
    def fused(self) -> xr.DataArray:
        """The product, lazy (band, y, x)."""
        return self.product.cube

    def spectra(self, places: str | Path | Places) -> xr.Dataset:
        """Return product, HSI, MSI, standard error and marks at points and in polygons; see `geolift.spectra`."""
        from geolift.pipeline.place_spectra import fusion_spectra

        return fusion_spectra(self, places)

    def plot(self) -> Figure:
        """Draw HSI, MSI and product at one stretch, and spectra of a few places."""
        from geolift.pipeline.fusion_view import plot

        return plot(self)

    def report(self, target: str | Path = "report.html") -> Path:
        """Write the report of this fusion as one HTML file; the pixels are computed for it."""
        from geolift.pipeline.fusion_view import report

        return report(self, Path(target))

    def _repr_html_(self) -> str:
        from geolift.pipeline.fusion_view import as_html

        return as_html(self)


def prepare(
    hsi: str | Path | xr.DataArray,
    msi: str | Path | xr.DataArray,
    settings: FuseSettings | None = None,
    listener: Listener | None = None,
    **options: Unpack[FuseOptions],
) -> Fusion:
    """Do everything of `fuse`, whose arguments it takes, up to the pixels, and return all that is known of it: cube,
    quality, error, check.
    """
    chosen = validated(FuseSettings, options, given=settings)
    hsi_cube = opened(hsi, chosen.hsi_reading)
    msi_cube = opened(msi, chosen.msi_reading, chosen.tile_size, chosen.msi_bands)
    with heard_by(listener):
        return fuse_cubes(hsi_cube, msi_cube, Run(settings=chosen))


def fuse_cubes(hsi: xr.DataArray, msi: xr.DataArray, run: Run) -> Fusion:
    """Compare, learn, refine, calibrate: everything up to the pixels; see `fuse`."""
    plan = plan_fusion(hsi, msi, run.settings, run.output)
    run = replace(run, settings=fitted(run.settings, plan.cost))
    settings = run.settings
    run.warn(*plan.warnings)
    pair = kept_in_memory(masked_pair(hsi, msi, plan.spectra, plan.region, settings), plan, run)
    pair = without_faults(with_declared_offset(pair, run), run)
    compared, check = compare_sensors(pair, run)
    require_something_to_fuse(pair, compared, settings)
    pair = pair if compared is None else compared.set_right(pair)
    training, valid = training_pixels(pair, compared, run)
    check = weighed(check, pair, compared, training, run)
    trained = kept_or(run.kept_model, lambda: learn_inversion(pair, training, run))
    warn_of_noise_amplification(compared, trained, run)
    refinement = refine(pair, compared, trained, training, run)
    trained, correction, change = refinement.trained, refinement.correction, refinement.change
    msi, used, relation = product_input(pair, None if compared is None else compared.harmonization, change, settings)
    product = inverted(msi, used, trained, settings, relation, correction).lending(refinement.lend)
    errors = calibrate(pair, compared, training, run, refinement.refined) if settings.uncertainty else None
    mixing = None if settings.abundances is None else unmixed(trained)
    coverage = hsi_coverage(pair, valid, compared)
    return Fusion(
        settings=settings, pair=pair, plan=plan, screening=pair.screening, compared=compared, trained=trained,
        check=told_of_marks(check, refinement.refined, run), refined=refinement.refined, product=product, errors=errors,
        quality=quality_raster(pair, trained, compared, coverage, correction, change),
        sigma=None if errors is None else standard_error(msi, used, trained, errors, relation),
        abundances=None if mixing is None else inverted(msi, used, mixing, settings, relation).cube,
        information=explained_variance_of(training, settings), fault_maps=fault_maps(pair, compared, check, refinement),
        pixels_without_hsi=coverage.count_missing(pair.region.grid), warnings=tuple(run.warnings),
    )  # fmt: skip


def kept_in_memory(pair: ScenePair, plan: Plan, run: Run) -> ScenePair:
    """Decode the HSI once where there is room for it; it is read several times before the first tile."""
    if not is_kept(pair.hsi.nbytes, plan.cost.budget_bytes):
        return pair
    return replace(pair, hsi=in_memory(pair.hsi, run.threads, of_stage("reading")))


def with_declared_offset(pair: ScenePair, run: Run) -> ScenePair:
    """Settle what the MSI's metadata leave open of its offset, and warn of it."""
    pair, told = with_true_offset(pair)
    run.warn(*([told] if told else []))
    return pair


def without_faults(pair: ScenePair, run: Run) -> ScenePair:
    """Set right or leave out what is faulty of the HSI, and warn of it."""
    pair = screened_pair(pair, run.settings)
    run.warn(*pair.screening.sentences)
    return pair


def compare_sensors(pair: ScenePair, run: Run) -> tuple[Comparison | None, CheckResult | None]:
    """Hold the two sensors against each other and say what was found; TrustError under ``strict``."""
    advance("comparing", 0.0)
    compared = compare(pair, run.settings, folder=run.scratch_folder)
    advance("comparing", 1.0)
    if compared is None:
        run.warn("no HSI pixel lies under the MSI: the two sensors could not be compared")
        return None, None
    result = crosscheck.check(pair, compared, run.threads)
    findings = (f for f in (*result.alarms, *result.remarks) if not _is_settled(f, compared, pair.screening))
    if run.settings.strict:
        crosscheck.enforce(result)
    run.warn(*compared.warnings, *map(crosscheck.sentence, findings))
    if run.settings.save_model is not None and compared.adjustment is not None and not compared.adjustment.is_none:
        run.warn(NOT_SAVED)
    give_back_memory()
    return compared, result


def weighed(
    check: CheckResult | None, pair: ScenePair, compared: Comparison | None, training: TrainingSet, run: Run
) -> CheckResult | None:
    """Say in check and warnings where interpolating the HSI is as good as fusing."""
    if check is None or compared is None:
        return check
    result = with_worth(check, pair, compared, training.msi_noise, run.settings.seed)
    run.warn(*(crosscheck.sentence(finding) for finding in result.verdict if finding.code == NO_GAIN))
    return result


def told_of_marks(check: CheckResult | None, refined: Refined | None, run: Run) -> CheckResult | None:
    """Say in check and warnings where the MSI gives way to what the HSI shows."""
    part = 0.0 if refined is None else refined.facts.get("changed_share", 0.0)
    result = None if check is None else with_marked(check, part)
    if result is not None and result is not check:
        run.warn(crosscheck.sentence(result.verdict[-1]))
    return result


def _is_settled(finding: Finding, compared: Comparison, screening: Screening) -> bool:
    """Tell whether a finding is no news: a shift that has been corrected, or a fault of the HSI told already."""
    return finding.code in screening.codes or (finding.code == "shift" and compared.applied_px != (0.0, 0.0))


def require_something_to_fuse(pair: ScenePair, compared: Comparison | None, settings: FuseSettings) -> None:
    """Refuse a mask that leaves nothing of the product. Raises InputError."""
    if pair.msi_mask is None or (compared is not None and compared.harmonization.n_pixels > 0):
        return
    if bool(pair.product_mask.all().compute()):
        what = "the MSI's own quality layers hide" if settings.mask == "auto" else f"{settings.mask}: hides"
        raise InputError(f"{what} every pixel of the product. Pass another --mask, or --mask none.")


def training_pixels(pair: ScenePair, compared: Comparison | None, run: Run) -> tuple[TrainingSet, np.ndarray]:
    """Draw the pixels to learn from, with the MSI's noise, and tell where the HSI is valid, bool (y, x)."""
    training, valid = survey(pair.hsi, pair.spectra, run.settings)
    fine = None if compared is None else look_at_fine_msi(compared)
    return replace(training, msi_noise=None if fine is None else fine.noise), valid


def learn_inversion(pair: ScenePair, training: TrainingSet, run: Run) -> Trained:
    """Learn the spectral inversion from the pair's HSI."""
    trained = learn(pair.hsi, training, pair.spectra, run.settings, run.threads)
    give_back_memory()
    return trained


def warn_of_noise_amplification(compared: Comparison | None, trained: Trained, run: Run) -> None:
    """Warn where the model amplifies what the sensors disagree about."""
    if compared is None:
        return
    degraded = compared.harmonization.apply(compared.degraded)
    found = measure_noise_amplification(trained.model.predict, compared.simulated, degraded)
    if found is not None and found.excessive:
        other = "" if trained.facts.method == "auto" else ", or --method auto"
        run.warn(
            f"the real MSI differs from the simulated one by {found.seen:.1%}, what is made of the two by "
            f"{found.product:.0%}: the method takes noise for information, as where the HSI's bands are too broad to "
            f"tell MSI bands apart. Pass fewer --msi-bands{other}."
        )


def explained_variance_of(training: TrainingSet, settings: MethodSettings) -> ExplainedVariance | None:
    """Measure what the MSI tells of each HSI band, with the default method in closed form: five fits in a second."""
    from geolift.training.fit import fit

    def refit(part: TrainingSet) -> Callable[[np.ndarray], np.ndarray]:
        return fit("auto", part, seed=settings.seed, features=128, copies=1, learned=False).predict

    return measure_explained_variance(training, refit, settings.seed)
