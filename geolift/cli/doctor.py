"""`geolift doctor`: is everything there that geolift needs, and does it work?"""

from __future__ import annotations

from geolift.cli.command import command
from geolift.cli.console import Console
from geolift.cli.options import run_options
from geolift.errors import GeoliftError


@command("doctor")
@run_options
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
