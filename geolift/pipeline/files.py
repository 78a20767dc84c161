"""Runs on files: fuse two into a third, apply a model to another; output and sidecar appear whole or not at all."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr
from pydantic import JsonValue

from geolift.datamodel.cube import bands_of, grid_of
from geolift.errors import InputError
from geolift.pair.masks import mask_of
from geolift.pipeline.application import band_positions, match_bands, settle_radiometry
from geolift.pipeline.fusion import fuse_cubes, plan_fusion
from geolift.pipeline.fusion_facts import fusion_facts
from geolift.pipeline.memory_plan import estimate_cost, fitted
from geolift.pipeline.plan import Plan, file_facts
from geolift.pipeline.readiness import FilesRead, absolute, require_ready, settle_device
from geolift.pipeline.run import Run
from geolift.pipeline.side_products import drafts_of, side_products, write_abundances, write_report, write_side_products
from geolift.pipeline.touched_files import recover_beside
from geolift.pipeline.trained import Inverted, Trained, inverted, load_trained
from geolift.pipeline.unmixing import endmember_facts, unmixed
from geolift.provenance.run_key import run_identity
from geolift.provenance.sidecar import (
    MSI_INPUT,
    StacItem,
    dump_settings,
    input_facts,
    own_facts,
    read_item,
    sidecar_path,
    software_versions,
    stac_item,
    write_json,
)
from geolift.provenance.staleness import change_since
from geolift.readers import open_cube, open_cubes
from geolift.runtime.machine import available_cpus, limit_block_cache, spare_memory_bytes
from geolift.runtime.progress import SILENT, heard_by, of_stage, warn
from geolift.settings import ApplySettings, FuseSettings, WritingSettings
from geolift.writer import Cluster, Draft, Encoding, WriteReport, draft_of, settled_output, tile_edge, write_cube

if TYPE_CHECKING:
    from geolift.network.engine import Engine


@dataclass(frozen=True)
class FileResult:
    """What a run left on disk, and its sidecar's content."""

    output: Path
    sidecar: StacItem

    def to_json(self) -> dict[str, JsonValue]:
        """Return the result as plain JSON types."""
        return {"output": str(self.output), **own_facts(self.sidecar["properties"])}


Source = str | Path | tuple[str, ...]
"""A file, folder or name that GDAL knows; several single-band files of one image as a tuple."""


def paths_of(source: Source) -> tuple[str, ...]:
    """Return the paths of a source."""
    return source if isinstance(source, tuple) else (str(source),)


def open_pair(hsi: str | Path, msi: Source, settings: FuseSettings) -> tuple[xr.DataArray, xr.DataArray]:
    """Open both images of a fusion."""
    tile = tile_edge(settings.tile_size, settings.creation_options)
    return (
        open_cube(hsi, settings.hsi_reading),
        open_cubes(paths_of(msi), settings.msi_reading, tile, settings.msi_bands),
    )


def plan_files(hsi: str | Path, msi: Source, output: Path, settings: FuseSettings) -> Plan:
    """Tell what `fuse_files` would do, or refuse it as that would be refused at once."""
    output, settings = settled_output(output, settings)
    require_ready([str(hsi), *paths_of(msi)], output, side_products(settings).values(), settings)
    cubes = open_pair(hsi, msi, settings)
    _, settled = settle_device(settings)
    mask_of(cubes[1], settings.mask, settings.mask_dilate)
    return plan_fusion(*cubes, settled, output)


