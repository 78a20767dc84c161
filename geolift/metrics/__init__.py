"""How alike two images are: against a reference, and of a product with its own inputs."""

from geolift.metrics.conventions import spectral_angles_rad
from geolift.metrics.halo import halo_tiles
from geolift.metrics.scores import Evaluation, Scores, evaluate_arrays
from geolift.metrics.similarity import ssim_map, uiqi_map
from geolift.metrics.value_range import ExactPercentile, Stretch, Survey

__all__ = [
    "Evaluation", "ExactPercentile", "Scores", "Stretch", "Survey", "evaluate_arrays", "halo_tiles",
    "spectral_angles_rad", "ssim_map", "uiqi_map",
]  # fmt: skip
