"""`geolift demo`: the whole job on a bundled scene."""

from __future__ import annotations

from pathlib import Path

import click

from geolift.cli.command import command
from geolift.cli.console import Console
from geolift.cli.options import run_options


@command("demo")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default="geolift-demo")
@click.option("--overwrite", is_flag=True, help="Replace the demo's files if they exist.")
@run_options
def demo_command(folder: Path, overwrite: bool, console: Console) -> None:
    """Make a realistic pair in FOLDER, fuse it, evaluate it, draw it.

    \b
    Example:
      geolift demo my-demo
    """
    from geolift.demo import showcase

    document = showcase.run(folder, overwrite=overwrite)
    scores, files = document["scores"], document["outputs"]
    text = [
        f"HSI      {files['hsi']}   224 bands, 30 m",
        f"MSI      {files['msi']}   4 bands, 10 m",
        f"product  {files['fused']}   224 bands, 10 m",
        f"truth    {files['truth']}",
        f"picture  {files['picture']}",
        f"PSNR {scores['psnr_db']:.2f} dB, SAM {scores['sam_deg']:.2f}°, ERGAS {scores['ergas']:.2f}, "
        f"SSIM {scores['ssim']:.4f} against the truth",
        f"The fusion by hand: {document['command']} --overwrite",
    ]
    console.result("\n".join(text), document)
