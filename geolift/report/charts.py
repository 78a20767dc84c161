"""Charts as inline SVG: lines over an axis, footprints on a map. Readable on a telephone without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 440, 270
LEFT, RIGHT, TOP, BOTTOM = 66, 10, 12, 40
AXIS, GRID, PAPER = "var(--soft)", "var(--rule)", "var(--paper)"
"""The page's own colours, light or dark."""

FAR_OFF = 0.4
"""Single values further than this beyond the central 96 %, in parts of their range, do not stretch an axis."""

DASH = 14
"""Length of a dash of outlines that coincide."""

# Curves are drawn inside a window of their own, which cuts off what leaves the axes.
_WINDOW = (
    f'<svg x="{LEFT}" y="{TOP - 2}" width="{WIDTH - RIGHT - LEFT}" height="{HEIGHT - BOTTOM - TOP + 3}" '
    f'viewBox="{LEFT} {TOP - 2} {WIDTH - RIGHT - LEFT} {HEIGHT - BOTTOM - TOP + 3}">'
)


@dataclass(frozen=True, eq=False)
class Line:
    """A curve of a chart: x rising; NaN in y, or a step in x above ``longest_step``, breaks the line.

    ``low`` and ``high`` draw a band around it; ``points`` draws dots instead of a line.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    colour: str
    width: float = 2.0
    points: bool = False
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    dashes: str = ""
    longest_step: float = np.inf

    def runs(self, *shown: np.ndarray) -> list[np.ndarray]:
        """Return the stretches of positions at which x, and whatever else is ``shown``, can be joined."""
        at = np.flatnonzero(np.isfinite(self.x) & np.isfinite(np.stack(shown)).all(axis=0))
        if at.size == 0:
            return []
        return np.split(at, np.flatnonzero((np.diff(at) > 1) | (np.diff(self.x[at]) > self.longest_step)) + 1)


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    first: float
    last: float
    logarithmic: bool = False

    def at(self, values: np.ndarray | float) -> np.ndarray:
        low, high = (np.log10(v) if self.logarithmic else v for v in (self.low, self.high))
        given = np.log10(np.maximum(values, 1e-30)) if self.logarithmic else np.asarray(values, np.float64)
        return np.asarray(self.first + (given - low) / max(high - low, 1e-30) * (self.last - self.first))

    def ticks(self) -> list[float]:
        if self.logarithmic:
            return _log_ticks(self.low, self.high)
        return _ticks(self.low, self.high)


def line_chart(
    lines: Sequence[Line], x_label: str, y_label: str, *, logarithmic: bool = False, from_zero: bool = False
) -> Markup:
    """Draw curves over a common axis, with a legend if there is more than one."""
    drawn = [line for line in lines if np.isfinite(line.y).any()]
    if not drawn:
        return Markup("")
    x_axis, y_axis = _axes(drawn, logarithmic, from_zero)
    parts = [_frame(x_axis, y_axis, x_label, y_label), _WINDOW]
    parts += [_band(line, x_axis, y_axis) for line in drawn if line.low is not None and line.high is not None]
    parts += [_curve(line, x_axis, y_axis) for line in drawn if not line.points]
    parts += ["</svg>", *(_curve(line, x_axis, y_axis) for line in drawn if line.points)]
    label = f"{y_label} over {x_label}: " + ", ".join(line.name for line in drawn)
    svg = _svg(parts, WIDTH, HEIGHT, label)
    return svg + _legend(drawn) if len(drawn) > 1 else svg


def _axes(lines: Sequence[Line], logarithmic: bool, from_zero: bool) -> tuple[_Axis, _Axis]:
    xs = np.concatenate([line.x[np.isfinite(line.x)] for line in lines])
    ys = np.concatenate([line.y[np.isfinite(line.y)] for line in lines])
    if logarithmic:
        ys = ys[ys > 0]
    low, high = _usual_range(ys) if ys.size else (0.0, 1.0)
    if logarithmic:
        low, high = low / 1.15, high * 1.15
    else:
        low = min(0.0, low) if from_zero else low
        high = high + 0.05 * (high - low) if high > low else low + 1.0
    x_low, x_high = float(xs.min()), float(xs.max())
    x_axis = _Axis(x_low, x_high if x_high > x_low else x_low + 1.0, LEFT, WIDTH - RIGHT)
    return x_axis, _Axis(low, high, HEIGHT - BOTTOM, TOP, logarithmic)


def _usual_range(values: np.ndarray) -> tuple[float, float]:
    """Return the least and largest value, or a range around most of them where a few lie far off."""
    low, high = (float(v) for v in np.percentile(values, [2, 98]))
    reach = FAR_OFF * (high - low)
    return max(float(values.min()), low - reach), min(float(values.max()), high + reach)


def _ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return round numbers between two ends."""
    rough = (high - low) / wanted
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * nice for nice in (1, 2, 2.5, 5, 10) if power * nice >= rough * 0.999)
    return [float(v) for v in np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), tuple(range(1, 10))):
        found = [nice * 10.0**decade for decade in decades for nice in steps if low <= nice * 10.0**decade <= high]
        if len(found) >= 3:
            return found
    return found


