"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import time
from pathlib import Path

from geolift.errors import ResourceError
from geolift.runtime.interrupts import held
from geolift.runtime.system import open_locked, sync_folder

PATIENCE_S = 30.0
"""Two processes may write one file, such as a summary; each is done in a moment."""


def write_whole(path: Path, content: bytes | str, what: str = "") -> None:
    """Write a file beside its name, bring it to the disk and give it its name; what was there stays if that fails.

    A process that is killed meanwhile leaves ``.NAME.part``, which the next writer of that name takes over. Raises
    ResourceError if it cannot be written.

    ``content``: text is written as UTF-8. ``what``: what it is, for the message: "the model".
    """
    part = path.with_name(f".{path.name}.part")
    with held():
        try:
            _write(part, content.encode("utf-8") if isinstance(content, str) else content, path)
        except OSError as error:
            raise ResourceError(
                f"{path}: {what or 'it'} cannot be written: {error.strerror or error}".replace(
                    ": it cannot", ": cannot"
                )
            ) from error


def _write(part: Path, content: bytes, path: Path) -> None:
    descriptor = _taken(part)
    try:
        try:
            os.ftruncate(descriptor, 0)
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            if os.name == "nt":  # where an open file cannot be renamed
                os.close(descriptor)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        if os.name != "nt":
            os.close(descriptor)
    sync_folder(path.parent)


def _taken(part: Path) -> int:
    until = time.monotonic() + PATIENCE_S
    while (descriptor := open_locked(part)) is None:
        if time.monotonic() > until:
            raise OSError(f"another process has been writing it for {PATIENCE_S:.0f} s")
        time.sleep(0.02)
    return descriptor
