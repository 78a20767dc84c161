"""The spectral response library, its names, and the weights on hyperspectral bands."""

from __future__ import annotations

import csv
import importlib.util
import tomllib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import rasterio
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from geolift.errors import InputError
from geolift.srf import SpectralResponse, complete_fwhm, guess_sensor, list_sensors, resolve_sensor
from geolift.srf.weights import trapezoid_weights, weigh

ROOT = Path(__file__).resolve().parent.parent
Grid = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def library() -> dict[str, SpectralResponse]:
    return {name: SpectralResponse.from_library(name) for name in list_sensors()}


@pytest.fixture(scope="module")
def facts(shared_data: Path) -> Path:
    folder = shared_data.parent / "facts"
    if not (folder / "srf_bands.csv").is_file():
        pytest.skip("needs the tables of figures in ../shared/facts")
    return folder


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    path = ROOT / "tools" / "build_srf_library.py"
    if not path.is_file():
        pytest.skip("needs the project's tools folder")
    spec = importlib.util.spec_from_file_location("build_srf_library", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def enmap(shared_data: Path) -> Grid:
    with rasterio.open(shared_data / "enmap_potsdam" / "enmap_potsdam.tif") as file:
        tags = [file.tags(band) for band in file.indexes]
    centres = np.array([float(tag["wavelength"]) for tag in tags])
    fwhm = np.array([float(tag["fwhm"]) for tag in tags])
    return centres, fwhm, np.array([tag["bbl"] == "1" for tag in tags])


def outside(centres: np.ndarray, *windows: tuple[float, float]) -> np.ndarray:
    return ~np.any([(centres > low) & (centres < high) for low, high in windows], axis=0)


def neon_like() -> Grid:
    centres = np.linspace(381.2, 2511.9, 426)
    return centres, np.full(426, 5.8), outside(centres, (1340, 1445), (1790, 1955))


def emit_like() -> Grid:
    centres = np.linspace(381, 2493, 285)
    return centres, np.full(285, 8.4), outside(centres, (1320, 1440), (1770, 1970))


def prisma_like() -> Grid:
    centres = np.concatenate([np.linspace(972, 402, 63), np.linspace(2497, 943, 171)])
    return centres, np.repeat([11.0, 10.5], [63, 171]), np.ones(234, bool)


def hyperion_like() -> Grid:
    band = np.arange(1, 243)
    centres = np.where(band < 71, 355.59 + 10.1757 * (band - 1), 851.92 + 10.0888 * (band - 71))
    return centres, np.full(242, 10.9), ((band >= 8) & (band <= 57)) | ((band >= 77) & (band <= 224))


def aviris_like() -> Grid:
    ends = ((366, 677, 32), (655, 1273, 64), (1254, 1867, 64), (1867, 2496, 64))
    return np.concatenate([np.linspace(*end) for end in ends]), np.full(224, 9.8), np.ones(224, bool)


SPECTROMETERS = {
    "NEON": neon_like(),
    "EMIT": emit_like(),
    "PRISMA": prisma_like(),
    "Hyperion": hyperion_like(),
    "AVIRIS": aviris_like(),
}


# The library


def test_the_library_holds_every_sensor_with_an_order_of_all_its_bands(library: dict[str, SpectralResponse]) -> None:
    assert len(library) == 73
    assert sum(sensor.approximated for sensor in library.values()) == 15
    for name, sensor in library.items():
        assert sensor.sensor == name
        assert set(sensor.orders[len(sensor.band_names)]) == set(sensor.band_names)
        assert set(sensor.default_bands) <= set(sensor.band_names)
        assert sensor.source and sensor.title
        np.testing.assert_allclose(sensor.response.max(axis=0), 1, atol=0.02)


def test_measured_centres_and_widths_are_those_of_the_documents(
    library: dict[str, SpectralResponse], facts: Path
) -> None:
    checked = 0
    for row in csv.DictReader((facts / "srf_bands.csv").read_text(encoding="utf-8").splitlines()):
        if row["sensor"] not in library:
            continue
        band = library[row["sensor"]].select([row["band"]])
        assert band.centres_nm[0] == pytest.approx(float(row["centre_mainlobe_nm"]), abs=0.3)
        assert band.fwhm_nm[0] == pytest.approx(float(row["fwhm_nm"]), abs=0.6)
        assert band.gsd_m[row["band"]] == float(row["gsd_m"])
        checked += 1
    assert checked == 436


def test_approximated_bands_have_the_published_centre_and_width(
    library: dict[str, SpectralResponse], facts: Path
) -> None:
    rows = list(csv.DictReader((facts / "srf_approx_bands.csv").read_text(encoding="utf-8").splitlines()))
    for row in rows:
        sensor = library[row["sensor"]]
        band = sensor.select([row["band"]])
        assert sensor.approximated
        assert band.centres_nm[0] == pytest.approx(float(row["centre_nm"]), abs=0.1)
        assert band.fwhm_nm[0] == pytest.approx(float(row["width_nm"]), abs=0.1)
    assert {row["sensor"] for row in rows} == {name for name in library if library[name].approximated}


@pytest.mark.parametrize(
    ("sensor", "band", "centre_nm"),
    [  # as published by the operators
        ("sentinel-2a", "B12", 2202.4),
        ("sentinel-2b", "B12", 2185.7),
        ("sentinel-2c", "B05", 707.1),
        ("landsat-8-oli", "B5", 864.7),
        ("landsat-9-oli2", "B1", 442.8),
        ("planetscope-psbsd", "yellow", 611.6),
        ("modis-terra", "B3", 465.7),
    ],
)
def test_well_known_bands_lie_where_their_operators_say(sensor: str, band: str, centre_nm: float) -> None:
    assert SpectralResponse.from_library(sensor).select([band]).centres_nm[0] == pytest.approx(centre_nm, abs=0.6)


def test_the_files_are_what_the_tool_builds_from_the_figures(facts: Path, builder: ModuleType, tmp_path: Path) -> None:
    assert builder.build_library(facts, tmp_path) == len(list_sensors())
    for path in sorted(tmp_path.glob("*.csv")):
        assert path.read_text(encoding="utf-8") == (ROOT / "srf_library" / path.name).read_text(encoding="utf-8")


def test_the_page_of_sensors_is_what_the_tool_writes_from_the_library(builder: ModuleType) -> None:
    page = builder.DOCS_PAGE.read_text(encoding="utf-8")
    assert builder.with_tables(page) == page


def test_sentinel_2_products_are_told_by_count_and_any_other_count_lists_the_choices() -> None:
    sensor = SpectralResponse.from_library("sentinel-2a")
    assert sorted(sensor.orders) == [4, 10, 12, 13]
    assert sensor.order_for(4) == ("B02", "B03", "B04", "B08")
    assert set(sensor.order_for(13)) - set(sensor.order_for(12)) == {"B10"}
    assert sensor.default_bands == sensor.order_for(10)
    with pytest.raises(InputError, match=r"5 bands.*4 = B02,B03,B04,B08.*--msi-bands"):
        sensor.order_for(5)


@pytest.mark.parametrize(
    ("sensor", "count", "order"),
    [
        ("landsat-8-oli", 7, "B1,B2,B3,B4,B5,B6,B7"),
        ("landsat-8-oli", 6, "B2,B3,B4,B5,B6,B7"),
        ("landsat-8-oli", 4, "B2,B3,B4,B5"),
        ("landsat-8-oli", 1, "B8"),
        ("worldview-3", 8, "Coastal,Blue,Green,Yellow,Red,RedEdge,NIR1,NIR2"),
        ("worldview-2", 4, "Blue,Green,Red,NIR1"),
        ("planetscope-ps2sd", 4, "Blue,Green,Red,NIR"),
        ("pleiades-1a", 4, "Red,Green,Blue,NIR"),
        ("spot-7", 1, "PAN"),
        ("generic-rgb", 3, "Red,Green,Blue"),
        ("eo1-ali", 9, "MS-1p,MS-1,MS-2,MS-3,MS-4,MS-4p,MS-5p,MS-5,MS-7"),
    ],
)
def test_usual_products_have_their_band_order(sensor: str, count: int, order: str) -> None:
    assert SpectralResponse.from_library(sensor).order_for(count) == tuple(order.split(","))


# Names of sensors


@pytest.mark.parametrize(
    ("typed", "sensor"),
    [
        ("s2a", "sentinel-2a"), ("S2B", "sentinel-2b"), ("Sentinel-2A", "sentinel-2a"),
        ("sentinel_2c", "sentinel-2c"), ("landsat8", "landsat-8-oli"), ("Landsat 8", "landsat-8-oli"),
        ("l8", "landsat-8-oli"), ("OLI", "landsat-8-oli"), ("landsat-9", "landsat-9-oli2"), ("wv2", "worldview-2"),
        ("WV-3", "worldview-3"), ("worldview3", "worldview-3"), ("wv4", "worldview-4"),
        ("superdove", "planetscope-psbsd"), ("Pléiades 1B", "pleiades-1b"), ("ali", "eo1-ali"), ("spot7", "spot-7"),
        ("ASTER", "aster"),
    ],
)  # fmt: skip
def test_names_people_type_are_understood(typed: str, sensor: str) -> None:
    found = resolve_sensor(typed)
    assert (found.sensor_id, found.assumed, found.message) == (sensor, False, "")


@pytest.mark.parametrize(
    ("evidence", "sensor"),
    [
        ("S2A_MSIL2A_20220724T100601_N0400_R022_T33UUU.SAFE", "sentinel-2a"),
        ("/data/S2B_MSIL2A_20220724.SAFE/GRANULE/B02.jp2", "sentinel-2b"),
        ("potsdam_sentinel-2c_10m.tif", "sentinel-2c"),
        ("<DATATAKE>GS2B_20180524T102019_006335_N02.06</DATATAKE>", "sentinel-2b"),
        ("SPACECRAFT_NAME=Sentinel-2A", "sentinel-2a"),
        ("SENTINEL2A_20190625-105728-756_L2A_T31UEQ", "sentinel-2a"),
    ],
)
def test_sentinel2_takes_its_spacecraft_from_the_evidence(evidence: str, sensor: str) -> None:
    found = resolve_sensor("sentinel2", evidence=evidence)
    assert (found.sensor_id, found.assumed) == (sensor, False)
    assert sensor in found.message


@pytest.mark.parametrize("evidence", ["", "s2_l2a_b02.tif", "S2A and S2B mosaic", "T33UUU_20220724T100601_B02_10m.jp2"])
def test_sentinel2_without_clear_evidence_is_2a_and_says_so(evidence: str) -> None:
    found = resolve_sensor("sentinel2", evidence=evidence)
    assert (found.sensor_id, found.assumed) == ("sentinel-2a", True)
    assert "sentinel-2a assumed" in found.message and "sentinel-2b" in found.message


@pytest.mark.parametrize(
    ("typed", "count", "evidence", "sensor", "assumed"),
    [
        ("planetscope", 8, "", "planetscope-psbsd", True),
        ("PlanetScope", 4, "", "planetscope-ps2sd", True),
        ("planetscope", 4, "instrument PSB.SD", "planetscope-psbsd", False),
        ("dove", 4, "20170820_150139_0e26_3B_AnalyticMS.tif", "planetscope-0e", False),
        ("dove", 4, "20180820_150139_1043_3B_AnalyticMS.tif", "planetscope-0f10", False),
        ("pleiades", 4, "", "pleiades-1a", True),
        ("pleiades", 4, "IMG_PHR1B_PMS_001", "pleiades-1b", False),
        ("pneo", 6, "IMG_01_PNEO4_MS-FS", "pleiades-neo-4", False),
        ("landsat", 7, "LC09_L2SP_204023", "landsat-9-oli2", False),
        ("landsat", 6, "SPACECRAFT_ID = LANDSAT_5", "landsat-5-tm", False),
        ("landsat", 6, "LE07_L2SP_204023", "landsat-7-etm", False),
        ("worldview", 8, "WV03_20200101", "worldview-3", False),
        ("naip", 4, "", "leica-ads100", True),
        ("rgb", 3, "", "generic-rgb", True),
        ("modis", 7, "MYD09GA.A2020001.h18v04", "modis-aqua", False),
        ("olci", 21, "S3B_OL_1_EFR____2020", "sentinel-3b-olci", False),
        ("gf6", 8, "", "gaofen-6-wfv", True),
    ],
)
def test_shared_names_go_by_evidence_or_count_or_a_stated_assumption(
    typed: str, count: int, evidence: str, sensor: str, assumed: bool
) -> None:
    found = resolve_sensor(typed, band_count=count, evidence=evidence)
    assert (found.sensor_id, found.assumed) == (sensor, assumed)
    assert sensor in found.message


@pytest.mark.parametrize("typed", ["landsat", "worldview", "spot", "cbers4"])
def test_names_of_unlike_sensors_are_refused_with_the_list(typed: str) -> None:
    with pytest.raises(InputError, match=r"--sensor with one of .*, "):
        resolve_sensor(typed, band_count=4)


@pytest.mark.parametrize(
    ("typed", "close"),
    [
        ("sentinal2", "sentinel"),
        ("landsat88", "landsat-8-oli"),
        ("worldveiw3", "worldview-3"),
        ("planetscop", "planet"),
    ],
)
def test_unknown_names_suggest_close_ones(typed: str, close: str) -> None:
    with pytest.raises(InputError, match=f"unknown sensor '{typed}'.*Close: .*{close}"):
        resolve_sensor(typed)


def test_a_name_like_nothing_is_refused_without_a_suggestion() -> None:
    with pytest.raises(InputError, match=r"73 sensors\. `geolift sensors`"):
        resolve_sensor("qqqqqq")


def test_every_alias_and_family_member_is_a_sensor_and_no_name_means_two_things() -> None:
    names = tomllib.loads((ROOT / "srf_library" / "names.toml").read_text(encoding="utf-8"))
    for alias, sensor in names["aliases"].items():
        assert resolve_sensor(alias).sensor_id == sensor
    typed = [name for family in names["family"] for name in family["names"]]
    assert len(typed) == len(set(typed))
    assert not set(typed) & (set(names["aliases"]) | {sensor.replace("-", "") for sensor in list_sensors()})
    for family in names["family"]:
        members = [*family["evidence"], *family.get("by_count", {}).values(), family.get("default", "sentinel-2a")]
        assert set(members) <= set(list_sensors())


@pytest.mark.parametrize(
    ("evidence", "names", "count", "guess"),
    [
        ("S2B_MSIL2A_20220724T100601.SAFE", [], 10, "sentinel-2b"),
        ("LC08_L2SP_204023_20200927_20201006_02_T1", [], 7, "landsat-8-oli"),
        ("IMG_PHR1A_MS_001.tif", [], 4, "pleiades-1a"),
        ("stack.tif", ["B02", "B03", "B04", "B8A"], 4, "sentinel2"),
        ("stack.tif", ["B02", "B03", "B04", "B05"], 4, None),  # HLS names Landsat's bands so
        ("potsdam_sentinel2_10m.tif", [], 4, "sentinel2"),
        ("T33UUU_20220724T100601_B02_10m.jp2", [], 1, "sentinel2"),
        ("20230101_101010_22_2424_3B_AnalyticMS_SR_8b.tif", [], 8, "planetscope"),
        ("plot_l8.tif", [], 7, None),
        (
            "stack.tif",
            ["coastal_blue", "blue", "green_i", "green", "yellow", "red", "rededge", "nir"],
            8,
            "planetscope-psbsd",
        ),
        ("aqua/terra/field.tif", ["red", "green", "blue"], 3, None),
        ("ls2a_field_wv.tif", [None, "Band_2"], 2, None),
        ("S2A_LC08_comparison.tif", [], 4, None),
    ],
)
def test_a_sensor_is_guessed_from_strong_evidence_only(
    evidence: str, names: list[str | None], count: int, guess: str | None
) -> None:
    assert guess_sensor(evidence, names, count) == guess


# Names of bands


def test_bands_are_selected_in_the_asked_order_by_any_spelling() -> None:
    sensor = SpectralResponse.from_library("sentinel-2a")
    picked = sensor.select(["b8a", "B2", "nir", "SR_B4"])
    assert picked.band_names == ("B8A", "B02", "B08", "B04")
    np.testing.assert_allclose(picked.centres_nm, sensor.centres_nm[[8, 1, 7, 3]])
    assert picked.order_for(4) == picked.band_names and picked.gsd_m["B8A"] == 20


def test_unknown_and_repeated_bands_are_refused() -> None:
    sensor = SpectralResponse.from_library("landsat-8-oli")
    with pytest.raises(InputError, match=r"no band B11, B12; its bands are B1, B2"):
        sensor.select(["B2", "B11", "B12"])
    with pytest.raises(InputError, match="name a band twice"):
        sensor.select(["B4", "red"])
    with pytest.raises(InputError, match="none was named"):
        sensor.select([])


@pytest.mark.parametrize(
    ("labels", "bands"),
    [
        (["B4, central wavelength 665 nm", "B8A, central wavelength 865 nm"], ("B04", "B8A")),
        (["blue", "green", "red", "nir08"], ("B02", "B03", "B04", "B8A")),
        (["Band_1", "Band_2"], None),
        (["B02", None], None),
        (["B02", "B2"], None),
        ([], None),
    ],
)
def test_a_files_labels_are_matched_all_or_not_at_all(labels: list[str | None], bands: tuple[str, ...] | None) -> None:
    assert SpectralResponse.from_library("sentinel-2a").match_names(labels) == bands


def test_every_band_of_every_sensor_answers_to_its_own_name(library: dict[str, SpectralResponse]) -> None:
    for sensor in library.values():
        assert sensor.match_names(sensor.band_names) == sensor.band_names


# Tables of one's own


def test_a_table_of_ones_own_is_read_with_empty_cells_as_zero(tmp_path: Path) -> None:
    path = tmp_path / "mine ü.csv"
    path.write_text("\ufeffwavelength_nm,A,B\n500,0,\n510,1,\n520,,0.5\n530,,1\n540,,\n", encoding="utf-8")
    sensor = SpectralResponse.from_csv(path)
    assert sensor.sensor == "mine ü" and sensor.band_names == ("A", "B")
    np.testing.assert_allclose(sensor.centres_nm, [510, 526 + 2 / 3])
    np.testing.assert_allclose(sensor.fwhm_nm, [10, 15])
    assert sensor.order_for(2) == ("A", "B")


def test_micrometres_semicolons_and_unsorted_rows_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "um.csv"
    path.write_text("Wavelength (um);A\n0.52;0\n0.51;1\n0.50;-0.001\n", encoding="utf-8")
    sensor = SpectralResponse.from_csv(path)
    np.testing.assert_allclose(sensor.wavelength_nm, [500, 510, 520])
    assert sensor.response.min() == 0


def test_a_library_file_given_as_ones_own_is_the_same_sensor() -> None:
    own = SpectralResponse.from_csv(ROOT / "srf_library" / "sentinel-2a.csv")
    shipped = SpectralResponse.from_library("sentinel-2a")
    assert own.orders == shipped.orders and own.gsd_m == shipped.gsd_m and own.title == shipped.title
    np.testing.assert_array_equal(own.response, shipped.response)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no table found"),
        ("wavelength_nm,A\n500,1\n", "no table found"),
        ("nm,A\n500,0\n510,1\n", "expected wavelength_nm"),
        ("wavelength_nm\n500\n510\n", "names of the bands"),
        ("wavelength_nm,A\n500,zero\n510,1\n", "line 2: could not convert.*'zero'"),
        ("wavelength_nm,A\n500,0\n510,1,3\n", "line 3: expected a wavelength and 1 responses, found 3"),
        ("wavelength_nm,A\n500,0\n,1\n", "line 3"),
        ("wavelength_nm,A\n500,0\n500,1\n", "increasing and each once"),
        ("wavelength_nm,A\n0.5,0\n0.51,1\n", "not nanometres"),
        ("wavelength_nm,A\n500,-1\n510,1\n", "zero or more"),
        ("wavelength_nm,A\n500,nan\n510,1\n", "finite"),
        ("wavelength_nm,A,B\n500,0,0\n510,1,0\n", "B responds at no wavelength"),
        ("wavelength_nm,A,a\n500,0,0\n510,1,1\n", "empty or repeat"),
        ("# order 2: A,C\nwavelength_nm,A,B\n500,0,1\n510,1,1\n", "order 2"),
        ("# default: many\nwavelength_nm,A\n500,0\n510,1\n", "invalid literal"),
    ],
)
def test_bad_tables_are_refused_by_file_and_reason(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=rf"bad\.csv.*{complaint}"):
        SpectralResponse.from_csv(path)


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        SpectralResponse.from_csv(tmp_path / "none.csv")
    (tmp_path / "image.tif").write_bytes(b"II*\0\xff\xfe\x80")
    with pytest.raises(InputError, match="cannot be read as a text table"):
        SpectralResponse.from_csv(tmp_path / "image.tif")


