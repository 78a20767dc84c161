"""Counts what `docs/architecture.md` limits: prints each figure beside its limit, and fails where one is passed.

    python tools/count_code.py

`tests/test_00_architecture.py` holds the same figures, which it takes from here.
"""

from __future__ import annotations

import ast
import graphlib
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parent.parent / "geolift"
PLUGIN = PACKAGE / "qgis" / "plugin"
"""The QGIS plugin runs in another Python and imports nothing of geolift."""

COMPOSITION = PACKAGE / "pipeline"
SCREEN = "geolift/pipeline/fusion.py", "fuse_cubes"
"""The function that reads as the method does."""

FREE_FORM = re.compile(r"\bdict\[str, Any\]")
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Count(NamedTuple):
    """What is counted, its figure, the most that is allowed (None: no limit), and where the figure was found."""

    what: str
    figure: int
    most: int | None
    where: str = ""

    @property
    def passed(self) -> bool:
        """Whether the limit is kept."""
        return self.most is None or self.figure <= self.most


@cache
def modules() -> dict[str, Path]:
    """Return the files of the package without the plugin, by their names in it: "pair.masks"."""
    paths = sorted(path for path in PACKAGE.rglob("*.py") if PLUGIN not in path.parents)
    names = (path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".") for path in paths)
    return {name.removesuffix(".__init__"): path for name, path in zip(names, paths, strict=True) if name != "__init__"}


@cache
def tree(path: Path) -> ast.Module:
    """Return a file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path, *, top_only: bool = False) -> frozenset[str]:
    """Return full names of all that is imported; `from a import b` counts as a.b. TYPE_CHECKING blocks do not run."""
    skipped = {
        id(inner)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in tree(path).body if top_only else ast.walk(tree(path)):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


@cache
def own_imports(module: str) -> frozenset[str]:
    """Return the modules of the package that a module imports."""
    used = {name.removeprefix("geolift.") for name in imports(modules()[module]) if name.startswith("geolift.")}
    return frozenset({name if name in modules() else name.rpartition(".")[0] for name in used} - {module, ""})


def cycle(depth: int) -> list[str]:
    """Return a cycle of imports between folders (``depth`` names deep; 0: between modules), or nothing."""

    def place(module: str) -> str:
        folder = module if modules()[module].name == "__init__.py" else module.rpartition(".")[0] or module
        return ".".join(folder.split(".")[:depth]) if depth else module

    graph: dict[str, set[str]] = {}
    for module in modules():
        used = {place(name) for name in own_imports(module) if name in modules()}
        graph.setdefault(place(module), set()).update(used - {place(module)})
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def entries() -> list[str]:
    """Return what stands on the package's top level."""
    return sorted(path.name for path in PACKAGE.iterdir() if path.name not in ("__pycache__", "_srf_library"))


def functions(folder: Path = PACKAGE) -> Iterator[tuple[str, Function]]:
    """Yield every function of a folder with its full name."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(tree(path)):
            if isinstance(node, Function):
                yield f"{path.relative_to(PACKAGE.parent).as_posix()}:{node.lineno} {node.name}", node


def length(function: Function) -> int:
    """Return a function's lines without its docstring."""
    docstring = (ast.get_docstring(function, clean=False) or "").count("\n") + 1
    return (function.end_lineno or function.lineno) - function.lineno + 1 - docstring


def arguments(function: Function) -> int:
    """Return how many arguments a function takes by name, self not counted."""
    named = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return sum(argument.arg not in ("self", "cls") for argument in named)


def counts() -> list[Count]:
    """Return every figure with its limit."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    lines = {path.relative_to(PACKAGE).as_posix(): text.count("\n") for path, text in texts.items()}
    longest = max(functions(), key=lambda item: length(item[1]))
    widest = max(functions(COMPOSITION), key=lambda item: arguments(item[1]))
    screen = next(f for name, f in functions(COMPOSITION) if (name.partition(":")[0], name.split()[-1]) == SCREEN)
    file = max(lines, key=lambda name: lines[name])
    rounds = [" > ".join(cycle(depth)) for depth in (1, 0)]
    return [
        Count("entries of the top level", len(entries()), 26),
        Count("lines of the longest function", length(longest[1]), 60, longest[0]),
        Count("lines of the composition", length(screen), 30, SCREEN[1]),
        Count("lines of the longest file", lines[file], 450, file),
        Count("cycles between packages", int(bool(rounds[0])), 0, rounds[0]),
        Count("cycles between modules", int(bool(rounds[1])), 0, rounds[1]),
        Count("most arguments in the composition", arguments(widest[1]), 6, widest[0]),
        Count("dict[str, Any]", sum(len(FREE_FORM.findall(text)) for text in texts.values()), 49),
        Count("lines of the package", sum(lines.values()), None),
    ]


def main() -> int:
    """Print the figures; 1 where one is over its limit."""
    found = counts()
    for count in found:
        limit = "" if count.most is None else f"{'<=' if count.passed else '> !'} {count.most}"
        print(f"{count.what:36}{count.figure:7}  {limit:7}{count.where}")
    return int(not all(count.passed for count in found))


if __name__ == "__main__":
    sys.exit(main())
