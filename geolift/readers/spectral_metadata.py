"""Where a raster keeps its wavelengths: searched in one fixed order, units by declaration, then by magnitude."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geolift.datamodel.cube import UnitsNote
from geolift.errors import InputError

DESCRIPTION = re.compile(
    r"(?P<value>\d+(?:\.\d+)?)\s*(?P<unit>nanometers?|nm|micrometers?|microns?|[uµμ]m)\b", re.IGNORECASE
)
WIDEST_SHARE, NARROWEST_SHARE = 1.0, 2e-5
"""FWHM in parts of the wavelength: beyond these they were given in another unit."""

MICROMETRES_BELOW = 100.0
PLAUSIBLE_NM = (150.0, 20_000.0)
NANOMETRE_NAMES = {"nanometers", "nanometer", "nanometres", "nanometre", "nm"}
MICROMETRE_NAMES = {"micrometers", "micrometer", "micrometres", "micrometre", "microns", "micron", "um", "µm", "μm"}


@dataclass(frozen=True)
class SpectralMetadata:
    """What a file says of its bands: names, centres and FWHM in nm (NaN = unknown), good flags, and where it stood."""

    names: tuple[str, ...]
    wavelength_nm: np.ndarray
    fwhm_nm: np.ndarray
    good: np.ndarray
    origin: str | None


@dataclass(frozen=True)
class _Found:
    """Numbers as found, with the declared unit; None = the field is absent."""

    wavelength: list[float | None]
    fwhm: list[float | None] | None = None
    good: list[bool] | None = None
    unit: str | None = None


def read(source: Any, path: str, table: Path | None, notes: list[str]) -> SpectralMetadata:
    """Search a rasterio dataset for its spectral metadata.

    Order: the user's table, ENVI lists (exact), band tags, the IMAGERY domain, band descriptions.

    Raises
    ------
    InputError
        If only some bands carry a wavelength, or the numbers cannot be wavelengths.
    """
    places: list[tuple[str, Callable[[], _Found | None]]] = [
        (f"--wavelengths {table}", lambda: _from_table(table, source.count, path) if table else None),
        ("ENVI header", lambda: _from_envi(source)),
        ("band tags", lambda: _from_band_tags(source)),
        ("IMAGERY domain", lambda: _from_imagery(source)),
        ("band descriptions", lambda: _from_descriptions(source)),
    ]
    names = _names(source)
    good = _good_flags(source)
    for origin, look in places:
        found = look()
        if found is None:
            continue
        wavelength, fwhm = _in_nanometres(found, path, origin, source.count, notes)
        if found.good is not None:
            good = np.asarray(found.good)
        return SpectralMetadata(names, wavelength, fwhm, good, origin)
    unknown = np.full(source.count, np.nan)
    return SpectralMetadata(names, unknown, unknown.copy(), good, None)


@dataclass(frozen=True)
class Told:
    """What a table of the user says: centres and FWHM in nm, good flags if it has them."""

    wavelength_nm: np.ndarray
    fwhm_nm: np.ndarray
    good: np.ndarray | None
    origin: str


def from_table(table: Path, count: int, path: str, notes: list[str]) -> Told:
    """Read the user's table of wavelengths. Raises InputError if it does not fit the ``count`` bands of ``path``."""
    found, origin = _from_table(table, count, path), f"--wavelengths {table}"
    wavelength, fwhm = _in_nanometres(found, path, origin, count, notes)
    return Told(wavelength, fwhm, None if found.good is None else np.asarray(found.good), origin)


def in_nanometres(
    wavelength: Sequence[float] | np.ndarray,
    fwhm: Sequence[float] | np.ndarray | None,
    path: str,
    origin: str,
    notes: list[str],
    unit: str | None = "nm",
) -> tuple[np.ndarray, np.ndarray]:
    """Bring a product's centres and FWHM to nm; a declared unit that cannot be right is told and set right.

    Raises
    ------
    InputError
        If the numbers cannot be wavelengths.
    """
    widths = None if fwhm is None else [float(v) for v in fwhm]
    found = _Found([float(v) for v in wavelength], widths, None, unit)  # type: ignore[arg-type]
    return _in_nanometres(found, path, origin, len(found.wavelength), notes)


