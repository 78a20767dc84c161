"""What the rasters of a run show: pictures at one stretch, spectra of chosen places, maps, footprints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geolift.datamodel.alignment import METRES_PER_DEGREE, coordinates_on
from geolift.datamodel.cube import Bands, bands_of, grid_of, window_values
from geolift.datamodel.quality import Flag
from geolift.plotting import stretch_limits
from geolift.readers.some_bands import open_some_bands
from geolift.report import words
from geolift.report.charts import Footprint
from geolift.report.images import Picture, as_picture, colour_picture, value_picture
from geolift.report.marks import NOTHING, TRUSTED, mark_of
from geolift.report.places import Place, choose_places
from geolift.report.scene import Scene
from geolift.report.views import FALSE_COLOUR_NM, RGB_NM, View, nearest_bands, seen_on, spectrum_at, view_of

LONGEST_PX = 520
THUMBNAIL_PX = 240
DETAIL_PX = 120
DETAIL_LR = 8
LEAST_RANGE = 0.25
"""The map of the standard error spans at least this part of its largest value."""
SPREAD_BANDS = 8
"""Bands over which the map of the standard error is averaged."""

LOOKS = {"natural colour": RGB_NM, "false colour": FALSE_COLOUR_NM}
COLOURS = {"HSI": "#2a7fb8", "MSI": "#e08a1e", "product": "#c8384f"}


@dataclass(frozen=True)
class Row:
    """Pictures that belong together: one look at HSI, MSI and product, at one stretch."""

    title: str
    pictures: tuple[Picture, ...]
    limits: tuple[float, float]


@dataclass(frozen=True, eq=False, kw_only=True)
class PlaceSpectra:
    """Spectra of one place of the product, in the product's unit, NaN = invalid."""

    place: Place
    row: int
    col: int
    product: np.ndarray
    sigma: np.ndarray | None
    hsi: np.ndarray | None
    msi: np.ndarray | None


@dataclass(frozen=True)
class Legend:
    """A colour, what it means, and the share of pixels that have it."""

    colour: str
    meaning: str
    share: float


