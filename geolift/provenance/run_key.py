"""What the pixels of a run depend on: by this an interrupted run knows its own half-finished output again."""

from __future__ import annotations

from pathlib import Path

from geolift.provenance.sidecar import dump_settings, software_versions
from geolift.settings import Settings

# A folder product is known by its size and time, and so are the files in it, as far down as products go.
DEPTH = 3


def run_identity(settings: Settings, inputs: dict[str, str]) -> dict[str, object]:
    """Return inputs (size and time of each file), options and versions, as plain JSON types.

    Files named by options, such as ``--srf``, count as inputs.
    """
    decisive = settings.with_effect("pixels")
    options = {key: value for key, value in dump_settings(settings).items() if key in decisive}
    named = {name: str(value) for name in options if isinstance(value := getattr(settings, name), Path)}
    files = {name: _stamp(path) for name, path in {**inputs, **named}.items()}
    return {"inputs": files, "options": options, "versions": software_versions()}


def _stamp(path: str) -> dict[str, list[int]]:
    """Return size and time of a file, its companions (ENVI's header, overview files), or the files of a folder."""
    given = Path(path)
    if given.is_dir():
        patterns = ["/".join("*" * depth) for depth in range(1, DEPTH + 1)]
        files = [file for pattern in patterns for file in given.glob(pattern) if file.is_file()]
    else:
        companions = (given.with_suffix(".hdr"), given.with_name(given.name + ".aux.xml"))
        files = [file for file in (given, *companions) if file.is_file()]
    stats = {str(file): file.stat() for file in sorted(files)}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()} or {path: []}
