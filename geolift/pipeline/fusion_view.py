"""A fusion as a notebook shows it: what to make of it, small pictures, a figure, the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from markupsafe import Markup

from geolift.datamodel.cube import Bands, bands_of, grid_of, window_values
from geolift.pipeline.fusion_facts import fusion_facts
from geolift.provenance.record import ProductFile, RunRecord
from geolift.provenance.sidecar import dump_settings, input_facts, plain, sidecar_path, stac_item, write_json
from geolift.report import make_report, words
from geolift.report.images import colour_picture
from geolift.report.verdict import verdict
from geolift.report.views import RGB_NM, View, nearest_bands, seen_on, view_of
from geolift.runtime.machine import available_cpus
from geolift.runtime.scratch import scratch_folder
from geolift.settings import WritingSettings
from geolift.writer import Encoding, write_cube

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from geolift.pipeline.fusion import Fusion

THUMBNAIL_PX = 200
SEEN_PX = 4_000_000
"""Pixels of the product up to which a notebook computes a picture of it unasked."""

FIGURE_PX = 800
PLACES = ((0.25, 0.25), (0.5, 0.5), (0.75, 0.75))
"""Where the figure's spectra are taken, in parts of height and width."""

COLOURS = {"usable": "#0f766e", "with care": "#c27a12", "look first": "#b3263a"}
_TABLE = Markup(
    '<div style="border-left:5px solid {};padding:2px 12px;max-width:60em">'
    "<p><b>geolift fusion</b>: {}</p>{}<table>{}</table>{}</div>"
)


def facts_of(fusion: Fusion) -> dict[str, object]:
    """Return what the sidecar of this fusion would tell, as far as it is known before the pixels."""
    sources = {"hsi": fusion.plan.hsi.source, "msi": fusion.plan.msi.source}
    return {
        "settings": dump_settings(fusion.settings),
        "inputs": {name: input_facts(str(source)) for name, source in sources.items() if source},
        "model": fusion.trained.facts.of_run(),
        "choices": fusion.trained.model.choices,
        **fusion_facts(fusion),
    }


def as_html(fusion: Fusion) -> str:
    """Return the verdict, what was decided, and small pictures where the product is small enough to be computed."""
    record = RunRecord.model_validate(plain(facts_of(fusion)))
    judged = verdict(record)
    rows = [(decision.subject, decision.outcome) for decision in words.decisions(record, ProductFile())]
    rows += [("Warning", text) for text in judged.warnings[:3]]
    cells = Markup("").join(
        Markup('<tr><th style="text-align:left">{}</th><td style="text-align:left">{}</td></tr>').format(*row)
        for row in rows
    )
    size = int(np.prod(fusion.fused.shape[1:]))
    shown = _thumbnails(fusion) if size <= SEEN_PX else Markup("")
    height, width = fusion.fused.shape[1:]
    about = Markup("<p>{} bands, {} × {} pixels</p>").format(fusion.fused.sizes["band"], height, width)
    return str(_TABLE.format(COLOURS[judged.grade], judged.sentence, about, cells, shown))


def _thumbnails(fusion: Fusion) -> Markup:
    view, images = view_of(grid_of(fusion.fused), THUMBNAIL_PX), {}
    for name, rgb in _images(fusion, view).items():
        images[name] = colour_picture(rgb, _limits(rgb), name)
    figures = Markup("").join(
        Markup(
            '<figure style="display:inline-block;margin:6px 10px 6px 0"><img src="{}" width="{}" alt="{}">'
            "<figcaption>{}</figcaption></figure>"
        ).format(picture.uri, max(picture.width, THUMBNAIL_PX // 2), name, name)
        for name, picture in images.items()
    )
    return Markup("<div>{}</div>").format(figures)


def _limits(rgb: np.ndarray) -> tuple[float, float]:
    from geolift.plotting import stretch_limits

    return stretch_limits(rgb)


def _images(fusion: Fusion, view: View) -> dict[str, np.ndarray]:
    """Return red, green, blue (3, y, x) of HSI, MSI and product on a view; what has no such bands is left out."""
    pair, compared = fusion.pair, fusion.compared
    shift = (0.0, 0.0) if compared is None else compared.applied_px
    centres = pair.spectra.weights @ pair.spectra.bands.wavelength_nm[list(pair.spectra.good)]
    names = tuple(pair.spectra.msi_names)
    msi_bands = Bands(names, centres, np.full(len(names), np.nan), np.ones(len(names), bool))
    images: dict[str, np.ndarray] = {}
    if bands := nearest_bands(bands_of(pair.hsi), RGB_NM):
        images["HSI"] = seen_on(view, pair.hsi.data, grid_of(pair.hsi), bands, shift)
    if bands := nearest_bands(msi_bands, RGB_NM):
        images["MSI"] = seen_on(view, pair.used_msi.data, grid_of(pair.used_msi), bands)
    if bands := nearest_bands(bands_of(fusion.fused), RGB_NM):
        images["Product"] = seen_on(view, fusion.fused.data, grid_of(fusion.fused), bands)
    return images


def plot(fusion: Fusion) -> Figure:
    """Draw HSI, MSI and product at one stretch, and the product's spectra at three places with their standard error."""
    from geolift.plotting import Curve, fusion_picture

    view = view_of(grid_of(fusion.fused), FIGURE_PX)
    height, width = fusion.fused.shape[1:]
    nm = bands_of(fusion.fused).wavelength_nm
    curves = []
    for down, right in PLACES:
        row, col = int(down * height), int(right * width)
        at = (slice(row, row + 1), slice(col, col + 1))
        spectrum = window_values(fusion.fused.data, *at)[:, 0, 0]
        sigma = None if fusion.sigma is None else window_values(fusion.sigma.data, *at)[:, 0, 0]
        curves.append(Curve((row / view.step, col / view.step), nm, spectrum, sigma))
    return fusion_picture(_images(fusion, view), curves, str(fusion.fused.attrs.get("quantity", "value")))


def report(fusion: Fusion, target: Path) -> Path:
    """Write the report of a fusion in memory; the product is computed into a folder that goes again."""
    with scratch_folder() as folder:
        product = folder / "fused.tif"
        parts: dict[str, xr.DataArray | None] = {"qa": fusion.quality, "uncertainty": fusion.sigma}
        growing = {Path(f"{name}.tif"): folder / f"{name}.tif" for name, part in parts.items() if part is not None}
        threads = fusion.settings.threads or available_cpus()
        writing = WritingSettings(dtype="float32", overviews="none")
        encoding = Encoding.of(writing, 1.0)
        for cube, path in ((fusion.fused, product), *((parts[name.stem], file) for name, file in growing.items())):
            assert cube is not None
            write_cube(cube, path, writing, encoding=encoding, threads=threads, tile_size=fusion.settings.tile_size)
        side = {name.stem: str(name) for name in growing} | {"report": None}
        facts = facts_of(fusion) | {"settings": dump_settings(fusion.settings) | side}
        item = stac_item(
            product,
            grid_of(fusion.fused),
            bands_of(fusion.fused),
            driver="GTiff",
            acquired=fusion.fused.attrs.get("acquired"),
            encoding=encoding,
            facts=facts,
        )
        write_json(sidecar_path(product), item)
        return make_report(product, target, growing)
