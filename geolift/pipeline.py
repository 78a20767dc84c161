"""The whole job: understand both files, hold them against each other, learn the inversion, apply it lazily."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xarray as xr

from geolift import align
from geolift.comparison import Comparison, compare
from geolift.cube import bands_of, crop, grid_of
from geolift.errors import InputError
from geolift.listener import SILENT, Listener
from geolift.machine import available_cpus
from geolift.plan import (
    Plan,
    cut_to_bounds,
    estimate_cost,
    file_facts,
    find_response,
    name_msi_bands,
    plan_region,
    plan_spectra,
)
from geolift.readers import open_cube
from geolift.settings import ApplySettings, ComparisonSettings, FuseSettings, SensorSettings, TrainSettings
from geolift.trained import Trained, inverted, learn, load_trained


def plan_fusion(hsi: xr.DataArray, msi: xr.DataArray, settings: FuseSettings, output: Path | None = None) -> Plan:
    """Settle everything before the first number is computed. Raises InputError or UsageError."""
    spectra = plan_spectra(hsi, settings, settings, msi)
    region = plan_region(hsi, msi, settings)
    shape = (int(region.grid.shape[0]), int(region.grid.shape[1]))
    threads = settings.threads or available_cpus()
    cost = estimate_cost(shape, len(spectra.hsi_bands), len(spectra.msi_bands), settings, settings.tile_size, threads)
    notes = [*hsi.attrs.get("warnings", []), *msi.attrs.get("warnings", []), *spectra.warnings]
    if region.ratio <= 1.0:
        notes.append(
            f"the MSI's pixels ({region.msi_gsd_m:.4g} m) are not finer than the HSI's ({region.hsi_gsd_m:.4g} m)"
        )
    return Plan(file_facts(hsi), file_facts(msi), spectra, region, cost, output, tuple(notes))


def train(hsi: str | Path | xr.DataArray, *, listener: Listener = SILENT, **options: Any) -> Trained:
    """Learn the spectral inversion of an HSI for a sensor; no MSI is needed.

    Parameters
    ----------
    hsi : path or DataArray (band, y, x)
    **options
        Fields of `geolift.settings.TrainSettings`, for example ``sensor="sentinel2"``.
    """
    settings = TrainSettings(**options)
    cube = _opened(hsi, settings.hsi_reading)
    spectra = plan_spectra(cube, settings, settings)
    for text in (*cube.attrs.get("warnings", []), *spectra.warnings):
        listener.warn(text)
    return learn(cube, spectra, settings, listener)


def fuse(
    hsi: str | Path | xr.DataArray,
    msi: str | Path | xr.DataArray,
    *,
    listener: Listener = SILENT,
    **options: Any,
) -> xr.DataArray:
    """Fuse an HSI with an MSI: all the bands of the one at the pixels of the other, lazily.

    Training happens here; the pixels are computed when they are asked for.

    Parameters
    ----------
    hsi, msi : path or DataArray (band, y, x)
        As `geolift.open` gives them.
    **options
        Fields of `geolift.settings.FuseSettings`, for example ``sensor="sentinel2"``.

    Returns
    -------
    xarray.DataArray (band, y, x)
        float32 on the MSI's grid, NaN = invalid.

    Raises
    ------
    InputError, UsageError
    """
    settings = FuseSettings(**options)
    hsi_cube = _opened(hsi, settings.hsi_reading)
    msi_cube = _opened(msi, settings.msi_reading, settings.tile_size)
    plan = plan_fusion(hsi_cube, msi_cube, settings)
    for text in plan.warnings:
        listener.warn(text)
    compared = compare_pair(hsi_cube, msi_cube, plan, settings, listener)
    trained = learn(hsi_cube, plan.spectra, settings, listener, settings.threads)
    window = crop(msi_cube, plan.region.rows, plan.region.cols)
    relation = None if compared is None else compared.harmonization
    return inverted(window, plan.spectra.msi_bands, trained, settings, relation)


def compare_pair(
    hsi: xr.DataArray, msi: xr.DataArray, plan: Plan, settings: ComparisonSettings, listener: Listener
) -> Comparison | None:
    """Hold the two sensors against each other, and tell the listener what was found."""
    listener.progress("comparing", 0.0)
    compared = compare(hsi, msi.isel(band=list(plan.spectra.msi_bands)), plan.spectra, plan.region, settings)
    listener.progress("comparing", 1.0)
    if compared is None:
        listener.warn("no HSI pixel lies under the MSI: the two sensors could not be compared")
        return None
    for text in compared.warnings:
        listener.warn(text)
    return compared


def _opened(source: str | Path | xr.DataArray, reading: Any, tile: int | None = None) -> xr.DataArray:
    return source if isinstance(source, xr.DataArray) else open_cube(source, reading, tile)


def apply(
    model: str | Path,
    msi: str | Path | xr.DataArray,
    *,
    listener: Listener = SILENT,
    **options: Any,
) -> xr.DataArray:
    """Apply a saved model to an MSI of its sensor, lazily.

    Raises
    ------
    InputError
        If the MSI's bands are not those the model was trained for.
    """
    settings = ApplySettings(**options)
    trained = load_trained(model)
    cube = _opened(msi, settings.msi_reading, settings.tile_size)
    window, bands, notes = match_bands(trained, cube, settings)
    for text in notes:
        listener.warn(text)
    return inverted(window, bands, trained, settings)


def match_bands(
    trained: Trained, msi: xr.DataArray, settings: ApplySettings
) -> tuple[xr.DataArray, tuple[int, ...], list[str]]:
    """Find the model's bands in an MSI file and cut its window; refuse what does not match."""
    source = str(msi.attrs.get("source", "MSI"))
    grid = grid_of(msi)
    align.require_north_up(grid, source)
    notes = list(msi.attrs.get("warnings", []))
    wanted = trained.facts["msi_bands"]
    names = _file_band_names(trained, msi, settings, notes)
    missing = [name for name in wanted if name not in names]
    if missing:
        raise InputError(
            f"{source}: the model needs {trained.facts['sensor']} bands {', '.join(wanted)}; "
            f"{', '.join(missing)} not found among {', '.join(str(n) for n in names)}. "
            "Pass --msi-bands with the bands of the file, in file order."
        )
    window = cut_to_bounds(grid, (slice(0, grid.shape[0]), slice(0, grid.shape[1])), settings, source)
    return crop(msi, *window), tuple(names.index(name) for name in wanted), notes


def _file_band_names(
    trained: Trained, msi: xr.DataArray, settings: ApplySettings, notes: list[str]
) -> list[str | None]:
    sensor = str(trained.facts["sensor"])
    try:
        srf, _ = find_response(SensorSettings(sensor=sensor), msi)
    except InputError:
        # A model trained with --srf: its own band names are all that is known.
        names = list(settings.msi_bands or bands_of(msi).names)
        if len(names) != msi.sizes["band"]:
            raise InputError(f"--msi-bands names {len(names)} bands, the file has {msi.sizes['band']}") from None
        return list(names)
    return name_msi_bands(srf, settings.msi_bands, msi, notes)
