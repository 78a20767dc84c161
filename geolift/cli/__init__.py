"""The command line: one file per command group, loaded only when it is called."""

from __future__ import annotations

import importlib
import os

import click

# Name → (module, one-line help). Help of the group needs no command's imports, so that it appears at once.
COMMANDS = {
    "fuse": ("geolift.cli.fuse", "Fuse an HSI with an MSI: all bands at the fine pixels."),
    "train": ("geolift.cli.model", "Learn the spectral inversion of one HSI and save it."),
    "apply": ("geolift.cli.model", "Stream a saved model over any MSI of its sensor."),
    "coregister": ("geolift.cli.compare", "Tell the residual shift between HSI and MSI, with confidence."),
    "check": ("geolift.cli.compare", "Check scale, offset, band order, sensor, shift of a pair."),
    "batch": ("geolift.cli.batch", "Fuse many pairs from a manifest, go on after a failure."),
    "spectra": ("geolift.cli.spectra", "Write the spectra of products at points and polygons."),
    "mosaic": ("geolift.cli.mosaic", "Put products of one grid together."),
    "info": ("geolift.cli.inspect", "Tell what geolift understood of a file."),
    "sensors": ("geolift.cli.inspect", "List the sensors, or one sensor's bands."),
    "simulate": ("geolift.cli.wald", "Degrade one HSI into LR-HSI + HR-MSI + reference (Wald's protocol)."),
    "evaluate": ("geolift.cli.wald", "Measure a product against its reference."),
    "benchmark": (
        "geolift.cli.benchmark",
        "Sweep degradations and methods over scenes; HyperBench's axes and measures.",
    ),
    "report": ("geolift.cli.report", "Write the HTML report of a finished run."),
    "demo": ("geolift.cli.demo", "Make a small realistic pair, fuse it, evaluate it, draw it."),
    "doctor": ("geolift.cli.doctor", "Check the installation with a self-test."),
    "qgis": ("geolift.cli.qgis", "Put geolift into QGIS's Processing toolbox."),
    "completion": ("geolift.cli.completion", "Print the shell completion script."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of a user's day."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and return the command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        return getattr(module, f"{cmd_name}_command")  # type: ignore[no-any-return]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest command for a misspelt one."""
        name = args[0]
        if not name.startswith("-") and name not in COMMANDS:
            import difflib

            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {name!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"geolift {version('geolift')}")
        ctx.exit()


version_option = click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@version_option
def cli() -> None:
    """Fuse a hyperspectral image with a multispectral one.

    All the bands of the HSI, at the pixels of the MSI, in your CRS.

    \b
    Example:
      geolift fuse enmap.tif sentinel2.tif --sensor sentinel2 -o fused.tif
    """


def main() -> None:
    """Run the command line; every GeoliftError becomes one line and its exit code."""
    if "_GEOLIFT_COMPLETE" in os.environ:  # a shell asks what completes a word, and wants Click's bytes
        importlib.import_module("geolift.cli.completion")
        cli(prog_name="geolift")
    from geolift.cli.run import run

    run(cli)