def _in_nanometres(
    found: _Found, path: str, origin: str, count: int, notes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    values = np.array([np.nan if v is None else v for v in found.wavelength], dtype=np.float64)
    present = np.isfinite(values)
    if not present.all():
        raise InputError(
            f"{path}: {present.sum()} of {count} bands carry a centre wavelength ({origin}); all are needed. "
            'Pass --wavelengths bands.csv or set the band tag "wavelength".'
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
            f"expected {low:g} to {high:g} nm. Pass --wavelengths bands.csv."
        )
    return values, _settled_widths(values, fwhm, path, origin, notes)


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
    word = (unit or "").strip().lower()
    if word in NANOMETRE_NAMES | MICROMETRE_NAMES:
        declared = 1000.0 if word in MICROMETRE_NAMES else 1.0
        if declared == by_magnitude:
            return declared
        told = (
            f"{path}: wavelengths are declared in {unit} ({origin}), but {values.min():g} to {values.max():g} can "
            f"only be {'micrometres' if by_magnitude == 1000 else 'nanometres'}; read as such."
        )
        notes.append(UnitsNote(told))
        return by_magnitude
    told = (
        f"{path}: wavelengths without a unit ({origin}); {values.min():g} to {values.max():g} are read as "
        f"{'micrometres' if by_magnitude == 1000 else 'nanometres'}."
    )
    # Nanometres are what people mean who name no unit.
    notes.append(told if by_magnitude == 1 else UnitsNote(told))
    return by_magnitude


def _list(text: str | None) -> list[float | None] | None:
    if not text:
        return None
    try:
        return [float(part) for part in text.strip().strip("{}").replace("\n", " ").split(",") if part.strip()]
    except ValueError:
        return None


def _lower(tags: Mapping[str, str]) -> dict[str, str]:
    return {key.lower().replace(" ", "_"): value for key, value in tags.items()}


def _from_envi(source: Any) -> _Found | None:
    """Read the exact lists of an ENVI header; GDAL's own band metadata are rounded."""
    tags = _lower(source.tags(ns="ENVI"))
    wavelength = _list(tags.get("wavelength"))
    if wavelength is None or len(wavelength) != source.count:
        return None
    fwhm = _list(tags.get("fwhm"))
    return _Found(wavelength, fwhm if fwhm and len(fwhm) == source.count else None, None, tags.get("wavelength_units"))


def _from_band_tags(source: Any) -> _Found | None:
    tags = [_lower(source.tags(band)) for band in source.indexes]
    wavelength = [_number(t.get("wavelength") or t.get("wavelength_nm")) for t in tags]
    if all(value is None for value in wavelength):
        return None
    unit = next((t[k] for t in tags for k in ("wavelength_units", "wavelength_unit", "units") if k in t), None)
    if unit is None and any("wavelength_nm" in t for t in tags):
        unit = "nm"
    return _Found(wavelength, [_number(t.get("fwhm") or t.get("fwhm_nm")) for t in tags], None, unit)


def _from_imagery(source: Any) -> _Found | None:
    tags = [source.tags(band, ns="IMAGERY") for band in source.indexes]
    wavelength = [_number(t.get("CENTRAL_WAVELENGTH_UM")) for t in tags]
    if all(value is None for value in wavelength):
        return None
    return _Found(wavelength, [_number(t.get("FWHM_UM")) for t in tags], None, "um")


def _from_descriptions(source: Any) -> _Found | None:
    """Read centres like "band 12 (513.2 Nanometers)"; a unit must stand there, since band names hold numbers too."""
    matches = [DESCRIPTION.search(text or "") for text in source.descriptions]
    if not all(matches):
        return None
    first = matches[0]
    assert first is not None
    return _Found([float(m["value"]) for m in matches if m], None, None, first["unit"])


def _from_table(table: Path, count: int, path: str) -> _Found:
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{table}: cannot be read: {error}") from error
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    rows = list(csv.reader(lines))
    if not rows:
        raise InputError(f"{table}: empty; needed is a column wavelength_nm or wavelength_um with {count} rows")
    header = [cell.strip().lower() for cell in rows[0]]
    if all(_number(cell) is not None for cell in rows[0]):
        header = [f"column {i + 1}" for i in range(len(rows[0]))]
    else:
        rows = rows[1:]
    columns = {name: [row[i].strip() if i < len(row) else "" for row in rows] for i, name in enumerate(header)}
    key, unit = _wavelength_column(columns, table)
    if len(rows) != count:
        raise InputError(f"{table}: {len(rows)} rows for the {count} bands of {path}; one row per band is needed")
    scale = 1.0 if unit != "um" else 1000.0
    fwhm = columns.get("fwhm_nm")
    good = columns.get("good")
    return _Found(
        [_number(v) for v in columns[key]],
        None if fwhm is None else [None if (n := _number(v)) is None else n / scale for v in fwhm],
        None if good is None else [v.lower() not in {"0", "false", "no", "bad"} for v in good],
        unit,
    )


def _wavelength_column(columns: dict[str, list[str]], table: Path) -> tuple[str, str | None]:
    for name, unit in (("wavelength_nm", "nm"), ("wavelength_um", "um")):
        if name in columns:
            return name, unit
    numeric = [name for name, cells in columns.items() if cells and all(_number(c) is not None for c in cells)]
    if len(numeric) != 1:
        raise InputError(
            f"{table}: no column wavelength_nm or wavelength_um, and {len(numeric)} numeric columns; "
            "name the one with the centre wavelengths."
        )
    return numeric[0], None


def _good_flags(source: Any) -> np.ndarray:
    """Read bad-band flags: 1 = good, 0 = bad, as ENVI's bbl."""
    listed = _list(_lower(source.tags(ns="ENVI")).get("bbl"))
    if listed and len(listed) == source.count:
        return np.array([bool(v) for v in listed])
    flags = []
    for band in source.indexes:
        tags = _lower(source.tags(band))
        flag = _number(tags.get("bbl") or tags.get("good"))
        flags.append(flag is None or flag != 0)
    return np.array(flags)


def _names(source: Any) -> tuple[str, ...]:
    return tuple(text or f"band {band}" for band, text in zip(source.indexes, source.descriptions, strict=True))


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
