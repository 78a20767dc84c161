"""Random numbers and low-discrepancy points of a seed: the same on every machine and in every version of a library."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

DoubleArray = NDArray[np.float64]
Real = TypeVar("Real", np.float32, np.float64)

_BITS = 30
_DIRECTIONS = """
3:1 7:1,3 11:1,3,1 13:1,1,1 19:1,1,3,3 25:1,3,5,13 37:1,1,5,5,17 41:1,1,5,5,5 47:1,1,7,11,19 55:1,1,5,1,1
59:1,1,1,3,11 61:1,3,5,5,31 67:1,3,3,9,7,49 91:1,1,1,15,21,21 97:1,3,1,13,27,49 103:1,1,1,15,7,5
109:1,3,1,15,13,25 115:1,1,5,5,19,61 131:1,3,7,11,23,15,103 137:1,3,7,13,13,15,69 143:1,1,3,13,7,35,63
145:1,3,5,9,1,25,53 157:1,3,1,13,9,35,107 167:1,3,1,5,27,61,31 171:1,1,5,11,19,41,61 185:1,3,5,3,3,13,69
191:1,1,7,13,1,19,1 193:1,3,7,5,13,19,59 203:1,1,3,9,25,29,41 211:1,3,5,13,23,1,55 213:1,3,7,3,13,59,17
229:1,3,1,3,5,53,69 239:1,1,5,5,23,33,13 241:1,1,7,7,1,61,123 247:1,1,7,9,13,61,49 253:1,3,3,5,3,55,33
285:1,3,1,15,31,13,49,245 299:1,3,5,15,31,59,63,97 301:1,3,1,11,11,11,77,249 333:1,3,1,11,27,43,71,9
351:1,1,7,15,21,11,81,45 355:1,3,7,3,25,31,65,79 357:1,3,1,1,19,11,3,205 361:1,1,5,9,19,21,29,157
369:1,3,7,11,1,33,89,185 391:1,3,3,3,15,9,79,71 397:1,3,7,11,15,39,119,27 425:1,1,3,1,11,31,97,225
451:1,1,1,3,23,43,57,177 463:1,3,7,7,17,17,37,71 487:1,3,1,5,27,63,123,213 501:1,1,3,5,11,43,53,133
529:1,3,5,5,29,17,47,173,479 539:1,3,3,11,3,1,109,9,69 545:1,1,1,5,17,39,23,5,343 557:1,3,1,5,25,15,31,103,499
563:1,1,1,11,11,17,63,105,183 601:1,1,5,11,9,29,97,231,363 607:1,1,5,15,19,45,41,7,383
617:1,3,7,7,31,19,83,137,221 623:1,1,1,3,23,15,111,223,83 631:1,1,5,13,31,15,55,25,161
637:1,1,3,13,25,47,39,87,257
"""
"""Per dimension after the first a primitive polynomial and the first direction numbers of Joe and Kuo."""


class Draws:
    """Numbers drawn one after the other from a seed (Mersenne Twister); the same as torch's generators draw on a CPU.

    Examples
    --------
    >>> Draws(0).uniform(3).round(4).tolist()
    [0.9701, 0.7078, 0.4594]
    """

    def __init__(self, seed: int) -> None:
        self._generator = np.random.MT19937()
        # The plain seeding of the twister, as of its authors; NumPy's own spreads a seed in another way.
        state: Any = np.random.RandomState(seed % 2**32).get_state(legacy=False)
        self._generator.state = state

    def words(self, count: int) -> NDArray[np.uint64]:
        """(count,) whole numbers of 32 bits."""
        return np.asarray(self._generator.random_raw(count))

    def uniform(self, *shape: int) -> DoubleArray:
        """Numbers in [0, 1) with 53 bits."""
        high, low = self.words(2 * int(np.prod(shape))).reshape(-1, 2).T
        return np.asarray(((high << np.uint64(32) | low) & np.uint64(2**53 - 1)) * 2.0**-53).reshape(shape)

    def normal(self, *shape: int) -> DoubleArray:
        """Normal numbers of variance one."""
        count = int(np.prod(shape))
        drawn = self.uniform(max(count, 16))
        drawn[: count // 16 * 16] = box_muller(drawn[: count // 16 * 16].reshape(-1, 16)).ravel()
        if count % 16:
            drawn[-16:] = box_muller(self.uniform(1, 16))[0]
        return drawn[:count].reshape(shape)


def box_muller(uniform: NDArray[Real]) -> NDArray[Real]:
    """(n, 16) normal numbers of variance one from as many in [0, 1).

    References
    ----------
    G. E. P. Box, M. E. Muller, A note on the generation of random normal deviates, Ann. Math. Stat. 29(2), 1958,
    doi:10.1214/aoms/1177706645.
    """
    radius, angle = np.sqrt(-2 * np.log(1 - uniform[:, :8])), uniform[:, 8:] * uniform.dtype.type(2 * np.pi)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def sobol_points(count: int, dimensions: int, seed: int) -> DoubleArray:
    """(count, dimensions) points of low discrepancy in [0, 1), scrambled by a seed.

    Dimensions beyond the sixty-fourth, of which the first few hundred points tell nothing good, are drawn.

    References
    ----------
    S. Joe, F. Y. Kuo, Constructing Sobol sequences with better two-dimensional projections, SIAM J. Sci. Comput. 30(5),
    2008, doi:10.1137/070709359; scrambled by random lower triangular matrices and shifts: J. Matoušek, On the
    L2-discrepancy for anchored boxes, J. Complexity 14(4), 1998, doi:10.1006/jcom.1998.0489.

    Examples
    --------
    One point in each of eight equal parts of an axis:

    >>> sorted((sobol_points(8, 2, seed=3)[:, 1] * 8).astype(int).tolist())
    [0, 1, 2, 3, 4, 5, 6, 7]
    """
    directions = _directions()[:dimensions]
    known, draws = len(directions), Draws(seed)
    powers = 1 << np.arange(_BITS)
    shift = (draws.words(known * _BITS).astype(np.int64) % 2).reshape(known, _BITS) @ powers
    mixed = np.tril((draws.words(known * _BITS**2).astype(np.int64) % 2).reshape(known, _BITS, _BITS))
    mixed[:, range(_BITS), range(_BITS)] = 1
    bits = directions[:, :, None] >> np.arange(_BITS)[::-1] & 1  # (dimension, number, bit), the highest first
    scrambled = np.einsum("dpk,djk->djp", mixed, bits) % 2 @ powers[::-1]
    points = np.empty((count, known), np.int64)
    points[:1] = shift
    for index in range(1, count):
        lowest_zero = ((index - 1) ^ index).bit_length() - 1
        points[index] = points[index - 1] ^ scrambled[:, lowest_zero]
    drawn = Draws(seed + 1).uniform(count, max(0, dimensions - known))
    return np.concatenate([points * 2.0**-_BITS, drawn], axis=1)


def _directions() -> NDArray[np.int64]:
    """(64, 30) direction numbers, each scaled to thirty bits."""
    rows = [[1] * _BITS]
    for entry in _DIRECTIONS.split():
        text, first = entry.split(":")
        polynomial, row = int(text), [int(number) for number in first.split(",")]
        degree = polynomial.bit_length() - 1
        for place in range(degree, _BITS):
            number = row[place - degree]
            for power in range(1, degree + 1):
                if polynomial >> degree - power & 1:
                    number ^= row[place - power] << power
            row.append(number)
        rows.append(row)
    return np.array(rows, np.int64) << np.arange(_BITS)[::-1]
