"""Click options built from the settings models, so that name, default, rule and help stand in one place."""

from __future__ import annotations

import functools
import os
import re
import tomllib
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
from pydantic_core import PydanticUndefined

from geolift.cli import configuration
from geolift.cli.arguments import FilePath
from geolift.cli.command import ADVANCED, MAIN, RUN, option
from geolift.cli.console import Console
from geolift.errors import InputError, UsageError
from geolift.runtime.progress import heard_by
from geolift.settings import Settings
from geolift.settings.validation import validated

Model = TypeVar("Model", bound=Settings)
Command = Callable[..., Any]
AT_ONCE = {"sensors", "install"}
METAVARS = {int: "INTEGER", float: "NUMBER", Path: "FILE", str: "TEXT"}


def settings_options(model: type[Settings], without: tuple[str, ...] = ()) -> Callable[[Command], Command]:
    """Give a command one option for each field of a settings model, and ``settings`` instead of them all.

    The values come from the command line, then ``GEOLIFT_*``, then ``--config FILE``, then the defaults;
    ``--show-config`` tells each of them and where it came from, and stops.
    Fields named in ``without`` keep their default.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_settings(*args: Any, show_config: bool = False, **kwargs: Any) -> Any:
            config = click.get_current_context().meta.get("geolift.config")
            given = {
                name: value
                for name in model.model_fields
                if (value := kwargs.pop(name, None)) is not None and value != ()
            }
            in_file = _from_file(config, model)
            settings = _validated(model, in_file | given)
            _require_kept(config)
            if show_config:
                click.echo("\n".join(configuration.lines(settings, in_file, config, click.get_current_context())))
                return None
            return command(*args, settings=settings, **kwargs)

        wrapped: Command = with_settings
        wrapped = option(
            "--show-config",
            is_flag=True,
            heading=RUN,
            help="Print every option as TOML, with where its value came from, and stop.",
        )(wrapped)
        for name in reversed([name for name in model.in_reading_order() if name not in without]):
            wrapped = _option(name, model.model_fields[name], model)(wrapped)
        return wrapped

    return decorate


def _extra(field: Any) -> dict[str, Any]:
    return field.json_schema_extra or {}


def _option(name: str, field: Any, model: type[Settings]) -> Callable[[Command], Command]:
    kind, extra = _bare(field.annotation), _extra(field)
    heading = MAIN if extra.get("main") else ADVANCED[model.group_of(name)]
    flag = f"--{name.replace('_', '-')}"
    if kind is bool:
        switch = f"{flag}/--no-{name.replace('_', '-')}"
        return option(switch, name, default=None, heading=heading, help=field.description)
    default = ",".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
    shown = default if default not in (None, PydanticUndefined, "") else False
    choices = [str(c) for c in typing.get_args(kind)] if typing.get_origin(kind) is Literal else None
    metavar = extra.get("metavar")
    return option(
        *(["-f", "-of", "--of"] if name == "of" else [flag]),
        name,
        type=click.Choice(choices, case_sensitive=False) if choices else _click_type(kind),
        default=None,
        metavar=metavar or (f"[{'|'.join(choices)}]" if choices else METAVARS.get(kind)),
        multiple=name == "co" or bool(extra.get("repeatable")),
        heading=heading,
        shell_complete=complete_sensor if name == "sensor" else None,
        help=_help(field.description, shown),
    )


def complete_sensor(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of sensors that begin so, for the shell; what they are also called comes after them."""
    from geolift.srf import sensor_names

    return [name for name in sensor_names() if name.startswith(incomplete.lower())]


def _help(text: str | None, default: Any) -> str:
    return f"{text or ''}  [default: {default}]" if default is not False else (text or "")


def _bare(annotation: Any) -> Any:
    """Strip Optional and Annotated; str for what takes several kinds of value."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
        return _bare(kinds[0]) if len(kinds) == 1 else str
    if typing.get_origin(annotation) is typing.Annotated:
        return _bare(typing.get_args(annotation)[0])
    return annotation


def _click_type(kind: Any) -> Any:
    if kind is Path:
        return FilePath()
    # Numbers arrive as text and are judged by the model, so that one rule speaks in one place.
    return click.STRING


def _validated(model: type[Model], values: Mapping[str, object]) -> Model:
    try:
        return validated(model, values, spelled=flag_of)
    except UsageError as error:
        raise click.UsageError(str(error)) from error


def flag_of(name: str) -> str:
    """Return an option's name as it is typed."""
    return "--" + name.replace("_", "-")


