"""HDF5 and NetCDF-4 files: one handle for all threads, datasets as stored numbers, attributes as text and numbers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from geolift.errors import InputError
from geolift.readers import gate
from geolift.readers.source import BandIndices, Layout

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Reads of neighbouring windows touch the same compressed chunks; h5py's own default is 1 MB.
CHUNK_CACHE_BYTES = 32_000_000
CHUNK_CACHE_SLOTS = 10_007


def is_hdf5(path: str) -> bool:
    """Tell by its signature whether a local file is HDF5 (NetCDF-4 is)."""
    file = Path(path)
    if not file.is_file():
        return False
    with contextlib.suppress(OSError), file.open("rb") as stream:
        return stream.read(8) == SIGNATURE
    return False


def holds(path: str, *names: str) -> bool:
    """Tell whether a local file is HDF5 and holds one of the groups or datasets."""
    if not is_hdf5(path):
        return False
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return any(name in file for name in names)
    except (KeyError, OSError, RuntimeError):
        return False


@contextlib.contextmanager
def opened(path: str, product: str) -> Iterator[Any]:
    """Open a file for reading its metadata; what it lacks is told with the product's name.

    Raises InputError if the file is damaged or an expected dataset or attribute is missing.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except InputError:
        raise
    except KeyError as error:
        lacking = str(error.args[0]).splitlines()[0] if error.args else "something"
        raise InputError(f"{path}: looks like {product}, but lacks {lacking}; is it complete?") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}. Is it truncated?") from error
    except (AttributeError, IndexError, RuntimeError, TypeError) as error:
        # h5py's own words for a group where a dataset is expected, and the like
        raise InputError(f"{path}: looks like {product}, but is built otherwise: {error}; is it damaged?") from error


def text_of(value: Any) -> str:
    """Return an attribute or scalar dataset as text, whatever way it is stored."""
    if not isinstance(value, bytes | str) and hasattr(value, "shape"):
        value = value[()] if value.shape == () or 0 in value.shape else value[(0,) * len(value.shape)]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip("\x00 ")
    return str(value).encode("utf-8", "replace").decode("utf-8")


def numbers_of(value: Any, path: str, field: str) -> np.ndarray:
    """Return an attribute or dataset as a flat float64 array.

    Raises InputError if it is missing, empty, or holds something else than numbers.
    """
    try:
        stored = np.asarray(value[()] if hasattr(value, "id") else value)
    except (OSError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: {field} cannot be read: {error}") from error
    if stored.dtype.kind in "iufb" and stored.size:
        return np.atleast_1d(stored.astype(np.float64)).ravel()
    if stored.dtype.kind in "SUO" and stored.size:
        return gate.numbers(np.ravel(stored).tolist(), path, field)
    raise InputError(f"{path}: {field} is {gate.shown(stored)}; numbers are needed. Is the metadata damaged?")


def number_of(value: Any, path: str, field: str) -> float:
    """Return an attribute or dataset that holds one finite number. Raises InputError for anything else."""
    return gate.number(numbers_of(value, path, field)[0], path, field)


def fill_of(dataset: Any, path: str) -> float | None:
    """Return the declared fill value of a dataset, as `_FillValue`; None if it declares none."""
    value = dataset.attrs.get("_FillValue")
    if value is None:
        return None
    number = numbers_of(value, path, "_FillValue")[0]
    return float(number)


def flags_of(value: Any, count: int, path: str, field: str) -> np.ndarray:
    """Return flags of so many bands (bool, True = good); all good if there are none.

    Raises InputError if there are not as many as bands.
    """
    if value is None:
        return np.ones(count, dtype=bool)
    flags = numbers_of(value, path, field)
    if len(flags) != count:
        raise InputError(f"{path}: {field} has {len(flags)} entries for {count} bands. Is the metadata damaged?")
    return np.asarray(flags != 0)


class SharedHdf5:
    """One handle that threads take turns with."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file: Any = None

    def __reduce__(self) -> tuple[type[SharedHdf5], tuple[str]]:
        return SharedHdf5, (self.path,)

    def read(self, dataset: str, selection: tuple[Any, ...]) -> np.ndarray:
        """Read a hyperslab. Raises InputError where the file is damaged."""
        import h5py

        try:
            with self._lock:
                if self._file is None:
                    self._file = h5py.File(self.path, "r", rdcc_nbytes=CHUNK_CACHE_BYTES, rdcc_nslots=CHUNK_CACHE_SLOTS)
                return np.asarray(self._file[dataset][selection])
        except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"{self.path}: {dataset} cannot be read: {error}. Is the file truncated?") from error


class Hdf5Cube:
    """A dataset of two or three axes in any order, read by windows.

    Parameters
    ----------
    file : SharedHdf5
    dataset : str
        Full name within the file.
    axes : str
        Order of its axes, such as ``yxb``, ``ybx``, ``byx`` or ``yx``; ``t`` is one of length 1.
    bands : sequence of int, optional
        0-based bands along its band axis, in the order wanted; by default all.
    """

    def __init__(self, file: SharedHdf5, dataset: str, axes: str, bands: BandIndices | None = None) -> None:
        self._file, self._dataset, self._axes = file, dataset, axes
        self.path = file.path
        with opened(file.path, "HDF5") as handle:
            stored = handle[dataset]
            if getattr(stored, "ndim", 0) != len(axes) or 0 in stored.shape or stored.dtype.kind not in "iufb":
                shape = getattr(stored, "shape", "a group")
                raise InputError(
                    f"{file.path}: {dataset} is {shape} of {getattr(stored, 'dtype', 'no type')}; numbers along "
                    f"{len(axes)} axes are needed. Is the file damaged?"
                )
            sizes = dict(zip(axes, stored.shape, strict=True))
            blocks = dict(zip(axes, stored.chunks or (1, *stored.shape[1:]), strict=True))
            self._slots = np.arange(sizes.get("b", 1)) if bands is None else np.asarray(bands, dtype=int)
            shape = (int(sizes["y"]), int(sizes["x"]))
            block = (int(blocks["y"]), int(blocks["x"]))
            self.layout = Layout(len(self._slots), shape, stored.dtype, block)

    def read(self, rows: slice, cols: slice, bands: BandIndices | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Return a window (band, y, x) of stored numbers."""
        slots = self._slots if bands is None else self._slots[list(bands)]
        first, last = int(slots.min()), int(slots.max())
        ranges: dict[str, object] = {"y": rows, "x": cols, "b": slice(first, last + 1), "t": 0}
        block = self._file.read(self._dataset, tuple(ranges[axis] for axis in self._axes))
        left = self._axes.replace("t", "")
        block = block.transpose([left.index(axis) for axis in "byx" if axis in left])
        if "b" not in left:
            return block[None], None
        return np.ascontiguousarray(block[slots - first]), None
