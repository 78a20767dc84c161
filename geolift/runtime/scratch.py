"""Arrays on the HSI's grid that a run needs for a while: in memory or, where large, in a scratch file.

They do not travel to other machines: what a piece of work reads of them is lent to it.
"""

from __future__ import annotations

import tempfile
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geolift.errors import ResourceError

IN_MEMORY_BYTES = 8_000_000


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield a folder that goes again, in another or among temporary files. Raises ResourceError if none can be made."""
    try:
        made = tempfile.TemporaryDirectory(prefix="geolift-", dir=parent)
    except OSError as error:
        raise ResourceError(f"no folder for temporary files can be written; set TMPDIR to one: {error}") from error
    with made as name:
        yield Path(name)


_here = threading.local()


@dataclass(frozen=True, eq=False)
class Piece:
    """A window of an array that is elsewhere: which, its first row and column, values (n, rows, cols)."""

    key: str
    corner: tuple[int, int]
    values: NDArray[np.float32]


@contextmanager
def lent(pieces: Iterable[Piece]) -> Iterator[None]:
    """Let arrays that came from elsewhere read these pieces, in this thread."""
    _here.pieces = {piece.key: piece for piece in pieces}
    try:
        yield
    finally:
        del _here.pieces


class ScratchArray:
    """(n, h, w) float32, zero at first.

    Parameters
    ----------
    folder
        Where a large array goes, in a file that is opened for each access only, so that it does not count as resident
        memory; None keeps everything in memory.
    """

    def __init__(self, shape: tuple[int, int, int], folder: Path | None) -> None:
        self.shape, self.key = shape, uuid.uuid4().hex
        self._is_elsewhere = False
        large = folder is not None and 4 * int(np.prod(shape)) > IN_MEMORY_BYTES
        self._values: NDArray[np.float32] | None = None if large else np.zeros(shape, np.float32)
        if large:
            with tempfile.NamedTemporaryFile(dir=folder, prefix="scratch-", delete=False) as file:
                self._path = file.name
                file.truncate(4 * int(np.prod(shape)))

    def read(self, rows: slice, cols: slice) -> NDArray[np.float32]:
        """Return a window, copied; of an array that is elsewhere, from what is `lent`."""
        if self._is_elsewhere:
            return _lent_window(_here.pieces[self.key], rows, cols)
        return np.array(self._open("r")[:, rows, cols])

    def piece(self, rows: slice, cols: slice) -> Piece:
        """Return a window to be lent."""
        return Piece(self.key, (rows.start, cols.start), self.read(rows, cols))

    def __getstate__(self) -> dict[str, object]:
        """Travel without the values."""
        return {"shape": self.shape, "key": self.key, "_is_elsewhere": True}

    def write(self, rows: slice, cols: slice, values: NDArray[np.float32]) -> None:
        """Replace a window."""
        self._open("r+")[:, rows, cols] = values

    def _open(self, mode: Literal["r", "r+"]) -> NDArray[np.float32]:
        return np.memmap(self._path, np.float32, mode, shape=self.shape) if self._values is None else self._values


def _lent_window(piece: Piece, rows: slice, cols: slice) -> NDArray[np.float32]:
    top, left = rows.start - piece.corner[0], cols.start - piece.corner[1]
    height, width = rows.stop - rows.start, cols.stop - cols.start
    found = piece.values[:, max(top, 0) : top + height, max(left, 0) : left + width]
    if found.shape[1:] != (height, width):
        raise IndexError(f"{rows} and {cols} were not lent")
    return found.copy()
