"""What is shown and kept gives nothing away, and nothing in it is obeyed: secrets, escapes, formulas."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from geolift.errors import InputError, ResourceError, cell_text, clean, harmless_cell, without_secrets
from geolift.provenance.sidecar import read_sidecar, settings_of_run, write_json

SIGNED = [
    "https://a.b/c.tif?X-Amz-Signature=5ecret&X-Amz-Date=1",
    "https://a.b/c.tif?sv=1&sig=5ecret%3D",
    "/vsicurl/https://me:5ecret@a.b/c.tif",
    "s3://me:5ecret@bucket/c.tif",
    "/vsicurl?url=https://a.b/c.tif&header.Authorization=5ecret",
    "https://a.b/c.tif?access_token=5ecret",
    "https://a.b/c.tif#access_token=5ecret",
    "https://a.b/c.tif?X-Amz-SignedHeaders=host;range&X-Amz-Signature=5ecret",
    "https://me:p@5ecret@a.b/c.tif",
    "http:/me:5ecret@a.b/c.tif",
    "/vsicurl?url=https%3A%2F%2Fme%3A5ecret%40a.b%2Fc.tif",
    "PG:host=a.b user=me password=5ecret dbname=x",
]


@pytest.mark.parametrize("name", SIGNED)
def test_logins_and_signed_queries_are_neither_shown_nor_kept(name: str, tmp_path: Path) -> None:
    error = InputError(f"{name}: no such file; 'x'")
    assert "5ecret" not in str(error)
    assert str(error).endswith(": no such file; 'x'") or "?" in name or "#" in name
    assert "5ecret" not in str(pickle.loads(pickle.dumps(error)))
    item = {"properties": {"geolift:inputs": {"hsi": {"href": name}, "msi": {"href": "m.tif"}}, "geolift:settings": {}}}
    write_json(tmp_path / "a.json", item)
    assert "5ecret" not in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "hsi" in read_sidecar(tmp_path / "a.json")["inputs"]
    assert settings_of_run(tmp_path / "a.json").get("hsi") is None  # it has to be given again, with its login
    assert settings_of_run(tmp_path / "a.json")["msi"] == "m.tif"


@pytest.mark.parametrize(
    "text", ["https://a.b/c.tif?version=3", "mail me@a.b", "why? because", "a?b.tif", "C:/me@home/a.tif", "a#1.tif"]
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert without_secrets(text) == text


def test_escapes_from_files_are_shown_and_not_obeyed() -> None:
    shown = clean("band \x1b]0;owned\x07\x1b[2J \x9b31m \u202egpj.exe\nnext\tline ü")
    assert not any(
        (ord(sign) < 32 and sign not in "\n\t") or 0x7F <= ord(sign) < 0xA0 or sign == "\u202e" for sign in shown
    )
    assert "\\x1b[2J" in shown
    assert shown.endswith("\nnext\tline ü")
    assert "\x1b" not in str(ResourceError("\x1b[31m"))


@pytest.mark.parametrize("cell", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1"])
def test_a_spreadsheet_takes_no_cell_for_a_formula(cell: str) -> None:
    assert harmless_cell(cell).startswith(("'", "\\t"))
    if cell.isprintable():
        assert cell_text(harmless_cell(cell)) == cell
    assert harmless_cell("-1.5e3") == "-1.5e3"
    assert json.loads(json.dumps({"a": cell}))["a"] == cell
