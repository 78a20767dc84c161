"""An image that was resampled, brought back to the grid it came from."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geolift.datamodel.cube import bands_of, grid_of, make_cube, window_values
from geolift.pair.screening.findings import Fault
from geolift.pair.screening.oversampled import LARGEST, CoarseAxis, coarse_axis, resolved_step
from geolift.pair.screening.repeated import source_axis
from geolift.pair.screening.spectral_residual import noise_pattern
from geolift.pair.screening.survey import Survey

ADVICE = "Give the HSI on its own grid: geolift brings the two together itself, without resampling it."

WINDOW_PX, MOST_BANDS = 96, 64
"""Edge of the window, and bands spread evenly, in which the noise is looked at."""


def without_repetitions(hsi: xr.DataArray, survey: Survey) -> tuple[xr.DataArray, Fault]:
    """Return an image of repeated pixels on the grid they came from, or as it is where no even grid explains them.

    ``hsi``: DataArray (band, y, x). ``survey``: of that image; its neighbours agree more often than by chance.
    """
    down, right = source_axis(survey.down), source_axis(survey.right)
    if down is None or right is None or (down.step == 1 and right.step == 1):
        return _displaced(hsi, survey)
    before = grid_of(hsi)
    data: Any = hsi.data[:, down.picks][:, :, right.picks]
    after = _grid(before, (down.start, right.start), (down.step, right.step), data.shape[1:])
    steps = f"{down.step:.4g}" if down.step == right.step else f"{down.step:.4g} × {right.step:.4g}"
    fault = Fault(
        code="resampled",
        message=f"each pixel of the HSI is repeated {steps} times along lines and columns",
        done=f"used on the grid it came from, {after.shape[0]} × {after.shape[1]} instead of {before.shape[0]} × "
        f"{before.shape[1]} pixels",
        advice=ADVICE,
        action="mended",
        size=float(max(down.step, right.step)),
    )
    return make_cube(data, grid=after, bands=bands_of(hsi), attrs=hsi.attrs), fault


def _displaced(hsi: xr.DataArray, survey: Survey) -> tuple[xr.DataArray, Fault]:
    """Return an image whose repeated pixels follow no even grid, averaged to about the size they were measured with."""
    equal, valid = (
        int(getattr(survey.down, count).sum() + getattr(survey.right, count).sum()) for count in ("equal", "valid")
    )
    share = equal / valid
    step = round(1 / max(1 - share, 1 / LARGEST))  # of s repetitions in a row, s - 1 agree with the one before
    done = "the product is not made to agree with it"
    if step > 1:
        hsi = _averaged(hsi, CoarseAxis(step, 0, False), CoarseAxis(step, 0, False))
        done = f"averaged over {step} × {step} pixels, and {done}"
    return hsi, Fault(
        code="resampled",
        message=f"the HSI was resampled by nearest neighbour onto another grid: {share:.1%} of its pixels repeat "
        "their neighbour, and each lies up to half a pixel beside its place",
        done=done,
        advice=ADVICE,
        action="mended" if step > 1 else "told",
        size=float(share),
        displaces=True,
    )


def _averaged(hsi: xr.DataArray, down: CoarseAxis, right: CoarseAxis) -> xr.DataArray:
    data: Any = coarser(coarser(hsi.data, down, 1), right, 2)
    grid = _grid(grid_of(hsi), (down.start, right.start), (down.step, right.step), data.shape[1:])
    return make_cube(data, grid=grid, bands=bands_of(hsi), attrs=hsi.attrs)


def on_resolved_grid(hsi: xr.DataArray, order: NDArray[np.intp], survey: Survey) -> tuple[xr.DataArray, Fault] | None:
    """Return an interpolated image on the grid that it resolves; None for an image on its own grid.

    Parameters
    ----------
    hsi : DataArray (band, y, x)
    order
        0-based bands that count.
    survey
        Of that image, in the same order.
    """
    rows, cols = (_central(int(size)) for size in hsi.shape[1:])
    values = survey.sound(window_values(hsi.data, rows, cols)[order], rows, cols)
    pattern = noise_pattern(values[np.unique(np.linspace(0, order.size - 1, MOST_BANDS).astype(int))])
    step = resolved_step(pattern)
    if step == 1:
        return None
    down, right = coarse_axis(pattern, 1, step), coarse_axis(pattern, 2, step)
    down, right = (
        CoarseAxis(step, (axis.phase + window.start) % step, axis.picked)
        for axis, window in ((down, rows), (right, cols))
    )
    out = _averaged(hsi, down, right)
    fault = Fault(
        code="resampled",
        message=f"the HSI was interpolated onto a grid about {step} times finer than it resolves",
        done=f"used on {out.shape[1]} × {out.shape[2]} instead of {hsi.shape[1]} × {hsi.shape[2]} pixels",
        advice=ADVICE,
        action="mended",
        size=float(step),
    )
    return out, fault


def _central(length: int) -> slice:
    first = max(0, (length - WINDOW_PX) // 2)
    return slice(first, min(length, first + WINDOW_PX))


def coarser(data: Any, axis: CoarseAxis, along: int) -> Any:
    """Bring an array (band, y, x), lazy or in memory, onto a coarser axis."""
    count, length = axis.count(data.shape[along]), data.shape[along]
    index: list[slice] = [slice(None)] * 3
    if axis.picked:
        index[along] = slice(axis.phase, length, axis.step)
        return data[tuple(index)]
    index[along] = slice(axis.phase, axis.phase + count * axis.step)
    part = data[tuple(index)]
    if not isinstance(part, np.ndarray):
        return da.coarsen(np.mean, part, {along: axis.step}).astype(np.float32)
    shape = (*part.shape[:along], count, axis.step, *part.shape[along + 1 :])
    return part.reshape(shape).mean(axis=along + 1, dtype=np.float32)


def _grid(grid: GeoBox, start: tuple[float, float], step: tuple[float, float], shape: tuple[int, ...]) -> GeoBox:
    """Return the grid whose pixels begin at ``start`` (y, x) and are ``step`` long, in pixels of another."""
    affine = grid.affine * Affine.translation(start[1], start[0]) * Affine.scale(step[1], step[0])
    return GeoBox((int(shape[0]), int(shape[1])), affine, grid.crs)
