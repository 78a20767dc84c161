"""A newcomer types what the tutorial says; here on a scene small enough for a test."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from scenes import make_pair, write

from geolift.cli import cli

TUTORIAL = Path(__file__).resolve().parent.parent / "docs" / "tutorial.md"
DEMO = "geolift-demo"
pytestmark = pytest.mark.usefixtures("few_steps")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL)


def commands() -> list[list[str]]:
    lines = [line for block in blocks("console") for line in block.splitlines()]
    assert all(line.startswith("$ ") for line in lines)
    return [shlex.split(line[2:]) for line in lines]


def test_every_line_of_the_tutorial_works_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.chdir(tmp_path)
    first, *others = commands()
    assert first == ["geolift", "demo"]
    # What the demo writes, smaller; the demo itself has its own test.
    pair = make_pair(tmp_path / DEMO, rows=48, cols=54)
    write(tmp_path / DEMO / "truth.tif", pair.truth, gsd=10, wavelength_nm=pair.wavelength_nm, fwhm_nm=pair.fwhm_nm)
    for words in others:
        if words[0] == "cd":
            monkeypatch.chdir(words[1])
            continue
        assert words[0] == "geolift"
        done = CliRunner().invoke(cli, words[1:])
        assert done.exit_code == 0, (words, done.output, done.exception)
    for block in blocks("python"):
        exec(compile(block, str(TUTORIAL), "exec"), {})
