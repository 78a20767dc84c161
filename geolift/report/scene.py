"""The files of a run, opened again as the run had opened them; what is no longer there is noted and left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import xarray as xr

from geolift.datamodel.alignment import gsd_ratio
from geolift.datamodel.cube import bands_of, grid_of
from geolift.errors import GeoliftError
from geolift.pair.harmonization import Harmonization, Model
from geolift.pair.spectra import name_msi_bands
from geolift.pair.tone_curve import ToneCurve
from geolift.provenance.record import CurveFacts, HarmonizationFacts, RunRecord
from geolift.readers import open_cube, open_cubes
from geolift.settings import FuseSettings, Reading
from geolift.settings.values import band_positions
from geolift.srf import SpectralResponse


@dataclass(frozen=True, eq=False, kw_only=True)
class Scene:
    """A run's files as lazy cubes.

    Parameters
    ----------
    settings
        The run's, as far as this version knows them; a run of `apply` counts as one of `fuse` without an HSI.
    product, hsi, msi
        The MSI with the bands that were used, in the model's order, not harmonised. None = cannot be opened.
    product_path
        Where the product is.
    hsi_bands
        0-based bands of the HSI that the product's bands come from; None if that cannot be told.
    msi_names
        The sensor's names of these bands.
    ratio
        HSI to MSI GSD.
    response
        Spectral response of the sensor.
    relation
        What turns MSI values into those that were used.
    shift_px
        (dy, dx) in MSI pixels by which the HSI counted as moved.
    notes
        What could not be opened, and what that costs.
    """

    settings: FuseSettings
    product: xr.DataArray | None
    product_path: Path
    hsi: xr.DataArray | None
    msi: xr.DataArray | None
    hsi_bands: np.ndarray | None
    msi_names: tuple[str, ...]
    ratio: float
    response: SpectralResponse | None
    relation: Harmonization | None
    shift_px: tuple[float, float]
    notes: tuple[str, ...] = field(default=())

    def harmonized(self, msi: np.ndarray) -> np.ndarray:
        """Return MSI values (band, ...) as the model saw them."""
        return msi if self.relation is None else np.asarray(self.relation.apply(msi))

    def beside(self, path: Path | None) -> Path | None:
        """Return where a raster written with the product is: as the run named it, or beside the product."""
        moved = None if path is None else self.product_path.with_name(path.name)
        return moved if path is not None and not path.exists() and moved is not None and moved.exists() else path

    def side_product(self, path: Path | None) -> xr.DataArray | None:
        """Open a raster that was written with the product; None where there is none, or none that can be read."""
        found = self.beside(path)
        try:
            return None if found is None else open_cube(found)
        except GeoliftError:
            return None


def open_scene(product: Path, record: RunRecord, growing: Mapping[Path, Path] | None = None) -> Scene:
    """Open product and inputs of a run by what its sidecar tells.

    ``growing``: where side products are that have not got their names yet.
    """
    notes: list[str] = []
    settings = _settings(record, notes)
    named = {name: getattr(settings, name) for name in ("qa", "uncertainty")}
    elsewhere = {name: growing[path] for name, path in named.items() if growing and path in growing}
    settings = settings.model_copy(update=elsewhere)
    opened = _opened((str(product),), None, "the product", notes)
    hsi = _opened(input_paths(record, "hsi"), settings.hsi_reading, "the HSI", notes)
    msi = _opened(input_paths(record, "msi"), settings.msi_reading, "the MSI", notes, settings.msi_bands)
    response = _response(record, settings, notes)
    if msi is not None:
        msi = _used_bands(msi, record, settings, response, notes)
    return Scene(
        settings=settings,
        product=opened,
        product_path=product,
        hsi=hsi,
        msi=msi,
        hsi_bands=_hsi_bands(hsi, opened, settings),
        msi_names=tuple(record.trained.msi_bands),
        ratio=1.0 if hsi is None or opened is None else gsd_ratio(grid_of(hsi), grid_of(opened)),
        response=response,
        relation=relation_of(record.harmonization),
        shift_px=(0.0, 0.0) if record.coregistration is None else record.coregistration.applied_px,
        notes=tuple(notes),
    )


def _settings(record: RunRecord, notes: list[str]) -> FuseSettings:
    told = record.settings
    known = {key: value for key, value in told.items() if key in FuseSettings.model_fields and value is not None}
    try:
        return FuseSettings.model_validate(known)
    except ValueError:
        notes.append("the sidecar's options are of another version of geolift; files are opened by their own metadata")
        return FuseSettings()


def input_paths(record: RunRecord, kind: str) -> tuple[str, ...]:
    """Return the files of the run's ``hsi``, ``msi`` (one or several single-band files) or ``model``."""
    return tuple(file.href for name, file in record.inputs.items() if name.rstrip("0123456789") == kind and file.href)


def _opened(
    paths: tuple[str, ...], reading: Reading | None, what: str, notes: list[str], bands: tuple[str, ...] | None = None
) -> xr.DataArray | None:
    if not paths:
        return None
    try:
        return open_cubes(paths, reading, None, bands)
    except GeoliftError as error:
        notes.append(f"{what} cannot be opened, so what it would show is missing here ({error})")
        return None


def _response(record: RunRecord, settings: FuseSettings, notes: list[str]) -> SpectralResponse | None:
    sensor = record.trained.sensor
    try:
        if settings.srf is not None:
            return SpectralResponse.from_csv(settings.srf)
        return None if sensor is None else SpectralResponse.from_library(sensor)
    except GeoliftError as error:
        notes.append(f"the spectral response cannot be had ({error})")
        return None


def _used_bands(
    msi: xr.DataArray, record: RunRecord, settings: FuseSettings, response: SpectralResponse | None, notes: list[str]
) -> xr.DataArray | None:
    """Return the MSI's bands that the model was given, in its order."""
    used = record.trained.msi_bands
    try:
        if response is None:
            raise GeoliftError("its bands have no known names")
        names = list(name_msi_bands(response, settings.msi_bands, msi, []))
        return msi.isel(band=[names.index(name) for name in used])
    except (GeoliftError, ValueError) as error:
        notes.append(f"the MSI is not shown: its bands {', '.join(used)} were not found again ({error})")
        return None


def _hsi_bands(hsi: xr.DataArray | None, product: xr.DataArray | None, settings: FuseSettings) -> np.ndarray | None:
    if hsi is None or product is None:
        return None
    count = hsi.sizes["band"]
    kept = np.asarray(range(count) if settings.bands is None else band_positions(settings.bands, count))
    if settings.drop_bad_bands:
        kept = kept[bands_of(hsi).good[kept]]
    return kept if len(kept) == product.sizes["band"] else None


def relation_of(told: HarmonizationFacts | None) -> Harmonization | None:
    """Return a relation that was recorded; None where there was none."""
    if told is None:
        return None
    return Harmonization(
        model=cast(Model, told.model),
        matrix=np.asarray(told.matrix, np.float64),
        offset=np.asarray(told.offset, np.float64),
        heldout_error={},
        inlier_fraction=1.0,
        n_pixels=told.pixels,
        reason=told.reason,
        curve=None if told.curve is None else _curve(told.curve),
    )


def _curve(told: CurveFacts) -> ToneCurve:
    return ToneCurve(np.asarray(told.seen, np.float64), np.asarray(told.wanted, np.float64), told.name)
