"""Damaged documents are read, or refused in one line; the long hunt is tools/fuzz_documents.py."""

from __future__ import annotations

from pathlib import Path

import fuzz_documents


def test_no_damaged_document_ends_in_a_traceback() -> None:
    assert fuzz_documents.hunt(600, seed=15_000) == {}


def test_the_sound_documents_are_read(tmp_path: Path) -> None:
    for kind in fuzz_documents.kinds(tmp_path):
        path = tmp_path / kind.name
        path.write_bytes(kind.sound)
        kind.read(path)
