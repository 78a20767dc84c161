"""Every option of geolift: its name, default, rule and help text, in one place.

A command's settings are the sum of the groups it needs; a step receives the same object typed as its own group.
Command line, environment, TOML and the sidecar are all read and written through these models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

NAN_WORDS = {"nan", "none"}


def _split_names(value: object) -> object:
    """Accept ``"B2,B3"`` as well as a list."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _split_numbers(value: object) -> object:
    """Accept ``"1,2,3"`` and ``"1 2 3"`` as well as a list."""
    if isinstance(value, str):
        return tuple(value.replace(",", " ").split())
    return value


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


class MethodSettings(SeedSettings):
    """How the spectral inversion is learned."""

    method: Literal["auto", "linear", "spectralift"] = Field(
        "auto",
        description="auto: closed-form inversion learned from sharpened pixels; linear: least squares; "
        "spectralift: the published network (arXiv 2507.13339).",
    )
    max_train_pixels: int = Field(
        50_000, ge=16, description="LR pixels used for training at most, spread over the scene by a seeded hash."
    )


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
        "2048 pixels; none.",
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


class FuseSettings(
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


class PairSettings(
    SensorSettings, HsiReadingSettings, MsiReadingSettings, ComparisonSettings, MaskSettings, BandSettings
):
    """Everything `geolift check` and `geolift coregister` can be told."""

    overwrite: bool = Field(False, description="Replace the output if it exists.")


class TrainSettings(SensorSettings, HsiReadingSettings, MethodSettings, BandSettings):
    """Everything `geolift train` can be told."""

    overwrite: bool = Field(False, description="Replace the model file if it exists.")


class ApplySettings(
    MsiBandSettings, MsiReadingSettings, BadBandSettings, RegionSettings, WritingSettings, StreamingSettings
):
    """Everything `geolift apply` can be told."""


class SimulateSettings(SensorSettings, SeedSettings, HsiReadingSettings, WritingSettings):
    """Everything `geolift simulate` can be told."""

    ratio: int = Field(3, ge=2, le=256, description="HR pixels per LR pixel along one edge.")
    psf: Literal[
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
    ] = Field("gaussian", description="Point spread function of the LR sensor.")
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
