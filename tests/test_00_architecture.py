"""The house rules that keep geolift readable: who may import whom, what stays light, how long functions are.

`docs/architecture.md` explains them, and its table is the rule for imports.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import count_code
import pytest
from count_code import imports, own_imports

import geolift

PACKAGE = Path(geolift.__file__).parent

ARCHITECTURE = Path(__file__).parent.parent / "docs" / "architecture.md"
"""Its table of rooms is the rule: which folder may import which."""

# Third-party packages that a module may not import at its top, or at all.
NUMERIC = (
    "degradation", "metrics.scores", "metrics.similarity", "network.formula", "network.pixels", "network.llvm",
    "network.torch_backend", "network.engine", "network.backends", "network.inference", "training",
    "pair.robust", "pair.harmonization", "pair.relation_fit", "pair.tone_curve", "pair.local_relation",
    "pair.band_alignment", "pair.coregistration", "pair.checks.pair", "pair.checks.findings",
    "pair.checks.identity", "pair.checks.place", "pair.checks.values", "refinement", "uncertainty", "demo.landscape",
)  # fmt: skip
FILE_WORLD = {"rasterio", "rioxarray", "odc", "dask", "xarray", "click", "pathlib"}
HEAVY = {"torch", "dask", "xarray", "rasterio", "rioxarray", "scipy", "matplotlib", "pandas", "odc"}


MODULES = count_code.modules()


def _rules() -> dict[str, set[str]]:
    """Folder or top-level module → what it may import, as the table of docs/architecture.md says, in its order."""
    rows = re.findall(r"^\| `(\w+)(?:/|\.py)` \|[^|]*\|([^|]*)\|$", ARCHITECTURE.read_text(encoding="utf-8"), re.M)
    return {room: set(allowed.split()) for room, allowed in rows}


RULES = _rules()


def _room(module: str) -> str:
    return module.removeprefix("geolift.").split(".")[0]


def _used_rooms(room: str) -> set[str]:
    modules = [name for name in MODULES if _room(name) == room]
    return {_room(used) for module in modules for used in own_imports(module)} - {room}


def test_every_room_has_a_line_in_the_architecture_and_every_line_a_room() -> None:
    rooms = {_room(name) for name in MODULES}
    assert rooms == set(RULES), "each folder and top-level module needs a row in docs/architecture.md"


@pytest.mark.parametrize("room", RULES)
def test_a_room_imports_what_the_architecture_says_and_nothing_else(room: str) -> None:
    assert _used_rooms(room) == RULES[room], f"docs/architecture.md: the row of {room}"


def test_rooms_import_only_from_rooms_that_stand_above_them() -> None:
    order = list(RULES)
    back = [(room, other) for room in order for other in RULES[room] if order.index(other) >= order.index(room)]
    assert not back, "an arrow that points down makes a cycle sooner or later"


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith(NUMERIC)])
def test_numeric_rooms_know_no_files_no_crs_no_dask_and_no_click(module: str) -> None:
    outside = {name.split(".")[0] for name in imports(MODULES[module])} & FILE_WORLD
    assert not outside, f"geolift.{module}: NumPy or torch in and out; {sorted(outside)} belongs to a wrapper"


@pytest.mark.parametrize("module", [name for name in MODULES if _room(name) == "cli"])
def test_command_modules_import_nothing_heavy_at_their_top(module: str) -> None:
    heavy = {name.split(".")[0] for name in imports(MODULES[module], top_only=True)} & HEAVY
    assert not heavy, f"geolift.{module}: import {sorted(heavy)} inside the command's body"


def test_click_is_used_in_the_command_line_only() -> None:
    users = {name for name in MODULES if any(used.split(".")[0] == "click" for used in imports(MODULES[name]))}
    assert {_room(name) for name in users} <= {"cli"}


def test_only_readers_and_the_writer_open_rasters() -> None:
    opening = re.compile(r"\b(rasterio\.open|rioxarray\.open_rasterio)\(")
    openers = {name for name, path in MODULES.items() if opening.search(path.read_text(encoding="utf-8"))}
    assert {_room(name) for name in openers} <= {"readers", "writer"}, openers


def test_every_place_that_contributing_names_is_there() -> None:
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    places = re.findall(r"`((?:geolift|srf_library|tools|tests|docs|benchmarks)/[\w./-]*)`", text)
    assert len(places) > 10
    assert not [place for place in places if not (PACKAGE.parent / place).exists()]


@pytest.mark.parametrize("count", count_code.counts(), ids=lambda count: count.what)
def test_the_house_keeps_its_size(count: count_code.Count) -> None:
    assert count.passed, f"{count.what}: {count.figure}, at most {count.most} ({count.where})"


def test_no_module_is_called_utils() -> None:
    assert not [name for name in MODULES if {"utils", "util", "helpers", "misc"} & set(name.split("."))]


def _loaded_by(*arguments: str) -> set[str]:
    """Top-level packages that a geolift command has loaded when it ends."""
    code = (
        "import json, sys\n"
        f"sys.argv = ['geolift', *{list(arguments)!r}]\n"
        "from geolift.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "Usage" in done.stdout or "geolift" in done.stdout
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [("--help",), ("--version",)])
def test_help_and_version_load_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert not _loaded_by(*arguments) & (HEAVY | {"numpy", "geolift.pipeline.fusion"})


STEPS = """
import json, sys
loaded = {}
import geolift
loaded["import"] = sorted(sys.modules)
import dask.array, geolift.datamodel.cube as cube
assert cube.window_values(dask.array.ones((2, 9, 9), chunks=3), slice(1, 5), slice(2, 4)).shape == (2, 4, 2)
loaded["window"] = sorted(sys.modules)
import geolift.pipeline.files, geolift.refinement
loaded["fuse"] = sorted(sys.modules)
print(json.dumps(loaded))
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """The modules of a fresh process after each step."""
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True, timeout=120)
    return dict(json.loads(done.stdout))


def test_importing_geolift_loads_no_torch(loaded: dict[str, list[str]]) -> None:
    assert "torch" not in loaded["import"]


def test_reading_a_window_loads_no_distributed(loaded: dict[str, list[str]]) -> None:
    assert "distributed" not in loaded["window"]


def test_fusing_loads_no_scipy_stats_which_takes_most_of_a_second(loaded: dict[str, list[str]]) -> None:
    assert "scipy.stats" not in loaded["fuse"]


def test_public_names_are_no_modules_even_after_every_module_is_imported() -> None:
    for module in pkgutil.walk_packages([str(PACKAGE)], "geolift."):
        if ".plugin" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    public = getattr(geolift, "__all__", [])
    assert {"open", "fuse", "train", "apply", "evaluate", "coregister", "SpectralResponse"} <= set(public)
    for name in public:
        assert not isinstance(getattr(geolift, name), ModuleType), f"geolift.{name} is hidden by a module"
