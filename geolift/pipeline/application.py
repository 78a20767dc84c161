"""A saved model applied to an MSI of its sensor."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import xarray as xr

from geolift.datamodel.alignment import require_north_up
from geolift.datamodel.cube import bands_of, crop, grid_of
from geolift.errors import InputError
from geolift.pair.region import cut_to_bounds
from geolift.pair.spectra import find_response, name_msi_bands
from geolift.pipeline.trained import Trained, inverted, load_trained
from geolift.readers import opened
from geolift.runtime.progress import SILENT, Listener
from geolift.settings import ApplySettings, SensorSettings
from geolift.settings.typed import ApplyOptions
from geolift.settings.validation import validated


def apply(
    model: str | Path,
    msi: str | Path | xr.DataArray,
    settings: ApplySettings | None = None,
    *,
    listener: Listener = SILENT,
    **options: Unpack[ApplyOptions],
) -> xr.DataArray:
    """Apply a saved model to an MSI of its sensor, lazily.

    Parameters
    ----------
    model
        A file of `geolift train` or ``geolift fuse --save-model``.
    msi : path or DataArray (band, y, x)
        As `geolift.open` gives it.
    settings
        Every option at once; ``**options`` are laid over it.
    **options
        Fields of `geolift.settings.ApplySettings`.

    Returns
    -------
    xarray.DataArray (band, y, x)
        float32 on the MSI's grid, NaN = invalid.

    Raises
    ------
    InputError
        If the MSI's bands are not those the model was trained for.
    """
    settings = validated(ApplySettings, options, given=settings)
    trained = load_trained(model)
    cube = opened(msi, settings.msi_reading, settings.tile_size, settings.msi_bands)
    window, bands, notes = match_bands(trained, cube, settings)
    for text in notes:
        listener.warn(text)
    return inverted(window, bands, trained, settings).cube


def match_bands(
    trained: Trained, msi: xr.DataArray, settings: ApplySettings
) -> tuple[xr.DataArray, tuple[int, ...], list[str]]:
    """Find the model's bands in an MSI file and cut its window; refuse what does not match."""
    source = str(msi.attrs.get("source", "MSI"))
    grid = grid_of(msi)
    require_north_up(grid, source, msi.attrs.get("georeference"))
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