def _frame(x_axis: _Axis, y_axis: _Axis, x_label: str, y_label: str) -> str:
    bottom = HEIGHT - BOTTOM
    parts = []
    for value, y in ((v, float(y_axis.at(v))) for v in y_axis.ticks()):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:z.4g}</text>')
    for value, x in ((v, float(x_axis.at(v))) for v in x_axis.ticks()):
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}" stroke="{AXIS}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{value:z.6g}</text>')
    parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}" stroke="{AXIS}"/>')
    middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + bottom) / 2
    parts.append(f'<text x="{middle_x:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    turned = f'transform="rotate(-90 12 {middle_y:.0f})"'
    parts.append(f'<text x="12" y="{middle_y:.0f}" text-anchor="middle" {turned}>{escape(y_label)}</text>')
    return "".join(parts)


def _curve(line: Line, x_axis: _Axis, y_axis: _Axis) -> str:
    xs, ys = x_axis.at(line.x), y_axis.at(line.y)
    if line.points:
        shown = np.isfinite(line.x) & np.isfinite(line.y)
        return "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.2" fill="{line.colour}" stroke="{PAPER}"/>'
            for x, y in zip(xs[shown], ys[shown], strict=True)
        )
    path = " ".join(
        " ".join(f"{'M' if i == 0 else 'L'}{xs[at]:.1f},{ys[at]:.1f}" for i, at in enumerate(run))
        for run in line.runs(line.y)
    )
    dashes = f' stroke-dasharray="{line.dashes}"' if line.dashes else ""
    return f'<path d="{path}" fill="none" stroke="{line.colour}" stroke-width="{line.width}"{dashes}/>'


def _band(line: Line, x_axis: _Axis, y_axis: _Axis) -> str:
    assert line.low is not None
    assert line.high is not None
    xs, low, high = x_axis.at(line.x), y_axis.at(line.low), y_axis.at(line.high)
    parts = []
    for run in line.runs(line.low, line.high):
        edge = [f"{xs[at]:.1f},{high[at]:.1f}" for at in run] + [f"{xs[at]:.1f},{low[at]:.1f}" for at in run[::-1]]
        parts.append(f'<polygon points="{" ".join(edge)}" fill="{line.colour}" opacity="0.2"/>')
    return "".join(parts)


def _legend(lines: Sequence[Line]) -> Markup:
    items = Markup("").join(
        Markup('<span><i class="{}" style="background:{}"></i>{}</span>').format(
            "dot" if line.points else "bar", line.colour, line.name
        )
        for line in lines
    )
    return Markup('<div class="legend">{}</div>').format(items)


def _svg(parts: Sequence[str], width: float, height: float, label: str) -> Markup:
    # The parts are made of numbers and escaped labels only.
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        f"{width:.0f}", f"{height:.0f}", label, Markup("".join(parts))
    )


@dataclass(frozen=True, eq=False)
class Footprint:
    """The outline of a raster: x and y in one CRS, y to the north."""

    name: str
    x: np.ndarray
    y: np.ndarray
    colour: str


def _dashes(drawn: Footprint, footprints: Sequence[Footprint]) -> str:
    """Return dashes that leave room for each other where outlines coincide."""
    near = 1e-3 * np.ptp([drawn.x, drawn.y], axis=1).max()
    same = [f for f in footprints if np.abs([f.x - drawn.x, f.y - drawn.y]).max() < near]
    if len(same) == 1:
        return ""
    place = next(i for i, f in enumerate(same) if f is drawn)
    return f' stroke-dasharray="{DASH} {DASH * (len(same) - 1)}" stroke-dashoffset="{-DASH * place}"'


def footprint_map(footprints: Sequence[Footprint], metres_per_unit: float) -> Markup:
    """Draw outlines on each other, north up, with a scale bar and a legend."""
    xs = np.concatenate([f.x for f in footprints])
    ys = np.concatenate([f.y for f in footprints])
    span_x, span_y = max(np.ptp(xs), 1e-12), max(np.ptp(ys), 1e-12)
    scale = min((WIDTH - 40) / span_x, 300 / span_y)
    height = span_y * scale + 66
    left = (WIDTH - span_x * scale) / 2
    parts = []
    for print_ in footprints:
        points = " ".join(
            f"{left + (x - xs.min()) * scale:.1f},{20 + (ys.max() - y) * scale:.1f}"
            for x, y in zip(print_.x, print_.y, strict=True)
        )
        parts.append(
            f'<polygon points="{points}" fill="{print_.colour}" fill-opacity="0.12" stroke="{print_.colour}" '
            f'stroke-width="2.5"{_dashes(print_, footprints)}/>'
        )
    bar = _bar_length(span_x * metres_per_unit)
    end = 20 + bar / metres_per_unit * scale
    text = f"{bar / 1000:g} km" if bar >= 1000 else f"{bar:g} m"
    parts.append(f'<line x1="20" x2="{end:.1f}" y1="{height - 22:.0f}" y2="{height - 22:.0f}" stroke="var(--ink)" ')
    parts.append(f'stroke-width="3"/><text x="20" y="{height - 5:.0f}">{text}</text>')
    parts.append(f'<text x="{WIDTH - 20}" y="{height - 5:.0f}" text-anchor="end">north is up</text>')
    legend = [Line(f.name, f.x, f.y, f.colour) for f in footprints]
    return _svg(parts, WIDTH, height, "footprints: " + ", ".join(f.name for f in footprints)) + _legend(legend)


def _bar_length(span_m: float) -> float:
    """Return a round length of about a third of the picture's width."""
    rough = max(span_m / 3, 1e-6)
    power = 10.0 ** np.floor(np.log10(rough))
    return float(max(power * nice for nice in (1, 2, 5) if power * nice <= rough))
