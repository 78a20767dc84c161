"""Threads in which torch trains, on one core each or beside a CUDA device."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from geolift.errors import ResourceError
from geolift.network.engine import one_torch_thread, require_torch


@contextmanager
def torch_workers(count: int, device: str, pixels: int) -> Iterator[ThreadPoolExecutor]:
    """Worker threads for training on so many pixels.

    Raises ResourceError if the device's memory is too small, or torch is not installed.
    """
    torch = require_torch("this method")

    def begin() -> None:
        """The number of OpenMP threads is each thread's own, and so is the context of a CUDA device."""
        torch.set_num_threads(1)
        if device != "cpu":
            with suppress(torch.cuda.OutOfMemoryError):  # told where the work begins
                torch.zeros(1, device=device)  # without a context the first product warns

    try:
        with one_torch_thread(), ThreadPoolExecutor(count, initializer=begin) as pool:
            yield pool
    except torch.cuda.OutOfMemoryError as err:
        raise ResourceError(
            f"--device {device}: its memory does not hold the training of {pixels} pixels. "
            "Pass --device cpu, or a smaller --max-train-pixels."
        ) from err
