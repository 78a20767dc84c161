"""An offset about which the MSI's own metadata contradict each other, settled against the HSI."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from geolift.datamodel.alignment import bounds_on, window_of
from geolift.datamodel.cube import window_values
from geolift.pair.overlay import overlay
from geolift.pair.scene_pair import ScenePair

OTHER_OFFSET = "other_offset"
"""The MSI's attribute that holds what its offset may be instead; readers set it."""
LOOKED_AT_PX = 200
"""Edge in HSI pixels of the middle of the overlap, where the two sensors' typical values are compared."""


def with_true_offset(pair: ScenePair) -> tuple[ScenePair, str | None]:
    """Return the pair with the offset that makes both sensors alike, and what to tell; None if nothing is open."""
    other, used = pair.msi.attrs.get(OTHER_OFFSET), pair.msi.attrs.get("offset")
    evidence = overlay(pair.hsi, pair.used_msi, pair.region.ratio)
    if not isinstance(other, float) or not isinstance(used, float) or evidence is None:
        return pair, None
    rows, cols = (_central(part) for part in (evidence.rows, evidence.cols))
    window = window_of(pair.msi_grid, bounds_on(pair.hsi_grid[rows, cols], pair.msi_grid))
    if window is None:
        return pair, None
    seen = _medians(window_values(pair.used_msi.data, *window))
    expected = pair.spectra.weights @ _medians(window_values(pair.hsi.data, rows, cols)[pair.learned_bands])
    apart = (seen - expected)[np.isfinite(seen - expected)]
    if apart.size == 0:
        return pair, None
    left = {offset: float(np.median(apart)) + offset - used for offset in (used, other)}
    best = min(left, key=lambda offset: abs(left[offset]))
    told = (
        f"{pair.msi.attrs.get('source')}: against the HSI the offset {best:g} is right: {left[best]:+.3f} are left "
        f"between the sensors, {left[used + other - best]:+.3f} with {used + other - best:g}"
    )
    if best == used:
        return pair, f"{told}."
    msi = pair.msi.copy(data=pair.msi.data + np.float32(best - used))
    msi.attrs["offset"] = best
    return replace(pair, msi=msi), f"{told}; it is used."


def _central(part: slice) -> slice:
    size = min(part.stop - part.start, LOOKED_AT_PX)
    first = part.start + (part.stop - part.start - size) // 2
    return slice(first, first + size)


def _medians(values: np.ndarray) -> np.ndarray:
    """Return the median of each band (band, y, x) → (band,); NaN where none is valid."""
    return np.array([np.median(v[np.isfinite(v)]) if np.isfinite(v).any() else np.nan for v in values])
