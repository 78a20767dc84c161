"""The process solved on blocks of HSI pixels, and the expected error of the inversion read from the solution."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geolift.degradation.sampling import FloatArray
from geolift.errors import ResourceError
from geolift.network.engine import alone_on, require_torch
from geolift.refinement.footprint import DoubleArray, Footprint
from geolift.refinement.process import ResidualProcess, covariance, cross_covariance
from geolift.runtime.blas import one_blas_thread

LEFT_OF_NOISE, MAX_ITERATIONS = 0.2, 3000
"""Part of the residual's noise, and of the residual, that may be left of the equations. At 0.01, 0.1, and 0.2 or 0.3
the products of one model on 300² HSI pixels differed by 0.001 dB of PSNR; whole runs at 1.0 lost 0.02 and 0.09 dB."""

DARKEST = 0.25
"""Of the mean brightness: darker pixels are not scaled further."""

TOGETHER = 8
"""Components solved at once by a core: more do not stay in its caches."""


Array = Any
"""Of NumPy on the CPU, a torch tensor on a GPU: what is written here means the same for both."""

LEAST_POWER = 1e-30
"""Instead of zero, of a component that is solved exactly before anybody looks."""

STEPS_UNASKED = 10
"""Steps between two looks at what is left where a look waits for a GPU."""

BAND_ROWS, BAND_LEAST, BAND_SHARE = 40, 1e-6, 0.8
"""Covariances end where they fall below this part of their peak: products are made of so many rows at a time, with the
columns in reach, where that takes less than this share of the whole product."""

NOTHING = 1e-30
"""Smaller correlations are zero. They change no bit of the solution, but what comes of them lies below the normal
numbers of float32, which Intel's CPUs multiply a hundred times slower: solving took nine times as long."""


def solve_block(process: ResidualProcess, residual: FloatArray, factors: FloatArray, device: str = "cpu") -> FloatArray:
    """Solve (s S + n) β = r on a block of HSI pixels, all components at once.

    Parameters
    ----------
    residual
        (K, h, w) in the whitened subspace, NaN = invalid.
    factors
        (1 + M, h, w).
    device
        A torch device.

    Returns
    -------
    FloatArray
        (K, h, w) β of the rotated components; zero at invalid pixels and in components left alone. The correction
        is s (ρ Dᵀ) β, and n β what it leaves of the residual.

    Raises
    ------
    FloatingPointError
        If the solution does not come to rest.
    ResourceError
        If the device's memory is too small.
    """
    valid = np.isfinite(residual[0]) & np.isfinite(factors).all(axis=0)
    out = np.zeros(residual.shape, np.float32)
    used = np.flatnonzero(process.strength)
    if not used.size or not valid.any():
        return out
    rotated = np.einsum("kl,kyx->ylx", process.rotation[:, used], np.where(valid, residual, 0.0)).astype(np.float32)
    together = TOGETHER if device == "cpu" else len(used)
    with _computing(device, valid.size) as (library, there):
        system = _System(process, used, np.where(valid, factors, 0.0), valid, library, there)
        goal = there(rotated) * system.mask
        for first in range(0, len(used), together):
            some = slice(first, first + together)
            solution = conjugate_gradients(system.of(some), goal[:, some], 1 if device == "cpu" else STEPS_UNASKED)
            here = solution if device == "cpu" else solution.cpu().numpy()
            out[used[some]] = here.swapaxes(0, 1)
    return out


@contextmanager
def _computing(device: str, pixels: int) -> Iterator[tuple[Any, Callable[[NDArray[Any]], Array]]]:
    """The library that computes on a device, and what brings an array there as float32."""
    if device == "cpu":
        with one_blas_thread():
            yield np, lambda values: values.astype(np.float32)
        return
    torch = require_torch(f"--device {device}")
    where = torch.device(device)
    try:
        with torch.inference_mode(), alone_on(where):
            yield torch, lambda values: torch.from_numpy(values.astype(np.float32)).to(where)
    except torch.cuda.OutOfMemoryError as error:
        raise ResourceError(
            f"--device {device}: its memory does not hold {pixels} HSI pixels of the refinement. "
            "End what else runs there, or pass --device cpu."
        ) from error


