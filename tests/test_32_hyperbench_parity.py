"""The same figures as HyperBench, run in its own environment (`.ci/install-hyperbench`) on our arrays."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray

from geolift.degradation.degrade import (
    add_noise,
    apply_srf,
    block_mean,
    degrade,
    gaussian_srf,
    generated_wavelengths_nm,
    normalize_scene,
)
from geolift.degradation.psf import PSF_NAMES, psf_kernel
from geolift.metrics import Stretch, evaluate_arrays

Cube = NDArray[np.float32]
Results = dict[str, NDArray[np.float64]]
RunThere = Callable[..., Results]

ROOT = Path(__file__).resolve().parent.parent
MEASURES = ("rmse", "psnr_db", "ssim", "uiqi", "ergas", "sam_deg")

# Runs there: reads `arrays.npz`, executes the body, writes what it put into `out`. Cubes are (y, x, band).
PROLOGUE = """
import sys
import numpy as np
folder = sys.argv[1]
arrays = np.load(folder + "/arrays.npz")
out = {}
"""
EPILOGUE = """
np.savez(folder + "/results.npz", **out)
"""


@pytest.fixture
def there(tmp_path: Path) -> RunThere:
    """Run Python code beside HyperBench with the given arrays; return the arrays it puts into `out`."""
    home = ROOT / ".tools" / "hyperbench"
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        pytest.skip("needs HyperBench in .tools/hyperbench; .ci/install-hyperbench puts it there")

    def run(body: str, **arrays: NDArray[np.generic]) -> Results:
        np.savez(tmp_path / "arrays.npz", **arrays)  # type: ignore[arg-type]
        script = tmp_path / "script.py"
        script.write_text(PROLOGUE + body + EPILOGUE, encoding="utf-8")
        done = subprocess.run(
            [str(python), str(script), str(tmp_path)], capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        with np.load(tmp_path / "results.npz") as results:
            return dict(results)

    return run


def to_yxb(cube: NDArray[np.generic]) -> NDArray[np.generic]:
    return np.ascontiguousarray(np.moveaxis(cube, 0, -1))


def to_byx(cube: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.moveaxis(cube, -1, 0)


@pytest.fixture(scope="module")
def scene() -> Cube:
    """A scene of 20 bands with structure, in raw counts, 48 × 56 pixels."""
    rng = np.random.default_rng(11)
    fields = np.kron(rng.gamma(3, 300, (20, 8, 8)), np.ones((1, 6, 7)))
    return (fields + rng.gamma(2, 60, (20, 48, 56))).astype(np.float32)


def test_kernels_and_responses_equal_hyperbench(there: RunThere) -> None:
    theirs = there(
        """
from hyperbench.degradations import AVAILABLE_PSFS, make_psf
from hyperbench.degradations.srf import build_gaussian_srf, get_srf_band_specs
for name in AVAILABLE_PSFS:
    out["narrow " + name] = make_psf(name, 1.7, 4)
    out["wide " + name] = make_psf(name, 3.4, 7)
for n in (3, 4, 8, 16):
    out[f"srf {n}"], out[f"wavelengths {n}"] = build_gaussian_srf(191, get_srf_band_specs(n))
"""
    )
    assert {key.removeprefix("wide ") for key in theirs if key.startswith("wide")} == set(PSF_NAMES)
    for name in PSF_NAMES:
        np.testing.assert_allclose(psf_kernel(name, 1.7, 4), theirs["narrow " + name], atol=2e-7, err_msg=name)
        np.testing.assert_allclose(psf_kernel(name), theirs["wide " + name], atol=1e-7, err_msg=name)
    for n in (3, 4, 8, 16):
        # Theirs are float32 throughout: 1e-4 nm at 2000 nm, on the flank of a band of 55 nm.
        np.testing.assert_allclose(gaussian_srf(n, 191), theirs[f"srf {n}"], atol=3e-6)
        np.testing.assert_allclose(generated_wavelengths_nm(n, 191), theirs[f"wavelengths {n}"], rtol=1e-6)


def test_degraded_scenes_equal_hyperbench_noise_included(there: RunThere, scene: Cube) -> None:
    theirs = there(
        """
from hyperbench.degradations import make_psf, normalize_image, spatial_degradation, spectral_degradation
scene = arrays["scene"]
out["normalized"] = normalize_image(scene)
for name, ratio, snr in (("moffat", 4, 35.0), ("sinc", 8, 30.0), ("gabor", 2, 20.0)):
    psf, rng = make_psf(name, 3.4, 7), np.random.default_rng(42)
    out["lr " + name] = spatial_degradation(scene, psf, ratio, snr, rng=rng)
for n in (3, 4, 8):
    out[f"msi {n}"] = spectral_degradation(scene, 40.0, num_bands=n, rng=np.random.default_rng(43))[0]
