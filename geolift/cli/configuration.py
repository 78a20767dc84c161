"""`--show-config`: every option with its value and where the value came from, as a TOML file that can be used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from geolift.settings import Settings

ORIGINS = {ParameterSource.COMMANDLINE: "command line", ParameterSource.ENVIRONMENT: "environment"}


def lines(settings: Settings, in_file: Mapping[str, Any], config: Path | None, ctx: click.Context) -> list[str]:
    """Return the lines of a TOML file that repeats these settings; what is not set is a comment.

    ``in_file``, ``config``: what the file behind ``--config`` says, and its name. ``ctx``: the command's context, which
    knows what was given and how.
    """
    values = settings.model_dump(mode="json")
    rows = []
    for name in settings.in_reading_order():
        value, source = values[name], ctx.get_parameter_source(name)
        origin = ORIGINS.get(source) if source is not None else None
        if origin == "environment":
            origin = f"environment {_variable(name, ctx)}"
        rows.append((name.replace("_", "-"), value, origin or (str(config) if name in in_file else "default")))
    texts = [f"{name} = {_toml(value)}" if value is not None else f"# {name}" for name, value, _ in rows]
    width = min(max(map(len, texts)), 48)
    return [f"{text:<{width}}  # {origin}" for text, (_, _, origin) in zip(texts, rows, strict=True)]


def _variable(name: str, ctx: click.Context) -> str:
    return f"{ctx.auto_envvar_prefix}_{name.upper()}" if ctx.auto_envvar_prefix else name.upper()


def _toml(value: Any) -> str:
    """Return a value as TOML writes it: for what settings hold, its JSON.

    >>> _toml(["B02", "B03"]), _toml(False), _toml(1.5)
    ('["B02", "B03"]', 'false', '1.5')
    """
    # Python writes nan and inf as TOML does, JSON does not.
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
