"""The report: one file, nothing from elsewhere, the run's facts, and measures that find what was planted."""

from __future__ import annotations

import json
import shutil
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from affine import Affine
from command_line import run
from odc.geo.geobox import GeoBox
from scenes import Pair, write

from geolift import report
from geolift.datamodel.cube import grid_of
from geolift.errors import InputError, OutputExistsError
from geolift.metrics.consistency import agreement
from geolift.pipeline import files
from geolift.provenance.record import RunRecord, read_record
from geolift.provenance.sidecar import read_sidecar
from geolift.readers import open_cube
from geolift.readers.some_bands import open_some_bands
from geolift.report import agreements, charts, repeat, words
from geolift.report.places import choose_places
from geolift.report.scene import open_scene
from geolift.report.views import seen_on, view_of
from geolift.settings import ApplySettings, FuseSettings
from geolift.training.methods import spectralift

MAX_BYTES = 3_000_000


@pytest.fixture(scope="module")
def fused(pair: Pair) -> Path:
    """A fused pair with everything that can be written beside it, the report included."""
    folder = pair.hsi.parent
    settings = FuseSettings(
        sensor="sentinel2",
        method="spectralift",  # it has a training curve
        max_train_pixels=64,
        qa=folder / "qa.tif",
        uncertainty=folder / "sigma.tif",
        save_model=folder / "model.safetensors",
        report=folder / "fused.html",
    )
    with pytest.MonkeyPatch.context() as patch:  # as published it takes 2500 epochs, six times
        patch.setattr(spectralift, "PublishedSettings", partial(spectralift.PublishedSettings, epochs=200))
        return files.fuse_files(pair.hsi, pair.msi, folder / "fused.tif", settings).output


@pytest.fixture(scope="module")
def page(fused: Path) -> str:
    return fused.with_suffix(".html").read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Tags, addresses and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.ids: set[str] = set()
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
                self.addresses.append(value or "")
            if name == "id":
                self.ids.add(value or "")

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_refers_to_nothing_outside_itself(page: str) -> None:
    outline = Outline(page)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(outline.tags)
    assert outline.addresses
    guide = "https://geolift.github.io/geolift/"  # a link that a reader may follow; nothing is loaded from it
    for address in outline.addresses:
        own = address.startswith(("data:image/", guide)) or address.removeprefix("#") in outline.ids
        assert own, address[:80]
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_the_page_is_small_whatever_the_pictures_hold(page: str) -> None:
    from geolift.report.evidence import LONGEST_PX
    from geolift.report.images import colour_picture

    assert len(page.encode()) < MAX_BYTES
    noise = np.random.default_rng(0).random((3, LONGEST_PX, LONGEST_PX)).astype(np.float32)
    # Twelve pictures of full size is the most a page holds, besides thumbnails.
    assert 14 * len(colour_picture(noise, (0, 1), "").uri) < MAX_BYTES


def test_the_page_tells_the_run(page: str, fused: Path) -> None:
    facts, text = read_sidecar(fused.with_suffix(".json")), Outline(page).words
    assert facts["warnings"]
    for told in (
        *facts["warnings"],
        *(band["name"] for band in facts["check"]["bands"]),
        f"Confidence {facts['coregistration']['confidence']:.2f}",
        "spectralift: SpectraLift's network",
        f"{facts['written']['valid_pixels']} valid pixels",
        "--max-train-pixels 64",
        "geolift fuse --config fused.json",
        "numpy",
        "nothing known against it",
        "Standard error",
        "Consistency with the HSI",
        f"On {facts['information']['held_out_pixels']} HSI pixels held out, the MSI's bands explain",
    ):
        assert told in text, told


def test_warnings_stand_before_everything_else(page: str) -> None:
    assert page.index('id="warnings"') < page.index('id="inputs"') < page.index('id="pictures"')


def _told_with(fused: Path, tmp_path: Path, **facts: Any) -> str:
    """The words of the report of a product whose sidecar tells other facts."""
    item = json.loads(fused.with_suffix(".json").read_text(encoding="utf-8"))
    item["properties"] |= {f"geolift:{name}": value for name, value in facts.items()}
    sidecar = tmp_path / "fused.json"
    sidecar.write_text(json.dumps(item), encoding="utf-8")
    return Outline(report.make_report(sidecar, tmp_path / "r.html").read_text(encoding="utf-8")).words


