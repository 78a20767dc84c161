"""Well-known methods of others, for comparison only: GSA, CNMF and FUSE, each from its paper's equations.

All get what geolift gets: both images and the spectral response. The footprint of an HSI pixel, which they want to
be told, is found blindly (`observation`).
"""

from geolift.benchmark.baselines.cnmf import cnmf
from geolift.benchmark.baselines.fuse import fuse
from geolift.benchmark.baselines.gsa import gsa
from geolift.benchmark.baselines.interpolation import bicubic
from geolift.benchmark.baselines.observation import Observation, observe

__all__ = ["Observation", "bicubic", "cnmf", "fuse", "gsa", "observe"]
