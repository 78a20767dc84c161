"""Learning twice: the inversion fitted again on the refined product, and that refined once more.

Once the product agrees with the HSI, it shows spectra *at fine pixels*, which is where the inversion is used; those of
the HSI, from which it is learned at first, are blurred. The same method fitted on them, as noisy as the HSI, is the
better inversion: half of the distance to one that is trained on the truth. Whether it is one on this scene is judged on
HSI pixels that neither of two trial fits has seen, and by what it leaves of the HSI itself: one that only repeats the
errors of the first leaves as much. `docs/method.md` has equations and measurements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from geolift.network.engine import ON_CPU, Engine
from geolift.network.inference import predict_block
from geolift.network.model import SpectralModel
from geolift.refinement.correction import Correction
from geolift.refinement.find import Refined, corrected, find_refinement
from geolift.refinement.footprint import DoubleArray
from geolift.refinement.pair import ArrayPair, Pair, Window
from geolift.refinement.trial import Fit, Locate, run_trial
from geolift.training.methods.subspace import subspace_of
from geolift.training.training_set import Floats, TrainingSampler, TrainingSet, position_hash

MOST_PIXELS = 4096
"""Fine pixels learned from: ten thousand gave the same to 0.05 dB, at twice the time."""

OWN_SHARE = 0.5
"""So many of the HSI's own pixels beside them at most: they have none of the refined product's errors."""

BLOCK_FINE_PX, MOST_BLOCKS = 64, 24
"""Edge of the pieces that they are drawn from, about, and how many of these are read."""

FEWEST_HELD_OUT = 72
"""Held-out HSI pixels that tell something: half of a scene of the 144 below which the inversion itself is held back."""

MOST_LEFT = 0.9
"""Share of what the first inversion leaves of the HSI, squared, that the second may leave."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """What came of learning twice.

    Parameters
    ----------
    model, refined
        Of the second round; those of the first where that was better.
    reason
        One sentence.
    facts
        JSON-able: pixels, what the trial gained.
    """

    model: SpectralModel
    refined: Refined
    applied: bool
    reason: str
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the document of the sidecar."""
        return {"applied": self.applied, "reason": self.reason, **self.facts}


def learn_twice(
    pair: Pair,
    model: SpectralModel,
    training: TrainingSet,
    refined: Refined,
    *,
    fit: Fit,
    trial: Fit,
    refine: Callable[[SpectralModel, Refined], Refined],
    limit: int,
    hidden: TrainingSet | None = None,
    locate: Locate = lambda rows, cols: (rows, cols),
    seed: int = 0,
    engine: Engine = ON_CPU,
) -> Lesson:
    """Fit again on the refined product and refine once more, where held-out HSI pixels speak for it.

    Parameters
    ----------
    model, training, refined
        Of the first round.
    fit, trial
        The method as it was fitted at first, and a cheaper form of it for the trial.
    refine
        Refines a model's product of the same pair, with what was found in the first round; not to be refused.
    limit
        Most pixels to learn from.
    hidden
        Those of the first round that show ground which the refinement must not see. They teach as they are: without
        them the second inversion would be asked for materials that it has never met.
    locate
        Rows and columns that pixels of the pair have in the training set.
    """

    def as_it_was(reason: str, **facts: Any) -> Lesson:
        return Lesson(model, refined, False, reason, facts)

    correction = refined.correction
    if correction is None:
        return as_it_was("nothing was refined")
    sample = sample_refined(pair, model, correction, training, limit=min(limit, MOST_PIXELS), seed=seed, engine=engine)
    if sample is None:
        return as_it_was("no refined pixel is valid")
    rows, cols = locate(sample.rows, sample.cols)
    sample = replace(sample, rows=rows, cols=cols)
    sample = sample.joined(training.thinned(max(1, round(OWN_SHARE * len(rows))), seed))
    if hidden is not None:
        sample = sample.joined(hidden.thinned(len(sample.rows), seed))
    told = run_trial(pair, training, sample, correction.process.footprint, trial, locate, seed)
    facts: dict[str, Any] = {"pixels": len(sample.spectra), "held_out_pixels": told.pixels}
    if told.pixels < FEWEST_HELD_OUT:
        return as_it_was(f"fewer than {FEWEST_HELD_OUT} HSI pixels could be held out", **facts)
    facts |= {"held_out_gain": told.gain, "held_out_gain_sigma": told.doubt if np.isfinite(told.doubt) else None}
    if told.gain <= told.doubt:
        went = "fell" if told.gain > 0 else "rose"
        return as_it_was(
            f"in a trial the error at held-out HSI pixels {went} by {abs(told.gain):.1%} ± {told.doubt:.1%}", **facts
        )
    second = fit(sample)
    second = replace(second, choices=second.choices | {"learned_from": "the refined product"})
    again = refine(second, refined)
    if again.correction is None:
        return as_it_was(f"the second product could not be refined: {again.reason}", **facts)
    left = (_before(again) / max(_before(refined), 1e-30)) ** 2
    facts["left_of_hsi"] = left
    if left > MOST_LEFT:
        return as_it_was(f"the second inversion would leave {left:.0%} of the first one's squared error", **facts)
    reason = f"a trial lowered the error at held-out HSI pixels by {told.gain:.1%}"
    return Lesson(second, again, True, reason, facts)


