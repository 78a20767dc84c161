"""Write docs/cli.md from the commands and docs/sensors.md from the library.

`make docs` runs it; a test fails when it was forgotten.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import click

from geolift import errors
from geolift.cli import cli
from geolift.srf import SpectralResponse, list_sensors

DOCS = Path(__file__).resolve().parent.parent / "docs"

CLI_HEAD = """# Commands

<!-- Written by tools/build_cli_reference.py from the commands; edit their help texts instead. -->

What `geolift COMMAND --help` prints, for every command. Inputs come first, the output last or with `-o`.
stdout carries the result only; progress, plan and warnings go to stderr.
"""

SENSORS_HEAD = """# Sensors

<!-- Written by tools/build_cli_reference.py from srf_library/. -->

The multispectral sensors whose spectral response ships with geolift, and the bands of each as centre/width in
nm. `geolift sensors NAME` shows the same with the source; `geolift sensors NAME --plot FILE.png` draws
the curves. Names are forgiving: `sentinel2`, `s2a`, `landsat8`, `wv3`, `superdove`. *Approximated* means
that only centre and width are published, and the curve is drawn from them. For any other sensor, pass
`--srf FILE`, a table `wavelength_nm,Band1,Band2,…`.
"""

EXIT_CODES = {
    0: "Done; warnings keep it 0.",
    1: "A bug: please report the traceback.",
    130: "Interrupted (Ctrl-C).",
    143: "Terminated.",
}


def _context(command: click.Command, name: str, parent: click.Context | None = None) -> click.Context:
    # A width of our own: the reader's terminal and its number of columns must not change the page.
    return command.make_context(name, [], parent, resilient_parsing=True, terminal_width=80, max_content_width=80)


def _section(level: int, context: click.Context) -> str:
    lines = context.command.get_help(context).replace("\b", "").splitlines()
    text = "\n".join(line.rstrip() for line in lines).strip()
    return f"{'#' * level} {context.command_path}\n\n```text\n{text}\n```\n"


def _exit_codes() -> str:
    meanings = dict(EXIT_CODES)
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, errors.GeoliftError) and kind.exit_code != 1:
            meanings[kind.exit_code] = " ".join((kind.__doc__ or "").split()).replace("``", "`")
    rows = [f"| {code} | {text} |" for code, text in sorted(meanings.items())]
    return "\n".join(["## Exit codes", "", "| code | meaning |", "|---|---|", *rows]) + "\n"


def reference() -> str:
    """Return the page's text."""
    context = _context(cli, "geolift")
    sections = [CLI_HEAD, _section(2, context)]
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        if command is None:
            raise LookupError(f"geolift lists the command {name}, but it cannot be loaded.")
        inner = _context(command, name, context)
        sections.append(_section(2, inner))
        if isinstance(command, click.Group):
            sections += [_section(3, _context(command.commands[sub], sub, inner)) for sub in sorted(command.commands)]
    return "\n".join([*sections, _exit_codes()])


def sensors() -> str:
    """Return the page of the library's sensors."""
    rows = ["| name | sensor | bands (centre/FWHM, nm) |", "|---|---|---|"]
    for name in list_sensors():
        srf = SpectralResponse.from_library(name)
        widths = zip(srf.band_names, srf.centres_nm, srf.fwhm_nm, strict=True)
        bands = ", ".join(f"{band} {centre:.0f}/{width:.0f}" for band, centre, width in widths)
        title = f"{srf.title} *(approximated)*" if srf.approximated else srf.title
        rows.append(f"| `{name}` | {title} | {bands} |")
    return "\n".join([SENSORS_HEAD, *rows]) + "\n"


PAGES = {"cli.md": reference, "sensors.md": sensors}

if __name__ == "__main__":
    for page, text in PAGES.items():
        (DOCS / page).write_text(text(), encoding="utf-8")
        print(DOCS / page, file=sys.stderr)
