"""Text tables of spectral responses: ``wavelength_nm,Band1,Band2,…`` under lines ``# key: value``."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geolift.errors import InputError

_LARGEST_NOISE = 0.02


@dataclass(frozen=True, eq=False)
class SrfTable:
    """What a table says.

    Attributes
    ----------
    header : dict
        Keys (lower case) and values of its ``# key: value`` lines.
    band_names : tuple of str
        Names of the columns after the first.
    wavelength_nm : array (n,)
        Wavelengths in nanometres, sorted.
    response : array (n, bands)
        Relative responses, zero or more.
    """

    header: dict[str, str]
    band_names: tuple[str, ...]
    wavelength_nm: NDArray[np.float64]
    response: NDArray[np.float64]

    def orders(self) -> dict[int, tuple[str, ...]]:
        """Return the band orders of its ``order N: name,name`` lines."""
        return {
            int(key.removeprefix("order ")): tuple(name.strip() for name in value.split(","))
            for key, value in self.header.items()
            if key.startswith("order ")
        }

    def pairs(self, key: str) -> dict[str, str]:
        """Return the pairs of a line ``key: name=value,name=value``; none where there is no such line."""
        found: dict[str, str] = {}
        for pair in self.header.get(key, "").split(","):
            name, equals, value = pair.partition("=")
            if equals:
                found[name.strip()] = value.strip()
        return found


def read_table(text: str, where: str) -> SrfTable:
    """Read a table; empty cells are 0, and ``;`` or tabs may separate them.

    Raises InputError if it is no such table; the message names the line.

    ``text``: the whole text. ``where``: name of the file, for messages.
    """
    header: dict[str, str] = {}
    rows: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#"):
            key, _, value = line[1:].partition(":")
            header[key.strip().lower()] = value.strip()
        elif line.strip(" ,;\t"):
            rows.append((number, line))
    if len(rows) < 3:
        raise InputError(f"{where}: no table found; expected wavelength_nm,Band1,Band2,… and rows of numbers.")
    to_nm, names = _columns(_cells(rows[0][1]), where)
    table = _plain_numbers([line for _, line in rows[1:]], len(names) + 1)
    if table is None:
        table = np.array(
            [_numbers(_cells(line), len(names) + 1, f"{where}, line {number}") for number, line in rows[1:]]
        )
    table = table[np.argsort(table[:, 0], kind="stable")]
    response = table[:, 1:]
    # The noise of a measured curve may dip below zero; more than that is not a response.
    if (response < -_LARGEST_NOISE * response.max()).any():
        raise InputError(f"{where}: responses down to {response.min():g}; they must be zero or more.")
    return SrfTable(header, names, table[:, 0] * to_nm, np.maximum(response, 0.0))


def _cells(line: str) -> list[str]:
    separator = next((mark for mark in ",;\t" if mark in line), ",")
    return [cell.strip().strip('"') for cell in line.split(separator)]


def _plain_numbers(lines: list[str], count: int) -> NDArray[np.float64] | None:
    """The table at once where commas separate the cells of each line and the first is a number; else None."""
    cells = ",".join(lines).split(",")
    if any(line.count(",") != count - 1 for line in lines) or not all(cells[::count]):
        return None
    try:
        return np.array([float(cell or 0) for cell in cells]).reshape(-1, count)
    except ValueError:
        return None


def _columns(cells: list[str], where: str) -> tuple[float, tuple[str, ...]]:
    """Return the factor that makes the first column nanometres, and the names of the bands."""
    unit = {"wavelengthnm": 1.0, "wavelengthum": 1000.0}.get(re.sub(r"[^a-z]", "", cells[0].casefold()))
    if unit is None or len(cells) < 2:
        raise InputError(
            f"{where}: the table begins with {','.join(cells)!r}; "
            "expected wavelength_nm (or wavelength_um) and the names of the bands."
        )
    return unit, tuple(cells[1:])


def _numbers(cells: list[str], count: int, where: str) -> list[float]:
    if not cells[0] or any(cells[count:]):
        raise InputError(f"{where}: expected a wavelength and {count - 1} responses, found {len(cells)} cells.")
    try:
        return [float(cell or 0) for cell in (cells + [""] * count)[:count]]
    except ValueError as err:
        raise InputError(f"{where}: {err}; expected numbers, or nothing for 0.") from err
