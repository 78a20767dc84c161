"""Errors a user can cause, each with the exit code that scripts rely on."""

from __future__ import annotations


class GeoliftError(Exception):
    """Base of every error that is a message to the user, not a bug."""

    exit_code = 1


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
