"""Side by side with AROSICS 1.12.1 on the same GeoTIFF files: error and time per scene class.

    python benchmarks/coregistration_arosics.py [--quick]

Needs .tools/arosics (built by .ci/install-arosics) and the real scenes. AROSICS gets the MSI as reference and the
MSI simulated from the HSI as target, its most favourable input, with its defaults (window 256 x 256 pixels) and a
search radius of eight MSI pixels; times are processor seconds from opening the files to the
shift, without imports; both are asked in turn, pair by pair, so a busy machine slows both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from coregistration_scenes import CLASSES, FOLDER, Planted, mosaic, plant

from geolift.pair.coregistration import estimate_shift

PYTHON = Path(__file__).resolve().parent.parent / ".tools" / "arosics" / "bin" / "python"
GSD_M, CRS = 10.0, "EPSG:32633"

ASK_AROSICS = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
from arosics import COREG
for line in sys.stdin:
    case = json.loads(line)
    best = None
    begin = time.process_time()
    try:
        found = COREG(case["msi"], case["hsi"], r_b4match=case["band"], s_b4match=case["band"], max_shift=8,
                      nodata=(-1, -1), q=True, progress=False, CPUs=1)
        found.calculate_spatial_shifts()
        shift = [-found.y_shift_map / case["gsd"], found.x_shift_map / case["gsd"]]
        reliability = found.shift_reliability
    except Exception as error:
        shift, reliability = None, str(error)[:80]
    print("RESULT" + json.dumps({"shift": shift, "seconds": time.process_time() - begin,
                                 "reliability": reliability}), flush=True)
"""


def write(path: Path, image: np.ndarray, left: float, top: float, gsd: float) -> None:
    profile = {"driver": "GTiff", "dtype": "float32", "count": len(image), "crs": CRS, "nodata": -1}
    shape = {"height": image.shape[1], "width": image.shape[2]}
    with rasterio.open(path, "w", transform=Affine(gsd, 0, left, 0, -gsd, top), **profile, **shape) as out:
        out.write(np.where(np.isnan(image), -1, image).astype(np.float32))


def files_of(pair: Planted, folder: Path, name: str) -> dict[str, object]:
    edge = pair.margin * pair.ratio * GSD_M
    msi, hsi = folder / f"{name}_msi.tif", folder / f"{name}_hsi.tif"
    write(msi, pair.msi_fine, 400_000, 5_800_000, GSD_M)
    write(hsi, pair.simulated, 400_000 + edge, 5_800_000 - edge, GSD_M * pair.ratio)
    return {"msi": str(msi), "hsi": str(hsi), "band": 3, "gsd": GSD_M}


def cases(quick: bool) -> list[tuple[str, Planted]]:
    rng = np.random.default_rng(7)
    found = []
    for number, (name, members) in enumerate(CLASSES.items()):
        for ratio in (3, 4, 6, 10):
            for seed in range(1 if quick else 3):
                image = mosaic(members, 620, 100 * number + seed)
                shift = tuple(rng.uniform(-6, 6, 2))
                psf = ("gauss:1.0", "none", "gauss:1.6")[seed]
                found.append((name, plant(image, ratio, shift, psf, float(rng.uniform(25, 40)), rng)))
    return found


def ask_arosics(asked: subprocess.Popen[str], question: dict[str, object]) -> dict[str, object]:
    assert asked.stdin and asked.stdout
    print(json.dumps(question), file=asked.stdin, flush=True)
    for line in asked.stdout:
        if "RESULT" in line:
            return dict(json.loads(line.split("RESULT")[1]))
    raise RuntimeError("AROSICS gave no answer; its own messages are above")


def ask_geolift(question: dict[str, object], pair: Planted) -> tuple[list[float], float]:
    begin = time.process_time()
    with rasterio.open(str(question["msi"])) as file:
        msi = file.read()
    with rasterio.open(str(question["hsi"])) as file:
        hsi = file.read()
    msi[msi == -1] = np.nan
    found = estimate_shift(hsi, msi, pair.ratio, pair.margin, max_shift_px=8.0)
    return [found.dy, found.dx], time.process_time() - begin


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="a third of the cases")
    quick = options.parse_args().quick
    if not PYTHON.exists() or not FOLDER.is_dir():
        missing = "AROSICS: run .ci/install-arosics" if FOLDER.is_dir() else "the real scenes in ../shared/data"
        print(f"skipped: needs {missing}", file=sys.stderr)
        return
    groups: dict[tuple[str, int], list[tuple[float, float, float, float]]] = defaultdict(list)
    command = [str(PYTHON), "-c", ASK_AROSICS]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as arosics,
    ):
        for number, (name, pair) in enumerate(cases(quick)):
            question = files_of(pair, Path(folder), str(number))
            theirs = ask_arosics(arosics, question)
            ours, seconds = ask_geolift(question, pair)
            truth = np.array([pair.dy, pair.dx])
            failed = theirs["shift"] is None
            their_error = np.inf if failed else float(np.hypot(*(np.array(theirs["shift"], float) - truth)))
            our_error = float(np.hypot(*(np.array(ours) - truth)))
            groups[name, pair.ratio].append((our_error, their_error, seconds, float(str(theirs["seconds"]))))
    print("class     ratio   n   geolift: median    max  seconds   AROSICS: median    max  failed  seconds")
    for (name, ratio), rows in groups.items():
        a, b, c, d = np.array(rows).T
        real = b[np.isfinite(b)]
        print(
            f"{name:9} {ratio:5} {len(rows):3} {np.median(a):17.3f} {a.max():6.3f} {np.median(c):8.3f}"
            f" {np.median(real) if real.size else np.nan:17.3f} {real.max() if real.size else np.nan:6.3f}"
            f" {np.isinf(b).sum():7} {np.median(d):8.3f}"
        )


if __name__ == "__main__":
    main()
