"""A run that dies, or is refused, at any of its file-system calls leaves the older set or the newer one; never both."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

if os.name != "posix":
    pytest.skip("each case is a fork", allow_module_level=True)

import crash_matrix

from geolift.errors import ResourceError
from geolift.writer import draft_of, recover
from geolift.writer.publication import LOG


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    with crash_matrix.stage() as folder:
        yield folder


@pytest.mark.parametrize("of", crash_matrix.FORMATS)
def test_one_whole_set_stands_wherever_a_run_is_struck(base: Path, of: str) -> None:
    """Every call with every fault is `python tools/crash_matrix.py`."""
    stand, calls = crash_matrix.stand_of(base, of), crash_matrix.calls_of(base, of)
    assert len(calls) > 50
    renaming = next(i for i, call in enumerate(calls, start=1) if "publish.part" in call)
    # Before the log is written nothing has changed; behind it every fourth call, and the faults in turn.
    struck = [*range(1, renaming, renaming // 4), *range(renaming, len(calls) + 1, 4)]
    found = {
        case: wrong
        for case in map(crash_matrix.Case, [of] * len(struck), crash_matrix.FAULTS * len(struck), struck)
        if (wrong := crash_matrix.problems(base, case, stand))
    }
    assert not found


def test_a_log_of_a_stranger_moves_nothing_out_of_its_folder(tmp_path: Path) -> None:
    victim = tmp_path / "home" / "precious.txt"
    victim.parent.mkdir()
    victim.write_text("mine", encoding="utf-8")
    draft = tmp_path / "given" / ".x.tif.parts"
    for entry in (
        '{"draft": "../../home/.x.parts", "name": "precious.txt", "made": true, "data": true, "there": true}',
        '{"draft": ".", "name": "../../home/precious.txt", "made": true, "data": true, "there": true}',
        '{"draft": "../../home", "name": "precious.txt", "made": false, "data": false, "there": true}',
    ):
        (draft / "new").mkdir(parents=True, exist_ok=True)
        (draft / "new" / "precious.txt").write_text("theirs", encoding="utf-8")
        (draft / LOG).write_text(f'{{"files": [{entry}]}}', encoding="utf-8")
        recover(tmp_path / "given")
        assert victim.read_text(encoding="utf-8") == "mine"


def test_two_runs_do_not_write_one_output_and_the_second_is_told(tmp_path: Path) -> None:
    with draft_of(tmp_path / "a.tif"), pytest.raises(ResourceError, match="another run"), draft_of(tmp_path / "a.tif"):
        pass
    assert list(tmp_path.iterdir()) == []
