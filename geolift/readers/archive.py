"""Products in ZIP files, read in place: a folder of GDAL's /vsizip that looks like a path."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from geolift.errors import InputError

RASTER_SUFFIXES = (".tif", ".tiff", ".jp2", ".img", ".bsq", ".vrt")
UNPACKED_FIRST = {".tar": "tar -xf", ".tgz": "tar -xzf", ".gz": "tar -xzf", ".7z": "7z x", ".rar": "unrar x"}


class ZipPlace:
    """A file or folder inside a ZIP file, with what readers ask of a path; as text it is GDAL's name of it."""

    def __init__(self, archive: Path, names: frozenset[str], at: str = "") -> None:
        self._archive, self._names, self._at = archive, names, at

    @classmethod
    def root_of(cls, path: str) -> ZipPlace | None:
        """Open a ZIP file at its only folder, if it has one; None if it is no ZIP file."""
        archive = Path(path)
        if archive.suffix.lower() != ".zip" or not archive.is_file() or not zipfile.is_zipfile(archive):
            return None
        try:
            with zipfile.ZipFile(archive) as file:
                names = frozenset(name for name in file.namelist() if not name.startswith("__MACOSX"))
        except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
            raise InputError(f"{path}: not a ZIP file that can be read: {error}. Is it cut off?") from error
        root = cls(archive.resolve(), names)
        inside = list(root.iterdir())
        return inside[0] if len(inside) == 1 and inside[0].is_dir() else root

    def __str__(self) -> str:
        return f"/vsizip/{self._archive}/{self._at}".rstrip("/")

    def __truediv__(self, name: str) -> ZipPlace:
        return ZipPlace(self._archive, self._names, str(PurePosixPath(self._at) / name))

    def __lt__(self, other: ZipPlace) -> bool:
        return self._at < other._at

    @property
    def name(self) -> str:
        """Its last part."""
        return PurePosixPath(self._at).name or self._archive.name

    @property
    def stem(self) -> str:
        """Its last part without suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """Its suffix with the point."""
        return PurePosixPath(self._at).suffix

    @property
    def parent(self) -> ZipPlace:
        """The folder it lies in."""
        parent = str(PurePosixPath(self._at).parent)
        return ZipPlace(self._archive, self._names, "" if parent == "." else parent)

    def is_file(self) -> bool:
        """Whether there is such a file."""
        return self._at in self._names and not self._at.endswith("/")

    def is_dir(self) -> bool:
        """Whether there is such a folder."""
        return not self._at or any(name.startswith(f"{self._at}/") for name in self._names)

    def iterdir(self) -> Iterator[ZipPlace]:
        """Walk over what lies in a folder."""
        start = f"{self._at}/" if self._at else ""
        found = {name[len(start) :].partition("/")[0] for name in self._names if name.startswith(start)}
        return (self / name for name in sorted(found - {""}))

    def glob(self, pattern: str) -> Iterator[ZipPlace]:
        """Walk over the files of a folder that fit a pattern with at most one folder in it."""
        start = f"{self._at}/" if self._at else ""
        fitting = (n for n in sorted(self._names) if n.startswith(start) and fnmatchcase(n[len(start) :], pattern))
        return (ZipPlace(self._archive, self._names, name) for name in fitting)

    def read_bytes(self) -> bytes:
        """Return a file's content."""
        try:
            with zipfile.ZipFile(self._archive) as file:
                return file.read(self._at)
        except (KeyError, OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
            raise InputError(f"{self}: cannot be read: {error}. Is the ZIP file cut off?") from error

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return a file's text."""
        return self.read_bytes().decode(encoding, errors)


Place = Path | ZipPlace


def place_of(path: str) -> Place:
    """Return a path, or the folder inside it if it is a ZIP file."""
    return ZipPlace.root_of(path) or Path(path)


def only_raster(path: str) -> str:
    """Name the one image of several bands in a ZIP file, such as Wyvern's, as GDAL does.

    Raises InputError if there is none, or several.
    """
    root = ZipPlace.root_of(path)
    names = sorted(
        name for name in (root._names if root else ()) if PurePosixPath(name).suffix.lower() in RASTER_SUFFIXES
    )
    images = [
        name for name in names if not any(word in name.lower() for word in ("mask", "preview", "thumb", "quicklook"))
    ]
    if len(images) == 1 and root is not None:
        return str(ZipPlace(root._archive, root._names, images[0]))
    if not images:
        raise InputError(f"{path}: holds no raster that geolift knows; unpack it first: unzip {Path(path).name}")
    shown = ", ".join(images[:6]) + (" …" if len(images) > 6 else "")
    raise InputError(f"{path}: holds {len(images)} rasters ({shown}); name one: /vsizip/{path}/{images[0]}")


def advice(path: str) -> str | None:
    """Say how an archive that is not read in place is unpacked; None if a path is none."""
    place = Path(path)
    command = UNPACKED_FIRST.get(place.suffix.lower())
    if command is None:
        return None
    nested = " (and the ZIP files in it: unzip)" if place.suffix.lower() in (".gz", ".tgz", ".tar") else ""
    return f"{path}: an archive that is not read in place; unpack it first: {command} {place.name}{nested}"
