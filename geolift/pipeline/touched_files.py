"""Nothing of the user's is touched unasked: what a run reads against what it writes or removes, before it begins."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from geolift.errors import OutputExistsError, ResourceError, UsageError
from geolift.readers.source_files import files_of_input
from geolift.writer import companions, described_by, is_envi, is_sidecar_of, is_store, recover, sidecar_of
from geolift.writer.formats import ENVI

DATA_OF_A_HEADER = ("", *ENVI, ".raw", ".bin", ".envi")


@dataclass(frozen=True)
class Output:
    """A file that a run makes. ``told``: with a sidecar beside it, of the same stem."""

    path: Path
    told: bool = False

    @property
    def beside(self) -> list[Path]:
        """What is written or removed with it."""
        sidecar = sidecar_of(self.path)
        return [*companions(self.path), *([sidecar] if self.told or is_sidecar_of(sidecar, self.path) else [])]


def require_untouched(inputs: Iterable[str | Path | None], outputs: Sequence[Output], *, overwrite: bool) -> None:
    """Refuse outputs that would replace or remove what is an input's, somebody else's, or there and not to be replaced.

    Also completes what an earlier run that died has left half renamed beside inputs and outputs. Raises UsageError if
    an output is an input's file, or belongs to another product; also with ``overwrite``; OutputExistsError if something
    is there and ``overwrite`` is not given; ResourceError if a folder does not exist or cannot be written.

    ``inputs``: everything that is read: images, models, masks, tables; None and names that are no local file are passed
    over.
    """
    names = [str(name) for name in inputs if name is not None]
    for output in outputs:
        _require_a_file_name(output.path)
    recover_beside([*names, *(output.path for output in outputs)])
    _require_apart(outputs)
    files, folders = set[Path](), set[Path]()
    for name in names:
        more_files, more_folders = files_of_input(name)
        files |= more_files
        folders |= more_folders
    identities = {(stat.st_dev, stat.st_ino) for stat in (file.stat() for file in files if file.exists())}
    for output in outputs:
        for path in (output.path, *output.beside):
            if os.path.lexists(path):
                _require_no_input(path, output.path, files, identities, folders)
        _require_free(output, overwrite)


def recover_beside(names: Iterable[str | Path]) -> None:
    """Complete what runs that died left half renamed in the folders of these files."""
    for folder in dict.fromkeys(Path(name).parent for name in names if "\0" not in str(name)):
        if folder.is_dir():
            recover(folder)


def _require_a_file_name(path: Path) -> None:
    if str(path).startswith("-"):
        raise UsageError(f"{path}: an option is no file name; give the output another name")
    if not path.name or "\0" in str(path):
        raise UsageError(f"{str(path)!r}: is no name of a file")


def _require_apart(outputs: Sequence[Output]) -> None:
    """Refuse to write two things into one file."""
    seen: dict[Path, Path] = {}
    for output in outputs:
        for path in (output.path, *output.beside):
            other = seen.setdefault(path.resolve(), output.path)
            if other != output.path or (path == output.path and [o.path for o in outputs].count(path) > 1):
                raise UsageError(f"{path}: is named for two outputs; give each of them a name of its own")


def _require_no_input(
    path: Path, output: Path, files: set[Path], identities: set[tuple[int, int]], folders: set[Path]
) -> None:
    resolved = path.resolve()
    stat = path.stat() if path.exists() else None
    is_read = resolved in files | folders or (stat is not None and (stat.st_dev, stat.st_ino) in identities)
    # Of a product's folder anything may be read, but for what geolift has put there itself.
    inside = any(resolved.is_relative_to(folder) for folder in folders)
    if is_read or (inside and not is_sidecar_of(sidecar_of(output), output) and not _is_ours(path)):
        word = "is an input" if path == output else f"would be replaced with {output.name}, and is an input's"
        raise UsageError(f"{path}: {word}; give the output another name")


def _is_ours(path: Path) -> bool:
    """Tell whether a file inside an input's folder is one of geolift's products, by the sidecar beside it."""
    return described_by(path) is not None or is_sidecar_of(sidecar_of(path), path)


def _require_free(output: Output, overwrite: bool) -> None:
    path, folder = output.path, output.path.parent
    if not folder.is_dir():
        raise ResourceError(f"{path}: the folder {folder} does not exist; create it first")
    if path.is_dir() and not is_store(path):
        raise UsageError(f"{path}: is a folder; name a file in it")
    if any(is_store(parent) for parent in path.resolve().parents):
        raise UsageError(f"{path}: lies inside a Zarr store; name a file beside it")
    for there in (path, *output.beside):
        if os.path.lexists(there) and not overwrite and not (there.suffix == ".qml" and there != path):
            also = "" if there == path else f", and would be replaced with {path.name}"
            raise OutputExistsError(f"{there}: exists already{also}. Pass --overwrite to replace it.")
    _require_own_companions(output)
    if not os.access(folder, os.W_OK):
        raise ResourceError(f"{path}: the folder {folder} cannot be written")


def _require_own_companions(output: Output) -> None:
    """Refuse to replace a header or a sidecar that another file of the same stem needs."""
    path = output.path
    header, sidecar = path.with_suffix(".hdr"), sidecar_of(path)
    way_out = f"give {path.name} another stem"
    if is_envi(path) and header.exists() and not path.exists():
        for suffix in DATA_OF_A_HEADER:
            neighbour = header.with_name(header.stem + suffix)
            if neighbour != path and neighbour.is_file():
                raise UsageError(f"{header}: is the header of {neighbour.name}; {way_out}")
    if output.told and sidecar.exists():
        described = described_by(sidecar)
        if described not in (None, path.name) and sidecar.with_name(str(described)).exists():
            raise UsageError(f"{sidecar}: is the sidecar of {described}; {way_out}")
