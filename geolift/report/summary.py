"""A finished run in ten lines for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from geolift.provenance.record import understood
from geolift.report import words
from geolift.report.verdict import verdict

SHOWN_WARNINGS = 3
SUBJECTS = {
    "Multispectral bands": "bands",
    "Shift of the HSI": "shift",
    "Harmonisation of the MSI": "radiometry",
    "Method": "method",
    "Agreement with the HSI": "refinement",
    "Uncertainty": "uncertainty",
}
"""Which decisions are told, and under which short name."""
INDENT = 13


def lines(
    output: Path, item: Mapping[str, object], report: Path | None = None, *, warnings: int = SHOWN_WARNINGS
) -> list[str]:
    """Return the verdict, what was decided, the heaviest warnings, and where product and report are.

    Parameters
    ----------
    item
        The run's sidecar, a STAC Item.
    report
        Where the report was written; how to get one, if it was not.
    warnings
        How many warnings are told; the others are counted.
    """
    sidecar = understood(item, str(output))
    judged = verdict(sidecar.record)
    rows = [("verdict", judged.sentence)]
    decided = {decision.subject: decision.outcome for decision in words.decisions(sidecar.record, sidecar.product)}
    rows += [(short, decided[subject]) for subject, short in SUBJECTS.items() if subject in decided]
    rows += [("warning", text) for text in judged.warnings[:warnings]]
    more = len(judged.warnings) - warnings
    if more > 0 and warnings:
        rows.append(("", f"{more} more {'stands' if more == 1 else 'stand'} in {output.with_suffix('.json').name}"))
    rows.append(("product", str(output)))
    rows.append(("report", str(report) if report else f"geolift report {output}"))
    return [f"{name:<{INDENT}}{text}".rstrip() for name, text in rows]
