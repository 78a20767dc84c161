"""`geolift spectra`: numbers for those who have a spectrometer, a plot, or a question about one place."""

from __future__ import annotations

from pathlib import Path

import click

from geolift.cli.command import command, option
from geolift.cli.console import Console
from geolift.cli.options import output_option, run_options
from geolift.errors import UsageError


@command("spectra")
@click.argument("products", nargs=-1, required=True, metavar="PRODUCT...")
@click.argument("places", metavar="PLACES")
@output_option
@option("--layer", metavar="NAME", help="Layer of a GeoPackage.  [default: its first]")
@option("--places-crs", metavar="CRS", help="CRS of the places, where their file does not tell it or is wrong.")
@option("--overwrite", is_flag=True, help="Replace the output if it exists.")
@run_options
def spectra_command(
    products: tuple[str, ...],
    places: str,
    output: Path | None,
    layer: str | None,
    places_crs: str | None,
    overwrite: bool,
    console: Console,
) -> None:
    """Write the spectra of PRODUCTs at the points and polygons of PLACES.

    HSI, MSI and product stand beside each other, with the standard error and the
    marks where the run wrote them. PLACES is a GeoPackage, a GeoJSON, or a CSV with
    the columns lon and lat, or x and y in the product's CRS, and a name. Without -o
    the output is PLACES_spectra.csv in the current folder; .sli writes an ENVI
    spectral library.

    \b
    Examples:
      geolift spectra fused.tif plots.gpkg -o spectra.csv
      geolift spectra may.tif june.tif july.tif field.geojson -o field.sli
    """
    from geolift.pipeline.place_spectra import spectra
    from geolift.pipeline.spectral_table import SUFFIXES, library_paths, write_spectra
    from geolift.pipeline.touched_files import Output, require_untouched
    from geolift.readers.places import read_places

    target = output or Path(f"{Path(places).stem}_spectra.csv")
    if target.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{target}: the suffix says the format; expected is {' or '.join(SUFFIXES)}")
    paths = library_paths(target) if target.suffix.lower() == ".sli" else [target]
    require_untouched([places, *products], [Output(path) for path in paths], overwrite=overwrite)
    known = read_places(places, layer, places_crs)
    found = []
    for number, product in enumerate(products):
        console.progress("spectra", number / len(products), product)
        found.append(spectra(product, known))
        outside = int((found[-1]["pixels"].values == 0).sum())
        if outside:
            console.warn(f"{product}: {outside} of {len(known.places)} places lie outside it and are empty")
    console.progress("spectra", 1.0)
    written = write_spectra(found, target)
    document = {
        "output": str(target),
        "files": [str(path) for path in written],
        "places": len(known.places),
        "products": list(products),
        "variables": sorted({str(name) for dataset in found for name in dataset.data_vars}),
    }
    console.result(str(target), document)
