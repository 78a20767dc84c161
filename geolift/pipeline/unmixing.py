"""Endmembers and abundances: what `spectramorph` makes a spectrum of, as products of their own."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

import numpy as np

from geolift.errors import UsageError, harmless_cell
from geolift.pipeline.trained import OutputBands, Trained
from geolift.runtime.whole_files import write_whole
from geolift.writer import choose_scale

QUANTITY = "abundance"


def unmixed(trained: Trained) -> Trained:
    """Return what makes the abundances of an MSI pixel, one band for each endmember, as the model makes its spectrum.

    Raises UsageError if the model's method knows no endmembers.
    """
    model = trained.model
    if model.network.unmixing is None:
        raise UsageError(
            f"--abundances: method {model.method!r} knows no endmembers; train the model with --method spectramorph."
        )
    count = len(model.network.unmixing.level)
    largest = np.array([model.choices["largest_abundance"]])
    names = [f"Endmember {number}" for number in range(1, count + 1)]
    facts = trained.facts.model_copy(
        update={
            "quantity": QUANTITY,
            "scales": {dtype: choose_scale(dtype, QUANTITY, largest) for dtype in ("int16", "uint16")},
            "hsi": OutputBands(names=names, wavelength_nm=[None] * count, fwhm_nm=[None] * count, good=[True] * count),
        }
    )
    return Trained(replace(model, network=model.network.abundances()), facts)


class Endmembers(TypedDict):
    """Names, centres in nm, and spectra (endmember, band), None at bad bands."""

    names: list[str]
    wavelength_nm: list[float | None]
    spectra: list[list[float | None]]


def endmember_facts(trained: Trained) -> Endmembers:
    """Return names, centres in nm, and spectra (endmember, band), None at bad bands, of a model that unmixes."""
    basis = trained.model.network.basis
    assert basis is not None
    return {
        "names": unmixed(trained).facts.hsi.names,
        "wavelength_nm": trained.facts.hsi.wavelength_nm,
        "spectra": [trained.in_places(spectrum) for spectrum in basis.T],
    }


def endmember_path(abundances: Path) -> Path:
    """Return the name of the table of endmember spectra: that of the abundances with the suffix .csv."""
    return abundances.with_suffix(".csv")


def write_endmembers(facts: Endmembers, path: Path) -> None:
    """Write the endmember spectra as CSV, whole or not at all: wavelength_nm, Endmember 1, …; empty at bad bands.

    Raises ResourceError if it cannot be written.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["wavelength_nm", *map(harmless_cell, facts["names"])])
    table.writerows(zip(facts["wavelength_nm"], *facts["spectra"], strict=True))
    write_whole(path, text.getvalue())
