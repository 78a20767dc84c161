"""Residual shift between the two sensors, with its error, its confidence and its evidence."""

from geolift.coregistration.estimate import (
    NEAR_LR,
    NEAR_PX,
    ShiftEstimate,
    Window,
    choose_windows,
    cut_window,
    estimate_shift,
    estimate_shift_by_windows,
)

__all__ = [
    "NEAR_LR",
    "NEAR_PX",
    "ShiftEstimate",
    "Window",
    "choose_windows",
    "cut_window",
    "estimate_shift",
    "estimate_shift_by_windows",
]
