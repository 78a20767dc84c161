"""Centre wavelengths in free text: band descriptions as people and programs write them.

All descriptions of a file are read together. What changes from band to band in the same wording is a column of
numbers; which column holds the centres is told by its label, its unit, and whether it can be one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|(?<=[A-Za-z_])\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
UNIT = re.compile(
    r"[\s_]*(nano-?met(?:er|re)s?|nm|micro-?met(?:er|re)s?|microns?|[uµμ]m|angstr[oö]e?ms?|ångstr[oö]ms?|[ÅÅ])(?![A-Za-z])",
    re.IGNORECASE,
)
CENTRE_LABEL = re.compile(
    r"(cent(er|re)s?|central|wavelengths?|wl|cwl?|lambda|λ)[\W_]*(of|at|is)?[\W_]*$", re.IGNORECASE
)
WIDTH_LABEL = re.compile(r"(fwhm|(band)?widths?|bw|±|\+/-|\+-|resolution)[\W_]*(of|is)?[\W_]*$", re.IGNORECASE)
INDEX_LABEL = re.compile(r"(^|[^A-Za-z])(bands?|b|channels?|ch|no|nr|layer|#)[\W_]*$", re.IGNORECASE)
BARE = re.compile(r"^\W*((bands?|b|channels?|ch|wavelengths?|wl|cwl?|lambda)[\W_]*)?[\d.eE+-]+\W*$", re.IGNORECASE)
NANOMETRES = {"nanometers", "nanometer", "nanometres", "nanometre", "nm"}
MICROMETRES = {"micrometers", "micrometer", "micrometres", "micrometre", "microns", "micron", "um", "µm", "μm"}
METRES = {"m", "meter", "meters", "metre", "metres"}
NAMED_BY_CENTRE_NM = (330.0, 2600.0)
FEWEST_NAMED_BY_CENTRE = 4

Label = Literal["centre", "width", "index", ""]


def nanometres_in(unit: str | None) -> float | None:
    """Return how many nm a unit is; None for what is no unit of length known here.

    >>> nanometres_in("Micrometers"), nanometres_in("Ångström")
    (1000.0, None)
    """
    word = (unit or "").strip().lower().replace("-", "")
    for names, factor in ((NANOMETRES, 1.0), (MICROMETRES, 1e3), (METRES, 1e9)):
        if word in names:
            return factor
    return None


@dataclass(frozen=True)
class Column:
    """Numbers that stand at the same place of every description, their unit and label."""

    values: np.ndarray
    unit: str | None
    label: Label


@dataclass(frozen=True)
class Centres:
    """Centres as written, with their unit; ``assumed`` = no unit stands there, nm are taken."""

    values: list[float]
    unit: str | None
    widths: list[float] | None
    assumed: bool


def centres_in(descriptions: Sequence[str | None]) -> Centres | None:
    """Find the centre wavelengths in the descriptions of all bands; None if they tell none.

    >>> centres_in(["FWHM 6.6 nm, centre 402.4 nm", "FWHM 6.6 nm, centre 409 nm"]).values
    [402.4, 409.0]
    >>> centres_in(["B1", "B2"]) is None
    True
    """
    texts = [text or "" for text in descriptions]
    if not all(texts):
        return None
    columns = _columns(texts)
    if columns is None:
        return _one_by_one(texts)
    widths = next((c for c in columns if c.label == "width" and nanometres_in(c.unit)), None)
    chosen = _centre_column(columns, texts)
    if chosen is None:
        return None
    unit = chosen.unit or next((c.unit for c in columns if c.unit), None)
    if widths is None:
        narrow = [c for c in columns if c is not chosen and c.unit and c.label != "index"]
        widths = narrow[0] if len(narrow) == 1 and (narrow[0].values < chosen.values).all() else None
    same_unit = widths is not None and nanometres_in(widths.unit) == nanometres_in(unit)
    return Centres(
        chosen.values.tolist(), unit, widths.values.tolist() if widths is not None and same_unit else None, unit is None
    )


def _columns(texts: Sequence[str]) -> list[Column] | None:
    """Split descriptions of one wording into columns; None if their wordings differ."""
    found = [list(NUMBER.finditer(text)) for text in texts]
    wordings = {NUMBER.sub("\0", text) for text in texts}
    if len(wordings) != 1 or not found[0]:
        return None
    columns = []
    for position in range(len(found[0])):
        values = np.array([float(matches[position][0]) for matches in found])
        match, text = found[0][position], texts[0]
        before = text[found[0][position - 1].end() if position else 0 : match.start()]
        unit = UNIT.match(text, match.end())
        columns.append(Column(values, unit[1] if unit else None, _label(before)))
    return columns


def _label(before: str) -> Label:
    if WIDTH_LABEL.search(before):
        return "width"
    if CENTRE_LABEL.search(before):
        return "centre"
    return "index" if INDEX_LABEL.search(before) else ""


def _centre_column(columns: Sequence[Column], texts: Sequence[str]) -> Column | None:
    """Choose: labelled as centre; with a unit and able to be one; bare numbers beside a width; names like Band_503."""
    able = [c for c in columns if c.label != "width" and _can_be_centres(c.values, c.unit)]
    for choice in (
        [c for c in able if c.label == "centre" and (c.unit or _named_by_centre(c.values))],
        [c for c in able if c.unit and _distinct(c.values)],
        [c for c in able if not c.unit and c.label != "index" and _beside_a_width(c, columns)],
        [c for c in able if not c.unit and len(columns) == 1 and _named_by_centre(c.values) and _bare(texts)],
        [c for c in able if c.unit],
        # no unit can be right: told as found, so that it is refused by name
        [c for c in columns if c.unit and c.label != "width" and len(columns) == 1],
    ):
        if choice:
            return choice[0]
    return None


def _can_be_centres(values: np.ndarray, unit: str | None) -> bool:
    factor = nanometres_in(unit)
    if factor is None:
        return bool((values > 0).all())
    low, high = values.min() * factor, values.max() * factor
    return bool(low >= 200 and high <= 20_000)


def _distinct(values: np.ndarray) -> bool:
    return len(np.unique(values)) == len(values)


def _beside_a_width(column: Column, columns: Sequence[Column]) -> bool:
    """Tell whether a bare number stands before one with a unit that is too small for a centre: 402.4 (6.6 nm)."""
    units = [c for c in columns if c is not column and c.unit]
    return bool(units) and _distinct(column.values) and _can_be_centres(column.values, units[0].unit)


def _named_by_centre(values: np.ndarray) -> bool:
    """Tell whether numbers without a unit count nanometres rather than bands: in range, distinct, not one by one."""
    low, high = NAMED_BY_CENTRE_NM
    steps = np.abs(np.diff(values))
    return bool(
        len(values) >= FEWEST_NAMED_BY_CENTRE
        and values.min() >= low
        and values.max() <= high
        and _distinct(values)
        and not (steps == 1).all()
    )


def _bare(texts: Sequence[str]) -> bool:
    """Tell whether a description is a number alone, or one after a word for band or wavelength."""
    return all(BARE.match(text) for text in texts)


def _one_by_one(texts: Sequence[str]) -> Centres | None:
    """Read descriptions of differing wording: each must hold one number with a unit that can be a centre."""
    values: list[float] = []
    units: set[str] = set()
    for text in texts:
        found = []
        for match in NUMBER.finditer(text):
            unit = UNIT.match(text, match.end())
            before = text[max(0, match.start() - 20) : match.start()]
            if unit and not WIDTH_LABEL.search(before) and _can_be_centres(np.array([float(match[0])]), unit[1]):
                found.append((float(match[0]), unit[1]))
        if len(found) != 1:
            return None
        values.append(found[0][0])
        units.add(found[0][1])
    if len({nanometres_in(unit) for unit in units}) != 1:
        return None
    return Centres(values, next(iter(units)), None, False)
