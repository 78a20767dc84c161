"""A sweep from scenes to one CSV: a row as soon as a case is done, continued after an interruption."""

from __future__ import annotations

import csv
import io
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from geolift.benchmark.cases import AXES, Case, Degradation, Pair, expand, make_pair, open_scene, scene_name, weights_of
from geolift.benchmark.methods import fuse_arrays, require_known
from geolift.errors import (
    GeoliftError,
    InputError,
    OutputExistsError,
    ResourceError,
    UsageError,
    cell_text,
    harmless_cell,
)
from geolift.metrics import Stretch, evaluate_arrays
from geolift.pipeline.touched_files import Output, require_untouched
from geolift.provenance.sidecar import software_versions
from geolift.runtime.progress import advance, warn
from geolift.runtime.whole_files import write_whole
from geolift.settings import BenchmarkSettings

MEASURES = ("rmse", "psnr_db", "ssim", "uiqi", "ergas", "sam_deg")
INNER = ("inner_psnr_db", "inner_sam_deg")
SECONDS = ("train_s", "inference_s")
SHAPE = ("rows", "cols", "hsi_bands", "n_msi_bands")
VERSIONS = ("geolift", "numpy", "torch")
COLUMNS = (*AXES, *SHAPE, *MEASURES, *INNER, *SECONDS, *VERSIONS, "note", "error")
"""Columns of the CSV: where a case lies, what it is, how good (over the whole image, and over the inner pixels), how
fast, made by what, what there is to note, and why it failed."""

Row = dict[str, str]


@dataclass(frozen=True)
class Sweep:
    """What came of a sweep: counts of cases, every row of the CSV that counts, and the code to leave with."""

    done: int
    skipped: int
    failed: int
    rows: tuple[Row, ...]
    exit_code: int


def run(scenes: Sequence[str], output: Path, settings: BenchmarkSettings) -> Sweep:
    """Run every case that the CSV does not hold yet; a case that fails leaves its error there and the next one begins.

    Parameters
    ----------
    scenes
        MATLAB files, or anything else geolift reads.
    output
        The CSV; see `COLUMNS`.
    settings
        The axes.

    Raises
    ------
    UsageError, InputError
        For what no case could be run with: an unknown method, a scene that cannot be read, a sensor that cannot be
        made of a scene. Nothing is begun then.
    OutputExistsError, ResourceError, UsageError
        If the CSV is there and neither replaced nor continued, or cannot be written.
    """
    cases = expand(tuple(scenes), settings)
    for method in settings.method:
        require_known(method)
    rows = begin(output, scenes, settings)
    opener = _opener(scenes, settings)
    _require_possible(cases, opener)
    known = {_key(row) for row in rows if not row["error"]}
    versions = {name: version for name, version in software_versions().items() if name in VERSIONS}
    todo = [case for case in cases if tuple(case.axes().values()) not in known]
    failures: list[int] = []
    pair_of = lru_cache(1)(lambda degradation: make_pair(opener(degradation.scene), degradation))
    for number, case in enumerate(todo, start=1):
        row = dict.fromkeys(COLUMNS, "") | case.axes() | versions
        try:
            row |= measure(case, pair_of(case.degradation))
        except Exception as error:
            # A sweep of a night must not end with one case; the exit code will tell, and the row says why.
            row["error"] = f"{type(error).__name__}: {' '.join(str(error).split())}"
            own = error.exit_code if isinstance(error, GeoliftError) else 1
            failures.append(ResourceError.exit_code if isinstance(error, MemoryError) else own)
            warn(f"{_words(case)}: {_explained(error)}")
        append(output, row)
        rows.append(row)
        advance("sweeping", number / len(todo), _words(case))
    last = {_key(row): row for row in rows}
    done = len(todo) - len(failures)
    return Sweep(done, len(cases) - len(todo), len(failures), tuple(last.values()), next(iter(failures), 0))


def _opener(scenes: Sequence[str], settings: BenchmarkSettings) -> Callable[[str], xr.DataArray]:
    """Return what opens a scene by its name; the last one is kept, for neighbours in a sweep share it."""
    paths = {scene_name(path): path for path in scenes}
    return lru_cache(1)(lambda name: open_scene(paths[name], settings.hsi_reading))


def _require_possible(cases: Sequence[Case], opener: Callable[[str], xr.DataArray]) -> None:
    """Open every scene and settle every response before the first case is begun."""
    for name in dict.fromkeys(case.degradation.scene for case in cases):
        warn(*opener(name).attrs.get("warnings", ()))
    places = {(c.degradation.scene, c.degradation.srf, c.degradation.msi_bands): c.degradation for c in cases}
    for degradation in places.values():
        weights_of(opener(degradation.scene), degradation)


