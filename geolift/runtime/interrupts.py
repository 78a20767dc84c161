"""Ctrl-C, SIGTERM and SIGHUP: the first unwinds the run, so that nothing half-written stays; others wait for it."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType


class Terminated(BaseException):
    """SIGTERM arrived; unwinds like Ctrl-C."""

    exit_code = 143
    word = "terminated"


class HungUp(Terminated):
    """SIGHUP arrived: the terminal is gone."""

    exit_code = 129
    word = "hung up"


KINDS: dict[str, type[BaseException]] = {"SIGINT": KeyboardInterrupt, "SIGTERM": Terminated, "SIGHUP": HungUp}


class _State:
    """What has arrived, and whether it waits; signals are a matter of the whole process."""

    arrived: type[BaseException] | None = None
    holding = 0


def catch_interrupts() -> None:
    """Raise KeyboardInterrupt at Ctrl-C, Terminated at SIGTERM, HungUp at SIGHUP; what is ignored stays so (nohup)."""
    for name, kind in KINDS.items():
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handler(kind))
    unraisable = sys.unraisablehook
    # Raised under a destructor it is lost, and raised again by `raise_interrupt`; nobody needs to read of it.
    sys.unraisablehook = lambda lost: None if isinstance(lost.exc_value, tuple(KINDS.values())) else unraisable(lost)


def _handler(kind: type[BaseException]) -> Callable[[int, FrameType | None], None]:
    def handler(_: int, __: FrameType | None) -> None:
        # A second signal while the first one's clean-up runs would leave half of it undone.
        if _State.arrived is None:
            _State.arrived = kind
            if not _State.holding:
                raise kind

    return handler


def arrived() -> type[BaseException] | None:
    """Return what has arrived, if anything."""
    return _State.arrived


def stay_ended() -> None:
    """Let no further signal change how an interrupted process ends: Python drops its handlers before it is gone."""
    for name in KINDS:
        number = getattr(signal, name, None)
        if number is not None and _State.arrived is not None:
            signal.signal(number, signal.SIG_IGN)


def raise_interrupt() -> None:
    """Raise again what has arrived and was lost: compiled code may clear an exception raised under it."""
    if _State.arrived is not None and not _State.holding and threading.current_thread() is threading.main_thread():
        raise _State.arrived


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Let a signal wait until the block is done; it is raised then."""
    before = _State.arrived
    _State.holding += 1
    try:
        yield
    finally:
        _State.holding -= 1
    if _State.arrived is not before:
        raise_interrupt()
