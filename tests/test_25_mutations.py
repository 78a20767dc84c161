"""Damaged products end in one line, or are read with a warning: never in a traceback, never in other values unsaid."""

from __future__ import annotations

from pathlib import Path

import pytest
from mutations import damaged, table


@pytest.mark.filterwarnings("ignore")
def test_damaged_metadata_end_in_one_line_or_a_warning(tmp_path: Path) -> None:
    """`tools/damage_metadata.py` does the same a thousand times."""
    outcomes = list(damaged(tmp_path, 160))
    assert not [o for o in outcomes if o.is_fault], table(outcomes)
    assert sum(o.verdict == "refused" for o in outcomes) > 40
