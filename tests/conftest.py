"""Fixtures that every storey of tests shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Tests run side by side, one to a core. A library's threads that wait for a busy core spin and cost it minutes; read
# when the libraries load, also by the commands that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scenes beside the project; tests that need it are skipped without it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real scenes in ../shared/data")
    return folder