def test_a_response_cannot_be_changed_after_its_birth() -> None:
    sensor = SpectralResponse.from_library("aster")
    with pytest.raises(ValueError, match="read-only"):
        sensor.response[0, 0] = 1


# Weights


def assert_lawful(sensor: SpectralResponse, grid: Grid) -> float:
    """Check the laws every result obeys and return the worst distance of a kept band's centre in nm."""
    centres, fwhm, good = grid
    found = sensor.weights(centres, fwhm, good)
    assert found.weights.shape == (len(found.band_names), centres.size)
    assert (found.weights >= 0).all() and not found.weights[:, ~good].any()
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, rtol=1e-12)
    assert {*found.band_names, *found.dropped} == set(sensor.band_names)
    assert all(share >= 0.9 for share in found.coverage[found.kept])
    np.testing.assert_allclose(found.weights @ centres, found.centres_nm)
    return float(np.abs(found.centres_nm - sensor.centres_nm[found.kept]).max())


def test_on_enmap_every_kept_band_of_every_sensor_keeps_its_centre_within_a_nanometre(
    library: dict[str, SpectralResponse], enmap: Grid
) -> None:
    assert max(assert_lawful(sensor, enmap) for sensor in library.values()) < 1.0


@pytest.mark.parametrize("spectrometer", SPECTROMETERS)
def test_every_kept_band_of_every_sensor_keeps_its_centre_within_a_nanometre(
    library: dict[str, SpectralResponse], spectrometer: str
) -> None:
    assert max(assert_lawful(sensor, SPECTROMETERS[spectrometer]) for sensor in library.values()) < 1.0


