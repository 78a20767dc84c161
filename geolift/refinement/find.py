"""Whether a product is refined, and how: footprint, guides, process, and the evidence of held-out HSI pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geolift.degradation.degrade import apply_srf
from geolift.degradation.sampling import LOST_WEIGHT, FloatArray
from geolift.network.engine import ON_CPU, Engine
from geolift.network.model import SpectralModel
from geolift.pair.coregistration import estimate_shift
from geolift.refinement.correction import Correction
from geolift.refinement.footprint import DoubleArray, Footprint, fit_footprint, gaussian_footprint, without_outliers
from geolift.refinement.guide import find_guide
from geolift.refinement.pair import ArrayPair, Pair, Window
from geolift.refinement.process import ResidualProcess, fit_process
from geolift.refinement.residual import BandsApart, Residual
from geolift.refinement.windows import Progress
from geolift.runtime.machine import give_back_memory
from geolift.training.training_set import TrainingSet

if TYPE_CHECKING:
    from pathlib import Path

SEARCH_MARGIN_LR = 8
FEWEST_PIXELS = 36
"""With fewer HSI pixels to compare, nothing is refined."""

EDGE_PIXELS, EDGE_ERROR = 8, 2.0
DOUBT = 2.0
"""Standard errors by which the held-out gain must lie above zero."""

LEAST_EXPLAINED = 0.2
"""Share of the held-out residual that must be predicted. What is predicted is shrunk per component and per band by what
is confirmed of it: with that, cases at shares of 0.2 to 0.5, 8 and 16 MSI bands at ratio 8, gain 0.1 to 0.3 dB."""

MOST_ADDED, ADDED_PX = 3.0, 96
"""Times what the inversion leaves of the HSI, both RMS, that the correction of fine pixels may be, and the edge of the
pieces where it is tried. Usual are 0.7 to 1.5; many times are noise, blown up where a footprint sees little."""


@dataclass(frozen=True, eq=False)
class Refined:
    """What became of the refinement.

    Parameters
    ----------
    correction
        None where the product stays as the inversion gives it.
    reason
        One sentence: why, or why not.
    facts
        JSON-able: footprint, process, held-out evidence, agreement with the HSI before and after.
    """

    correction: Correction | None
    reason: str
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the document of the sidecar."""
        return {"applied": self.correction is not None, "reason": self.reason, **self.facts}


