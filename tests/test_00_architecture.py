"""The house rules that keep geolift readable: who may import whom, what stays light, how long functions are.

`docs/architecture.md` explains them. A new module needs a place in ROOMS.
"""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import geolift

PACKAGE = Path(geolift.__file__).parent

# Storeys from the top: a module imports only from storeys above its own. The modules of one room know each
# other; after "<" stand the few modules of other rooms of the same storey that this room builds on.
ROOMS: dict[str, list[str]] = {
    "errors": ["errors"],
    "nouns": ["settings", "cube", "encoding", "listener", "align", "srf", "results"],
    "files": ["readers < machine", "writer < machine", "sidecar", "finished < sidecar", "machine", "scratch"],
    "steps": [
        "degrade psf",
        "overlay",
        "sampling",
        "robust",
        "noise",
        "masking",
        "coregistration < sampling robust",
        "harmonization < robust",
        "sanity < coregistration noise robust",
        "quality",
        "model network pixels compiled torch_network engine runner",
        "training training_set methods < model network runner engine noise",
        "information < training_set",
        "uncertainty rehearsal < degrade inference methods model network refinement training training_set",
        "inference < model network engine pixels",
        "refinement < coregistration degrade engine inference methods model network noise robust sampling training_set",
        "metrics",
    ],
    "composition": [
        "pipeline fusion_pair standard_error runs identity budget trained unmixing plan comparison crosscheck "
        "pair_check wald describe quality_gate < report",
        "manifest batch",
        "benchmark < plan",
        "demo_scene",
        "pictures",
        "report < comparison plan pictures",
    ],
    "showcase": ["demo", "doctor < demo", "qgis_install"],
    "doors": ["cli __main__", "qgis_plugin"],
}

# Third-party packages that a module may not import at its top, or at all.
NUMERIC = {
    "degrade", "psf", "sampling", "robust", "coregistration", "sanity",
    "harmonization", "refinement", "metrics",
    "network", "pixels", "compiled", "torch_network", "engine", "runner", "training", "training_set", "methods",
    "noise", "uncertainty", "rehearsal",
    "information", "inference",
    "demo_scene",
}  # fmt: skip
FILE_WORLD = {"rasterio", "rioxarray", "odc", "dask", "xarray", "click", "pathlib"}
HEAVY = {"torch", "dask", "xarray", "rasterio", "rioxarray", "scipy", "matplotlib", "pandas", "odc"}
LONGEST_FUNCTION = 60


def _modules() -> dict[str, Path]:
    paths = sorted(path for path in PACKAGE.rglob("*.py") if "qgis_plugin" not in path.parts)
    names = (path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".") for path in paths)
    return {name.removesuffix(".__init__"): path for name, path in zip(names, paths, strict=True)}


MODULES = {name: path for name, path in _modules().items() if name != "__init__"}


def _places() -> dict[str, tuple[int, int, set[str]]]:
    """Module → (storey, room within it, the modules of neighbouring rooms that it may use)."""
    found = {}
    for storey, rooms in enumerate(ROOMS.values()):
        for number, room in enumerate(rooms):
            members, _, neighbours = room.partition("<")
            for member in members.split():
                found[member] = (storey, number, set(neighbours.split()))
    return found


PLACES = _places()


def _imports(path: Path, *, top_only: bool = False) -> set[str]:
    """Full names of everything imported; `from a import b` counts as a.b. TYPE_CHECKING blocks do not run."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    nodes = tree.body if top_only else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _room(module: str) -> str:
    return module.removeprefix("geolift.").split(".")[0]


def _allowed(importer: str, imported: str) -> bool:
    storey, number, neighbours = PLACES[importer]
    other_storey, other_number, _ = PLACES[imported]
    if other_storey != storey:
        return other_storey < storey
    return other_number == number or imported in neighbours


def test_every_module_has_a_place_in_the_house() -> None:
    homeless = sorted({_room(name) for name in MODULES} - set(PLACES))
    assert not homeless, f"give {homeless} a storey and a room in ROOMS, and a line in docs/architecture.md"


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_only_from_the_storeys_above_it(module: str) -> None:
    own = _room(module)
    if own not in PLACES:
        pytest.skip("another test names the modules without a place")
    used = {_room(name) for name in _imports(MODULES[module]) if name.startswith("geolift.")}
    wrong = {room for room in used & set(PLACES) if room != own and not _allowed(own, room)}
    assert not wrong, f"geolift.{module} may not import {sorted(wrong)}"


@pytest.mark.parametrize("module", [name for name in MODULES if _room(name) in NUMERIC])
def test_numeric_rooms_know_no_files_no_crs_no_dask_and_no_click(module: str) -> None:
    outside = {name.split(".")[0] for name in _imports(MODULES[module])} & FILE_WORLD
    assert not outside, f"geolift.{module}: NumPy or torch in and out; {sorted(outside)} belongs to a wrapper"


@pytest.mark.parametrize("module", [name for name in MODULES if _room(name) == "cli"])
def test_command_modules_import_nothing_heavy_at_their_top(module: str) -> None:
    heavy = {name.split(".")[0] for name in _imports(MODULES[module], top_only=True)} & HEAVY
    assert not heavy, f"geolift.{module}: import {sorted(heavy)} inside the command's body"


def test_click_is_used_in_the_command_line_only() -> None:
    users = {name for name in MODULES if any(used.split(".")[0] == "click" for used in _imports(MODULES[name]))}
    assert {_room(name) for name in users} <= {"cli"}


def _calls(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_only_readers_and_the_writer_open_rasters() -> None:
    openers = {name for name, path in MODULES.items() if _calls(path) & {"rasterio.open", "rioxarray.open_rasterio"}}
    assert {_room(name) for name in openers} <= {"readers", "writer"}, openers


def test_functions_are_short() -> None:
    long = []
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                docstring = (ast.get_docstring(node, clean=False) or "").count("\n") + 1
                lines = (node.end_lineno or node.lineno) - node.lineno + 1 - docstring
                if lines > LONGEST_FUNCTION:
                    long.append(f"geolift.{name}.{node.name}: {lines} lines")
    assert not long, f"split them ({LONGEST_FUNCTION} lines at most without the docstring): {long}"


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
    assert not _loaded_by(*arguments) & (HEAVY | {"numpy", "geolift.pipeline"})


def test_importing_geolift_loads_no_torch() -> None:
    code = "import sys, geolift; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_fusing_loads_no_scipy_stats_which_takes_most_of_a_second() -> None:
    code = "import sys, geolift.runs, geolift.refinement; raise SystemExit('scipy.stats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


def test_reading_a_window_loads_no_distributed() -> None:
    code = (
        "import sys, dask.array, geolift.cube as cube\n"
        "values = cube.window_values(dask.array.ones((2, 9, 9), chunks=3), slice(1, 5), slice(2, 4))\n"
        "assert values.shape == (2, 4, 2)\n"
        "raise SystemExit('distributed' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


def test_public_names_are_no_modules_even_after_every_module_is_imported() -> None:
    for module in pkgutil.walk_packages([str(PACKAGE)], "geolift."):
        if "qgis_plugin" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    public = getattr(geolift, "__all__", [])
    assert {"open", "fuse", "train", "apply", "evaluate", "coregister", "SpectralResponse"} <= set(public)
    for name in public:
        assert not isinstance(getattr(geolift, name), ModuleType), f"geolift.{name} is hidden by a module"
