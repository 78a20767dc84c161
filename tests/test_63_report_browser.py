"""The report in a real browser: it fits a telephone and a screen, every picture shows, nothing is asked for outside."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest
from scenes import make_pair

from geolift.pipeline import files
from geolift.settings import FuseSettings
from geolift.training.methods import spectralift

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# The page itself allows no script; the test opens a copy that does, to measure the layout from inside.
MEASURE = """<script>addEventListener("load", () => {
  const wide = [...document.querySelectorAll("main *")].filter(e => !e.closest(".scroll") && !e.closest("svg")
    && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
    .map(e => e.tagName + "." + e.className);
  const small = [...document.querySelectorAll("svg text")].map(e => e.getBoundingClientRect().height);
  const told = {
    width: innerWidth, over: document.documentElement.scrollWidth - document.documentElement.clientWidth, wide: wide,
    pictures: document.images.length, blank: [...document.images].filter(i => !i.naturalWidth).length,
    smallest: Math.min(...small), fetched: performance.getEntriesByType("resource").filter(
      e => !e.name.startsWith("data:")).length };
  document.body.innerHTML = "<pre id='told'>" + JSON.stringify(told) + "</pre>";
});</script>"""


@pytest.fixture(scope="module")
def browser() -> str:
    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    pytest.skip("needs chromium: .ci/install-chromium")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a folder named with spaces and ümläuts")
    pair = make_pair(folder / "pair")
    target = folder / "report.html"
    settings = FuseSettings(
        sensor="sentinel2", method="spectralift", max_train_pixels=64, qa=folder / "qa.tif", report=target
    )
    product = folder / "a_rather_long_name_of_a_product_for_the_authority.tif"
    with pytest.MonkeyPatch.context() as patch:  # as published it takes 2500 epochs
        patch.setattr(spectralift, "PublishedSettings", partial(spectralift.PublishedSettings, epochs=200))
        files.fuse_files(pair.hsi, pair.msi, product, settings)
    return target


def _measured(browser: str, page: Path, width: int, profile: Path) -> dict[str, object]:
    text = page.read_text(encoding="utf-8")
    opened = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', MEASURE, text, count=1)
    copy = page.with_name(f"measured_{width}.html")
    # A frame is as wide as a telephone, which a window of this browser cannot be.
    framed = opened.replace('"', "&quot;").replace("'", "&#39;")
    frame = f'<iframe id="f" style="border:0;width:{width}px;height:900px" srcdoc="{framed}"></iframe>'
    tell = (
        "<script>setInterval(() => { const told = document.getElementById('f').contentDocument"
        ".getElementById('told'); if (told) document.title = told.textContent; }, 50);</script>"
    )
    copy.write_text(f"<!DOCTYPE html><meta charset=utf-8><body style='margin:0'>{frame}{tell}", encoding="utf-8")
    run = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    run += [f"--window-size={max(width, 600)},900", "--virtual-time-budget=15000", "--dump-dom", copy.as_uri()]
    done = subprocess.run(run, capture_output=True, text=True, check=True, timeout=180)
    told = re.search(r"<title>(\{.*?\})</title>", done.stdout)
    assert told, done.stderr[-2000:]
    measured: dict[str, object] = json.loads(told[1])
    return measured


@pytest.mark.parametrize("width", [390, 1200])
def test_the_report_fits_its_window_and_shows_all_its_pictures(
    browser: str, page: Path, width: int, tmp_path: Path
) -> None:
    told = _measured(browser, page, width, tmp_path / "profile")
    assert told["width"] == width
    assert told["wide"] == []
    assert told["over"] == 0
    assert told["pictures"] == page.read_text(encoding="utf-8").count("<img ")
    assert told["blank"] == 0
    assert float(str(told["smallest"])) > 10  # pixels: labels of charts can be read
    assert told["fetched"] == 0


def test_the_report_prints_to_more_than_one_page(browser: str, page: Path, tmp_path: Path) -> None:
    target = tmp_path / "report.pdf"
    run = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    subprocess.run([*run, f"--print-to-pdf={target}", page.as_uri()], check=True, capture_output=True, timeout=180)
    assert len(re.findall(rb"/Type\s*/Page\b", target.read_bytes())) >= 2