def find_refinement(
    pair: Pair,
    model: SpectralModel,
    training: TrainingSet,
    shift_px: tuple[float, float],
    blur_sigma_px: tuple[float, float],
    *,
    forced: bool = False,
    known: Refined | None = None,
    keystone: BandsApart | None = None,
    folder: Path | None = None,
    threads: int = 1,
    engine: Engine = ON_CPU,
    progress: Progress = lambda share: None,
) -> Refined:
    """Find the correction that makes a model's product agree with the HSI.

    Parameters
    ----------
    shift_px, blur_sigma_px
        (y, x) in fine pixels, as co-registration found them: where the search for the footprint begins.
    forced
        Apply it even if held-out pixels do not speak for it.
    known
        What was found for another model of the same pair: its footprint and correlation lengths are used again, shift
        and blur are not.
    keystone
        Where the HSI's bands lie apart; None where they do not.
    folder
        Where large intermediate arrays go; without one they stay in memory.
    """
    work = Residual(pair, model, training, folder, threads, engine)
    before = None if known is None or known.correction is None else known.correction.process
    start = gaussian_footprint(pair.ratio, shift_px, blur_sigma_px) if before is None else before.footprint
    views = list(work.views(start.margin_lr))
    if sum(int(np.isfinite(low).all(axis=0).sum()) for low, _, _ in views) < FEWEST_PIXELS:
        return Refined(None, f"fewer than {FEWEST_PIXELS} HSI pixels to compare with")
    windows = [(low, fine) for low, fine, _ in views]
    footprint = fit_footprint(windows, start, start.margin_lr) if before is None else start
    guide = find_guide(without_outliers(windows, footprint, start.margin_lr))
    zeros = _sees_zeros_beyond(views, footprint, start.margin_lr)
    residual, factors, visible = work.residuals(footprint, guide, zeros, lambda share: progress(0.5 * share), keystone)
    faults = work.misfit_model(residual, visible)
    if faults is None:
        return Refined(None, f"fewer than {FEWEST_PIXELS} HSI pixels see valid MSI pixels only")
    counts, differing = work.free_of_faults(faults, residual, visible)
    give_back_memory()
    fitted_on = work.process_windows(residual, factors)
    if sum(int(np.isfinite(r[0]).sum()) for r, _ in fitted_on) < FEWEST_PIXELS:
        return Refined(None, f"fewer than {FEWEST_PIXELS} HSI pixels see valid MSI pixels only")
    lengths = None if before is None else before.lengths
    process, explained, doubt = fit_process(fitted_on, footprint, work.decode, threads, lengths)
    facts = _facts(process, explained, doubt, zeros) | {"differing_share": differing}
    if not forced and (not process.strength.any() or explained < max(DOUBT * doubt, LEAST_EXPLAINED)):
        return Refined(
            None,
            f"only {max(explained, 0):.0%} of what the inversion leaves of held-out HSI pixels is predicted",
            facts,
        )
    try:
        solution, agreement = work.solve(process, residual, factors, lambda share: progress(0.5 + 0.5 * share))
    except FloatingPointError as error:
        return Refined(None, str(error), facts)
    decode = (work.decode * process.band_trust[:, None]).astype(np.float32)
    chosen = Correction(process=process, guide=guide, decode=decode, solution=solution, factors=factors, counts=counts)
    times = _added(pair, chosen, work.places) / max(agreement["agreement_with_hsi"].get("rmse_before", 0.0), 1e-30)
    if times > MOST_ADDED:
        return Refined(None, f"the correction would be {times:.1f} times what the inversion leaves of the HSI", facts)
    return Refined(
        chosen, f"predicts {explained:.0%} of what the inversion leaves of held-out HSI pixels", facts | agreement
    )


def refine_arrays(
    model: SpectralModel,
    training: TrainingSet,
    hsi: FloatArray,
    msi: FloatArray,
    fused: FloatArray,
    *,
    forced: bool = False,
    threads: int = 1,
) -> tuple[FloatArray, Refined]:
    """Make the product of two arrays agree with the HSI.

    ``hsi``, ``msi``: (C, h, w) and (c, h ratio, w ratio) over the same ground. ``fused``: (C, h ratio, w ratio): the
    model's product, which stays as it is where nothing is refined.

    Returns
    -------
    tuple
        The product, and what was done.
    """
    pair = ArrayPair(np.asarray(hsi, np.float32), np.asarray(msi, np.float32))
    rows, cols = (size * pair.ratio for size in pair.shape)
    if msi.shape[1:] != (rows, cols):
        return fused, Refined(None, f"{msi.shape[1:]} MSI pixels are no whole multiple of {pair.shape} HSI pixels")
    margin = SEARCH_MARGIN_LR
    simulated = apply_srf(pair.hsi_values, training.weights.astype(np.float64)).astype(np.float32)
    found = estimate_shift(simulated, pair.msi(0, 0, *pair.shape, margin), pair.ratio, margin)
    if not (found.reliable or (forced and np.isfinite(found.blur_sigma_y))):
        return fused, Refined(None, f"the place of the HSI on the MSI is not known well enough: {found.reason}")
    shift, blur = (found.dy, found.dx), (found.blur_sigma_y, found.blur_sigma_x)
    result = find_refinement(pair, model, training, shift, blur, forced=forced, threads=threads)
    if result.correction is None:
        return fused, result
    return corrected(fused, result.correction, pair, pair.msi_values, (0, 0)), result


