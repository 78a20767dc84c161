"""Spectra at places: what was planted there is found, in any file of places, in tables and spectral libraries."""

from __future__ import annotations

import csv
import json
import sqlite3
import struct
from pathlib import Path

import numpy as np
import pytest
import shapely
import xarray as xr
from click.testing import CliRunner
from pyproj import Transformer
from scenes import ORIGIN, UTM, Pair, make_pair, write

import geolift
from geolift.cli import cli
from geolift.errors import InputError
from geolift.readers.places import read_places

PLACES = {"field": (ORIGIN[0] + 55, ORIGIN[1] - 75), "shore": (ORIGIN[0] + 305, ORIGIN[1] - 205)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Path]:
    folder = tmp_path_factory.mktemp("spectra")
    pair = make_pair(folder)
    words = ["fuse", pair.hsi, pair.msi, folder / "fused.tif", "--sensor", "s2a", "--qa", folder / "qa.tif"]
    words += ["--uncertainty", folder / "sigma.tif"]
    done = CliRunner().invoke(cli, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return pair, folder / "fused.tif"


def table(path: Path, places: dict[str, tuple[float, float]], head: str = "name,x,y") -> Path:
    path.write_text("\n".join([head, *(f"{name},{x!r},{y!r}" for name, (x, y) in places.items())]), encoding="utf-8")
    return path


def geopackage(path: Path, geometries: dict[str, shapely.Geometry], epsg: int = 32633) -> Path:
    """Write what QGIS writes, as far as a reader sees it: geometries with a header, with and without an envelope."""
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE gpkg_spatial_ref_sys (srs_id INTEGER, organization TEXT,"
                     " organization_coordsys_id INTEGER, definition TEXT)")  # fmt: skip
        base.execute("INSERT INTO gpkg_spatial_ref_sys VALUES (?, 'EPSG', ?, '')", (epsg, epsg))
        base.execute("CREATE TABLE gpkg_geometry_columns (table_name TEXT, column_name TEXT, srs_id INTEGER)")
        base.execute("INSERT INTO gpkg_geometry_columns VALUES ('plots', 'geom', ?)", (epsg,))
        base.execute("CREATE TABLE plots (fid INTEGER PRIMARY KEY, geom BLOB, Name TEXT)")
        for number, (name, geometry) in enumerate(geometries.items()):
            envelope = struct.pack("<4d", *np.array(geometry.bounds)[[0, 2, 1, 3]]) if number % 2 else b""
            header = b"GP\0" + bytes([(bool(envelope) << 1) | 1]) + struct.pack("<i", epsg)
            base.execute("INSERT INTO plots (geom, Name) VALUES (?, ?)", (header + envelope + geometry.wkb, name))
    base.close()
    return path


def geojson(path: Path, geometries: dict[str, shapely.Geometry]) -> Path:
    turn = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    features = [
        {
            "type": "Feature",
            "properties": {"name": name},
            "geometry": shapely.geometry.mapping(
                shapely.transform(geometry, lambda xy: np.column_stack(turn.transform(xy[:, 0], xy[:, 1])))
            ),
        }
        for name, geometry in geometries.items()
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    return path


def test_product_hsi_msi_sigma_and_marks_stand_beside_each_other(run: tuple[Pair, Path], tmp_path: Path) -> None:
    pair, product = run
    found = geolift.spectra(product, table(tmp_path / "p.csv", PLACES))
    assert set(found.data_vars) >= {"product", "hsi", "msi", "sigma", "quality"}
    assert found["place"].values.tolist() == list(PLACES)
    with xr.set_options(keep_attrs=True):
        truth = np.stack([pair.truth[:, 7, 5], pair.truth[:, 20, 30]])
        coarse = np.stack([pair.truth[:, 6:9, 3:6].mean((1, 2)), pair.truth[:, 18:21, 30:33].mean((1, 2))])
    np.testing.assert_allclose(found["hsi"], coarse, atol=1e-4)
    assert np.abs(found["product"] - truth).mean() < 0.02
    assert (found["sigma"] > 0).all()
    assert found["msi"].shape == (2, 4)
    assert found["msi_wavelength"].values == pytest.approx([492, 560, 665, 833], abs=8)
    np.testing.assert_allclose(found["wavelength"], pair.wavelength_nm, atol=1e-3)


def test_the_same_places_in_any_file_give_the_same_spectra(run: tuple[Pair, Path], tmp_path: Path) -> None:
    _, product = run
    points = {name: shapely.Point(at) for name, at in PLACES.items()}
    turn = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    files = [
        table(tmp_path / "metres.csv", PLACES),
        table(tmp_path / "degrees.csv", {n: turn.transform(*at) for n, at in PLACES.items()}, "Name,Lon,Lat"),
        geopackage(tmp_path / "plots.gpkg", points),
        geojson(tmp_path / "plots.geojson", points),
    ]
    found = [geolift.spectra(product, file) for file in files]
    for other in found[1:]:
        assert other["place"].values.tolist() == list(PLACES)
        np.testing.assert_array_equal(other["product"], found[0]["product"])


def test_a_polygon_has_the_mean_and_the_spread_of_the_pixels_whose_centres_lie_in_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(0.1, 0.5, (3, 20, 30)).astype(np.float32)
    values[0, 4, 4] = np.nan
    image = write(tmp_path / "image.tif", values, gsd=10, wavelength_nm=np.array([500.0, 600, 700]), scale=1e-4)
    left, top = ORIGIN
    field = shapely.box(left + 21, top - 79, left + 69, top - 31)  # rows 3 to 7, columns 2 to 6
    tiny = shapely.box(left + 101, top - 103, left + 102, top - 102)  # inside pixel (10, 10), away from its centre
    far = shapely.Point(left - 500, top)
    file = geopackage(tmp_path / "p.gpkg", {"field": field, "tiny": tiny, "far": far})
    found = geolift.spectra(image, file)
    assert found["pixels"].values.tolist() == [25, 1, 0]
    inside = values[:, 3:8, 2:7].reshape(3, -1)
    np.testing.assert_allclose(found["product"][0], np.nanmean(inside, axis=1), atol=1e-4)
    np.testing.assert_allclose(found["product_spread"][0], np.nanstd(inside, axis=1), atol=1e-4)
    np.testing.assert_allclose(found["product"][1], values[:, 10, 10], atol=1e-4)
    assert np.isnan(found["product"][2]).all()


def test_the_table_has_a_row_for_every_place_source_and_band(run: tuple[Pair, Path], tmp_path: Path) -> None:
    pair, product = run
    words = ["spectra", str(product), str(table(tmp_path / "p.csv", PLACES)), "-o", str(tmp_path / "out.csv")]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    with (tmp_path / "out.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * (30 + 30 + 4)
    assert {row["source"] for row in rows} == {"product", "HSI", "MSI"}
    one = next(row for row in rows if row["place"] == "shore" and row["source"] == "product")
    assert float(one["wavelength_nm"]) == pytest.approx(pair.wavelength_nm[0], abs=1e-3)
    assert 0 < float(one["sigma"]) < 0.1
    assert (float(one["x"]), float(one["y"])) == pytest.approx(PLACES["shore"])
    again = CliRunner().invoke(cli, words)
    assert again.exit_code != 0
    assert "exists" in str(again.exception)


def test_a_spectral_library_is_read_by_spectral_python(run: tuple[Pair, Path], tmp_path: Path) -> None:
    envi = pytest.importorskip("spectral.io.envi")
    pair, product = run
    done = CliRunner().invoke(
        cli, ["spectra", str(product), str(table(tmp_path / "p.csv", PLACES)), "-o", str(tmp_path / "lib.sli")]
    )
    assert done.exit_code == 0, done.output
    library = envi.open(str(tmp_path / "lib.hdr"))
    expected = geolift.spectra(product, tmp_path / "p.csv")
    assert library.names[0] == "field fused product"
    np.testing.assert_allclose(library.bands.centers, pair.wavelength_nm, atol=1e-3)
    np.testing.assert_allclose(library.spectra[0], expected["product"][0], atol=1e-6)
    broad = envi.open(str(tmp_path / "lib_msi.hdr"))
    np.testing.assert_allclose(broad.spectra[1], expected["msi"][1], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.csv", "a,b\n1,2\n", "needs the columns lon and lat, or x and y; it has a, b"),
        ("p.csv", "x,y\n1,north\n", "row 2"),
        ("p.geojson", '{"type": "LineString", "coordinates": [[0, 0], [1, 1]]}', "is a LineString"),
        ("p.geojson", "[]", "is no GeoJSON"),
        ("p.geojson", '{"type": "FeatureCollection", "features": []}', "holds no point and no polygon"),
        ("p.gpkg", "no database", "cannot be read as places"),
        ("p.shp", "", "expected is a GeoPackage"),
    ],
)
def test_what_is_no_place_is_refused_by_name(tmp_path: Path, name: str, content: str, message: str) -> None:
    file = tmp_path / name
    file.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_places(file)


def test_places_that_all_lie_elsewhere_are_refused(run: tuple[Pair, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of its 1 places lies on"):
        geolift.spectra(run[1], table(tmp_path / "p.csv", {"moon": (0.0, 0.0)}))
