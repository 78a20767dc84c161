"""Every option of geolift: its name, default, rule and help text, in one place.

A command's settings are the sum of the groups it needs; a step receives the same object typed as its own group.
Command line, environment, TOML and the sidecar are all read and written through these models.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

NAN_WORDS = {"nan", "none"}


def _split_names(value: object) -> object:
    """Accept ``"B2,B3"`` as well as a list, whose members may be such texts."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return _flat(value, _split_names)


def _split_numbers(value: object) -> object:
    """Accept ``"1,2,3"`` and ``"1 2 3"`` as well as a list, whose members may be such texts."""
    if isinstance(value, str):
        return tuple(value.replace(",", " ").split())
    return _flat(value, _split_numbers)


def _flat(value: object, split: Callable[[object], object]) -> object:
    """Split the texts of a list, as a repeated option gives them."""
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        return value
    return tuple(part for text in value for part in split(text))  # type: ignore[attr-defined]


def _band_numbers(value: object) -> object:
    """Accept ``"1-60,70,80-90"`` as well as a list of 1-based band numbers."""
    if not isinstance(value, str):
        return value
    numbers: list[int] = []
    for part in value.replace(" ", "").split(","):
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return tuple(numbers)


UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def _bytes(value: object) -> object:
    """Accept ``"2GB"`` (1 GB = 10⁹ bytes), ``"512MiB"`` or a number of bytes."""
    if not isinstance(value, str):
        return value
    number = value.strip().rstrip("BbKkMmGgTtIi ")
    unit = value.strip()[len(number) :].strip().upper()
    try:
        return int(float(number) * UNITS[unit])
    except (ValueError, KeyError) as error:
        raise ValueError("a size such as 2GB or 800MB is expected") from error


Names = Annotated[tuple[str, ...], BeforeValidator(_split_names)]
BandNumbers = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_band_numbers)]
Bounds = Annotated[tuple[float, float, float, float], BeforeValidator(_split_numbers)]


