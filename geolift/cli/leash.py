"""The command line for a child process: it ends when the one who started it is gone.

`python -m geolift.cli.leash fuse …` is `geolift fuse …` with a pipe for stdin; when the other end closes, because the
parent was killed, the child leaves as after SIGTERM. Signals to a process group do not do that where the parent dies
of SIGKILL, and Windows has no groups.
"""

from __future__ import annotations

import os
import signal
import threading

from geolift.cli import main


def _end_with_parent() -> None:
    # os.read takes no lock that the interpreter would wait for when it shuts down.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    main()
