"""Where a raster keeps its wavelengths: searched in one fixed order."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geolift.errors import InputError
from geolift.readers import envi_header, gate
from geolift.readers.wavelength_text import centres_in
from geolift.readers.wavelengths import Found, settled

CENTRE_TAG = re.compile(
    r"^(?:(?:eo_)?(?:cent(?:er|re)|central|band)_?)?wavelengths?(?:_(nm|um|µm|nanometers|micrometers))?$"
)
WIDTH_TAG = re.compile(r"^(?:eo_)?(?:fwhm|full_width_half_max|bandwidth)s?(?:_(nm|um|µm|nanometers|micrometers))?$")
UNIT_TAG = re.compile(r"^(?:(?:cent(?:er|re)|central)_?)?wavelengths?_?units?$|^units?$")
LIST_TAG = re.compile(
    r"(?:^|_|#)(?<!good_)(?<!bad_)(?:(?:cent(?:er|re)|central|band)_?)?wavelengths?(?:_(nm|um|values))?$"
)
LIST_WIDTH = re.compile(r"(?:^|_|#)fwhms?(?:_(nm|um|values))?$")
LIST_GOOD = re.compile(r"(?:^|_|#)(?:bbl|good_wavelengths?|good_bands?)(?:_values)?$")
SIDECAR_COLUMNS = ("wl", "wavelength", "wavelength_nm")


@dataclass(frozen=True)
class SpectralMetadata:
    """What a file says of its bands: names, centres and FWHM in nm (NaN = unknown), good flags, and where it stood."""

    names: tuple[str, ...]
    wavelength_nm: np.ndarray
    fwhm_nm: np.ndarray
    good: np.ndarray
    origin: str | None


def read(
    source: Any, path: str, table: Path | None, notes: list[str], header: envi_header.EnviHeader | None = None
) -> SpectralMetadata:
    """Search a rasterio dataset for its spectral metadata.

    Order: the user's table, ENVI lists (exact), band tags, the IMAGERY domain, lists among the file's tags, a header or
    table beside the file, band descriptions. Raises InputError if only some bands carry a wavelength, or the numbers
    cannot be wavelengths.
    """
    own = {envi_header.name_of(key): value for key, value in source.tags(ns="ENVI").items()}
    aside = {} if header is None else dict(header.fields)
    places: list[tuple[str, Callable[[], Found | None]]] = [
        (f"--wavelengths {table}", lambda: _from_table(table, source.count, path) if table else None),
        ("ENVI header", lambda: _from_envi(own, source.count, path)),
        ("band tags", lambda: _from_band_tags(source, path)),
        ("IMAGERY domain", lambda: _from_imagery(source, path)),
        ("tags", lambda: _from_lists(source.tags(), source.count, path)),
        (f"ENVI header {header.path.name}" if header else "", lambda: _from_envi(aside, source.count, path)),
        (Path(path).with_suffix(".wvl").name, lambda: _from_sidecar(Path(path).with_suffix(".wvl"), source.count)),
        ("band descriptions", lambda: _from_descriptions(source.descriptions)),
    ]
    names, good = _names(source), _good_flags(source, {**aside, **own}, path)
    for origin, look in places:
        found = look()
        if found is None:
            continue
        wavelength, fwhm = settled(found, path, origin, source.count, notes)
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
    wavelength, fwhm = settled(found, path, origin, count, notes)
    return Told(wavelength, fwhm, None if found.good is None else np.asarray(found.good), origin)


def _from_envi(fields: Mapping[str, str], count: int, path: str) -> Found | None:
    """Read the exact lists of an ENVI header; GDAL's own band metadata are rounded."""
    name = next((key for key in ("wavelength", "wavelengths", "center_wavelengths") if fields.get(key)), None)
    if name is None:
        return None
    wavelength = gate.listed(fields[name], path, f"ENVI's {name}")
    if len(wavelength) != count:
        return None
    fwhm = gate.listed(fields["fwhm"], path, "ENVI's fwhm") if fields.get("fwhm") else None
    unit = fields.get("wavelength_units") or fields.get("wavelength_unit")
    return Found(wavelength, fwhm if fwhm and len(fwhm) == count else None, None, unit)


def _lower(tags: Mapping[str, str]) -> dict[str, str]:
    return {key.lower().replace(" ", "_").replace(":", "_"): value for key, value in tags.items()}


