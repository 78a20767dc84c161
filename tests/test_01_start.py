"""What a command loads when it starts: torch takes seconds, so it is imported where it works and nowhere else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from geolift.training.draws import Draws, sobol_points

WITHOUT_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ImportError("torch is not installed")

sys.meta_path.insert(0, Refuse())
import json
from geolift.cli import main

for words in json.loads(sys.argv[1]):
    sys.argv = ["geolift", *words]
    try:
        main()
    except SystemExit as leaving:
        if leaving.code:
            raise
"""


def run_without_torch(*commands: Sequence[object]) -> subprocess.CompletedProcess[str]:
    """Run commands one after the other in one process, up to the first that fails."""
    words = json.dumps([[str(word) for word in command] for command in commands])
    command = [sys.executable, "-c", WITHOUT_TORCH, words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from geolift.demo.showcase import make_pair

    folder = tmp_path_factory.mktemp("pair")
    make_pair(folder, size=72)
    return folder


def test_the_default_job_and_all_that_needs_no_published_method_run_where_torch_is_not_installed(
    pair: Path, tmp_path: Path
) -> None:
    hsi, msi, truth = (pair / f"{name}.tif" for name in ("hsi", "msi", "truth"))
    sensor = ["--sensor", "sentinel-2a"]
    model, fused = tmp_path / "model.safetensors", tmp_path / "fused.tif"
    bands = ["--msi-bands", "B02,B03,B04,B08"]
    done = run_without_torch(
        ["train", hsi, *sensor, *bands, "--method", "linear", "-o", model],
        ["apply", model, msi, "-o", tmp_path / "applied.tif"],
        ["fuse", hsi, msi, *sensor, "--method", "linear", "-o", fused],
        ["train", hsi, *sensor, *bands, "-o", model, "--overwrite"],
        ["apply", model, msi, "-o", tmp_path / "applied.tif", "--overwrite"],
        ["fuse", hsi, msi, *sensor, "-o", fused, "--overwrite"],
        ["check", hsi, msi, *sensor],
        ["coregister", hsi, msi, *sensor],
        ["info", hsi],
        ["evaluate", fused, truth],
        ["simulate", truth, *sensor, "--ratio", "3", "-o", tmp_path / "simulated"],
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_published_method_without_torch_is_refused_in_one_line(pair: Path, tmp_path: Path) -> None:
    options = ("--sensor", "sentinel-2a", "--method", "spectralift", "-o", tmp_path / "m.safetensors")
    done = run_without_torch(("train", pair / "hsi.tif", *options))
    assert done.returncode == 7
    assert "pip install torch" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_loads_no_array_library() -> None:
    code = (
        "import sys\nfrom geolift.cli import main\nsys.argv = ['geolift', 'fuse', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('LOADED', sorted({'numpy', 'torch', 'dask', 'xarray', 'rasterio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_numbers_of_a_seed_are_those_of_torch() -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = Draws(5), torch.Generator().manual_seed(5)
    for shape in ((7, 3), (40, 5)):
        drawn = torch.rand(*shape, generator=theirs, dtype=torch.float64).numpy()
        np.testing.assert_array_equal(ours.uniform(*shape), drawn)
        normal = torch.randn(*shape, generator=theirs, dtype=torch.float64).numpy()
        np.testing.assert_allclose(ours.normal(*shape), normal, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dimensions", [2, 14, 64])
def test_points_of_low_discrepancy_are_those_of_torch(dimensions: int) -> None:
    torch = pytest.importorskip("torch")
    drawn = torch.quasirandom.SobolEngine(dimensions, scramble=True, seed=3).draw(64, dtype=torch.float64).numpy()
    np.testing.assert_allclose(sobol_points(64, dimensions, 3), drawn, atol=1e-7)


def test_more_dimensions_than_are_tabled_are_drawn() -> None:
    points = sobol_points(256, 100, 1)
    assert points.shape == (256, 100)
    assert np.abs(points.mean(axis=0) - 0.5).max() < 0.1
