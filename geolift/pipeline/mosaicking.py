"""One image from products on one grid: tiles of a campaign, blended where they overlap, streamed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geolift.datamodel.cube import Bands, bands_of, grid_of, make_cube, window_values
from geolift.datamodel.quality import Flag
from geolift.errors import InputError, UsageError
from geolift.pipeline.touched_files import Output, require_untouched
from geolift.provenance.sidecar import (
    StacItem,
    dump_settings,
    input_facts,
    read_sidecar,
    sidecar_path,
    stac_item,
    write_json,
)
from geolift.readers import open_cube
from geolift.report.views import View, seen_on, view_of
from geolift.runtime.machine import available_cpus, limit_block_cache, spare_memory_bytes
from geolift.runtime.progress import of_stage
from geolift.settings import MosaicSettings
from geolift.writer import Encoding, choose_scale, draft_of, require_packages, settled_output, write_cube

ON_GRID_PX = 0.01
"""Grids whose pixels lie further apart than this are not one grid."""

SAME_NM = 0.05
EDGE_MAP_PX = 1024
"""Longest edge of the map that tells how far a pixel lies from its product's edge."""

LEAST_WEIGHT = 1e-3
"""What a pixel at the very edge counts; where no other product is, it is all there is."""

MARKED_WEIGHT = 1e-6
"""What a marked pixel counts beside one without a mark."""

