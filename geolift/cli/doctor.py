"""`geolift doctor`: is everything there that geolift needs, and does it work?"""

from __future__ import annotations

import click

from geolift.cli import version_option
from geolift.cli.console import Console
from geolift.cli.options import run_options
from geolift.errors import GeoliftError


@click.command("doctor")
@run_options
@version_option
def doctor_command(console: Console) -> None:
    """Check versions, GDAL and PROJ data, threads, memory, GPU, and fuse a tiny scene.

    \b
    Example:
      geolift doctor
    """
    from geolift.demo import doctor

    document = doctor.examine()
    console.result("\n".join(doctor.lines(document)), document)
    if not document["healthy"]:
        raise GeoliftError("the self-test failed; see above")
