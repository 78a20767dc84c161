"""What was understood of two files, and what will be done: bands, spectra, window, cost."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geolift.align import bounds_in, gsd_m, gsd_ratio, require_north_up, window_of
from geolift.budget import Cost
from geolift.cube import Bands, bands_of, grid_of
from geolift.errors import InputError, NoOverlapError, UsageError
from geolift.settings import BandSettings, RegionSettings, SensorSettings
from geolift.srf import SpectralResponse, guess_sensor, resolve_sensor

MIN_TRAIN_PIXELS = 16


@dataclass(frozen=True)
class SpectralPlan:
    """Which bands take part and how HSI bands make up MSI bands.

    ``hsi_bands``: 0-based, kept in the output, file order. ``good``: positions within ``hsi_bands`` that are learned.
    ``msi_bands``: 0-based bands of the MSI file that are used. ``weights``: (len(msi_bands), len(good)), rows sum to 1.
    """

    sensor: str
    hsi_bands: tuple[int, ...]
    good: tuple[int, ...]
    bands: Bands
    msi_bands: tuple[int, ...]
    msi_names: tuple[str, ...]
    weights: np.ndarray
    dropped: tuple[tuple[str, float], ...]
    srf_sha256: str
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what people and programs want to know of it."""
        return {
            "sensor": self.sensor,
            "hsi_bands_kept": len(self.hsi_bands),
            "hsi_bands_good": len(self.good),
            "msi_bands_used": list(self.msi_names),
            "msi_bands_dropped": [{"name": name, "coverage": round(share, 4)} for name, share in self.dropped],
            "srf_sha256": self.srf_sha256,
        }


def plan_spectra(
    hsi: xr.DataArray,
    settings: SensorSettings,
    band_settings: BandSettings,
    msi: xr.DataArray | None = None,
) -> SpectralPlan:
    """Settle the sensor, which of its bands the MSI file holds, and the SRF weights over the good HSI bands.

    Raises
    ------
    InputError
        If wavelengths are missing, the sensor is unknown, band counts do not fit, or no MSI band is covered.
    """
    source = str(hsi.attrs.get("source", "HSI"))
    bands = bands_of(hsi)
    _require_wavelengths(bands, source, msi)
    kept = _kept_bands(bands, band_settings, source)
    bands = bands.take(kept)
    good = np.flatnonzero(bands.good)
    srf, notes = find_response(settings, msi)
    file_names = name_msi_bands(srf, settings.msi_bands, msi, notes)
    chosen = [(i, name) for i, name in enumerate(file_names) if name is not None]
    named = srf.select(tuple(name for _, name in chosen))
    if good.size <= len(chosen):
        raise InputError(
            f"{source}: {good.size} good bands against {len(chosen)} MSI bands; an HSI has more bands than the MSI. "
            "Are HSI and MSI swapped?"
        )
    try:
        weights = named.weights(bands.wavelength_nm[good], bands.fwhm_nm[good])
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    notes.extend(f"{source}: {message}" for message in weights.messages())
    used = np.flatnonzero(weights.kept)
    return SpectralPlan(
        sensor=srf.sensor,
        hsi_bands=tuple(int(i) for i in kept),
        good=tuple(int(i) for i in good),
        bands=bands,
        msi_bands=tuple(chosen[i][0] for i in used),
        msi_names=tuple(chosen[i][1] for i in used),
        weights=weights.weights.astype(np.float32),
        dropped=tuple((name, float(share)) for name, share in weights.dropped.items()),
        srf_sha256=hashlib.sha256(named.response.tobytes() + named.wavelength_nm.tobytes()).hexdigest(),
        warnings=tuple(notes),
    )


def _require_wavelengths(bands: Bands, source: str, msi: xr.DataArray | None) -> None:
    known = int(np.isfinite(bands.wavelength_nm).sum())
    if known == len(bands):
        return
    swapped = ""
    if msi is not None and np.isfinite(bands_of(msi).wavelength_nm).all() and msi.sizes["band"] > len(bands):
        swapped = f" The second file has {msi.sizes['band']} bands with wavelengths: are HSI and MSI swapped?"
    raise InputError(
        f"{source}: {known} of {len(bands)} bands carry a centre wavelength; all are needed.{swapped} "
        'Pass --wavelengths bands.csv or set the band tag "wavelength".'
    )


def _kept_bands(bands: Bands, settings: BandSettings, source: str) -> np.ndarray:
    kept = np.arange(len(bands)) if settings.bands is None else np.asarray(settings.bands) - 1
    if kept.size == 0 or kept.max() >= len(bands):
        raise UsageError(f"--bands: {source} has bands 1 to {len(bands)}")
    if np.unique(kept).size != kept.size:
        raise UsageError("--bands: a band is named twice")
    if settings.drop_bad_bands:
        kept = kept[bands.good[kept]]
    if not bands.good[kept].any():
        raise InputError(f"{source}: none of the chosen bands is good; nothing can be learned")
    return kept


