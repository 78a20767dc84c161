"""The notebooks of examples/ run from the first cell to the last, on scenes small enough for a test."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import run_notebooks

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "notebooks"
# Warnings are shown to who runs a notebook, and end nothing.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("few_bands", "few_steps")]

NOTEBOOKS = {"first_fusion", "enmap_sentinel2_stac", "trust"}


def run(name: str, folder: Path, **parameters: Any) -> str:
    """Run a notebook in a folder with some of its assignments replaced; returns everything that it showed.

    In this process: a kernel of its own would load everything again.
    """
    pytest.importorskip("ipykernel", reason="needs ipykernel, which the extra dev brings")
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.core.pylabtools import select_figure_formats
    from IPython.utils.capture import capture_output

    shell = InteractiveShell()
    select_figure_formats(shell, {"png"})
    shown = []
    with contextlib.chdir(folder):
        for cell in json.loads((EXAMPLES / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] != "code":
                continue
            source = "".join(cell["source"])
            source = run_notebooks.with_parameters(source, parameters)
            with capture_output() as captured:
                done = shell.run_cell(source)
            done.raise_error()
            shown.append(captured.stdout)
            if done.result is not None:
                shown.append(shell.display_formatter.format(done.result)[0])
    return json.dumps(shown, ensure_ascii=False, default=str)


def test_every_notebook_is_run_here_and_keeps_no_output() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.ipynb")} == NOTEBOOKS
    for path in EXAMPLES.glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        assert all(not cell["outputs"] for cell in cells if cell["cell_type"] == "code"), path


def test_the_first_fusion_shows_a_verdict_pictures_and_scores(tmp_path: Path) -> None:
    shown = run("first_fusion", tmp_path, SIZE=72)
    assert "geolift fusion" in shown
    assert "image/png" in shown
    psnr = re.search(r"PSNR ([\d.]+) dB", shown)
    assert psnr
    assert float(psnr[1]) > 25
    assert (tmp_path / "first-fusion" / "report.html").exists()


def test_what_is_planted_in_the_trust_notebook_is_named(tmp_path: Path) -> None:
    shown = run("trust", tmp_path, SIZE=72)
    assert "offset:" in shown
    assert "band-order:" in shown
    within = re.search(r"(\d+)% of the values lie within one standard error", shown)
    assert within
    assert 40 < int(within[1]) < 95


def test_an_enmap_scene_is_fused_with_the_item_that_a_catalogue_names(tmp_path: Path) -> None:
    shown = run("enmap_sentinel2_stac", tmp_path, **run_notebooks.made_up_scene(tmp_path / "given"))
    assert "S2B_T33UUT_20220724" in json.loads((tmp_path / "enmap-sentinel2" / "sentinel2.json").read_text())["id"]
    assert "sentinel-2b" in shown
    assert "'band': 40" in shown
    assert (tmp_path / "enmap-sentinel2" / "report.html").exists()