class Settings(BaseModel):
    """Frozen, typed, and closed: an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Reading(Settings):
    """How one raster is understood where its own metadata is silent or wrong (value = DN × scale + offset)."""

    nodata: float | None = None
    scale: float | None = None
    offset: float | None = None
    crs: str | None = None
    wavelengths: Path | None = None


class HsiReadingSettings(Settings):
    """How the hyperspectral file is understood where its own metadata is silent or wrong."""

    hsi_nodata: float | None = Field(None, description="DN that marks invalid HSI pixels; overrides the file.")
    hsi_scale: float | None = Field(None, gt=0, description="HSI value = DN × scale + offset; overrides tags.")
    hsi_offset: float | None = Field(None, description="HSI value = DN × scale + offset; overrides tags.")
    hsi_crs: str | None = Field(None, description="CRS of an HSI without one (EPSG:32633, WKT, PROJ).")
    wavelengths: Path | None = Field(
        None,
        description="CSV with a column wavelength_nm or wavelength_um, optionally fwhm_nm and good; one row per band.",
    )

    @property
    def hsi_reading(self) -> Reading:
        """The same, as the reader wants it."""
        return Reading(
            nodata=self.hsi_nodata,
            scale=self.hsi_scale,
            offset=self.hsi_offset,
            crs=self.hsi_crs,
            wavelengths=self.wavelengths,
        )


class MsiReadingSettings(Settings):
    """How the multispectral file is understood where its own metadata is silent or wrong."""

    msi_nodata: float | None = Field(None, description="DN that marks invalid MSI pixels; overrides the file.")
    msi_scale: float | None = Field(None, gt=0, description="MSI value = DN × scale + offset; overrides tags.")
    msi_offset: float | None = Field(None, description="MSI value = DN × scale + offset; overrides tags.")
    msi_crs: str | None = Field(None, description="CRS of an MSI without one.")

    @property
    def msi_reading(self) -> Reading:
        """The same, as the reader wants it."""
        return Reading(nodata=self.msi_nodata, scale=self.msi_scale, offset=self.msi_offset, crs=self.msi_crs)


class MsiBandSettings(Settings):
    """Which bands a multispectral file holds."""

    msi_bands: Names | None = Field(
        None, description="Which sensor bands the file's bands are, in file order: B02,B03,B04,B08."
    )


class SensorSettings(MsiBandSettings):
    """Which spectral response function stands for the multispectral bands."""

    sensor: str | None = Field(None, description="Multispectral sensor; `geolift sensors` lists them.")
    srf: Path | None = Field(None, description="CSV of an own spectral response: wavelength_nm,Band1,Band2,…")


class SeedSettings(Settings):
    """What makes a run repeatable."""

    seed: int = Field(0, ge=0, description="Seed of everything random; the same seed gives the same pixels.")


class UnmixingSettings(Settings):
    """How `spectramorph` takes the scene apart into endmembers and their abundances."""

    endmembers: int = Field(7, ge=2, le=64, description="Number of endmembers of --method spectramorph.")
    non_negative: bool = Field(False, description="Keep the abundances of --method spectramorph from being negative.")
    sum_to_one: bool = Field(
        False, description="Make the abundances of a pixel sum to one in --method spectramorph; no shade is left."
    )


class MethodSettings(UnmixingSettings, SeedSettings):
    """How the spectral inversion is learned."""

    method: Literal["auto", "linear", "spectralift", "spectramorph"] = Field(
        "auto",
        description="auto: regression on sharpened pixels, averaged with a small network; linear: least squares; "
        "spectralift: the published network (arXiv 2507.13339); spectramorph: abundances of endmembers "
        "(arXiv 2510.20814).",
    )
    max_train_pixels: int = Field(
        50_000, ge=16, description="LR pixels used for training at most, spread over the scene by a seeded hash."
    )

    @model_validator(mode="after")
    def _unmixing_is_asked_of_what_unmixes(self) -> MethodSettings:
        fields = UnmixingSettings.model_fields.items()
        changed = [name.replace("_", "-") for name, field in fields if getattr(self, name) != field.default]
        if changed and self.method != "spectramorph":
            raise ValueError(f"--{changed[0]} needs --method spectramorph: {self.method} knows no endmembers")
        return self

    @property
    def method_options(self) -> dict[str, Any]:
        """What the method's own fit is told."""
        return {"unmixing": self} if self.method == "spectramorph" else {}


class RefineSettings(Settings):
    """Whether the product is made to agree with the HSI."""

    refine: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Correct the product so that it agrees with the HSI: auto where held-out HSI pixels speak for it; "
        "on; off: every pixel depends on its MSI values alone.",
    )


def _coregistration(value: object) -> object:
    """Accept auto, local, off, report, or a known shift "DY,DX" in MSI pixels."""
    if isinstance(value, str) and value not in ("auto", "local", "off", "report"):
        parts = value.replace(",", " ").split()
        try:
            dy, dx = (float(part) for part in parts)
            if not (isfinite(dy) and isfinite(dx)):
                raise ValueError
        except ValueError:
            raise ValueError("auto, local, off, report or a shift DY,DX in MSI pixels is expected") from None
        return (dy, dx)
    return value


class ComparisonSettings(Settings):
    """How HSI and MSI are brought to one place and one radiometry, and how strictly they are judged."""

    coregister: Annotated[
        Literal["auto", "local", "off", "report"] | tuple[float, float], BeforeValidator(_coregistration)
    ] = Field(
        "auto",
        description="auto: correct the residual shift if the evidence is good; local: also follow how it varies over "
        "the scene; report: only tell it; off; or DY,DX in MSI pixels, the motion that brings the HSI onto the MSI.",
        json_schema_extra={"instead": "DY,DX"},
    )
    harmonize: Literal["auto", "off", "gain", "affine"] = Field(
        "auto", description="Radiometric relation applied to the MSI: auto decides on held-out blocks."
    )
    strict: bool = Field(
        False, description="Exit with code 5 if co-registration or the cross-sensor check is not trustworthy."
    )