def corrected(
    fused: FloatArray, correction: Correction, pair: Pair, msi: FloatArray, corner: tuple[int, int]
) -> FloatArray:
    """Add its correction to a part (C, y, x) of the product on the pair's own fine grid.

    ``msi``: (c, y, x) of the same part. ``corner``: its first row and column, in fine pixels.
    """

    added = np.einsum("ck,kyx->cyx", correction.decode, _coordinates(correction, pair, msi, corner), optimize=True)
    return np.asarray(fused + added, np.float32)


def _coordinates(correction: Correction, pair: Pair, msi: FloatArray, corner: tuple[int, int]) -> FloatArray:
    """(K, y, x) of the correction on a part of the pair's own fine grid; see `corrected`."""

    def places(rows: slice, cols: slice) -> tuple[DoubleArray, DoubleArray]:
        down, across = ((np.arange(part.start, part.stop) + 0.5) / pair.ratio - 0.5 for part in (rows, cols))
        return down[:, None], across[None]

    shape = (pair.shape[0] * pair.ratio, pair.shape[1] * pair.ratio)
    return correction.coordinates(msi, corner, shape, places)


def _added(pair: Pair, correction: Correction, windows: Sequence[Window]) -> float:
    """RMS of the correction in the middles of windows of HSI pixels."""
    edge, squares, count = max(1, ADDED_PX // pair.ratio), 0.0, 0
    metric = correction.decode.T @ correction.decode  # no need to form the spectra
    for window in windows:
        rows, cols = (
            slice(first := part.start + max(0, part.stop - part.start - edge) // 2, min(part.stop, first + edge))
            for part in window
        )
        msi = pair.msi(rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start, 0)
        added = _coordinates(correction, pair, msi, (rows.start * pair.ratio, cols.start * pair.ratio))
        known = added[:, np.isfinite(msi).all(axis=0)]
        squares += float(np.sum(known * (metric @ known), dtype=np.float64))
        count += len(correction.decode) * known.shape[1]
    return float((squares / max(count, 1)) ** 0.5)


def _facts(process: ResidualProcess, explained: float, doubt: float, zeros: bool) -> dict[str, Any]:
    footprint = process.footprint
    return {
        "held_out_explained": explained,
        "held_out_explained_sigma": doubt,
        "components": int((process.strength > 0).sum()),
        "correlation_length_hsi_px": process.length_lr,
        "guided_correlation_length_hsi_px": process.guided_length_lr,
        "guided_share": process.guided_share,
        "footprint": {
            "fwhm_hsi_px": [footprint.fwhm_lr(0), footprint.fwhm_lr(1)],
            "fitted": footprint.fitted,
            "start_px": list(footprint.start_px),
            "weights_y": footprint.weights[0].tolist(),
            "weights_x": footprint.weights[1].tolist(),
            "zero_beyond_the_image": zeros,
        },
    }


def _sees_zeros_beyond(
    views: Sequence[tuple[FloatArray, FloatArray, NDArray[np.bool_]]], footprint: Footprint, margin: int
) -> bool:
    """Tell whether HSI pixels at the border saw zeros beyond the image, as simulated ones may; real ones never do."""
    border: list[DoubleArray] = []
    inner: list[DoubleArray] = []
    for low, fine, beyond in views:
        share = footprint.degrade(beyond[None].astype(np.float32), margin)[0]
        seen = footprint.degrade(np.where(beyond, np.float32(0), fine), margin)
        error = np.square(low - seen).mean(axis=0)
        known = np.isfinite(error)
        border.append(error[known & (share > LOST_WEIGHT)])
        inner.append(error[known & (share <= LOST_WEIGHT)])
    outside, inside = np.concatenate(border), np.concatenate(inner)
    if outside.size < EDGE_PIXELS or inside.size < EDGE_PIXELS:
        return False
    return bool(np.median(outside) < EDGE_ERROR**2 * np.median(inside))
