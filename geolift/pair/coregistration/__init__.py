"""Residual shift between the two sensors, with its error, its confidence and its evidence."""

from geolift.pair.coregistration.estimate import estimate_shift, estimate_shift_by_windows
from geolift.pair.coregistration.verdict import NEAR_LR, NEAR_PX, ShiftEstimate
from geolift.pair.coregistration.windows import Window, affordable_windows, choose_windows, cut_window, middles

__all__ = [
    "NEAR_LR", "NEAR_PX", "ShiftEstimate", "Window", "affordable_windows", "choose_windows", "cut_window",
    "estimate_shift", "estimate_shift_by_windows", "middles",
]  # fmt: skip
