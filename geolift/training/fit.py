"""Fitting a spectral model to the pixels of an LR-HSI."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import torch

from geolift.errors import ResourceError, UsageError
from geolift.network.engine import one_torch_thread
from geolift.network.model import SpectralModel
from geolift.runtime.machine import available_cpus
from geolift.training.methods.common import Progress
from geolift.training.methods.features import fit_features
from geolift.training.methods.linear import fit_linear
from geolift.training.methods.spectralift import fit_published
from geolift.training.methods.spectramorph import fit_spectramorph
from geolift.training.training_set import TrainingSet

METHODS: dict[str, Callable[..., SpectralModel]] = {
    "auto": fit_features,
    "linear": fit_linear,
    "spectralift": fit_published,
    "spectramorph": fit_spectramorph,
}


def fit(
    method: str,
    training: TrainingSet,
    *,
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> SpectralModel:
    """Learn the spectral inversion MSI → HSI from LR-HSI pixels and the SRF alone.

    Parameters
    ----------
    method
        One of ``METHODS``.
    training
        Valid LR-HSI pixels over the good bands.
    seed
        Of everything random.
    device
        A torch device.
    threads
        Worker threads, by default the CPUs this process may use. The model does not depend on it.
    progress
        Called with the finished fraction (0 … 1) and the current loss; an exception raised in it
        ends the training and passes through.
    **options
        Of the method.

    Raises
    ------
    UsageError
        For an unknown method or option.
    ResourceError
        If the device's memory is too small.
    """
    if method not in METHODS:
        raise UsageError(f"unknown method {method!r}; known: {', '.join(METHODS)}.")
    workers = threads or available_cpus()
    report = progress or (lambda fraction, loss: None)
    with one_torch_thread(), ThreadPoolExecutor(workers, initializer=_begin, initargs=(device,)) as pool:
        try:
            return METHODS[method](training, seed, device, pool, report, **options)
        except torch.cuda.OutOfMemoryError as err:
            raise ResourceError(
                f"--device {device}: its memory does not hold the training of {len(training.spectra)} pixels. "
                "Pass --device cpu, or a smaller --max-train-pixels."
            ) from err
        except TypeError as err:
            if "unexpected keyword" in str(err):
                raise UsageError(f"method {method!r}: {err}.") from err
            raise


def _begin(device: str) -> None:
    """Begin a worker: the number of OpenMP threads is each thread's own, and so is the context of a CUDA device."""
    torch.set_num_threads(1)
    if device != "cpu":
        with suppress(torch.cuda.OutOfMemoryError):  # told where the work begins
            torch.zeros(1, device=device)  # without a context the first product warns
