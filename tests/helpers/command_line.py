"""The command line in this process: a fresh one costs seconds before it begins.

Signals, closed streams and what is loaded are of a process of their own; tests of those start one.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

from geolift.cli import main
from geolift.runtime.interrupts import KINDS


def run(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `geolift` in a folder, as a user would; returns exit code and what was printed."""
    words = ["geolift", *map(str, arguments)]
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    numbers = [getattr(signal, name) for name in KINDS if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}
    code: object = 0
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch.multiple(sys, argv=words, stdout=out, stderr=err),
        contextlib.chdir(cwd),
    ):
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    printed = [stream.buffer.getvalue().decode("utf-8") for stream in (out, err)]  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(words, int(str(code or 0)), *printed)
