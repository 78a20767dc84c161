"""The state of an installation: versions, data files, resources, and a self-test on a tiny scene."""

from __future__ import annotations

from typing import TypedDict

import psutil
import rasterio
from rasterio.crs import CRS
from rasterio.drivers import is_blacklisted

from geolift.demo import showcase
from geolift.errors import ResourceError
from geolift.network.backends import compiled_for
from geolift.network.engine import gpu_name
from geolift.pipeline import files, wald
from geolift.provenance.sidecar import software_versions
from geolift.runtime.machine import available_cpus, memory_limit_bytes
from geolift.runtime.progress import SILENT, heard_by
from geolift.runtime.scratch import scratch_folder
from geolift.settings import FuseSettings
from geolift.srf import list_sensors

SELF_TEST_MAX_SAM_DEG = 20.0
DRIVERS = ("GTiff", "COG", "ENVI", "JP2OpenJPEG", "VRT")


class Checks(TypedDict):
    """What works; what does not is a sentence."""

    proj_data: bool | str
    sensors: bool
    self_test: dict[str, float] | str


class Examination(TypedDict):
    """What `geolift doctor --json` prints."""

    healthy: bool
    checks: Checks
    versions: dict[str, str]
    drivers: list[str]
    cog_writable: bool
    cpus: int
    memory_bytes: int
    memory_free_bytes: int
    network_compiled_for: str | None
    gpu: str | None
    sensors: int


def examine() -> Examination:
    """Look at everything geolift needs; ``healthy`` sums it up."""
    checks: Checks = {"proj_data": _proj_works(), "sensors": len(list_sensors()) > 0, "self_test": _self_test()}
    with rasterio.Env() as env:
        drivers = sorted(set(env.drivers()) & set(DRIVERS))
    return {
        "healthy": all(value is True or isinstance(value, dict) for value in checks.values()),
        "checks": checks,
        "versions": software_versions() | {"gdal": rasterio.__gdal_version__},
        "drivers": drivers,
        "cog_writable": not is_blacklisted("COG", "w"),
        "cpus": available_cpus(),
        "memory_bytes": memory_limit_bytes(),
        "memory_free_bytes": int(psutil.virtual_memory().available),
        "network_compiled_for": None if (cpu := compiled_for()) is None else cpu.name,
        "gpu": gpu_name() or None,
        "sensors": len(list_sensors()),
    }


def _proj_works() -> bool | str:
    try:
        return bool(CRS.from_epsg(32633).to_wkt())
    except rasterio.errors.RasterioError as error:
        return f"PROJ's database is not usable: {error}. Unset PROJ_LIB and PROJ_DATA."


def _self_test() -> dict[str, float] | str:
    """Fuse a scene of 48 × 48 pixels and compare with its truth."""
    try:
        with scratch_folder() as folder, heard_by(SILENT):
            paths = showcase.make_pair(folder, size=48).paths
            output = folder / "fused.tif"
            files.fuse_files(paths["hsi"], paths["msi"], output, FuseSettings(sensor=showcase.SENSOR))
            scores = wald.evaluate(output, paths["truth"])
    except ResourceError as error:
        return str(error)
    if not scores.sam_deg < SELF_TEST_MAX_SAM_DEG:
        return f"the self-test's product is {scores.sam_deg:.1f}° from its truth; below 20° is expected"
    return {"sam_deg": round(scores.sam_deg, 2), "psnr_db": round(scores.psnr_db, 2)}


def lines(document: Examination) -> list[str]:
    """Return the document as a person reads it."""
    compiled = document["network_compiled_for"] and f"compiled for {document['network_compiled_for']}"
    text = [f"{name:10} {value}" for name, value in document["versions"].items()]
    text += [
        f"drivers    {', '.join(document['drivers'])}",
        f"sensors    {document['sensors']}",
        f"CPUs       {document['cpus']}",
        f"memory     {document['memory_bytes'] / 1e9:.1f} GB allowed, "
        f"{document['memory_free_bytes'] / 1e9:.1f} GB free",
        f"network    {compiled if compiled else 'runs in torch: nothing can be compiled for this CPU here'}",
        f"GPU        {document['gpu'] or 'none'}",
        f"PROJ data  {'found' if document['checks']['proj_data'] is True else document['checks']['proj_data']}",
    ]
    test = document["checks"]["self_test"]
    text.append(f"self-test  {test}" if isinstance(test, str) else f"self-test  passed, SAM {test['sam_deg']}°")
    text.append("healthy" if document["healthy"] else "NOT healthy")
    return text
