"""From exception to exit code: the one place where geolift's promises to scripts are kept."""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from typing import Any, NoReturn

import click

from geolift.cli.streams import steady_streams
from geolift.errors import GeoliftError, ResourceError, clean
from geolift.runtime.interrupts import Terminated, catch_interrupts, held, stay_ended
from geolift.runtime.machine import BLOCK_CACHE_MB

LISTENER_GONE = (errno.EPIPE, errno.EBADF)
"""Who reads a pipe has seen enough, or never listened: no failure."""

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ESTALE)
"""Faults of the machine, wherever they come from; no fault of ours, so no traceback."""


def run(command: click.Command) -> NoReturn:
    """Run a Click command as a program."""
    stdout, stderr = steady_streams()
    # GDAL's default block cache is 5 % of the machine; tiles come in the order of the blocks, so a small one is enough.
    os.environ.setdefault("GDAL_CACHEMAX", str(BLOCK_CACHE_MB))
    catch_interrupts()
    code = 2 if _refused_names(sys.argv[1:]) else _code_of(command)
    with held():
        stdout.flush()
        if stdout.lost is not None and stdout.lost.errno not in LISTENER_GONE:
            _say(f"stdout: the result cannot be written: {stdout.lost.strerror}", "error")
        stderr.flush()
        lost = [stream.lost for stream in (stdout, stderr) if stream.lost is not None]
        if code == 0 and any(error.errno not in LISTENER_GONE for error in lost):
            code = ResourceError.exit_code
        stay_ended()
    sys.exit(code)


def _refused_names(words: list[str]) -> bool:
    """Refuse names that are no text: neither GDAL nor JSON can write them."""
    for word in words:
        if any("\ud800" <= sign <= "\udfff" for sign in word):
            _say(f"{word}: is not encoded in UTF-8, as names of files must be; rename it", "error")
            return True
    return False


def _code_of(command: click.Command) -> int:
    try:
        code = command.main(standalone_mode=False, auto_envvar_prefix="GEOLIFT")
    except click.exceptions.Exit as leaving:
        code = leaving.exit_code
    except click.ClickException as error:
        if _progress_mode(sys.argv) == "json":
            _say(error.format_message(), "error")
        else:
            error.show()
        code = error.exit_code
    except GeoliftError as error:
        _say(error, "error")
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort) as error:
        _say(f"interrupted{_left(error)}", "error")
        code = 130
    except Terminated as error:
        _say(f"{error.word}{_left(error)}", "error")
        code = error.exit_code
    except MemoryError:
        _say("not enough memory; pass a smaller --tile-size or --threads", "error")
        code = 7
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK:
            _say(f"{error.filename or 'disk'}: {error.strerror}", "error")
            code = ResourceError.exit_code
        else:
            _say_bug()
            code = 1
    return code if isinstance(code, int) else 0


def _left(error: BaseException) -> str:
    """Tell what is on disk: whoever unwinds a file notes it on what interrupts."""
    notes = dict.fromkeys(getattr(error, "__notes__", ()))
    return "".join(f"; {note}" for note in notes) or "; nothing was written"


def _say_bug() -> None:
    """Show a traceback, which is for us; file names and messages in it are cleaned as everywhere."""
    text = clean(traceback.format_exc())
    if _progress_mode(sys.argv) == "json":
        last = text.strip().splitlines()[-1]
        click.echo(json.dumps({"event": "error", "message": last, "traceback": text}), err=True)
    else:
        click.echo(text, err=True)


def _say(message: Any, event: str) -> None:
    if _progress_mode(sys.argv) == "json":
        click.echo(json.dumps({"event": event, "message": clean(str(message))}), err=True)
    else:
        click.echo(f"geolift: {clean(str(message))}", err=True)


def _progress_mode(argv: list[str]) -> str:
    for index, word in enumerate(argv):
        if word.startswith("--progress="):
            return word.partition("=")[2]
        if word == "--progress" and index + 1 < len(argv):
            return argv[index + 1]
    return os.environ.get("GEOLIFT_PROGRESS", "auto")
