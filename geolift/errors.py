"""Errors a user can cause, each with the exit code that scripts rely on, in words that give nothing away."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

LOGIN = re.compile(r"([a-z0-9]{2}(?:://?|%3A%2F%2F))[^/?#\s'\"]+(@|%40)", re.IGNORECASE)
"""User and password in an address, also in one that is a parameter of another or that lost a slash as a path. A
password may hold an @."""
QUERY = re.compile(r"[?#][^\s'\"<>]*")
"""Whatever follows: a list of signed headers holds semicolons."""
PASSWORD = re.compile(r"\b(password|passwd|pwd)=('[^']*'|[^\s'\"]+)", re.IGNORECASE)
"""In the words of a database's driver."""
SECRET = re.compile(
    r"(sig|signature|token|key|keyid|accesskeyid|secret|password|passwd|pwd|credential|credentials|auth|authorization"
    r"|policy|apikey|api_key|api-key|session)\s*(=|%3D)|x-(amz|goog|ms)-",
    re.IGNORECASE,
)
"""Names in a query that only a signed address has, or that speak for themselves."""
SECRET_LEFT_OUT = re.compile("…@|[?#=]…")
"""What `without_secrets` leaves in its place."""
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What a terminal would obey, and what turns the direction of writing."""


def without_secrets(text: str) -> str:
    """Take logins and signed queries out of the addresses in a text.

    >>> without_secrets("https://me:pw@a.b/c.tif?X-Amz-Signature=1f: not found")
    'https://…@a.b/c.tif?… not found'
    """
    text = PASSWORD.sub(r"\1=…", LOGIN.sub(r"\1…@", text))
    return QUERY.sub(lambda found: found[0][0] + "…" if SECRET.search(found[0]) else found[0], text)


def visible(text: str) -> str:
    """Show control characters instead of obeying them; lines and tabs stay.

    >>> visible("\\x1b[2Jband")
    '\\\\x1b[2Jband'
    """
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def clean(text: str) -> str:
    """Return a text as it may be shown and kept: without secrets, without control characters."""
    return visible(without_secrets(text))


def cleaned(value: Any) -> Any:
    """Return a JSON document whose texts are without secrets; JSON itself escapes control characters."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, Mapping):
        return {without_secrets(key) if isinstance(key, str) else key: cleaned(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned(item) for item in value]
    return value


FORMULA = ("=", "+", "-", "@", "\t", "\r")


def harmless_cell(text: str) -> str:
    """Return a cell of a CSV that no spreadsheet takes for a formula; numbers stay numbers.

    >>> harmless_cell("=1+1"), harmless_cell("-2.5")
    ("'=1+1", '-2.5')
    """
    text = clean(text)
    if not text.startswith(FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def cell_text(cell: str) -> str:
    """Undo `harmless_cell`."""
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(FORMULA) else cell


class GeoliftError(Exception):
    """Base of every error that is a message to the user, not a bug."""

    exit_code = 1

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(clean(value) if isinstance(value, str) else value for value in arguments))


class UsageError(GeoliftError, ValueError):
    """The options contradict each other or have no meaning."""

    exit_code = 2


class InputError(GeoliftError, ValueError):
    """An input is missing, unreadable, invalid or incompatible."""

    exit_code = 3


class NoOverlapError(InputError):
    """HSI and MSI have no ground in common."""


class OutputExistsError(GeoliftError, FileExistsError):
    """The output is there already and may not be replaced."""

    exit_code = 4


class TrustError(GeoliftError):
    """Co-registration or the cross-sensor check is not trustworthy and ``--strict`` was asked for."""

    exit_code = 5


class QualityGateError(GeoliftError):
    """A measure required by ``--require`` was not reached."""

    exit_code = 6


class ResourceError(GeoliftError, OSError):
    """Not enough memory, disk or GPU, or a folder that cannot be written."""

    exit_code = 7


class RemoteError(GeoliftError, OSError):
    """A remote read failed after its retries."""

    exit_code = 8


class PartlyFailed(GeoliftError):
    """Some of many jobs failed; leaves with the code of the first of them."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code
