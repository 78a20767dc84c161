"""From what was typed to settings, or one sentence: the same for command line, manifest, TOML and Python."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from geolift.errors import UsageError
from geolift.settings.base import Settings

Model = TypeVar("Model", bound=Settings)


def validated(
    model: type[Model], values: Mapping[str, Any], spelled: Callable[[str], str] = str, *, given: Model | None = None
) -> Model:
    """Return the settings that values make.

    Parameters
    ----------
    values
        Option → value, as typed in a terminal, a table, TOML or Python.
    spelled
        How the reader of an error writes an option's name: ``tile_size``, or ``--tile-size``.
    given
        Settings that the values take precedence over.

    Raises
    ------
    UsageError
        One sentence: the option, what is expected, what was got.
    """
    if given is not None and not isinstance(given, Settings):
        raise UsageError(
            f"settings: {model.__name__}(…), or options by name such as seed=3, are expected (got {given!r}); a result "
            "is written with geolift.write(result, path)"
        )
    before = {} if given is None else {name: getattr(given, name) for name in given.model_fields_set}
    try:
        return model.model_validate({**before, **values})
    except ValidationError as error:
        raise UsageError(_sentence(model, error.errors()[0], spelled)) from None


def _sentence(model: type[Settings], first: ErrorDetails, spelled: Callable[[str], str]) -> str:
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    name = str(first["loc"][0])
    if first["type"] != "extra_forbidden":
        return f"{spelled(name)}: {message[:1].lower()}{message[1:]} (got {first['input']!r})"
    near = difflib.get_close_matches(name, model.model_fields, n=1)
    hint = f"did you mean {spelled(near[0])}?" if near else f"known are {', '.join(map(spelled, model.model_fields))}"
    return f"unknown option {spelled(name)}; {hint}"