""",
        scene=to_yxb(scene),
    )
    truth = normalize_scene(scene)
    np.testing.assert_array_equal(to_yxb(truth), theirs["normalized"])
    for name, ratio, snr_db in (("moffat", 4, 35.0), ("sinc", 8, 30.0), ("gabor", 2, 20.0)):
        hsi = add_noise(degrade(truth, psf_kernel(name), ratio), snr_db, np.random.default_rng(42))
        np.testing.assert_allclose(hsi, to_byx(theirs["lr " + name]), atol=1e-6, err_msg=name)
    for n in (3, 4, 8):
        msi = add_noise(apply_srf(truth, gaussian_srf(n, 20)), 40.0, np.random.default_rng(43))
        np.testing.assert_allclose(msi, to_byx(theirs[f"msi {n}"]), atol=2e-6)


METRICS_THERE = """
from hyperbench.metrics import evaluate_metrics
product, reference = arrays["product"], arrays["reference"]
if "stretch" in arrays:
    low, high = np.percentile(reference, [1, 99])
    product, reference = (np.clip((a - low) / (high - low), 0, 1) for a in (product, reference))
scores = evaluate_metrics(reference, product)
out["scores"] = np.array([scores[k] for k in ("RMSE", "PSNR", "SSIM", "UIQI", "ERGAS", "SAM")])
"""


def errors(cube: Cube, sigma: float) -> Cube:
    noise = np.random.default_rng(5).normal(0, sigma * float(cube.std()), cube.shape)
    return (0.99 * cube + noise).astype(np.float32)


@pytest.mark.parametrize("sigma", [0.002, 0.05, 0.4])
def test_scores_of_stretched_images_equal_hyperbench_to_four_digits(there: RunThere, scene: Cube, sigma: float) -> None:
    product = errors(scene, sigma)
    theirs = there(METRICS_THERE, product=to_yxb(product), reference=to_yxb(scene), stretch=np.ones(1))
    ours = evaluate_arrays(product, scene, convention="hyperbench")
    np.testing.assert_allclose([getattr(ours, name) for name in MEASURES], theirs["scores"], rtol=2e-5)


def test_scores_of_normalised_images_equal_hyperbench_to_six_digits(there: RunThere, scene: Cube) -> None:
    truth = normalize_scene(scene)
    product = np.clip(errors(truth, 0.1), 0, 1)
    theirs = there(METRICS_THERE, product=to_yxb(product), reference=to_yxb(truth))
    ours = evaluate_arrays(product, truth, convention="hyperbench", stretch=Stretch(0, 1))
    np.testing.assert_allclose([getattr(ours, name) for name in MEASURES], theirs["scores"], rtol=1e-6)


def test_scores_of_real_scenes_equal_hyperbench_to_four_digits(there: RunThere, shared_data: Path) -> None:
    for name in ("abu-beach-1", "abu-urban-2"):
        cube = scipy.io.loadmat(next((shared_data / "scenes").glob(f"*{name}*.mat")))["data"]
        reference = np.ascontiguousarray(to_byx(cube)[::4, :96, :96], dtype=np.float32)
        rough = block_mean(reference, 4).repeat(4, axis=1).repeat(4, axis=2)
        product = (0.3 * rough + 0.7 * reference).astype(np.float32)
        theirs = there(METRICS_THERE, product=to_yxb(product), reference=to_yxb(reference), stretch=np.ones(1))
        ours = evaluate_arrays(product, reference, convention="hyperbench")
        values = {m: getattr(ours, m) for m in MEASURES}
        np.testing.assert_allclose(list(values.values()), theirs["scores"], rtol=5e-5, err_msg=json.dumps(values))


def test_our_own_convention_equals_sewar_where_it_can_be_told_our_options(there: RunThere, scene: Cube) -> None:
    product = errors(scene, 0.2)
    theirs = there(
        """
from sewar.full_ref import ergas, psnr, rmse, sam, ssim
from sewar.utils import Filter
product, reference = arrays["product"], arrays["reference"]
peak = float(reference.max())
window = dict(fltr=Filter.GAUSSIAN, sigma=1.5, ws=11)
out["scores"] = np.array([
    rmse(reference, product), psnr(reference, product, MAX=peak),
    ssim(reference, product, MAX=peak, fltr_specs=window)[0],
    ergas(reference, product, r=1 / 6), np.degrees(sam(reference, product)),
])
""",
        product=to_yxb(product),
        reference=to_yxb(scene),
    )
    ours = evaluate_arrays(product, scene, ratio=6)
    found = [ours.rmse, ours.psnr_db, ours.ssim, ours.ergas, ours.sam_deg]
    np.testing.assert_allclose(found, theirs["scores"], rtol=1e-9)
