"""Digests of what small runs of every kind write: a change that should change nothing shows that it does.

    python tools/digest_products.py before.json                   # in the tree as it was
    python tools/digest_products.py after.json --same before.json # exits 1 and names each run that differs

A digest covers decoded pixels, grid, band metadata and the sidecar without times, paths and versions. They hold for
one machine and one set of libraries. About a minute of CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import rasterio

from geolift.cli import main as geolift_main
from geolift.datamodel.cube import REFLECTANCE, Bands, bands_of, grid_of, make_cube
from geolift.demo import showcase
from geolift.readers import open_cube
from geolift.settings import WritingSettings
from geolift.writer import Encoding, choose_scale, write_cube

EDGE_PX = 96
WIDTH = 4
"""Bands of the demo that make one of the small runs'."""
TEN_BANDS = "B02,B03,B04,B05,B06,B07,B08,B8A,B11,B12"
RUNS = {
    "default": "fine/hsi.tif fine/msi.tif -o default.tif --report default.html",
    "refine-off": "hsi.tif msi.tif -o off.tif --refine off",
    "linear": "hsi.tif msi.tif -o linear.tif --method linear --dtype float32 --bands 1-20,30-",
    "spectralift": "hsi.tif msi.tif -o lift.tif --method spectralift --bands 1-20 --max-train-pixels 60",
    "spectramorph": "hsi.tif msi.tif -o morph.tif --method spectramorph --abundances shares.tif --endmembers 4 "
    "--bands 1-20 --max-train-pixels 60",
    "trust": "hsi.tif msi.tif -o trust.tif --qa qa.tif --uncertainty error.tif --save-model model.safetensors",
    "local": "hsi.tif msi.tif -o local.tif --coregister local --harmonize affine",
    "cog": "hsi.tif msi.tif -o cog.tif -f COG --dtype uint16 --refine off",
    "envi": "hsi.tif msi.tif -o envi.img -f ENVI --extent msi --refine off",
    "zarr": "hsi.tif msi.tif -o cube.zarr -f Zarr --tile-size 32",
    "ten-bands": f"ten/lr_hsi.tif ten/hr_msi.tif -o ten.tif --msi-bands {TEN_BANDS}",
}
OTHERS = {
    "simulate": f"simulate truth.tif -o ten --msi-bands {TEN_BANDS} --snr 40",
    "apply": "apply model.safetensors msi.tif -o applied.tif",
    "batch": "batch jobs.csv",
    "mosaic": "mosaic off.tif local.tif -o mosaic.tif",
    "check": "check hsi.tif msi.tif",
    "coregister": "coregister hsi.tif msi.tif",
    "evaluate": "evaluate default.tif fine/truth.tif --ratio 3",
    "info": "info default.tif",
}
CHANGING = re.compile(
    r"timings|_s$|seconds|created|modified|datetime|software|version|bytes|memory|plan|command|checksum"
)
"""Keys of a sidecar that tell of the run's time, place or machine."""


def make_inputs(folder: Path) -> None:
    """Write the demo's pair, a pair of a quarter of its bands, and a manifest."""
    showcase.make_pair(folder / "fine", size=EDGE_PX)
    for name in ("hsi", "truth"):
        cube = open_cube(folder / "fine" / f"{name}.tif")
        fine = bands_of(cube)
        groups = np.arange(len(fine.good)).reshape(-1, WIDTH)
        centre, width = fine.wavelength_nm[groups].mean(axis=1), fine.fwhm_nm[groups].sum(axis=1)
        bands = Bands(tuple(f"band {i + 1}" for i in range(len(groups))), centre, width, fine.good[groups].all(axis=1))
        values = cube.values[groups].mean(axis=1)
        settings = WritingSettings()
        encoding = Encoding.of(settings, choose_scale(settings.dtype, REFLECTANCE, values))
        coarse = make_cube(values, grid=grid_of(cube), bands=bands)
        write_cube(coarse, folder / f"{name}.tif", settings, encoding=encoding)
    shutil.copy(folder / "fine" / "msi.tif", folder)
    (folder / "jobs.csv").write_text("hsi,msi,out,sensor\nhsi.tif,msi.tif,batched.tif,sentinel-2a\n", "utf-8")


