"""From what people type to values: lists, ranges of bands, sizes, shifts."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field

NAN_WORDS = {"nan", "none"}


def split_names(value: object) -> object:
    """Accept ``"B2,B3"`` as well as a list, whose members may be such texts."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return _flat(value, split_names)


def split_numbers(value: object) -> object:
    """Accept ``"1,2,3"`` and ``"1 2 3"`` as well as a list, whose members may be such texts."""
    if isinstance(value, str):
        return tuple(value.replace(",", " ").split())
    return _flat(value, split_numbers)


def _flat(value: object, split: Callable[[object], object]) -> object:
    """Split the texts of a list, as a repeated option gives them."""
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        return value
    return tuple(part for text in value for part in split(text))  # type: ignore[attr-defined]


def band_numbers(value: object) -> object:
    """Accept ``"1-60,70,80-90"`` as well as a list of 1-based band numbers."""
    if not isinstance(value, str):
        return value
    numbers: list[int] = []
    for part in value.replace(" ", "").split(","):
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return tuple(numbers)


UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def size_in_bytes(value: object) -> object:
    """Accept ``"2GB"`` (1 GB = 10⁹ bytes), ``"512MiB"`` or a number of bytes."""
    if not isinstance(value, str):
        return value
    number = value.strip().rstrip("BbKkMmGgTtIi ")
    unit = value.strip()[len(number) :].strip().upper()
    try:
        return int(float(number) * UNITS[unit])
    except (ValueError, KeyError) as error:
        raise ValueError("a size such as 2GB or 800MB is expected") from error


def all_cpus(value: object) -> object:
    """Accept ``ALL_CPUS``, which is no limit."""
    return None if isinstance(value, str) and value.strip().upper() == "ALL_CPUS" else value


Names = Annotated[tuple[str, ...], BeforeValidator(split_names)]
BandNumbers = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(band_numbers)]
Bounds = Annotated[tuple[float, float, float, float], BeforeValidator(split_numbers)]


def coregistration(value: object) -> object:
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


def psf_names(value: object) -> object:
    """Accept ``"gaussian,moffat"``, a list, and ``"all"``."""
    names = split_names(value)
    return get_args(Psf) if names == ("all",) else names


# Axes of a sweep: options that take several values, parted by commas or given repeatedly.
REPEATABLE: dict[str, Any] = {"repeatable": True, "metavar": "VALUE,…"}
Psfs = Annotated[tuple[Psf, ...], BeforeValidator(psf_names), Field(min_length=1)]
Ratio = Annotated[int, Field(ge=2, le=256)]
Ratios = Annotated[tuple[Ratio, ...], BeforeValidator(split_numbers), Field(min_length=1)]
BandCounts = Annotated[tuple[Literal["3", "4", "8", "16"], ...], BeforeValidator(split_numbers)]
Decibels = Annotated[tuple[float, ...], BeforeValidator(split_numbers)]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(split_numbers), Field(min_length=1)]
