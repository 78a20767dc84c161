"""`geolift qgis`: the plugin for QGIS."""

from __future__ import annotations

from pathlib import Path

import click

from geolift.cli import cli, version_option
from geolift.cli.console import Console
from geolift.cli.options import run_options


@click.group("qgis")
@version_option
def qgis_command() -> None:
    """Work with QGIS: put geolift into its Processing toolbox.

    \b
    Example:
      geolift qgis install
    """


@qgis_command.command("install")
@click.option("--profile", help="QGIS user profile.  [default: the one QGIS starts with]")
@click.option(
    "--profiles-path",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that holds QGIS's folder `profiles`, if it is not in its usual place.",
)
@run_options
def install_command(profile: str | None, profiles_path: Path | None, console: Console) -> None:
    """Put the plugin into QGIS's profile folder, tell it where this geolift is, and switch it on.

    Run it again after geolift was upgraded or moved: the forms then offer what the new one can do. Start QGIS anew
    afterwards.

    \b
    Examples:
      geolift qgis install
      geolift qgis install --profile teaching
    """
    import os

    from geolift.qgis import install

    folders = [profiles_path] if profiles_path else install.data_folders(os.environ, Path.home())
    installed = [
        str(install.install(found))
        for found in install.find_profiles(profile, folders, given=profiles_path is not None)
    ]
    document = {"installed": installed, "command": install.own_command()}
    console.result("\n".join(installed), document)


@qgis_command.command("zip")
@click.argument("output", type=click.Path(path_type=Path, dir_okay=False), default="geolift_qgis.zip")
@click.option("--overwrite", is_flag=True, help="Replace the ZIP if it exists.")
@run_options
def zip_command(output: Path, overwrite: bool, console: Console) -> None:
    """Write the plugin as a ZIP, for QGIS's own installer and the plugin repository.

    In QGIS: Plugins, Manage and Install Plugins, Install from ZIP. The command
    geolift itself is installed on its own.

    \b
    Example:
      geolift qgis zip geolift_qgis.zip
    """
    from geolift.pipeline.touched_files import Output, require_untouched
    from geolift.qgis import install

    require_untouched([], [Output(output)], overwrite=overwrite)
    install.write_zip(output)
    console.result(str(output), {"output": str(output), "size": output.stat().st_size})


@qgis_command.command(
    "run",
    hidden=True,
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run_command(arguments: tuple[str, ...]) -> None:
    """Run a command for the plugin: it ends when its stdin is closed.

    \b
    Example:
      geolift qgis run fuse hsi.tif msi.tif --sensor sentinel2
    """
    from geolift.cli import watchdog

    watchdog.hold()
    cli.main(list(arguments), prog_name="geolift", standalone_mode=False, auto_envvar_prefix="GEOLIFT")
