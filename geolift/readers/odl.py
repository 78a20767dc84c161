"""USGS metadata files (…_MTL.txt): GROUP = NAME, KEY = VALUE, END_GROUP."""

from __future__ import annotations

from pathlib import Path

from geolift.errors import InputError

Groups = dict[str, dict[str, str]]
SNIFF_BYTES = 4000


def parse(text: str) -> Groups:
    """Return every group with its own keys, quotes removed: keys repeated in another group stay apart.

    >>> parse('GROUP = A\\n  X = "1"\\n  GROUP = B\\n    X = 2\\n  END_GROUP = B\\nEND_GROUP = A')
    {'A': {'X': '1'}, 'B': {'X': '2'}}
    """
    groups: Groups = {}
    stack = [""]
    for line in text.splitlines():
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            continue
        if key == "GROUP":
            stack.append(value)
            groups.setdefault(value, {})
        elif key == "END_GROUP":
            if len(stack) > 1:
                stack.pop()
        else:
            groups.setdefault(stack[-1], {})[key] = value.strip('"')
    return groups


def read(path: Path) -> Groups:
    """Read a metadata file. Raises InputError if it cannot be read."""
    try:
        return parse(path.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def find(path: str, *words: str) -> Path | None:
    """Find the metadata file of a path (itself or in the folder) whose beginning holds one of the words."""
    place = Path(path)
    candidates = [place] if place.is_file() else sorted(place.glob("*[Mm][Tt][Ll]*")) if place.is_dir() else []
    for candidate in candidates:
        if candidate.suffix.lower() != ".txt":
            continue
        try:
            with candidate.open("rb") as stream:
                beginning = stream.read(SNIFF_BYTES).decode("utf-8", "replace")
        except OSError:
            continue
        if "GROUP = " in beginning and any(word in beginning for word in words):
            return candidate
    return None
