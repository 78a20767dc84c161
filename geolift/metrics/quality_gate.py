"""Rules like "sam<3" that a product must keep."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from geolift.errors import QualityGateError, UsageError
from geolift.metrics import Scores

MEASURES = {
    "rmse": "rmse",
    "psnr": "psnr_db",
    "psnr_db": "psnr_db",
    "ssim": "ssim",
    "uiqi": "uiqi",
    "ergas": "ergas",
    "sam": "sam_deg",
    "sam_deg": "sam_deg",
}
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
RULE = re.compile(r"\s*([a-z_]+)\s*(<=|>=|<|>)\s*([-+]?[0-9.]+(?:e[-+]?\d+)?)\s*$", re.IGNORECASE)


@dataclass(frozen=True)
class Rule:
    """One measure, a comparison, a limit in the measure's own unit."""

    text: str
    measure: str
    comparison: str
    limit: float

    def holds(self, scores: Scores) -> bool:
        """Tell whether the scores keep the rule; an undefined measure does not."""
        return COMPARISONS[self.comparison](float(getattr(scores, self.measure)), self.limit)


def parse(text: str) -> Rule:
    """Read a rule.

    >>> parse("sam<3").measure
    'sam_deg'

    Raises
    ------
    UsageError
        If it is no rule.
    """
    match = RULE.match(text)
    if match is None or match[1].lower() not in MEASURES:
        raise UsageError(f'--require {text!r}: a rule like "sam<3" is expected; measures: {", ".join(MEASURES)}')
    return Rule(text, MEASURES[match[1].lower()], match[2], float(match[3]))


def enforce(rules: list[Rule], scores: Scores) -> None:
    """Raise QualityGateError for the rules that do not hold."""
    broken = [f"{rule.text} (it is {getattr(scores, rule.measure):.4g})" for rule in rules if not rule.holds(scores)]
    if broken:
        raise QualityGateError(f"required, but not kept: {'; '.join(broken)}")
