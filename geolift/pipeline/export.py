"""Cubes from Python to files, with all that geolift knows of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xarray as xr

from geolift.datamodel.cube import grid_of
from geolift.pipeline.touched_files import Output, require_untouched
from geolift.readers import opened
from geolift.report.views import seen_on, view_of
from geolift.runtime.machine import available_cpus
from geolift.settings import WritingSettings
from geolift.settings.validation import validated
from geolift.writer import Encoding, choose_scale, draft_of, require_packages, settled_output, write_cube

LOOK_PX = 128


def write(cube: xr.DataArray, path: str | Path, **options: Any) -> Path:
    """Write a cube to a raster whose wavelengths QGIS, GDAL, ENVI and geolift find; it appears whole or not at all.

    Parameters
    ----------
    cube : DataArray
        A result of geolift, or a cube as `geolift.fuse` takes them.
    path : path
        The suffix says the format: .tif, .img, .zarr and the like.
    **options
        Fields of `geolift.settings.WritingSettings`: ``overwrite=True``, ``dtype="float32"``, ``nodata``, ``co``.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    UsageError, OutputExistsError, ResourceError
    """
    output, settings = settled_output(Path(path), validated(WritingSettings, options))
    require_untouched([cube.attrs.get("source")], [Output(output)], overwrite=settings.overwrite)
    require_packages(settings.of)
    known = opened(cube)
    grid = grid_of(known)
    sample = seen_on(view_of(grid, LOOK_PX), known.data, grid)
    encoding = Encoding.of(settings, choose_scale(settings.dtype, str(known.attrs.get("quantity", "unknown")), sample))
    with draft_of(output) as draft:
        write_cube(known, output, settings, encoding=encoding, threads=available_cpus(), draft=draft)
        draft.publish()
    return output
