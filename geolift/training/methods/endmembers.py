"""Endmembers of a scene by non-negative matrix factorisation."""

from __future__ import annotations

from dataclasses import dataclass

import torch

MAX_ROUNDS = 5000
TOLERANCE = 1e-4  # of the first round's step: there the factorisation has settled
_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Endmembers:
    """Spectra that mix to all others: values ≈ abundances · spectra, everything ≥ 0.

    Parameters
    ----------
    spectra
        (K, C) float64, in the unit of the values, scaled so that the abundances of a pixel sum to about one.
    balance
        (K,) > 0: spectra · balance and abundances / balance are of equal size, as the factorisation left them.
    rounds
        Rounds until the factorisation settled, at most ``MAX_ROUNDS``.
    unexplained
        ‖values − abundances · spectra‖ / ‖values‖.
    """

    spectra: torch.Tensor
    balance: torch.Tensor
    rounds: int
    unexplained: float


def find_endmembers(values: torch.Tensor, count: int) -> Endmembers:
    """Factorise (n, C) float64 values, negative ones taken as zero, into ``count`` endmembers at most.

    Coordinate descent on one endmember at a time, from the positive parts of the singular vectors; there is no
    chance in it. A scene of lower rank, or of fewer pixels or bands than ``count``, has fewer endmembers.

    References
    ----------
    A. Cichocki, A. H. Phan, Fast local algorithms for large scale nonnegative matrix and tensor factorizations,
    IEICE Trans. Fundam. E92-A(3), 2009, doi:10.1587/transfun.E92.A.708 (the descent).
    C. Boutsidis, E. Gallopoulos, SVD based initialization, Pattern Recognit. 41(4), 2008,
    doi:10.1016/j.patcog.2007.09.010 (the start, zeros filled with the mean).
    """
    values = values.clamp_min(0)
    abundances, spectra = _start(values, count)
    rounds, first, step = 0, 0.0, float("inf")
    while rounds < MAX_ROUNDS and step > TOLERANCE * first:
        step = _descend(abundances, spectra @ values.T, spectra @ spectra.T)
        step += _descend(spectra, abundances @ values, abundances @ abundances.T)
        first = first or step
        rounds += 1
    used = (abundances.amax(1) > _TINY) & (spectra.amax(1) > _TINY)
    used[0] |= not bool(used.any())  # a scene of zeros still has a spectrum: zero
    abundances, spectra = abundances[used], spectra[used]
    error = torch.linalg.norm(values - abundances.T @ spectra) / torch.linalg.norm(values).clamp_min(_TINY)
    balance = _unit_sums(abundances)
    return Endmembers(spectra / balance[:, None], balance, rounds, float(error))


def _start(values: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(K, n), (K, C): the larger of the positive and the negative part of each singular pair."""
    power, vectors = torch.linalg.eigh(values.T @ values)
    rank = int((power > 1e-12 * power.max()).sum())
    count = max(1, min(count, rank))
    power, right = power.flip(0)[:count].clamp_min(0), vectors.T.flip(0)[:count]
    left = right @ values.T / power.sqrt().clamp_min(_TINY)[:, None]
    signs = torch.tensor([1.0, -1.0], dtype=values.dtype)[:, None, None]
    lefts, rights = (signs * left).clamp_min(0), (signs * right).clamp_min(0)
    sizes = lefts.norm(dim=2) * rights.norm(dim=2)
    chosen = sizes.argmax(0)
    every = torch.arange(count)
    scale = (power.sqrt() * sizes[chosen, every]).sqrt()[:, None]
    parts = (part[chosen, every] for part in (lefts, rights))
    parts = (scale * part / part.norm(dim=1, keepdim=True).clamp_min(_TINY) for part in parts)
    mean = values.mean()
    abundances, spectra = (torch.where(part < 1e-6, mean, part) for part in parts)
    return abundances, spectra


def _descend(factor: torch.Tensor, moment: torch.Tensor, gram: torch.Tensor) -> float:
    """Improve each row of a (K, n) factor in turn, given (K, n) Σ other · values and (K, K) Σ other · otherᵀ.

    Returns the sum of the steps, each weighted with the curvature: what is left of the gradient.
    """
    steps = torch.zeros((), dtype=factor.dtype)
    for k, curvature in enumerate(gram.diagonal().tolist()):
        if curvature > 0:
            better = factor[k].add(moment[k] - gram[k] @ factor, alpha=1 / curvature).clamp_min_(0)
            steps += (better - factor[k]).abs().sum() * curvature
            factor[k] = better
    return float(steps)


def _unit_sums(abundances: torch.Tensor) -> torch.Tensor:
    """(K,) positive factors that make the abundances of a pixel sum to about one, by non-negative least squares."""
    import scipy.optimize

    gram, moment = abundances @ abundances.T, abundances.sum(1)
    least = (1e-9 * gram.diagonal().mean()).clamp_min(1e-30)
    root = torch.linalg.cholesky(gram + least * torch.eye(len(gram), dtype=gram.dtype))
    target = torch.linalg.solve_triangular(root, moment[:, None], upper=False)[:, 0]
    factors = torch.tensor(scipy.optimize.nnls(root.T.numpy(), target.numpy())[0])
    largest = abundances.amax(1).clamp_min(_TINY)
    return torch.where(factors > 0, factors, 1 / largest)
