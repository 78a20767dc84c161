"""Arrays on the HSI's grid that a run needs for a while: in memory or, where large, in a scratch file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

IN_MEMORY_BYTES = 8_000_000


class ScratchArray:
    """(n, h, w) float32, zero at first.

    Parameters
    ----------
    folder
        Where a large array goes, in a file that is opened for each access only, so that it does not count as resident
        memory; None keeps everything in memory.
    """

    def __init__(self, shape: tuple[int, int, int], folder: Path | None) -> None:
        self.shape = shape
        large = folder is not None and 4 * int(np.prod(shape)) > IN_MEMORY_BYTES
        self._values: NDArray[np.float32] | None = None if large else np.zeros(shape, np.float32)
        if large:
            with tempfile.NamedTemporaryFile(dir=folder, prefix="sheets-", delete=False) as file:
                self._path = file.name
                file.truncate(4 * int(np.prod(shape)))

    def read(self, rows: slice, cols: slice) -> NDArray[np.float32]:
        """Return a window, copied."""
        return np.array(self._open("r")[:, rows, cols])

    def write(self, rows: slice, cols: slice, values: NDArray[np.float32]) -> None:
        """Replace a window."""
        self._open("r+")[:, rows, cols] = values

    def _open(self, mode: Literal["r", "r+"]) -> NDArray[np.float32]:
        return np.memmap(self._path, np.float32, mode, shape=self.shape) if self._values is None else self._values
