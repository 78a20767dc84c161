"""The command line for a child process: it ends when the one who started it is gone, or closes its stdin.

`python -m geolift.cli.watchdog fuse …` is `geolift fuse …` with a pipe for stdin; when the other end closes, because
the parent was killed or wants it to end, the child leaves as after SIGTERM. Signals to a process group do not do that
where the parent dies of SIGKILL, and Windows has no signal that lets a child clean up.
"""

from __future__ import annotations

import _thread
import os
import signal
import threading

from geolift.cli import main


def hold() -> None:
    """Watch stdin from now on."""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # os.read takes no lock that the interpreter would wait for when it shuts down.
    while os.read(0, 1):
        pass
    if os.name == "posix":
        os.kill(os.getpid(), signal.SIGTERM)
    else:
        # There os.kill ends a process at once; this runs our handler of the signal.
        _thread.interrupt_main(signal.SIGTERM)


if __name__ == "__main__":
    hold()
    main()