def _before(refined: Refined) -> float:
    """Root mean square of what the inversion alone leaves of the HSI."""
    return float(refined.facts.get("agreement_with_hsi", {}).get("rmse_before", 0.0))


def sample_refined(
    pair: Pair,
    model: SpectralModel,
    correction: Correction,
    training: TrainingSet,
    *,
    limit: int,
    seed: int,
    engine: Engine = ON_CPU,
) -> TrainingSet | None:
    """Draw training pixels from the refined product, noisy as the HSI is; their rows and columns are of HSI pixels.

    Read in blocks that depend on the scene and the seed alone. None if no pixel is valid.
    """
    sampler = TrainingSampler(training.weights, limit=limit, seed=seed)
    for rows, cols in _blocks(pair, seed):
        msi, corner, core = _with_margin(pair, rows, cols)
        spectra = corrected(predict_block(model, msi, engine), correction, pair, msi, corner)
        # Where the HSI shows nothing, or an outlier, the product is refined by what is around at most.
        unseen = np.isnan(pair.hsi(rows, cols)).any(axis=0) | (correction.counts.read(rows, cols)[0] == 0)
        spectra[:, core[0], core[1]][:, unseen.repeat(pair.ratio, 0).repeat(pair.ratio, 1)] = np.nan
        sampler.add(spectra, *corner, core)
    if not sampler.count:
        return None
    drawn = sampler.finish()
    places = {name: getattr(drawn, name) // pair.ratio for name in ("rows", "cols")}
    return replace(_noisy(drawn, subspace_of(training).noise, seed), msi_noise=training.msi_noise, **places)


def _noisy(drawn: TrainingSet, noise: DoubleArray, seed: int) -> TrainingSet:
    """Add a noise of standard deviation (C,) to drawn pixels, and to their means what nine pixels leave of theirs."""
    rng, shape = np.random.default_rng(seed), drawn.spectra.shape
    own, around = (noise.astype(np.float32) * rng.standard_normal(shape, np.float32) for _ in range(2))
    of_mean: Floats = np.asarray((own + 8**0.5 * around) / 9, np.float32)
    return replace(drawn, spectra=drawn.spectra + own, neighbour_means=drawn.neighbour_means + of_mean)


def _blocks(pair: Pair, seed: int) -> list[Window]:
    """Windows of HSI pixels, at most so many, spread by a hash of their place."""
    edge = max(1, round(BLOCK_FINE_PX / pair.ratio))
    corners = np.array([(y, x) for y in range(0, pair.shape[0], edge) for x in range(0, pair.shape[1], edge)])
    order = np.argsort(position_hash(corners[:, 0], corners[:, 1], seed), kind="stable")[:MOST_BLOCKS]
    return [
        (slice(int(y), min(int(y) + edge, pair.shape[0])), slice(int(x), min(int(x) + edge, pair.shape[1])))
        for y, x in corners[np.sort(order)]
    ]


def _with_margin(pair: Pair, rows: slice, cols: slice) -> tuple[Floats, tuple[int, int], tuple[slice, slice]]:
    """The fine MSI (c, y, x) of a window and one pixel around it, its first fine pixel, and where the window lies."""
    ratio = pair.ratio
    wide = pair.msi(rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start, 1)
    firsts, cuts, core = [], [], []
    for part, size, read in zip((rows, cols), pair.shape, wide.shape[1:], strict=True):
        low, high = int(part.start > 0), int(part.stop < size)
        firsts.append(part.start * ratio - low)
        cuts.append(slice(ratio - low, read - ratio + high))
        core.append(slice(low, low + (part.stop - part.start) * ratio))
    return np.ascontiguousarray(wide[:, cuts[0], cuts[1]]), (firsts[0], firsts[1]), (core[0], core[1])


def learn_arrays_twice(
    model: SpectralModel,
    training: TrainingSet,
    hsi: Floats,
    msi: Floats,
    refined: Refined,
    *,
    fit: Fit,
    trial: Fit,
    seed: int = 0,
    threads: int = 1,
) -> tuple[Floats | None, Lesson]:
    """Learn twice from two arrays (C, h, w) and (c, h ratio, w ratio); the product is None where the first one stays.

    ``refined``: what `refine_arrays` did with the first model's product.
    """
    pair = ArrayPair(np.asarray(hsi, np.float32), np.asarray(msi, np.float32))

    def refine(second: SpectralModel, known: Refined) -> Refined:
        unused = (0.0, 0.0)
        return find_refinement(pair, second, training, unused, unused, forced=True, known=known, threads=threads)

    lesson = learn_twice(
        pair, model, training, refined, fit=fit, trial=trial, refine=refine, limit=MOST_PIXELS, seed=seed
    )
    correction = lesson.refined.correction
    if not lesson.applied or correction is None:
        return None, lesson
    return corrected(predict_block(lesson.model, msi), correction, pair, pair.msi_values, (0, 0)), lesson
