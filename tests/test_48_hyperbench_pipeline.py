"""The real HyperBench (`.ci/install-hyperbench`) runs geolift on a case and finds what `geolift benchmark` finds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from scenes import spectra_of

from geolift.benchmark import sweep
from geolift.settings import BenchmarkSettings

ROOT = Path(__file__).resolve().parent.parent
MEASURES = {"RMSE": "rmse", "PSNR": "psnr_db", "SSIM": "ssim", "UIQI": "uiqi", "ERGAS": "ergas", "SAM": "sam_deg"}

# Runs beside HyperBench, which runs the cases by itself: it degrades, calls the pipeline, clips, measures.
THERE = """
import json, subprocess, sys
import numpy as np
from hyperbench import BenchmarkConfig, DegradationSpec, PipelineAdapter, run_benchmark

told = json.loads(sys.argv[1])

class Elsewhere:
    "Calls geolift in its own environment; arrays go there and come back as files."

    def __init__(self, method):
        self.method = method

    def run_pipeline(self, HR_MSI, LR_HSI, srf, psf=None, metadata=None):
        np.savez("inputs.npz", HR_MSI=HR_MSI, LR_HSI=LR_HSI, srf=srf, psf=psf)
        code = (
            "import geolift, numpy as np; arrays = dict(np.load('inputs.npz')); "
            f"pipeline = geolift.benchmark.HyperBenchPipeline({self.method!r}, refine='off'); "
            "np.save('product.npy', pipeline.run_pipeline(**arrays, metadata={}))"
        )
        subprocess.run([told["python"], "-c", code], check=True)
        return np.load("product.npy")

def beside(method):
    sys.path += told["packages"]
    import geolift
    return geolift.benchmark.HyperBenchPipeline(method, refine="off")

config = BenchmarkConfig(
    scene_path="scene.mat", psf_names=["moffat"], save_csv=False, fail_fast=True,
    degradation_specs=[DegradationSpec(downsample_ratio=4, msi_band_count=8, spatial_snr_db=35.0)],
)
pipeline = beside if told["beside"] else Elsewhere
found = {}
for method in told["methods"]:
    adapter = PipelineAdapter(pipeline(method), name=method)
    found[method] = run_benchmark(adapter, config).rows[0]
print(json.dumps({"numpy": np.__version__, "rows": found}, default=str))
"""


@pytest.mark.parametrize("beside", [False, True], ids=["arrays go by file", "in one process"])
def test_hyperbench_finds_the_same_measures_as_geolift_benchmark(tmp_path: Path, beside: bool) -> None:
    home = ROOT / ".tools" / "hyperbench"
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        pytest.skip("needs HyperBench in .tools/hyperbench; .ci/install-hyperbench puts it there")
    scene = np.moveaxis(spectra_of(np.linspace(420, 1000, 40), 35, 38, seed=5), 0, 2)
    # HyperBench squeezes what is not whole blocks; `geolift benchmark` crops it first.
    scipy.io.savemat(tmp_path / "scene.mat", {"data": scene[:32, :36]})
    (tmp_path / "uncropped").mkdir()
    scipy.io.savemat(tmp_path / "uncropped" / "scene.mat", {"data": scene})
    methods = ["linear", "auto"]
    packages = [sysconfig.get_path("purelib")]
    told = {"beside": beside, "methods": methods, "python": sys.executable, "packages": packages}
    version = subprocess.run(
        [python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True, check=True
    )
    if beside and tuple(map(int, version.stdout.split())) != sys.version_info[:2]:
        pytest.skip("HyperBench's environment has another Python; its process cannot import our packages")
    done = subprocess.run(
        [python, "-c", THERE, json.dumps(told)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout.splitlines()[-1])
    assert theirs["numpy"].startswith("1.26")
    settings = BenchmarkSettings(method=methods, psf="moffat", srf_bands="8")
    ours = sweep.run([str(tmp_path / "uncropped" / "scene.mat")], tmp_path / "ours.csv", settings)
    assert ours.exit_code == 0
    for row in ours.rows:
        found = theirs["rows"][row["method"]]
        assert found["status"] == "success" and found["gt_shape"] == [32, 36, 40]
        for name, own in MEASURES.items():
            # NumPy 1.26 and 2 round differently with AVX-512, and a network's training carries that on.
            digits = 1e-4 if row["method"] == "linear" else 5e-4
            assert float(row[own]) == pytest.approx(found[name], rel=digits), (row["method"], name)
