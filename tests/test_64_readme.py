"""What the README and the pages of tasks say to type works, here on scenes small enough for a test."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from scenes import make_pair, write

from geolift.cli import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["README.md", "docs/index.md", *sorted(f"docs/tasks/{page.name}" for page in ROOT.glob("docs/tasks/*.md"))]
pytestmark = pytest.mark.usefixtures("few_steps")


def commands(page: str) -> list[list[str]]:
    """The words of every line after a prompt, a trailing backslash joining lines."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"```(?:console|text)\n(.*?)```", text, re.DOTALL)
    return [shlex.split(line[2:]) for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that the pages name, as an analyst would have it."""
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.chdir(tmp_path)
    pair = make_pair(tmp_path, rows=48, cols=54)
    for name in ("enmap.tif", "sentinel2.tif", "may.tif", "june.tif", "drone.tif"):
        source = pair.hsi if name == "enmap.tif" else pair.msi
        (tmp_path / name).symlink_to(source)
    write(tmp_path / "land.tif", pair.truth[:1] > 0.3, gsd=10, dtype="uint8", scale=None, nodata=None)
    (tmp_path / "clouds.tif").symlink_to(tmp_path / "land.tif")
    x, y = 364095.0 + 200, 5809965.0 - 200
    (tmp_path / "plots.csv").write_text(f"x,y,name\n{x},{y},a\n{x + 100},{y},b\n")
    (tmp_path / "campaign.csv").write_text("hsi,msi,out,sensor\nhsi.tif,msi.tif,out/one_fused.tif,sentinel-2a\n")
    response = [["wavelength_nm", "Band1", "Band2", "Band3", "Band4"]]
    centres = (492, 560, 665, 833)
    response += [[nm, *(max(0, 1 - abs(nm - centre) / 40) for centre in centres)] for nm in range(430, 900, 5)]
    with (tmp_path / "camera.csv").open("w", newline="") as file:
        csv.writer(file).writerows(response)
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_works_in_its_order(page: str, desk: Path) -> None:
    for words in commands(page):
        if words[0] == "make":  # what they do has tests of its own, or is the tests
            subprocess.run([*words, "--dry-run"], cwd=ROOT, check=True, capture_output=True)
        elif words[0] == "geolift":
            done = CliRunner().invoke(cli, words[1:])
            assert done.exit_code == 0, (words, done.output, done.exception)
        else:
            assert words[:4] == ["python", "-m", "pip", "install"], f"{words}: a line that nobody tries"
    text = (ROOT / page).read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, page, "exec"), {})


def test_every_command_and_option_in_the_readmes_running_text_exists(desk: Path) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    named = [shlex.split(words.replace("…", "")) for words in re.findall(r"`geolift ([^`]+)`", text)]
    assert len(named) > 15
    for words in named:
        command = cli.get_command(None, words[0])  # type: ignore[arg-type]
        assert command, words
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known, words
    listed = json.loads(CliRunner().invoke(cli, ["sensors", "--json"]).stdout)["sensors"]
    assert f"the {len(listed)} known" in text
