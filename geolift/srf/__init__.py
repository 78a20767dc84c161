"""Spectral responses of multispectral sensors: the library's, or a table of one's own."""

from geolift.srf.response import SpectralResponse
from geolift.srf.sensors import guess_sensor, list_sensors, resolve_sensor, sensor_names, twins_of
from geolift.srf.weights import complete_fwhm

__all__ = [
    "SpectralResponse", "complete_fwhm", "guess_sensor", "list_sensors", "resolve_sensor", "sensor_names",
    "twins_of",
]  # fmt: skip
