"""Faults of the HSI, found before anything is learned of it: named, set right where that is safe, else left out."""

from geolift.pair.screening.findings import NOTHING_FOUND, Fault, Screening
from geolift.pair.screening.screen import screen_hsi

__all__ = ["NOTHING_FOUND", "Fault", "Screening", "screen_hsi"]