class MaskSettings(Settings):
    """Which pixels of the MSI are not to be used."""

    mask: str = Field(
        "auto",
        description="auto: the product's own quality layers; none; or a raster file whose non-zero pixels are masked.",
    )
    mask_dilate: int = Field(0, ge=0, description="Grow masked areas by so many MSI pixels.")


class RegionSettings(Settings):
    """Which part of the grid and of the spectrum is produced."""

    extent: Literal["overlap", "msi"] = Field(
        "overlap", description="overlap: the MSI pixels covering the HSI's bounding box; msi: the whole MSI grid."
    )
    bounds: Bounds | None = Field(
        None, description="left,bottom,right,top in the MSI's CRS; the window of whole MSI pixels touching it."
    )


class BadBandSettings(Settings):
    """What becomes of bad bands."""

    drop_bad_bands: bool = Field(False, description="Leave bad bands out instead of filling them with nodata.")


class BandSettings(BadBandSettings):
    """Which HSI bands are kept."""

    bands: BandNumbers | None = Field(None, description="HSI bands to keep, 1-based: 1-60,70,80-90.")


class WritingSettings(Settings):
    """How rasters are written."""

    overwrite: bool = Field(False, description="Replace the output if it exists.")
    of: Literal["GTiff", "COG", "ENVI", "Zarr"] = Field("GTiff", description="Output format.")
    co: tuple[str, ...] = Field((), description="Creation option NAME=VALUE of the GDAL driver; repeatable.")
    dtype: Literal["int16", "uint16", "float32"] = Field(
        "int16", description="int16 and uint16 carry reflectance × 10 000; float32 the value itself."
    )
    nodata: float | None = Field(
        None, description="Value of invalid pixels. Default -32768 (int16), 65535 (uint16), nan (float32)."
    )

    overviews: Literal["auto", "none"] = Field(
        "auto",
        description="Smaller copies for viewers: auto: in a COG, and in FILE.ovr for GTiff and ENVI with an edge over "
        "4096 pixels; none.",
    )

    @model_validator(mode="after")
    def _nodata_fits(self) -> WritingSettings:
        limits = {"int16": (-32768, 32767), "uint16": (0, 65535)}
        if self.nodata is not None and self.dtype in limits:
            low, high = limits[self.dtype]
            if not (self.nodata == int(self.nodata) if self.nodata == self.nodata else False):
                raise ValueError(f"nodata {self.nodata} is no {self.dtype}; use a whole number or --dtype float32")
            if not low <= self.nodata <= high:
                raise ValueError(f"nodata {self.nodata:g} does not fit {self.dtype} ({low} to {high})")
        for option in self.co:
            if "=" not in option:
                raise ValueError(f"creation option {option!r} is not NAME=VALUE")
        return self

    @property
    def nodata_value(self) -> float:
        """The nodata value in force, in file units."""
        defaults = {"int16": -32768.0, "uint16": 65535.0, "float32": float("nan")}
        return defaults[self.dtype] if self.nodata is None else self.nodata

    @property
    def creation_options(self) -> dict[str, str]:
        """Creation options as GDAL wants them, names in capitals."""
        return {name.upper(): value for name, _, value in (option.partition("=") for option in self.co)}


