"""What a sweep says: means of the methods side by side, as records, as a table, and as a picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geolift.benchmark.cases import AXES
from geolift.benchmark.sweep import INNER, MEASURES, SECONDS, Row
from geolift.errors import ResourceError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SETTING = tuple(axis for axis in AXES if axis not in ("scene", "method", "seed"))
FIGURES = (*MEASURES, *INNER, *SECONDS)


@dataclass(frozen=True)
class Line:
    """The methods in one setting: means over the scenes that each of them has done, each scene the mean of its seeds.

    ``means`` method → figure → mean; ``left_out`` scenes for want of some method's result.
    """

    setting: dict[str, str]
    scenes: int
    left_out: int
    means: dict[str, dict[str, float]]


def lines_of(rows: Sequence[Row]) -> list[Line]:
    """Return a line for each setting in the order of the rows; failed cases are left out.

    Only scenes that all methods have done count, so that no method gains by failing on the difficult ones.
    """
    grouped: dict[tuple[str, ...], dict[str, dict[str, list[list[float]]]]]
    grouped = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in rows:
        if not row["error"]:
            figures = [float(row[name] or "nan") for name in FIGURES]
            grouped[tuple(row[axis] for axis in SETTING)][row["method"]][row["scene"]].append(figures)
    lines = []
    for setting, methods in grouped.items():
        common = set.intersection(*(set(scenes) for scenes in methods.values()))
        every = set().union(*methods.values())
        means = {
            method: dict(
                zip(FIGURES, map(float, np.mean([np.mean(scenes[s], 0) for s in sorted(common)], 0)), strict=True)
            )
            for method, scenes in methods.items()
            if common
        }
        lines.append(Line(dict(zip(SETTING, setting, strict=True)), len(common), len(every - common), means))
    return lines


def overall(lines: Sequence[Line]) -> tuple[int, dict[str, dict[str, float]]]:
    """Return the number of settings in which all methods have a mean, and the methods' means over those."""
    methods = methods_of(lines)
    full = [line for line in lines if set(line.means) == set(methods)]
    if not full:
        return 0, {}
    return len(full), {
        method: {figure: float(np.mean([line.means[method][figure] for line in full])) for figure in FIGURES}
        for method in methods
    }


def methods_of(lines: Sequence[Line]) -> list[str]:
    """Return the methods in the order of their first appearance."""
    return list(dict.fromkeys(method for line in lines for method in line.means))


def as_records(lines: Sequence[Line]) -> list[dict[str, object]]:
    """Return plain JSON types, one record for each setting and method; what is not finite is null."""
    return [
        line.setting
        | {"method": method, "scenes": line.scenes, "scenes_left_out": line.left_out}
        | {figure: value if np.isfinite(value) else None for figure, value in means.items()}
        for line in lines
        for method, means in line.means.items()
    ]


def as_text(lines: Sequence[Line]) -> str:
    """Return a table of PSNR / SAM, a row for each setting and its inner pixels, a column for each method."""
    if not any(line.means for line in lines):
        return "no case has a result"
    methods = methods_of(lines)
    table = [["PSNR dB / SAM °", "scenes", *methods]]
    for line, label in zip(lines, labels(lines), strict=True):
        table.append([label, str(line.scenes), *(_quality(line.means.get(method)) for method in methods)])
        if any(np.isfinite(means["inner_psnr_db"]) for means in line.means.values()):
            table.append(["  inner pixels", "", *(_quality(line.means.get(m), "inner_") for m in methods)])
    count, means = overall(lines)
    if count > 1:
        table.append([f"mean of {count} settings", "", *(_quality(means[method]) for method in methods)])
    if count:
        table.append(
            ["seconds of a case", "", *(f"{means[m]['train_s'] + means[m]['inference_s']:.2f}" for m in methods)]
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    texts = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in table
    ]
    left_out = sum(line.left_out for line in lines)
    note = (
        [f"{left_out} times a scene is left out of the means, for some method has no result there"] if left_out else []
    )
    return "\n".join([*texts, *note])


def _quality(means: dict[str, float] | None, of: str = "") -> str:
    return "–" if means is None else f"{means[of + 'psnr_db']:.2f} / {means[of + 'sam_deg']:.2f}"


def labels(lines: Sequence[Line]) -> list[str]:
    """Name the settings by PSF, ratio, response and SNR, and by whatever else differs between them."""
    rest = [axis for axis in SETTING if axis not in ("psf", "ratio", "srf", "snr_db")]
    differing = [axis for axis in rest if len({line.setting[axis] for line in lines}) > 1]
    names = []
    for setting in (line.setting for line in lines):
        response = f"{setting['srf']} bands" if setting["srf"].isdigit() else setting["srf"]
        parts = [setting["psf"], f"ratio {setting['ratio']}", response, f"{float(setting['snr_db']):g} dB"]
        names.append(", ".join(parts + [f"{axis} {setting[axis] or '–'}" for axis in differing]))
    return names


def draw(lines: Sequence[Line], path: Path) -> None:
    """Draw PSNR, SAM and seconds of the methods, a row for each setting, as a PNG.

    Raises ResourceError if the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 1.8 + 0.3 * len(lines)), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    _dots(panels[0], lines, "PSNR, dB", lambda means: means["psnr_db"])
    _dots(panels[1], lines, "SAM, °", lambda means: means["sam_deg"])
    _dots(panels[2], lines, "training + inference, s", lambda means: means["train_s"] + means["inference_s"])
    _decades(panels[2])
    panels[0].set_yticks(range(len(lines)), labels(lines))
    panels[0].invert_yaxis()
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False)
    try:
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise ResourceError(f"{path}: the picture cannot be written: {error.strerror or error}") from error


def _dots(axes: Axes, lines: Sequence[Line], title: str, value: Callable[[dict[str, float]], float]) -> None:
    for method in methods_of(lines):
        places = [row for row, line in enumerate(lines) if method in line.means]
        axes.plot([value(lines[row].means[method]) for row in places], places, "o", label=method, alpha=0.85)
    axes.set_xlabel(title)
    axes.grid(alpha=0.3)
    axes.margins(y=0.5 / max(len(lines), 1))


def _decades(axes: Axes) -> None:
    """Make the x axis logarithmic, from one power of ten to another."""
    from matplotlib.ticker import NullFormatter

    seconds = np.concatenate([line.get_xdata() for line in axes.get_lines()])
    low, high = np.floor(np.log10(seconds.min())), np.ceil(np.log10(seconds.max()))
    axes.set_xscale("log")
    axes.set_xlim(10.0**low, 10.0 ** max(high, low + 1))
    axes.xaxis.set_minor_formatter(NullFormatter())
