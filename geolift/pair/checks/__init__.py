"""The cross-sensor check: names the likely mistake in a pair, in words and with the option to add."""

from geolift.pair.checks.findings import check_pair
from geolift.pair.checks.noise_amplification import NoiseAmplification, measure_noise_amplification
from geolift.pair.checks.pair import Candidate, CheckResult, Finding, Reading

__all__ = [
    "Candidate", "CheckResult", "Finding", "NoiseAmplification", "Reading", "check_pair",
    "measure_noise_amplification",
]  # fmt: skip