def test_a_finding_is_told_once_and_first_and_a_shift_that_was_applied_is_none(fused: Path, tmp_path: Path) -> None:
    offset = {"code": "offset", "message": "the MSI is 0.10 brighter", "option": "--msi-offset -0.1", "settled": False}
    shift = {"code": "shift", "message": "the HSI lies 6.4 pixels off", "option": "--coregister 5,-4", "settled": False}
    check = {"verdict": [offset, shift], "bands": []}
    warnings = ["offset: the MSI is 0.10 brighter [--msi-offset -0.1]"]
    moved = {"shift_msi_px": {"dy": 5.0, "dx": -4.0}, "applied": True, "confidence": 1.0}
    text = _told_with(fused, tmp_path, check=check, warnings=warnings, coregistration=moved)
    head = text[: text.index("What was decided, and why")]
    assert head.count("MSI is 0.10 brighter") == 1
    assert "6.4 pixels off" not in head
    text = _told_with(fused, tmp_path, check=check, warnings=warnings, coregistration=moved | {"applied": False})
    assert "6.4 pixels off" in text[: text.index("What was decided, and why")]


def test_the_page_tells_what_was_assessed_for_the_stated_error_and_nothing_where_nothing_was(
    fused: Path, tmp_path: Path
) -> None:
    stated = {"median_sigma": 0.01, "sharpening": 1.0, "held_out_pixels": 900, "refined_share": 0.75}
    text = _told_with(fused, tmp_path, uncertainty=stated | {"needed_one_level_down": 0.81})
    assert "leaves 75 % of the error" in text
    assert "was 0.81 times theirs" in text
    assert "times theirs" not in _told_with(fused, tmp_path, uncertainty=stated | {"needed_one_level_down": None})


def test_maps_are_found_beside_a_product_that_was_moved(fused: Path, tmp_path: Path) -> None:
    item = json.loads(fused.with_suffix(".json").read_text(encoding="utf-8"))
    item["properties"]["geolift:settings"] |= {"qa": "elsewhere/qa.tif", "uncertainty": "elsewhere/sigma.tif"}
    for name in ("fused.tif", "qa.tif", "sigma.tif"):
        shutil.copy(fused.with_name(name), tmp_path / name)
    (tmp_path / "fused.json").write_text(json.dumps(item), encoding="utf-8")
    text = Outline(report.make_report(tmp_path / "fused.tif", tmp_path / "r.html").read_text(encoding="utf-8")).words
    assert "nothing known against it" in text
    assert "Standard error" in text
    (tmp_path / "qa.tif").unlink()
    text = Outline(report.make_report(tmp_path / "fused.tif", tmp_path / "r.html").read_text(encoding="utf-8")).words
    assert "There is no map of doubtful pixels" in text


def test_the_command_in_the_page_asks_for_the_same_run(fused: Path) -> None:
    import shlex

    facts = read_sidecar(fused.with_suffix(".json"))
    typed = shlex.split(repeat.commands(read_record(fused.with_suffix(".json")), "fused.json")[0])
    assert typed[:2] == ["geolift", "fuse"]
    options = dict(zip(typed[6::2], typed[7::2], strict=True))
    again = FuseSettings.model_validate({key[2:].replace("-", "_"): value for key, value in options.items()})
    assert again == FuseSettings.model_validate(facts["settings"])


