"""`geolift fuse`: the main job."""

from __future__ import annotations

import json
from pathlib import Path

import click

from geolift.cli.arguments import FilePath
from geolift.cli.command import ADVANCED, command, option
from geolift.cli.console import Console
from geolift.cli.options import dry_run_option, from_run, named_once, output_option, run_options, settings_options, tell
from geolift.settings import FuseSettings


@command("fuse")
@click.argument("hsi", required=False)
@click.argument("msi", required=False)
@click.argument("out", required=False, type=FilePath())
@option(
    "--msi",
    "msi_files",
    multiple=True,
    metavar="FILE",
    heading=ADVANCED["input"],
    help="A single-band file of the MSI, instead of MSI; repeatable.",
)
@output_option
@settings_options(FuseSettings)
@dry_run_option
@run_options
def fuse_command(
    hsi: str | None,
    msi: str | None,
    msi_files: tuple[str, ...],
    out: Path | None,
    output: Path | None,
    settings: FuseSettings,
    dry_run: bool,
    console: Console,
) -> None:
    """Fuse HSI with MSI: all HSI bands on the MSI's grid.

    Without OUT the output is <HSI stem>_fused.tif in the current folder. A sidecar
    of the same name with the suffix .json tells everything about the run;
    `geolift fuse --config OUT.json` repeats it.

    \b
    Examples:
      geolift fuse enmap.tif sentinel2.tif fused.tif --sensor sentinel2
      geolift fuse enmap/ S2A_MSIL2A_20230821T221941.SAFE -o fused.tif
      geolift fuse hsi.tif --msi B02.tif --msi B03.tif --msi B04.tif --sensor s2a
      geolift fuse hsi.tif msi.tif --sensor wv3 --msi-bands Blue,Green,Red,NIR1
    """
    if msi is not None and msi_files:
        raise click.UsageError("MSI and --msi exclude each other.")
    hsi, source = from_run("hsi", hsi), from_run("msi", msi_files or msi)
    if hsi is None or source is None:
        raise click.UsageError("Missing argument: HSI and MSI, or --config with the sidecar of an earlier run.")
    from geolift.pipeline import files
    from geolift.writer import SUFFIXES

    default = Path(f"{Path(hsi).stem}_fused{SUFFIXES[settings.of]}")
    target = Path(from_run("output", named_once(out, output)) or default)

    if dry_run:
        plan = files.plan_files(hsi, source, target, settings)
        for text in plan.warnings:
            console.warn(text)
        console.result("\n".join(plan.lines()), plan.to_json())
        return
    result = files.fuse_files(hsi, source, target, settings)
    console.note(json.dumps(result.sidecar["properties"]["geolift:written"]), level=1)
    tell(result.output, result.sidecar, console, settings.report)
    console.result(str(result.output), result.to_json())