class _System:
    """s S + n of the components used on a block, and an inverse of it that knows the own term alone.

    The guided terms are long, so of low rank: that inverse makes of the system the identity and few other directions.
    Vectors are (h, k, w), so that a product along either axis is one of two large matrices.
    """

    def __init__(
        self,
        process: ResidualProcess,
        used: NDArray[np.intp],
        factors: FloatArray,
        valid: NDArray[np.bool_],
        library: Any,
        there: Callable[[NDArray[Any]], Array],
    ) -> None:
        self.library = library
        known, self.mask = there(factors), there(valid)[:, None]
        self.strength, self.noise = (there(v[used])[:, None] for v in (process.strength, process.noise))
        self.terms = [
            (
                [_Band(m, library, there) for m in _matrices(process.footprint, length, valid.shape)],
                share,
                known[part, :, None],
            )
            for length, share, part in process.terms
        ]
        (down, self.down), (across, self.across) = (library.linalg.eigh(band.whole) for band in self.terms[0][0])
        power = (known[0] * known[0]).sum() / self.mask.sum()
        brightness = library.clip(known[0, :, None] / power**0.5, DARKEST, None)
        self.scale = self.mask / library.sqrt(brightness)
        self.own = library.clip(down[:, None] * across * power, 0, None)[:, None]
        self.spectrum = self.strength * self.own + self.noise

    def of(self, which: Array | slice) -> _System:
        """The system of these of its components."""
        part = copy(self)
        part.strength, part.noise, part.spectrum = self.strength[which], self.noise[which], self.spectrum[:, which]
        return part

    def times(self, x: Array) -> Array:
        """The system times x."""
        total = self.library.zeros_like(x)
        for (along_y, along_x), share, factors in self.terms:
            for factor in factors:  # one by one: so much stays in the caches
                seen = along_y.down((factor * x).reshape(x.shape[0], -1))
                part = along_x.across(seen.reshape(-1, x.shape[2])).reshape(x.shape)
                part *= share * factor
                total += part
        total *= self.strength
        total += self.noise * x
        total *= self.mask
        return total

    def nearly_solved(self, x: Array) -> Array:
        """The inverse of the own term, of even brightness but for a scale, and the noise, times x."""
        modes = _along(self.down.T, self.scale * x, self.across)
        modes /= self.spectrum
        near = _along(self.down, modes, self.across.T)
        near *= self.scale
        return near


class _Band:
    """A symmetric matrix whose entries fall to nothing away from its diagonal.

    Parameters
    ----------
    matrix
        (n, n); entries beyond the reach of the others become zero.
    library, there
        See `_computing`.
    """

    def __init__(self, matrix: DoubleArray, library: Any, there: Callable[[NDArray[Any]], Array]) -> None:
        self.library, size = library, len(matrix)
        apart = np.abs(np.arange(size)[:, None] - np.arange(size))
        reach = int(apart[matrix > BAND_LEAST * matrix.max()].max(initial=0))
        self.whole = there(np.where(apart <= reach, matrix, 0.0))
        rows = [slice(first, min(first + BAND_ROWS, size)) for first in range(0, size, BAND_ROWS)]
        columns = [slice(max(0, part.start - reach), min(size, part.stop + reach)) for part in rows]
        work = sum((r.stop - r.start) * (c.stop - c.start) for r, c in zip(rows, columns, strict=True))
        self.parts = list(zip(rows, columns, strict=True)) if work < BAND_SHARE * size**2 else []
        self.blocks = [there(matrix[part]) for part in self.parts]

    def down(self, x: Array) -> Array:
        """The matrix times x (n, m)."""
        if not self.parts:
            return self.whole @ x
        product = self.library.empty_like(x)
        for (rows, columns), block in zip(self.parts, self.blocks, strict=True):
            product[rows] = block @ x[columns]
        return product

    def across(self, x: Array) -> Array:
        """x (m, n) times the matrix."""
        if not self.parts:
            return x @ self.whole
        product = self.library.empty_like(x)
        for (rows, columns), block in zip(self.parts, self.blocks, strict=True):
            product[:, rows] = x[:, columns] @ block.T
        return product


def _along(left: Array, x: Array, right: Array) -> Array:
    """Both products of x (h, k, w), along each axis."""
    return ((left @ x.reshape(x.shape[0], -1)).reshape(-1, x.shape[2]) @ right).reshape(x.shape)


