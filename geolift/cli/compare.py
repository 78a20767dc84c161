"""`geolift coregister` and `geolift check`: what the two sensors say of each other."""

from __future__ import annotations

from pathlib import Path

import click

from geolift.cli.arguments import FilePath
from geolift.cli.command import command
from geolift.cli.console import Console
from geolift.cli.options import run_options, settings_options
from geolift.settings import PairSettings


@command("coregister")
@click.argument("hsi")
@click.argument("msi")
@click.option("-o", "--output", type=FilePath(), help="Also write the HSI with its transform corrected.")
@settings_options(PairSettings)
@run_options
def coregister_command(hsi: str, msi: str, output: Path | None, settings: PairSettings, console: Console) -> None:
    """Estimate the residual shift between HSI and MSI, with confidence and evidence.

    The MSI, degraded to the HSI's pixels, is matched with the MSI simulated from the HSI. The shift is the
    motion that brings the HSI onto the MSI, +dy down, +dx right. The HSI written with -o differs in its
    transform only; with --coregister local, where the shift varies over the scene, it is resampled.

    \b
    Examples:
      geolift coregister enmap.tif sentinel2.tif --sensor sentinel2 --json
      geolift coregister enmap.tif s2.tif --coregister local -o followed.tif
    """
    from geolift.pipeline import pair_check

    document = pair_check.coregister_files(hsi, msi, output, settings)
    shift, metres = document["shift_msi_px"], document["shift_m"]
    lines = [
        f"shift       dy {shift['dy']:+.3f}, dx {shift['dx']:+.3f} MSI pixels "
        f"({metres['dy']:+.2f} m down, {metres['dx']:+.2f} m right)",
        f"confidence  {document['confidence']:.3f}",
    ]
    if "reason" in document:
        lines.append(f"finding     {document['reason']}")
    if "local" in document:
        local = document["local"]
        found = "none" if local["degree"] == 0 else f"up to {local['largest_px']:.2f} MSI pixels"
        lines.append(f"variation   {found}: {local['reason']}")
    if document.get("output"):
        lines.append(f"output      {document['output']}")
    console.result("\n".join(lines), document)


@command("check")
@click.argument("hsi")
@click.argument("msi")
@settings_options(PairSettings, without=("overwrite",))  # it writes nothing
@run_options
def check_command(hsi: str, msi: str, settings: PairSettings, console: Console) -> None:
    """Check whether HSI and MSI fit: overlap, scale, offset, band order, sensor, shift, clouds.

    \b
    Example:
      geolift check enmap.tif sentinel2.tif --sensor sentinel2
    """
    from geolift.pair.checks import crosscheck
    from geolift.pipeline import pair_check

    document = pair_check.check_files(hsi, msi, settings)
    console.result("\n".join(crosscheck.lines(document)), document)
