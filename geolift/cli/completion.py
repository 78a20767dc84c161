"""`geolift completion`: the shell completion script."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from geolift.cli import cli
from geolift.cli.command import command


@command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    Example:
      geolift completion bash >> ~/.bashrc
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "geolift", "_GEOLIFT_COMPLETE").source())
