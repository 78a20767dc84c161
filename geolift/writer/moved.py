"""A copy of a raster that differs in its transform only."""

from __future__ import annotations

from pathlib import Path

import rasterio
from affine import Affine
from rasterio.errors import RasterioError
from rasterio.shutil import copy as copy_raster

from geolift.errors import InputError, ResourceError
from geolift.writer.draft import draft_of


def write_moved(source: str, output: Path, move_x: float, move_y: float) -> None:
    """Copy a raster with its transform moved by (x, y) in its CRS; no pixel is resampled.

    Raises ResourceError, InputError.
    """
    with draft_of(output) as draft:
        try:
            copy_raster(source, draft.finished, driver="GTiff", TILED="YES", COMPRESS="ZSTD", BIGTIFF="IF_SAFER")
            with rasterio.open(draft.finished, "r+") as target:
                target.transform = Affine.translation(move_x, move_y) * target.transform
        except RasterioError as error:
            raise InputError(f"{source}: cannot be copied to {output}: {error}") from error
        except OSError as error:
            raise ResourceError(f"{output}: cannot be written: {error.strerror or error}") from error
        draft.publish()
