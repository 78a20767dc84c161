"""Where the faults lie: planted ones are found in their places, in the sidecar and in the report's pictures."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from matplotlib.image import imread
from odc.geo.geobox import GeoBox
from scenes import make_pair

from geolift.pipeline import files
from geolift.pipeline.fault_places import MOST_CELLS, FaultMap, in_cells
from geolift.provenance.record import FaultMapFacts, read_record
from geolift.report import make_report
from geolift.settings import FuseSettings

DEAD = 5


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The product of a pair with a dead column of the HSI and a corner of the MSI that is another ground."""
    folder = tmp_path_factory.mktemp("faults")
    pair = make_pair(folder, 96, 90)
    with rasterio.open(pair.hsi, "r+") as hsi:
        values = hsi.read()
        values[:, :, DEAD] = 1234
        hsi.write(values)
    with rasterio.open(pair.msi, "r+") as msi:
        values = msi.read()
        values[:, 60:, 60:] = 6000 - values[:, 60:, 60:]
        msi.write(values)
    files.fuse_files(pair.hsi, pair.msi, folder / "fused.tif", FuseSettings(sensor="sentinel-2a"))
    return folder / "fused.tif"


def told(fused: Path, code: str) -> tuple[np.ndarray, FaultMapFacts]:
    (found,) = (each for each in read_record(fused.with_suffix(".json")).fault_maps if each.code == code)
    return np.array([[int(digit) for digit in row] for row in found.cells]), found


def test_a_dead_column_is_told_in_its_place(fused: Path) -> None:
    cells, found = told(fused, "stripes")
    assert np.flatnonzero(cells.any(axis=0)).tolist() == [DEAD]
    with rasterio.open(fused) as product:
        left, top = product.transform.c, product.transform.f
        assert product.crs.to_string() == found.crs
    assert Affine(*found.transform) * (DEAD, 0) == pytest.approx((left + 30 * DEAD, top))
    assert found.transform[4] * len(cells) == pytest.approx(-960), "it reaches from the first line to the last"


def test_ground_that_differs_is_told_in_its_place(fused: Path) -> None:
    cells, _ = told(fused, "cloud-or-change")
    rows, cols = (size * 60 // 96 for size in (len(cells), len(cells)))
    planted = np.zeros(cells.shape, bool)
    planted[rows:, cols:] = True
    assert (cells[planted] > 0).mean() > 0.8
    assert (cells[~planted] > 0).mean() < 0.1


def test_the_report_shows_each_fault_where_it_is(fused: Path, tmp_path: Path) -> None:
    page = make_report(fused, tmp_path / "r.html").read_text(encoding="utf-8")
    table = page[page.index("Faults that were looked for") :]
    table = table[: table.index("</table>")]
    rows = {match[1]: match[0] for match in re.finditer(r"<tr><th>([^<]+)</th>.*?</tr>", table, re.DOTALL)}
    assert "<img" not in rows["The scale does not fit"]
    picture = re.search(r'src="data:image/jpeg;base64,([^"]+)"', rows["Dead or striped columns in the HSI"])
    assert picture
    pixels = imread(io.BytesIO(base64.b64decode(picture[1])), format="jpeg").astype(float)
    red = (pixels[..., 0] > 150) & (pixels[..., 1] < 100)
    assert red.mean(axis=0)[DEAD * 3 + 1] > 0.9
    assert red.mean() < 3 * 2 / 90
    assert "Red: " in rows["Clouds, shadows or change between the dates"]
    assert len(page.encode()) < 3e6


def test_a_large_image_and_a_single_line_become_few_cells() -> None:
    grid = GeoBox((1000, 700), Affine(30, 0, 0, 0, -30, 0), None)
    marked = np.zeros((1, 700))
    marked[0, 350] = 1
    cells, coarse = in_cells(marked, grid)
    assert cells.shape[0] == 1
    assert cells.shape[1] <= MOST_CELLS
    assert tuple(coarse.affine * (0, 1)) == pytest.approx(tuple(grid.affine * (0, 1000)))
    left, right = (coarse.affine * (int(cells[0].argmax()) + at, 0) for at in (0, 1))
    assert left[0] <= 350 * 30 < right[0]


def test_what_is_not_known_is_a_point_and_what_is_little_is_not_nothing() -> None:
    values = np.array([[0, 1e-3, 2.0, np.nan]], np.float32)
    written = FaultMap("haze", "", values, GeoBox((1, 4), Affine.identity(), None)).to_json()
    assert written["cells"] == ["019."]
    assert written["crs"] is None
