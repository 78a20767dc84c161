"""Rasters opened through GDAL, one handle for all threads, local or over the network."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Literal

import numpy as np
import rasterio
from rasterio.enums import MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from geolift.errors import GeoliftError, InputError, RemoteError
from geolift.readers.source import BandIndices, Layout

NETWORK = re.compile(r"(https?|s3|gs|az|abfss?)://|/vsi(curl|s3|gs|az|adls|oss|swift|webhdfs)", re.IGNORECASE)
SUBDATASET = re.compile(r"[A-Za-z][A-Za-z0-9_]+:.+")  # NETCDF:"a.nc":b; a single letter is a Windows drive
# Transient failures of servers are common; listing a server's folder for sidecars is slow and often forbidden.
REMOTE_OPTIONS = {
    "GDAL_HTTP_MAX_RETRY": "5",
    "GDAL_HTTP_RETRY_DELAY": "1",
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # One request for the header and the data near it.
    "CPL_VSIL_CURL_CHUNK_SIZE": "262144",
    "GDAL_HTTP_MULTIRANGE": "YES",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
}
PROBE_TIMEOUT_S = 10.0
HTTP_CODE = re.compile(r"(?:HTTP response code|HTTP error code|error code)\s*:?\s*(\d{3})")
HINTS = {401: "Is a login needed?", 403: "Is a signature or login needed?", 404: "Is the address right?"}


def is_remote(path: str) -> bool:
    """Tell whether a path is read over the network.

    >>> is_remote("https://a.b/c.tif"), is_remote("/vsizip/a.zip/b.tif")
    (True, False)
    """
    return NETWORK.search(path) is not None


def is_virtual(path: str) -> bool:
    """Tell whether a path is GDAL's to resolve: remote, one of its virtual file systems, or a subdataset's name.

    >>> is_virtual("/vsizip/a.zip/b.tif"), is_virtual("NETCDF:a.nc:mask"), is_virtual("C:/a.tif")
    (True, True, False)
    """
    return path.startswith("/vsi") or is_remote(path) or SUBDATASET.match(path) is not None


def environment(path: str) -> contextlib.AbstractContextManager[Any]:
    """Return GDAL's settings for a path; what the user set in the environment stays."""
    if not is_remote(path):
        return contextlib.nullcontext()
    options = {name: value for name, value in REMOTE_OPTIONS.items() if name not in os.environ}
    settings: contextlib.AbstractContextManager[Any] = rasterio.Env(**options)
    return settings


@contextlib.contextmanager
def undecodable_messages_ignored() -> Iterator[None]:
    """Keep Python from printing errors where GDAL's message about a file is no UTF-8 (in rasterio's log)."""
    unraisable, uncaught = sys.unraisablehook, sys.excepthook

    def of_callback(found: Any) -> None:
        if not isinstance(found.exc_value, UnicodeDecodeError):
            unraisable(found)

    def of_handler(kind: Any, error: Any, trace: Any) -> None:
        if not isinstance(error, UnicodeDecodeError):
            uncaught(kind, error, trace)

    sys.unraisablehook, sys.excepthook = of_callback, of_handler
    try:
        yield
    finally:
        if sys.unraisablehook is of_callback:
            sys.unraisablehook = unraisable
        if sys.excepthook is of_handler:
            sys.excepthook = uncaught


def open_raster(path: str) -> Any:
    """Open a raster. Raises RasterioError, RemoteError, or InputError where the text of its CRS is no UTF-8."""
    try:
        with environment(path), undecodable_messages_ignored(), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(path)
    except RasterioError as error:
        if is_remote(path) and "not recognized as being in a supported file format" not in str(error):
            raise _remote_failure(path, error) from error
        raise
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: the text of its CRS is not UTF-8; write it anew, or take it out and name the CRS"
        ) from error


