"""`geolift mosaic`: one image from the products of a campaign."""

from __future__ import annotations

from pathlib import Path

import click

from geolift.cli.command import command
from geolift.cli.console import Console
from geolift.cli.options import output_option, run_options, settings_options
from geolift.settings import MosaicSettings


@command("mosaic")
@click.argument("products", nargs=-1, required=True, metavar="PRODUCT...")
@output_option
@settings_options(MosaicSettings)
@run_options
def mosaic_command(products: tuple[str, ...], output: Path | None, settings: MosaicSettings, console: Console) -> None:
    """Put PRODUCTs of one grid and the same bands together.

    They may overlap or leave gaps. Wavelengths are kept. Rasters of standard error
    are put together in the same way.

    \b
    Examples:
      geolift mosaic tile_*_fused.tif -o campaign.tif
      geolift mosaic north.tif south.tif --blend quality -f COG -o both.tif
    """
    from geolift.pipeline.mosaicking import mosaic_files

    target = output or Path("mosaic.tif")
    item = mosaic_files(products, target, settings)
    properties = item["properties"]
    document = {
        "output": str(target),
        "products": list(products),
        "shape": properties["proj:shape"],
        "written": properties["geolift:written"],
    }
    console.result(str(target), document)
