"""The examples run, each on a scene small enough for a test."""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import product_files
import pytest
import rasterio
from rasterio.warp import transform_bounds
from scenes import ORIGIN, make_pair, spectra_of
from serving import serving
from test_22_stac import save as save_item

from geolift.batch import jobs as batch_jobs
from geolift.batch.manifest import read_manifest
from geolift.srf import SpectralResponse

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
pytestmark = pytest.mark.usefixtures("few_bands", "few_steps")


def test_every_example_is_run_here() -> None:
    tested = {"walkthrough.py", "from_products.py", "batch_on_queue.py", "from_stac.py"}
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


def test_a_batch_runs_on_a_cluster_that_is_lent(tmp_path: Path) -> None:
    pair = make_pair(tmp_path)
    manifest = tmp_path / "m.csv"
    rows = [f"{pair.hsi.name},{pair.msi.name},out/a.tif", f"nowhere.tif,{pair.msi.name},out/b.tif"]
    manifest.write_text("\n".join(["hsi,msi,out,sensor,max-train-pixels", *(f"{row},s2a,200" for row in rows)]) + "\n")
    command = [sys.executable, str(EXAMPLES / "batch_on_queue.py"), "Local", str(manifest)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert first.returncode == 3, first.stderr
    assert "nowhere.tif: no such file" in first.stdout
    sidecar = json.loads((tmp_path / "out" / "a.json").read_text(encoding="utf-8"))
    assert sidecar["properties"]["geolift:settings"]["sensor"] == "s2a"
    states = [batch_jobs.state_of(job).kind for job in read_manifest(manifest)]
    assert states == ["finished", "missing"], "a second call leaves the first alone"


def test_a_stac_api_is_searched_and_its_clearest_scene_fused(tmp_path: Path) -> None:
    """The API is `rustac serve` on loopback, the assets come from a file server that refuses now and then."""
    pytest.importorskip("pystac_client", reason="needs pystac-client from PyPI")
    server = shutil.which("rustac", path=Path(sys.executable).parent)
    if server is None:
        pytest.skip("needs the command rustac from PyPI beside this Python")
    pair = make_pair(tmp_path / "pair", rows=96, cols=84)
    with rasterio.open(pair.msi) as msi:
        layers = msi.read() * 1e-4
        outline = transform_bounds(msi.crs, "EPSG:4326", *msi.bounds)
    with serving(tmp_path, refuse_every=4) as log:
        items = []
        for name, cloud in (("clear", 3.0), ("cloudy", 80.0)):
            file = save_item(tmp_path / name, layers, {"raster:scale": 1e-4, "raster:offset": -0.1})
            item = json.loads(file.read_text())
            for asset in item["assets"].values():
                asset["href"] = f"{log.address}/{name}/{Path(asset['href']).name}"
            left, bottom, right, top = outline
            ring = [[left, bottom], [right, bottom], [right, top], [left, top], [left, bottom]]
            item |= {"id": name, "collection": "s2", "links": [], "bbox": list(outline)}
            item |= {"geometry": {"type": "Polygon", "coordinates": [ring]}}
            item["properties"]["eo:cloud_cover"] = cloud
            items.append(item)
        (tmp_path / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
        with rustac(Path(server), tmp_path / "items.json") as api:
            main = runpy.run_path(str(EXAMPLES / "from_stac.py"))["main"]
            facts = main(pair.hsi, api, "s2", tmp_path / "fused.tif", max_train_pixels=200)
    assert any("offset -0.1 are taken from this STAC item" in text for text in facts["warnings"])
    assert not any(path.startswith("/cloudy") for _, path, _ in log.requests)
    with rasterio.open(tmp_path / "fused.tif") as fused:
        values = fused.read(masked=True) * fused.scales[0]
    assert np.sqrt(np.ma.mean((values - pair.truth) ** 2)) < 0.03


@contextlib.contextmanager
def rustac(command: Path, items: Path) -> Iterator[str]:
    """Serve items as a STAC API on a free port of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    words = [str(command), "serve", "--addr", f"127.0.0.1:{port}", "--create-collections", str(items)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=2):
                break
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=10)
