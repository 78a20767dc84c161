"""The whole pipeline with one thread, two, four, … up to the cores of this machine: where threads stop to help."""

from __future__ import annotations

import tempfile
from pathlib import Path

from common import MSI_BANDS, SENSOR, Clock, arguments, geolift, make_hsi, make_msi, table

from geolift.network.engine import choose_engine
from geolift.pipeline.trained import inverted, load_trained
from geolift.readers import open_cube
from geolift.runtime.machine import available_cpus
from geolift.settings import ApplySettings
from geolift.writer import Encoding, write_cube

TILE = 256


def main() -> None:
    """Measure."""
    given = arguments(__doc__ or "", bands=200, tiles=8, most=available_cpus())
    counts = [1]
    while counts[-1] < given.most:
        counts.append(min(2 * counts[-1], given.most))
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        hsi, model, out = make_hsi(folder / "hsi.tif", given.bands, 300), folder / "model.safetensors", folder / "o.tif"
        msi = make_msi(folder / "msi.tif", given.bands, given.tiles * TILE)
        geolift("train", hsi, "--sensor", SENSOR, "--msi-bands", ",".join(MSI_BANDS), "-o", model, "--overwrite", "-q")
        trained = load_trained(model)
        for device in dict.fromkeys(("cpu", choose_engine("auto").device)):
            settings = ApplySettings(overwrite=True, device=device)
            fused = inverted(open_cube(msi, None, TILE), (0, 1, 2, 3), trained, settings)
            for threads in counts:
                out.unlink(missing_ok=True)
                with Clock() as clock:
                    encoding = Encoding.of(settings, 1e-4)
                    write_cube(fused.cube, out, settings, encoding=encoding, threads=threads, source=fused.source)
                row = {"device": device, "threads": threads, "ms per tile": 1e3 * clock.wall_s / given.tiles**2}
                row |= {
                    "cores busy": clock.cpu_s / clock.wall_s,
                    "Mpx/s": given.tiles**2 * TILE**2 / 1e6 / clock.wall_s,
                }
                rows.append(row)
    table(rows, given.json)


if __name__ == "__main__":
    main()
