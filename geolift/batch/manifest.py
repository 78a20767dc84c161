"""What a manifest of many pairs says: one job per row, relative paths made absolute, options checked."""

from __future__ import annotations

import contextlib
import difflib
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from geolift.batch.spreadsheet import read_table, read_text, require_as_wide
from geolift.errors import GeoliftError, InputError, UsageError
from geolift.settings import ApplySettings, FuseSettings
from geolift.settings.validation import validated
from geolift.writer import SUFFIXES, settled_output

INPUTS = ("hsi", "msi", "model", "reference")
COLUMNS = (*INPUTS, "out", *FuseSettings.model_fields)
ALIASES = {"output": "out"}
# Not paths of this machine: URLs, GDAL's virtual file systems, and GDAL's names of subdatasets.
REMOTE = re.compile(r"^(/vsi|[a-z][a-z0-9+.-]+://|[A-Z][A-Z0-9_]+:)")
NEXT_ADDRESS = re.compile(r";\s*(?=/vsi|[a-z][a-z0-9+.-]+://)")
"""Where a list of addresses with queries, which may hold semicolons, is parted."""
WORDS = {"true": True, "yes": True, "1": True, "on": True, "false": False, "no": False, "0": False, "off": False}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row: the inputs of one `geolift fuse` or `geolift apply`, its output, its options.

    ``row`` counts from 1. ``inputs`` holds hsi and msi (msi1, msi2 … if each band of it is a file), or model and msi,
    named as in the sidecar. ``settings`` is None where ``error`` tells
    what is wrong with the row itself. ``reference`` is the cube that the product is measured against.
    """

    row: int
    verb: Literal["fuse", "apply"]
    inputs: Mapping[str, str]
    output: Path
    settings: FuseSettings | ApplySettings | None
    reference: str | None = None
    error: GeoliftError | None = None

    @property
    def sources(self) -> tuple[str, str | tuple[str, ...]]:
        """The HSI or the model, and the MSI: one path, or several single-band files."""
        first, *msi = self.inputs.values()
        return first, msi[0] if len(msi) == 1 else tuple(msi)

    @property
    def side_products(self) -> dict[str, Path]:
        """Option → file that is written beside the product."""
        named = {name: getattr(self.settings, name, None) for name in FuseSettings.side_products()}
        return {name: Path(file) for name, file in named.items() if file is not None}

    @property
    def produced_model(self) -> str | None:
        """The model this job saves, if any."""
        saved = self.side_products.get("save_model")
        return None if saved is None else str(saved)


def read_manifest(path: Path, common: Mapping[str, Any] | None = None) -> list[Job]:
    """Read the jobs of a manifest.

    Raises InputError if the file cannot be read, has no rows, or a column is none of geolift's.

    Parameters
    ----------
    path : Path
        ``.toml`` (tables ``[[pair]]``, and options for all of them at the top) or a CSV with a header.
    common : mapping, optional
        Options of `FuseSettings` for every row that does not set them itself.

    Returns
    -------
    list of Job
        A row that cannot be run carries its error; the others are not concerned.
    """
    shared, rows = _toml(path) if path.suffix.lower() == ".toml" else ({}, _csv(path))
    if not rows:
        raise InputError(f"{path}: no pair in it; needed are rows with hsi, msi and out")
    for name in {name for row in (shared, *(cells for _, cells in rows)) for name in row}:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known are {', '.join(COLUMNS)}."
            raise InputError(f"{path}: unknown column {name!r}.{hint}")
    base = path.resolve().parent
    defaults = _resolved(shared, base) | dict(common or {})
    jobs = [
        _job(number, where, _resolved(row, base), defaults, base) for number, (where, row) in enumerate(rows, start=1)
    ]
    return _refuse_shared_outputs(jobs)


def application_jobs(
    model: str, files: Sequence[str], folder: Path, settings: ApplySettings | None = None
) -> list[Job]:
    """Return the jobs that apply one model to many MSIs, each to ``<stem>_fused`` in a folder."""
    common = {name: getattr(settings, name) for name in getattr(settings, "model_fields_set", ())}
    rows = [{"model": model, "msi": msi} for msi in files]
    return _refuse_shared_outputs([_job(i, f"row {i}", row, common, folder) for i, row in enumerate(rows, start=1)])


def _csv(path: Path) -> list[tuple[str, Mapping[str, object]]]:
    """Return each row with its name for messages: its number among the pairs, and its line in the file."""
    table = read_table(path)
    names = [_canonical(name) for name in table.names]
    require_as_wide(path, table, names)
    cells = [{name: cell for name, cell in zip(names, row, strict=False) if name and cell} for row in table.rows]
    return [
        (f"row {number} (line {line})", row)
        for number, (line, row) in enumerate(zip(table.lines, cells, strict=True), start=1)
    ]


def _toml(path: Path) -> tuple[Mapping[str, object], list[tuple[str, Mapping[str, object]]]]:
    try:
        document = tomllib.loads(read_text(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as a manifest (TOML): {error}") from error
    rows = document.pop("pair", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}: each pair is a table [[pair]] with hsi, msi and out")
    return _named(document), [(f"row {number}", _named(row)) for number, row in enumerate(rows, start=1)]


def _named(row: Mapping[str, object]) -> Mapping[str, object]:
    return {_canonical(name): value for name, value in row.items()}


def _canonical(name: str) -> str:
    name = name.strip().lower().replace("-", "_")
    return ALIASES.get(name, name)


def _resolved(row: Mapping[str, object], base: Path) -> dict[str, object]:
    """Make relative paths relative to the manifest; an msi of several files is parted by semicolons."""
    several = row.get("msi")
    if isinstance(several, str) and ";" in several:
        row = {**row, "msi": NEXT_ADDRESS.split(several) if "?" in several else several.split(";")}
    return {
        name: _absolute(value, base) if name in (*INPUTS, "out") or _is_path(name, value, base) else value
        for name, value in row.items()
    }


def _is_path(name: str, value: Any, base: Path) -> bool:
    """Tell whether an option holds a file: by its type, or, where words are allowed as well, by looking."""
    if name not in FuseSettings.model_fields or not isinstance(value, str):
        return False
    annotation = FuseSettings.model_fields[name].annotation
    kinds = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return Path in kinds or (str in kinds and (base / value).is_file())


def _absolute(value: Any, base: Path) -> Any:
    if isinstance(value, list | tuple):
        return [_absolute(item, base) for item in value]
    if isinstance(value, str):
        value = value.strip()
    if not isinstance(value, str) or REMOTE.match(value):
        return value
    with contextlib.suppress(RuntimeError):  # ~ of somebody whom this machine does not know
        value = str(Path(value).expanduser())
    return str(base / value)


def _job(number: int, where: str, row: Mapping[str, Any], defaults: Mapping[str, Any], base: Path) -> Job:
    verb: Literal["fuse", "apply"] = "apply" if "model" in row else "fuse"
    needed = ("model", "msi") if verb == "apply" else ("hsi", "msi")
    inputs = {name: row[name] for name in needed if name in row}
    bands = inputs.get("msi")
    if isinstance(bands, list) and verb == "fuse":
        inputs |= {f"msi{i or ''}": band for i, band in enumerate(bands)}
    options = {name: value for name, value in row.items() if name not in (*INPUTS, "out")}
    output = _output(number, row, defaults, verb, base)
    settings, error = None, None
    try:
        missing = [name for name in needed if name not in inputs]
        if missing:
            raise UsageError(f"{where}: no {missing[0]} given")
        several = [name for name in inputs if not isinstance(inputs[name], str)]
        if several:
            raise UsageError(f"{where}, column {several[0]}: is one file or folder")
        if verb == "apply" and "hsi" in row:
            raise UsageError(f"{where}: hsi and model exclude each other: a saved model needs no HSI")
        if not isinstance(row.get("out", ""), str) or not isinstance(row.get("reference", ""), str):
            raise UsageError(f"{where}: out and reference are names of files")
        settings = _settings(where, verb, options, defaults)
        output, settings = settled_output(output, settings)
    except GeoliftError as wrong:
        error = wrong
    return Job(
        row=number,
        verb=verb,
        inputs=inputs,
        output=output,
        settings=settings,
        reference=row.get("reference"),
        error=error,
    )


def _output(number: int, row: Mapping[str, Any], defaults: Mapping[str, Any], verb: str, base: Path) -> Path:
    """Return the row's output; by default what `geolift fuse` and `apply` call it, beside the manifest."""
    if "out" in row:
        return Path(str(row["out"]))
    suffix = SUFFIXES.get(str({**defaults, **row}.get("of")), ".tif")
    stem = Path(str(row.get("hsi" if verb == "fuse" else "msi", f"row{number}"))).stem
    return base / f"{stem}_fused{suffix}"


