"""What a fit says of the shift: its error, its confidence, and whether it may be applied."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from geolift.pair.coregistration.matching import SearchResult
from geolift.pair.coregistration.shift_fit import FitResult

NEAR_PX, NEAR_LR = 0.5, 0.1
"""Confidence is the probability that the error is below half an MSI pixel or a tenth of an HSI pixel,
whichever is larger."""

RELIABLE_CONFIDENCE = 0.7
"""A shift is called reliable, and may be applied, from this confidence on."""

# Calibrated by benchmarks/coregistration_accuracy.py on planted shifts: nine scenes, five ratios, five blurs,
# SNR 8 ... 35 dB, clouds, soft scenes, pairs of other places; see docs/coregistration.md.
_SIGMA_SCALE = 1.3
_SIGMA_FLOOR_PX = 0.004
_PLACE_LOGIT = (-5.81, 1.41, 0.65, -1.77)


@dataclass(frozen=True, kw_only=True)
class BandVote:
    """The shift one band alone asks for.

    Parameters
    ----------
    band
        Index of the band in the arrays given.
    dy, dx
        Its shift in MSI pixels.
    sigma_dy, sigma_dx
        Its error (one sigma) in MSI pixels.
    correlation
        Between the simulated and the degraded MSI after the shift, local means taken off, -1 ... 1.
    """

    band: int
    dy: float
    dx: float
    sigma_dy: float
    sigma_dx: float
    correlation: float


@dataclass(frozen=True, kw_only=True)
class ShiftEstimate:
    """The residual shift between two sensors and what speaks for it.

    Parameters
    ----------
    dy, dx
        Motion that brings the HSI onto the MSI, MSI pixels, +dy down, +dx right. Zero when a shift
        would not improve the agreement.
    sigma_dy, sigma_dx
        One-sigma errors in MSI pixels, given that the place is the right one.
    confidence
        Probability, 0 ... 1, that the error is below half an MSI pixel or a tenth of an HSI pixel,
        whichever is larger.
    agreement_before, agreement_after
        Mean correlation over the bands, local means taken off, without and with the shift.
    blur_sigma_y, blur_sigma_x
        Gaussian blur of the HSI beside its pixel's own average, one sigma in MSI pixels.
    usable_fraction
        Part of the LR pixels that took part, weighted by how well they fit, 0 ... 1.
    votes
        What each band alone asks for.
    reliable
        Whether the shift may be applied without asking.
    reason
        One sentence that says why, or why not.
    """

    dy: float
    dx: float
    sigma_dy: float
    sigma_dx: float
    confidence: float
    agreement_before: float
    agreement_after: float
    blur_sigma_y: float
    blur_sigma_x: float
    usable_fraction: float
    votes: tuple[BandVote, ...]
    reliable: bool
    reason: str

    def scaled(self, factor: float) -> ShiftEstimate:
        """Return it in pixels that are smaller by a factor."""
        votes = tuple(replace(vote, **_scaled(vote, _OF_VOTE, factor)) for vote in self.votes)
        return replace(self, votes=votes, **_scaled(self, _OF_SHIFT, factor))


_OF_VOTE = ("dy", "dx", "sigma_dy", "sigma_dx")
_OF_SHIFT = (*_OF_VOTE, "blur_sigma_y", "blur_sigma_x")


def _scaled(told: BandVote | ShiftEstimate, names: Sequence[str], factor: float) -> dict[str, Any]:
    return {name: getattr(told, name) * factor for name in names}


def judge(
    fit: FitResult, found: SearchResult, bands: Sequence[int], search_px: float, ratio: int, px: float = 1.0
) -> ShiftEstimate:
    """Turn a fit into an estimate: calibrated errors, confidence, and whether to trust it.

    ``px``: MSI pixels along a fine pixel, for what is said.
    """
    dy, dx, var_y, var_x = (float(v) for v in fit.place)
    variance = np.maximum(np.diag(fit.covariance_px2), 0.0)
    sigma_dy, sigma_dx = (float(np.hypot(_SIGMA_SCALE * math.sqrt(v), _SIGMA_FLOOR_PX)) for v in variance)
    confidence = _confidence(fit, found.distinctness, (sigma_dy, sigma_dx), ratio)
    reliable, reason = _verdict(fit, (dy, dx), (sigma_dy, sigma_dx), confidence, search_px, px)
    worse = fit.agreement <= fit.agreement_at_zero
    votes = tuple(
        BandVote(
            band=b, dy=float(v[0]), dx=float(v[1]), sigma_dy=float(s[0]), sigma_dx=float(s[1]), correlation=float(r)
        )
        for b, v, s, r in zip(bands, fit.votes_px, fit.vote_sigma_px, fit.correlation, strict=True)
    )
    return ShiftEstimate(
        dy=0.0 if worse else dy,
        dx=0.0 if worse else dx,
        sigma_dy=sigma_dy,
        sigma_dx=sigma_dx,
        confidence=confidence,
        agreement_before=fit.agreement_at_zero,
        agreement_after=fit.agreement_at_zero if worse else fit.agreement,
        blur_sigma_y=math.sqrt(var_y),
        blur_sigma_x=math.sqrt(var_x),
        usable_fraction=fit.used_fraction,
        votes=votes,
        reliable=reliable,
        reason=reason,
    )


def _confidence(fit: FitResult, distinctness: float, sigma_px: tuple[float, float], ratio: int) -> float:
    """Probability that the place is the right one, times that of being near it.

    The first factor is a logistic regression on how far the best place stands out of the others, on the
    evidence of all pixels together, and on the error in HSI pixels.
    """
    variance = 0.5 * (sigma_px[0] ** 2 + sigma_px[1] ** 2)
    near = 1.0 - math.exp(-0.5 * max(NEAR_PX, NEAR_LR * ratio) ** 2 / variance)
    constant, of_distinctness, of_evidence, of_sigma = _PLACE_LOGIT
    logit = (
        constant
        + of_distinctness * math.log(min(max(distinctness, 1.0), 20.0))
        + of_evidence * math.log(fit.evidence * fit.n_pixels + 1e-3)
        + of_sigma * math.log(math.sqrt(variance) / ratio)
    )
    place = 1.0 / (1.0 + math.exp(-logit))
    return place * near if fit.converged else 0.5 * place * near


def _verdict(
    fit: FitResult,
    shift_px: tuple[float, float],
    sigma_px: tuple[float, float],
    confidence: float,
    search_px: float,
    px: float,
) -> tuple[bool, str]:
    """Say in one sentence whether the shift may be applied."""
    size = math.hypot(*shift_px)
    if fit.agreement <= fit.agreement_at_zero:
        aligned = size < 3.0 * math.hypot(*sigma_px) + 0.05
        if aligned and confidence >= RELIABLE_CONFIDENCE:
            return True, "the images are aligned: no shift would improve their agreement"
        return False, "the shift found would make the agreement worse, so none is applied"
    if max(abs(s) for s in shift_px) > search_px + 1.0:
        return False, f"the shift found lies outside the search radius of {search_px * px:g} MSI pixels"
    if confidence < RELIABLE_CONFIDENCE:
        return False, (
            f"the evidence is weak: agreement {fit.agreement:.2f}, error {px * max(sigma_px):.2f} MSI pixels, "
            f"confidence {confidence:.2f}"
        )
    gain = f"agreement rises from {fit.agreement_at_zero:.3f} to {fit.agreement:.3f}"
    return True, f"{gain}, error {px * max(sigma_px):.2f} MSI pixels"


def no_estimate(reason: str) -> ShiftEstimate:
    """Return an estimate that says that there is none."""
    nan = float("nan")
    return ShiftEstimate(
        dy=0.0,
        dx=0.0,
        sigma_dy=nan,
        sigma_dx=nan,
        confidence=0.0,
        agreement_before=nan,
        agreement_after=nan,
        blur_sigma_y=nan,
        blur_sigma_x=nan,
        usable_fraction=0.0,
        votes=(),
        reliable=False,
        reason=reason,
    )