class Tolerant:
    """An open rasterio dataset whose tags and band names need not be UTF-8: others are left to an ENVI header."""

    def __init__(self, source: Any, name: str, header: Mapping[str, str] | None = None) -> None:
        self._source, self.name, self._header = source, name, header or {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def tags(self, bidx: int = 0, ns: str | None = None) -> dict[str, str]:
        """Return the tags of the file or a band; those that are no UTF-8 as the header has them, or none."""
        try:
            return dict(self._source.tags(bidx, ns=ns))
        except UnicodeDecodeError:
            return dict(self._header) if ns == "ENVI" and not bidx else {}

    @property
    def descriptions(self) -> tuple[str | None, ...]:
        """What the bands are called."""
        try:
            return tuple(self._source.descriptions)
        except UnicodeDecodeError:
            names = [name.strip() for name in self._header.get("band_names", "").strip("{} \n").split(",")]
            return tuple(names) if len(names) == self._source.count else (None,) * int(self._source.count)

    @property
    def units(self) -> tuple[str | None, ...]:
        """The units of the bands' values."""
        try:
            return tuple(self._source.units)
        except UnicodeDecodeError:
            return (None,) * int(self._source.count)


def _remote_failure(path: str, error: Exception) -> RemoteError:
    text = " ".join(str(e) for e in (error, error.__cause__) if e is not None)
    found = HTTP_CODE.search(text)
    code = int(found[1]) if found else _answer_of(path)
    if code is None:
        return RemoteError(f"{path}: cannot be read over the network: {first_line(error)}")
    try:
        phrase = f" {HTTPStatus(code).phrase}"
    except ValueError:
        phrase = ""
    hint = HINTS.get(code, "The server did not answer after the retries; try again later." if code >= 500 else "")
    return RemoteError(f"{path}: the server answers HTTP {code}{phrase}. {hint}".rstrip())


def _answer_of(path: str) -> int | None:
    """Ask the server once more for its refusal, which GDAL does not pass on when it fails in the middle of a file."""
    address = path.removeprefix("/vsicurl/")
    if not address.lower().startswith(("http://", "https://")):
        return None
    request = urllib.request.Request(address, headers={"Range": "bytes=0-0"})
    try:
        with urllib.request.urlopen(request, timeout=PROBE_TIMEOUT_S):
            return None
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return refusal.code
    except OSError:
        return None


class SharedRaster:
    """One handle that threads take turns with, so that GDAL's block cache serves neighbouring tiles.

    Parameters
    ----------
    path : str
    bands : sequence of int, optional
        0-based bands of the file that make up the raster; by default all.
    alpha : int or "ignored", optional
        0-based band of the file that masks (0 = transparent); "ignored": a band is called alpha, but is data.
    """

    def __init__(
        self, path: str, bands: Sequence[int] | None = None, alpha: int | Literal["ignored"] | None = None
    ) -> None:
        self._path = path
        self._bands = None if bands is None else tuple(int(band) for band in bands)
        self._alpha = alpha
        self._lock = threading.Lock()
        self._source: Any = None
        self._layout: Layout | None = None

    def __reduce__(self) -> tuple[type[SharedRaster], tuple[Any, ...]]:
        return SharedRaster, (self._path, self._bands, self._alpha)

    @property
    def path(self) -> str:
        """The file, as messages name it."""
        return self._path

    @property
    def layout(self) -> Layout:
        """Its size and blocks; the stored type is one that holds the numbers of all bands."""
        if self._layout is None:
            with self._lock:
                source = self._opened()
                chosen = range(source.count) if self._bands is None else self._bands
                dtype = np.result_type(*(np.dtype(source.dtypes[band]) for band in chosen))
                self._layout = Layout(len(chosen), source.shape, dtype, source.block_shapes[0])
        return self._layout

    def read(self, rows: slice, cols: slice, bands: BandIndices | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Read one window of stored numbers. Raises InputError where the file is damaged, RemoteError if remote."""
        window, dtype = Window.from_slices(rows, cols), self.layout.dtype
        wanted = range(self.layout.count) if bands is None else [int(band) for band in bands]
        indexes = [(band if self._bands is None else self._bands[band]) + 1 for band in wanted]
        try:
            with self._lock, environment(self._path), undecodable_messages_ignored():
                source = self._opened()
                if len({source.dtypes[index - 1] for index in indexes}) == 1:
                    stored = source.read(indexes, window=window)
                else:  # rasterio reads bands of several types one by one only
                    stored = np.stack([source.read(index, window=window).astype(dtype) for index in indexes])
                return stored, self._mask(source, window)
        except RasterioError as error:
            raise self._damaged(rows, error) from error

    def _mask(self, source: Any, window: Window) -> np.ndarray | None:
        """Return the file's own mask of a window (y, x), 0 = invalid; None if it has none."""
        if isinstance(self._alpha, int):
            return np.asarray(source.read(self._alpha + 1, window=window))
        per_dataset = [flags for flags in source.mask_flag_enums if MaskFlags.per_dataset in flags]
        if not per_dataset or (self._alpha == "ignored" and all(MaskFlags.alpha in flags for flags in per_dataset)):
            return None
        return np.asarray(source.dataset_mask(window=window))

    def _opened(self) -> Any:
        if self._source is None:
            self._source = open_raster(self._path)
        return self._source

    def _damaged(self, rows: slice, error: Exception) -> GeoliftError:
        if is_remote(self._path):
            return _remote_failure(self._path, error)
        cause = str(error.__cause__ or error).splitlines()[0]
        return InputError(
            f"{self._path}: cannot be read at rows {rows.start} to {rows.stop}: {cause}. Is the file truncated?"
        )


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, without its full stop."""
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
