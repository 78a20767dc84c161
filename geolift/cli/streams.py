"""stdin, stdout and stderr as they come: closed, full, broken, in any encoding; none of it ends a run."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
from typing import TextIO

READABLE = {
    "×": "x", "·": "*", "–": "-", "—": "-", "−": "-", "‑": "-", "…": "...", "°": " deg", "µ": "u", "²": "^2", "³": "^3",
    "≤": "<=", "≥": ">=", "±": "+-", "→": "->", "“": '"', "”": '"', "‘": "'", "’": "'", "•": "*", "σ": "sigma",
    "Δ": "delta", "λ": "lambda", "√": "sqrt", "≈": "~", " ": " ", "█": "#", "━": "-", "╸": "-", "╺": "-",
}  # fmt: skip
"""What stands for a sign that an encoding lacks."""
ERRORS = "geolift-readable"


def _readable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write what an encoding lacks in signs that every encoding has; bytes of file names as they are."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    parts: list[bytes] = []
    for sign in error.object[error.start : error.end]:
        if 0xDC80 <= ord(sign) <= 0xDCFF:  # a byte of a file name that is no text
            parts.append(bytes([ord(sign) - 0xDC00]))
        else:
            text = READABLE.get(sign) or sign.encode("ascii", "backslashreplace").decode("ascii")
            parts.append(text.encode(error.encoding, "replace"))
    return b"".join(parts), error.end


class SteadyStream(io.TextIOBase):
    """A text stream whose failure is remembered and not raised: who cannot be told is not told.

    ``lost``: the failure, if there was one.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost: OSError | None = None
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the stream."""
        return self._stream.encoding or "utf-8"

    def isatty(self) -> bool:
        """Tell whether a person reads it."""
        return self.lost is None and self._stream.isatty()

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """Anything may be written, whether it arrives or not."""
        return True

    def write(self, text: str) -> int:
        """Write as far as that goes."""
        self._tried(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Bring it on its way."""
        if not self.closed:
            self._tried(self._stream.flush)

    def _tried(self, action: object) -> None:
        if self.lost is not None:
            return
        try:
            action()  # type: ignore[operator]
        except OSError as error:
            self._lose(error)
        except ValueError as error:  # closed
            self._lose(OSError(errno.EBADF, str(error)))

    def _lose(self, error: OSError) -> None:
        self.lost = error
        # What is still in the buffers goes nowhere, so that nothing complains at the end.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def steady_streams() -> tuple[SteadyStream, SteadyStream]:
    """Put stdout and stderr that cannot fail in their places; returns them.

    A closed descriptor is opened on nothing first: else the next file that is opened would get its number, and what
    is printed would go into the product.
    """
    codecs.register_error(ERRORS, _readable)
    for descriptor, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, flags)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123 - for as long as the process lives
    streams = []
    for stream in (sys.stdout, sys.stderr):
        nowhere = open(os.devnull, "w", encoding="utf-8") if stream is None else stream  # noqa: SIM115, PTH123
        streams.append(nowhere if isinstance(nowhere, SteadyStream) else SteadyStream(nowhere))
    sys.stdout, sys.stderr = streams
    return streams[0], streams[1]