def find_response(settings: SensorSettings, msi: xr.DataArray | None) -> tuple[SpectralResponse, list[str]]:
    """Load the spectral response the user named, choosing the spacecraft by the MSI's evidence."""
    if settings.srf is not None:
        return SpectralResponse.from_csv(settings.srf), []
    count = len(settings.msi_bands) if settings.msi_bands else (None if msi is None else msi.sizes["band"])
    evidence = "" if msi is None else str(msi.attrs.get("evidence", ""))
    named = settings.sensor or _sensor_of(msi, evidence)
    if named is None:
        raise UsageError(
            "no sensor given, and the MSI tells none. Pass --sensor NAME (`geolift sensors`) or --srf FILE."
        )
    resolved = resolve_sensor(named, band_count=count, evidence=evidence)
    notes = [resolved.message] if resolved.assumed else []
    if settings.sensor is None:
        notes.append(f"sensor: {resolved.sensor_id}, from the MSI's name or metadata")
    return SpectralResponse.from_library(resolved.sensor_id), notes


def _sensor_of(msi: xr.DataArray | None, evidence: str) -> str | None:
    """Return the sensor that the MSI's product names, or that its evidence gives away."""
    if msi is None:
        return None
    told = msi.attrs.get("sensor")
    return str(told) if told else guess_sensor(evidence, bands_of(msi).names, msi.sizes["band"])


def name_msi_bands(
    srf: SpectralResponse, given: tuple[str, ...] | None, msi: xr.DataArray | None, notes: list[str]
) -> list[str | None]:
    """Tell which sensor band each band of the MSI file is; None = not one of the sensor's.

    Order: the user's word, band descriptions, the usual order for the count (with a warning).
    """
    count = None if msi is None else msi.sizes["band"]
    if given is not None:
        names: list[str | None] = [_sensor_band(srf, name) for name in given]
        if None in names:
            wrong = given[names.index(None)]
            raise InputError(f"--msi-bands: {srf.sensor} has no band {wrong!r}; it has {', '.join(srf.band_names)}")
        if count is not None and len(names) != count:
            raise InputError(
                f"--msi-bands names {len(names)} bands, {msi.attrs.get('source', 'the MSI')} has {count}"  # type: ignore[union-attr]
            )
        if len(set(names)) != len(names):
            raise InputError("--msi-bands: a band is named twice")
        return names
    if msi is None:
        return list(srf.default_bands)
    described = [_sensor_band(srf, name) for name in bands_of(msi).names]
    found = [name for name in described if name is not None]
    if found and len(set(found)) == len(found) and len(found) >= len(described) / 2:
        ignored = [text for text, name in zip(bands_of(msi).names, described, strict=True) if name is None]
        if ignored:
            notes.append(f"{msi.attrs.get('source')}: bands {', '.join(ignored)} are no {srf.sensor} bands; left out")
        return described
    assert count is not None
    order = srf.order_for(count)
    notes.append(
        f"{msi.attrs.get('source', 'MSI')}: its {count} bands are taken for {','.join(order)} of {srf.sensor}; "
        "pass --msi-bands if they are others."
    )
    return list(order)


def _sensor_band(srf: SpectralResponse, text: str) -> str | None:
    """Match a name as people and products write it (B2, b02, Blue) with a sensor band."""
    matched = srf.match_names([text])
    return matched[0] if matched else None


@dataclass(frozen=True)
class RegionPlan:
    """The window of the MSI grid that is produced; ``grid`` is the window's own grid, ``ratio`` HSI to MSI GSD."""

    rows: slice
    cols: slice
    grid: GeoBox
    ratio: float
    hsi_gsd_m: float
    msi_gsd_m: float

    def to_json(self) -> dict[str, Any]:
        """Return shape, window and GSDs."""
        return {
            "shape": [int(n) for n in self.grid.shape],
            "window": {"row": self.rows.start, "col": self.cols.start},
            "ratio": round(self.ratio, 6),
            "hsi_gsd_m": round(self.hsi_gsd_m, 6),
            "msi_gsd_m": round(self.msi_gsd_m, 6),
        }


