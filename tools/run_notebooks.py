"""Runs the notebooks of examples/ for the documentation, which shows them with what they answer.

The notebook that needs an EnMAP scene and a catalogue on the network gets a made-up scene and a catalogue's answer in
a file: its code is run as it stands, but for two names.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests" / "helpers"))

STANDS_IN = (
    "> What is shown here came from a small made-up scene and a catalogue's answer in a file, in place of yours."
)


def executed(notebook: Path, folder: Path) -> dict[str, Any]:
    """Return a notebook with its outputs, run in a folder."""
    import nbformat
    from nbclient import NotebookClient

    read = nbformat.read(notebook, as_version=4)
    parameters = made_up_scene(folder / ".given") if notebook.stem == "enmap_sentinel2_stac" else {}
    cells = [cell for cell in read.cells if cell.cell_type == "code"]
    sources = [cell.source for cell in cells]
    for cell in cells:
        cell.source = with_parameters(cell.source, parameters)
    NotebookClient(read, timeout=900, resources={"metadata": {"path": str(folder)}}).execute()
    for cell, source in zip(cells, sources, strict=True):
        cell.source = source
    if parameters:
        read.cells.insert(1, nbformat.v4.new_markdown_cell(STANDS_IN))
    for output in (output for cell in cells for output in cell.outputs if "data" in output):
        if "xr-wrap" in output.data.get("text/html", ""):  # needs a style sheet that pages of documentation lack
            del output.data["text/html"]
    shown = nbformat.writes(read)
    return json.loads(shown.replace(str(folder / ".given"), ""))  # type: ignore[no-any-return]


def with_parameters(source: str, parameters: dict[str, Any]) -> str:
    """Return a cell with some of its assignments replaced."""
    for name, value in parameters.items():
        source = re.sub(rf"(?m)^{name} = .*$", lambda _, n=name, v=value: f"{n} = {v!r}", source)  # type: ignore[misc]
    return source


def made_up_scene(folder: Path) -> dict[str, str]:
    """Make an EnMAP product and what a catalogue answers about its place; return the notebook's parameters."""
    import product_files
    from scenes import ORIGIN, spectra_of, write

    from geolift.srf import SpectralResponse

    folder.mkdir(parents=True, exist_ok=True)
    wavelength, fwhm = np.linspace(420, 1000, 40), np.full(40, 16.0)
    truth = spectra_of(wavelength, 96, 84)
    coarse = truth.reshape(40, 32, 3, 28, 3).mean(axis=(2, 4))
    enmap = product_files.enmap(folder / "enmap", values=coarse, nm=wavelength, fwhm=fwhm)
    names = ("B02", "B03", "B04", "B08")
    weights = SpectralResponse.from_library("sentinel-2b").select(names).weights(wavelength, fwhm).weights
    assets = {}
    for name, values in zip(names, np.einsum("cb,byx->cyx", weights, truth), strict=True):
        file = write(folder / f"{name}.tif", values[None], gsd=10, origin=ORIGIN, dtype="uint16", nodata=0)
        assets[name] = {
            "href": str(file),
            "type": "image/tiff; application=geotiff",
            "roles": ["data"],
            "eo:bands": [{"name": name}],
            "raster:bands": [{"scale": 1e-4, "offset": 0, "nodata": 0}],
        }
    properties = {"datetime": "2022-07-24T10:15:00Z", "platform": "sentinel-2b", "eo:cloud_cover": 1}
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "S2B_T33UUT_20220724",
        "geometry": None,
        "links": [{"rel": "self", "href": str(folder / "item.json")}],
        "collection": "sentinel-2-c1-l2a",
        "assets": assets,
        "properties": properties,
    }
    cloudy = {**item, "id": "S2A_T33UUT_20220722", "properties": {**properties, "eo:cloud_cover": 90}}
    answer = folder / "answer.json"
    answer.write_text(json.dumps({"type": "FeatureCollection", "features": [cloudy, item]}), encoding="utf-8")
    return {"ENMAP": str(enmap), "CATALOGUE": str(answer)}