def test_what_files_are_called_cannot_become_part_of_the_page(fused: Path, tmp_path: Path) -> None:
    item = json.loads(fused.with_suffix(".json").read_text(encoding="utf-8"))
    item["properties"]["geolift:warnings"] = ["<script>alert(1)</script>"]
    item["properties"]["geolift:check"]["bands"][0]["name"] = '"><img src=x>'
    sidecar = tmp_path / "fused.json"
    sidecar.write_text(json.dumps(item), encoding="utf-8")
    made = report.make_report(sidecar, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "script" not in Outline(made).tags
    assert "<img src=x>" not in made
    assert "&lt;script&gt;" in made


def test_inputs_that_are_gone_are_left_out_and_said(fused: Path, tmp_path: Path) -> None:
    item = json.loads(fused.with_suffix(".json").read_text(encoding="utf-8"))
    for name in ("hsi", "msi"):
        item["properties"]["geolift:inputs"][name]["href"] = str(tmp_path / f"gone_{name}.tif")
    shutil.copy(fused, tmp_path / "fused.tif")
    (tmp_path / "fused.json").write_text(json.dumps(item), encoding="utf-8")
    made = report.make_report(tmp_path / "fused.tif", tmp_path / "r.html").read_text(encoding="utf-8")
    text = Outline(made).words
    assert "the HSI cannot be opened" in text
    assert "the MSI cannot be opened" in text
    assert "Whole product, natural colour" in text
    assert "Consistency with the inputs" not in text


def test_a_product_of_apply_and_a_bare_old_sidecar_have_reports_too(fused: Path, pair: Pair, tmp_path: Path) -> None:
    product = tmp_path / "applied.tif"
    files.apply_files(pair.hsi.parent / "model.safetensors", pair.msi, product, ApplySettings())
    text = Outline(report.make_report(product, tmp_path / "a.html").read_text(encoding="utf-8")).words
    assert "geolift apply" in text
    assert "Consistency with the MSI" in text
    assert "HSI as delivered" not in text
    assert "Consistency with the HSI" not in text
    assert "One HSI pixel" not in text
    item = json.loads(product.with_suffix(".json").read_text(encoding="utf-8"))
    kept = {key: value for key, value in item["properties"].items() if not key.startswith("geolift:")}
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps({"properties": kept}), encoding="utf-8")
    assert "The run" in Outline(report.make_report(bare, tmp_path / "b.html").read_text(encoding="utf-8")).words


def test_numbers_that_are_none_do_not_stop_the_report(fused: Path, tmp_path: Path) -> None:
    item = json.loads(fused.with_suffix(".json").read_text(encoding="utf-8"))
    properties = item["properties"]
    properties["geolift:coregistration"] |= {"sigma_dy": "inf", "confidence": "nan", "blur_sigma_y": "nan"}
    properties["geolift:coregistration"]["votes"][0]["sigma_dx"] = "inf"
    properties["geolift:harmonization"]["heldout_error"]["gain"] = "inf"
    properties["geolift:check"]["bands"][0] |= {"slope": "nan", "best_match": None}
    properties["geolift:training_curve"][3]["loss"] = "nan"
    shutil.copy(fused, tmp_path / "fused.tif")
    (tmp_path / "fused.json").write_text(json.dumps(item), encoding="utf-8")
    text = Outline(report.make_report(tmp_path / "fused.tif", tmp_path / "r.html").read_text(encoding="utf-8")).words
    assert "± inf px" in text
    assert "Confidence nan" in text


def test_a_product_without_sidecar_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lonely\.json: no such file"):
        report.make_report(tmp_path / "lonely.tif", tmp_path / "r.html")
    assert not list(tmp_path.iterdir())


def test_an_existing_report_is_not_replaced_unasked(fused: Path, pair: Pair, tmp_path: Path) -> None:
    taken = tmp_path / "r.html"
    taken.write_text("mine", encoding="utf-8")
    settings = FuseSettings(sensor="sentinel-2a", report=taken)
    with pytest.raises(OutputExistsError):
        files.fuse_files(pair.hsi, pair.msi, tmp_path / "out.tif", settings)
    assert run("report", fused, "-o", taken, cwd=tmp_path).returncode == 4
    assert taken.read_text(encoding="utf-8") == "mine"


# -- the measures -----------------------------------------------------------------------------------------------------


def test_agreement_finds_the_planted_error_offset_and_angle() -> None:
    rng = np.random.default_rng(3)
    expected = rng.uniform(0.1, 0.5, (3, 200, 200)).astype(np.float32)
    found = expected + 0.02 + 0.01 * rng.standard_normal(expected.shape).astype(np.float32)
    both = agreement(found, expected)
    assert both.bias_per_band == pytest.approx(0.02, abs=3e-4)
    assert both.rmse_per_band == pytest.approx(np.hypot(0.02, 0.01), abs=3e-4)
    turned = np.radians(7.0)
    one = np.array([[1.0], [0.0]], np.float32)
    assert agreement(np.float32([[np.cos(turned)], [np.sin(turned)]]), one).sam_deg == pytest.approx(7.0, abs=1e-4)


