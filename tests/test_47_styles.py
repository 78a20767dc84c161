"""How QGIS opens the quality raster and the standard error: named marks in colours, one band on a ramp."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import rasterio
from scenes import make_pair

from geolift.pipeline import files
from geolift.settings import FuseSettings


def test_marks_have_names_and_colours_and_the_error_one_band_with_its_values(tmp_path: Path) -> None:
    pair = make_pair(tmp_path)
    settings = FuseSettings(
        sensor="sentinel-2a", max_train_pixels=200, qa=tmp_path / "qa.tif", uncertainty=tmp_path / "sigma.tif"
    )
    files.fuse_files(pair.hsi, pair.msi, tmp_path / "fused.tif", settings)
    marks = ElementTree.parse(tmp_path / "qa.qml").find("pipe/rasterrenderer")
    assert marks is not None
    assert marks.get("type") == "paletted"
    entries = {int(e.get("value", -1)): (e.get("label"), e.get("color")) for e in marks.iter("paletteEntry")}
    with rasterio.open(tmp_path / "qa.tif") as quality:
        assert set(entries) == set(np.unique(quality.read(1, masked=True).compressed()).tolist())
    assert entries[0][0] == "nothing known against it"
    ramp = ElementTree.parse(tmp_path / "sigma.qml").find("pipe/rasterrenderer")
    assert ramp is not None
    assert ramp.get("type") == "singlebandpseudocolor"
    with rasterio.open(tmp_path / "sigma.tif") as sigma:
        band = int(ramp.get("band", 0))
        values = sigma.read(band, masked=True).compressed() * sigma.scales[band - 1]
    steps = [float(item.get("value", "nan")) for item in ramp.iter("item")]
    assert steps == sorted(steps)
    near = 1e-9  # the style holds decimals
    assert values.min() * (1 - near) <= steps[0] < steps[-1] <= values.max() * (1 + near)
