"""The options of the public functions as types, for editors and type checkers.

Written by tools/build_option_types.py from the settings models; not to be changed by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict


class FuseOptions(TypedDict, total=False):
    """What `geolift.settings.FuseSettings` takes."""

    sensor: str | None
    msi_bands: str | Sequence[str] | None
    report: str | Path | None
    overwrite: bool
    abundances: str | Path | None
    srf: str | Path | None
    hsi_nodata: float | None
    hsi_scale: float | None
    hsi_offset: float | None
    hsi_crs: str | None
    wavelengths: str | Path | None
    msi_nodata: float | None
    msi_scale: float | None
    msi_offset: float | None
    msi_crs: str | None
    coregister: Literal["auto", "local", "off", "report"] | tuple[float, float]
    harmonize: Literal["auto", "off", "gain", "affine"]
    strict: bool
    mask: str
    mask_dilate: int
    screen: Literal["auto", "report", "off"]
    method: Literal["auto", "linear", "spectralift", "spectramorph"]
    max_train_pixels: int
    endmembers: int
    non_negative: bool
    sum_to_one: bool
    seed: int
    refine: Literal["auto", "on", "off"]
    extent: Literal["overlap", "msi"]
    bounds: tuple[float, float, float, float] | None
    bands: str | Sequence[int] | None
    drop_bad_bands: bool
    of: Literal["GTiff", "COG", "ENVI", "Zarr"]
    co: str | Sequence[str]
    dtype: Literal["int16", "uint16", "float32"]
    nodata: float | None
    overviews: Literal["auto", "none"]
    precision: Literal["fp32", "bf16"]
    device: Literal["auto", "cpu", "cuda"]
    scheduler: str | None
    resume: bool
    tile_size: int
    threads: int | None
    memory: int | str | None
    save_model: str | Path | None
    qa: str | Path | None
    uncertainty: str | Path | None


class TrainOptions(TypedDict, total=False):
    """What `geolift.settings.TrainSettings` takes."""

    sensor: str | None
    msi_bands: str | Sequence[str] | None
    overwrite: bool
    srf: str | Path | None
    hsi_nodata: float | None
    hsi_scale: float | None
    hsi_offset: float | None
    hsi_crs: str | None
    wavelengths: str | Path | None
    screen: Literal["auto", "report", "off"]
    method: Literal["auto", "linear", "spectralift", "spectramorph"]
    max_train_pixels: int
    endmembers: int
    non_negative: bool
    sum_to_one: bool
    seed: int
    bands: str | Sequence[int] | None
    drop_bad_bands: bool
    device: Literal["auto", "cpu", "cuda"]


class ApplyOptions(TypedDict, total=False):
    """What `geolift.settings.ApplySettings` takes."""

    msi_bands: str | Sequence[str] | None
    overwrite: bool
    abundances: str | Path | None
    reference: str | Path | None
    msi_nodata: float | None
    msi_scale: float | None
    msi_offset: float | None
    msi_crs: str | None
    drop_bad_bands: bool
    extent: Literal["overlap", "msi"]
    bounds: tuple[float, float, float, float] | None
    of: Literal["GTiff", "COG", "ENVI", "Zarr"]
    co: str | Sequence[str]
    dtype: Literal["int16", "uint16", "float32"]
    nodata: float | None
    overviews: Literal["auto", "none"]
    precision: Literal["fp32", "bf16"]
    device: Literal["auto", "cpu", "cuda"]
    scheduler: str | None
    resume: bool
    tile_size: int
    threads: int | None
    memory: int | str | None


class PairOptions(TypedDict, total=False):
    """What `geolift.settings.PairSettings` takes."""

    sensor: str | None
    msi_bands: str | Sequence[str] | None
    overwrite: bool
    srf: str | Path | None
    hsi_nodata: float | None
    hsi_scale: float | None
    hsi_offset: float | None
    hsi_crs: str | None
    wavelengths: str | Path | None
    msi_nodata: float | None
    msi_scale: float | None
    msi_offset: float | None
    msi_crs: str | None
    coregister: Literal["auto", "local", "off", "report"] | tuple[float, float]
    harmonize: Literal["auto", "off", "gain", "affine"]
    strict: bool
    mask: str
    mask_dilate: int
    screen: Literal["auto", "report", "off"]
    bands: str | Sequence[int] | None
    drop_bad_bands: bool


class EvaluateOptions(TypedDict, total=False):
    """What `geolift.settings.EvaluateSettings` takes."""

    ratio: float | None
    data_range: float | None
    resample: Literal["nearest", "bilinear", "cubic"] | None
    convention: Literal["geolift", "hyperbench"]
