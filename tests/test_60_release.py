"""What a release has to keep in step: versions, the recipe's dependencies, a container that is nobody."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def project() -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def test_the_version_is_the_same_everywhere() -> None:
    version = str(project()["version"])
    plugin = (ROOT / "geolift" / "qgis" / "plugin" / "metadata.txt").read_text(encoding="utf-8")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    recipe = (ROOT / "conda" / "recipe.yaml").read_text(encoding="utf-8")
    assert re.search(r"^version=(.*)$", plugin, re.MULTILINE)[1] == version  # type: ignore[index]
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE)[1] == version  # type: ignore[index]
    assert re.search(r'^  version: "(.*)"$', recipe, re.MULTILINE)[1] == version  # type: ignore[index]


def test_the_changelog_tells_this_release_its_day_and_each_change_in_one_line() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    number, day = re.search(r"^## (\d+\.\d+\.\d+) – (\d{4}-\d\d-\d\d)$", text, re.MULTILINE).groups()  # type: ignore[union-attr]
    assert number == project()["version"]
    assert f"date-released: {day}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    entries = [line for line in text.partition("\n## ")[2].splitlines() if line and not line.startswith(("#", "The "))]
    assert [line for line in entries[1:] if not line.startswith("- ") and not line.endswith(":")] == []
    assert [line for line in entries if len(line) > 120] == []


def test_the_projects_address_is_the_same_everywhere() -> None:
    urls: dict[str, str] = project()["urls"]  # type: ignore[assignment]
    plugin = (ROOT / "geolift" / "qgis" / "plugin" / "metadata.txt").read_text(encoding="utf-8")
    told = dict(re.findall(r"^(\w+)=(.*)$", plugin, re.MULTILINE))
    assert told["homepage"] == f"{urls['Documentation']}/qgis.html"
    assert told["repository"] == urls["Homepage"]
    assert told["tracker"] == urls["Issues"]
    assert told["email"] == project()["authors"][0]["email"]  # type: ignore[index]
    recipe = (ROOT / "conda" / "recipe.yaml").read_text(encoding="utf-8")
    assert f"homepage: {urls['Homepage']}\n" in recipe
    assert f"documentation: {urls['Documentation']}\n" in recipe
    assert urls["Changelog"].startswith(urls["Homepage"])


def test_the_conda_recipe_needs_what_the_project_needs() -> None:
    recipe = (ROOT / "conda" / "recipe.yaml").read_text(encoding="utf-8")
    run = recipe.partition("  run:\n")[2].partition("  run_constraints:")[0]
    wanted = dict(re.findall(r"^    - ([\w-]+) (>=[\d.]+)$", run, re.MULTILINE))
    names = {"dask[array]": "dask-core", "matplotlib": "matplotlib-base"}
    for line in project()["dependencies"]:  # type: ignore[attr-defined]
        name, limit = re.match(r"([\w.\[\]-]+)(>=[\d.]+)", line).groups()  # type: ignore[union-attr]
        assert wanted.pop(names.get(name, name)) == limit
    assert set(wanted) == {"python"}


def test_a_plain_install_brings_no_torch() -> None:
    assert not [line for line in project()["dependencies"] if line.startswith("torch")]  # type: ignore[attr-defined]
    assert "torch" in project()["optional-dependencies"]  # type: ignore[operator]


def test_the_container_runs_as_nobody_in_particular_and_without_caches() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    last = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER (?!root)", last, re.MULTILINE)
    assert "-slim" in last
    assert "--no-cache-dir" in text
    for folder in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in folder.split()[:-1])
