"""EnMAP and Sentinel-2 as the agencies deliver them: look, check, fuse.

    python examples/from_products.py ENMAP_FOLDER SENTINEL2.SAFE OUT.tif

No file is renamed or converted. What a product means (scales, offsets, wavelengths, bad bands, clouds) is read from its
own metadata; the spacecraft as well, so that no sensor has to be named exactly.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import geolift
from geolift.pipeline import files, pair_check
from geolift.pipeline.describe import describe
from geolift.settings import FuseSettings, PairSettings


def main(enmap: Path, sentinel2: Path, output: Path, **options: Any) -> dict[str, Any]:
    """Look at both products, check them against each other, fuse them into a file."""
    for path in (enmap, sentinel2):
        seen = describe(geolift.open(path))
        print(f"{seen.product or path.name}: {seen.bands} bands, {seen.shape} pixels, {seen.crs}")

    # The commonest mistakes make a plausible, wrong cube; this names them.
    checked = pair_check.check_files(str(enmap), str(sentinel2), PairSettings(sensor="sentinel2"))
    for finding in checked["verdict"]:
        print(f"check: {finding['code']}: {finding['message']}")

    result = files.fuse_files(enmap, sentinel2, output, FuseSettings(sensor="sentinel2", **options))
    facts = result.to_json()
    for text in facts["warnings"]:
        print(f"warning: {text}")
    print(f"{result.output}: {facts['written']['valid_pixels']} pixels; {result.output.stem}.json tells the rest")
    return facts


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
