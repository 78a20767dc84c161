"""Values on the command line: an option is never one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click


class FilePath(click.Path):
    """A file; a name that begins with a dash is a forgotten value."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse what looks like an option, and what no file system takes."""
        if str(value).startswith("-"):
            self.fail(f"{value!r} is an option, no file name; a value is missing before it.", param, ctx)
        if not str(value).strip() or "\0" in str(value):
            self.fail(f"{value!r} is no name of a file.", param, ctx)
        return super().convert(value, param, ctx)


def require_values(ctx: click.Context, params: Sequence[click.Parameter], args: Sequence[str]) -> None:
    """Refuse an option where the value of another one is expected, before Click takes it for one."""
    known = [param for param in params if isinstance(param, click.Option)]
    options = {name: option for option in known for name in (*option.opts, *option.secondary_opts)}
    for word, following in itertools.pairwise(args):
        if word == "--":
            return
        option = options.get(word)
        if option and not (option.is_flag or option.count) and following.partition("=")[0] in options:
            raise click.UsageError(f"Option {word!r} needs a value; {following!r} is an option.", ctx)
