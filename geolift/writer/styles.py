"""How QGIS draws what is no picture: classes with their names, and one quantity on a ramp."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import rasterio

from geolift.writer.viewing import STYLE_MARK

RAMP = ("#000004", "#51127c", "#b73779", "#fc8961", "#fcfdbf")
"""Five colours of the palette magma, dark to light."""

RAMP_PERCENTS = (2, 98)


def write_classes(file: Path, classes: Mapping[int, tuple[str, str]]) -> None:
    """Write a style for a raster of classes.

    ``file``: the style, ``.qml``. ``classes``: value to (#rrggbb, what it means).
    """
    entries = "".join(
        f'<paletteEntry value="{value}" color="{colour}" alpha="255" label={quoteattr(meaning)}/>\n'
        for value, (colour, meaning) in sorted(classes.items())
    )
    renderer = f'type="paletted" band="1" opacity="1" alphaBand="-1">\n<colorPalette>\n{entries}</colorPalette>'
    _write(file, renderer)


def write_ramp(file: Path, sampled: np.ndarray, band: int, scale: float) -> None:
    """Write a style that draws one 0-based band from dark (small) to light (large), with its values as the legend.

    ``sampled``: stored values (band, n) of the raster, NaN = invalid. ``scale``: value = number × scale, which QGIS
    applies as well.
    """
    valid = sampled[band][np.isfinite(sampled[band])].astype(np.float64)
    if valid.size == 0:
        return
    low, high = (float(v) for v in scale * np.percentile(valid, RAMP_PERCENTS))
    steps = np.linspace(low, high, len(RAMP))
    items = "".join(
        f'<item value="{value:.6g}" color="{colour}" alpha="255" label="{value:.3g}"/>\n'
        for value, colour in zip(steps, RAMP, strict=True)
    )
    _write(
        file,
        f'type="singlebandpseudocolor" band="{band + 1}" opacity="1" alphaBand="-1" classificationMin="{low:.6g}" '
        f'classificationMax="{high:.6g}">\n<rastershader>\n<colorrampshader colorRampType="INTERPOLATED" '
        f'classificationMode="1" clip="0" minimumValue="{low:.6g}" maximumValue="{high:.6g}">\n{items}'
        "</colorrampshader>\n</rastershader>",
    )


def values_in(file: Path) -> list[int]:
    """Return the different values of a raster of one band of whole numbers, nodata left out; block by block."""
    found: set[int] = set()
    with rasterio.open(file) as raster:
        for _, window in raster.block_windows(1):
            found |= {int(value) for value in np.unique(raster.read(1, window=window))}
        nodata = raster.nodata
    return sorted(value for value in found if value != nodata)


def _write(file: Path, renderer: str) -> None:
    file.write_text(
        f"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n<!-- {STYLE_MARK} -->\n"
        f'<qgis version="3.22">\n<pipe>\n<rasterrenderer {renderer}\n</rasterrenderer>\n</pipe>\n</qgis>\n',
        encoding="utf-8",
    )