MARKS = Flag.OUT_OF_RANGE | Flag.LOW_CONFIDENCE | Flag.OUTSIDE_HSI
BASE_BYTES, BYTES_PER_VALUE = 450_000_000, 24
"""Memory of the libraries, and what a value takes on its way: of one product, weighted sum, weights, result."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Piece:
    """One product of a mosaic: its values, where its corner lies on the mosaic, and how its edge fades.

    ``row``, ``col``: first pixel on the mosaic's grid. ``edge_px`` (y, x) float32: distance from the nearest pixel
    without data, in pixels, at every ``view.step``-th pixel. ``quality``: lazy (1, y, x) bits, if they count.
    """

    cube: xr.DataArray
    row: int
    col: int
    view: View
    edge_px: np.ndarray
    quality: xr.DataArray | None

    def window(self, rows: slice, cols: slice) -> tuple[slice, slice] | None:
        """Return the part of the product in a window of the mosaic; None where it has none."""
        height, width = self.cube.shape[1:]
        own_rows = slice(max(0, rows.start - self.row), min(height, rows.stop - self.row))
        own_cols = slice(max(0, cols.start - self.col), min(width, cols.stop - self.col))
        return None if own_rows.start >= own_rows.stop or own_cols.start >= own_cols.stop else (own_rows, own_cols)

    def weights(self, rows: slice, cols: slice, feather: int) -> np.ndarray:
        """Return what the pixels (y, x) of a window count, by their distance from the edge and their marks."""
        from scipy.ndimage import map_coordinates

        at = np.meshgrid(
            (np.arange(rows.start, rows.stop) - self.view.rows[0]) / self.view.step,
            (np.arange(cols.start, cols.stop) - self.view.cols[0]) / self.view.step,
            indexing="ij",
        )
        distance = map_coordinates(self.edge_px, at, order=1, mode="nearest")
        weights = np.clip(distance / feather, LEAST_WEIGHT, 1.0).astype(np.float32)
        if self.quality is not None:
            bits = np.nan_to_num(window_values(self.quality.data, rows, cols)[0]).astype(np.int64)
            weights[(bits & int(MARKS)) != 0] *= MARKED_WEIGHT
        return np.asarray(weights)


def mosaic(
    products: Sequence[str | Path | xr.DataArray], *, blend: str = "feather", feather: int = 64, tile_size: int = 256
) -> xr.DataArray:
    """Put products of one grid and the same bands together, lazily.

    Parameters
    ----------
    products
        Files, or cubes as `geolift.open` gives them; they may overlap or leave gaps.
    blend
        Where they overlap: ``"feather"`` their mean, weighted by the distance from each one's edge; ``"quality"`` the
        same among pixels without a mark; ``"first"`` the one named first.
    feather
        Width of the blend in pixels.
    tile_size
        Edge of a lazy block in pixels; the values do not depend on it.

    Returns
    -------
    xarray.DataArray (band, y, x)
        float32 on the smallest grid that holds them all, NaN = no product has a value.

    Raises
    ------
    InputError
        If their grids or bands differ, or a quality raster is missing.
    """
    cubes = [open_cube(product) if isinstance(product, str | Path) else product for product in products]
    names = [str(cube.attrs.get("source", f"product {i}")) for i, cube in enumerate(cubes, start=1)]
    if not cubes:
        raise UsageError("nothing to put together: name at least one product")
    bands = _common_bands(cubes, names)
    grid, corners = _common_grid([grid_of(cube) for cube in cubes], names)
    quality = [_quality_of(name) if blend == "quality" else None for name in names]
    pieces = [_piece(cube, corner, marks, bands) for cube, corner, marks in zip(cubes, corners, quality, strict=True)]

    def block(block_info: Any = None) -> np.ndarray:
        _, (row, row_end), (col, col_end) = block_info[None]["array-location"]
        return _blended(pieces, slice(row, row_end), slice(col, col_end), len(bands), blend, feather)

    rows, cols = (int(size) for size in grid.shape)
    chunks = ((len(bands),), *(_cut(size, tile_size) for size in (rows, cols)))
    data = da.map_blocks(block, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
    attrs = {"quantity": cubes[0].attrs.get("quantity", "unknown"), "source": ", ".join(names)}
    return make_cube(data, grid=grid, bands=bands, attrs=attrs)


def _cut(size: int, edge: int) -> tuple[int, ...]:
    return tuple(min(edge, size - start) for start in range(0, size, edge))


def _blended(pieces: Sequence[Piece], rows: slice, cols: slice, bands: int, blend: str, feather: int) -> np.ndarray:
    """Return one window (band, y, x) of the mosaic."""
    shape = (bands, rows.stop - rows.start, cols.stop - cols.start)
    total, counted = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for piece in pieces:
        own = piece.window(rows, cols)
        if own is None:
            continue
        values = window_values(piece.cube.data, *own)
        there = (
            slice(None),
            slice(own[0].start + piece.row - rows.start, own[0].stop + piece.row - rows.start),
            slice(own[1].start + piece.col - cols.start, own[1].stop + piece.col - cols.start),
        )
        valid = np.isfinite(values)
        if blend == "first":
            weights = (valid & (counted[there] == 0)).astype(np.float32)
        else:
            weights = np.where(valid, piece.weights(*own, feather), np.float32(0.0))
        total[there] += weights * np.where(valid, values, np.float32(0.0))
        counted[there] += weights
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(counted > 0, total / counted, np.float32(np.nan)), np.float32)


def _common_bands(cubes: Sequence[xr.DataArray], names: Sequence[str]) -> Bands:
    """Return the bands of them all; a band is good where any product has it good."""
    first = bands_of(cubes[0])
    good = first.good.copy()
    for cube, name in zip(cubes, names, strict=True):
        other = bands_of(cube)
        same = len(other) == len(first) and np.allclose(
            other.wavelength_nm, first.wavelength_nm, atol=SAME_NM, rtol=0, equal_nan=True
        )
        if not same:
            raise InputError(
                f"{name}: its {len(other)} bands are not the {len(first)} of {names[0]}; a mosaic needs the same "
                "wavelengths in the same order. Fuse with the same --bands, or make a mosaic of each kind."
            )
        good |= other.good
    return Bands(first.names, first.wavelength_nm, first.fwhm_nm, good)


def _common_grid(grids: Sequence[GeoBox], names: Sequence[str]) -> tuple[GeoBox, list[tuple[int, int]]]:
    """Return the grid that holds them all, and the (row, col) of each one's first pixel on it."""
    first, offsets = grids[0], []
    for grid, name in zip(grids, names, strict=True):
        if grid.crs != first.crs:
            raise InputError(f"{name}: lies in another CRS than {names[0]}. Reproject it, for example with gdalwarp.")
        relative = ~first.affine * grid.affine
        col, row = relative.c, relative.f
        apart = max(abs(col - round(col)), abs(row - round(row)))
        edge = max(abs(relative.a - 1) + abs(relative.b), abs(relative.e - 1) + abs(relative.d)) * max(grid.shape)
        if apart > ON_GRID_PX or edge > ON_GRID_PX:
            raise InputError(
                f"{name}: its pixels do not lie on the grid of {names[0]} (off by {max(apart, edge):.3g} pixels). "
                "Resample it onto that grid, for example with gdalwarp -tap -tr."
            )
        offsets.append((round(row), round(col)))
    top, left = min(row for row, _ in offsets), min(col for _, col in offsets)
    bottom = max(row + grid.shape[0] for (row, _), grid in zip(offsets, grids, strict=True))
    right = max(col + grid.shape[1] for (_, col), grid in zip(offsets, grids, strict=True))
    whole = GeoBox((bottom - top, right - left), first.affine * Affine.translation(left, top), first.crs)
    return whole, [(row - top, col - left) for row, col in offsets]