def test_on_enmap_sentinel_2a_loses_its_cirrus_band_by_name_and_nothing_else(enmap: Grid) -> None:
    found = SpectralResponse.from_library("sentinel-2a").weights(*enmap)
    assert list(found.dropped) == ["B10"] and found.dropped["B10"] < 0.1
    assert not found.recentred and not found.fwhm_assumed.any()
    assert found.messages()[0].startswith("MSI band B10 is left out")
    assert found.coverage[found.kept].min() > 0.99


@pytest.mark.parametrize("spectrometer", SPECTROMETERS)
def test_weighted_hsi_bands_see_what_the_sensor_sees(spectrometer: str) -> None:
    """The oracle integrates a fine spectrum with both instruments' responses directly."""
    centres, fwhm, good = SPECTROMETERS[spectrometer]
    fine = np.arange(340, 2600, 0.25)
    spectrum = 0.2 + 0.25 / (1 + np.exp(-(fine - 715) / 12)) + 0.05 * np.sin(fine / 60)
    gaussians = np.exp(-4 * np.log(2) * ((fine - centres[:, None]) / fwhm[:, None]) ** 2)
    hsi = np.where(good, gaussians @ spectrum / gaussians.sum(axis=1), 1e9)
    sensor = SpectralResponse.from_library("sentinel-2b")
    found = sensor.weights(centres, fwhm, good)
    curves = [np.interp(fine, sensor.wavelength_nm, column, 0, 0) for column in sensor.response.T[found.kept]]
    truth = np.array([curve @ spectrum / curve.sum() for curve in curves])
    np.testing.assert_allclose(found.weights @ hsi, truth, atol=0.006)


