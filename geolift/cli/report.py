"""`geolift report`: a run told to somebody who was not there."""

from __future__ import annotations

from pathlib import Path

import click

from geolift.cli.arguments import FilePath
from geolift.cli.command import command
from geolift.cli.console import Console
from geolift.cli.options import run_options


@command("report")
@click.argument("product", metavar="OUT", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=FilePath(), help="HTML file. Default: OUT with the suffix .html.")
@click.option("--overwrite/--no-overwrite", default=False, help="Replace the report if it exists.")
@run_options
def report_command(product: Path, output: Path | None, overwrite: bool, console: Console) -> None:
    """Write the report of a finished run from its sidecar and rasters: one HTML file that opens anywhere.

    OUT is what fuse or apply has written, or its sidecar. Inputs that are no longer where they were are left out.

    \b
    Examples:
      geolift report fused.tif
      geolift report fused.tif -o for_the_authority.html --overwrite
    """
    from geolift import report
    from geolift.pipeline.touched_files import Output, require_untouched
    from geolift.writer import sidecar_of

    target = output or report.default_path(product)
    require_untouched([product, sidecar_of(product)], [Output(target)], overwrite=overwrite)
    report.make_report(product, target)
    console.result(str(target), {"output": str(target), "size": target.stat().st_size})
