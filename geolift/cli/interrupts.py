"""Ctrl-C and SIGTERM: both unwind the run, so that nothing half-written stays."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType


class Terminated(BaseException):
    """SIGTERM arrived; unwinds like Ctrl-C."""


_arrived: list[type[BaseException]] = []


def catch_interrupts() -> None:
    """Raise KeyboardInterrupt at Ctrl-C, and Terminated at SIGTERM."""
    for number, kind in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)):
        signal.signal(number, _handler(kind))


def _handler(kind: type[BaseException]) -> Callable[[int, FrameType | None], None]:
    def handler(_: int, __: FrameType | None) -> None:
        _arrived.append(kind)
        raise kind

    return handler


def raise_interrupt() -> None:
    """Raise again what has arrived and was lost: compiled code may clear an exception raised under it."""
    if _arrived and threading.current_thread() is threading.main_thread():
        raise _arrived[0]
