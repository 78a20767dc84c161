"""Runs on files: fuse two into a third, apply a model to another; output and sidecar appear whole or not at all."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import xarray as xr

from geolift.datamodel.cube import bands_of, grid_of
from geolift.datamodel.quality import Flag
from geolift.errors import InputError, UsageError
from geolift.pair.checks import crosscheck
from geolift.pipeline.application import match_bands
from geolift.pipeline.fusion import Fusion, fuse_cubes
from geolift.pipeline.memory_plan import estimate_cost, fitted
from geolift.pipeline.plan import file_facts
from geolift.pipeline.run import Run
from geolift.pipeline.trained import Inverted, Trained, inverted, load_trained
from geolift.pipeline.unmixing import endmember_facts, endmember_path, unmixed, write_endmembers
from geolift.provenance.run_key import run_identity
from geolift.provenance.sidecar import (
    MSI_INPUT,
    dump_settings,
    input_facts,
    read_sidecar,
    sidecar_path,
    software_versions,
    stac_item,
    write_json,
)
from geolift.provenance.staleness import change_since
from geolift.readers import open_cube, open_cubes
from geolift.runtime.machine import available_cpus, limit_block_cache, spare_memory_bytes
from geolift.runtime.progress import SILENT, Listener
from geolift.settings import AbundanceSettings, ApplySettings, FuseSettings, WritingSettings
from geolift.writer import (
    Cluster,
    Draft,
    Encoding,
    WriteReport,
    check_output,
    choose_scale,
    draft_folder,
    draft_of,
    tile_edge,
    write_cube,
)

if TYPE_CHECKING:
    from geolift.network.engine import Engine

Streamed = TypeVar("Streamed", FuseSettings, ApplySettings)


@dataclass(frozen=True)
class FileResult:
    """What a run left on disk, and its sidecar's content."""

    output: Path
    sidecar: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON types."""
        facts = {
            key.partition(":")[2]: value
            for key, value in self.sidecar["properties"].items()
            if key.startswith("geolift:")
        }
        return {"output": str(self.output), **facts}


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


def fuse_files(
    hsi: str | Path,
    msi: Source,
    output: Path,
    settings: FuseSettings,
    listener: Listener = SILENT,
) -> FileResult:
    """Fuse two files into a third; see `fuse`. The output appears whole or not at all."""
    started = time.perf_counter()
    inputs = {"hsi": str(hsi)} | {MSI_INPUT.format(i or ""): path for i, path in enumerate(paths_of(msi))}
    there = _already(output, inputs, settings)
    if there is not None:
        return _reported(there, settings)
    read = (str(hsi), *paths_of(msi), *_read_beside(settings))
    check_output(output, settings.overwrite, read)
    limit_block_cache(settings.memory or spare_memory_bytes())
    # What an interrupted run has written beside its output may be written again.
    replace = settings.overwrite or (settings.resume and draft_folder(output).exists())
    asked = (settings.save_model, settings.qa, settings.uncertainty, *_unmixing_paths(settings), settings.report)
    beside_it = [path for path in asked if path is not None]
    _require_apart(output, sidecar_path(output), *beside_it)
    for path in beside_it:
        check_output(path, replace, read)
    cubes = open_pair(hsi, msi, settings)
    engine, settled = _settled(settings, listener)
    with draft_of(output, run_identity(settled, inputs), resume=settings.resume) as draft:
        fusion = fuse_cubes(*cubes, Run(settings=settled, listener=listener, output=output, kept_model=draft.model))
        trained_s = time.perf_counter() - started
        streaming = fitted(settled, fusion.plan.cost)
        beside = streaming.model_copy(update={"overwrite": replace})
        if settings.qa is not None:
            _write_quality(fusion.quality, settings.qa, beside)
        if settings.uncertainty is not None and fusion.sigma is not None:
            _write_sigma(fusion, settings.uncertainty, beside, listener)
        if fusion.abundances is not None:
            _write_abundances(fusion.abundances, fusion.trained, beside, listener)
        report = _write(fusion.product, output, fusion.trained, streaming, listener, draft)
        facts = {
            **_run_facts(settings, inputs, draft, fusion.trained, report, engine),
            **_fusion_facts(fusion),
            "timings_s": {"understand_and_train": trained_s, "total": time.perf_counter() - started},
        }
        if settings.save_model is not None:
            from geolift.network.model import save_model

            save_model(settings.save_model, fusion.trained.model, fusion.trained.facts)
        # The sidecar first: who finds the product finds all of it.
        result = _finish(fusion.fused, output, settings, report, facts)
        draft.publish()
    return _reported(result, settings)


def _read_beside(settings: FuseSettings) -> tuple[str, ...]:
    """Return the files that a run reads beside its two images."""
    return tuple(str(path) for path in (settings.mask, settings.srf, settings.wavelengths) if path is not None)


def _require_apart(*outputs: Path) -> None:
    """Refuse to write two things into one file."""
    seen: set[Path] = set()
    for path in outputs:
        if path.resolve() in seen:
            raise UsageError(f"{path}: is named for two outputs; give each of them a name of its own")
        seen.add(path.resolve())


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
        facts = read_sidecar(sidecar)
    except InputError:
        return None
    named = {name: getattr(settings, name, None) for name in settings.side_products().keys() - {"report"}}
    beside = {name: path for name, path in named.items() if path is not None}
    known = "inputs" in facts and "settings" in facts and facts.get("output_bytes") == _bytes(output)
    if not known or change_since(facts, output, inputs, settings, beside):
        return None
    with draft_of(output):
        pass  # what the broken run had not yet cleared away goes
    return FileResult(output, json.loads(sidecar.read_text(encoding="utf-8")))


def _bytes(file: Path) -> int | None:
    """Size of a file; None for a folder. It tells a product from another one under the same name."""
    return file.stat().st_size if file.is_file() else None


def _settled(settings: Streamed, listener: Listener) -> tuple[Engine, Streamed]:
    """Settle what computes; the settings with it, so that a resumed run computes with the same."""
    from geolift.network.engine import choose_engine

    engine = choose_engine(settings.device, settings.precision, listener.warn)
    return engine, settings.model_copy(update={"device": engine.device, "precision": engine.precision})


def _fusion_facts(fusion: Fusion) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "plan": fusion.plan.to_json(),
        "pixels_without_hsi": fusion.pixels_without_hsi,
        "warnings": list(fusion.warnings),
    }
    if fusion.compared is not None:
        facts["coregistration"] = fusion.compared.shift_json()
        facts["harmonization"] = fusion.compared.harmonization_json()
    if fusion.refined is not None:
        facts["refinement"] = fusion.refined.to_json()
    if fusion.errors is not None:
        facts["uncertainty"] = {
            "median_sigma": float(np.median(fusion.errors.typical)),
            "sharpening": fusion.errors.sharpening,
            "held_out_pixels": fusion.errors.held_out,
            "refined_share": fusion.errors.refined_share,
            "needed_one_level_down": fusion.errors.needed,
        }
    if fusion.information is not None:
        facts["information"] = {
            "wavelength_nm": fusion.trained.facts["hsi"]["wavelength_nm"],
            "explained": fusion.trained.in_places(fusion.information.explained),
            "bits": fusion.trained.in_places(fusion.information.bits),
            "held_out_pixels": fusion.information.held_out,
        }
    facts["screening"] = fusion.screening.to_json()
    if fusion.check is not None:
        facts["check"] = crosscheck.document(fusion.check)
    return facts


def _write_sigma(fusion: Fusion, path: Path, settings: FuseSettings, listener: Listener) -> None:
    """Write the standard error as the product is written, with a scale that suits it."""
    assert fusion.sigma is not None
    assert fusion.errors is not None
    largest = fusion.errors.typical * fusion.errors.growth.max()
    scale = choose_scale(settings.dtype, "standard error", largest)
    write_cube(
        fusion.sigma,
        path,
        settings,
        encoding=Encoding.of(settings, scale),
        threads=settings.threads or available_cpus(),
        tile_size=settings.tile_size,
        tags={"GEOLIFT_QUANTITY": "standard error"},
        progress=lambda share: listener.progress("uncertainty", share),
    )


def _write_quality(quality: xr.DataArray, path: Path, settings: FuseSettings) -> None:
    """Write the quality raster as uint16 GeoTIFF, beside the product."""
    # A mean of bit masks means nothing, so there are no overviews.
    writing = WritingSettings(overwrite=settings.overwrite, dtype="uint16", overviews="none")
    tags = {"GEOLIFT_BITS": ", ".join(f"{flag.value} {flag.name}" for flag in Flag)}
    write_cube(
        quality,
        path,
        writing,
        encoding=Encoding("uint16", 1.0, 65535.0),
        threads=settings.threads or available_cpus(),
        tile_size=settings.tile_size,
        tags=tags,
    )


def _unmixing_paths(settings: AbundanceSettings) -> tuple[Path, ...]:
    """Return the raster of abundances and the table of endmembers, if they are asked for."""
    path = settings.abundances
    return () if path is None else (path, endmember_path(path))


def _write_abundances(
    abundances: xr.DataArray, trained: Trained, settings: FuseSettings | ApplySettings, listener: Listener
) -> None:
    """Write the abundances as the product is written, and the endmembers' spectra beside them."""
    assert settings.abundances is not None
    facts = unmixed(trained).facts
    write_cube(
        abundances,
        settings.abundances,
        settings,
        encoding=Encoding.of(settings, facts["scales"].get(settings.dtype, 1.0)),
        threads=settings.threads or available_cpus(),
        tile_size=settings.tile_size,
        tags={"GEOLIFT_QUANTITY": facts["quantity"]},
        progress=lambda share: listener.progress("abundances", share),
    )
    write_endmembers(endmember_facts(trained), endmember_path(settings.abundances))


