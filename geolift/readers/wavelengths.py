"""Centre wavelengths and widths in nanometres: units by declaration, then by magnitude; nonsense is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geolift.datamodel.cube import UnitsNote
from geolift.errors import InputError
from geolift.readers import gate
from geolift.readers.wavelength_text import nanometres_in

WIDEST_SHARE, NARROWEST_SHARE = 1.0, 2e-5
"""FWHM in parts of the wavelength: beyond these they were given in another unit."""

MICROMETRES_BELOW = 100.0
PLAUSIBLE_NM = (200.0, 20_000.0)
COINCIDING_NM = 1e-3
MOST_TWINS = 0.05
"""Share of the bands that may coincide, one in any case: detectors overlap, and VENµS has a stereo pair."""
NO_UNIT = {"", "unknown", "none", "index", "-", "1", "unitless", "dimensionless"}
"""What programs write where they know no unit; magnitude decides then."""
METRE_NM = 1e9
WAY_OUT = 'Pass --wavelengths bands.csv or set the band tag "wavelength".'


@dataclass(frozen=True)
class Found:
    """Numbers as found, with the declared unit; None = the field is absent."""

    wavelength: Sequence[float | None]
    fwhm: Sequence[float | None] | None = None
    good: Sequence[bool] | None = None
    unit: str | None = None


def in_nanometres(
    wavelength: Sequence[float] | np.ndarray,
    fwhm: Sequence[float] | np.ndarray | None,
    path: str,
    origin: str,
    notes: list[str],
    unit: str | None = "nm",
) -> tuple[np.ndarray, np.ndarray]:
    """Bring a product's centres and FWHM to nm; a declared unit that cannot be right is told and set right.

    Raises InputError if the numbers cannot be wavelengths.
    """
    widths = None if fwhm is None else [float(v) for v in fwhm]
    found = Found([float(v) for v in wavelength], widths, None, unit)
    return settled(found, path, origin, len(found.wavelength), notes)


def settled(found: Found, path: str, origin: str, count: int, notes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Bring what was found to centres and FWHM in nm; all bands must have one.

    Raises InputError if some have none, or the numbers cannot be wavelengths.
    """
    values = np.array([np.nan if v is None else v for v in found.wavelength], dtype=np.float64)
    widths = count if found.fwhm is None else len(found.fwhm)
    if len(values) != count or widths != count:
        raise InputError(f"{path}: {len(values)} centres and {widths} widths for {count} bands ({origin}). {WAY_OUT}")
    present = np.isfinite(values)
    if not present.all():
        raise InputError(
            f"{path}: {present.sum()} of {count} bands carry a centre wavelength ({origin}); all are needed. {WAY_OUT}"
        )
    fwhm = np.full(count, np.nan)
    if found.fwhm is not None:
        fwhm = np.array([np.nan if v is None or v <= 0 else v for v in found.fwhm], dtype=np.float64)
    factor = _unit_factor(found.unit, values, path, origin, notes)
    values, fwhm = values * factor, fwhm * factor
    low, high = PLAUSIBLE_NM
    if values.min() < low or values.max() > high:
        raise InputError(
            f"{path}: wavelengths from {values.min():g} to {values.max():g} nm ({origin}) cannot be right; "
            f"expected {low:g} to {high:g} nm. {WAY_OUT}"
        )
    _require_distinct(values, path, origin)
    return values, _settled_widths(values, fwhm, path, origin, notes)


def _require_distinct(values: np.ndarray, path: str, origin: str) -> None:
    """Refuse bands at one and the same wavelength: what was read is something else, such as their widths."""
    order = np.argsort(values, kind="stable")
    twins = np.flatnonzero(np.diff(values[order]) < COINCIDING_NM)
    if twins.size == 0 or (len(values) > 2 and twins.size <= max(1, MOST_TWINS * len(values))):
        return
    first, second = sorted(int(order[twins[0] + i]) + 1 for i in (0, 1))
    raise InputError(
        f"{path}: bands {first} and {second} are both at {values[first - 1]:g} nm ({origin}; {twins.size + 1} such "
        f"bands); centre wavelengths differ from band to band. {WAY_OUT}"
    )


def _settled_widths(values: np.ndarray, fwhm: np.ndarray, path: str, origin: str, notes: list[str]) -> np.ndarray:
    """Set FWHM right that are not in the unit of the centres: no band is wider than its wavelength."""
    known = np.isfinite(fwhm)
    share = float(np.median(fwhm[known] / values[known])) if known.any() else WIDEST_SHARE
    if NARROWEST_SHARE < share <= WIDEST_SHARE:
        return fwhm
    factor = 1e-3 if share > WIDEST_SHARE else 1e3
    notes.append(
        UnitsNote(
            f"{path}: FWHM around {np.median(fwhm[known]):g} nm ({origin}) cannot be right for bands around "
            f"{np.median(values):g} nm; read as {np.median(fwhm[known]) * factor:g} nm."
        )
    )
    return fwhm * factor


def _unit_factor(unit: str | None, values: np.ndarray, path: str, origin: str, notes: list[str]) -> float:
    """Return the factor to nm; a missing or contradicted unit is settled by magnitude and said."""
    by_magnitude = 1000.0 if np.median(values) < MICROMETRES_BELOW else 1.0
    name = "micrometres" if by_magnitude == 1000 else "nanometres"
    declared = nanometres_in(unit)
    if declared is None and (unit or "").strip().lower() not in NO_UNIT:
        raise InputError(
            f"{path}: wavelengths in {gate.shown(unit)} ({origin}); nanometres and micrometres are read. "
            "Bring them there (10 Å = 1 nm, 1e7 / cm⁻¹ = nm) and pass --wavelengths bands.csv."
        )
    if declared is not None:
        if declared in (by_magnitude, METRE_NM):
            return declared
        told = (
            f"{path}: wavelengths are declared in {unit} ({origin}), but {values.min():g} to {values.max():g} can "
            f"only be {name}; read as such."
        )
        notes.append(UnitsNote(told))
        return by_magnitude
    told = f"{path}: wavelengths without a unit ({origin}); {values.min():g} to {values.max():g} are read as {name}."
    # Nanometres are what people mean who name no unit.
    notes.append(told if by_magnitude == 1 else UnitsNote(told))
    return by_magnitude
