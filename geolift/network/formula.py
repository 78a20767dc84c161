"""The per-pixel network: its weights and how they are applied to pixels.

Every method of geolift ends in one form, so that one engine runs them all:

    h_0 = x,  h_i = a(W_i h_{i-1} + b_i) + h_{r_i},  y = B g(H h_L + S x) + o + D z

with the leaky rectifier a, an optional skip S from the input, an optional basis B (the low-rank head) and, where the
coordinates in it are abundances, their constraint g; else g is the identity. D z, optional, corrects the product by
coordinates z that are given beside the pixel. A layer may read another layer than the one before it: several networks
side by side are one network then, whose head reads the last layer of each. Scaling of inputs and outputs is folded into
the weights, so physical units go in and come out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]
Precision = Literal["fp32", "bf16"]

LINE = 16
"""Numbers of float32 in a line of the caches."""

NO_RESIDUAL = -1
INPUT = -1


@dataclass(frozen=True, eq=False)
class Unmixing:
    """Abundances of endmembers: z + level, constrained.

    Parameters
    ----------
    level
        (K,), added to the coordinates first.
    non_negative, sum_to_one
        Constraints, met by the nearest abundances that meet them.
    """

    level: Floats
    non_negative: bool = False
    sum_to_one: bool = False

    def abundances(self, coordinates: torch.Tensor) -> torch.Tensor:
        """(K, n) abundances of (K, n) coordinates."""
        level = coordinates.new_tensor(self.level)
        return self.constrained(coordinates + level[:, None], dim=0)

    def constrained(self, free: torch.Tensor, dim: int) -> torch.Tensor:
        """Abundances under the constraints; the endmembers lie along ``dim``.

        References
        ----------
        A. F. T. Martins, R. F. Astudillo, arXiv 1602.02068, section 2.2: the projection onto the simplex.
        """
        if not self.sum_to_one:
            return free.clamp_min(0) if self.non_negative else free
        if not self.non_negative:
            return free - (free.sum(dim, keepdim=True) - 1) / free.shape[dim]
        falling = free.sort(dim, descending=True).values
        number = falling.new_ones(falling.shape).cumsum(dim)
        surplus = (falling.cumsum(dim) - 1) / number
        used = (falling > surplus).sum(dim, keepdim=True).clamp_min(1)
        return (free - surplus.gather(dim, used - 1)).clamp_min(0)

    def nearest(self, free: Floats) -> Floats:
        """The same of (K, n) arrays, endmembers first."""
        if not self.sum_to_one:
            return np.maximum(free, np.float32(0)) if self.non_negative else free
        if not self.non_negative:
            return np.asarray(free - (free.sum(axis=0) - 1) / np.float32(len(free)), np.float32)
        falling = np.sort(free, axis=0)[::-1]
        number = np.arange(1, len(free) + 1, dtype=np.float32)[:, None]
        surplus = (np.cumsum(falling, axis=0, dtype=np.float32) - 1) / number
        used = np.maximum((falling > surplus).sum(axis=0, keepdims=True), 1)
        return np.maximum(free - np.take_along_axis(surplus, used - 1, axis=0), np.float32(0))


@dataclass(frozen=True, eq=False, kw_only=True)
class Network:
    """Weights of a dense residual network from MSI to HSI values, in physical units.

    Parameters
    ----------
    weights, biases
        One (units, inputs) matrix and one (units,) vector per hidden layer; none for a linear method.
    residuals
        Per hidden layer the index of the earlier layer whose output is added after the activation,
        or ``NO_RESIDUAL``.
    slope
        Slope of the leaky rectifier below zero.
    head
        (K, units of the last hidden layers, side by side); K = C where there is no basis.
    skip
        (K, c), the linear path from the input, or None.
    basis
        (C, K), or None when the head gives the C bands itself.
    offset
        (C,), added last.
    clip
        Lowest and highest value of the product, or None.
    unmixing
        What makes abundances of the coordinates in the basis, whose columns are endmembers then; or None.
    sources
        Per hidden layer the index of the layer it reads, or ``INPUT``; by default the one before.
    correction
        (C, J), or None: what is added to the product for each of the J coordinates given beside a pixel; neither
        clipped nor constrained.
    """

    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]
    residuals: tuple[int, ...]
    slope: float
    head: Floats | None
    skip: Floats | None
    basis: Floats | None
    offset: Floats
    clip: tuple[float, float] | None = None
    unmixing: Unmixing | None = None
    sources: tuple[int, ...] | None = None
    correction: Floats | None = None

    def __post_init__(self) -> None:
        if not len(self.weights) == len(self.biases) == len(self.residuals):
            raise ValueError("a hidden layer needs a matrix, a bias and a residual index each")
        if (self.head is None) != (not self.weights):
            raise ValueError("hidden layers and a head come together")
        if not 0 <= self.slope <= 1:
            raise ValueError(f"the slope of a leaky rectifier lies between 0 and 1, not at {self.slope}")
        if any(read == INPUT and added != NO_RESIDUAL for read, added in zip(self.reads, self.residuals, strict=True)):
            raise ValueError("a layer that reads the pixels adds no other layer")
        if self.head is None and self.skip is None:
            raise ValueError("a network without hidden layers needs a skip matrix")

    @property
    def reads(self) -> tuple[int, ...]:
        """Per hidden layer the index of the layer it reads."""
        return self.sources if self.sources is not None else tuple(range(-1, len(self.weights) - 1))

    @property
    def last_layers(self) -> tuple[int, ...]:
        """The hidden layers that no other layer reads: what the head reads."""
        return tuple(index for index in range(len(self.weights)) if index not in self.reads)

    @property
    def inputs(self) -> int:
        """Number of MSI bands c."""
        first = self.weights[0] if self.weights else self.skip
        assert first is not None
        return int(first.shape[1])

    @property
    def outputs(self) -> int:
        """Number of HSI bands C."""
        return int(self.offset.shape[0])

    def abundances(self) -> Network:
        """The network of the abundances alone. Raises ValueError where there are none."""
        if self.unmixing is None:
            raise ValueError("only a network that unmixes has abundances")
        return replace(self, basis=None, offset=np.zeros_like(self.unmixing.level), clip=None)

    def placed(self, places: NDArray[np.intp], count: int) -> Network:
        """The network with its outputs at these places among so many, NaN at all others.

        A few more rows in the last product cost less than another copy of the result.
        """
        if self.basis is None and self.unmixing is not None:
            raise ValueError("the constraints tie all abundances together")

        def rows(matrix: Floats | None) -> Floats | None:
            if matrix is None:
                return None
            whole = np.zeros((count, *matrix.shape[1:]), matrix.dtype)
            whole[places] = matrix
            return whole

        offset = np.full(count, np.nan, self.offset.dtype)
        offset[places] = self.offset
        given = replace(self, offset=offset, correction=rows(self.correction))
        if self.basis is not None:
            return replace(given, basis=rows(self.basis))
        return replace(given, head=rows(self.head), skip=rows(self.skip))

    def projected(self, projection: NDArray[np.float64], mean: NDArray[np.float64]) -> Network | None:
        """The network of P (y − mean) (n,), P (n, C), mean (C,), without y; None where clipping comes between."""
        if self.clip is not None or (self.basis is None and self.unmixing is not None):
            return None

        def rows(matrix: Floats | None) -> Floats | None:
            return None if matrix is None else (projection @ matrix).astype(np.float32)

        offset = (projection @ (self.offset - mean)).astype(np.float32)
        if self.basis is not None:
            return replace(self, basis=rows(self.basis), offset=offset)
        return replace(self, head=rows(self.head), skip=rows(self.skip), offset=offset)

    @property
    def flops_per_pixel(self) -> int:
        """Multiplications and additions of the matrix products for one pixel."""
        parts = [*self.weights, self.head, self.skip, self.basis, self.correction]
        return 2 * sum(part.size for part in parts if part is not None)
