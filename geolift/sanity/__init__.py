"""The cross-sensor check: names the likely mistake in a pair, in words and with the option to add."""

from geolift.sanity.enlargement import Enlargement, measure_enlargement
from geolift.sanity.findings import check_pair
from geolift.sanity.pair import Candidate, CheckResult, Finding, Reading

__all__ = ["Candidate", "CheckResult", "Enlargement", "Finding", "Reading", "check_pair", "measure_enlargement"]
