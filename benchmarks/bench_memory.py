"""Peak of resident memory against scene size and budget; it may not grow with the scene."""

from __future__ import annotations

import tempfile
from pathlib import Path

from common import MSI_BANDS, SENSOR, arguments, geolift, make_hsi, make_msi, table


def main() -> None:
    """Measure."""
    given = arguments(__doc__ or "", bands=200, largest=6000)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        hsi, model = make_hsi(folder / "hsi.tif", given.bands, 300), folder / "model.safetensors"
        geolift("train", hsi, "--sensor", SENSOR, "--msi-bands", ",".join(MSI_BANDS), "-o", model, "--overwrite", "-q")
        for size in [size for size in (1500, 3000, 6000, 10980) if size <= given.largest]:
            msi = make_msi(folder / "msi.tif", given.bands, size)
            for budget in ("1GB", "2GB"):
                out = folder / "out.tif"
                run = geolift("apply", model, msi, "-o", out, "--overwrite", "--memory", budget, "--progress", "none")
                rows.append(
                    {
                        "size": size,
                        "budget": budget,
                        "peak GB": run.peak_bytes / 1e9,
                        "wall s": run.wall_s,
                        "CPU s": run.cpu_s,
                        "Mpx per CPU s": size * size / 1e6 / run.cpu_s,
                    }
                )
                out.unlink()
    table(rows, given.json)


if __name__ == "__main__":
    main()