def fuse_files(hsi: str | Path, msi: Source, output: Path, settings: FuseSettings) -> FileResult:
    """Fuse two files into a third; see `fuse`. The output appears whole or not at all."""
    started = time.perf_counter()
    output, settings = settled_output(output, settings)
    hsi, msi, settings = _as_workers_see_them(hsi, msi, settings)
    inputs = {"hsi": str(hsi)} | {MSI_INPUT.format(i or ""): path for i, path in enumerate(paths_of(msi))}
    recover_beside([output, *inputs.values()])
    there = _already(output, inputs, settings)
    if there is not None:
        return _reported(there, settings)
    asked = side_products(settings)
    read = require_ready(inputs.values(), output, asked.values(), settings)
    limit_block_cache(settings.memory or spare_memory_bytes())
    cubes = open_pair(hsi, msi, settings)
    engine, settled = settle_device(settings)
    identity = run_identity(settled, inputs)
    with draft_of(output, identity, resume=settings.resume) as draft, drafts_of(asked) as beside:
        fusion = fuse_cubes(*cubes, Run(settings=settled, output=output, kept_model=draft.model))
        trained_s = time.perf_counter() - started
        streaming = fitted(settled, fusion.plan.cost)
        write_side_products(fusion, beside, streaming)
        report = _write(fusion.product, fusion.trained, streaming, draft, read)
        facts = {
            **_run_facts(settings, inputs, draft, fusion.trained, report, engine),
            **fusion_facts(fusion),
            "timings_s": {"understand_and_train": trained_s, "total": time.perf_counter() - started},
        }
        result = _finish(fusion.fused, draft, settings, report, facts)
        write_report(draft, beside)
        read.require_unchanged()
        draft.publish(list(beside.values()))
    return result


def _as_workers_see_them(hsi: str | Path, msi: Source, settings: FuseSettings) -> tuple[str, Source, FuseSettings]:
    """Return names of files that mean the same wherever a cluster's worker runs."""
    if settings.scheduler is None:
        return str(hsi), msi, settings
    mask = settings.model_copy(update={"mask": absolute(settings.mask)})
    return absolute(str(hsi)), tuple(absolute(path) for path in paths_of(msi)), mask


def _reported(result: FileResult, settings: FuseSettings) -> FileResult:
    """Write the report of a product that is there, where one is asked for."""
    if settings.report is not None:
        from geolift.report import make_report

        make_report(result.output, settings.report)
    return result


def _already(output: Path, inputs: dict[str, str], settings: FuseSettings | ApplySettings) -> FileResult | None:
    """Return the product of a run that was broken off, or asked for again, when it had all been done.

    None if that cannot be told: then the output's name is taken.
    """
    sidecar = sidecar_path(output)
    if not settings.resume or settings.overwrite or not (output.exists() and sidecar.exists()):
        return None
    try:
        item = read_item(sidecar)
    except InputError:
        return None
    named = {name: getattr(settings, name, None) for name in settings.side_products().keys() - {"report"}}
    beside = {name: path for name, path in named.items() if path is not None}
    facts = own_facts(item["properties"])
    known = "inputs" in facts and "settings" in facts and facts.get("output_bytes") == _bytes(output)
    if not known or change_since(facts, output, inputs, settings, beside):
        return None
    with draft_of(output):
        pass  # what the broken run had not yet cleared away goes
    return FileResult(output, item)


def _bytes(file: Path) -> int | None:
    """Size of a file; None for a folder. It tells a product from another one under the same name."""
    return file.stat().st_size if file.is_file() else None


def apply_files(model: str | Path, msi: str | Path, output: Path, settings: ApplySettings) -> FileResult:
    """Apply a saved model to a file; see `apply`. The output appears whole or not at all."""
    started = time.perf_counter()
    output, settings = settled_output(output, settings)
    msi = str(msi) if settings.scheduler is None else absolute(str(msi))
    inputs = {"model": str(model), "msi": msi}
    if settings.reference is not None:
        inputs["reference"] = str(settings.reference)
    recover_beside([output, *inputs.values()])
    there = _already(output, inputs, settings)
    if there is not None:
        return there
    asked = side_products(settings)
    read = require_ready(inputs.values(), output, asked.values(), settings)
    limit_block_cache(settings.memory or spare_memory_bytes())
    trained = load_trained(model)
    mixing = None if settings.abundances is None else unmixed(trained)
    cube = open_cube(
        msi, settings.msi_reading, tile_edge(settings.tile_size, settings.creation_options), settings.msi_bands
    )
    window, bands, notes = match_bands(trained, cube, settings)
    relation, told = settle_radiometry(trained, cube, bands, settings)
    notes += told
    warn(*notes)
    engine, settled = settle_device(settings)
    cost = estimate_cost((window.shape[1], window.shape[2]), len(trained.bands), len(bands), settled)
    streaming = fitted(settled, cost)
    product = inverted(window, bands, trained, streaming, relation)
    identity = run_identity(settled, inputs)
    with draft_of(output, identity, resume=settings.resume) as draft, drafts_of(asked) as beside:
        if mixing is not None:
            mixed = inverted(window, bands, mixing, streaming, relation).cube
            write_abundances(mixed, trained, beside, streaming)
        report = _write(product, trained, streaming, draft, read)
        facts = {
            **_run_facts(settings, inputs, draft, trained, report, engine),
            "warnings": notes,
            "timings_s": {"total": time.perf_counter() - started},
        }
        result = _finish(product.cube, draft, settings, report, facts)
        read.require_unchanged()
        draft.publish(list(beside.values()))
    return result


