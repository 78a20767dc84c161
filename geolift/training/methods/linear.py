"""Linear regression of the HSI bands on the MSI bands: the baseline that a network has to beat."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from geolift.network.formula import Network
from geolift.network.model import SpectralModel
from geolift.training.methods.common import Progress, input_noise
from geolift.training.training_set import TrainingSet


def fit_linear(
    training: TrainingSet, seed: int, device: str, pool: ThreadPoolExecutor, progress: Progress
) -> SpectralModel:
    """Least squares with an intercept, for inputs as noisy as the MSI; of several solutions the one of least norm."""
    simulated = training.simulated
    inputs = simulated.astype(np.float64)
    targets = training.spectra.astype(np.float64)
    centre, level = inputs.mean(axis=0), targets.mean(axis=0)
    gram = (inputs - centre).T @ (inputs - centre) + len(inputs) * np.diag(np.square(input_noise(training)))
    slope = np.linalg.pinv(gram, 1e-12, hermitian=True) @ ((inputs - centre).T @ (targets - level))
    error = (inputs - centre) @ slope + level - targets
    progress(1.0, float(np.abs(error).mean()))
    network = Network(
        weights=(),
        biases=(),
        residuals=(),
        slope=0.0,
        head=None,
        skip=slope.T.astype(np.float32),
        basis=None,
        offset=(level - centre @ slope).astype(np.float32),
    )
    choices = {
        "pixels": len(simulated),
        "input_noise": input_noise(training).tolist(),
        "rmse": float(np.sqrt(np.square(error).mean())),
    }
    return SpectralModel(
        method="linear",
        network=network,
        training_low=simulated.min(axis=0),
        training_high=simulated.max(axis=0),
        history=(),
        choices=choices,
    )
