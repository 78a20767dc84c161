"""The page itself: facts and evidence put into the template, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import jinja2
import numpy as np
import xarray as xr
from markupsafe import Markup

from geolift.errors import InputError
from geolift.provenance.record import ExplainedVarianceFacts, RunRecord, Sidecar, TrainingStep, load_sidecar
from geolift.provenance.sidecar import sidecar_path
from geolift.report import agreements, charts, evidence, inputs, repeat, words
from geolift.report.digest import digest, error_ratio
from geolift.report.fault_pictures import fault_pictures
from geolift.report.images import Picture, palette_colours
from geolift.report.nuisances import nuisances
from geolift.report.scene import Scene, open_scene
from geolift.report.verdict import Finding, findings_of, verdict
from geolift.runtime.whole_files import write_whole

GAP_STEPS = 4.0
"""Bands further apart than so many usual steps have a gap between them."""


@dataclass(frozen=True)
class PlaceChart:
    """The chart of one place, with its number in the pictures."""

    number: int
    caption: str
    chart: Markup


def documentation_url() -> str:
    """Return where the project says that its documentation is; empty where it says nothing."""
    try:
        urls = metadata.metadata("geolift").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        return ""
    named = dict(text.split(", ", 1) for text in urls if ", " in text)
    return str(named.get("Documentation", "")).rstrip("/")


def default_path(product: Path) -> Path:
    """Return the report's name where none is given: the product's with the suffix .html."""
    return product.with_suffix(".html")


def make_report(product: str | Path, target: str | Path, growing: Mapping[Path, Path] | None = None) -> Path:
    """Write the report of a run, from its sidecar and its rasters, as one HTML file.

    Raises InputError if there is no sidecar, or it is not one of geolift; ResourceError if the page cannot be written.

    Parameters
    ----------
    product
        What `geolift fuse` or `apply` has written, or its sidecar.
    target
        HTML file, replaced if it exists.
    growing
        Where the run's side products are as long as they have not got their names.
    """
    product, target = Path(product), Path(target)
    path = product if product.suffix.lower() == ".json" else sidecar_path(product)
    if not path.exists():
        raise InputError(f"{path}: no such file; needed is the sidecar that geolift writes beside its output")
    sidecar = load_sidecar(path)
    if product == path:  # a product lies beside its sidecar
        product = path.parent / (Path(sidecar.product.href).name or path.stem)
    write_whole(target, render(product, path, sidecar, growing or {}))
    return target


def render(product: Path, path: Path, sidecar: Sidecar, growing: Mapping[Path, Path]) -> str:
    """Return the page of a run, whose sidecar has the path ``path``; see `make_report`."""
    record, properties = sidecar.record, sidecar.properties
    scene = open_scene(product, record, growing)
    shown = None if scene.product is None else _shown(scene, scene.product, record)
    findings, held = findings_of(record), agreements.measure(scene, record)
    page = _template().render(
        title=product.name,
        facts=record,
        properties=properties,
        n_bands=len(sidecar.product.bands),
        warnings=_warnings([*record.warnings, *scene.notes], findings or ()),
        findings=findings,
        verdict=verdict(record),
        nuisances=nuisances(findings, record.refinement, shown.faults if shown else None),
        digest=digest(
            findings,
            record.coregistration,
            held,
            shown.quality[1] if shown and shown.quality else [],
            shown.uncertainty[2] if shown and shown.uncertainty else None,
        ),
        documentation=documentation_url(),
        decisions=words.decisions(record, sidecar.product),
        inputs=inputs.input_rows(record),
        commands=[_unbroken(line) for line in repeat.commands(record, path.name)],
        choices=words.choices(record.choices),
        thumbnails=evidence.thumbnails(scene),
        footprints=_footprints(scene),
        training=_training(record.training_curve),
        information=None if record.information is None else words.information(record.information),
        information_chart=None if record.information is None else _information(scene, record.information),
        agreements=held if held is not None and (held.msi or held.hsi) else None,
        agreement_chart=None if held is None else _agreement(held, _quantity(scene)),
        extrapolation=_extrapolation(held, _quantity(scene)),
        quantity=_quantity(scene),
        palette=palette_colours("magma"),
        shown=shown or {},
    )
    return page + "\n"


def _warnings(texts: Sequence[str], findings: Sequence[Finding]) -> list[str]:
    """Return the warnings of the run and of this page, each once; what the check says is told beside them."""
    told = [found.message for found in findings if found.alarming]
    return [text for text in dict.fromkeys(texts) if not any(message in text for message in told)]


def _unbroken(line: str) -> Markup:
    """Return a command of which no option is broken in two at the end of a line."""
    parts = [Markup("<span>{}</span>").format(part) if part.startswith("--") else part for part in line.split(" ")]
    return Markup(" ").join(parts)


def _quantity(scene: Scene) -> str:
    """Return what the product's numbers are: "reflectance"; "value" where nobody knows."""
    told = "unknown" if scene.product is None else str(scene.product.attrs.get("quantity", "unknown"))
    return "value" if told == "unknown" else told


