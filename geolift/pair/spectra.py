"""Which bands of both images take part, and the spectral response between them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import xarray as xr

from geolift.datamodel.cube import Bands, bands_of
from geolift.errors import InputError, UsageError
from geolift.settings import BandSettings, SensorSettings
from geolift.settings.values import band_positions
from geolift.srf import SpectralResponse, guess_sensor, resolve_sensor

FEWEST_OF_A_SPECTROMETER = 20
"""Bands with a wavelength from which on a file counts as hyperspectral; multispectral products have at most 16."""


@dataclass(frozen=True, kw_only=True)
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

    @property
    def learned_bands(self) -> np.ndarray:
        """0-based bands of the HSI file that are learned."""
        return np.asarray(self.hsi_bands)[list(self.good)]

    def to_json(self) -> dict[str, object]:
        """Return what people and programs want to know of it."""
        return {
            "sensor": self.sensor,
            "hsi_bands_kept": len(self.hsi_bands),
            "hsi_bands_good": len(self.good),
            "msi_bands_used": list(self.msi_names),
            "msi_bands_dropped": [{"name": name, "coverage": round(share, 4)} for name, share in self.dropped],
            "srf_sha256": self.srf_sha256,
        }


def _require_order(hsi: xr.DataArray, msi: xr.DataArray | None) -> None:
    """Refuse a pair whose second file is the hyperspectral one. Raises InputError."""
    if msi is None:
        return
    told = int(np.isfinite(bands_of(msi).wavelength_nm).sum())
    if msi.sizes["band"] > hsi.sizes["band"] and told >= FEWEST_OF_A_SPECTROMETER:
        names = [str(cube.attrs.get("source", kind)) for cube, kind in ((hsi, "HSI"), (msi, "MSI"))]
        raise InputError(
            f"{names[0]} has {hsi.sizes['band']} bands, {names[1]} {msi.sizes['band']}, {told} of them with a "
            "wavelength: HSI and MSI are exchanged. Name the hyperspectral file first."
        )


def plan_spectra(
    hsi: xr.DataArray, settings: SensorSettings, band_settings: BandSettings, msi: xr.DataArray | None = None
) -> SpectralPlan:
    """Settle the sensor, which of its bands the MSI file holds, and the SRF weights over the good HSI bands.

    Raises InputError if wavelengths are missing, the sensor is unknown, band counts do not fit, or no MSI band is
    covered.
    """
    source = str(hsi.attrs.get("source", "HSI"))
    bands = bands_of(hsi)
    _require_order(hsi, msi)
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
    kept = np.arange(len(bands)) if settings.bands is None else np.asarray(band_positions(settings.bands, len(bands)))
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
