"""What a survey of an HSI found, as faults an analyst understands."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geolift.datamodel.cube import Bands
from geolift.pair.screening.columns import left_out
from geolift.pair.screening.findings import Fault, PlacedFault, listed, listed_bands
from geolift.pair.screening.survey import Survey

Order = NDArray[np.intp]


def bad_value_faults(survey: Survey, bands: Bands, order: Order) -> list[Fault]:
    """Tell of values that no sensor measured, beside dead columns and lines.

    ``order``: 0-based bands that were surveyed, in the survey's order.
    """
    bad = survey.bad
    if bad.pixels == 0:
        return []
    if survey.noisy is not None and not (bad.per_band > 0)[~survey.noisy.noisy].any():
        return []
    touched = np.sort(order[bad.per_band > 0])
    row, col, band, value = bad.places[0]
    number = "no value" if np.isnan(value) else f"{value:.6g}"
    everywhere = touched.size == order.size
    where = "all bands" if everywhere else listed_bands(bands, touched)
    place = f"line {row}, column {col}"
    if bad.pixels == 1:
        text = (
            f"{number} in {where} of one pixel of the HSI ({place}, counted from 0) is nothing that a sensor measures"
        )
    else:
        own = listed_bands(bands, [int(order[band])])
        text = f"{int(bad.per_band.sum())} values in {where} and {bad.pixels} pixels of the HSI are nothing that a "
        text += f"sensor measures, such as {number} in {own}, {place} (counted from 0)"
    mended = bad.pixels - bad.left_out
    done = [] if mended == 0 else ["set right by the other bands of the pixel"]
    if bad.left_out:
        done.append("the pixel is left out" if bad.pixels == 1 else f"{bad.left_out} pixels are left out")
    return [
        PlacedFault(
            code="bad-values",
            message=text,
            done=", ".join(done),
            advice="If that number stands for no data, pass it as --hsi-nodata." if np.isfinite(value) else "",
            action="mended" if mended else "left out",
            bands=() if everywhere else tuple(int(b) + 1 for b in touched),
            rows=tuple(sorted({place[0] for place in bad.places})),
            cols=tuple(sorted({place[1] for place in bad.places})),
            size=float(bad.per_band.sum()),
            where=bad.where,
        )
    ]


def dead_faults(survey: Survey, bands: Bands, order: Order) -> list[Fault]:
    """Tell of dead columns and lines."""
    faults: list[Fault] = []
    for noun, dead in (("column", survey.columns), ("line", survey.lines)):
        if not dead.any():
            continue
        whole = bool(left_out(dead).any())
        where = np.flatnonzero(dead.any(axis=0))
        touched = np.sort(order[dead.any(axis=1)])
        everywhere = touched.size == order.size
        text = f"{listed(where, noun)} of the HSI (counted from 0) {'is' if where.size == 1 else 'are'} dead: one "
        text += f"number all along, in {'all bands' if everywhere else listed_bands(bands, touched)}"
        faults.append(
            PlacedFault(
                code="stripes",
                message=text,
                done="left out of all that is learned" if whole else "set right by the other bands",
                action="left out" if whole else "mended",
                bands=() if everywhere else tuple(int(b) + 1 for b in touched),
                rows=tuple(map(int, where)) if noun == "line" else (),
                cols=tuple(map(int, where)) if noun == "column" else (),
                size=float(where.size),
                where=_along(dead.mean(axis=0), noun),
            )
        )
    return faults


def _along(values: NDArray[np.floating], noun: str) -> NDArray[np.floating]:
    """Return what columns or lines hold (n,) as an image that is one pixel high or wide."""
    return values[None, :] if noun.startswith("column") else values[:, None]


def doubled_faults(survey: Survey) -> list[Fault]:
    """Tell of columns and lines that were recorded twice."""
    faults: list[Fault] = []
    for noun, doubled in (("line", survey.doubled_lines), ("column", survey.doubled_columns)):
        if not doubled.any():
            continue
        where = np.flatnonzero(doubled)
        faults.append(
            PlacedFault(
                code="line-jitter",
                message=f"{listed(where, noun)} of the HSI (counted from 0) hold the same as the next or the one "
                "before: recorded twice, in place of what lies there",
                done="left out of all that is learned",
                action="left out",
                rows=tuple(map(int, where)) if noun == "line" else (),
                cols=tuple(map(int, where)) if noun == "column" else (),
                size=float(where.size),
                where=_along(doubled.astype(np.float64), noun),
            )
        )
    return faults


def stripe_faults(survey: Survey) -> list[Fault]:
    """Tell of stripes."""
    stripes = survey.stripes
    if stripes is None:
        return []
    noun = "columns" if stripes.axis == 2 else "lines"
    return [
        PlacedFault(
            code="stripes",
            message=f"{noun} of the HSI's bands are brighter or darker than the scene explains, by {stripes.size:.1%} "
            "(standard deviation)",
            done="set right as far as the scene allows",
            advice="Destriped data of the producer would be better.",
            action="mended",
            size=stripes.size,
            where=_along(np.abs(stripes.gain - 1).mean(axis=0), noun),
        )
    ]


def noisy_band_faults(survey: Survey, bands: Bands, order: Order) -> list[Fault]:
    """Tell of bands that hold little but noise."""
    if survey.noisy is None:
        return []
    touched = np.sort(order[survey.noisy.noisy])
    return [
        Fault(
            code="noisy-bands",
            message=f"{listed_bands(bands, touched)} of the HSI {'holds' if touched.size == 1 else 'hold'} little but "
            f"noise, up to {survey.noisy.size:.0%} of the signal",
            done="replaced by what the other bands tell",
            advice="Flag them as bad in the file, or leave them out with --bands.",
            action="mended",
            bands=tuple(int(b) + 1 for b in touched),
            size=survey.noisy.size,
        )
    ]
