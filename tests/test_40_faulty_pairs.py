"""Each ordinary fault goes through the whole job: what is written down can be read back and shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from faults import FAULTS, RATIO, Pair, flawless

from geolift.demo.landscape import make_scene
from geolift.pipeline import files
from geolift.provenance.record import read_record
from geolift.provenance.sidecar import sidecar_path
from geolift.report.page import make_report
from geolift.settings import FuseSettings
from geolift.srf import SpectralResponse

MSI_BANDS = ("B02", "B03", "B04", "B05", "B08", "B11")
GRID = Affine(30.0, 0, 364095.0, 0, -30.0, 5809965.0)


@pytest.fixture(scope="module")
def scene() -> tuple[Pair, np.ndarray]:
    made = make_scene(seed=3, rows=66, cols=72)
    chosen = np.flatnonzero(made.good)[::9]
    fwhm = 9 * made.fwhm_nm[chosen]
    response = SpectralResponse.from_library("sentinel-2a").select(MSI_BANDS)
    weights = response.weights(made.wavelengths_nm[chosen], fwhm).weights
    truth = np.asarray(made.reflectance[chosen], np.float32)
    return flawless(truth, made.wavelengths_nm[chosen], response.centres_nm, weights, 0), fwhm


def write(path: Path, values: np.ndarray, grid: Affine) -> None:
    count, height, width = values.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=count, dtype="float32", crs="EPSG:32633",
        transform=grid, nodata=np.nan,
    ) as image:  # fmt: skip
        image.write(values.astype(np.float32))


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_is_found_is_written_so_that_it_can_be_read(
    fault: str, scene: tuple[Pair, np.ndarray], tmp_path: Path
) -> None:
    sound, fwhm = scene
    plant, strengths = FAULTS[fault]
    pair = plant(
        flawless(sound.truth, sound.wavelength_nm, sound.msi_nm, sound.weights, seed=4),
        strengths[min(1, len(strengths) - 1)],
    )
    hsi, msi, product = tmp_path / "hsi.tif", tmp_path / "msi.tif", tmp_path / "fused.tif"
    write(hsi, pair.hsi, GRID * Affine.scale(RATIO))
    write(msi, pair.msi, GRID)
    with rasterio.open(hsi, "r+") as image:
        for band, nm in enumerate(pair.wavelength_nm):
            image.update_tags(band + 1, wavelength=str(nm), wavelength_units="nm", fwhm=str(fwhm[band]))
    with rasterio.open(msi, "r+") as image:
        image.descriptions = MSI_BANDS
    settings = FuseSettings(sensor="sentinel-2a", msi_bands=MSI_BANDS, qa=tmp_path / "qa.tif")

    files.fuse_files(hsi, msi, product, settings)

    record = read_record(sidecar_path(product))
    assert record.harmonization is not None and (fault != "MSI values to a power" or record.harmonization.curve)
    assert make_report(product, tmp_path / "report.html").read_text().count("<svg") > 2