class DeviceSettings(Settings):
    """What computes."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="What trains and runs the network; auto: a CUDA GPU if torch sees one, else the CPU."
    )


class EngineSettings(DeviceSettings):
    """What computes, and in which numbers."""

    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="Numbers of the network's inner products; bf16 rounds the product by some thousandths; the network "
        "then takes two thirds of the time on CPUs with AMX.",
    )


class StreamingSettings(Settings):
    """How the work is cut and spread; never changes the product."""

    tile_size: int = Field(
        256, ge=16, description="Edge of the processing tile in MSI pixels, rounded up to whole file blocks."
    )
    threads: int | None = Field(None, ge=1, description="Worker threads (N or ALL_CPUS). Default: all allowed.")
    memory: Annotated[int, BeforeValidator(_bytes), Field(ge=1)] | None = Field(
        None,
        description="Memory the run may take, such as 2GB (10^9 bytes each). Default: half of what is allowed here.",
    )
    scheduler: str | None = Field(
        None, description="Dask cluster that computes the tiles: tcp://HOST:PORT or a scheduler FILE.json."
    )
    resume: bool = Field(
        False, description="Go on with what an interrupted run left, and leave it if this one is interrupted."
    )


class AbundanceSettings(Settings):
    """What is written of an unmixing beside the product."""

    abundances: Path | None = Field(
        None,
        description="Also write the abundances, one band for each endmember (with --method spectramorph), and the "
        "endmembers' spectra beside them as CSV.",
    )


class FuseSettings(
    AbundanceSettings,
    SensorSettings,
    HsiReadingSettings,
    MsiReadingSettings,
    ComparisonSettings,
    MaskSettings,
    MethodSettings,
    RefineSettings,
    RegionSettings,
    BandSettings,
    WritingSettings,
    EngineSettings,
    StreamingSettings,
):
    """Everything `geolift fuse` can be told."""

    save_model: Path | None = Field(None, description="Also save the trained model here (safetensors).")
    qa: Path | None = Field(
        None,
        description="Also write a quality raster: bits nodata 1, masked 2, out of range 4, low confidence 8, "
        "outside the HSI 16.",
    )
    uncertainty: Path | None = Field(
        None, description="Also write the standard error of every band and pixel, calibrated on held-out LR pixels."
    )
    report: Path | None = Field(None, description="Also write a report of the run here: one HTML file for people.")

    @model_validator(mode="after")
    def _one_response(self) -> FuseSettings:
        if self.sensor and self.srf:
            raise ValueError("--sensor and --srf exclude each other: the response comes from one of them")
        return self

    @model_validator(mode="after")
    def _abundances_of_endmembers(self) -> FuseSettings:
        if self.abundances is not None and self.method != "spectramorph":
            raise ValueError(f"--abundances needs --method spectramorph: {self.method} knows no endmembers")
        return self


class PairSettings(
    SensorSettings, HsiReadingSettings, MsiReadingSettings, ComparisonSettings, MaskSettings, BandSettings
):
    """Everything `geolift check` and `geolift coregister` can be told."""

    overwrite: bool = Field(False, description="Replace the output if it exists.")


class TrainSettings(SensorSettings, HsiReadingSettings, MethodSettings, BandSettings, DeviceSettings):
    """Everything `geolift train` can be told."""

    overwrite: bool = Field(False, description="Replace the model file if it exists.")


class ApplySettings(
    AbundanceSettings,
    MsiBandSettings,
    MsiReadingSettings,
    BadBandSettings,
    RegionSettings,
    WritingSettings,
    EngineSettings,
    StreamingSettings,
):
    """Everything `geolift apply` can be told."""


Psf = Literal[
    "gaussian",
    "kolmogorov",
    "airy",
    "moffat",
    "sinc",
    "lorentzian2",
    "hermite",
    "parabolic",
    "gabor",
    "delta",
]


class SimulateSettings(SensorSettings, SeedSettings, HsiReadingSettings, WritingSettings):
    """Everything `geolift simulate` can be told."""

    ratio: int = Field(3, ge=2, le=256, description="HR pixels per LR pixel along one edge.")
    psf: Psf = Field("gaussian", description="Point spread function of the LR sensor.")
    psf_sigma: float | None = Field(
        None, gt=0, description="Width of the PSF in HR pixels. Default: a Gaussian with a FWHM of `ratio` pixels."
    )
    psf_radius: int | None = Field(None, ge=1, le=512, description="Radius of the PSF kernel in HR pixels.")
    snr: float | None = Field(None, description="Signal-to-noise ratio in power dB per band; default no noise.")


class EvaluateSettings(Settings):
    """Everything `geolift evaluate` can be told."""

    ratio: float | None = Field(None, gt=0, description="GSD ratio for ERGAS; default from the product's sidecar.")
    data_range: float | None = Field(None, gt=0, description="Peak of PSNR and SSIM; default the reference's maximum.")
    resample: Literal["nearest", "bilinear", "cubic"] | None = Field(
        None, description="Bring a product on another grid to the reference's grid first."
    )
    convention: Literal["geolift", "hyperbench"] = Field(
        "geolift", description="hyperbench: both stretched to the reference's 1–99 percentiles, 8-bit PSNR and SSIM."
    )


def _psf_names(value: object) -> object:
    """Accept ``"gaussian,moffat"``, a list, and ``"all"``."""
    names = _split_names(value)
    return get_args(Psf) if names == ("all",) else names


# Axes of a sweep: options that take several values, parted by commas or given repeatedly.
REPEATABLE: dict[str, Any] = {"repeatable": True}
Psfs = Annotated[tuple[Psf, ...], BeforeValidator(_psf_names), Field(min_length=1)]
Ratio = Annotated[int, Field(ge=2, le=256)]
Ratios = Annotated[tuple[Ratio, ...], BeforeValidator(_split_numbers), Field(min_length=1)]
BandCounts = Annotated[tuple[Literal["3", "4", "8", "16"], ...], BeforeValidator(_split_numbers)]
Decibels = Annotated[tuple[float, ...], BeforeValidator(_split_numbers)]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_split_numbers), Field(min_length=1)]


class BenchmarkSettings(HsiReadingSettings):
    """Everything `geolift benchmark` can be told."""

    method: Annotated[Names, Field(min_length=1)] = Field(
        ("bicubic", "linear", "auto"),
        description="Methods: those of `geolift fuse`, with +refine behind a name for its refinement, and bicubic, "
        "the LR-HSI alone. Every axis takes several values, parted by commas or given repeatedly.",
        json_schema_extra=REPEATABLE,
    )
    psf: Psfs = Field(
        ("gaussian",),
        description=f"Point spread functions, HyperBench's ten: {', '.join(get_args(Psf))}; or all.",
        json_schema_extra=REPEATABLE,
    )
    psf_sigma: float = Field(3.4, gt=0, description="Width of the PSF in HR pixels.")
    psf_radius: int = Field(7, ge=1, le=512, description="Radius of the PSF kernel in HR pixels.")
    ratio: Ratios = Field((4,), description="HR pixels per LR pixel along one edge.", json_schema_extra=REPEATABLE)
    srf_bands: BandCounts = Field(
        (),
        description="MSIs of HyperBench's Gaussian spectral responses: 3, 4, 8 or 16 bands on a generated wavelength "
        "axis. Default 4, unless --sensor is given.",
        json_schema_extra=REPEATABLE,
    )
    sensor: Names = Field(
        (),
        description="MSIs of sensors of the library; they need scenes with wavelengths.",
        json_schema_extra=REPEATABLE,
    )
    msi_bands: Names | None = Field(
        None, description="Bands of --sensor that make up the MSI: B02,B03,B04,B08. Default its usual ones."
    )
    snr: Decibels = Field(
        (),
        description="Signal-to-noise ratios of the LR-HSI in power dB per band; inf for no noise. "
        "Default 35 at ratio 4, 5 less for each doubling.",
        json_schema_extra=REPEATABLE,
    )
    msi_snr: float = Field(40.0, description="Signal-to-noise ratio of the HR-MSI in power dB per band.")
    seed: Seeds = Field((0,), description="Seeds of the methods.", json_schema_extra=REPEATABLE)
    noise_seed: int = Field(42, ge=0, description="Seed of the noise: it is the same for every method.")
    overwrite: bool = Field(False, description="Replace the CSV if it exists.")
    resume: bool = Field(False, description="Continue the CSV: cases that are in it are skipped.")

    @model_validator(mode="after")
    def _one_beginning(self) -> BenchmarkSettings:
        if self.overwrite and self.resume:
            raise ValueError("--overwrite and --resume exclude each other: a CSV is begun anew or continued")
        if self.msi_bands is not None and not self.sensor:
            raise ValueError("--msi-bands names bands of a --sensor; none is given")
        return self