def picture_of(output: Path) -> Path:
    """Return the name of the picture that belongs to a CSV."""
    return output.with_suffix(".png")


def begin(output: Path, scenes: Sequence[str], settings: BenchmarkSettings) -> list[Row]:
    """Return the rows of a CSV that is continued, or write the header of a new one.

    A line that a kill has cut off is dropped from the file. Raises OutputExistsError if the CSV or its picture is there
    and may be neither replaced nor continued; UsageError, ResourceError if the name is a scene's or the picture's, or
    the folder cannot be written; InputError if what is to be continued is no CSV of this geolift's benchmark.
    """
    if picture_of(output) == output:
        raise UsageError(f"{output}: is what the picture would be called; name a CSV")
    for path in (output, picture_of(output)):
        if path.exists() and not (settings.overwrite or settings.resume):
            raise OutputExistsError(f"{path}: exists already. Pass --resume to continue, --overwrite to replace it.")
    outputs = [Output(output), Output(picture_of(output))]
    require_untouched([*scenes, settings.wavelengths], outputs, overwrite=True)
    if settings.resume and output.exists() and (rows := _read(output)):
        return rows
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(COLUMNS)
    write_whole(output, text.getvalue())
    return []


def _read(output: Path) -> list[Row]:
    content = output.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    lines = list(csv.reader(io.StringIO(whole.decode("utf-8", errors="replace"), newline="")))
    if lines and (tuple(lines[0]) != COLUMNS or any(len(line) != len(COLUMNS) for line in lines)):
        raise InputError(f"{output}: not a CSV of this geolift's benchmark: its columns differ. Give another output.")
    if len(whole) < len(content):
        write_whole(output, whole)
    return [dict(zip(COLUMNS, map(cell_text, line), strict=True)) for line in lines[1:]]


def append(output: Path, row: Row) -> None:
    """Add a row to the CSV, on disk when this returns. Raises ResourceError."""
    with _told(output), output.open("a", encoding="utf-8", newline="") as stream:
        csv.DictWriter(stream, COLUMNS, lineterminator="\n").writerow({key: harmless_cell(row[key]) for key in row})


@contextmanager
def _told(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResourceError(f"{output}: cannot be written: {error.strerror or error}") from error


def _explained(error: Exception) -> str:
    """Tell what the user can cause in a line, and a bug with its traceback."""
    return str(error) if isinstance(error, GeoliftError) else "".join(traceback.format_exception(error))


def measure(case: Case, pair: Pair) -> Row:
    """Fuse a pair and measure the product as HyperBench does; numbers as texts."""
    fused = fuse_arrays(case.method, pair.hsi, pair.msi, pair.weights, seed=case.seed)
    scores = evaluate_arrays(fused.product, pair.truth, convention="hyperbench", stretch=Stretch(0, 1))
    sizes = (*pair.truth.shape[1:], len(pair.truth), len(pair.msi))
    row = {name: str(size) for name, size in zip(SHAPE, sizes, strict=True)}
    row |= {name: f"{getattr(scores, name):.7g}" for name in MEASURES}
    row |= _inner(fused.product, pair, case.degradation)
    return row | {name: f"{getattr(fused, name):.4g}" for name in SECONDS} | {"note": fused.note}


def _inner(product: NDArray[np.float32], pair: Pair, degradation: Degradation) -> Row:
    """Measure the pixels under LR pixels that saw nothing of the zeros beyond the image; empty where none are left."""
    edge = -(-degradation.psf_radius // degradation.ratio) * degradation.ratio
    inside = (slice(None), slice(edge, -edge), slice(edge, -edge))
    if min(pair.truth[inside].shape) == 0 or not np.isfinite(product[inside]).any():
        return dict.fromkeys(INNER, "")
    scores = evaluate_arrays(product[inside], pair.truth[inside], convention="hyperbench", stretch=Stretch(0, 1))
    return {name: f"{getattr(scores, name.removeprefix('inner_')):.7g}" for name in INNER}


def _key(row: Row) -> tuple[str, ...]:
    return tuple(row[axis] for axis in AXES)


def _words(case: Case) -> str:
    where = case.degradation
    return (
        f"{where.scene}, {where.psf}, ratio {where.ratio}, {where.srf}, {where.snr_db:g} dB, {case.method}, {case.seed}"
    )
