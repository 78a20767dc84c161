"""What a sidecar tells of a run, as types: the properties of ours in OUT.json, without their prefix.

`tools/build_sidecar_schema.py` writes docs/sidecar.schema.json from these models. Fields that came later have
defaults, so that sidecars of earlier versions still load; what a newer version adds is kept.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from geolift.errors import InputError
from geolift.provenance.sidecar import read_sidecar

Number = float | str | None
"""A number; "nan", "inf" and "-inf" as texts, since JSON has no word for them."""


class Facts(BaseModel):
    """Facts of a run; more may stand beside those that are named."""

    model_config = ConfigDict(frozen=True, extra="allow")


class InputFile(Facts):
    """What identifies an input: path or URL, size in bytes, time of its last change (UTC)."""

    href: str
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


class CoregistrationFacts(Facts):
    """The residual shift, in MSI pixels and metres, and what speaks for it; ``confidence`` 0 to 1."""

    shift_msi_px: Shift
    shift_m: Shift | None = None
    confidence: Number = None
    applied: bool = False
    reliable: bool | None = None
    reason: str = ""


class HarmonizationFacts(Facts):
    """The radiometric relation applied to the MSI: ``matrix`` times its values plus ``offset``."""

    model: str
    matrix: list[list[float]] = []
    offset: list[float] = []
    heldout_error: dict[str, Number] = {}
    inlier_fraction: Number = None
    pixels: int = 0
    reason: str = ""


class RefinementFacts(Facts):
    """Whether the product was made to agree with the HSI; ``held_out_explained`` 0 to 1, and so is
    ``differing_share``, of the HSI pixels that are outliers between the sensors.
    """

    applied: bool
    reason: str = ""
    held_out_explained: Number = None
    differing_share: Number = None
    components: int | None = None


class FindingFacts(Facts):
    """One finding of the cross-sensor check: what it is, in a sentence, and the option that mends it."""

    code: str
    message: str
    option: str = ""


class CheckFacts(Facts):
    """The cross-sensor check."""

    verdict: list[FindingFacts]
    bands: list[dict[str, JsonValue]] = []
    pixels: int = 0


class WrittenFacts(Facts):
    """What was written; ``clipped_values`` did not fit the stored type."""

    valid_pixels: int
    values: int
    clipped_values: int


class UncertaintyFacts(Facts):
    """How the standard error was calibrated."""

    median_sigma: float


class ExplainedVarianceFacts(Facts):
    """What the MSI tells of each HSI band, None = not learned: ``explained`` 0 to 1."""

    wavelength_nm: list[Number]
    explained: list[Number]
    bits: list[Number]
    held_out_pixels: int


class RunRecord(Facts):
    """Everything that a sidecar tells of a run."""

    datetime_is: str = ""
    settings: dict[str, JsonValue] = {}
    inputs: dict[str, InputFile] = {}
    output: str = ""
    output_bytes: int | None = None
    trained: dict[str, JsonValue] = Field({}, alias="model")
    choices: dict[str, JsonValue] = {}
    training_curve: list[JsonValue] = []
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
    timings_s: dict[str, float] = {}


def read_record(path: Path) -> RunRecord:
    """Return what a sidecar tells of its run.

    Raises
    ------
    InputError
        If the file is no sidecar of geolift, or one of its facts is not of its kind.
    """
    facts = read_sidecar(path)
    try:
        return RunRecord.model_validate(facts)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}: not a sidecar of geolift: {where}: {first['msg'].lower()}") from None
