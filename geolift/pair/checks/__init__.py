"""The cross-sensor check: names the likely mistake in a pair, in words and with the option to add."""

from geolift.pair.checks.enlargement import Enlargement, measure_enlargement
from geolift.pair.checks.findings import check_pair
from geolift.pair.checks.pair import Candidate, CheckResult, Finding, Reading

__all__ = ["Candidate", "CheckResult", "Enlargement", "Finding", "Reading", "check_pair", "measure_enlargement"]
