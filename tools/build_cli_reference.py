"""Write docs/cli.md from the commands themselves; `make docs` runs it, a test fails when it was forgotten."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import click

from geolift import errors
from geolift.cli import cli

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"

HEAD = """# Commands

<!-- Written by tools/build_cli_reference.py from the commands; edit their help texts instead. -->

What `geolift COMMAND --help` prints, for every command. Inputs come first, the output last or with `-o`.
stdout carries the result only; progress, plan and warnings go to stderr.
"""

EXIT_CODES = {
    0: "Done; warnings keep it 0.",
    1: "A bug: please report the traceback.",
    130: "Interrupted (Ctrl-C).",
    143: "Terminated.",
}


def _help_text(command: click.Command, name: str) -> str:
    # A width of our own: the reader's terminal and its number of columns must not change the page.
    context = click.Context(command, info_name=name, terminal_width=100, max_content_width=100)
    lines = command.get_help(context).replace("\b", "").splitlines()
    return "\n".join(line.rstrip() for line in lines).strip()


def _section(level: int, name: str, command: click.Command) -> str:
    return f"{'#' * level} {name}\n\n```text\n{_help_text(command, name)}\n```\n"


def _exit_codes() -> str:
    meanings = dict(EXIT_CODES)
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, errors.GeoliftError) and kind.exit_code != 1:
            meanings[kind.exit_code] = " ".join((kind.__doc__ or "").split()).replace("``", "`")
    rows = [f"| {code} | {text} |" for code, text in sorted(meanings.items())]
    return "\n".join(["## Exit codes", "", "| code | meaning |", "|---|---|", *rows]) + "\n"


def reference() -> str:
    """Return the page's text."""
    context = click.Context(cli, info_name="geolift")
    sections = [HEAD, _section(2, "geolift", cli)]
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        if command is None:
            raise LookupError(f"geolift lists the command {name}, but it cannot be loaded.")
        sections.append(_section(2, f"geolift {name}", command))
        if isinstance(command, click.Group):
            sections += [
                _section(3, f"geolift {name} {sub}", command.commands[sub])
                for sub in sorted(command.commands)
            ]
    return "\n".join([*sections, _exit_codes()])


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
    print(PAGE, file=sys.stderr)
