"""How each stage of `fuse` grows with the scene: CPU seconds of one thread at three sizes, and laws through them."""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from common import SENSOR, arguments, make_pair, table

from geolift.pipeline.files import fuse_files
from geolift.runtime.progress import heard_by
from geolift.settings import FuseSettings

SIZES_PX = (192, 384, 768)
"""Edges of the MSI; an HSI pixel is three of its."""


class Stages:
    """A listener that notes the CPU seconds of each stage of a run."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._stage, self._since = "starting", time.process_time()

    def progress(self, stage: str, share: float, note: str = "") -> None:
        """Hear how far a stage is."""
        now = time.process_time()
        self.spent[self._stage] = self.spent.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = f"after {stage}" if share >= 1 else stage, now

    def warn(self, text: str) -> None:
        """Hear a warning."""


def main() -> None:
    """Measure."""
    given = arguments(__doc__ or "", bands=218, sizes=0)
    sizes = SIZES_PX if not given.sizes else (given.sizes // 4, given.sizes // 2, given.sizes)
    warnings.simplefilter("ignore")
    found: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for size in (sizes[0], *sizes):  # the first run pays for imports and compiling
            folder = (given.folder or Path(temporary)) / str(size)
            folder.mkdir(exist_ok=True)
            hsi, msi = make_pair(folder, given.bands, size)
            stages = Stages()
            settings = FuseSettings(sensor=SENSOR, threads=1, overwrite=True)
            with heard_by(stages):
                fuse_files(str(hsi), str(msi), folder / "fused.tif", settings)
            stages.progress("end", 1.0)
            found.append(stages.spent)
    rows = []
    pixels = np.square(np.array(sizes) / 3.0)
    for stage in found[-1]:
        seconds = np.array([spent.get(stage, 0.0) for spent in found[1:]])
        power = np.polyfit(np.log(pixels), np.log(np.maximum(seconds, 1e-3)), 1)[0]
        row: dict[str, object] = {"stage": stage}
        row |= {f"{size}², s": value for size, value in zip(sizes, seconds, strict=True)}
        each = 1e6 * np.polyfit(pixels, seconds, 1)[0]
        rows.append(row | {"pixels to the": power, "us a HSI pixel more": each})
    table(rows, given.json)


if __name__ == "__main__":
    main()
