"""What a cube is: a lazy DataArray (band, y, x) of physical values, NaN = invalid, on an exact grid.

Band coordinates: ``wavelength`` and ``fwhm`` (nm, NaN where unknown), ``good`` (bool), ``name`` (str).
The grid lives in the ``spatial_ref`` coordinate, where rioxarray and odc-geo look for it, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import dask.local
import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS

from geolift.errors import InputError

CUBE_DIMS = ("band", "y", "x")
REFLECTANCE = "reflectance"
STANDARD_ERROR = "standard error"

PIECE_PX = 256
"""Edge of the pieces in which an array in memory is looked at: copies of a whole one would be as large."""


class UnitsNote(str):
    """A warning of a reader that a unit was not what the file says, and was set right."""


@dataclass(frozen=True)
class Bands:
    """What is known of a cube's bands; every field has one entry per band.

    ``wavelength_nm`` and ``fwhm_nm`` are float64 with NaN = unknown, ``good`` is True = usable.
    """

    names: tuple[str, ...]
    wavelength_nm: np.ndarray
    fwhm_nm: np.ndarray
    good: np.ndarray

    def __post_init__(self) -> None:
        lengths = {len(self.names), len(self.wavelength_nm), len(self.fwhm_nm), len(self.good)}
        if len(lengths) != 1:
            raise ValueError(f"band fields differ in length: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.names)

    def take(self, indices: Sequence[int] | np.ndarray) -> Bands:
        """Return the bands at 0-based ``indices``, in that order."""
        chosen = np.asarray(indices, dtype=int)
        return Bands(
            tuple(self.names[i] for i in chosen), self.wavelength_nm[chosen], self.fwhm_nm[chosen], self.good[chosen]
        )


class Cube(xr.DataArray):  # type: ignore[no-untyped-call]
    """A DataArray whose `.rio.to_raster` writes what is known of each band, which rioxarray leaves out."""

    __slots__ = ()

    @property
    def rio(self) -> Any:
        """Rioxarray's accessor; its `to_raster` describes and tags the bands that the cube has at that moment."""
        import rioxarray  # noqa: F401  # it registers itself

        accessor: Any = getattr(super(), "rio")  # noqa: B009  # known at run time only
        accessor.to_raster = lambda *args, **options: (
            xr.DataArray(self).assign_attrs(_for_rioxarray(self)).rio.to_raster(*args, **options)
        )
        return accessor


def _for_rioxarray(cube: xr.DataArray) -> dict[str, object]:
    """Attributes that `.rio.to_raster` writes as tags and descriptions of each band; none for an image of one plane."""
    if "band" not in cube.dims:
        return {}
    bands, names, tags = bands_of(cube), [], []
    for name, centre, width, good in zip(bands.names, bands.wavelength_nm, bands.fwhm_nm, bands.good, strict=True):
        known = f"({centre:.10g} Nanometers)" if np.isfinite(centre) else ""
        names.append(name if known in name else f"{name} {known}")
        tags.append({"bbl": str(int(good))})
        if known:
            tags[-1] |= {"wavelength": repr(float(centre)), "wavelength_units": "Nanometers"}
        if known and np.isfinite(width):
            tags[-1]["fwhm"] = repr(float(width))
    return {"long_name": tuple(names), "band_tags": tags}


def make_cube(data: Any, *, grid: GeoBox, bands: Bands, attrs: Mapping[str, Any] | None = None) -> xr.DataArray:
    """Put an array (band, y, x) on a grid with its band description. Raises ValueError if shapes disagree.

    Parameters
    ----------
    data : numpy or dask array (band, y, x)
        Physical values, NaN = invalid.
    grid : GeoBox
        Shape, affine and CRS (which may be None).
    bands : Bands
        One entry per band.
    """
    if data.shape != (len(bands), *grid.shape):
        raise ValueError(f"array {data.shape} does not fit {len(bands)} bands on a grid of {tuple(grid.shape)}")
    coords: dict[str, object] = {
        "band": ("band", np.arange(1, len(bands) + 1)),
        "wavelength": ("band", np.asarray(bands.wavelength_nm, dtype=np.float64), {"units": "nm"}),
        "fwhm": ("band", np.asarray(bands.fwhm_nm, dtype=np.float64), {"units": "nm"}),
        "good": ("band", np.asarray(bands.good, dtype=bool)),
        "name": ("band", np.asarray(bands.names, dtype=object)),
        "spatial_ref": ((), 0, _grid_attrs(grid)),
    }
    affine = grid.affine
    if affine.b == 0 and affine.d == 0:
        unit = _axis_units(grid)
        coords["y"] = ("y", affine.f + affine.e * (np.arange(grid.shape[0]) + 0.5), unit)
        coords["x"] = ("x", affine.c + affine.a * (np.arange(grid.shape[1]) + 0.5), unit)
    known = dict(attrs or {}) | ({"_FillValue": float("nan")} if np.dtype(data.dtype).kind == "f" else {})
    return Cube(data, dims=CUBE_DIMS, coords=coords, attrs=known, name=known.get("quantity"))


