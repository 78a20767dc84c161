"""The names that programs give to axes, wavelengths and flags, and what even coordinates say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

CENTRES = (
    "wavelength", "wavelengths", "center_wavelength", "centre_wavelength", "central_wavelength", "center_wavelengths",
    "wl", "wavelength_nm", "wvl", "radiation_wavelength", "band_wavelength",
)  # fmt: skip
WIDTHS = ("fwhm", "full_width_half_max", "fwhms", "bandwidth", "band_width")
BAD_AS_ZERO = ("good", "good_wavelengths", "good_bands", "bbl", "good_bands_list")
AXES = {
    "x": {
        "x", "lon", "longitude", "long", "easting", "eastings", "col", "cols", "column", "columns", "sample", "samples",
        "crosstrack", "xc", "px", "projection_x_coordinate",
    },
    "y": {
        "y", "lat", "latitude", "northing", "northings", "row", "rows", "line", "lines", "downtrack", "yc", "py",
        "projection_y_coordinate",
    },
    "band": {*CENTRES, "band", "bands", "channel", "channels", "spectral", "z", "b", "variable"},
}  # fmt: skip
UNEVEN = 1e-3


def axis_of(name: str, attrs: Mapping[Any, Any]) -> str | None:
    """Tell which axis a dimension is: ``x``, ``y``, ``band``; None if nothing says so.

    >>> axis_of("latitude", {}), axis_of("dim_0", {"standard_name": "radiation_wavelength"}), axis_of("time", {})
    ('y', 'band', None)
    """
    for word in (str(attrs.get("standard_name", "")).lower(), name.lower()):
        for axis, names in AXES.items():
            if word in names:
                return axis
    return {"X": "x", "Y": "y"}.get(str(attrs.get("axis", "")).upper())


def even_axis(centres: np.ndarray) -> tuple[float, float] | None:
    """Return the first of evenly spaced coordinates and their step; None if they are not even or fewer than two."""
    values = np.ravel(centres)
    if values.size < 2 or values.dtype.kind not in "iuf" or np.ndim(centres) != 1 or not np.isfinite(values).all():
        return None
    values = values.astype(np.float64)
    step = (values[-1] - values[0]) / (values.size - 1)
    if step == 0 or np.abs(np.diff(values) - step).max() > UNEVEN * abs(step) + np.abs(values).max() * 1e-7:
        return None
    return float(values[0]), float(step)
