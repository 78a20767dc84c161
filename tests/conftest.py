"""Fixtures that every storey of tests shares."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from scenes import Pair, make_pair

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


@pytest.fixture(scope="module")
def few_bands() -> Iterator[None]:
    """The demo's landscape as an instrument of 75 bands sees it; 224 take three times as long."""
    from geolift.demo.landscape import scene

    wavelength_nm, fwhm_nm, good = (values[::3] for values in scene.band_grid())
    with mock.patch.object(scene, "band_grid", lambda: (wavelength_nm, 3 * fwhm_nm, good)):
        yield


@pytest.fixture(scope="module")
def few_steps() -> Iterator[None]:
    """The default method's network learns a little only: for tests of what is around the pixels."""
    from geolift.training.methods import small_network

    with mock.patch.multiple(small_network, FEWEST_STEPS=40, MOST_STEPS=40):
        yield


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A small HSI and MSI of one place, as files."""
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two processes of a Dask cluster on this machine."""
    distributed = pytest.importorskip("distributed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        )
        yield made
        made.close()
