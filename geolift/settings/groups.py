"""The options of geolift by what they decide; a step receives a command's settings typed as its own group."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from geolift.settings.base import Effect, Group, Settings, shown
from geolift.settings.values import BandNumbers, Bounds, Names, Nodata, all_cpus, coregistration, size_in_bytes


class Reading(Settings):
    """How one raster is understood where its own metadata is silent or wrong (value = DN × scale + offset)."""

    nodata: Nodata | None = None
    scale: float | None = None
    offset: float | None = None
    crs: str | None = None
    wavelengths: Path | None = None


class HsiReadingSettings(Settings):
    """How the hyperspectral file is understood where its own metadata is silent or wrong."""

    hsi_nodata: Nodata | None = Field(None, description="DN that marks invalid HSI pixels; overrides the file.")
    hsi_scale: float | None = Field(None, gt=0, description="HSI value = DN × scale + offset; overrides tags.")
    hsi_offset: float | None = Field(None, description="HSI value = DN × scale + offset; overrides tags.")
    hsi_crs: str | None = Field(
        None, description="CRS of an HSI without one (EPSG:32633, WKT, PROJ).", json_schema_extra=shown("CRS")
    )
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

    msi_nodata: Nodata | None = Field(None, description="DN that marks invalid MSI pixels; overrides the file.")
    msi_scale: float | None = Field(None, gt=0, description="MSI value = DN × scale + offset; overrides tags.")
    msi_offset: float | None = Field(None, description="MSI value = DN × scale + offset; overrides tags.")
    msi_crs: str | None = Field(None, description="CRS of an MSI without one.", json_schema_extra=shown("CRS"))

    @property
    def msi_reading(self) -> Reading:
        """The same, as the reader wants it."""
        return Reading(nodata=self.msi_nodata, scale=self.msi_scale, offset=self.msi_offset, crs=self.msi_crs)


class MsiBandSettings(Settings):
    """Which bands a multispectral file holds."""

    group: ClassVar[Group] = "sensor and bands"
    msi_bands: Names | None = Field(
        None,
        description="Which sensor bands the file's bands are, in file order: B02,B03,B04,B08.",
        json_schema_extra=shown("NAME,…", main=2),
    )


class SensorSettings(MsiBandSettings):
    """Which spectral response function stands for the multispectral bands."""

    group: ClassVar[Group] = "sensor and bands"
    sensor: str | None = Field(
        None, description="Multispectral sensor; `geolift sensors` lists them.", json_schema_extra=shown("NAME", main=1)
    )
    srf: Path | None = Field(None, description="CSV of an own spectral response: wavelength_nm,Band1,Band2,…")


class SeedSettings(Settings):
    """What makes a run repeatable."""

    group: ClassVar[Group] = "method"
    seed: int = Field(0, ge=0, description="Seed of everything random; the same seed gives the same pixels.")


class UnmixingSettings(Settings):
    """How `spectramorph` takes the scene apart into endmembers and their abundances."""

    group: ClassVar[Group] = "method"
    endmembers: int = Field(7, ge=2, le=64, description="Number of endmembers of --method spectramorph.")
    non_negative: bool = Field(False, description="Keep the abundances of --method spectramorph from being negative.")
    sum_to_one: bool = Field(
        False, description="Make the abundances of a pixel sum to one in --method spectramorph; no shade is left."
    )


class MethodSettings(UnmixingSettings, SeedSettings):
    """How the spectral inversion is learned."""

    group: ClassVar[Group] = "method"
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

    group: ClassVar[Group] = "method"
    refine: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Correct the product so that it agrees with the HSI: auto where held-out HSI pixels speak for it; "
        "on; off: every pixel depends on its MSI values alone.",
    )


class ScreenSettings(Settings):
    """Whether the HSI is looked at for faults before anything is learned of it."""

    group: ClassVar[Group] = "trust"
    screen: Literal["auto", "report", "off"] = Field(
        "auto",
        description="Faults of the HSI (bad values, dead or striped columns, noisy bands, a resampled image): auto: "
        "set right what is safe, leave out what is not; report: only tell; off.",
    )


class ComparisonSettings(Settings):
    """How HSI and MSI are brought to one place and one radiometry, and how strictly they are judged."""

    group: ClassVar[Group] = "trust"
    coregister: Annotated[
        Literal["auto", "local", "off", "report"] | tuple[float, float], BeforeValidator(coregistration)
    ] = Field(
        "auto",
        description="auto: correct the residual shift if the evidence is good; local: also follow how it varies over "
        "the scene; report: only tell it; off; or DY,DX in MSI pixels, the motion that brings the HSI onto the MSI.",
        json_schema_extra=shown("auto|local|report|off|DY,DX"),
    )
    harmonize: Literal["auto", "off", "gain", "affine"] = Field(
        "auto", description="Radiometric relation applied to the MSI: auto decides on held-out blocks."
    )
    strict: bool = Field(
        False,
        description="Exit with code 5 if co-registration or the cross-sensor check is not trustworthy.",
        json_schema_extra=shown(effect="beside"),
    )


class MaskSettings(Settings):
    """Which pixels of the MSI are not to be used."""

    mask: str = Field(
        "auto",
        description="auto: the product's own quality layers; none; or a raster file whose non-zero pixels are masked.",
        json_schema_extra=shown("auto|none|FILE"),
    )
    mask_dilate: int = Field(0, ge=0, description="Grow masked areas by so many MSI pixels.")


class RegionSettings(Settings):
    """Which part of the grid and of the spectrum is produced."""

    group: ClassVar[Group] = "output"
    extent: Literal["overlap", "msi"] = Field(
        "overlap", description="overlap: the MSI pixels covering the HSI's bounding box; msi: the whole MSI grid."
    )
    bounds: Bounds | None = Field(
        None,
        description="left,bottom,right,top in the MSI's CRS; the window of whole MSI pixels touching it.",
        json_schema_extra=shown("LEFT,BOTTOM,RIGHT,TOP"),
    )


class BadBandSettings(Settings):
    """What becomes of bad bands."""

    group: ClassVar[Group] = "sensor and bands"
    drop_bad_bands: bool = Field(False, description="Leave bad bands out instead of filling them with nodata.")


class BandSettings(BadBandSettings):
    """Which HSI bands are kept."""

    group: ClassVar[Group] = "sensor and bands"
    bands: BandNumbers | None = Field(
        None, description="HSI bands to keep, 1-based: 1-60,70,80-.", json_schema_extra=shown("NUMBERS")
    )


class WritingSettings(Settings):
    """How rasters are written."""

    group: ClassVar[Group] = "output"
    overwrite: bool = Field(
        False, description="Replace the output if it exists.", json_schema_extra=shown(main=4, effect="run")
    )
    of: Literal["GTiff", "COG", "ENVI", "Zarr"] = Field("GTiff", description="Output format.")
    co: tuple[str, ...] = Field(
        (),
        description="Creation option NAME=VALUE of the GDAL driver; repeatable.",
        json_schema_extra=shown("NAME=VALUE"),
    )
    dtype: Literal["int16", "uint16", "float32"] = Field(
        "int16", description="int16 and uint16 carry reflectance × 10 000; float32 the value itself."
    )
    nodata: Nodata | None = Field(
        None,
        description="Value of invalid pixels. Default -32768 (int16), 65535 (uint16), nan (float32).",
        json_schema_extra=shown("NUMBER|nan"),
    )

    overviews: Literal["auto", "none"] = Field(
        "auto",
        description="Smaller copies for viewers: auto: in a COG, and in FILE.ovr for GTiff and ENVI with an edge over "
        "4096 pixels; none.",
        json_schema_extra=shown(effect="beside"),
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

    group: ClassVar[Group] = "machine"
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="What trains and runs the network; auto: a CUDA GPU if torch sees one, else the CPU."
    )


class EngineSettings(DeviceSettings):
    """What computes, and in which numbers."""

    group: ClassVar[Group] = "machine"
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="Numbers of the network's inner products; bf16 rounds the product by some thousandths; the network "
        "then takes two thirds of the time on CPUs with AMX.",
    )


class TilingSettings(Settings):
    """How the work is cut on this machine; never changes the product."""

    group: ClassVar[Group] = "machine"
    effect: ClassVar[Effect] = "run"
    tile_size: int = Field(
        256, ge=16, description="Edge of the processing tile in MSI pixels, rounded up to whole file blocks."
    )
    threads: Annotated[Annotated[int, Field(ge=1)] | None, BeforeValidator(all_cpus)] = Field(
        None, description="Worker threads (N or ALL_CPUS). Default: all allowed.", json_schema_extra=shown("N|ALL_CPUS")
    )
    memory: Annotated[int, BeforeValidator(size_in_bytes), Field(ge=1)] | None = Field(
        None,
        description="Memory the run may take, such as 2GB (10^9 bytes each). Default: half of what is allowed here.",
        json_schema_extra=shown("SIZE"),
    )


class StreamingSettings(TilingSettings):
    """How the work is cut and spread; never changes the product."""

    group: ClassVar[Group] = "machine"
    scheduler: str | None = Field(
        None,
        description="Dask cluster that computes the tiles: tcp://HOST:PORT or a scheduler FILE.json.",
        json_schema_extra=shown("ADDRESS|FILE"),
    )
    resume: bool = Field(
        False, description="Go on with what an interrupted run left, and leave it if this one is interrupted."
    )


class ReferenceSettings(Settings):
    """What radiometry a model expects."""

    group: ClassVar[Group] = "method"
    reference: Path | None = Field(
        None,
        description="The MSI that the model was learned with, or another of its radiometry, of overlapping ground: the "
        "new MSI is brought to it by a robust relation on pixels that did not change.",
    )


class AbundanceSettings(Settings):
    """What is written of an unmixing beside the product."""

    group: ClassVar[Group] = "output"
    abundances: Path | None = Field(
        None,
        description="Also write the abundances, one band for each endmember (with --method spectramorph), and the "
        "endmembers' spectra beside them as CSV.",
        json_schema_extra=shown(side_product="raster"),
    )
