"""Whether a pair is worth fusing, as a finding of the cross-sensor check."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from geolift.pair.checks import CheckResult, Finding
from geolift.pair.comparison import Comparison
from geolift.pair.coregistration import choose_windows
from geolift.pair.fine_msi import telling_window
from geolift.pair.scene_pair import ScenePair
from geolift.refinement.misfit import OUTLIER_SIGMA, quiet_sigma, size_of

NO_GAIN = "no-gain"
"""Code of the finding."""

WINDOW_LR = 48
"""Edge of the window in which the two are tried, in HSI pixels."""


def with_worth(
    result: CheckResult, pair: ScenePair, compared: Comparison, msi_noise: np.ndarray | None, seed: int = 0
) -> CheckResult:
    """Add to a check that interpolating the HSI is as good as fusing, where held-out pixels say so.

    ``msi_noise``: (c,) standard deviation of the harmonised MSI's noise; None where no pixel is valid in both images.
    """
    from geolift.training.fit import fit
    from geolift.uncertainty.interpolation import weigh_against_interpolation

    if msi_noise is None or any(finding.code in ("no-overlap", "other-place") for finding in result.verdict):
        return result
    (window,) = choose_windows(compared.simulated, WINDOW_LR, 1)
    rows, cols = slice(window.y, window.y + window.height), slice(window.x, window.x + window.width)
    ratio = compared.overlay.ratio
    worth = weigh_against_interpolation(
        telling_window(pair, compared, WINDOW_LR)[0],
        comparable_msi(compared)[:, rows, cols],
        pair.spectra.weights,
        lambda part: fit("auto", part, seed=seed, features=128, copies=1, learned=False),
        float(np.mean(compared.blur_sigma_px)) / ratio,
        msi_noise,
        ratio,
        seed,
    )
    if worth is None or not worth.is_none:
        return result
    better = "for spectra take that" if worth.error < worth.angle else "take that"
    text = (
        f"fusing hardly pays: with the HSI as truth, one level down, the fused image has {worth.error:.1f} times the "
        f"error and {worth.angle:.1f} times the spectral angle of the HSI interpolated alone; {better}, an MSI "
        "with more bands, or a larger scene"
    )
    return replace(result, verdict=(*(f for f in result.verdict if f.code != "ok"), Finding(NO_GAIN, text)))


def comparable_msi(compared: Comparison) -> np.ndarray:
    """The harmonised MSI (c, h, w) on the HSI's grid, without pixels far from what the sensors agree on."""
    seen = np.asarray(compared.harmonization.apply(compared.degraded), np.float32)
    misfit = compared.simulated - seen
    valid = np.isfinite(misfit).all(axis=0)
    misfit = misfit - np.median(misfit[:, valid], axis=1)[:, None, None]
    outliers = size_of(misfit, np.maximum(quiet_sigma(misfit[:, valid]), 1e-12)) > OUTLIER_SIGMA
    return np.where(outliers | ~valid, np.float32(np.nan), seen)
