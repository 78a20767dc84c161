# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding and running the command `geolift`; knows nothing of QGIS.

QGIS runs on Pythons from 3.9 on, so this folder is written for that version.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# Set by QGIS or its launchers for its own Python, GDAL and PROJ; another Python with another GDAL fails on them.
QGIS_VARIABLES = (
    "PYTHONHOME", "PYTHONPATH", "PYTHONEXECUTABLE", "PYTHONUSERBASE", "PYTHONSTARTUP", "__PYVENV_LAUNCHER__",
    "GDAL_DATA", "GDAL_DRIVER_PATH", "GDAL_CONFIG_FILE", "GEOTIFF_CSV", "PROJ_LIB", "PROJ_DATA", "PROJ_DEBUG",
    "QT_PLUGIN_PATH", "QT_QPA_PLATFORM_PLUGIN_PATH",
)  # fmt: skip
PLACES = (
    "~/.local/bin",
    "~/.local/share/uv/tools/geolift/bin",
    "~/.local/share/pipx/venvs/geolift/bin",
    "~/.local/pipx/venvs/geolift/bin",
    "~/pipx/venvs/geolift/Scripts",
    "~/AppData/Roaming/uv/tools/geolift/Scripts",
    "~/AppData/Local/pipx/pipx/venvs/geolift/Scripts",
    "~/AppData/Roaming/Python/Python3*/Scripts",
    "~/AppData/Local/Programs/Python/Python3*/Scripts",
    "~/Library/Python/3.*/bin",
    "/opt/homebrew/bin",
    "/usr/local/bin",
    *(
        f"{home}/{tool}{environment}/{folder}"
        for home, folder in (
            ("~", "bin"),
            ("/opt", "bin"),
            ("~", "Scripts"),
            ("~/AppData/Local", "Scripts"),
            ("C:/ProgramData", "Scripts"),
        )
        for tool in ("*conda*", "*forge*", "*mamba*")
        for environment in ("", "/envs/*")
    ),
)
PATIENCE_S = 20.0
NOT_FOUND = (
    "The command geolift was not found. Install it (for example: pipx install geolift), then either run "
    "`geolift qgis install`, or name it under Settings > Options > Processing > Providers > geolift."
)


class RunError(Exception):
    """The command failed; the text is its own sentence, ``code`` its exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Cancelled(Exception):
    """The user cancelled, and the command is gone."""


class Result(NamedTuple):
    """What the command said: its result as JSON, and as the text a person reads."""

    document: dict[str, Any]
    text: str


def child_environment(parent: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what QGIS set for itself."""
    kept = {name: value for name, value in parent.items() if name not in QGIS_VARIABLES}
    root = parent.get("OSGEO4W_ROOT")
    if root:
        # On Windows QGIS puts its own libraries first on PATH, and another Python would load them.
        folders = kept.get("PATH", "").split(os.pathsep)
        kept["PATH"] = os.pathsep.join(folder for folder in folders if not _lies_in(folder, root))
        kept.pop("OSGEO4W_ROOT")
    kept["PYTHONIOENCODING"] = "utf-8"
    return kept


def _lies_in(folder: str, root: str) -> bool:
    """Tell whether a folder of PATH is a root or lies below it, as Windows compares names."""
    inner, outer = (os.path.normcase(name).replace("\\", "/").rstrip("/").lower() for name in (folder, root))
    return inner == outer or inner.startswith(outer + "/")


def spoken(command: Sequence[str]) -> str:
    """Return a command line as the terminal of this system takes it."""
    return subprocess.list2cmdline(command) if os.name == "nt" else shlex.join(command)


def find(setting: str, recorded: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Return the beginning of the command line: the user's setting, what `geolift qgis install` recorded, PATH, and
    the places where pipx, uv and conda put commands. Raises RunError where there is none.
    """
    if setting:
        chosen = Path(setting).expanduser()
        if not chosen.is_file():
            raise RunError(f"{chosen}, set as the command geolift in Processing's options, does not exist.", 127)
        return [str(chosen)]
    if recorded and Path(recorded[0]).is_file():
        return list(recorded)
    name = "geolift.exe" if os.name == "nt" else "geolift"
    on_path = shutil.which("geolift", path=environment.get("PATH"))
    candidates = [Path(on_path)] if on_path else []
    for place in PLACES:
        candidates += sorted(_expanded(place, name))
    for candidate in candidates:
        if candidate.is_file():
            return [str(candidate)]
    raise RunError(NOT_FOUND, 127)


def _expanded(place: str, name: str) -> Iterator[Path]:
    folder = Path(place).expanduser()
    anchor = Path(folder.anchor)
    try:
        yield from anchor.glob(str(folder.relative_to(anchor) / name))
    except OSError:
        return


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    on_event: Callable[[Mapping[str, Any]], None],
    is_cancelled: Callable[[], bool],
) -> Result:
    """Run a geolift command to its end, telling its JSON events as they come.

    Raises RunError if it fails, with the command's own sentence; Cancelled if the user cancelled; the command has ended
    and left nothing.
    """
    child = _started(command, environment)
    lines: queue.Queue[tuple[str, str | None]] = queue.Queue()
    for name in ("stdout", "stderr"):
        threading.Thread(target=_pump, args=(getattr(child, name), name, lines), daemon=True).start()
    document: dict[str, Any] = {}
    text, other, error, open_streams = [], [], "", 2
    try:
        while open_streams:
            if is_cancelled():
                raise Cancelled
            try:
                stream, line = lines.get(timeout=0.1)
            except queue.Empty:
                continue
            event = _event(line) if stream == "stderr" else None
            if line is None:
                open_streams -= 1
            elif stream == "stdout":
                text.append(line)
            elif event is None:
                other.append(line)
            elif event["event"] == "result":
                document = event
            elif event["event"] == "error":
                error = str(event.get("message", ""))
            else:
                on_event(event)
        code = child.wait()
    finally:
        _end(child)
    if code:
        raise RunError(error or _last_words(other) or f"geolift left with the code {code}.", code)
    return Result(document, "\n".join(text))


def _started(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            # No black window on Windows.
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0) if sys.platform == "win32" else 0,
        )
    except OSError as failure:
        raise RunError(f"{command[0]} cannot be started: {failure}", 126) from failure


def _pump(stream: Any, name: str, lines: queue.Queue[tuple[str, str | None]]) -> None:
    with stream:
        for line in stream:
            lines.put((name, line.decode("utf-8", errors="replace").rstrip("\r\n")))
    lines.put((name, None))


def _event(line: str | None) -> dict[str, Any] | None:
    try:
        event = json.loads(line or "")
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def _last_words(lines: Sequence[str]) -> str:
    """Return the sentence of a usage error, or the last line of a traceback."""
    spoken = [line for line in lines if line.strip()]
    return spoken[-1].replace("Error: ", "", 1) if spoken else ""


def _end(child: subprocess.Popen[bytes]) -> None:
    """Let the child clean up, and make sure that it is gone. Closing its stdin asks it to end, on every system."""
    if child.stdin is not None:
        with contextlib.suppress(OSError):
            child.stdin.close()
    if child.poll() is None and os.name == "posix":
        child.terminate()
    deadline = time.monotonic() + PATIENCE_S
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    if child.poll() is None:
        child.kill()
        child.wait()