def plan_application(model: str | Path, msi: str | Path, output: Path, settings: ApplySettings) -> dict[str, object]:
    """Tell what applying a model to a file would do, without doing it; refuse it as it would be refused at once."""
    output, settings = settled_output(output, settings)
    require_ready([str(model), str(msi)], output, side_products(settings).values(), settings)
    with heard_by(SILENT):
        settle_device(settings)
    trained = load_trained(model)
    cube = open_cube(msi, settings.msi_reading, bands=settings.msi_bands)
    window, bands, notes = match_bands(trained, cube, settings)
    rows, cols = window.shape[1:]
    cost = estimate_cost((rows, cols), len(trained.bands), len(bands), settings)
    reference = {}
    if settings.reference is not None:
        like = open_cube(settings.reference, settings.msi_reading, bands=settings.msi_bands)
        band_positions(trained, like, settings, notes)
        reference = {"reference": file_facts(like).model_dump()}
    return {
        "model": str(model),
        "msi": file_facts(cube).model_dump(),
        **reference,
        "msi_bands": trained.facts.msi_bands,
        "hsi_bands": len(trained.bands),
        "shape": [rows, cols],
        "cost": asdict(cost),
        "warnings": notes,
    }


def _write(product: Inverted, trained: Trained, settings: Any, draft: Draft, read: FilesRead) -> WriteReport:
    scale = trained.facts.scales.get(settings.dtype, 1.0)
    tags = {
        "TIFFTAG_SOFTWARE": f"geolift {software_versions().get('geolift', '')}",
        "GEOLIFT_METHOD": trained.facts.method,
        "GEOLIFT_SENSOR": trained.facts.sensor,
        "GEOLIFT_QUANTITY": trained.facts.quantity,
    }
    return write_cube(
        product.cube,
        draft.path,
        settings,
        encoding=Encoding.of(settings, scale),
        threads=settings.threads or available_cpus(),
        tile_size=settings.tile_size,
        tags=tags,
        progress=of_stage("writing"),
        draft=draft,
        executor=None if settings.scheduler is None else Cluster(settings.scheduler, tuple(map(Path, read.stamps))),
        source=product.source,
    )


def _run_facts(
    settings: Any, inputs: dict[str, str], draft: Draft, trained: Trained, report: WriteReport, engine: Engine
) -> dict[str, object]:
    unmixes = trained.model.network.unmixing is not None
    return {
        "settings": dump_settings(settings),
        "inputs": {name: input_facts(path) for name, path in inputs.items()},
        "output": str(draft.path),
        "output_bytes": _bytes(draft.finished),
        "computed_on": engine.to_json(),
        "model": trained.facts.of_run(),
        "choices": trained.model.choices,
        **({"endmembers": endmember_facts(trained)} if unmixes else {}),
        "training_curve": [asdict(step) for step in trained.model.history],
        "written": report.to_json(),
    }


def _finish(
    fused: xr.DataArray, draft: Draft, settings: WritingSettings, report: WriteReport, facts: Mapping[str, object]
) -> FileResult:
    item = stac_item(
        draft.path,
        grid_of(fused),
        bands_of(fused),
        driver=settings.of,
        acquired=fused.attrs.get("acquired"),
        encoding=report.encoding,
        facts=facts,
    )
    write_json(draft.beside(sidecar_path(draft.path)), item)
    return FileResult(draft.path, item)
