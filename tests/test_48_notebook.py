"""A fusion in a notebook: what it shows of itself, its figure, its report, spectra at places, and how it goes."""

from __future__ import annotations

import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from scenes import ORIGIN, Pair

import geolift
from geolift.runtime import progress


@pytest.fixture(scope="module")
def fusion(pair: Pair) -> geolift.Fusion:
    return geolift.prepare(pair.hsi, pair.msi, sensor="s2a", max_train_pixels=200, uncertainty="sigma.tif")


def test_a_fusion_shows_its_verdict_its_decisions_and_small_pictures(fusion: geolift.Fusion) -> None:
    shown = fusion._repr_html_()
    assert "Usable" in shown
    assert "Shift of the HSI" in shown
    assert "30 bands, 48 × 42 pixels" in shown
    assert shown.count("<img ") == 3
    assert len(shown) < 200_000


def test_the_figure_has_the_images_and_the_spectra(fusion: geolift.Fusion, tmp_path: Path) -> None:
    figure = fusion.plot()
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:3] == ["HSI", "MSI", "Product"]
    assert len(figure.axes[-1].lines) == 3
    np.testing.assert_allclose(
        figure.axes[-1].lines[0].get_ydata(), fusion.fused[:, 12, 10].values, rtol=1e-6, atol=1e-7
    )
    figure.savefig(tmp_path / "f.png")
    assert figure._repr_png_().startswith(b"\x89PNG"), "a notebook shows it that has not loaded pyplot"  # type: ignore[attr-defined]


def test_spectra_in_memory_are_those_of_the_files(fusion: geolift.Fusion, pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(f"name,x,y\nfield,{ORIGIN[0] + 55},{ORIGIN[1] - 75}\n", encoding="utf-8")
    found = fusion.spectra(tmp_path / "p.csv")
    np.testing.assert_allclose(found["product"][0], fusion.fused[:, 7, 5].values, rtol=1e-6)
    np.testing.assert_allclose(found["hsi"][0], pair.truth[:, 6:9, 3:6].mean((1, 2)), atol=1e-4)
    assert set(found.data_vars) >= {"product", "hsi", "msi", "sigma", "quality"}
    assert found["msi_wavelength"].values == pytest.approx([492, 560, 665, 833], abs=8)


def test_the_report_of_a_fusion_in_memory_is_that_of_a_run(fusion: geolift.Fusion, tmp_path: Path) -> None:
    written = fusion.report(tmp_path / "report.html")
    assert written == tmp_path / "report.html"
    page = written.read_text(encoding="utf-8")
    for part in ("What was decided", "Where not to trust it", "Spectra at places", "Standard error"):
        assert part in page
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"], "nothing else is left"


def test_progress_is_shown_in_a_notebook_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    class ZMQInteractiveShell:
        execution_count = 7

    class Display:
        shown: list[str] = []  # noqa: RUF012

        def update(self, picture: str) -> None:
            self.shown.append(picture)

    def display(picture: str, display_id: bool) -> Display:
        Display.shown.append(picture)
        return Display()

    listener = progress.Automatic()
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    listener.progress("training", 0.5)
    listener.warn("nobody hears this")
    shell = ZMQInteractiveShell()
    package = types.ModuleType("IPython")
    package.get_ipython = lambda: shell  # type: ignore[attr-defined]
    inner = types.ModuleType("IPython.display")
    inner.HTML, inner.display = str, display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", inner)
    listener.progress("training", 0.5, "loss <0.1>")
    listener.progress("training", 1.0)
    listener.warn("a <b> warning")
    last = Display.shown[-1]
    assert "training" in last
    assert "a &lt;b&gt; warning" in last
    assert "nobody" not in last
    shell.execution_count = 8
    listener.progress("writing", 1.0)
    assert "training" not in Display.shown[-1], "another cell has a display of its own"


def test_whoever_hears_a_run_hears_its_threads_and_nothing_after_it() -> None:
    heard: list[tuple[str, float]] = []

    class Hearing(progress.Silent):
        def progress(self, stage: str, fraction: float, detail: str = "") -> None:
            heard.append((stage, fraction))

    with progress.heard_by(Hearing()), ThreadPoolExecutor(1) as pool:
        with progress.heard_by(None):
            progress.advance("reading", 0.5)
        with progress.heard_by(progress.SILENT):
            progress.advance("hidden", 0.5)
        pool.submit(progress.of_stage("writing"), 0.75).result()
    progress.advance("later", 1.0)
    assert heard == [("reading", 0.5), ("writing", 0.75)]