def _from_file(config: Path | None, model: type[Settings]) -> dict[str, object]:
    """Read options from TOML, or the settings of an earlier run from its sidecar."""
    if config is None:
        return {}
    from geolift.provenance.sidecar import settings_of_run

    try:
        if config.suffix.lower() == ".json":
            found = settings_of_run(config)
        else:
            found = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{config}: cannot be read as a configuration: {error}") from error
    found = {name.replace("-", "_"): value for name, value in found.items()}
    run = {name: found.pop(name) for name in ("hsi", "msi", "model", "output") if name in found}
    click.get_current_context().meta["geolift.run"] = run
    unknown = sorted(set(found) - set(model.model_fields))
    if unknown:
        raise InputError(f"{config}: unknown option {unknown[0]!r}; known are {', '.join(model.model_fields)}")
    return {name: value for name, value in found.items() if value is not None}


def _require_kept(config: Path | None) -> None:
    """Refuse to write over the file of options. Raises UsageError."""
    for value in click.get_current_context().params.values():
        if config is not None and isinstance(value, Path) and value.exists() and value.samefile(config):
            raise click.UsageError(f"{value}: is read by --config; give the output another name.")


def from_run(name: str, given: Any) -> Any:
    """Return what was given, or what the file behind --config says of an earlier run's inputs and output."""
    return given if given is not None else click.get_current_context().meta.get("geolift.run", {}).get(name)


def named_once(argument: Path | None, given: Path | None) -> Path | None:
    """Return the output, which is the last argument or what -o says."""
    if argument is not None and given is not None and argument != given:
        raise click.UsageError(f"two outputs are named: {argument} and, with -o, {given}; name one.")
    return argument or given


def run_options(command: Command) -> Command:
    """Give a command the options of how it talks, and a ``console`` built from them."""

    @functools.wraps(command)
    def with_console(*args: Any, progress: str, quiet: bool, verbose: int, as_json: bool, **kwargs: Any) -> Any:
        title = _title(click.get_current_context())
        console = Console(progress, quiet=quiet, verbose=verbose, as_json=as_json, title=title)
        with console, heard_by(console):
            return command(*args, console=console, **kwargs)

    wrapped: Command = with_console
    wrapped = option("--json", "as_json", is_flag=True, heading=RUN, help="Print the result as one JSON document.")(
        wrapped
    )
    wrapped = option("-v", "--verbose", count=True, metavar="", heading=RUN, help="Say more; repeatable.")(wrapped)
    wrapped = option("-q", "--quiet", is_flag=True, heading=RUN, help="Say nothing but errors.")(wrapped)
    wrapped = option(
        "--config",
        type=FilePath(),
        multiple=True,
        metavar="FILE|KEY=VALUE",
        heading=RUN,
        expose_value=False,
        callback=configure,
        help="Options from a TOML file, or from the sidecar of an earlier run to repeat it; KEY=VALUE is for GDAL.",
    )(wrapped)
    return option(
        "--progress",
        type=click.Choice(["auto", "bar", "plain", "gdal", "json", "none"]),
        default="auto",
        heading=RUN,
        help="How progress is shown on stderr; gdal is 0...10...20 as gdal_translate has it.  [default: auto]",
    )(wrapped)


def configure(ctx: click.Context, _: click.Parameter, given: tuple[Path, ...]) -> None:
    """Take a file of options, and set GDAL's own: as variables, so that threads and processes of the run have them."""
    for value in given:
        key, sign, text = str(value).partition("=")
        if sign and re.fullmatch(r"\w+", key) and not value.exists():
            os.environ[key] = text
        elif not any(param.name == "show_config" for param in ctx.command.params):
            raise click.UsageError(f"--config {value}: this command has no file of options; expected is KEY=VALUE.")
        elif ctx.meta.setdefault("geolift.config", value) != value:
            raise click.UsageError(f"two files of options are named: {ctx.meta['geolift.config']} and {value}.")


def tell(output: Path, item: Mapping[str, object], console: Console, report: Path | None = None) -> None:
    """Sum a finished run up for a person, from its sidecar; the warnings that a log has heard are not repeated."""
    from geolift.report import summary

    shown = 0 if console.mode == "plain" else summary.SHOWN_WARNINGS
    console.summary(summary.lines(output, item, report, warnings=shown))


def _title(ctx: click.Context) -> str:
    """Return what is at work, said before anything heavy is loaded; nothing where the answer comes at once."""
    if ctx.info_name in AT_ONCE:
        return ""
    names = [param.name or "" for param in ctx.command.params if isinstance(param, click.Argument)]
    inputs = (ctx.params.get(name) for name in names)
    return " ".join([str(ctx.info_name), *(str(value) for value in inputs if value)])


output_option = option("-o", "--output", type=FilePath(), metavar="FILE", help="Output file.")
dry_run_option = option("--dry-run", is_flag=True, heading=RUN, help="Print the plan and stop.")
