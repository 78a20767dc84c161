"""From exception to exit code: the one place where geolift's promises to scripts are kept."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, NoReturn

import click

from geolift.cli.interrupts import Terminated, catch_interrupts
from geolift.errors import GeoliftError
from geolift.runtime.machine import BLOCK_CACHE_MB


def run(command: click.Command) -> NoReturn:
    """Run a Click command as a program."""
    # GDAL's default block cache is 5 % of the machine; tiles come in the order of the blocks, so a small one is enough.
    os.environ.setdefault("GDAL_CACHEMAX", str(BLOCK_CACHE_MB))
    catch_interrupts()
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
    except (KeyboardInterrupt, click.Abort):
        _say(f"interrupted; {_what_is_left()}", "error")
        code = 130
    except Terminated:
        _say(f"terminated; {_what_is_left()}", "error")
        code = 143
    except MemoryError:
        _say("not enough memory; pass a smaller --tile-size or --threads", "error")
        code = 7
    except BrokenPipeError:
        code = 0
    sys.stdout.flush()
    sys.exit(code if isinstance(code, int) else 0)


def _what_is_left() -> str:
    kept = "--resume" in sys.argv or os.environ.get("GEOLIFT_FUSE_RESUME") or sys.argv[1:2] == ["benchmark"]
    return "what is finished is kept for --resume" if kept else "no output was left behind"


def _say(message: Any, event: str) -> None:
    if _progress_mode(sys.argv) == "json":
        click.echo(json.dumps({"event": event, "message": str(message)}), err=True)
    else:
        click.echo(f"geolift: {message}", err=True)


def _progress_mode(argv: list[str]) -> str:
    for index, word in enumerate(argv):
        if word.startswith("--progress="):
            return word.partition("=")[2]
        if word == "--progress" and index + 1 < len(argv):
            return argv[index + 1]
    return os.environ.get("GEOLIFT_PROGRESS", "auto")
