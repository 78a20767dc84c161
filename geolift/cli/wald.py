"""`geolift simulate` and `geolift evaluate`: Wald's protocol."""

from __future__ import annotations

from pathlib import Path

import click

from geolift.cli.arguments import FilePath
from geolift.cli.command import command
from geolift.cli.console import Console
from geolift.cli.options import run_options, settings_options
from geolift.settings import EvaluateSettings, SimulateSettings


@command("simulate")
@click.argument("hsi")
@click.option("-o", "--output", type=FilePath(file_okay=False), required=True, help="Folder.")
@settings_options(SimulateSettings)
@run_options
def simulate_command(hsi: str, output: Path, settings: SimulateSettings, console: Console) -> None:
    """Degrade HSI into lr_hsi, hr_msi and reference (Wald's protocol).

    Blur with the PSF, average ratio × ratio blocks, add noise; the MSI is the SRF applied to the HSI.

    \b
    Example:
      geolift simulate enmap.tif --sensor sentinel2 --ratio 3 -o triple/
    """
    from geolift.pipeline import wald

    document = wald.simulate_files(hsi, output, settings)
    console.result("\n".join(document["outputs"].values()), document)


@command("evaluate")
@click.argument("product")
@click.argument("reference")
@click.option(
    "--require",
    multiple=True,
    metavar="RULE",
    help='Fail with exit code 6 unless the rule holds: "sam<3", "psnr>35"; repeatable.',
)
@settings_options(EvaluateSettings)
@run_options
def evaluate_command(
    product: str, reference: str, require: tuple[str, ...], settings: EvaluateSettings, console: Console
) -> None:
    """Measure PRODUCT against REFERENCE: RMSE, PSNR, SSIM, UIQI, ERGAS, SAM.

    \b
    Example:
      geolift evaluate fused.tif triple/reference.tif --require "sam<3"
    """
    from geolift.metrics import quality_gate
    from geolift.pipeline import wald

    rules = [quality_gate.parse(text) for text in require]
    scores = wald.evaluate(product, reference, **settings.model_dump())
    lines = [
        f"RMSE   {scores.rmse:.6g}",
        f"PSNR   {scores.psnr_db:.3f} dB (peak {scores.data_range:.4g})",
        f"SSIM   {scores.ssim:.5f}",
        f"UIQI   {scores.uiqi:.5f}",
        f"ERGAS  {scores.ergas:.4f}" if scores.ergas == scores.ergas else "ERGAS  – (pass --ratio)",
        f"SAM    {scores.sam_deg:.3f}°",
        f"over {scores.n_pixels} pixels valid in both, {scores.n_invalid_pixels} left out",
    ]
    console.result("\n".join(lines), wald.scores_json(scores))
    quality_gate.enforce(rules, scores)
