"""Linear regression of the HSI bands on the MSI bands: the baseline that a network has to beat."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from geolift.network.formula import Network
from geolift.network.model import SpectralModel
from geolift.training.methods.common import Progress, input_noise
from geolift.training.training_set import TrainingSet


def fit_linear(
    training: TrainingSet, seed: int, device: str, pool: ThreadPoolExecutor, progress: Progress
) -> SpectralModel:
    """Least squares with an intercept, for inputs as noisy as the MSI; of several solutions the one of least norm."""
    simulated = training.simulated
    inputs = torch.tensor(simulated, dtype=torch.float64)
    targets = torch.tensor(training.spectra, dtype=torch.float64)
    centre, level = inputs.mean(0), targets.mean(0)
    gram = (inputs - centre).T @ (inputs - centre) + len(inputs) * input_noise(training).square().diag()
    slope = torch.linalg.pinv(gram, hermitian=True, rtol=1e-12) @ ((inputs - centre).T @ (targets - level))
    error = (inputs - centre) @ slope + level - targets
    progress(1.0, float(error.abs().mean()))
    network = Network(
        weights=(),
        biases=(),
        residuals=(),
        slope=0.0,
        head=None,
        skip=slope.T.numpy().astype(np.float32),
        basis=None,
        offset=(level - centre @ slope).numpy().astype(np.float32),
    )
    choices = {
        "pixels": len(simulated),
        "input_noise": input_noise(training).tolist(),
        "rmse": float(error.square().mean().sqrt()),
    }
    return SpectralModel("linear", network, simulated.min(axis=0), simulated.max(axis=0), (), choices)
