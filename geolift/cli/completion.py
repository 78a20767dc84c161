"""`geolift completion`: the shell completion script."""

from __future__ import annotations

import os

import click
from click.shell_completion import (
    CompletionItem,
    ShellComplete,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

from geolift.cli import cli
from geolift.cli.command import command

POWERSHELL = """\
Register-ArgumentCompleter -Native -CommandName %(prog_name)s -ScriptBlock {
    param($word, $line, $position)
    $env:%(complete_var)s = "powershell_complete"
    $env:COMP_WORDS = "$line"
    $env:COMP_CWORD = $word
    try {
        %(prog_name)s | ForEach-Object {
            $value, $help = $_ -split "`t", 2
            if (-not $help) { $help = $value }
            [System.Management.Automation.CompletionResult]::new($value, $value, "ParameterValue", $help)
        }
    } finally {
        Remove-Item Env:%(complete_var)s, Env:COMP_WORDS, Env:COMP_CWORD -ErrorAction SilentlyContinue
    }
}
"""


class PowerShellComplete(ShellComplete):
    """Completion for PowerShell, which Click lacks; names of files are left to PowerShell."""

    name = "powershell"
    source_template = POWERSHELL

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is typed, and that one."""
        incomplete = os.environ.get("COMP_CWORD", "")
        words = split_arg_string(os.environ["COMP_WORDS"])[1:]
        if incomplete and words and words[-1] == incomplete:
            words.pop()
        return words, incomplete

    def complete(self) -> str:
        """Return a line for each name that fits."""
        found = self.get_completions(*self.get_completion_args())
        return "\n".join(self.format_completion(item) for item in found if item.type == "plain")

    def format_completion(self, item: CompletionItem) -> str:
        """Return a name, and what it is after a tab."""
        return f"{item.value}\t{item.help}" if item.help else str(item.value)


add_completion_class(PowerShellComplete)


@command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish", "powershell"]))
def completion_command(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    Examples:
      geolift completion bash >> ~/.bashrc
      geolift completion powershell >> $PROFILE
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "geolift", "_GEOLIFT_COMPLETE").source())
