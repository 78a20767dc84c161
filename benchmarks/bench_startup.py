"""How long the command takes to start."""

from __future__ import annotations

import subprocess
import sys
import time

from common import arguments, table


def main() -> None:
    """Measure."""
    given = arguments(__doc__ or "", repeats=5)
    rows = []
    for name, command in {
        "python": ["-c", "pass"],
        "geolift --version": ["-m", "geolift", "--version"],
        "geolift --help": ["-m", "geolift", "--help"],
        "import geolift": ["-c", "import geolift"],
        "import geolift.pipeline.files": ["-c", "import geolift.pipeline.files"],
        "import torch": ["-c", "import torch"],
    }.items():
        times = []
        for _ in range(given.repeats):
            started = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
            times.append(time.perf_counter() - started)
        rows.append({"what": name, "best s": min(times), "median s": sorted(times)[len(times) // 2]})
    table(rows, given.json)


if __name__ == "__main__":
    main()
