"""What a person reads of a run in the terminal: the stages with their times, the verdict, the heaviest warnings."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from scenes import Pair

from geolift.cli.console import Console
from geolift.cli.stages import ended_line
from geolift.provenance.record import RunRecord
from geolift.report import summary
from geolift.report.verdict import Verdict, by_weight
from geolift.report.verdict import verdict as verdict_of

pytestmark = pytest.mark.usefixtures("few_steps")

WELL = {
    "inputs": {"hsi": {}, "msi": {}},
    "check": {"verdict": [{"code": "ok", "message": "", "option": "", "settled": False}]},
    "coregistration": {"applied": False, "reliable": True, "shift_msi_px": {"dy": 0.0, "dx": 0.0}, "confidence": 1.0},
    "warnings": [],
}


def verdict(facts: dict[str, Any]) -> Verdict:
    return verdict_of(RunRecord.model_validate(facts))


def found(code: str, **others: Any) -> dict[str, Any]:
    return {"verdict": [{"code": code, "message": f"{code}!", "option": "", "settled": False, **others}]}


def test_a_clean_run_is_usable_and_an_alarm_makes_one_look_first() -> None:
    assert verdict(WELL).grade == "usable"
    assert verdict(WELL | {"check": found("offset")}).grade == "look first"
    assert "a constant is missing" in verdict(WELL | {"check": found("offset")}).sentence
    assert verdict(WELL | {"check": found("units", settled=True)}).grade == "usable"
    assert verdict(WELL | {"check": None}).grade == "with care"
    moved = {**WELL["coregistration"], "applied": True}  # type: ignore[dict-item]
    assert verdict(WELL | {"check": found("shift"), "coregistration": moved}).grade == "usable"
    weak = {**WELL["coregistration"], "reliable": False}  # type: ignore[dict-item]
    assert verdict(WELL | {"coregistration": weak}).grade == "with care"


def test_what_was_only_assumed_does_not_spoil_a_verdict() -> None:
    assumed, wrong = "sentinel2: sentinel-2a assumed", "the harmonisation was not possible"
    assert verdict(WELL | {"warnings": [assumed]}).grade == "usable"
    assert verdict(WELL | {"warnings": [assumed, wrong]}).grade == "with care"
    assert by_weight([assumed, wrong, "offset: offset!", wrong], ["offset!"]) == ("offset: offset!", wrong, assumed)


def test_bands_that_the_msi_does_not_determine_are_named() -> None:
    told = {"wavelength_nm": [500, 1400, 2200], "explained": [0.99, None, 0.2], "bits": [], "held_out_pixels": 100}
    sentence = verdict(WELL | {"information": told}).sentence
    assert "but not for fine features at 2200 nm" in sentence
    assert "50 %" in sentence
    assert sentence.startswith("Usable for maps and spectra")
    changed = WELL | {"information": told, "refinement": {"applied": True, "changed_share": 0.13}}
    assert "at 2200 nm, where" in verdict(changed).sentence
    assert "nor for detail finer than the HSI's in the 13 % of its pixels" in verdict(changed).sentence


def test_three_warnings_are_shown_and_the_others_counted() -> None:
    item = {"properties": {f"geolift:{key}": value for key, value in {**WELL, "warnings": list("abcde")}.items()}}
    lines = summary.lines(Path("out dir/fused.tif"), item)
    assert [line.split()[1] for line in lines if line.startswith("warning")] == ["a", "b", "c"]
    assert any("2 more stand in fused.json" in line for line in lines)
    assert lines[0].startswith("verdict")
    assert "product      out dir/fused.tif" in lines


def test_a_run_tells_its_stages_with_their_times_and_sums_itself_up(pair: Pair, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "geolift", "fuse", str(pair.hsi), str(pair.msi), "o.tif", "--sensor", "s2a"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "o.tif\n"
    lines = done.stderr.splitlines()
    assert lines[0] == f"fuse {pair.hsi} {pair.msi} o.tif"
    stages = [line.split()[0] for line in lines if re.fullmatch(r"\w+ +\d+\.\d s.*", line)]
    assert {"comparing", "training", "writing"} <= set(stages)
    assert [line.split()[0] for line in lines if line.startswith(("verdict", "product", "report"))] == [
        "verdict", "product", "report",
    ]  # fmt: skip
    # A log has heard each warning when it came.
    warned = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))["properties"]["geolift:warnings"]
    assert [line for line in lines if line.startswith("warning")] == [f"warning: {text}" for text in warned]


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals as POSIX has them")
def test_a_terminal_shows_something_before_anything_heavy_is_loaded(pair: Pair, tmp_path: Path) -> None:
    import pty

    leader, follower = pty.openpty()
    started = time.monotonic()
    command = [sys.executable, "-m", "geolift", "check", str(pair.hsi), str(pair.msi), "--sensor", "s2a"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=follower) as process:
        os.close(follower)
        seen = b""
        while b"check" not in seen and time.monotonic() - started < 60:
            if select.select([leader], [], [], 1)[0]:
                seen += os.read(leader, 4096)
        # What is loaded by now is the terminal's own, not torch or xarray.
        maps = Path(f"/proc/{process.pid}/maps")
        loaded = maps.read_text(encoding="utf-8") if maps.exists() else ""
        assert process.stdout is not None
        while process.poll() is None and select.select([leader], [], [], 60)[0]:
            try:
                seen += os.read(leader, 4096)
            except OSError:  # the other end is closed
                break
        result = process.stdout.read().decode()
        assert process.wait(timeout=120) == 0
    os.close(leader)
    assert "libtorch" not in loaded
    assert result.startswith("nothing wrong found\n")
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode()).splitlines()
    assert not any("100%" in line for line in last[-3:]), "no finished bar stays"


def test_warnings_are_not_lost_where_a_run_ends_badly(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), Console("bar") as console:
        console.warn("the sky is falling")
        raise RuntimeError
    assert "warning: the sky is falling" in capsys.readouterr().err


def test_a_summary_breaks_no_path(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    path = "/data/" + "a-rather-long-name/" * 8 + "fused.tif"
    with Console("bar") as console:
        console.summary([f"product      {path}", "verdict      " + "word " * 30])
    text = capsys.readouterr().err
    assert path in text
    assert all(len(line) <= 60 or path in line for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).splitlines())


def test_a_stage_leaves_one_line() -> None:
    assert ended_line("writing", 0.04) == "writing         0.0 s"


def test_gdals_progress_is_what_gdal_writes(capsys: pytest.CaptureFixture[str]) -> None:
    with Console("gdal", title="fuse a b") as console:
        for share in (0.1, 0.1, 0.42, 1.0):
            console.progress("training", share)
        console.progress("writing", 0.3)
        console.warn("odd")
        console.progress("writing", 0.4)
    written = capsys.readouterr().err.splitlines()
    assert written[:3] == ["fuse a b", "training", "0...10...20...30...40...50...60...70...80...90...100 - done."]
    assert written[3:] == ["writing", "0...10...20...30", "warning: odd", "0...10...20...30...40"]
