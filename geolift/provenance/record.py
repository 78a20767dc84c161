"""What a sidecar tells of a run, as types: the properties of ours in OUT.json, without their prefix.

`tools/build_sidecar_schema.py` writes docs/sidecar.schema.json from these models. Fields that came later have
defaults, so that sidecars of earlier versions still load; what a newer version adds is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from geolift.errors import InputError
from geolift.provenance.sidecar import own_facts, read_item

Number = float | str | None
"""A number; "nan", "inf" and "-inf" as texts, since JSON has no word for them."""


class Facts(BaseModel):
    """Facts of a run; more may stand beside those that are named."""

    # Built when first read: most commands read no sidecar.
    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)


class InputFile(Facts):
    """What identifies an input: path or URL, size in bytes, time of its last change (UTC)."""

    href: str = ""
    size: int | None = None
    modified: str | None = None


class ImageFacts(Facts):
    """What was understood of one image: value = DN x scale + offset; ``shape`` (rows, cols)."""

    source: str | None = None
    driver: str | None = None
    dtype: str | None = None
    scale: JsonValue = None
    offset: JsonValue = None
    nodata: Number = None
    quantity: str | None = None
    acquired: str | None = None
    wavelengths_from: str | None = None
    bands: int
    shape: tuple[int, int]
    crs: str | None = None


class DroppedBand(Facts):
    """An MSI band of whose response the HSI covers too little: ``coverage`` 0 to 1."""

    name: str
    coverage: float


class SpectraFacts(Facts):
    """Which bands took part."""

    sensor: str
    hsi_bands_kept: int
    hsi_bands_good: int
    msi_bands_used: list[str]
    msi_bands_dropped: list[DroppedBand] = []
    srf_sha256: str


class RegionFacts(Facts):
    """The window of the MSI's grid that was produced: ``shape`` (rows, cols), its first ``row`` and ``col``."""

    shape: tuple[int, int]
    window: dict[str, int]
    ratio: float
    hsi_gsd_m: float
    msi_gsd_m: float


class PlanFacts(Facts):
    """What was settled before the first number was computed."""

    hsi: ImageFacts
    msi: ImageFacts
    spectra: SpectraFacts
    region: RegionFacts
    warnings: list[str] = []


class Shift(Facts):
    """A motion that brings the HSI onto the MSI, +dy down, +dx right."""

    dy: float
    dx: float


class BandShift(Facts):
    """What one MSI band, 0-based among the used ones, says of the shift, in MSI pixels."""

    band: int
    dy: Number
    dx: Number
    sigma_dy: Number
    sigma_dx: Number
    correlation: Number


class CoregistrationFacts(Facts):
    """The residual shift, in MSI pixels and metres, and what speaks for it; ``confidence`` 0 to 1.

    Errors, blur (sigmas beside the pixel's average, in MSI pixels) and votes are None and empty where the shift was
    given or not looked for.
    """

    shift_msi_px: Shift = Shift(dy=0.0, dx=0.0)
    shift_m: Shift | None = None
    sigma_dy: Number = None
    sigma_dx: Number = None
    blur_sigma_y: Number = None
    blur_sigma_x: Number = None
    votes: list[BandShift] = []
    confidence: Number = None
    applied: bool = False
    reliable: bool | None = None
    reason: str = ""

    @property
    def applied_px(self) -> tuple[float, float]:
        """(dy, dx) in MSI pixels by which the HSI counted as moved."""
        return (self.shift_msi_px.dy, self.shift_msi_px.dx) if self.applied else (0.0, 0.0)


class CurveFacts(Facts):
    """A curve per band through (seen, wanted), (c, k), that was applied to the MSI before the relation."""

    name: str
    seen: list[list[float]]
    wanted: list[list[float]]


class HarmonizationFacts(Facts):
    """The radiometric relation applied to the MSI: ``matrix`` times its values, after ``curve``, plus ``offset``."""

    model: str
    curve: CurveFacts | None = None
    matrix: list[list[float]] = []
    offset: list[float] = []
    heldout_error: dict[str, Number] = {}
    inlier_fraction: Number = None
    pixels: int = 0
    reason: str = ""


class FootprintFacts(Facts):
    """What an HSI pixel sees: weights of the fine rows and columns, the first of them ``start_px`` from its own."""

    start_px: tuple[int, int]
    weights_y: list[float]
    weights_x: list[float]


class HsiAgreement(Facts):
    """RMSE against the HSI in its main components, before and after the refinement."""

    rmse_before: Number = None
    rmse_after: Number = None


class LearnedTwiceFacts(Facts):
    """What came of learning again from the refined product; ``pixels`` None where there was none to learn from."""

    applied: bool
    reason: str
    pixels: int | None = None


class RefinementFacts(Facts):
    """Whether the product was made to agree with the HSI; ``held_out_explained`` 0 to 1, and so is
    ``differing_share``, of the HSI pixels that are outliers between the sensors, and ``changed_share``, of the fine
    pixels that show the HSI's content instead of the MSI's.
    """

    applied: bool = False
    footprint: FootprintFacts | None = None
    agreement_with_hsi: HsiAgreement | None = None
    learned_twice: LearnedTwiceFacts | None = None
    reason: str = ""
    held_out_explained: Number = None
    differing_share: Number = None
    changed_share: Number = None
    components: int | None = None