def _from_band_tags(source: Any, path: str) -> Found | None:
    """Read each band's own tags, whatever program wrote them: wavelength, center_wavelength, CENTRAL_WAVELENGTH_UM."""
    tags = [_lower(source.tags(band)) for band in source.indexes]
    name = next((key for key in tags[0] if CENTRE_TAG.match(key)), None)
    if name is None:
        name = next((key for t in tags for key in t if CENTRE_TAG.match(key)), None)
    if name is None:
        return None
    wavelength = [gate.optional_number(t.get(name), path, f"band {i}'s {name}") for i, t in enumerate(tags, 1)]
    if all(value is None for value in wavelength):
        return None
    width = next((key for t in tags for key in t if WIDTH_TAG.match(key)), None)
    fwhm = None
    if width is not None:
        fwhm = [gate.optional_number(t.get(width), path, f"band {i}'s {width}") for i, t in enumerate(tags, 1)]
    match = CENTRE_TAG.match(name)
    unit = match[1] if match else None
    unit = unit or next((t[k] for t in tags for k in t if UNIT_TAG.match(k)), None)
    return Found(wavelength, fwhm, None, unit)


def _from_imagery(source: Any, path: str) -> Found | None:
    tags = [source.tags(band, ns="IMAGERY") for band in source.indexes]
    name, width = "CENTRAL_WAVELENGTH_UM", "FWHM_UM"
    wavelength = [gate.optional_number(t.get(name), path, f"band {i}'s {name}") for i, t in enumerate(tags, 1)]
    if all(value is None for value in wavelength):
        return None
    fwhm = [gate.optional_number(t.get(width), path, f"band {i}'s {width}") for i, t in enumerate(tags, 1)]
    return Found(wavelength, fwhm, None, "um")


def _from_lists(raw: Mapping[str, str], count: int, path: str) -> Found | None:
    """Read a list of all centres among a file's tags, as rioxarray, HDF5 and NetCDF leave it behind."""
    tags = _lower(raw)
    centres = _list_of(tags, LIST_TAG, count, path)
    if centres is None:
        return None
    name, wavelength = centres
    match = LIST_TAG.search(name)
    unit = match[1] if match and match[1] != "values" else None
    root = name.removesuffix("_values")
    for key in (f"{root}_units", f"{root}_unit", f"{root}#units", "wavelength_units", "wavelength_unit"):
        unit = unit or tags.get(key)
    widths, flags = _list_of(tags, LIST_WIDTH, count, path), _list_of(tags, LIST_GOOD, count, path)
    good = None if flags is None else [bool(v) for v in flags[1]]
    return Found(wavelength, None if widths is None else widths[1], good, unit)


def _list_of(tags: Mapping[str, str], name: re.Pattern[str], count: int, path: str) -> tuple[str, list[float]] | None:
    for key, text in tags.items():
        if name.search(key) and len(re.split(r"[\s,;]+", text.strip(" {}[]()\n"))) == count and count > 1:
            return key, gate.listed(text, path, f"the tag {key}")
    return None


def _from_sidecar(file: Path, count: int) -> Found | None:
    """Read the table of wavelengths that prismaread writes beside its images: columns orBand, band, wl, fwhm."""
    try:
        rows = [line.replace(",", " ").split() for line in file.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        return None
    header = [cell.strip('"').lower() for cell in rows[0]] if rows else []
    column = next((header.index(name) for name in SIDECAR_COLUMNS if name in header), None)
    if column is None or len(rows) != count + 1 or any(len(row) != len(header) for row in rows):
        return None
    fwhm = header.index("fwhm") if "fwhm" in header else None
    return Found(
        gate.numbers((row[column] for row in rows[1:]), file, header[column]).tolist(),
        None if fwhm is None else gate.numbers((row[fwhm] for row in rows[1:]), file, "fwhm").tolist(),
        None,
        "nm",
    )


def _from_descriptions(descriptions: Sequence[str | None]) -> Found | None:
    """Read centres like "band 12 (513.2 Nanometers)" or "FWHM 6.6 nm, centre 402.4 nm"."""
    found = centres_in(descriptions)
    return None if found is None else Found(found.values, found.widths, None, found.unit)


def _from_table(table: Path, count: int, path: str) -> Found:
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
    return Found(
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


def _good_flags(source: Any, envi: Mapping[str, str], path: str) -> np.ndarray:
    """Read bad-band flags: 1 = good, 0 = bad, as ENVI's bbl."""
    listed = gate.listed(envi["bbl"], path, "ENVI's bbl") if envi.get("bbl") else []
    if len(listed) == source.count:
        return np.array([bool(v) for v in listed])
    flags = []
    for band in source.indexes:
        tags = _lower(source.tags(band))
        flag = gate.optional_number(tags.get("bbl") or tags.get("good"), path, f"band {band}'s bbl")
        flags.append(flag is None or flag != 0)
    return np.array(flags)


def _names(source: Any) -> tuple[str, ...]:
    return tuple(text or f"band {band}" for band, text in zip(source.indexes, source.descriptions, strict=True))


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
