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
from geolift.pipeline.radiometry import MOST_OUTSIDE, InTurn, Radiometry, outside_of, relation_to_reference
from geolift.pipeline.trained import Trained, inverted, load_trained
from geolift.readers import opened
from geolift.runtime.progress import Listener, heard_by, warn
from geolift.settings import ApplySettings, SensorSettings
from geolift.settings.typed import ApplyOptions
from geolift.settings.validation import validated


def apply(
    model: str | Path,
    msi: str | Path | xr.DataArray,
    settings: ApplySettings | None = None,
    *,
    listener: Listener | None = None,
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
        Every option at once; ``**options`` take precedence.
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
    relation, told = settle_radiometry(trained, cube, bands, settings)
    with heard_by(listener):
        warn(*notes, *told)
    return inverted(window, bands, trained, settings, relation).cube


def settle_radiometry(
    trained: Trained, msi: xr.DataArray, bands: tuple[int, ...], settings: ApplySettings
) -> tuple[Radiometry | None, list[str]]:
    """Return what the MSI is set right by before the model is applied, and what is to be said of it.

    The relation kept in the model, and before it the one to the MSI of ``reference``, if that is given. Raises
    InputError if the reference does not show the same ground.
    """
    from geolift.report.scene import relation_of  # brings the whole report along

    relation: Radiometry | None = relation_of(trained.facts.radiometry)
    if settings.reference is not None:
        reference = opened(settings.reference, settings.msi_reading, settings.tile_size, settings.msi_bands)
        notes: list[str] = []
        found = relation_to_reference(msi, bands, reference, band_positions(trained, reference, settings, notes))
        if not found.is_identity:
            relation = found if relation is None else InTurn(found, relation)
    outside = outside_of(trained.model, msi, bands, relation)
    if outside <= MOST_OUTSIDE:
        return relation, []
    source = str(msi.attrs.get("source", "MSI"))
    way_out = (
        "Pass --reference with the MSI that the model was learned with, or learn the model anew"
        if settings.reference is None
        else "Its ground may be of another kind: learn the model anew"
    )
    return relation, [
        f"{source}: {outside:.0%} of the pixels have values that the model was not learned from. {way_out}."
    ]


def match_bands(
    trained: Trained, msi: xr.DataArray, settings: ApplySettings
) -> tuple[xr.DataArray, tuple[int, ...], list[str]]:
    """Find the model's bands in an MSI file and cut its window; refuse what does not match."""
    source = str(msi.attrs.get("source", "MSI"))
    grid = grid_of(msi)
    require_north_up(grid, source, msi.attrs.get("georeference"))
    notes = list(msi.attrs.get("warnings", []))
    bands = band_positions(trained, msi, settings, notes)
    window = cut_to_bounds(grid, (slice(0, grid.shape[0]), slice(0, grid.shape[1])), settings, source)
    return crop(msi, *window), bands, notes


def band_positions(trained: Trained, msi: xr.DataArray, settings: ApplySettings, notes: list[str]) -> tuple[int, ...]:
    """Return where an MSI file has the model's bands; what is to be said of it is added to the notes.

    Raises InputError if one is missing.
    """
    source = str(msi.attrs.get("source", "MSI"))
    wanted = trained.facts.msi_bands
    names = _file_band_names(trained, msi, settings, notes)
    missing = [name for name in wanted if name not in names]
    if missing:
        raise InputError(
            f"{source}: the model needs {trained.facts.sensor} bands {', '.join(wanted)}; "
            f"{', '.join(missing)} not found among {', '.join(str(n) for n in names)}. "
            "Pass --msi-bands with the bands of the file, in file order."
        )
    return tuple(names.index(name) for name in wanted)


def _file_band_names(
    trained: Trained, msi: xr.DataArray, settings: ApplySettings, notes: list[str]
) -> list[str | None]:
    sensor = trained.facts.sensor
    try:
        srf, _ = find_response(SensorSettings(sensor=sensor), msi)
    except InputError:
        # A model trained with --srf: its own band names are all that is known.
        names = list(settings.msi_bands or bands_of(msi).names)
        if len(names) != msi.sizes["band"]:
            raise InputError(f"--msi-bands names {len(names)} bands, the file has {msi.sizes['band']}") from None
        return list(names)
    return name_msi_bands(srf, settings.msi_bands, msi, notes)
