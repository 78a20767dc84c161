"""STAC items as the input: what the item says is what is used and told, on disk and over http."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from command_line import run
from scenes import make_pair, spectra_of, write
from serving import serving

import geolift
from geolift.datamodel.cube import grid_of
from geolift.errors import InputError, RemoteError
from geolift.readers import gate, open_cube, stac

NAMES = ("B02", "B03", "B04", "B08")
BOA_APPLIED = {"earthsearch:boa_offset_applied": True, "processing:version": "05.11"}
COMMON = dict(zip(NAMES, ("blue", "green", "red", "nir"), strict=True))


@pytest.fixture
def values() -> np.ndarray:
    return spectra_of(np.array([490.0, 560, 665, 842]), 40, 36)


def save(
    folder: Path,
    values: np.ndarray,
    asset: dict[str, Any] | None = None,
    properties: dict[str, Any] | None = None,
    *,
    added: int = 1000,
    named_by: str = "key",
    band: dict[str, Any] | None = None,
) -> Path:
    """Write band files and their item; returns the item."""
    folder.mkdir(parents=True, exist_ok=True)
    assets = {}
    for name, plane in zip(NAMES, values, strict=True):
        counts = np.rint(plane[None] * 10_000) + added
        write(folder / f"{name}.tif", counts, gsd=10, scale=None, nodata=0, dtype="uint16")
        entry: dict[str, Any] = {"href": f"./{name}.tif", "type": "image/tiff; application=geotiff", "roles": ["data"]}
        key = name
        if named_by == "common":
            key, entry["eo:bands"] = COMMON[name], [{"common_name": COMMON[name]}]
        if band is not None:
            entry["bands"] = [{"name": name, **band}]
        assets[key] = entry | (asset or {})
    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": "S2B_MSIL2A_20230601",
        "properties": {"platform": "sentinel-2b", "datetime": "2023-06-01T10:00:00Z"} | (properties or {}),
        "assets": assets | {"thumbnail": {"href": "t.jpg", "roles": ["thumbnail"], "type": "image/jpeg"}},
    }
    (folder / "item.json").write_text(json.dumps(item))
    return folder / "item.json"


@pytest.mark.parametrize("named_by", ["key", "common"])
@pytest.mark.parametrize(
    ("asset", "band", "properties"),
    [
        ({"raster:scale": 1e-4, "raster:offset": -0.1}, None, {}),
        ({}, {"raster:scale": 1e-4, "raster:offset": -0.1}, {}),
        ({"raster:bands": [{"scale": 1e-4, "offset": -0.1, "nodata": 0}]}, None, {}),
        ({}, None, {"processing:version": "05.11"}),
        ({}, None, {"s2:processing_baseline": "05.11"}),
    ],
)
def test_scale_and_offset_are_found_wherever_the_versions_put_them(
    tmp_path: Path,
    values: np.ndarray,
    asset: dict[str, Any],
    band: dict[str, Any] | None,
    properties: dict[str, Any],
    named_by: str,
) -> None:
    item = save(tmp_path / "s", values, asset, properties, band=band, named_by=named_by)
    for path in (item, item.parent):
        cube = open_cube(path)
        assert list(cube.coords["name"].values) == list(NAMES)
        assert np.abs(cube.values - values).max() < 6e-5
        assert any("scale 0.0001 and offset -0.1 are taken" in text for text in cube.attrs["warnings"])


def test_bands_are_chosen_by_the_sensors_names_in_the_order_asked_for(tmp_path: Path, values: np.ndarray) -> None:
    item = save(tmp_path / "s", values, {"raster:scale": 1e-4, "raster:offset": -0.1}, named_by="common")
    cube = open_cube(item, bands=("B8", "B02"))
    assert np.abs(cube.values - values[[3, 0]]).max() < 6e-5
    with pytest.raises(InputError, match="no asset holds the band B11; there are B"):
        open_cube(item, bands=("B11",))


@pytest.mark.parametrize(("added", "offset"), [(0, 0.0), (1000, -0.1)])
@pytest.mark.parametrize(
    "properties",
    [
        {"processing:version": "02.14"},  # with a declared offset, which that baseline does not have
        BOA_APPLIED,
        {"earthsearch:boa_offset_applied": False, "processing:version": "05.11"},  # earth-search#71: it is applied
    ],
)
def test_where_an_item_contradicts_itself_the_pixels_decide_and_it_is_told(
    tmp_path: Path, values: np.ndarray, properties: dict[str, Any], added: int, offset: float
) -> None:
    values = values - 0.03  # as dark as vegetation is in red light
    item = save(tmp_path / "s", values, {"raster:scale": 1e-4, "raster:offset": -0.1}, properties, added=added)
    cube = open_cube(item)
    assert cube.attrs["offset"] == offset
    assert np.abs(cube.values - values).max() < 6e-5
    agreed = added == 1000 and properties.get("earthsearch:boa_offset_applied") is False
    assert any("contradicts itself" in text for text in cube.attrs["warnings"]) is not agreed


@pytest.mark.parametrize("added", [0, 1000])
def test_a_fusion_settles_a_doubtful_offset_by_the_hsi_where_dark_pixels_mislead(tmp_path: Path, added: int) -> None:
    """Bright everywhere, the darkest pixels say that 1000 is still to be taken off; the HSI knows."""
    pair = make_pair(tmp_path)
    with rasterio.open(pair.msi) as msi, rasterio.open(pair.hsi, "r+") as hsi:
        layers = msi.read() * 1e-4 + 0.3
        hsi.write(hsi.read() + 3000)
    item = save(tmp_path / "s", layers, {"raster:scale": 1e-4, "raster:offset": -0.1}, BOA_APPLIED, added=added)
    assert open_cube(item).attrs["offset"] == -0.1
    run = geolift.prepare(pair.hsi, item, sensor="sentinel-2b", method="linear", refine="off", max_train_pixels=200)
    (told,) = [text for text in run.warnings if "against the HSI" in text]
    assert f"the offset {-0.1 if added else 0:g} is right" in told
    assert np.abs(run.pair.msi.values - layers).max() < 6e-5


def test_numbers_that_are_none_end_in_one_line_with_item_field_and_value(tmp_path: Path, values: np.ndarray) -> None:
    item = save(tmp_path / "s", values, {"raster:scale": "much"})
    with pytest.raises(InputError, match=r"item\.json: asset B02: raster:scale is 'much'"):
        open_cube(item)
    (tmp_path / "c.json").write_text('{"type": "FeatureCollection", "assets": {}}')
    with pytest.raises(InputError, match="a STAC item"):
        open_cube(tmp_path / "c.json")


def test_a_pair_over_http_gives_the_same_product_through_a_server_that_often_refuses(tmp_path: Path) -> None:
    """Every fourth request is answered with 503; rasters come in ranges only, and few requests are needed."""
    pair = make_pair(tmp_path)
    with rasterio.open(pair.msi) as msi:
        item = save(tmp_path / "s", msi.read() * 1e-4, {"raster:scale": 1e-4, "raster:offset": -0.1})

    def product(msi: str) -> xr.DataArray:
        return geolift.fuse(pair.hsi, msi, sensor="sentinel-2b", method="linear", refine="off", max_train_pixels=200)

    local = product(str(item))
    with serving(tmp_path / "s", refuse_every=4) as log:
        remote = product(f"{log.address}/item.json")
    assert remote.values.tobytes() == local.values.tobytes()
    assert grid_of(remote) == grid_of(local)
    assert all(wanted is not None for method, path, wanted in log.requests if path.endswith(".tif") and method == "GET")
    assert len(log.requests) <= 12, log.requests


def test_a_bucket_that_refuses_now_and_then_is_read(tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    pair = make_pair(tmp_path / "bucket")
    with serving(tmp_path, refuse_every=3) as log:
        options = {
            "AWS_S3_ENDPOINT": log.address.partition("//")[2],
            "AWS_HTTPS": "NO",
            "AWS_VIRTUAL_HOSTING": "FALSE",
            "AWS_NO_SIGN_REQUEST": "YES",
        }
        words = [word for item in options.items() for word in ("--config", "=".join(item))]
        unset = dict.fromkeys(options, "")  # put back when the command has ended
        done = run("info", "/vsis3/bucket/hsi.tif", "--json", *words, cwd=tmp_path, **unset)
    assert done.returncode == 0, done.stderr
    here = json.loads(run("info", pair.hsi, "--json", cwd=tmp_path).stdout)
    assert json.loads(done.stdout)["wavelengths_nm"] == here["wavelengths_nm"]
    assert {path for _, path, _ in log.requests if path.endswith("hsi.tif")} == {"/bucket/hsi.tif"}


def test_a_missing_item_and_a_query_of_a_signature_are_told_without_the_secret(tmp_path: Path) -> None:
    with serving(tmp_path) as log, pytest.raises(RemoteError, match="404") as refused:
        open_cube(f"{log.address}/item.json?sig=secret")
    assert "secret" not in str(refused.value)


def test_addresses_are_resolved_against_the_items() -> None:
    assert stac.resolved("../B02.tif", "https://a.b/c/d/item.json") == "https://a.b/c/B02.tif"
    assert stac.resolved("https://x.y/B02.tif?sig=1", "/data/item.json") == "https://x.y/B02.tif?sig=1"


@pytest.mark.parametrize(
    "href", ["../secret/B02.tif", "/etc/B02.tif", "file:///etc/B02.tif", "/vsizip/x.zip/B02.tif", "vrt://B02.tif"]
)
def test_an_item_speaks_of_files_below_its_own_folder_or_of_addresses(href: str) -> None:
    def item(path: str, name: str, **more: object) -> stac.Item:
        return stac.understood({"assets": {"B02": {"href": name}}, **more}, path)

    for path in ("/data/item/item.json", "https://a.b/item.json"):
        found = item(path, href)
        if "://" in path and "://" not in href:
            assert found.assets[0].href.startswith("https://a.b/")  # of that host, whatever it looks like
        else:
            with pytest.raises(InputError, match="Name the files"):
                stac.require_own(found, found.assets)
    for name in ("B02.tif", "sub/B02.tif", "https://c.d/B02.tif", "s3://bucket/B02.tif"):
        found = item("/data/item/item.json", name)
        stac.require_own(found, found.assets)
    declared = item("/data/item/item.json", "../secret/B02.tif", links=[{"rel": "root", "href": "../catalog.json"}])
    stac.require_own(declared, declared.assets)


@pytest.mark.parametrize("name", ["../x.jp2", "/etc/x", "a/../../x", "C:/x", "..\\x", "\\\\host\\x"])
def test_metadata_name_no_file_outside_of_the_products_folder(name: str) -> None:
    with pytest.raises(InputError, match="product's folder"):
        gate.inside(name, "m.xml")
