"""Spectra as files: a table with a row for each value, or a spectral library as ENVI and Spectral Python read it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from geolift.datamodel.quality import marks_in_words
from geolift.runtime.whole_files import write_whole

COLUMNS = (
    "place", "product", "source", "band", "wavelength_nm", "fwhm_nm", "value", "spread", "sigma", "pixels", "quality",
    "x", "y",
)  # fmt: skip
SOURCES = {"product": "product", "HSI": "hsi"}
"""What shares the product's bands: how it is called, and the Dataset's variable."""
SUFFIXES = (".csv", ".sli")


def write_spectra(found: Sequence[xr.Dataset], path: Path) -> list[Path]:
    """Write spectra of one or several products by the file's suffix; returns what was written.

    ``.csv``: one row for each place, source and band. ``.sli``: ENVI spectral libraries, one of the hyperspectral bands
    for each product that has bands of its own, and ``…_msi.sli`` of the MSI's. Raises ResourceError if a file cannot be
    written.
    """
    if path.suffix.lower() == ".sli":
        return [written for library in libraries_of(found, path) for written in library.write()]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for dataset in found:
        table.writerows(_rows(dataset))
    write_whole(path, text.getvalue())
    return [path]


def _rows(found: xr.Dataset) -> Iterator[list[object]]:
    product = Path(found.attrs["product"]).name
    for at, place in enumerate(found["place"].values):
        own = found.isel(place=at)
        where = [int(own["pixels"]), marks_in_words(int(own["quality"])) if "quality" in own else ""]
        where += [_plain(own["x"].values), _plain(own["y"].values)]
        for source, variable in SOURCES.items():
            if variable not in own:
                continue
            values = own[variable].values
            spread = own[f"{variable}_spread"].values if f"{variable}_spread" in own else np.full(values.shape, np.nan)
            with_sigma = variable == "product" and "sigma" in own
            sigma = own["sigma"].values if with_sigma else np.full(values.shape, np.nan)
            for band, name in enumerate(found["band"].values):
                facts = (found["wavelength"], found["fwhm"], values, spread, sigma)
                numbers = [_plain(np.asarray(row)[band]) for row in facts]
                yield [place, product, source, name, *numbers, *where]
        if "msi" in own:
            for name, centre, value in zip(
                own["msi_band"].values, own["msi_wavelength"].values, own["msi"].values, strict=True
            ):
                yield [place, product, "MSI", name, _plain(centre), "", _plain(value), "", "", *where]


def _plain(value: object) -> str:
    number = float(value)  # type: ignore[arg-type]
    return f"{number:.9g}" if np.isfinite(number) else ""


class SpectralLibrary:
    """Spectra (n, band) at common wavelengths, as ENVI keeps them: numbers in FILE.sli, what they are in FILE.hdr."""

    def __init__(self, path: Path, names: list[str], values: np.ndarray, wavelength_nm: np.ndarray) -> None:
        order = np.argsort(wavelength_nm, kind="stable")
        self.path, self.names = path, names
        self.values, self.wavelength_nm = values[:, order], wavelength_nm[order]

    def write(self) -> list[Path]:
        """Write both files; bands without a value in any spectrum are bad, and 0."""
        good = np.isfinite(self.values).any(axis=0)
        header = {
            "samples": self.values.shape[1],
            "lines": self.values.shape[0],
            "bands": 1,
            "header offset": 0,
            "file type": "ENVI Spectral Library",
            "data type": 4,
            "interleave": "bsq",
            "byte order": 0,
            "wavelength units": "Nanometers",
            "spectra names": _braces([_envi_name(name) for name in self.names]),
            "wavelength": _braces([f"{value:.6f}" for value in self.wavelength_nm]),
            "bbl": _braces(["1" if known else "0" for known in good]),
        }
        text = "ENVI\n" + "".join(f"{key} = {value}\n" for key, value in header.items())
        write_whole(self.path.with_suffix(".hdr"), text)
        write_whole(self.path, np.nan_to_num(self.values).astype("<f4").tobytes())
        return [self.path, self.path.with_suffix(".hdr")]


def library_paths(path: Path) -> list[Path]:
    """Return every file that a spectral library of this name may write."""
    both = [path, path.with_name(f"{path.stem}_msi{path.suffix}")]
    return [file for library in both for file in (library, library.with_suffix(".hdr"))]


def libraries_of(found: Sequence[xr.Dataset], path: Path) -> list[SpectralLibrary]:
    """Gather the spectra of products on common bands, and those of their MSIs."""
    fine: dict[tuple[float, ...], list[tuple[str, np.ndarray]]] = {}
    broad: dict[tuple[float, ...], list[tuple[str, np.ndarray]]] = {}
    for dataset in found:
        stem = Path(dataset.attrs["product"]).stem
        for at, place in enumerate(dataset["place"].values):
            for source, variable in (*SOURCES.items(), ("sigma", "sigma")):
                if variable in dataset:
                    known = tuple(float(value) for value in dataset["wavelength"].values)
                    spectrum = (f"{place} {stem} {source}", dataset[variable].values[at])
                    fine.setdefault(known, []).append(spectrum)
            if "msi" in dataset:
                known = tuple(float(value) for value in dataset["msi_wavelength"].values)
                broad.setdefault(known, []).append((f"{place} {stem} MSI", dataset["msi"].values[at]))
    return [*_libraries(fine, path), *_libraries(broad, path.with_name(f"{path.stem}_msi{path.suffix}"))]


def _libraries(groups: dict[tuple[float, ...], list[tuple[str, np.ndarray]]], path: Path) -> Iterator[SpectralLibrary]:
    for number, (wavelength, spectra) in enumerate(groups.items(), start=1):
        file = path if number == 1 else path.with_name(f"{path.stem}_{number}{path.suffix}")
        values = np.stack([values for _, values in spectra])
        yield SpectralLibrary(file, [name for name, _ in spectra], values, np.asarray(wavelength, np.float64))


def _braces(values: Sequence[str]) -> str:
    return "{" + ", ".join(values) + "}"


def _envi_name(name: str) -> str:
    """Return a name without what an ENVI header takes for its own signs."""
    return re.sub(r"[{},=\n]", " ", name).strip()