def test_agreement_of_windows_sums_to_that_of_the_whole() -> None:
    rng = np.random.default_rng(4)
    a, b = (rng.random((4, 30, 20)).astype(np.float32) for _ in range(2))
    a[2, 3:9, 4] = np.nan
    whole, parts = agreement(a, b), agreement(a[:, :11], b[:, :11]) + agreement(a[:, 11:], b[:, 11:])
    assert parts.n_pixels == whole.n_pixels == 600 - 6
    assert parts.rmse_per_band == pytest.approx(whole.rmse_per_band, rel=1e-12)
    assert parts.sam_deg == pytest.approx(whole.sam_deg, rel=1e-12)


def test_agreement_of_nothing_is_nan_and_not_perfect() -> None:
    nothing = agreement(np.full((2, 3, 3), np.nan, np.float32), np.ones((2, 3, 3), np.float32))
    assert np.isnan(nothing.rmse)
    assert np.isnan(nothing.sam_deg)


def _held_against(fused: Path, product: Path, blur: float = 0.0) -> agreements.Agreements:
    facts: dict[str, Any] = read_sidecar(fused.with_suffix(".json"))
    facts["harmonization"]["model"] = "identity"
    told = {"applied": False, "reliable": True, "blur_sigma_y": blur, "blur_sigma_x": blur}
    facts |= {"coregistration": told, "refinement": None}
    record = RunRecord.model_validate(facts)
    found = agreements.measure(open_scene(product, record), record)
    assert found is not None
    return found


def test_the_truth_agrees_with_both_inputs_and_a_spoiled_one_by_what_was_spoiled(
    fused: Path, pair: Pair, tmp_path: Path
) -> None:
    options = {"gsd": 10, "wavelength_nm": pair.wavelength_nm, "fwhm_nm": pair.fwhm_nm}
    true = _held_against(fused, write(tmp_path / "true.tif", pair.truth, **options))
    assert true.msi is not None
    assert true.hsi is not None
    rounding = 1e-4
    assert true.msi.rmse < rounding
    assert true.hsi.rmse < rounding
    assert true.hsi.sam_deg < 0.05
    spoiled = _held_against(fused, write(tmp_path / "spoiled.tif", pair.truth * 1.1, **options))
    assert spoiled.msi is not None
    assert spoiled.hsi is not None
    assert spoiled.msi.bias_per_band / spoiled.msi.mean_per_band == pytest.approx(0.1, abs=2e-3)
    assert spoiled.hsi.bias_per_band / spoiled.hsi.mean_per_band == pytest.approx(0.1, abs=2e-3)


def test_the_footprint_that_the_run_found_is_what_the_product_is_seen_through(
    fused: Path, pair: Pair, tmp_path: Path
) -> None:
    moved = np.roll(pair.truth, (1, 2), axis=(-2, -1))
    options = {"gsd": 10, "wavelength_nm": pair.wavelength_nm, "fwhm_nm": pair.fwhm_nm}
    product = write(tmp_path / "moved.tif", moved, **options)
    facts: dict[str, Any] = read_sidecar(fused.with_suffix(".json"))
    ratio = round(facts["plan"]["region"]["ratio"])
    even = [1 / ratio] * ratio

    def rmse(start_px: list[int]) -> float:
        facts["refinement"] = {"footprint": {"start_px": start_px, "weights_y": even, "weights_x": even}}
        record = RunRecord.model_validate(facts)
        found = agreements.measure(open_scene(product, record), record)
        assert found is not None
        assert found.hsi is not None
        return found.hsi.rmse

    assert rmse([1, 2]) < 1e-4  # what numpy rolled around the edge is seen by no window of whole pixels
    assert rmse([0, 0]) > 1e-3


# -- what is looked at ------------------------------------------------------------------------------------------------


