"""Streaming, atomic, resumable raster writing: the only code that creates rasters.

Tiles are computed, encoded and compressed by many and written by one; the file grows in a hidden folder and gets its
name only when it is complete and verified. Clipped values are counted, and no valid pixel ever equals nodata.
"""

from __future__ import annotations

from geolift.datamodel.encoding import LIMITS, Encoding
from geolift.writer.cluster import Cluster, Stamps, stamps_of
from geolift.writer.companions import companions, described_by, is_sidecar_of, sidecar_of
from geolift.writer.description import default_rgb
from geolift.writer.draft import Draft, check_output, disk_errors, draft_of, is_store
from geolift.writer.executor import Executor, Lend, Threads, TileSource
from geolift.writer.formats import (
    SUFFIXES,
    cog_block,
    copying_bytes,
    format_of,
    ignored_options,
    is_envi,
    require_packages,
    require_tiff,
    settled_beside,
    settled_output,
)
from geolift.writer.publication import draft_folder, is_being_written, recover
from geolift.writer.scale import REFLECTANCE_SCALE, choose_scale
from geolift.writer.styles import values_in, write_classes
from geolift.writer.tiles import BLOCK, Tile, tile_edge, tile_shape
from geolift.writer.viewing import overview_factors
from geolift.writer.write import Progress, WriteReport, write_cube

__all__ = [
    "BLOCK", "LIMITS", "REFLECTANCE_SCALE", "SUFFIXES", "Cluster", "Draft", "Encoding", "Executor", "Lend",
    "Progress", "Stamps", "Threads", "Tile", "TileSource", "WriteReport", "check_output", "choose_scale",
    "cog_block", "companions", "copying_bytes", "default_rgb", "described_by", "disk_errors", "draft_folder",
    "draft_of", "format_of", "ignored_options", "is_being_written", "is_envi", "is_sidecar_of", "is_store",
    "overview_factors", "recover", "require_packages", "require_tiff", "settled_beside", "settled_output",
    "sidecar_of", "stamps_of", "tile_edge", "tile_shape", "values_in", "write_classes", "write_cube",
]  # fmt: skip
