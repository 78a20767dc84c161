"""`geolift benchmark`: sweeps of degradations and methods."""

from __future__ import annotations

from pathlib import Path

import click

from geolift.cli.arguments import FilePath
from geolift.cli.command import command
from geolift.cli.console import Console
from geolift.cli.options import run_options, settings_options
from geolift.errors import PartlyFailed
from geolift.settings import BenchmarkSettings


@command("benchmark")
@click.argument("scenes", nargs=-1, required=True, metavar="SCENE...")
@click.option("-o", "--output", type=FilePath(dir_okay=False), required=True, help="CSV of the cases.")
@settings_options(BenchmarkSettings)
@run_options
def benchmark_command(scenes: tuple[str, ...], output: Path, settings: BenchmarkSettings, console: Console) -> None:
    """Degrade each SCENE, fuse it again by every method, and measure the products: HyperBench's axes and measures.

    Scenes are MATLAB files with a cube, or anything geolift reads. Each case is a row of the CSV, written as soon as it
    is done; a case that fails leaves its error there and the sweep goes on. A table comes at the end, of all the CSV
    holds, and a picture of it beside the CSV. Exits with 0, or with the code of the first case that failed.

    \b
    Examples:
      geolift benchmark scenes/*.mat --psf gaussian,moffat --ratio 4,8 -o out.csv
      geolift benchmark scenes/*.mat --method spectralift --seed 0,1,2 -o out.csv
      geolift benchmark enmap.tif --sensor s2a --method linear,auto -o enmap.csv
    """
    from geolift.benchmark import summary, sweep

    found = sweep.run(scenes, output, settings)
    lines = summary.lines_of(found.rows)
    picture = sweep.picture_of(output)
    drawn = any(line.means for line in lines)
    if drawn:
        summary.draw([line for line in lines if line.means], picture)
    document = {
        "csv": str(output),
        "picture": str(picture) if drawn else None,
        "cases": {"done": found.done, "skipped": found.skipped, "failed": found.failed},
        "table": summary.as_records(lines),
    }
    console.result(summary.as_text(lines), document)
    if found.failed:
        raise PartlyFailed(f"{found.failed} of {found.done + found.failed} cases failed: see {output}", found.exit_code)