def apply_files(
    model: str | Path, msi: str | Path, output: Path, settings: ApplySettings, listener: Listener = SILENT
) -> FileResult:
    """Apply a saved model to a file; see `apply`. The output appears whole or not at all."""
    started = time.perf_counter()
    inputs = {"model": str(model), "msi": str(msi)}
    there = _already(output, inputs, settings)
    if there is not None:
        return there
    for path in (output, *_unmixing_paths(settings)):
        check_output(path, settings.overwrite, (str(model), str(msi)))
    limit_block_cache(settings.memory or spare_memory_bytes())
    trained = load_trained(model)
    mixing = None if settings.abundances is None else unmixed(trained)
    cube = open_cube(
        msi, settings.msi_reading, tile_edge(settings.tile_size, settings.creation_options), settings.msi_bands
    )
    window, bands, notes = match_bands(trained, cube, settings)
    for text in notes:
        listener.warn(text)
    engine, settled = _settled(settings, listener)
    cost = estimate_cost((window.shape[1], window.shape[2]), len(trained.bands), len(bands), settled)
    streaming = fitted(settled, cost)
    product = inverted(window, bands, trained, streaming)
    with draft_of(output, run_identity(settled, inputs), resume=settings.resume) as draft:
        if mixing is not None:
            _write_abundances(inverted(window, bands, mixing, streaming).cube, trained, streaming, listener)
        report = _write(product, output, trained, streaming, listener, draft)
        facts = {
            **_run_facts(settings, inputs, draft, trained, report, engine),
            "warnings": notes,
            "timings_s": {"total": time.perf_counter() - started},
        }
        result = _finish(product.cube, output, settings, report, facts)
        draft.publish()
    return result


