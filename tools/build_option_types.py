"""Write geolift/settings/typed.py: the options of each public function as a TypedDict, from the settings models.

Editors complete them and mypy checks them: ``geolift.fuse(hsi, msi, **options: Unpack[FuseOptions])``.

    python tools/build_option_types.py           # write
    python tools/build_option_types.py --check   # exit 1 if it has fallen behind
"""

from __future__ import annotations

import sys
import types
import typing
from pathlib import Path

from geolift import settings

TARGET = Path(__file__).resolve().parent.parent / "geolift" / "settings" / "typed.py"
MODELS = ("FuseSettings", "TrainSettings", "ApplySettings", "PairSettings", "EvaluateSettings")
HEAD = '''"""The options of the public functions as types, for editors and type checkers.

Written by tools/build_option_types.py from the settings models; not to be changed by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict'''


def source_of(annotation: object) -> list[str]:
    """Return the alternatives a Python caller may pass for an annotation, as source text."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        texts = source_of(arguments[0])
        return [*texts, "str"] if texts == ["int"] and len(arguments) > 2 else texts
    if origin in (typing.Union, types.UnionType):
        return [text for argument in arguments for text in source_of(argument)]
    if origin is typing.Literal:
        return [f"Literal[{', '.join(repr(value).replace(chr(39), chr(34)) for value in arguments)}]"]
    if origin is tuple and arguments[-1] is Ellipsis:
        return ["str", f"Sequence[{' | '.join(source_of(arguments[0]))}]"]
    if origin is tuple:
        return [f"tuple[{', '.join(' | '.join(source_of(argument)) for argument in arguments)}]"]
    if annotation is Path:
        return ["str", "Path"]
    if annotation is type(None):
        return ["None"]
    return [annotation.__name__]  # type: ignore[attr-defined]


def document() -> str:
    """Return the module's text."""
    parts = [HEAD]
    for name in MODELS:
        model = getattr(settings, name)
        options = name.replace("Settings", "Options")
        lines = [f'\n\nclass {options}(TypedDict, total=False):\n    """What `geolift.settings.{name}` takes."""\n']
        annotations = typing.get_type_hints(model, include_extras=True)
        for field in model.in_reading_order():
            alternatives = list(dict.fromkeys(source_of(annotations[field])))
            lines.append(f"    {field}: {' | '.join(alternatives)}")
        parts.append("\n".join(lines))
    return "\n".join(parts) + "\n"


def main() -> int:
    """Write the module, or tell whether it has fallen behind."""
    text = document()
    if "--check" in sys.argv:
        return int(TARGET.read_text(encoding="utf-8") != text)
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