class Looker:
    """Reads what is to be seen of a scene; everything is looked at on the product's grid."""

    def __init__(self, scene: Scene, product: xr.DataArray) -> None:
        self.scene = scene
        self.product = product
        self.grid = grid_of(product)
        self.bands = bands_of(product)
        self.whole = view_of(self.grid, LONGEST_PX)
        self._seen: dict[tuple[View, str], dict[str, np.ndarray]] = {}

    def rows(self, window: tuple[slice, slice] | None, title: str, marks: list[tuple[float, float]]) -> list[Row]:
        """Show HSI, MSI and product in natural and false colour."""
        view = self.whole if window is None else view_of(self.grid, LONGEST_PX, window)
        shown = {look: self._images(view, look) for look in LOOKS}
        return [_row(f"{title}, {look}", images, marks, view.step) for look, images in shown.items() if images]

    def _images(self, view: View, look: str) -> dict[str, np.ndarray]:
        """Return red, green, blue (3, y, x) of each image that has bands for a look; read once."""
        if (view, look) not in self._seen:
            self._seen[view, look] = self._read(view, LOOKS[look])
        return self._seen[view, look]

    def _read(self, view: View, targets_nm: tuple[float, ...]) -> dict[str, np.ndarray]:
        images: dict[str, np.ndarray] = {}
        scene = self.scene
        if scene.hsi is not None and (bands := nearest_bands(bands_of(scene.hsi), targets_nm)):
            images["HSI"] = seen_on(view, scene.hsi.data, grid_of(scene.hsi), bands, scene.shift_px)
        if scene.msi is not None and (bands := nearest_bands(self._msi_bands(), targets_nm)):
            seen = seen_on(view, scene.msi.data, grid_of(scene.msi))
            images["MSI"] = scene.harmonized(seen)[bands]
        if bands := nearest_bands(self.bands, targets_nm):
            images["product"] = seen_on(view, open_some_bands(scene.product_path, bands), self.grid)
        return images if "product" in images else {}

    def _msi_bands(self) -> Bands:
        assert self.scene.msi is not None
        names = self.scene.msi_names
        if self.scene.response is None:
            return bands_of(self.scene.msi)
        centres = self.scene.response.select(names).centres_nm
        return Bands(names, np.asarray(centres), np.full(len(names), np.nan), np.ones(len(names), bool))

    def places(self) -> list[PlaceSpectra]:
        """Choose places by the MSI (or, without it, by the product) and read their spectra."""
        view = self.whole
        shown = self.look()
        if not shown:
            return []
        usable = np.isfinite(shown["product"]).all(axis=0)
        if "HSI" in shown:
            usable &= np.isfinite(shown["HSI"]).all(axis=0)
        image = shown.get("MSI", shown["product"])
        if self.scene.msi is not None:
            image = self.scene.harmonized(seen_on(view, self.scene.msi.data, grid_of(self.scene.msi)))
        chosen = choose_places(image, usable)
        return [self._spectra(place, int(view.rows[place.row]), int(view.cols[place.col])) for place in chosen]

    def look(self) -> dict[str, np.ndarray]:
        """Return the whole scene in one of the looks that it has."""
        return self._images(self.whole, "false colour") or self._images(self.whole, "natural colour")

    def _spectra(self, place: Place, row: int, col: int) -> PlaceSpectra:
        scene, at = self.scene, (slice(row, row + 1), slice(col, col + 1))
        product = window_values(self.product.data, *at)[:, 0, 0]
        sigma = self.scene.side_product(scene.settings.uncertainty)
        hsi = msi = None
        if scene.hsi is not None and scene.hsi_bands is not None:
            dy, dx = scene.shift_px
            hsi = spectrum_at(scene.hsi, self.grid, row + 0.5 - dy, col + 0.5 - dx)
            hsi = None if hsi is None else hsi[scene.hsi_bands]
        if scene.msi is not None:
            msi = spectrum_at(scene.msi, self.grid, row + 0.5, col + 0.5)
            msi = None if msi is None else scene.harmonized(msi)
        fits = sigma is not None and sigma.shape == self.product.shape
        beside = window_values(sigma.data, *at)[:, 0, 0] if sigma is not None and fits else None
        return PlaceSpectra(place=place, row=row, col=col, product=product, sigma=beside, hsi=hsi, msi=msi)

    def msi_centres_nm(self) -> np.ndarray:
        """Return the centres (band,) of the MSI's used bands."""
        return self._msi_bands().wavelength_nm

    def detail_window(self) -> tuple[slice, slice] | None:
        """Choose a small window with much to see in it; None if the product is small anyway."""
        edge = int(max(DETAIL_PX, DETAIL_LR * round(self.scene.ratio)))
        rows, cols = self.grid.shape
        view, images = self.whole, self.look()
        if max(rows, cols) < 1.5 * edge or not images:
            return None
        least = edge // 3
        seen = images["product"].mean(axis=0)
        while (found := _busiest(seen, max(1, edge // view.step))) is None and edge > least:
            edge = int(0.8 * edge)  # holes everywhere: a smaller window may lie between them
        row, col = found or (len(view.rows) // 2, len(view.cols) // 2)
        first_row = int(np.clip(view.rows[row] - edge // 2, 0, max(0, rows - edge)))
        first_col = int(np.clip(view.cols[col] - edge // 2, 0, max(0, cols - edge)))
        return slice(first_row, min(rows, first_row + edge)), slice(first_col, min(cols, first_col + edge))

    def quality(self) -> tuple[Picture, list[Legend]] | None:
        """Map the quality raster, if one was written."""
        cube = self.scene.side_product(self.scene.settings.qa)
        if cube is None:
            return None
        view = self.whole
        bits = np.nan_to_num(seen_on(view, cube.data, grid_of(cube))[0]).astype(np.int64)
        colours = np.broadcast_to(np.asarray(_rgb_bytes(TRUSTED), np.uint8), (*bits.shape, 3)).copy()
        there = max(1, int(((bits & Flag.NODATA.value) == 0).sum()))
        legend = [Legend(TRUSTED, NOTHING, float((bits == 0).sum() / there))]
        for flag in sorted(Flag, key=lambda flag: -flag.value):
            colour, meaning = mark_of(flag)
            marked = (bits & flag.value) != 0
            if marked.any():
                colours[marked] = _rgb_bytes(colour)
            if flag is not Flag.NODATA:
                marked &= (bits & Flag.NODATA.value) == 0
            if marked.any():
                legend.append(
                    Legend(colour, meaning, float(marked.sum() / (bits.size if flag is Flag.NODATA else there)))
                )
        return as_picture(colours, "Marks of the quality raster"), legend

    def uncertainty(self) -> tuple[Picture, tuple[float, float], float | None] | None:
        """Map the standard error, averaged over a few bands, if it was written: its ends, its median in parts of the
        mean value."""
        path = self.scene.beside(self.scene.settings.uncertainty)
        cube = self.scene.side_product(path)
        good = np.flatnonzero(self.bands.good)
        if path is None or cube is None or good.size == 0 or cube.sizes["band"] != len(self.bands.good):
            return None
        bands = [int(band) for band in np.unique(good[np.linspace(0, good.size - 1, SPREAD_BANDS).round().astype(int)])]
        sigma = seen_on(self.whole, open_some_bands(path, bands), self.grid).mean(axis=0)
        if not np.isfinite(sigma).any():
            return None
        low, high = (float(v) for v in np.nanpercentile(sigma, [1, 99]))
        low = min(low, (1 - LEAST_RANGE) * high)  # what is the same everywhere is not to look like a pattern
        quantity = self.product.attrs.get("quantity", "value")
        median = float(np.nanmedian(sigma))
        shown = seen_on(self.whole, open_some_bands(self.scene.product_path, bands), self.grid)
        level = float(np.nanmean(np.abs(shown))) if np.isfinite(shown).any() else 0.0
        share = f" ({words.percent(median / level)} of the mean {quantity})" if level > 0 else ""
        about = f"mean of {len(bands)} bands spread over the spectrum; median {median:.2g}{share}"
        caption = f"Standard error of the {quantity}, {about}"
        picture = value_picture(sigma, (low, high), caption, "magma")
        return picture, (low, high), median / level if level > 0 else None


def thumbnails(scene: Scene) -> list[Picture]:
    """Show the inputs whole, each at its own stretch, on their own grids."""
    pictures = []
    for name, cube, bands in (("HSI", scene.hsi, None), ("MSI", scene.msi, scene.response)):
        if cube is None:
            continue
        known = bands_of(cube)
        if bands is not None:
            centres = np.asarray(bands.select(scene.msi_names).centres_nm)
            known = Bands(scene.msi_names, centres, np.full(len(centres), np.nan), np.ones(len(centres), bool))
        chosen = nearest_bands(known, RGB_NM) or [0] * 3
        view = view_of(grid_of(cube), THUMBNAIL_PX)
        rgb = seen_on(view, cube.data, grid_of(cube), chosen)
        pictures.append(colour_picture(rgb, stretch_limits(rgb), f"{name}, the whole file at a stretch of its own"))
    return pictures


def footprints(scene: Scene) -> tuple[list[Footprint], float] | None:
    """Return the outlines in the product's CRS, and metres per unit of it; None where there is nothing to compare."""
    cubes = {"MSI": scene.msi, "HSI": scene.hsi, "product": scene.product}
    if scene.product is None or (scene.hsi is None and scene.msi is None):
        return None
    target = grid_of(scene.product)
    if target.crs is None:
        return None
    outlines = [_outline(name, grid_of(cube), target) for name, cube in cubes.items() if cube is not None]
    return outlines, METRES_PER_DEGREE if target.crs.geographic else 1.0


def _outline(name: str, grid: GeoBox, target: GeoBox) -> Footprint:
    rows, cols = grid.shape
    along = np.linspace(0, 1, 9)[:-1]
    steps = [(along * cols, 0 * along), (0 * along + cols, along * rows)]
    steps += [(cols - along * cols, 0 * along + rows), (0 * along, rows - along * rows)]
    at_col, at_row = (np.concatenate([step[axis] for step in steps]) for axis in (0, 1))
    affine = grid.affine
    x = affine.c + affine.a * at_col + affine.b * at_row
    y = affine.f + affine.d * at_col + affine.e * at_row
    x, y = coordinates_on(target, grid.crs, x, y)
    return Footprint(name, np.asarray(x), np.asarray(y), COLOURS[name])


def _row(title: str, images: dict[str, np.ndarray], marks: list[tuple[float, float]], step: int) -> Row:
    limits = stretch_limits(images["product"])
    told = {"HSI": "HSI", "MSI": "MSI as used", "product": "Product"}
    every = "" if step == 1 else f", every {step}. pixel"
    pictures = [
        colour_picture(rgb, limits, told[name] + (every if name != "HSI" else "")) for name, rgb in images.items()
    ]
    return Row(title, tuple(_marked(picture, marks) for picture in pictures), limits)


def _marked(picture: Picture, marks: list[tuple[float, float]]) -> Picture:
    return Picture(
        uri=picture.uri,
        caption=picture.caption,
        width=picture.width,
        height=picture.height,
        pixelated=picture.pixelated,
        marks=tuple(marks),
    )


def _busiest(image: np.ndarray, edge: int) -> tuple[int, int] | None:
    """Return the centre of a window of high, not extreme, contrast in which all pixels are valid; None without one."""
    from scipy.ndimage import uniform_filter

    valid = np.isfinite(image)
    filled = np.where(valid, image, 0.0).astype(np.float64)
    mean, square = uniform_filter(filled, edge), uniform_filter(filled**2, edge)
    spread = np.where(uniform_filter(valid.astype(np.float64), edge) > 0.999, np.maximum(square - mean**2, 0), -1.0)
    inner = spread[edge // 2 : spread.shape[0] - edge // 2, edge // 2 : spread.shape[1] - edge // 2]
    if not (inner >= 0).any():
        return None
    wanted = np.percentile(inner[inner >= 0], 95)
    row, col = np.unravel_index(np.where(inner >= 0, np.abs(inner - wanted), np.inf).argmin(), inner.shape)
    return int(row) + edge // 2, int(col) + edge // 2


def _rgb_bytes(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
