"""stdout and stderr closed, full, broken, in any encoding: nothing changes but what can be seen."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from geolift.cli import COMMANDS, cli, streams
from geolift.cli.streams import SteadyStream, steady_streams

ENCODINGS = ("cp1251", "cp932", "gbk", "cp437", "latin-1", "ascii", "utf-8", "utf-16")
FILE_NAME = os.fsdecode(b"caf\xe9.tif")


@pytest.fixture(autouse=True)
def own_streams(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    steady_streams()
    yield


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_help_of_every_command_fits_every_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ((), *((command,) for command in COMMANDS)):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", SteadyStream(io.TextIOWrapper(raw, encoding=encoding)))
        with pytest.raises(click.exceptions.Exit):
            cli.main([*name, "--help"], standalone_mode=False)
            raise click.exceptions.Exit(0)
        sys.stdout.flush()
        assert "Usage:" in raw.getvalue().decode(encoding)


def test_what_an_encoding_lacks_is_written_in_signs_that_it_has() -> None:
    raw = io.BytesIO()
    stream = SteadyStream(io.TextIOWrapper(raw, encoding="ascii"))
    stream.write(f"3 × 4 px, −1 °, ≥ µm 漢 {FILE_NAME}")
    stream.flush()
    assert raw.getvalue() == b"3 x 4 px, -1  deg, >= um \\u6f22 caf\xe9.tif"


class Failing(io.StringIO):
    def write(self, _: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_stream_that_fails_is_remembered_and_not_raised() -> None:
    stream = SteadyStream(Failing())
    assert stream.write("result") == 6
    assert stream.lost is not None
    stream.flush()
    assert not stream.isatty()


def geolift(redirection: str, tmp_path: Path) -> tuple[int, str]:
    """Run a light command through the shell; what it said on stderr."""
    script = f'"{sys.executable}" -m geolift sensors {redirection}'
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {script}"], cwd=tmp_path, capture_output=True, text=True)
    return done.returncode, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("redirection", "code"), [(">&-", 0), (">/dev/full", 7), ("| true", 0), (">&- 2>&-", 0), ("2>/dev/full", 0)]
)
def test_a_command_ends_as_its_stdout_deserves(redirection: str, code: int, tmp_path: Path) -> None:
    found, said = geolift(redirection, tmp_path)
    assert found == code, said
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    assert ("No space left" in said) == (code == 7)


def test_a_closed_descriptor_is_opened_on_nothing_so_that_no_product_gets_its_number(tmp_path: Path) -> None:
    code = (
        "import os\nos.close(1)\nfrom geolift.cli.streams import steady_streams\nsteady_streams()\n"
        f"descriptor = os.open({str(tmp_path / 'p')!r}, os.O_CREAT | os.O_WRONLY)\nprint('noise')\n"
        "raise SystemExit(descriptor <= 2)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
    assert (tmp_path / "p").read_bytes() == b""
    assert streams.ERRORS