def plan_application(model: str | Path, msi: str | Path, settings: ApplySettings) -> dict[str, Any]:
    """Tell what applying a model to a file would do, without doing it."""
    trained = load_trained(model)
    cube = open_cube(msi, settings.msi_reading, bands=settings.msi_bands)
    window, bands, notes = match_bands(trained, cube, settings)
    rows, cols = window.shape[1:]
    cost = estimate_cost((rows, cols), len(trained.bands), len(bands), settings)
    return {
        "model": str(model),
        "msi": file_facts(cube),
        "msi_bands": trained.facts["msi_bands"],
        "hsi_bands": len(trained.bands),
        "shape": [rows, cols],
        "cost": asdict(cost),
        "warnings": notes,
    }


def _write(
    product: Inverted, output: Path, trained: Trained, settings: Any, listener: Listener, draft: Draft
) -> WriteReport:
    scale = trained.facts["scales"].get(settings.dtype, 1.0)
    tags = {
        "TIFFTAG_SOFTWARE": f"geolift {software_versions().get('geolift', '')}",
        "GEOLIFT_METHOD": str(trained.facts["method"]),
        "GEOLIFT_SENSOR": str(trained.facts["sensor"]),
        "GEOLIFT_QUANTITY": str(trained.facts["quantity"]),
    }
    return write_cube(
        product.cube,
        output,
        settings,
        encoding=Encoding.of(settings, scale),
        threads=settings.threads or available_cpus(),
        tile_size=settings.tile_size,
        tags=tags,
        progress=lambda share: listener.progress("writing", share),
        draft=draft,
        crew=None if settings.scheduler is None else Cluster(settings.scheduler),
        source=product.source,
    )


def _run_facts(
    settings: Any, inputs: dict[str, str], draft: Draft, trained: Trained, report: WriteReport, engine: Engine
) -> dict[str, Any]:
    unmixes = trained.model.network.unmixing is not None
    return {
        "settings": dump_settings(settings),
        "inputs": {name: input_facts(path) for name, path in inputs.items()},
        "output": str(draft.path),
        "output_bytes": _bytes(draft.finished),
        "computed_on": engine.to_json(),
        "model": {key: value for key, value in trained.facts.items() if key not in ("hsi", "versions")},
        "choices": trained.model.choices,
        **({"endmembers": endmember_facts(trained)} if unmixes else {}),
        "training_curve": [asdict(step) for step in trained.model.history],
        "written": {
            "valid_pixels": report.n_valid_pixels,
            "values": report.n_values,
            "clipped_values": report.n_clipped,
        },
    }


def _finish(
    fused: xr.DataArray, output: Path, settings: WritingSettings, report: WriteReport, facts: dict[str, Any]
) -> FileResult:
    encoding = report.encoding
    item = stac_item(
        output,
        grid_of(fused),
        bands_of(fused),
        driver=settings.of,
        acquired=fused.attrs.get("acquired"),
        raster={"data_type": encoding.dtype, "scale": encoding.scale, "offset": 0.0, "nodata": encoding.nodata},
        facts=facts,
    )
    write_json(sidecar_path(output), item)
    return FileResult(output, item)
