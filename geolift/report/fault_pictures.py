"""Where the faults of a pair lie: the scene in grey, the places in red."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geolift.plotting import stretch_limits, to_display
from geolift.provenance.record import FaultMapFacts
from geolift.report.evidence import Looker
from geolift.report.images import Picture, as_picture
from geolift.report.views import seen_on

PICTURE_PX = 200
LEVELS = 9
RED = np.array([0.84, 0.05, 0.12])
DENSEST = 0.9
"""Opacity of the largest value of a map."""


def fault_pictures(looker: Looker, maps: Sequence[FaultMapFacts]) -> dict[str, list[Picture]]:
    """Draw each map over the scene; by the code of its fault."""
    pictures: dict[str, list[Picture]] = {}
    scene = _in_grey(looker)
    if scene is None:
        return pictures
    step = -(-max(scene.shape) // PICTURE_PX)
    for told in maps:
        values = _values(told)
        if values.size == 0:
            continue
        grid = GeoBox(values.shape, Affine(*told.transform), told.crs)
        seen = np.nan_to_num(seen_on(looker.whole, values[None], grid)[0])
        opacity = DENSEST * seen[..., None]
        mixed = scene[..., None] * (1 - opacity) + RED * opacity
        pixels = np.asarray(np.rint(255 * mixed[::step, ::step]), np.uint8)
        pictures.setdefault(told.code, []).append(as_picture(pixels, f"Red: {told.what}", lossless=False))
    return pictures


def _values(told: FaultMapFacts) -> NDArray[np.float32]:
    """Return a map's values (y, x), 0 to 1, NaN = not known; empty if its rows are not of one length."""
    if not told.cells or len({len(row) for row in told.cells}) != 1:
        return np.empty((0, 0), np.float32)
    return np.array([[int(d) / LEVELS if d.isdigit() else np.nan for d in row] for row in told.cells], np.float32)


def _in_grey(looker: Looker) -> NDArray[np.float64] | None:
    """Return the scene (y, x) as the MSI shows it, 0 to 1; as the product does where there is none."""
    shown = looker.look()
    if not shown:
        return None
    image = shown.get("MSI", shown["product"])
    grey = to_display(image, stretch_limits(image))[..., :3].mean(axis=-1)
    return np.asarray(0.15 + 0.8 * np.nan_to_num(grey), np.float64)
