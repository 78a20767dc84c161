"""The examples run, each on a scene small enough for a test."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import product_files
import pytest
import rasterio
from scenes import ORIGIN, make_pair, spectra_of

from geolift.batch import jobs as batch_jobs
from geolift.batch.manifest import read_manifest
from geolift.srf import SpectralResponse

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def test_every_example_is_run_here() -> None:
    tested = {"walkthrough.py", "from_products.py", "batch_on_dask.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested


def test_the_walkthrough_maps_the_red_edge(tmp_path: Path) -> None:
    main = runpy.run_path(str(EXAMPLES / "walkthrough.py"))["main"]
    scores = main(tmp_path, size=96, max_train_pixels=200)
    assert scores["psnr_db"] > 25
    with rasterio.open(tmp_path / "red_edge.tif") as edge, rasterio.open(tmp_path / "msi.tif") as msi:
        assert (edge.shape, edge.transform, edge.crs) == (msi.shape, msi.transform, msi.crs)
        assert np.nanmax(np.abs(edge.read(1))) <= 1


def test_products_are_fused_as_delivered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ORIGIN == (product_files.LEFT, product_files.TOP)
    wavelength, fwhm = np.linspace(420, 1000, 40), np.full(40, 16.0)
    truth = spectra_of(wavelength, 96, 84)
    coarse = truth.reshape(40, 32, 3, 28, 3).mean(axis=(2, 4))
    enmap = product_files.enmap(tmp_path / "enmap", values=coarse, nm=wavelength, fwhm=fwhm)
    names = product_files.S2_TEN
    weights = SpectralResponse.from_library("sentinel-2b").select(names).weights(wavelength, fwhm).weights
    layers = dict(zip(names, np.einsum("cb,byx->cyx", weights, truth), strict=True))
    safe = product_files.sentinel2(tmp_path, values=layers)
    main = runpy.run_path(str(EXAMPLES / "from_products.py"))["main"]
    facts = main(enmap, safe, tmp_path / "fused.tif", max_train_pixels=200)
    assert facts["model"]["sensor"] == "sentinel-2b"
    assert "check: " in capsys.readouterr().out
    with rasterio.open(tmp_path / "fused.tif") as fused:
        assert (fused.count, fused.shape) == (40, (96, 84))
        values = fused.read(masked=True) * 1e-4
    # The product's bad band stays empty; the others come near the truth that was hidden from the run.
    assert values[4].count() == 0
    assert values.count() > 0.9 * values.size
    assert np.sqrt(np.ma.mean((values - truth) ** 2)) < 0.03


def test_a_batch_runs_on_a_dask_cluster(tmp_path: Path) -> None:
    pair = make_pair(tmp_path)
    manifest = tmp_path / "m.csv"
    rows = [f"{pair.hsi.name},{pair.msi.name},out/a.tif", f"nowhere.tif,{pair.msi.name},out/b.tif"]
    manifest.write_text("\n".join(["hsi,msi,out,sensor,max-train-pixels", *(f"{row},s2a,200" for row in rows)]) + "\n")
    command = [sys.executable, str(EXAMPLES / "batch_on_dask.py"), str(manifest)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert first.returncode == 1, first.stderr
    assert "nowhere.tif: no such file" in first.stdout
    sidecar = json.loads((tmp_path / "out" / "a.json").read_text(encoding="utf-8"))
    assert sidecar["properties"]["geolift:settings"]["sensor"] == "s2a"
    states = [batch_jobs.state_of(job).kind for job in read_manifest(manifest)]
    assert states == ["finished", "missing"], "a second call leaves the first alone"