def test_a_band_cut_by_a_gap_keeps_its_centre_and_is_named() -> None:
    sensor = SpectralResponse.from_library("landsat-5-tm")
    found = sensor.weights(*emit_like())
    assert list(found.recentred) == ["B5"] and found.recentred["B5"] < -5
    assert found.dropped == {}
    assert found.centres_nm[4] == pytest.approx(sensor.centres_nm[4], abs=1e-6)
    assert "B5" in found.messages()[0] and "centre" in found.messages()[0]


def test_a_band_seen_on_one_side_of_its_centre_only_is_left_out() -> None:
    sensor = SpectralResponse.from_library("sentinel-3a-olci")
    found = sensor.weights(*prisma_like())
    assert list(found.dropped) == ["Oa01"] and found.dropped["Oa01"] > 0.9
    assert "one side" in found.messages()[0]


def test_half_a_band_outside_the_range_is_half_covered() -> None:
    sensor = SpectralResponse.from_library("landsat-8-oli").select(["B4", "B5"])
    centres = np.arange(865.0, 1000, 2.0)
    with pytest.raises(InputError, match=r"865 to 999 nm.*B4 0%, B5 5\d%; 90% is needed"):
        sensor.weights(centres, np.full(centres.size, 2.0))


def test_a_missing_band_inside_costs_about_its_own_share() -> None:
    wavelength = np.arange(790.0, 911)
    box = ((wavelength >= 800) & (wavelength <= 900)).astype(float)[:, None]
    centres = np.arange(750.0, 951, 5)
    good = centres != 850
    found = weigh(wavelength, box, ["NIR"], centres, np.full(centres.size, 5.0), good)
    assert found.coverage[0] == pytest.approx(1 - 0.6 * 5 / 101, abs=0.01)
    assert found.weights[0, ~good] == 0


