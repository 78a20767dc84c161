"""The project itself: the wheel carries its library, generated pages are fresh, pins and links hold."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the tree as it is, without network and without leaving anything in it."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(ROOT)], check=True, timeout=120)
    (path,) = folder.glob("geolift-*.whl")
    return path


def test_the_wheel_works_in_an_empty_environment_away_from_the_source(wheel: Path, tmp_path: Path) -> None:
    """Geolift comes from the wheel alone; its dependencies are lent by the environment of the tests."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True, timeout=60)
    scripts = venv / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True, timeout=60)
    # A .pth in our own environment points to the source tree; a plain path line does not execute it.
    Path(site, "lent.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    code = (
        "import geolift, pathlib; from geolift.srf import SpectralResponse, list_sensors\n"
        "print(pathlib.Path(geolift.__file__).parent); print(len(list_sensors()))\n"
        "print(SpectralResponse.from_library('s2a').band_names[0])"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [python, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60
    )
    where, sensors, band = done.stdout.split()
    assert Path(where).is_relative_to(venv), "the source tree was imported, not the wheel"
    assert int(sensors) == len(list((ROOT / "srf_library").glob("*.csv")))
    assert band == "B01"
    command = scripts / "geolift"
    shown = subprocess.run([command, "sensors", "s2a"], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert "B8A" in shown.stdout


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    import zipfile

    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops <= {"geolift", f"geolift-{metadata.version('geolift')}.dist-info"}
    assert "geolift/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert wheel.stat().st_size < 3e6


def _reference() -> object:
    spec = importlib.util.spec_from_file_location("build_cli_reference", ROOT / "tools" / "build_cli_reference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["cli.md", "sensors.md"])
def test_generated_pages_are_as_the_code_has_them(page: str) -> None:
    fresh = _reference().PAGES[page]()  # type: ignore[attr-defined]
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == fresh, "run make docs"


def _local_links(path: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    return [target for target in targets if "://" not in target]


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("docs/**/*.md"))]
)
def test_links_of_the_documents_lead_somewhere(page: str) -> None:
    path = ROOT / page
    broken = [target for target in _local_links(path) if not (path.parent / target).exists()]
    assert not broken


def test_every_page_is_in_the_sites_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")]
    missing = [page for page in pages if f" {page}\n" not in menu]
    assert not missing


def test_every_promise_names_tests_that_exist() -> None:
    rows = [row for row in (ROOT / "docs" / "promises.md").read_text(encoding="utf-8").splitlines() if "|" in row]
    promises = [row for row in rows if not row.startswith(("| promise", "| what is asked for", "|---"))]
    assert len(promises) >= 49
    for row in promises:
        named = re.findall(r"`(test_\w+\.py)`: ([^`|]+?)(?:\. |\s*\|)", row)
        assert named, row
        for file, sentences in named:
            code = (ROOT / "tests" / file).read_text(encoding="utf-8")
            for sentence in sentences.split("; "):
                assert f"def test_{sentence.replace(' ', '_').lower()}(" in code, sentence


def test_commands_named_in_the_readme_and_the_tutorial_exist_with_their_options() -> None:
    reference = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for page in ("docs/tutorial.md", "docs/cluster.md", "docs/batch.md", "docs/benchmark.md", "docs/qgis.md"):
        for line in re.findall(r"^\$ geolift (.+)$", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE):
            name = line.split()[0]
            section = re.search(rf"^## geolift {name}\n(.*?)(?=^## |\Z)", reference, flags=re.MULTILINE | re.DOTALL)
            assert section, f"{page}: no command {name}"
            for option in re.findall(r"(?<= )--?[a-z][a-z-]*", line):
                assert re.search(rf"(?<![\w-]){option}(?![\w-])", section[1]), f"{page}: {name} has no {option}"


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~! ;]", line)[0].lower().replace("_", "-") for line in requirements}


def test_every_dependency_is_pinned_within_what_the_project_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins), "plain name==version only"
    assert _names(wanted) <= _names(pins)
    from packaging.requirements import Requirement

    versions = {pin.split("==")[0].lower().replace("_", "-"): pin.split("==")[1] for pin in pins}
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(versions[requirement.name.lower()]), requirement