def _axis_units(grid: GeoBox) -> dict[str, str]:
    """Name the unit of the coordinates x and y, as CF does; nothing for a CRS without axes."""
    axes = [] if grid.crs is None else grid.crs.proj.axis_info
    return {"units": str(axes[0].unit_name)} if axes else {}


def _grid_attrs(grid: GeoBox) -> dict[str, str]:
    a = grid.affine
    attrs = {"GeoTransform": " ".join(repr(float(v)) for v in (a.c, a.a, a.b, a.f, a.d, a.e))}
    if grid.crs is not None:
        attrs["crs_wkt"] = grid.crs.wkt
    return attrs


def grid_of(cube: xr.DataArray) -> GeoBox:
    """Return the grid of a cube, exact, also after slicing along x and y by whole pixels.

    Raises InputError if the array has no georeferencing that geolift understands.
    """
    reference = cube.coords.get("spatial_ref")
    if reference is None or "GeoTransform" not in reference.attrs:
        raise InputError(
            f"{cube.attrs.get('source', 'array')}: no grid found; needed is a spatial_ref coordinate with a "
            "GeoTransform. Open the file with geolift.open, or call .rio.write_transform() and .rio.write_crs()."
        )
    c, a, b, f, d, e = (float(v) for v in str(reference.attrs["GeoTransform"]).split())
    affine = Affine(a, b, c, d, e, f)
    if b == 0 and d == 0 and "x" in cube.coords and "y" in cube.coords:
        col = round((float(cube.coords["x"][0]) - c) / a - 0.5)
        row = round((float(cube.coords["y"][0]) - f) / e - 0.5)
        if col or row:
            affine = affine * Affine.translation(col, row)
    wkt = reference.attrs.get("crs_wkt") or reference.attrs.get("spatial_ref")
    return GeoBox((cube.sizes["y"], cube.sizes["x"]), affine, wkt or None)


def bands_of(cube: xr.DataArray) -> Bands:
    """Return the band description of a cube; unknown fields are filled with their neutral value."""
    count = cube.sizes["band"]
    coords = cube.coords

    def field(name: str, neutral: np.ndarray) -> np.ndarray:
        return np.asarray(coords[name].values) if name in coords and coords[name].dims == ("band",) else neutral

    names = field("name", np.asarray([f"band {i + 1}" for i in range(count)], dtype=object))
    unknown = np.full(count, np.nan)
    return Bands(
        tuple(str(name) for name in names),
        field("wavelength", unknown).astype(np.float64),
        field("fwhm", unknown).astype(np.float64),
        field("good", np.ones(count, dtype=bool)).astype(bool),
    )


def crop(cube: xr.DataArray, rows: slice, cols: slice) -> xr.DataArray:
    """Return the part of a cube in a window of whole pixels, its grid moved along exactly."""
    grid = grid_of(cube)[rows, cols]
    part = cube.isel(y=rows, x=cols)
    return make_cube(part.data, grid=grid, bands=bands_of(cube), attrs=cube.attrs)


def window_values(data: Any, rows: slice, cols: slice) -> np.ndarray:
    """Return a window (band, y, x) of an array's values, computed in this thread if it is lazy."""
    part = data[:, rows, cols]
    # Named by a word, Dask would import its distributed part: a fifth of a second.
    return np.asarray(part if isinstance(part, np.ndarray) else part.compute(scheduler=dask.local.get_sync))


def in_memory(cube: xr.DataArray, threads: int, progress: Callable[[float], None]) -> xr.DataArray:
    """Return a cube with its values computed, in so many threads."""
    data = cube.data
    if isinstance(data, np.ndarray):
        return cube
    values = np.empty(data.shape, data.dtype)

    def fill(window: tuple[slice, slice]) -> None:
        values[:, *window] = window_values(data, *window)

    windows = list(blocks_of(data))
    with ThreadPoolExecutor(threads) as pool:
        for done, _ in enumerate(pool.map(fill, windows), start=1):
            progress(done / len(windows))
    return cube.copy(data=values)


def blocks_of(data: Any) -> Iterator[tuple[slice, slice]]:
    """Walk over the windows (rows, cols) a lazy array is read in, or over pieces of one in memory."""
    if hasattr(data, "chunks"):
        row_ends, col_ends = ([0, *np.cumsum(sizes)] for sizes in data.chunks[1:])
    else:
        row_ends, col_ends = ([*range(0, size, PIECE_PX), size] for size in data.shape[1:])
    for row, row_end in pairwise(row_ends):
        for col, col_end in pairwise(col_ends):
            yield slice(int(row), int(row_end)), slice(int(col), int(col_end))


def rasterio_crs(grid: GeoBox) -> CRS | None:
    """Return the grid's CRS for rasterio; EPSG-coded ones by their code, so that GDAL's WKT stays the same."""
    if grid.crs is None:
        return None
    code = grid.crs.to_epsg()
    return CRS.from_epsg(code) if code is not None else CRS.from_wkt(grid.crs.wkt)