def test_a_coarse_table_weighs_like_its_interpolation() -> None:
    wavelength, response = np.array([600.0, 650, 700, 750]), np.array([0.0, 1, 0.8, 0])
    fine = np.arange(600, 750.1, 0.5)
    centres = np.arange(560.0, 800, 4)
    coarse = weigh(wavelength, response[:, None], ["A"], centres, np.full(centres.size, 4.2))
    dense = weigh(fine, np.interp(fine, wavelength, response)[:, None], ["A"], centres, np.full(centres.size, 4.2))
    np.testing.assert_allclose(coarse.weights, dense.weights, atol=1e-3)


def test_missing_fwhm_is_the_spacing_of_each_detector_and_is_flagged() -> None:
    centres, _, good = hyperion_like()
    fwhm, assumed = complete_fwhm(centres)
    np.testing.assert_allclose(fwhm, np.where(np.arange(242) < 70, 10.1757, 10.0888), atol=1e-4)
    assert assumed.all()
    found = SpectralResponse.from_library("sentinel-2a").weights(centres, None, good)
    assert found.fwhm_assumed.all() and "242 of 242 HSI bands have no FWHM" in found.messages()[-1]


def test_a_gap_is_not_taken_for_a_spacing_and_given_widths_stay() -> None:
    centres = np.r_[np.arange(1000.0, 1100, 10), np.arange(1400.0, 1500, 12)]
    given_nm = np.where(np.arange(centres.size) % 3 == 0, 11.0, np.nan)
    given_nm[1] = 0.0
    fwhm, assumed = complete_fwhm(centres, given_nm)
    assert (fwhm[::3] == 11).all() and not assumed[::3].any() and assumed.sum() == centres.size - len(fwhm[::3])
    np.testing.assert_allclose(fwhm[assumed], np.where(centres < 1200, 10, 12)[assumed])


