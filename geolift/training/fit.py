"""Fitting a spectral model to the pixels of an LR-HSI."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from geolift.errors import UsageError
from geolift.network.model import SpectralModel
from geolift.runtime.blas import one_blas_thread
from geolift.runtime.machine import available_cpus
from geolift.training.methods.common import Progress
from geolift.training.methods.features import fit_features
from geolift.training.methods.linear import fit_linear
from geolift.training.training_set import TrainingSet

Fit = Callable[..., SpectralModel]


def _spectralift(*given: Any, **options: Any) -> SpectralModel:
    from geolift.training.methods.spectralift import fit_published  # needs torch, which takes seconds to import

    return fit_published(*given, **options)


def _spectramorph(*given: Any, **options: Any) -> SpectralModel:
    from geolift.training.methods.spectramorph import fit_spectramorph

    return fit_spectramorph(*given, **options)


METHODS: dict[str, Fit] = {
    "auto": fit_features,
    "linear": fit_linear,
    "spectralift": _spectralift,
    "spectramorph": _spectramorph,
}

PUBLISHED = ("spectralift", "spectramorph")
"""Methods that torch trains, on a GPU where there is one; the others take a second or two of NumPy on the CPU."""


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

    Raises UsageError for an unknown method or option; ResourceError if the device's memory is too small, or torch is
    needed and not installed.

    Parameters
    ----------
    method
        One of ``METHODS``.
    training
        Valid LR-HSI pixels over the good bands.
    seed
        Of everything random.
    device
        A torch device, for the published methods.
    threads
        Worker threads, by default the CPUs this process may use. The model does not depend on it.
    progress
        Called with the finished fraction (0 … 1) and the current loss; an exception raised in it
        ends the training and passes through.
    **options
        Of the method.
    """
    if method not in METHODS:
        raise UsageError(f"unknown method {method!r}; known: {', '.join(METHODS)}.")
    workers = threads or available_cpus()
    report = progress or (lambda fraction, loss: None)
    try:
        if method in PUBLISHED:
            from geolift.training.with_torch import torch_workers

            with torch_workers(workers, device, len(training.spectra)) as pool:
                return METHODS[method](training, seed, device, pool, report, **options)
        with one_blas_thread(), ThreadPoolExecutor(workers) as pool:
            return METHODS[method](training, seed, device, pool, report, **options)
    except TypeError as err:
        if "unexpected keyword" in str(err):
            raise UsageError(f"method {method!r}: {err}.") from err
        raise