def _settings(
    where: str, verb: str, options: Mapping[str, Any], defaults: Mapping[str, Any]
) -> FuseSettings | ApplySettings:
    model = FuseSettings if verb == "fuse" else ApplySettings
    outliers = sorted(set(options) - set(model.model_fields))
    if outliers:
        raise UsageError(f"{where}, column {outliers[0]}: has no meaning where a saved model is applied")
    # Options for all rows that a saved model does not know (sensor, method …) concern the other rows.
    values = {name: value for name, value in defaults.items() if name in model.model_fields} | dict(options)
    # A row that names its sensor means it instead of the table that others use, and the reverse.
    for one, other in (("srf", "sensor"), ("sensor", "srf")):
        if one in options and other not in options:
            values.pop(other, None)
    try:
        typed = {name: _read(model, name, value) for name, value in values.items()}
        return validated(FuseSettings, typed) if verb == "fuse" else validated(ApplySettings, typed)
    except UsageError as error:
        raise UsageError(f"{where}, {error}") from None


def _read(model: type[FuseSettings | ApplySettings], name: str, value: Any) -> Any:
    """Read a cell the way people write it: yes and no, several creation options between semicolons."""
    if not isinstance(value, str):
        return value
    if model.model_fields[name].annotation is bool:
        return WORDS.get(value.lower(), value)
    return tuple(value.split(";")) if name == "co" else value


def _refuse_shared_outputs(jobs: list[Job]) -> list[Job]:
    """Give a job that writes what an earlier one writes an error instead of its settings."""
    first: dict[str, int] = {}
    checked = []
    for job in jobs:
        for written in map(str, (job.output, *job.side_products.values())):
            earlier = first.setdefault(written, job.row)
            if earlier != job.row and job.error is None:
                error = UsageError(f"row {job.row}: {written} is written by row {earlier} already")
                job = replace(job, settings=None, error=error)
        checked.append(job)
    return checked