def _matrices(footprint: Footprint, length_lr: float, shape: tuple[int, ...]) -> list[DoubleArray]:
    matrices = []
    for axis, size in enumerate(shape):
        along = covariance(footprint, axis, length_lr, np.arange(float(size)))
        along[along < NOTHING] = 0.0
        apart = np.abs(np.arange(size)[:, None] - np.arange(size))
        matrices.append(along[apart])
    return matrices


def conjugate_gradients(system: _System, goal: Array, steps: int = 1) -> Array:
    """Solve for every component of (h, k, w) on its own; after so many ``steps`` one at rest takes no more part."""

    library = system.library

    def dot(a: Array, b: Array) -> Array:
        return library.einsum("hkw,hkw->k", a, b)[:, None]

    solution, which = library.zeros_like(goal), library.argwhere(library.ones_like(goal[0, :, 0]))[:, 0]
    enough = LEFT_OF_NOISE**2 * library.minimum(dot(goal, goal), system.noise * system.mask.sum())
    left, found = goal, library.zeros_like(goal)
    way: Array = None
    power: Array = None
    for step in range(MAX_ITERATIONS):
        moving = (dot(left, left) > enough)[:, 0] if step % steps == 0 else None
        if moving is not None and not moving.all():
            solution[:, which[~moving]] = found[:, ~moving]
            still = library.argwhere(moving)[:, 0]
            if not len(still):
                return solution
            system = system.of(still)
            which, enough, left, found = which[still], enough[still], left[:, still], found[:, still]
            if way is not None:
                way, power = way[:, still], power[still]
        near = system.nearly_solved(left)
        new = dot(left, near)
        way = near if way is None else near + new / library.clip(power, LEAST_POWER, None) * way
        power, image = new, system.times(way)
        length = power / library.clip(dot(way, image), LEAST_POWER, None)
        found += length * way
        left = left - length * image
    raise FloatingPointError(f"the correction did not come to rest in {MAX_ITERATIONS} steps")


def correction_fields(
    process: ResidualProcess,
    solution: Array,
    factors: Array,
    origin: tuple[int, int],
    rows_lr: DoubleArray,
    cols_lr: DoubleArray,
) -> FloatArray:
    """Expectation of g_0 and of the g_m, in the whitened subspace, on a grid of points.

    Parameters
    ----------
    solution, factors
        (h, K, w) s β, turned back, and (1 + M, h, w) D φ times the term's share, of a window of HSI pixels; invalid
        pixels zero.
    origin
        Row and column of the window's first pixel.
    rows_lr, cols_lr
        (y,) and (x,): places of the points, in HSI pixels; the centre of pixel (0, 0) is at 0.

    Returns
    -------
    FloatArray
        (1 + M, y, K, x): so that each is two large products, one along each axis, without a transpose between them.
        A tensor where a tensor was given.
    """
    if not isinstance(solution, np.ndarray):
        arrays = np.asarray(solution), np.asarray(factors)
        return solution.new_tensor(correction_fields(process, *arrays, origin, rows_lr, cols_lr))  # type: ignore[no-any-return]
    height, count, width = solution.shape
    fields = np.zeros((len(factors), len(rows_lr), count, len(cols_lr)), np.float32)  # no term may speak for a factor
    down = _ways(process, 0, rows_lr.tobytes(), origin[0], height)
    across = _ways(process, 1, cols_lr.tobytes(), origin[1], width)
    for (_, _, part), along_y, along_x in zip(process.terms, down, across, strict=True):
        seen = factors[part, :, None] * solution
        half = along_y @ seen.reshape(-1, height, count * width)
        np.matmul(half.reshape(-1, width), along_x.T, out=fields[part].reshape(-1, len(cols_lr)))
    return fields


@lru_cache(maxsize=256)
def _ways(process: ResidualProcess, axis: int, places: bytes, origin: int, size: int) -> list[FloatArray]:
    """Per term the covariance (n, size) of points with the pixels of a window along an axis.

    The cells of a tile share those of their row and of their column. ``places``: (n,) float64, as bytes.
    """
    apart = np.frombuffer(places)[:, None] - (origin + np.arange(float(size)))
    ways = []
    for length, _, _ in process.terms:
        weights = cross_covariance(process.footprint, axis, length, apart)
        weights[np.abs(apart) > process.reach_lr(length)] = 0.0
        ways.append(weights.astype(np.float32))
    return ways
