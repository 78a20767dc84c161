"""Pictures for people, from plain arrays: what went in, what came out, and a few spectra."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geolift.errors import UsageError
from geolift.runtime.whole_files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

FloatArray = NDArray[np.floating[Any]]

_STYLE = {"truth": ("black", 2.2), "product": ("#d1495b", 1.3), "LR-HSI": ("#2a7fb8", 1.0)}
_GAMMA = 0.75
_EMPTY = "#d9d9d9"


@dataclass(frozen=True)
class PixelSpectra:
    """Spectra of one place, to be drawn together.

    Attributes
    ----------
    label
        What is there, e.g. "forest".
    row, col
        Pixel of the product, counted from its upper left corner.
    wavelengths_nm
        (band,), in any order.
    curves
        Reflectance (band,) by name; NaN = no data. "truth", "product" and "LR-HSI" have fixed colours.
    """

    label: str
    row: int
    col: int
    wavelengths_nm: FloatArray
    curves: dict[str, FloatArray]


@dataclass(frozen=True)
class Curve:
    """A spectrum of one place of a picture.

    Attributes
    ----------
    place
        (row, col) in pixels of the picture.
    wavelengths_nm, values, sigma
        (band,), NaN = no data; ``sigma`` the standard error, None = not known.
    """

    place: tuple[float, float]
    wavelengths_nm: FloatArray
    values: FloatArray
    sigma: FloatArray | None


def fusion_picture(images: dict[str, FloatArray], curves: Sequence[Curve], quantity: str) -> Figure:
    """Draw images at the last one's stretch beside each other, and below them spectra of numbered places.

    ``images``: (3, y, x) by name, NaN = invalid; the last one is the product. ``quantity``: what the values are, for
    the axis.
    """
    figure = _shown_figure(figsize=(4 * max(2, len(images)), 7.5), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.3, 1), squeeze=False)[:, 0]
    limits = stretch_limits(list(images.values())[-1]) if images else (0.0, 1.0)
    for axes, (name, rgb) in zip(np.atleast_1d(above.subplots(1, max(1, len(images)))), images.items(), strict=False):
        axes.imshow(to_display(rgb, limits))
        axes.set_facecolor(_EMPTY)
        axes.set(title=name, xticks=[], yticks=[])
        for number, curve in enumerate(curves, start=1):
            axes.annotate(str(number), curve.place[::-1], color="white", ha="center", va="center", fontsize=9,
                          bbox={"boxstyle": "circle", "facecolor": f"C{number - 1}", "edgecolor": "white"})  # fmt: skip
    axes = below.subplots()
    for number, curve in enumerate(curves, start=1):
        order = np.argsort(curve.wavelengths_nm, kind="stable")
        x, y = curve.wavelengths_nm[order], curve.values[order]
        axes.plot(x, y, color=f"C{number - 1}", label=str(number))
        if curve.sigma is not None:
            sigma = curve.sigma[order]
            axes.fill_between(x, y - sigma, y + sigma, color=f"C{number - 1}", alpha=0.25, linewidth=0)
    axes.set(xlabel="wavelength, nm", ylabel=quantity)
    axes.legend(frameon=False, title="place")
    return figure


def _shown_figure(**facts: Any) -> Figure:
    """Return a figure that a notebook shows; those of matplotlib wait for somebody to load pyplot."""
    from matplotlib.figure import Figure

    class ShownFigure(Figure):
        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png")
            return buffer.getvalue()

    return ShownFigure(**facts)


def stretch_limits(rgb: FloatArray) -> tuple[float, float]:
    """The percentiles 1 and 99 of all three channels together, so that neutral surfaces stay neutral.

    ``rgb``: (3, y, x), NaN = invalid. Returns ``low``, ``high``: with high > low, also for flat or empty pictures.

    Examples
    --------
    >>> stretch_limits(np.full((3, 2, 2), np.nan))
    (0.0, 1.0)
    """
    valid = rgb[np.isfinite(rgb)]
    if valid.size == 0:
        return 0.0, 1.0
    low, high = (float(limit) for limit in np.percentile(valid, (1, 99)))
    return low, max(high, low + 1e-6)


def to_display(rgb: FloatArray, limits: tuple[float, float]) -> FloatArray:
    """Turn reflectance into screen values, shape (y, x, 4), 0…1; invalid pixels are transparent.

    ``rgb``: (3, y, x), NaN = invalid. ``limits``: reflectances of black and white, see `stretch_limits`.
    """
    low, high = limits
    alpha = np.asarray(np.isfinite(rgb).all(axis=0))
    scaled = np.clip((np.where(alpha, rgb, low) - low) / (high - low), 0, 1) ** _GAMMA
    return np.moveaxis(np.concatenate([scaled, alpha[np.newaxis].astype(scaled.dtype)]), 0, -1)


def demo_picture(
    lr_rgb: FloatArray,
    msi_rgb: FloatArray,
    product_rgb: FloatArray,
    truth_rgb: FloatArray,
    spectra: Sequence[PixelSpectra],
    path: Path,
    title: str = "",
) -> None:
    """Draw LR-HSI, MSI, product and truth side by side at one stretch, a detail of each, and spectra below.

    Parameters
    ----------
    lr_rgb, msi_rgb, product_rgb, truth_rgb
        Reflectance of red, green, blue, (3, y, x), NaN = invalid. All show the same ground; their numbers of
        pixels may differ. The truth sets the stretch.
    spectra
        Places to draw, three or so; each is marked in the pictures.
    path
        PNG (or any format matplotlib writes) to create.
    title
        Line above everything.

    Raises
    ------
    ResourceError
        The file cannot be written.
    """
    from matplotlib.figure import Figure

    panels = {"LR-HSI": lr_rgb, "HR-MSI": msi_rgb, "product": product_rgb, "truth": truth_rgb}
    limits = stretch_limits(truth_rgb)
    figure = Figure(figsize=(16, 13.2), layout="constrained")
    figure.suptitle(title, fontsize=13)
    images, plots = np.ravel(np.asarray(figure.subfigures(2, 1, height_ratios=[2.0, 1.0])))
    grid = images.subplots(2, len(panels))
    shape = product_rgb.shape[1:]
    for column, (name, rgb) in enumerate(panels.items()):
        _show(grid[0, column], rgb, limits, shape)
        _show(grid[1, column], rgb, limits, shape)
        grid[0, column].set_title(f"{name}, {rgb.shape[1]} × {rgb.shape[2]} pixels", fontsize=11)
        _mark(grid[0, column], spectra)
        _zoom(grid[0, column], grid[1, column], shape, spectra)
    _spectra_row(plots, spectra)
    _save(figure, path, dpi=110)


def _show(axes: Axes, rgb: FloatArray, limits: tuple[float, float], shape: tuple[int, ...]) -> None:
    rows, cols = shape
    axes.imshow(to_display(rgb, limits), extent=(0, cols, rows, 0), interpolation="nearest")
    axes.set_facecolor(_EMPTY)
    axes.set_xticks([])
    axes.set_yticks([])


def _mark(axes: Axes, spectra: Sequence[PixelSpectra]) -> None:
    from matplotlib.patheffects import withStroke

    for number, place in enumerate(spectra, start=1):
        at = (place.col + 0.5, place.row + 0.5)
        axes.plot(*at, "o", markersize=9, markerfacecolor="none", markeredgecolor="white", markeredgewidth=1.6)
        label = axes.annotate(str(number), at, (7, 5), textcoords="offset points", color="white", weight="bold")
        label.set_path_effects([withStroke(linewidth=2.5, foreground="black")])


def _zoom(whole: Axes, detail: Axes, shape: tuple[int, ...], spectra: Sequence[PixelSpectra]) -> None:
    """Limit ``detail`` to a quarter of the picture about the first marked place; outline it in ``whole``."""
    rows, cols = shape
    height, width = max(1, rows // 4), max(1, cols // 4)
    middle = (spectra[0].row, spectra[0].col) if spectra else (rows // 2, cols // 2)
    top = int(np.clip(middle[0] - height // 2, 0, rows - height))
    left = int(np.clip(middle[1] - width // 2, 0, cols - width))
    detail.set_xlim(left, left + width)
    detail.set_ylim(top + height, top)
    corners_x = [left, left + width, left + width, left, left]
    whole.plot(corners_x, [top, top, top + height, top + height, top], color="white", linewidth=1.2)
    whole.set_xlim(0, cols)
    whole.set_ylim(rows, 0)


def _spectra_row(figure: SubFigure, spectra: Sequence[PixelSpectra]) -> None:
    if not spectra:
        return
    for number, (axes, place) in enumerate(
        zip(np.atleast_1d(figure.subplots(1, len(spectra))), spectra, strict=True), start=1
    ):
        order = np.argsort(place.wavelengths_nm, kind="stable")
        for name, curve in place.curves.items():
            colour, width = _STYLE.get(name, ("#666666", 1.0))
            axes.plot(place.wavelengths_nm[order], curve[order], color=colour, linewidth=width, label=name)
        axes.set_title(f"{number}  {place.label}", fontsize=11)
        axes.set_xlabel("wavelength, nm")
        axes.set_ylabel("reflectance")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=9)


def srf_picture(
    wavelengths_nm: FloatArray, responses: FloatArray, names: Sequence[str], path: Path, title: str = ""
) -> None:
    """Draw a sensor's spectral response curves, each labelled above its middle.

    Parameters
    ----------
    wavelengths_nm
        (sample,), rising.
    responses
        (sample, band), as `geolift.srf.SpectralResponse` keeps them; each is drawn with its peak at 1.
    names
        One per band.
    path
        PNG (or any format matplotlib writes) to create.
    title
        Line above the curves.

    Raises
    ------
    ResourceError
        The file cannot be written.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.6), layout="constrained")
    axes = figure.subplots()
    curves = np.nan_to_num(np.asarray(responses, np.float64)).T
    curves = curves / curves.max(axis=1, keepdims=True)
    centres = curves @ np.asarray(wavelengths_nm, np.float64) / curves.sum(axis=1)
    level = np.empty(len(names), int)
    level[np.argsort(centres, kind="stable")] = np.arange(len(names)) % 3  # neighbours' labels do not collide
    for name, response, centre, row in zip(names, curves, centres, level, strict=True):
        colour = colormaps["turbo"](float(np.clip((centre - 380) / 620, 0.05, 0.97)))
        axes.fill_between(wavelengths_nm, response, color=colour, alpha=0.20, linewidth=0)
        axes.plot(wavelengths_nm, response, color=colour, linewidth=1.3)
        axes.annotate(name, (float(centre), 1.03 + 0.07 * row), ha="center", fontsize=8)
    covered = np.asarray(wavelengths_nm)[(curves > 1e-3).any(axis=0)]
    axes.set_xlim(covered.min() - 25, covered.max() + 25)
    axes.set_ylim(0, 1.28)
    axes.set_yticks([0, 0.5, 1])
    axes.set_xlabel("wavelength, nm")
    axes.set_ylabel("relative response")
    axes.set_title(title)
    axes.grid(alpha=0.25)
    _save(figure, path, dpi=120)


def _save(figure: Figure, path: Path, dpi: int) -> None:
    content = io.BytesIO()
    try:
        figure.savefig(content, dpi=dpi, format=path.suffix.removeprefix(".") or "png")
    except ValueError as err:
        raise UsageError(f"{path}: the suffix is of no kind of picture; .png, .svg and .pdf are") from err
    write_whole(path, content.getvalue(), "the picture")
