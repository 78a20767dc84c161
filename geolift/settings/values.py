"""From what people type to values: lists, ranges of bands, sizes, shifts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import isfinite, isinf
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, AllowInfNan, BeforeValidator, Field, JsonValue


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


MOST_BANDS = 100_000
"""More than any spectrometer has: a number beyond is a slip."""


def band_numbers(value: object) -> object:
    """Accept ``"1-60,70,80-"`` as well as a list of 1-based band numbers; a range without an end is kept as -80."""
    if not isinstance(value, str):
        return value
    numbers: list[int] = []
    for part in value.replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        if not first.isascii() or not first.isdecimal() or (last and not last.isdecimal()):
            raise ValueError(f"{part!r} is no band number and no range; 1-60,70,80- is expected")
        low, high = int(first), int(last or first)
        if not 1 <= low <= high <= MOST_BANDS:
            raise ValueError(f"{part!r}: bands count from 1, and a range from the lower number to the higher")
        numbers.extend([-low] if dash and not last else range(low, high + 1))
    return tuple(numbers)


def _usable_band_numbers(bands: tuple[int, ...]) -> tuple[int, ...]:
    if 0 in bands or max(map(abs, bands), default=0) > MOST_BANDS:
        raise ValueError(f"bands count from 1 and are at most {MOST_BANDS}")
    return bands


def band_positions(bands: Sequence[int], count: int) -> list[int]:
    """Return the 0-based bands that are meant in a file of so many; a number beyond them stays in.

    >>> band_positions((1, 2, -4), 6)
    [0, 1, 3, 4, 5]
    """
    found = [range(-band - 1, max(count, -band)) if band < 0 else range(band - 1, band) for band in bands]
    return [position for positions in found for position in positions]


def band_text(bands: Sequence[int]) -> str:
    """Write band numbers as they are typed.

    >>> band_text((1, 2, 3, 7, -9))
    '1-3,7,9-'
    """
    runs: list[list[int]] = []
    for band in bands:
        if runs and band > 0 and runs[-1][-1] == band - 1:
            runs[-1].append(band)
        else:
            runs.append([band])
    return ",".join(_run_text(run) for run in runs)


def _run_text(run: Sequence[int]) -> str:
    if run[0] < 0:
        return f"{-run[0]}-"
    return f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0])


UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
SIZE = re.compile(r"\s*([0-9]*\.?[0-9]+|[0-9]+\.?)\s*([KMGT]I?)?B?\s*", re.IGNORECASE)


def size_in_bytes(value: object) -> object:
    """Accept ``"2GB"``, ``"2g"`` (1 GB = 10⁹ bytes), ``"512MiB"`` or a number of bytes."""
    if not isinstance(value, str):
        return value
    found = SIZE.fullmatch(value)
    if found is None:
        raise ValueError("a size such as 2GB or 800MB is expected")
    return int(float(found[1]) * UNITS[(found[2] or "").upper()])


def not_infinite(value: float) -> float:
    """Let numbers and NaN through: NaN marks pixels, infinity marks nothing."""
    if isinf(value):
        raise ValueError("a finite number or nan is expected")
    return value


def all_cpus(value: object) -> object:
    """Accept ``ALL_CPUS``, which is no limit."""
    return None if isinstance(value, str) and value.strip().upper() == "ALL_CPUS" else value


Names = Annotated[tuple[str, ...], BeforeValidator(split_names)]
BandNumbers = Annotated[tuple[int, ...], BeforeValidator(band_numbers), AfterValidator(_usable_band_numbers)]
Nodata = Annotated[float, AllowInfNan(True), AfterValidator(not_infinite)]
NoiseLevel = Annotated[float, AllowInfNan(True)]
"""In decibels: infinite where there is no noise."""
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
    "gaussian", "kolmogorov", "airy", "moffat", "sinc", "lorentzian2", "hermite", "parabolic", "gabor", "delta"
]


def psf_names(value: object) -> object:
    """Accept ``"gaussian,moffat"``, a list, and ``"all"``."""
    names = split_names(value)
    return get_args(Psf) if names == ("all",) else names


# Axes of a sweep: options that take several values, parted by commas or given repeatedly.
REPEATABLE: dict[str, JsonValue] = {"repeatable": True, "metavar": "VALUE,…"}
Psfs = Annotated[tuple[Psf, ...], BeforeValidator(psf_names), Field(min_length=1)]
Ratio = Annotated[int, Field(ge=2, le=256)]
Ratios = Annotated[tuple[Ratio, ...], BeforeValidator(split_numbers), Field(min_length=1)]
BandCounts = Annotated[tuple[Literal["3", "4", "8", "16"], ...], BeforeValidator(split_numbers)]
Decibels = Annotated[tuple[NoiseLevel, ...], BeforeValidator(split_numbers)]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(split_numbers), Field(min_length=1)]