def _piece(cube: xr.DataArray, corner: tuple[int, int], quality: xr.DataArray | None, bands: Bands) -> Piece:
    """Look at where a product has data, and how far each pixel lies from where it has none."""
    from scipy.ndimage import distance_transform_edt

    grid, good = grid_of(cube), np.flatnonzero(bands.good)
    view = view_of(grid, EDGE_MAP_PX)
    band = int(good[0]) if good.size else 0
    seen = np.isfinite(seen_on(view, cube.data[band : band + 1], grid)[0])
    # The image's own border is an edge as well.
    edge = distance_transform_edt(np.pad(seen, 1))[1:-1, 1:-1] * view.step
    return Piece(
        cube=cube, row=corner[0], col=corner[1], view=view, edge_px=edge.astype(np.float32), quality=quality
    )  # fmt: skip


def _quality_of(product: str) -> xr.DataArray:
    """Open the quality raster that a run wrote with its product."""
    path = Path(product)
    sidecar = sidecar_path(path)
    told = read_sidecar(sidecar).get("settings", {}).get("qa") if sidecar.exists() else None
    found = (
        None if told is None else next((p for p in (Path(told), path.with_name(Path(told).name)) if p.exists()), None)
    )
    if found is None:
        raise InputError(f"{product}: has no quality raster. Fuse with --qa, or pass --blend feather.")
    return open_cube(found)


def mosaic_files(products: Sequence[str], output: Path, settings: MosaicSettings) -> StacItem:
    """Write the mosaic of product files; see `mosaic`. Returns its sidecar's content."""
    output, settings = settled_output(output, settings)
    require_untouched(products, [Output(output, told=True)], overwrite=settings.overwrite)
    require_packages(settings.of)
    budget = settings.memory or spare_memory_bytes()
    limit_block_cache(budget)
    n_bands = bands_of(open_cube(products[0])).good.size
    tile, threads = _fitted(settings, n_bands, budget)
    cube = mosaic(products, blend=settings.blend, feather=settings.feather, tile_size=tile)
    sample = seen_on(view_of(grid_of(cube), 128), cube.data, grid_of(cube))
    encoding = Encoding.of(settings, choose_scale(settings.dtype, str(cube.attrs["quantity"]), sample))
    with draft_of(output) as draft:
        report = write_cube(
            cube,
            output,
            settings,
            encoding=encoding,
            threads=threads,
            tile_size=tile,
            tags={"GEOLIFT_QUANTITY": str(cube.attrs["quantity"])},
            progress=of_stage("writing"),
            draft=draft,
        )
        item = stac_item(
            output,
            grid_of(cube),
            bands_of(cube),
            driver=settings.of,
            acquired=None,
            encoding=encoding,
            facts={
                "mosaic_of": [input_facts(product) for product in products],
                "mosaic_settings": dump_settings(settings),
                "written": report.to_json(),
            },
        )
        write_json(draft.beside(sidecar_path(output)), item)
        draft.publish()
    return item


def _fitted(settings: MosaicSettings, bands: int, budget: int) -> tuple[int, int]:
    """Return the tile's edge and the threads that the memory allowed has room for."""
    tile, threads = settings.tile_size, settings.threads or available_cpus()

    def peak() -> int:
        return BASE_BYTES + threads * tile * tile * bands * BYTES_PER_VALUE

    while threads > 1 and peak() > budget:
        threads -= 1
    while tile > 16 and peak() > budget:
        tile //= 2
    return tile, threads
