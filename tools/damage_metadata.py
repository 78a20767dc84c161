"""Damage copies of small products of every family and tell what becomes of each: `damage_metadata.py 1000 [SEED]`.

Ends with 1 if one of them ends in a traceback, in other values without a warning, or takes longer than half a minute.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "helpers"))

from mutations import damaged, table


def main() -> None:
    """Run as many damages as asked for."""
    logging.disable(logging.CRITICAL)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with tempfile.TemporaryDirectory() as folder:
        outcomes = list(damaged(Path(folder), count, seed))
    print(table(outcomes))
    sys.exit(any(outcome.is_fault for outcome in outcomes))


if __name__ == "__main__":
    main()