class FindingFacts(Facts):
    """One finding of the cross-sensor check: what it is, in a sentence, and the option that mends it."""

    code: str
    message: str
    option: str | None = ""
    settled: bool = False


class BandFacts(Facts):
    """The relation of one MSI band to the simulated one, and the band of the sensor that it resembles most."""

    name: str
    slope: Number = None
    intercept: Number = None
    r: Number = None
    best_match: str | None = None


class CheckFacts(Facts):
    """The cross-sensor check; ``outlier_fraction`` 0 to 1."""

    verdict: list[FindingFacts]
    bands: list[BandFacts] = []
    pixels: int = 0
    outlier_fraction: Number = Field(None, validation_alias=AliasChoices("outlier_fraction", "foreign_fraction"))


class FaultMapFacts(Facts):
    """Where a fault lies: one digit per cell, in ninths of the largest value, "." where it is not known.

    ``transform``: a b c d e f of x = a col + b row + c, y = d col + e row + f, in ``crs``.
    """

    code: str
    what: str
    most: float
    crs: str | None = None
    transform: tuple[float, float, float, float, float, float]
    cells: list[str]


class WrittenFacts(Facts):
    """What was written; ``clipped_values`` did not fit the stored type."""

    valid_pixels: int
    values: int
    clipped_values: int


class UncertaintyFacts(Facts):
    """How the standard error was calibrated; ``refined_share`` of the error is left by the refinement."""

    median_sigma: float
    held_out_pixels: int = 0
    refined_share: float = 1.0
    needed_one_level_down: Number = None


class ExplainedVarianceFacts(Facts):
    """What the MSI tells of each HSI band, None = not learned: ``explained`` 0 to 1."""

    wavelength_nm: list[Number]
    explained: list[Number]
    bits: list[Number]
    held_out_pixels: int


class ModelFacts(Facts):
    """What was learned: by which method, for which bands of which sensor."""

    method: str | None = None
    sensor: str | None = None
    msi_bands: list[str] = []
    train_pixels: int | None = None
    seed: int = 0


class TrainingStep(Facts):
    """The loss after so many steps of the training."""

    step: int
    loss: Number = None


class RunRecord(Facts):
    """Everything that a sidecar tells of a run."""

    datetime_is: str = ""
    settings: dict[str, JsonValue] = {}
    inputs: dict[str, InputFile] = {}
    output: str = ""
    output_bytes: int | None = None
    trained: ModelFacts = Field(ModelFacts(), alias="model")
    choices: dict[str, JsonValue] = {}
    training_curve: list[TrainingStep] = []
    written: WrittenFacts | None = None
    plan: PlanFacts | None = None
    pixels_without_hsi: int | None = None
    warnings: list[str] = []
    coregistration: CoregistrationFacts | None = None
    harmonization: HarmonizationFacts | None = None
    refinement: RefinementFacts | None = None
    uncertainty: UncertaintyFacts | None = None
    information: ExplainedVarianceFacts | None = None
    check: CheckFacts | None = None
    fault_maps: list[FaultMapFacts] = []
    timings_s: dict[str, float] = {}


class ProductBand(Facts):
    """A band of the product: its wavelength in micrometres, and whether it holds values."""

    name: str = ""
    good: bool = Field(True, alias="geolift:good")
    center_wavelength: float | None = None


class StoredBand(Facts):
    """How a band of the product is stored: value = number x scale."""

    data_type: str | None = None
    scale: Number = 1.0
    nodata: Number = None


class ProductFile(Facts):
    """The product among the assets of its sidecar."""

    href: str = ""
    bands: list[ProductBand] = Field([], alias="eo:bands")
    stored: list[StoredBand] = Field([], alias="raster:bands")


class ItemProperties(Facts):
    """What a sidecar tells of its product in the words of STAC."""

    datetime: str | None = None
    software: dict[str, str] = Field({}, alias="processing:software")
    crs: str | None = Field(None, alias="proj:code")
    shape: tuple[int, int] | None = Field(None, alias="proj:shape")


class _Item(Facts):
    properties: ItemProperties
    assets: dict[str, ProductFile] = {}


@dataclass(frozen=True)
class Sidecar:
    """A sidecar as types: the run, and the product that it made."""

    record: RunRecord
    product: ProductFile
    properties: ItemProperties


def understood(item: Mapping[str, object], source: str) -> Sidecar:
    """Return a sidecar's content as types; ``source`` is named where a fact is not of its kind. Raises InputError."""
    try:
        known = _Item.model_validate(item)
        record = RunRecord.model_validate(own_facts(known.properties.model_extra or {}))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{source}: not a sidecar of geolift: {where}: {first['msg'].lower()}") from None
    return Sidecar(record, known.assets.get("data", ProductFile()), known.properties)


def load_sidecar(path: Path) -> Sidecar:
    """Return what a sidecar tells of its run and its product.

    Raises InputError if the file is no sidecar of geolift, or one of its facts is not of its kind.
    """
    return understood(read_item(path), str(path))


def read_record(path: Path) -> RunRecord:
    """Return what a sidecar tells of its run. Raises InputError as `load_sidecar` does."""
    return load_sidecar(path).record