def test_bad_bands_need_no_centre() -> None:
    centres = np.r_[np.nan, np.arange(400.0, 1000, 5), np.nan]
    good = np.isfinite(centres)
    found = SpectralResponse.from_library("landsat-8-oli").weights(centres, None, good)
    assert not found.weights[:, [0, -1]].any()


@pytest.mark.parametrize(
    ("centres", "fwhm", "good", "complaint"),
    [
        ([500, 510], [10], None, "2 HSI band centres, 1 FWHM"),
        ([500, 510], [10, 10], [True], "good-band flags"),
        ([500, 510], [10, 10], [False, False], "all HSI bands are bad"),
        ([500, np.nan], [10, 10], None, "1 good HSI bands have no centre"),
        ([0.5, 0.51], [0.01, 0.01], None, "expected nanometres"),
        ([500], None, None, "no neighbour"),
        ([3000, 3010], [10, 10], None, "cover no MSI band"),
    ],
)
def test_band_lists_that_make_no_sense_are_refused(
    centres: list[float], fwhm: list[float] | None, good: list[bool] | None, complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        SpectralResponse.from_library("landsat-8-oli").weights(centres, fwhm, good)


@st.composite
def spectrometers(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Band centres over 380…1020 nm with uneven spacing, and FWHM between 0.8 and 1.6 times the spacing."""
    spacing = draw(st.lists(st.floats(4, 14), min_size=160, max_size=160))
    centres = 380 + np.cumsum(spacing)
    centres = centres[centres < 1020]
    factor = draw(st.floats(0.8, 1.6))
    return centres, factor * np.gradient(centres)


@given(spectrometers())
@settings(max_examples=40, deadline=None)
def test_bands_that_tile_a_range_share_it_without_loss(spectrometer: tuple[np.ndarray, np.ndarray]) -> None:
    """Hats that add up to one must together weigh the HSI bands as their sum does."""
    wavelength = np.arange(500.0, 901)
    knots = np.linspace(500, 900, 9)
    hats = np.stack([np.interp(wavelength, knots, row) for row in np.eye(9)], axis=1)
    parts = weigh(wavelength, hats, [f"B{n}" for n in range(9)], *spectrometer)
    whole = weigh(wavelength, hats.sum(axis=1, keepdims=True), ["all"], *spectrometer)
    assume(parts.kept.all() and not parts.recentred and not whole.recentred)
    areas = trapezoid_weights(wavelength) @ hats
    np.testing.assert_allclose(areas @ parts.coverage / areas.sum(), whole.coverage[0], rtol=1e-9)
    shared = (areas * parts.coverage) @ parts.weights
    np.testing.assert_allclose(shared / shared.sum(), whole.weights[0], atol=1e-12)


@given(spectrometers(), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_the_order_of_the_hsi_bands_does_not_matter(
    spectrometer: tuple[np.ndarray, np.ndarray], random: object
) -> None:
    centres, fwhm = spectrometer
    order = np.arange(centres.size)
    random.shuffle(order)  # type: ignore[attr-defined]
    sensor = SpectralResponse.from_library("worldview-2")
    plain, mixed = sensor.weights(centres, fwhm), sensor.weights(centres[order], fwhm[order])
    np.testing.assert_allclose(mixed.weights, plain.weights[:, order], atol=1e-12)
    np.testing.assert_allclose(mixed.coverage, plain.coverage, atol=1e-12)


@given(st.integers(0, 99), st.floats(-0.5, 0.5))
@settings(max_examples=40, deadline=None)
def test_a_second_detectors_copy_of_a_band_does_not_move_the_centres(which: int, off_nm: float) -> None:
    centres = np.arange(400.0, 1000, 6)
    fwhm = np.full(centres.size, 6.6)
    sensor = SpectralResponse.from_library("sentinel-2a").select(["B02", "B03", "B04", "B08"])
    single = sensor.weights(centres, fwhm)
    double = sensor.weights(np.append(centres, centres[which] + off_nm), np.append(fwhm, 6.6))
    np.testing.assert_allclose(double.centres_nm, single.centres_nm, atol=0.2)
    np.testing.assert_allclose(double.weights.sum(axis=1), 1, rtol=1e-12)


@given(spectrometers(), st.floats(1e-4, 1e4))
@settings(max_examples=25, deadline=None)
def test_a_constant_spectrum_stays_what_it_is(spectrometer: tuple[np.ndarray, np.ndarray], value: float) -> None:
    found = SpectralResponse.from_library("planetscope-psbsd").weights(*spectrometer)
    np.testing.assert_allclose(found.weights @ np.full(spectrometer[0].size, value), value, rtol=1e-12)
