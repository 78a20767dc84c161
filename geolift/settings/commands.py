"""What each command can be told: the sum of its groups, and what belongs to it alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from geolift.settings.base import Group, Settings, shown
from geolift.settings.groups import (
    AbundanceSettings,
    BadBandSettings,
    BandSettings,
    ComparisonSettings,
    DeviceSettings,
    EngineSettings,
    HsiReadingSettings,
    MaskSettings,
    MethodSettings,
    MsiBandSettings,
    MsiReadingSettings,
    ReferenceSettings,
    RefineSettings,
    RegionSettings,
    ScreenSettings,
    SeedSettings,
    SensorSettings,
    StreamingSettings,
    TilingSettings,
    WritingSettings,
)
from geolift.settings.values import REPEATABLE, BandCounts, Decibels, Names, NoiseLevel, Psf, Psfs, Ratios, Seeds


class FuseSettings(
    AbundanceSettings,
    SensorSettings,
    HsiReadingSettings,
    MsiReadingSettings,
    ComparisonSettings,
    MaskSettings,
    ScreenSettings,
    MethodSettings,
    RefineSettings,
    RegionSettings,
    BandSettings,
    WritingSettings,
    EngineSettings,
    StreamingSettings,
):
    """Everything `geolift fuse` can be told."""

    group: ClassVar[Group] = "output"
    save_model: Path | None = Field(
        None,
        description="Also save the trained model here (safetensors).",
        json_schema_extra=shown(side_product="model"),
    )
    qa: Path | None = Field(
        None,
        description="Also write a quality raster: bits nodata 1, masked 2, out of range 4, low confidence 8, "
        "outside the HSI 16, differs 32, not refined 64.",
        json_schema_extra=shown(group="trust", side_product="raster"),
    )
    uncertainty: Path | None = Field(
        None,
        description="Also write the standard error of every band and pixel, calibrated on held-out LR pixels.",
        json_schema_extra=shown(group="trust", side_product="raster"),
    )
    report: Path | None = Field(
        None,
        description="Also write a report of the run here: one HTML file for people.",
        json_schema_extra=shown(group="trust", main=3, effect="run", side_product="page"),
    )

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
    SensorSettings,
    HsiReadingSettings,
    MsiReadingSettings,
    ComparisonSettings,
    MaskSettings,
    ScreenSettings,
    BandSettings,
):
    """Everything `geolift check` and `geolift coregister` can be told."""

    group: ClassVar[Group] = "output"
    overwrite: bool = Field(
        False, description="Replace the output if it exists.", json_schema_extra=shown(main=4, effect="run")
    )


class TrainSettings(SensorSettings, HsiReadingSettings, ScreenSettings, MethodSettings, BandSettings, DeviceSettings):
    """Everything `geolift train` can be told."""

    group: ClassVar[Group] = "output"
    overwrite: bool = Field(
        False, description="Replace the model file if it exists.", json_schema_extra=shown(main=4, effect="run")
    )


class ApplySettings(
    AbundanceSettings,
    ReferenceSettings,
    MsiBandSettings,
    MsiReadingSettings,
    BadBandSettings,
    RegionSettings,
    WritingSettings,
    EngineSettings,
    StreamingSettings,
):
    """Everything `geolift apply` can be told."""


class MosaicSettings(WritingSettings, TilingSettings):
    """Everything `geolift mosaic` can be told."""

    group: ClassVar[Group] = "method"
    blend: Literal["feather", "quality", "first"] = Field(
        "feather",
        description="Where products overlap: feather: their mean, weighted by the distance from each one's edge; "
        "quality: the same, but a pixel with a mark in its quality raster counts only where no other has none; "
        "first: the one named first.",
        json_schema_extra=shown(main=2),
    )
    feather: int = Field(64, ge=1, description="Width of the blend in pixels, from a product's edge inwards.")


class SimulateSettings(SensorSettings, SeedSettings, HsiReadingSettings, WritingSettings):
    """Everything `geolift simulate` can be told."""

    group: ClassVar[Group] = "method"
    ratio: int = Field(3, ge=2, le=256, description="HR pixels per LR pixel along one edge.")
    psf: Psf = Field(
        "gaussian",
        description=f"Point spread function of the LR sensor: {', '.join(get_args(Psf))}.",
        json_schema_extra=shown("NAME"),
    )
    psf_sigma: float | None = Field(
        None, gt=0, description="Width of the PSF in HR pixels. Default: a Gaussian with a FWHM of `ratio` pixels."
    )
    psf_radius: int | None = Field(None, ge=1, le=512, description="Radius of the PSF kernel in HR pixels.")
    snr: NoiseLevel | None = Field(None, description="Signal-to-noise ratio in power dB per band; default no noise.")


class EvaluateSettings(Settings):
    """Everything `geolift evaluate` can be told."""

    group: ClassVar[Group] = "method"
    ratio: float | None = Field(None, gt=0, description="GSD ratio for ERGAS; default from the product's sidecar.")
    data_range: float | None = Field(None, gt=0, description="Peak of PSNR and SSIM; default the reference's maximum.")
    resample: Literal["nearest", "bilinear", "cubic"] | None = Field(
        None, description="Bring a product on another grid to the reference's grid first."
    )
    convention: Literal["geolift", "hyperbench"] = Field(
        "geolift", description="hyperbench: both stretched to the reference's 1–99 percentiles, 8-bit PSNR and SSIM."
    )


class BenchmarkSettings(HsiReadingSettings):
    """Everything `geolift benchmark` can be told."""

    group: ClassVar[Group] = "method"
    method: Annotated[Names, Field(min_length=1)] = Field(
        ("bicubic", "linear", "auto"),
        description="Methods: those of `geolift fuse`, with +refine behind a name for its refinement; bicubic, the "
        "LR-HSI alone; and for comparison gsa, cnmf and fuse, methods of others. Every axis takes several values, "
        "parted by commas or given repeatedly.",
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
        None,
        description="Bands of --sensor that make up the MSI: B02,B03,B04,B08. Default its usual ones.",
        json_schema_extra=shown("NAME,…"),
    )
    snr: Decibels = Field(
        (),
        description="Signal-to-noise ratios of the LR-HSI in power dB per band; inf for no noise. "
        "Default 35 at ratio 4, 5 less for each doubling.",
        json_schema_extra=REPEATABLE,
    )
    msi_snr: NoiseLevel = Field(40.0, description="Signal-to-noise ratio of the HR-MSI in power dB per band.")
    seed: Seeds = Field((0,), description="Seeds of the methods.", json_schema_extra=REPEATABLE)
    noise_seed: int = Field(42, ge=0, description="Seed of the noise: it is the same for every method.")
    overwrite: bool = Field(
        False, description="Replace the CSV if it exists.", json_schema_extra=shown(main=4, effect="run")
    )
    resume: bool = Field(False, description="Continue the CSV: cases that are in it are skipped.")

    @model_validator(mode="after")
    def _one_beginning(self) -> BenchmarkSettings:
        if self.overwrite and self.resume:
            raise ValueError("--overwrite and --resume exclude each other: a CSV is begun anew or continued")
        if self.msi_bands is not None and not self.sensor:
            raise ValueError("--msi-bands names bands of a --sensor; none is given")
        return self
