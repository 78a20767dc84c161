"""Files on both sides of the 180th meridian meet, whichever way their longitudes are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from scenes import make_pair

import geolift
from geolift.pair.overlay import overlay
from geolift.provenance.sidecar import footprint
from geolift.readers import open_cube

METRE = 1 / 111_320.0
TURNED_BY = 168.0
"""Degrees, 28 UTM zones: 180° east and 12° east both lie between two zones, and everything is alike there."""


def _moved(source: Path, target: Path, crs: str, longitude: float) -> Path:
    """Write a file again, its centre at a longitude and 45° north in a CRS."""
    with rasterio.open(source) as file:
        profile, values = file.profile, file.read()
        tags, names, scales = [file.tags(band) for band in file.indexes], file.descriptions, file.scales
        edge, (rows, cols) = file.transform.a, file.shape
    x, y = longitude, 45.0
    if crs == "EPSG:4326":
        edge *= METRE
    else:
        x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(x, y)
    profile |= {"crs": crs, "transform": Affine(edge, 0, x - edge * cols / 2, 0, -edge, y + edge * rows / 2)}
    with rasterio.open(target, "w", **profile) as file:
        file.write(values)
        file.descriptions, file.scales = names, scales
        for band, known in enumerate(tags, 1):
            file.update_tags(band, **known)
    return target


@pytest.mark.parametrize(
    ("hsi_zone", "msi_zone", "sign"),
    [(None, None, 1), (None, None, -1), (0, 1, 1), (None, 1, 1), (None, 1, -1), (0, None, -1)],
)
def test_a_pair_over_the_180th_meridian_gives_what_it_gives_elsewhere(
    tmp_path: Path, hsi_zone: int | None, msi_zone: int | None, sign: int
) -> None:
    pair = make_pair(tmp_path)
    products, seen = dict[float, Any](), dict[float, np.ndarray]()
    for longitude, first_zone in ((180.0, 60), (180.0 - TURNED_BY, 32)):
        files = []
        for file, zone, turned in ((pair.hsi, hsi_zone, longitude), (pair.msi, msi_zone, -sign * longitude)):
            number = None if zone is None else (first_zone + zone - 1) % 60 + 1
            crs = "EPSG:4326" if number is None else f"EPSG:{32600 + number}"
            at = turned if longitude == 180.0 else longitude
            files.append(_moved(file, tmp_path / f"{longitude:g}_{file.name}", crs, at))
        products[longitude] = geolift.fuse(
            *files, sensor="sentinel-2a", coregister="off", refine="off", method="linear", max_train_pixels=200
        )
        with rasterio.open(files[0], "r+") as hsi:  # grids that do not nest: the MSI is warped under the HSI
            hsi.transform *= Affine.translation(0.13, 0.21)
        under = overlay(open_cube(files[0]), open_cube(files[1]), 3.0)
        assert under is not None
        seen[longitude] = under.read(0, 0, *under.grid.shape, 0)
    assert np.isfinite(seen[180.0]).mean() > 0.8
    assert np.allclose(*seen.values(), atol=1e-5, equal_nan=True)
    here, there = products.values()
    assert here.shape == there.shape
    assert np.isfinite(here.values).mean() > 0.9
    assert np.allclose(here.values, there.values, atol=2e-4, equal_nan=True)


def test_the_footprint_over_the_180th_meridian_is_cut_there() -> None:
    grid = GeoBox((10, 20), Affine(0.01, 0, 179.9, 0, -0.01, 1.0), "EPSG:4326")
    told = footprint(grid)
    assert told["geometry"]["type"] == "MultiPolygon"
    assert np.allclose(told["bbox"], [179.9, 0.9, -179.9, 1.0])
    longitudes = [x for part in told["geometry"]["coordinates"] for ring in part for x, _ in ring]
    assert max(longitudes) == 180
    assert min(longitudes) == -180
    plain = footprint(GeoBox((10, 20), Affine(0.01, 0, 9.0, 0, -0.01, 1.0), "EPSG:4326"))
    assert plain["geometry"]["type"] == "Polygon"
    assert np.allclose(plain["bbox"], [9, 0.9, 9.2, 1.0])
