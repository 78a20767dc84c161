"""`geolift train` and `geolift apply`: a model learned once, used for many images."""

from __future__ import annotations

import glob
from pathlib import Path

import click

from geolift.cli.arguments import FilePath
from geolift.cli.command import command
from geolift.cli.console import Console
from geolift.cli.options import dry_run_option, named_once, output_option, run_options, settings_options, tell
from geolift.errors import UsageError
from geolift.settings import ApplySettings, TrainSettings


@command("train")
@click.argument("hsi")
@output_option
@settings_options(TrainSettings)
@run_options
def train_command(hsi: str, output: Path | None, settings: TrainSettings, console: Console) -> None:
    """Learn the spectral inversion of HSI for a sensor; no MSI is needed.

    \b
    Example:
      geolift train enmap.tif --sensor sentinel2 -o enmap_s2.safetensors
    """
    target = output or Path(f"{Path(hsi).stem}.safetensors")
    from geolift.pipeline import fusion
    from geolift.pipeline.touched_files import Output, require_untouched

    read = (hsi, settings.srf, settings.wavelengths)
    require_untouched(read, [Output(target)], overwrite=settings.overwrite)
    trained = fusion.train(hsi, **settings.model_dump())
    trained.save(target)
    document = {
        "output": str(target),
        "sensor": trained.facts.sensor,
        "msi_bands": trained.facts.msi_bands,
        "train_pixels": trained.facts.train_pixels,
        "loss": trained.model.history[-1].loss if trained.model.history else None,
    }
    console.result(str(target), document)


@command("apply")
@click.argument("model", type=click.Path())
@click.argument("msi")
@click.argument("out", required=False, type=FilePath())
@output_option
@settings_options(ApplySettings)
@dry_run_option
@run_options
def apply_command(
    model: str,
    msi: str,
    out: Path | None,
    output: Path | None,
    settings: ApplySettings,
    dry_run: bool,
    console: Console,
) -> None:
    """Stream a saved MODEL over any MSI of its sensor: another date, the next tile.

    A pattern such as "tiles/*.tif" applies it to every match; -o is then a folder.

    \b
    Examples:
      geolift apply enmap_s2.safetensors other_date.tif -o other_date_fused.tif
      geolift apply enmap_s2.safetensors "tiles/*.tif" -o fused/
    """
    output = named_once(out, output)
    # Path.glob cannot take an absolute pattern.
    matches = sorted(glob.glob(msi)) if glob.has_magic(msi) and not Path(msi).exists() else []  # noqa: PTH207
    if matches:
        from geolift.batch.manifest import application_jobs
        from geolift.cli.batch import BatchSettings, run_jobs

        jobs = application_jobs(model, matches, (output or Path()).resolve(), settings)
        run_jobs(jobs, BatchSettings(), console, dry_run=dry_run)
        return
    from geolift.pipeline import files
    from geolift.writer import SUFFIXES

    target = output or Path(f"{Path(msi).stem}_fused{SUFFIXES[settings.of]}")

    if settings.extent == "overlap" and "extent" in settings.model_fields_set:
        raise UsageError("--extent overlap: a saved model has no HSI to overlap with; use --bounds")
    if dry_run:
        plan = files.plan_application(model, msi, target, settings)
        console.result("\n".join(f"{key:8}{value}" for key, value in plan.items()), plan)
        return
    result = files.apply_files(model, msi, target, settings)
    tell(result.output, result.sidecar, console)
    console.result(str(result.output), result.to_json())
