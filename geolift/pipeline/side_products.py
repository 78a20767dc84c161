"""What a run writes beside its product: quality bits, standard error, abundances, a model, a report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import xarray as xr

from geolift.datamodel.cube import STANDARD_ERROR
from geolift.datamodel.quality import Flag
from geolift.pipeline.fusion import Fusion
from geolift.pipeline.radiometry import radiometry_facts
from geolift.pipeline.trained import Trained
from geolift.pipeline.unmixing import endmember_facts, endmember_path, unmixed, write_endmembers
from geolift.runtime.machine import available_cpus
from geolift.runtime.progress import advance, of_stage
from geolift.settings import ApplySettings, FuseSettings, WritingSettings
from geolift.writer import (
    Draft,
    Encoding,
    choose_scale,
    disk_errors,
    draft_of,
    format_of,
    require_tiff,
    settled_beside,
    values_in,
    write_classes,
    write_cube,
)

ENDMEMBERS = "endmembers"


def side_products(settings: FuseSettings | ApplySettings) -> dict[str, Path]:
    """Return what is asked for beside the product: option, or `ENDMEMBERS`, and file.

    Raises UsageError if a suffix does not go with what is written.
    """
    names = ("save_model", "qa", "uncertainty", "abundances", "report")
    asked = {name: path for name in names if (path := getattr(settings, name, None)) is not None}
    if "qa" in asked:
        require_tiff(asked["qa"], "--qa")
    for name in ("uncertainty", "abundances"):
        if name in asked:
            format_of(asked[name])
    if "abundances" in asked:
        asked[ENDMEMBERS] = endmember_path(asked["abundances"])
    return asked


@contextmanager
def drafts_of(paths: dict[str, Path]) -> Iterator[dict[str, Draft]]:
    """Open a draft for each side product; they get their names with the product, or not at all."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(draft_of(path)) for name, path in paths.items()}


def write_side_products(fusion: Fusion, drafts: dict[str, Draft], settings: FuseSettings) -> None:
    """Write everything but the report, which tells of the rest."""
    if "qa" in drafts:
        _write_quality(fusion.quality, drafts["qa"], settings)
    if "uncertainty" in drafts and fusion.sigma is not None:
        _write_sigma(fusion, drafts["uncertainty"], settings)
    if fusion.abundances is not None:
        write_abundances(fusion.abundances, fusion.trained, drafts, settings)
    if "save_model" in drafts:
        relation = None if fusion.compared is None else fusion.compared.harmonization
        facts = fusion.trained.facts.model_copy(update={"radiometry": radiometry_facts(relation)})
        replace(fusion.trained, facts=facts).save(drafts["save_model"].finished)


def write_report(product: Draft, drafts: dict[str, Draft]) -> None:
    """Write the report of files that have not got their names yet."""
    if "report" in drafts:
        from geolift.report import make_report

        advance("report", 0.0)
        growing = {draft.path: draft.finished for draft in drafts.values()}
        make_report(product.finished, drafts["report"].finished, growing)
        advance("report", 1.0)


def _write_sigma(fusion: Fusion, draft: Draft, settings: FuseSettings) -> None:
    """Write the standard error as the product is written, with a scale that suits it."""
    assert fusion.sigma is not None
    assert fusion.errors is not None
    largest = fusion.errors.typical * fusion.errors.growth.max()
    scale = choose_scale(settings.dtype, STANDARD_ERROR, largest)
    write_cube(
        fusion.sigma.assign_attrs(quantity=STANDARD_ERROR),
        draft.path,
        settled_beside(draft.path, settings),
        encoding=Encoding.of(settings, scale),
        threads=settings.threads or available_cpus(),
        tile_size=settings.tile_size,
        tags={"GEOLIFT_QUANTITY": STANDARD_ERROR},
        progress=of_stage("uncertainty"),
        draft=draft,
    )


def _write_quality(quality: xr.DataArray, draft: Draft, settings: FuseSettings) -> None:
    """Write the quality raster as uint16 GeoTIFF, beside the product."""
    # A mean of bit masks means nothing, so there are no overviews.
    writing = WritingSettings(dtype="uint16", overviews="none")
    tags = {"GEOLIFT_BITS": ", ".join(f"{flag.value} {flag.name}" for flag in Flag)}
    write_cube(
        quality,
        draft.path,
        writing,
        encoding=Encoding("uint16", 1.0, 65535.0),
        threads=settings.threads or available_cpus(),
        tile_size=settings.tile_size,
        tags=tags,
        draft=draft,
    )
    from geolift.report.marks import class_of  # brings the whole report along

    classes = {value: class_of(value) for value in values_in(draft.finished)}
    with disk_errors(draft.path):
        write_classes(draft.beside(draft.path.with_suffix(".qml")), classes)


def write_abundances(
    abundances: xr.DataArray, trained: Trained, drafts: dict[str, Draft], settings: FuseSettings | ApplySettings
) -> None:
    """Write the abundances as the product is written, and the endmembers' spectra beside them."""
    draft, facts = drafts["abundances"], unmixed(trained).facts
    write_cube(
        abundances,
        draft.path,
        settled_beside(draft.path, settings),
        encoding=Encoding.of(settings, facts.scales.get(settings.dtype, 1.0)),
        threads=settings.threads or available_cpus(),
        tile_size=settings.tile_size,
        tags={"GEOLIFT_QUANTITY": facts.quantity},
        progress=of_stage("abundances"),
        draft=draft,
    )
    write_endmembers(endmember_facts(trained), drafts[ENDMEMBERS].finished)
