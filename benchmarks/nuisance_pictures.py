"""The pictures of docs/real-pairs.md: what no fault and four faults look like, and how far off a product is.

    python benchmarks/nuisance_pictures.py docs/images

Writes ``fault-NAME.png`` for each: the two images as they are given, the default product, and the error (root mean
square over bands, in per cent reflectance) of ``--refine off`` and of the default. What the fault touches is hatched.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np
from faults import FAULTS, Pair
from nuisances import fused, scene
from PIL import Image

SHOWN = {
    "none": "none",
    "cloud": "cloud and its shadow (share)",
    "change": "change (share)",
    "dead-columns": "dead columns of the HSI",
    "terrain": "terrain (MSI pixels rms)",
}
RGB_NM = (665.0, 560.0, 490.0)
WORST_PERCENT = 1.5


def colours(image: np.ndarray, wavelength_nm: np.ndarray) -> np.ndarray:
    """Return an image (band, y, x) in natural colours (y, x, 3), stretched alike for all of a scene."""
    chosen = [int(np.argmin(abs(wavelength_nm - nm))) for nm in RGB_NM]
    return np.clip(np.nan_to_num(image[chosen]) / 0.28, 0, 1).transpose(1, 2, 0) ** (1 / 1.6)


def error_percent(product: np.ndarray, pair: Pair) -> np.ndarray:
    """Root mean square error over bands (y, x) in per cent reflectance, in the MSI's geometry."""
    truth = pair.truth if pair.moved_truth is None else pair.moved_truth
    return 100 * np.sqrt(np.square(product - truth).mean(axis=0))


def draw(name: str, pair: Pair, path: Path) -> None:
    """Fuse a pair with and without refinement and draw what comes of it."""
    from matplotlib import pyplot as plt

    default, codes = fused(pair)
    off, _ = fused(pair, refine="off")
    figure, axes = plt.subplots(1, 5, figsize=(10, 2.2), dpi=100, layout="constrained")
    pictures = {
        "HSI": colours(pair.hsi, pair.wavelength_nm),
        "MSI": colours(pair.msi, pair.msi_nm),
        "product": colours(default, pair.wavelength_nm),
    }
    for axis, (title, picture) in zip(axes, pictures.items(), strict=False):
        axis.imshow(picture, interpolation="nearest", extent=(0, 1, 0, 1))
        axis.set_title(title, fontsize=9)
    for axis, title, product in zip(axes[3:], ("error, refine off", "error, default"), (off, default), strict=True):
        shown = axis.imshow(error_percent(product, pair), cmap="magma", vmin=0, vmax=WORST_PERCENT, extent=(0, 1, 0, 1))
        if pair.touched.any():
            axis.contourf(pair.touched[::-1], levels=[0.5, 1], colors="none", hatches=["////"], extent=(0, 1, 0, 1))
        axis.set_title(title, fontsize=9)
    figure.colorbar(shown, ax=axes[-1], label="% reflectance", extend="max", shrink=0.8)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    print(f"{path}: {name}, found {', '.join(codes) or 'nothing'}")
    figure.canvas.draw()
    drawn = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    drawn.quantize(128).save(path, optimize=True)
    plt.close(figure)


def main() -> int:
    """Draw every fault at its middle strength."""
    matplotlib.use("Agg")
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images")
    for name, fault in SHOWN.items():
        plant, levels = FAULTS[fault]
        draw(fault, plant(scene(None, 3), levels[min(1, len(levels) - 1)]), folder / f"fault-{name}.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
