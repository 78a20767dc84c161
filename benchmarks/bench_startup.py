"""How much processor time the command takes to start; what it takes beside other work differs by the hour."""

from __future__ import annotations

import os
import subprocess
import sys

from common import arguments, table


def main() -> None:
    """Measure."""
    given = arguments(__doc__ or "", repeats=5)
    rows = []
    for name, command in {
        "python": ["-c", "pass"],
        "geolift --version": ["-m", "geolift", "--version"],
        "geolift --help": ["-m", "geolift", "--help"],
        "geolift fuse --help": ["-m", "geolift", "fuse", "--help"],
        "import geolift": ["-c", "import geolift"],
        "import geolift.pipeline.files": ["-c", "import geolift.pipeline.files"],
        "import torch": ["-c", "import torch"],
    }.items():
        times = []
        for _ in range(given.repeats):
            before = os.times()
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
            after = os.times()
            spent = (after.children_user, before.children_user), (after.children_system, before.children_system)
            times.append(sum(later - earlier for later, earlier in spent))
        rows.append({"what": name, "best CPU s": min(times), "median CPU s": sorted(times)[len(times) // 2]})
    table(rows, given.json)


if __name__ == "__main__":
    main()
