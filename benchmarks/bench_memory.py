"""Peak of resident memory against scene size and budget; it may not grow with the scene."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from common import MSI_BANDS, SENSOR, Measured, arguments, geolift, make_hsi, make_msi, make_pair, table

SIZES = (1500, 3000, 6000, 10980)
BUDGETS = ("1GB", "2GB")


def row(command: str, size: int, budget: str, run: Measured) -> dict[str, Any]:
    return {
        "command": command,
        "size": size,
        "budget": budget,
        "peak GB": run.peak_bytes / 1e9,
        "wall s": run.wall_s,
        "CPU s": run.cpu_s,
        "Mpx per CPU s": size * size / 1e6 / run.cpu_s,
    }


def main() -> None:
    """Measure."""
    given = arguments(__doc__ or "", bands=200, largest=6000, fuse_bands=60, fuse_largest=3000)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        hsi, model, out = make_hsi(folder / "h.tif", given.bands, 300), folder / "model.safetensors", folder / "out.tif"
        geolift("train", hsi, "--sensor", SENSOR, "--msi-bands", ",".join(MSI_BANDS), "-o", model, "--overwrite", "-q")
        common = ("-o", out, "--overwrite", "--progress", "none", "--memory")
        for size in [size for size in SIZES if size <= given.largest]:
            msi = make_msi(folder / "m.tif", given.bands, size)
            for budget in BUDGETS:
                rows.append(row("apply", size, budget, geolift("apply", model, msi, *common, budget)))
        for size in [size for size in SIZES if size <= given.fuse_largest]:
            pair = make_pair(folder, given.fuse_bands, size)
            for budget in BUDGETS:
                run = geolift("fuse", *pair, "--sensor", SENSOR, *common, budget)
                rows.append(row("fuse", size, budget, run))
    table(rows, given.json)


if __name__ == "__main__":
    main()