def test_pixels_of_a_view_still_say_where_they_came_from() -> None:
    rows, cols = np.mgrid[0:90, 0:70]
    painted = np.stack([rows, cols]).astype(np.float32)
    grid = GeoBox((90, 70), Affine(10, 0, 4e5, 0, -10, 5e6), "EPSG:32633")
    view = view_of(grid, 20, (slice(10, 85), slice(0, 70)))
    seen = seen_on(view, painted, grid)
    assert view.shape == seen.shape[1:]
    assert max(view.shape) <= 20
    assert np.array_equal(seen[0], np.broadcast_to(view.rows[:, None], view.shape))
    assert np.array_equal(seen[1], np.broadcast_to(view.cols, view.shape))
    moved = seen_on(view, painted, grid, shift_px=(2.0, -1.0))
    there = np.isfinite(moved[0])
    assert np.all((seen - moved)[0, there] == 2)
    assert np.all((seen - moved)[1, there] == -1)


def test_some_bands_are_the_same_numbers_as_all_bands(fused: Path) -> None:
    whole = open_cube(fused)
    some = open_some_bands(fused, [7, 2])
    assert np.array_equal(np.asarray(some), whole.values[[7, 2]], equal_nan=True)
    assert some.shape[1:] == grid_of(whole).shape


def test_each_planted_kind_of_ground_gets_a_place_away_from_its_border() -> None:
    kinds = np.repeat(np.repeat(np.arange(4).reshape(2, 2), 20, axis=0), 30, axis=1)
    spectra = np.float32([[0.1, 0.1], [0.1, 0.6], [0.5, 0.5], [0.3, 0.1]])
    rng = np.random.default_rng(0)
    image = spectra[kinds].transpose(2, 0, 1) + 0.005 * rng.standard_normal((2, 40, 60)).astype(np.float32)
    usable = np.ones((40, 60), bool)
    usable[:, :5] = False
    places = choose_places(image, usable, count=4)
    assert sorted(kinds[place.row, place.col] for place in places) == [0, 1, 2, 3]
    assert sum(place.share for place in places) == pytest.approx(1.0)
    assert all(place.col >= 5 and place.col not in (29, 30) and place.row not in (19, 20) for place in places)
    assert choose_places(image, np.zeros((40, 60), bool)) == []


def test_charts_are_well_formed_and_break_where_data_are_missing() -> None:
    x = np.arange(10.0)
    y = np.where(np.isin(x, (4, 5)), np.nan, x + 1)
    chart = charts.line_chart([charts.Line("a & <b>", x, y, "#123456")], "x & y", "<y>", logarithmic=True)
    root = ElementTree.fromstring(str(chart))
    path = next(node.get("d") or "" for node in root.iter() if node.tag.endswith("path"))
    assert path.count("M") == 2
    assert charts.line_chart([charts.Line("none", x, x * np.nan, "#123456")], "x", "y") == ""


def test_a_gap_in_the_bands_breaks_a_curve_and_one_far_value_does_not_stretch_the_axis() -> None:
    x = np.concatenate([np.arange(0.0, 100), np.arange(150.0, 250)])
    y = np.linspace(1, 2, 200)
    y[120] = 1000.0

    def drawn(longest_step: float) -> ElementTree.Element:
        line = charts.Line("curve", x, y, "#123456", longest_step=longest_step)
        return ElementTree.fromstring(str(charts.line_chart([line], "x", "y")))

    def pieces(root: ElementTree.Element) -> int:
        return next(node.get("d") or "" for node in root.iter() if node.tag.endswith("path")).count("M")

    assert pieces(drawn(4.0)) == 2
    assert pieces(drawn(np.inf)) == 1
    ticks = [float(node.text or "nan") for node in drawn(4.0).iter() if node.get("text-anchor") == "end"]
    assert max(ticks) < 3


@pytest.mark.parametrize(
    ("value", "text"), [(0.0546, "5.5 %"), (1.0, "100 %"), (0.0, "0 %"), (0.00123, "0.12 %"), ("nan", "nan")]
)
def test_shares_read_well(value: Any, text: str) -> None:
    assert words.percent(value) == text