def test_the_citation_file_names_the_version_and_the_paper() -> None:
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == project["version"] == metadata.version("geolift")
    licences = citation["license"]
    assert " AND ".join(licences if isinstance(licences, list) else [licences]) == project["license"]
    assert "2507.13339" in citation["preferred-citation"]["url"]


def test_the_environment_is_made_by_a_python_that_can_and_refused_in_one_line_otherwise(tmp_path: Path) -> None:
    if not shutil.which("sh"):
        pytest.skip("needs a POSIX shell")
    script = ROOT / ".ci" / "make-venv"
    made = subprocess.run(
        ["sh", script, tmp_path / "a b" / "venv"],
        env={**os.environ, "PYTHON": sys.executable},
        timeout=120,
        check=False,
    )
    assert made.returncode == 0 and (tmp_path / "a b" / "venv" / "bin" / "python").exists()
    refused = subprocess.run(
        ["sh", script, tmp_path / "no"],
        env={**os.environ, "PYTHON": "no-such-python"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1 and "PYTHON=" in refused.stderr
    assert not (tmp_path / "no").exists()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    target = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "GEOLIFT_RUN_NOTEBOOKS": "0"},  # they have tests of their own
    )
    assert done.returncode == 0, done.stderr
    return target


def test_the_documentation_builds_without_a_warning(site: Path) -> None:
    assert (site / "index.html").exists()


MEASURE = """<body><script>(async () => {
  const told = [];
  for (const width of [400, 1280]) for (const page of PAGES) {
    const frame = document.createElement("iframe");
    frame.style = `border:0;height:800px;width:${width}px`;
    document.body.append(frame);
    await new Promise(done => { frame.onload = done; frame.src = page; });
    const root = frame.contentDocument.documentElement;
    const over = Math.max(root.scrollWidth, root.querySelector("body").scrollWidth) - root.clientWidth;
    told.push([page, width, over]);
    frame.remove();
  }
  fetch("/", { method: "POST", body: JSON.stringify(told) });
})();</script>"""


def test_no_page_of_the_documentation_scrolls_sideways(site: Path, tmp_path: Path) -> None:
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    browser = next(filter(None, found), None)
    if browser is None:
        pytest.skip("needs chromium: .ci/install-chromium")
    pages = [path.relative_to(site).as_posix() for path in site.rglob("*.html") if path.name != "404.html"]
    frames = site / "_frames.html"
    frames.write_text(MEASURE.replace("PAGES", json.dumps(pages)), encoding="utf-8")
    told: queue.Queue[bytes] = queue.Queue()

    class Listening(http.server.SimpleHTTPRequestHandler):
        def do_POST(self) -> None:
            told.put(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Listening, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        words = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
        words += ["--remote-debugging-port=0", f"http://127.0.0.1:{server.server_port}/_frames.html"]
        running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            measured = json.loads(told.get(timeout=200))
        finally:
            running.terminate()
            running.wait(timeout=20)
            server.shutdown()
    assert len(measured) == 2 * len(pages) > 60
    assert [line for line in measured if line[2] > 0] == []


def test_the_source_distribution_holds_what_the_project_consists_of_and_installs(tmp_path: Path) -> None:
    import tarfile

    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (made,) = tmp_path.glob("*.tar.gz")
    safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # from 3.11.4 on
    with tarfile.open(made) as archive:
        archive.extractall(tmp_path / "unpacked", **safely)
        names = [name.partition("/")[2] for name in archive.getnames()]
    tops = {name.split("/")[0] for name in names}
    known = {
        "geolift", "srf_library", "tests", "docs", "examples", "tools", "benchmarks", "Makefile", "mkdocs.yml", ".ci",
        "constraints.txt", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "README.md", "LICENSE", "pyproject.toml",
        "PKG-INFO", ".gitignore",
    }  # fmt: skip
    assert tops <= known, sorted(tops - known)
    assert not [name for name in names if name.endswith((".tif", ".pyc", ".npz"))]
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    target = tmp_path / "target"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--target", str(target), str(unpacked)], check=True, timeout=120)
    code = "import geolift, geolift.srf; print(geolift.__file__, len(geolift.srf.list_sensors()))"
    environment = {**os.environ, "PYTHONPATH": str(target)}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path, env=environment)
    where, sensors = done.stdout.split()
    assert Path(where).is_relative_to(target)
    assert int(sensors) == len(list((ROOT / "srf_library").glob("*.csv")))