def _gap(wavelength_nm: np.ndarray) -> float:
    """Return the step in nm above which neighbouring bands are not joined by a line."""
    steps = np.diff(np.sort(wavelength_nm[np.isfinite(wavelength_nm)]))
    return float(GAP_STEPS * np.median(steps[steps > 0])) if (steps > 0).any() else np.inf


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What is to be seen of a product: pictures, spectra of places, maps with what explains their colours, faults."""

    rows: list[evidence.Row]
    places: list[PlaceChart]
    quality: tuple[Picture, list[evidence.Legend]] | None
    uncertainty: tuple[Picture, tuple[float, float], float | None] | None
    faults: dict[str, list[Picture]]


def _shown(scene: Scene, product: xr.DataArray, record: RunRecord) -> Shown:
    """Look at the product."""
    looker = evidence.Looker(scene, product)
    places = looker.places()
    rows, cols = looker.grid.shape
    marks = [((place.col + 0.5) / cols, (place.row + 0.5) / rows) for place in places]
    pictures = looker.rows(None, "Whole product", marks)
    detail = looker.detail_window()
    if detail is not None:
        height, width = (part.stop - part.start for part in detail)
        title = f"Detail of {height} × {width} pixels from row {detail[0].start}, column {detail[1].start}"
        pictures += looker.rows(detail, title, [])
    return Shown(
        rows=pictures,
        places=[_place_chart(number, place, looker) for number, place in enumerate(places, start=1)],
        quality=looker.quality(),
        uncertainty=looker.uncertainty(),
        faults=fault_pictures(looker, record.fault_maps),
    )


def _place_chart(number: int, place: evidence.PlaceSpectra, looker: evidence.Looker) -> PlaceChart:
    wavelength = looker.bands.wavelength_nm
    order = np.argsort(wavelength, kind="stable")
    # Bad bands are empty in the product; the HSI's numbers there are no reference either.
    good = np.where(looker.bands.good, 1.0, np.nan)[order]
    x, lines, gap = wavelength[order], [], _gap(wavelength)
    if place.hsi is not None:
        values = place.hsi[order] * good
        lines.append(charts.Line("HSI pixel", x, values, evidence.COLOURS["HSI"], 1.6, longest_step=gap))
    band = {}
    if place.sigma is not None:
        sigma = place.sigma[order]
        band = {"low": place.product[order] - sigma, "high": place.product[order] + sigma}
    name = "product ± standard error" if band else "product"
    values = place.product[order]
    lines.append(charts.Line(name, x, values, evidence.COLOURS["product"], 2.0, **band, longest_step=gap))
    if place.msi is not None:
        centres = looker.msi_centres_nm()
        lines.append(charts.Line("MSI as used", centres, place.msi, evidence.COLOURS["MSI"], points=True))
    caption = f"row {place.row}, column {place.col}; ground like this covers {100 * place.place.share:.0f} %"
    chart = charts.line_chart(lines, "wavelength, nm", _quantity(looker.scene), from_zero=True)
    return PlaceChart(number, caption, chart)


def _footprints(scene: Scene) -> Markup | None:
    found = evidence.footprints(scene)
    return None if found is None else charts.footprint_map(*found)


def _training(curve: Sequence[TrainingStep]) -> Markup | None:
    steps = [(step.step, step.loss) for step in curve if isinstance(step.loss, float)]
    if len(steps) < 2:
        return None
    x, y = np.asarray(steps, np.float64).T
    line = charts.Line("loss", x, y, "#2f6f4f")
    return charts.line_chart([line], "epoch", "mean absolute error", logarithmic=bool((y > 0).all()))


def _information(scene: Scene, told: ExplainedVarianceFacts) -> Markup:
    """Draw what the MSI tells of each HSI band, with the MSI's own bands for comparison."""
    x = np.asarray(told.wavelength_nm, np.float64)
    order = np.argsort(x, kind="stable")
    share = np.maximum(np.asarray(told.explained, np.float64), 0.0)
    lines = [charts.Line("HSI bands", x[order], 100 * share[order], evidence.COLOURS["HSI"], longest_step=_gap(x))]
    if scene.response is not None and scene.msi_names:
        centres = np.asarray(scene.response.select(scene.msi_names).centres_nm)
        lines.append(
            charts.Line("centres of the MSI's bands", centres, 0 * centres, evidence.COLOURS["MSI"], points=True)
        )
    return charts.line_chart(lines, "wavelength, nm", "variance explained, %", from_zero=True)


def _agreement(found: agreements.Agreements, quantity: str) -> Markup | None:
    if found.hsi is None or not found.hsi.n_pixels:
        return None
    x = found.hsi_wavelength_nm
    order = np.argsort(x, kind="stable")
    errors = found.hsi.rmse_per_band[order]
    line = charts.Line("RMSE", x[order], errors, evidence.COLOURS["HSI"], longest_step=_gap(x))
    return charts.line_chart([line], "wavelength, nm", f"RMSE, {quantity}", from_zero=True)


def _extrapolation(found: agreements.Agreements | None, quantity: str) -> str:
    """Say how far off the product is where it extrapolates, and elsewhere; empty where that was not measured."""
    ratio = error_ratio(found)
    if found is None or found.extrapolated is None or found.within is None or ratio is None:
        return ""
    return (
        f"Where the MSI is out of range ({found.extrapolated.n_pixels} HSI pixels) they differ by "
        f"{words.number(found.extrapolated.rmse, 2)} of {quantity}, elsewhere by {words.number(found.within.rmse, 2)}: "
        f"{words.times(ratio)} as much."
    )


@lru_cache(maxsize=1)
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("geolift.report", "."),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (words.number, words.fixed, words.percent, words.largest, words.moment, words.sentence, words.emphasised)
    environment.filters |= {each.__name__: each for each in filters}
    environment.globals["relations"] = words.RELATION_NAMES
    return environment.get_template("template.html.j2")