def plan_region(hsi: xr.DataArray, msi: xr.DataArray, settings: RegionSettings) -> RegionPlan:
    """Settle which window of the MSI grid is produced.

    Raises
    ------
    InputError
        If a grid cannot be used, or HSI, MSI and --bounds do not meet.
    """
    hsi_grid, msi_grid = grid_of(hsi), grid_of(msi)
    hsi_name, msi_name = (str(c.attrs.get("source", n)) for c, n in ((hsi, "HSI"), (msi, "MSI")))
    require_north_up(hsi_grid, hsi_name)
    require_north_up(msi_grid, msi_name)
    overlap = window_of(msi_grid, bounds_in(hsi_grid, msi_grid.crs))
    if overlap is None:
        raise NoOverlapError(
            f"{hsi_name} and {msi_name} do not overlap: {_box_text(bounds_in(hsi_grid, msi_grid.crs))} against "
            f"{_box_text(bounds_in(msi_grid, msi_grid.crs))} in the MSI's CRS. Is one CRS wrong?"
        )
    window = (slice(0, msi_grid.shape[0]), slice(0, msi_grid.shape[1])) if settings.extent == "msi" else overlap
    window = cut_to_bounds(msi_grid, window, settings, msi_name)
    return RegionPlan(
        window[0],
        window[1],
        msi_grid[window],
        gsd_ratio(hsi_grid, msi_grid),
        gsd_m(hsi_grid),
        gsd_m(msi_grid),
    )


def cut_to_bounds(
    grid: GeoBox, window: tuple[slice, slice], settings: RegionSettings, name: str
) -> tuple[slice, slice]:
    """Intersect a window with --bounds (left, bottom, right, top in the grid's CRS)."""
    if settings.bounds is None:
        return window
    left, bottom, right, top = settings.bounds
    if left >= right or bottom >= top:
        raise UsageError(f"--bounds: left,bottom,right,top is expected, got {settings.bounds}")
    asked = window_of(grid, settings.bounds)
    if asked is not None:
        rows = slice(max(window[0].start, asked[0].start), min(window[0].stop, asked[0].stop))
        cols = slice(max(window[1].start, asked[1].start), min(window[1].stop, asked[1].stop))
        if rows.start < rows.stop and cols.start < cols.stop:
            return rows, cols
    raise InputError(f"--bounds {settings.bounds}: nothing of {name} (with --extent) lies there")


def _box_text(bounds: tuple[float, float, float, float]) -> str:
    left, bottom, right, top = bounds
    return f"x {left:.6g} to {right:.6g}, y {bottom:.8g} to {top:.8g}"


@dataclass(frozen=True)
class Plan:
    """Everything settled before the first number is computed."""

    hsi: dict[str, Any]
    msi: dict[str, Any]
    spectra: SpectralPlan
    region: RegionPlan
    cost: Cost
    output: Path | None
    warnings: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON types."""
        return {
            "hsi": self.hsi,
            "msi": self.msi,
            "spectra": self.spectra.to_json(),
            "region": self.region.to_json(),
            "cost": asdict(self.cost),
            "output": None if self.output is None else str(self.output),
            "warnings": list(self.warnings),
        }

    def lines(self) -> list[str]:
        """Return the plan as a person reads it."""
        rows, cols = self.region.grid.shape
        spectra = self.spectra
        out = [
            f"HSI     {_file_line(self.hsi)}, GSD {self.region.hsi_gsd_m:.4g} m",
            f"MSI     {_file_line(self.msi)}, GSD {self.region.msi_gsd_m:.4g} m",
            f"sensor  {spectra.sensor}, bands used {', '.join(spectra.msi_names)}",
        ]
        out += [f"        {name} dropped, {100 * share:.0f} % covered" for name, share in spectra.dropped]
        out += [
            f"bands   {len(spectra.hsi_bands)} in the output, {len(spectra.good)} of them good",
            f"output  {rows} × {cols} px of the MSI grid (ratio {self.region.ratio:.4g}) to {self.output or '–'}",
            f"cost    {self.cost.line()}",
        ]
        return out


def _file_line(facts: dict[str, Any]) -> str:
    rows, cols = facts["shape"]
    return f"{facts['source']}: {facts['bands']} bands, {rows} × {cols} px, {facts['crs'] or 'no CRS'}"


def file_facts(cube: xr.DataArray) -> dict[str, Any]:
    """Return what was understood of one input, as plain JSON types."""
    grid = grid_of(cube)
    crs = None
    if grid.crs is not None:
        code = grid.crs.to_epsg()
        crs = f"EPSG:{code}" if code else grid.crs.proj.name
    keys = ("source", "driver", "dtype", "scale", "offset", "nodata", "quantity", "acquired", "wavelengths_from")
    facts = {key: cube.attrs.get(key) for key in keys}
    facts |= {"bands": cube.sizes["band"], "shape": [int(n) for n in grid.shape], "crs": crs}
    nodata = facts["nodata"]
    facts["nodata"] = "nan" if isinstance(nodata, float) and np.isnan(nodata) else nodata
    return facts