def run(words: str) -> str:
    """Run `geolift` in this process; returns what it printed."""
    printed = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
    with mock.patch.multiple(sys, argv=["geolift", *words.split()], stdout=printed):
        try:
            geolift_main()
        except SystemExit as leaving:
            if leaving.code:
                raise RuntimeError(f"geolift {words}: exit code {leaving.code}") from None
    printed.seek(0)
    return printed.read()


def steady(value: object) -> object:
    """A document without what changes from run to run."""
    if isinstance(value, dict):
        return {key: steady(item) for key, item in sorted(value.items()) if not CHANGING.search(key)}
    return [steady(item) for item in value] if isinstance(value, list) else value


def digest(*parts: object) -> str:
    """Sixteen digits of arrays and of what else can be written down."""
    found = hashlib.sha256()
    for part in parts:
        found.update(np.ascontiguousarray(part).tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
    return found.hexdigest()[:16]


def raster_digest(path: Path) -> str:
    """Digest of a product's pixels and metadata."""
    if path.suffix == ".zarr":
        cube = open_cube(path)
        named = {key: value for key, value in cube.attrs.items() if str(path.parent.resolve()) not in repr(value)}
        return digest(cube.values, named, sorted(cube.coords))
    with rasterio.open(path) as source:
        tags = [sorted(source.tags(band).items()) for band in range(1, source.count + 1)]
        described = (source.crs.to_wkt(), tuple(source.transform), source.dtypes, source.nodata, source.scales)
        return digest(source.read(), described, source.descriptions, source.offsets, tags)


def page_digest(path: Path, folder: str) -> str:
    """Digest of a report's words; its figures of time and machine are left out line by line."""
    text = re.sub(r"<(script|style|svg)\b.*?</\1>|data:[^\"']*|<[^>]+>", " ", path.read_text("utf-8"), flags=re.S)
    lines = [line.strip() for line in text.replace(folder, "").splitlines()]
    moving = re.compile(r"\d\s*(s|min|h|MB|GB|KB|kB|B)\b|20\d\d-|threads|version|geolift \d|Python")
    return digest([line for line in lines if line and not moving.search(line)])


def all_digests(folder: Path) -> dict[str, str]:
    """Make the pair and every run in a folder; returns a digest for each thing written or printed."""
    make_inputs(folder)
    digests: dict[str, str] = {}

    def told(text: str) -> object:
        return steady(json.loads(text.replace(str(folder), "").replace(str(folder.resolve()), "")))

    run(OTHERS["simulate"] + " --sensor sentinel-2a -q")
    for name, words in RUNS.items():
        run(f"fuse {words} --sensor sentinel-2a -q")
        product = folder / words.split(" -o ")[1].split()[0]
        digests[name] = raster_digest(product)
        digests[f"{name} sidecar"] = digest(told(product.with_suffix(".json").read_text("utf-8")))
    for name, words in list(OTHERS.items())[1:]:
        sensor = " --sensor sentinel-2a" if name in ("check", "coregister") else ""
        printed = run(f"{words}{sensor} -q --json")
        digests[f"{name} document"] = digest(told(printed))
    for name in ("shares", "qa", "error", "applied", "mosaic", "batched"):
        digests[f"{name}.tif"] = raster_digest(folder / f"{name}.tif")
    digests["report"] = page_digest(folder / "default.html", str(folder))
    return digests


def main() -> int:
    """Write the digests; compare them with earlier ones where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--same", type=Path, help="earlier digests that these have to equal")
    arguments = parser.parse_args()
    out, same = arguments.out.resolve(), arguments.same and arguments.same.resolve()
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        digests = all_digests(Path(name))
    out.write_text(json.dumps(digests, indent=1) + "\n", "utf-8")
    earlier = json.loads(same.read_text("utf-8")) if same else digests
    differing = sorted(key for key in digests.keys() | earlier.keys() if digests.get(key) != earlier.get(key))
    print("\n".join(f"differs: {key}" for key in differing) or f"{len(digests)} digests")
    return 1 if differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
