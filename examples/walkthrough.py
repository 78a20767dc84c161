"""From two files to a red-edge map, in Python with xarray, on the demo landscape.

    python examples/walkthrough.py [FOLDER]

Nothing is computed before it is asked for: `geolift.open` and `geolift.fuse` return lazy arrays, so the same lines work
on a scene that does not fit into memory. Replace `showcase.make_pair` by the paths of your own files.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import rioxarray  # noqa: F401 - gives arrays their .rio
import xarray as xr

import geolift
from geolift.demo import showcase


def nearest(cube: xr.DataArray, wavelength_nm: float) -> xr.DataArray:
    """Return the band whose centre is nearest to a wavelength."""
    return cube[int(np.abs(cube.wavelength.data - wavelength_nm).argmin())]


def main(folder: Path, size: int = 384, **options: int) -> dict[str, float]:
    """Make a pair, fuse it, map the red edge, measure."""
    pair = showcase.make_pair(folder, size=size, overwrite=True)
    hsi, msi = geolift.open(pair.paths["hsi"]), geolift.open(pair.paths["msi"])
    print(f"HSI {dict(hsi.sizes)} at {abs(hsi.rio.resolution()[0]):.0f} m")
    print(f"MSI {dict(msi.sizes)} at {abs(msi.rio.resolution()[0]):.0f} m")

    # Training happens here, the pixels come later.
    fused = geolift.fuse(hsi, msi, sensor="sentinel-2a", **options)

    # A spectrum: the bands of one pixel are computed, and no others.
    label, row, col = pair.places[0]
    spectrum = fused[:, row, col].compute()
    green, swir = float(nearest(spectrum, 550)), float(nearest(spectrum, 1650))
    print(f"{label}: reflectance {green:.3f} at 550 nm, {swir:.3f} at 1650 nm")

    # A map that the MSI alone cannot give: the normalised difference of two narrow bands at the red edge.
    far, near = nearest(fused, 750), nearest(fused, 705)
    edge = ((far - near) / (far + near)).compute()
    edge.rio.to_raster(folder / "red_edge.tif")
    print(f"red edge index: {float(edge.quantile(0.1)):.2f} to {float(edge.quantile(0.9)):.2f} (10 to 90 %)")

    scores = geolift.evaluate(fused, pair.paths["truth"], ratio=3)
    print(f"PSNR {scores.psnr_db:.2f} dB, SAM {scores.sam_deg:.2f}° against the truth")
    return {"psnr_db": scores.psnr_db, "sam_deg": scores.sam_deg}


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "geolift-walkthrough"))
