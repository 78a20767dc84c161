"""The report's first sentence, its yardsticks, what was looked for, and pixels beyond what was learned."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from scenes import make_pair

from geolift.pipeline import files
from geolift.report import make_report, page
from geolift.report.nuisances import ALWAYS, EFFECTS, nuisances
from geolift.report.verdict import Finding
from geolift.report.words import VERDICTS
from geolift.settings import FuseSettings


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verdict")
    pair = make_pair(folder)
    settings = FuseSettings(
        sensor="sentinel-2a", max_train_pixels=200, qa=folder / "qa.tif", uncertainty=folder / "sigma.tif"
    )
    files.fuse_files(pair.hsi, pair.msi, folder / "fused.tif", settings)
    return folder / "fused.tif"


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_the_first_sentence_says_whether_it_can_be_used(run: Path, tmp_path: Path) -> None:
    page = make_report(run, tmp_path / "r.html").read_text(encoding="utf-8")
    text = text_of(page[page.index("<header>") :])
    assert re.search(r"^.{0,200}(Usable|Usable with care|Look first)[ :]", text)
    assert "No warnings" not in text
    assert "of the mean reflectance" in text, "the standard error stands in per cent as well"
    assert "1 % is good" in text, "figures have yardsticks"
    assert "not found" in text
    assert len(page.encode()) < 3e6


def test_the_page_follows_the_readers_light_or_dark(run: Path, tmp_path: Path) -> None:
    page = make_report(run, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in page
    style, _, body = page.partition("</style>")
    assert not re.search(r'(stroke|fill)="#(fff|222|000)', body), "what is drawn takes the page's own colours"
    names = set(re.findall(r"var\((--\w+)\)", page))
    light, _, dark = style.partition("prefers-color-scheme: dark")
    for name in names:
        assert f"{name}:" in light
        assert f"{name}:" in dark


def test_pixels_beyond_what_was_learned_have_their_share_and_their_error(run: Path, tmp_path: Path) -> None:
    with rasterio.open(run, "r+") as product:
        values = product.read()
        values[:, 12:30, 12:30] += 2000
        product.write(values)
    with rasterio.open(run.with_name("qa.tif"), "r+") as quality:
        bits = np.zeros((1, *quality.shape), np.uint16)
        bits[:, 12:30, 12:30] = 4
        quality.write(bits)
    text = text_of(make_report(run, tmp_path / "r.html").read_text(encoding="utf-8"))
    share = re.search(r"Pixels out of range ([\d.]+) %", text)
    assert share
    assert float(share[1]) == pytest.approx(100 * 18 * 18 / (48 * 42), abs=0.1)
    times = re.search(r"their error is ([\d.]+) times that of the others", text)
    assert times
    assert float(times[1]) > 5
    assert re.search(r"Where the MSI is out of range \(\d+ HSI pixels\) they differ by 0\.[12]", text)


def test_what_was_looked_for_is_told_found_or_not() -> None:
    assert nuisances(None) == []
    clean = nuisances([Finding(code="ok", message="", alarming=False)])
    assert [line.state for line in clean] == ["not found"] * len(ALWAYS)
    found = [
        Finding(code="offset", message="0.1 too bright", option="--msi-offset -0.1", alarming=True),
        Finding(code="units", message="radiance", settled=True, alarming=False),
        Finding(code="something-new", message="it is odd", alarming=True),
    ]
    lines = {line.title: line for line in nuisances(found)}
    assert len(lines) == len(ALWAYS) + 1
    states = [lines["A constant is missing or too much"], lines["The units differ"], lines["something new"]]
    assert [line.state for line in states] == ["found", "settled", "found"]
    assert states[0].option == "--msi-offset -0.1"
    assert set(EFFECTS) <= set(VERDICTS), "every fault has a name and an effect"


def test_links_go_where_the_project_says_its_documentation_is(monkeypatch: pytest.MonkeyPatch) -> None:

    class Metadata:
        def get_all(self, _: str) -> list[str]:
            return ["Source, https://example.org/code", "Documentation, https://example.org/docs/"]

    monkeypatch.setattr(page.metadata, "metadata", lambda _: Metadata())
    assert page.documentation_url() == "https://example.org/docs"
