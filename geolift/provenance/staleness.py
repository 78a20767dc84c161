"""Whether a product that is there is the one that a run would make, told by its sidecar."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from geolift.provenance.sidecar import dump_settings, input_facts, sidecar_path
from geolift.settings import Settings


def change_since(
    facts: Mapping[str, Any],
    output: Path,
    inputs: Mapping[str, str],
    settings: Settings,
    side_products: Mapping[str, Path],
) -> str:
    """Tell the first thing that differs from the run that made the product; "" if nothing does.

    ``facts``: what the product's sidecar tells: its ``inputs`` and ``settings``. ``side_products``: option → file that
    the run makes beside its output.
    """
    if set(facts["inputs"]) != set(inputs):
        return f"made from {' and '.join(facts['inputs'])}"
    for name, path in inputs.items():
        then, now = facts["inputs"][name], input_facts(path)
        if then != now:
            word = "another file" if then.get("href") != now.get("href") else "changed since"
            return f"{name} is {word}"
    option = _changed_option(facts["settings"], settings)
    if option:
        return option
    made = sidecar_path(output).stat().st_mtime
    for name, path in inputs.items():
        # The sidecar knows of a product's folder only its name.
        if Path(path).is_dir() and any(file.stat().st_mtime > made for file in Path(path).rglob("*")):
            return f"{name} is changed since"
    for file in side_products.values():
        if not file.exists():
            return f"{file.name} is not there"
    for name, file in _files_named_by(settings):
        if (
            name not in {*side_products, *settings.with_effect("run")}
            and file.is_file()
            and file.stat().st_mtime > made
        ):
            return f"{name} {file.name} changed since"
    return ""


def _changed_option(before: Mapping[str, Any], settings: Settings) -> str:
    now, defaults = dump_settings(settings), dump_settings(type(settings)())
    for name in now.keys() - settings.with_effect("run"):
        if before.get(name, defaults[name]) != now[name]:
            return f"{name} was {before.get(name, defaults[name])}, is {now[name]}"
    return ""


def _files_named_by(settings: Settings) -> Iterator[tuple[str, Path]]:
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Path):
            yield name, value
