"""How QGIS draws a raster: an image in colour, classes with their names, one quantity on a ramp."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import rasterio

STYLE_MARK = "style of geolift"
RAMP = ("#000004", "#51127c", "#b73779", "#fc8961", "#fcfdbf")
"""Five colours of the palette magma, dark to light."""

PERCENTS = (2.0, 98.0)


def write_style(file: Path, sampled: np.ndarray, rgb: tuple[int, int, int], scale: float) -> None:
    """Write how QGIS draws a raster: these 0-based bands, all from the 2 to the 98 percentile of the three together.

    A stretch for each band by itself, as QGIS makes it, would colour what is grey.
    """
    valid = sampled[list(rgb)]
    valid = valid[np.isfinite(valid)]
    if valid.size == 0:
        return
    low, high = scale * np.percentile(valid.astype(np.float64), PERCENTS)
    channels = [
        f"<{colour}ContrastEnhancement><minValue>{low:.6g}</minValue><maxValue>{high:.6g}</maxValue>"
        f"<algorithm>StretchToMinimumMaximum</algorithm></{colour}ContrastEnhancement>"
        for colour in ("red", "green", "blue")
    ]
    bands = " ".join(f'{colour}Band="{band + 1}"' for colour, band in zip(("red", "green", "blue"), rgb, strict=True))
    limits = "".join(
        f"<{name}>{value}</{name}>"
        for name, value in {
            "limits": "None",
            "extent": "WholeRaster",
            "statAccuracy": "Estimated",
            "cumulativeCutLower": PERCENTS[0] / 100,
            "cumulativeCutUpper": PERCENTS[1] / 100,
        }.items()
    )
    _write(
        file,
        f'type="multibandcolor" opacity="1" alphaBand="-1" {bands}>\n<minMaxOrigin>{limits}</minMaxOrigin>\n'
        + "\n".join(channels),
    )


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
    low, high = (float(v) for v in scale * np.percentile(valid, PERCENTS))
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


def is_our_style(file: Path) -> bool:
    """Tell whether a style was written here, and not by somebody in QGIS."""
    return file.is_file() and STYLE_MARK in file.read_text(encoding="utf-8", errors="replace")[:400]


def _write(file: Path, renderer: str) -> None:
    file.write_text(
        f"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n<!-- {STYLE_MARK} -->\n"
        f'<qgis version="3.22">\n<pipe>\n<rasterrenderer {renderer}\n</rasterrenderer>\n</pipe>\n</qgis>\n',
        encoding="utf-8",
    )
