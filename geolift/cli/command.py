"""How every command presents itself: options under headings, the ones that matter first, `--version`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import click

from geolift.cli import version_option
from geolift.cli.arguments import require_values
from geolift.settings import Group

MAIN = "Options"
RUN = "Run and messages"
ADVANCED = {group: f"{group.capitalize()} (advanced)" for group in get_args(Group)}


class Option(click.Option):
    """An option that knows its heading; of a switch, the help shows the side that changes something."""

    def __init__(self, *names: Any, heading: str = "", **facts: Any) -> None:
        super().__init__(*names, **facts)
        self.heading = heading

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the option as the help shows it."""
        record = super().get_help_record(ctx)
        if record is None or not self.secondary_opts:
            return record
        return record[0].partition(" / ")[0], record[1]


class Command(click.Command):
    """A command whose help is read: a few options first, the others in groups; none of them swallows another."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse an option where a value is missing."""
        require_values(ctx, self.get_params(ctx), args)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings; under one, where there are few."""
        params = self.get_params(ctx)
        grouped = any(getattr(param, "heading", "") in ADVANCED.values() for param in params)
        sections: dict[str, list[tuple[str, str]]] = {name: [] for name in (MAIN, *ADVANCED.values(), RUN)}
        for param in params:
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                own = getattr(param, "heading", "") or (RUN if param.name in ("help", "version") else MAIN)
                sections[own if grouped else MAIN].append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def option(*names: str, **facts: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return click's option decorator for an `Option`: ``heading`` is where the help shows it."""
    return click.option(*names, cls=Option, **facts)


def command(name: str, **facts: Any) -> Callable[[Callable[..., Any]], Command]:
    """Return the decorator that makes a function a command of geolift."""

    def decorate(function: Callable[..., Any]) -> Command:
        return click.command(name, cls=Command, **facts)(version_option(function))

    return decorate
