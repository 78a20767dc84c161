"""The sidecar: a STAC Item with types behind it, a schema that keeps up, and room for what earlier versions wrote."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from geolift.datamodel.cube import Bands
from geolift.datamodel.encoding import Encoding
from geolift.errors import InputError
from geolift.provenance.record import read_record
from geolift.provenance.sidecar import EXTENSIONS, stac_item, write_json

ROOT = Path(__file__).resolve().parent.parent
GRID = GeoBox((4, 5), Affine(10.0, 0.0, 500000.0, 0.0, -10.0, 5800000.0), "EPSG:32633")
BANDS = Bands(("B1",), np.array([443.0]), np.array([np.nan]), np.array([True]))


def item(**facts: object) -> dict[str, object]:
    encoding = Encoding("int16", 1e-4, -32768.0)
    return stac_item(Path("p.tif"), GRID, BANDS, driver="GTiff", acquired=None, encoding=encoding, facts=facts)


def test_the_schema_is_as_the_types_have_it() -> None:
    spec = importlib.util.spec_from_file_location("build_sidecar_schema", ROOT / "tools" / "build_sidecar_schema.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.TARGET.read_text(encoding="utf-8") == module.document(), "run tools/build_sidecar_schema.py"


def test_every_prefix_in_an_item_is_ours_or_of_an_extension_that_is_declared() -> None:
    document = item(warnings=[])
    assert document["stac_extensions"] == list(EXTENSIONS)
    text = json.dumps(document)
    for name, prefix in (
        ("projection", '"proj:'),
        ("processing", '"processing:'),
        ("eo", '"eo:'),
        ("raster", '"raster:'),
    ):
        assert prefix in text
        assert any(f"/{name}/" in address for address in EXTENSIONS)


def test_a_sidecar_reads_back_with_its_types_and_what_a_newer_version_adds(tmp_path: Path) -> None:
    shift = {"dy": 0.5, "dx": float("nan")}
    facts = {
        "warnings": ["w"],
        "coregistration": {"shift_msi_px": {"dy": 0.5, "dx": 0.1}, "shift_m": {"dy": 5.0, "dx": 1.0},
                           "confidence": 0.9, "applied": True, "of_tomorrow": shift},
        "of_tomorrow": {"a": 1},
    }  # fmt: skip
    write_json(tmp_path / "p.json", item(**facts))
    record = read_record(tmp_path / "p.json")
    assert record.warnings == ["w"]
    assert record.coregistration is not None
    assert record.coregistration.shift_msi_px.dy == 0.5
    assert record.model_extra == {"of_tomorrow": {"a": 1}}


def test_a_sidecar_without_what_came_later_still_loads(tmp_path: Path) -> None:
    write_json(tmp_path / "p.json", item(written={"valid_pixels": 3, "values": 6, "clipped_values": 0}))
    record = read_record(tmp_path / "p.json")
    assert (record.plan, record.check, record.warnings) == (None, None, [])
    assert record.written is not None
    assert record.written.valid_pixels == 3


def test_a_fact_of_another_kind_is_named_with_its_place(tmp_path: Path) -> None:
    write_json(tmp_path / "p.json", item(written={"valid_pixels": "many", "values": 6, "clipped_values": 0}))
    with pytest.raises(InputError, match=r"p\.json: not a sidecar of geolift: written\.valid_pixels"):
        read_record(tmp_path / "p.json")
