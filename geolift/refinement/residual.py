"""What the inversion leaves of the HSI, formed and solved in blocks on the HSI's grid."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geolift.degradation.degrade import apply_srf
from geolift.degradation.sampling import FloatArray
from geolift.network.engine import Engine
from geolift.network.inference import predict_block
from geolift.network.model import SpectralModel
from geolift.pair.coregistration import affordable_windows
from geolift.refinement.footprint import DoubleArray, Footprint
from geolift.refinement.guide import Guide
from geolift.refinement.misfit import HALO_LR, MisfitModel, fit_misfit
from geolift.refinement.pair import Pair, Window
from geolift.refinement.process import ResidualProcess
from geolift.refinement.solution import solve_block
from geolift.runtime.blas import one_blas_thread
from geolift.runtime.scratch import ScratchArray
from geolift.training.methods.subspace import find_subspace
from geolift.training.training_set import TrainingSet

if TYPE_CHECKING:
    from pathlib import Path

WINDOW_LR, PROCESS_WINDOW_LR, MAX_WINDOWS = 40, 20, 4
"""Windows that stand for a large scene: for the footprint, and their middles for the process."""

WHOLE_LR = 25
"""Up to this size a scene stands for itself when the process is fitted."""

BLOCK_FINE_PX, SOLVED_LR = 320, 128
"""Edges of the pieces in which the residual is formed, in fine pixels, and solved, in HSI pixels. Fixed: law 1."""

LARGE_BLOCK_FINE_PX, MARGINS_PER_BLOCK, STRIP_PX = 2048, 14, 300_000
"""Where margins would be a large part of such a piece it is larger, and comes in strips of so many fine pixels: what is
read twice, margins and parts of the MSI's blocks, stays below a third."""

LEAST_MISFIT = 0.5
"""The misfit is never taken to be less noisy than so much of the HSI's own noise."""

Progress = Callable[[float], None]


class Residual:
    """The difference between an HSI and the inversion seen through its pixels, in the whitened subspace."""

    def __init__(
        self,
        pair: Pair,
        model: SpectralModel,
        training: TrainingSet,
        folder: Path | None,
        threads: int,
        engine: Engine,
    ) -> None:
        self.pair, self.model, self.folder, self.threads, self.engine = pair, model, folder, threads, engine
        self.srf = training.weights.astype(np.float64)
        subspace = find_subspace(training.spectra)
        self.mean, self.encode, self.decode, self.noise = (
            subspace.mean,
            subspace.encode,
            subspace.decode,
            subspace.noise,
        )
        whitened = model.network.projected(self.encode.T, self.mean)
        self.whitened_model = None if whitened is None else replace(model, network=whitened)

    def views(self, margin: int) -> Iterator[tuple[FloatArray, FloatArray, NDArray[np.bool_]]]:
        """Windows that stand for the scene: simulated MSI, fine MSI with a margin, what lies beyond the image."""
        self.places = _windows(self.pair, self.srf, margin)
        for rows, cols in self.places:
            place = (rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start, margin)
            low = apply_srf(self.pair.hsi(rows, cols), self.srf).astype(np.float32)
            yield low, self.pair.msi(*place), self.pair.beyond(*place)

    def residuals(
        self, footprint: Footprint, guide: Guide, zeros: bool, progress: Progress
    ) -> tuple[ScratchArray, ScratchArray, ScratchArray]:
        """Residual (K, h, w) in the whitened subspace, factors D φ (1 + M, h, w), and misfit with D M (2 c, h, w)."""
        margin = footprint.margin_lr
        edge = _block_edge(self.pair.ratio, margin)
        count, bands, terms = self.encode.shape[1], len(self.srf), 1 + len(guide.projection)
        sheets = tuple(ScratchArray((size, *self.pair.shape), self.folder) for size in (count, terms, 2 * bands))

        def form(rows: slice, cols: slice) -> tuple[FloatArray, FloatArray, FloatArray]:
            shape = rows.stop - rows.start, cols.stop - cols.start
            wide = shape[1] + 2 * margin
            strip = max(1, STRIP_PX // (wide * self.pair.ratio**2))

            def read(row: int, count: int) -> FloatArray:
                return self._fine((rows.start + row, cols.start - margin, count, wide, 0), guide, zeros)

            seen = footprint.degrade_by_rows(read, shape, strip)
            spectra = self.pair.hsi(rows, cols)
            degraded = seen[count + terms :]
            misfit = apply_srf(spectra, self.srf).astype(np.float32) - degraded
            return (
                self._whitened(spectra) - seen[:count],
                seen[count : count + terms],
                np.concatenate([misfit, degraded]),
            )

        for window, parts in self._blocks(edge, form, progress):
            for sheet, part in zip(sheets, parts, strict=True):
                sheet.write(*window, part)
        return sheets[0], sheets[1], sheets[2]

    def misfit_model(self, residual: ScratchArray, visible: ScratchArray) -> MisfitModel | None:
        """What the residual owes to faults of the sensors, learned where the footprint was."""
        windows = [(residual.read(*place), *np.split(visible.read(*place), 2)) for place in self.places]
        noise = np.sqrt(np.square(self.srf) @ np.square(self.noise))
        return fit_misfit([(r, v, m) for r, v, m in windows], LEAST_MISFIT * noise)

    def free_of_faults(
        self, model: MisfitModel, residual: ScratchArray, visible: ScratchArray
    ) -> tuple[ScratchArray, float]:
        """Free the residual of faults, in its place.

        Returns (1, h, w), one where a pixel counts and zero at outliers, and their share of the pixels compared.
        """
        kept, shape = ScratchArray((1, *self.pair.shape), self.folder), self.pair.shape

        def clean(rows: slice, cols: slice) -> tuple[FloatArray, FloatArray]:
            wide, core = _widened((rows, cols), HALO_LR, shape)
            misfit, seen = np.split(visible.read(*wide), 2)
            left, outliers = model.cleaned(residual.read(*wide), misfit, seen)
            return left[:, core[0], core[1]], np.float32(1) - outliers[None, core[0], core[1]]

        outliers = compared = 0
        for window, (left, counts) in self._blocks(SOLVED_LR, clean, lambda share: None):
            residual.write(*window, left)
            kept.write(*window, counts)
            here = int((counts == 0).sum())
            outliers, compared = outliers + here, compared + here + int(np.isfinite(left[0]).sum())
        return kept, outliers / max(compared, 1)

    def _fine(self, place: tuple[int, int, int, int, int], guide: Guide, zeros: bool) -> FloatArray:
        """(K + 1 + M + c, y, x): the inversion in the whitened subspace, φ and the MSI itself; NaN = invalid."""
        msi = self.pair.msi(*place)
        if self.whitened_model is not None:
            fused = predict_block(self.whitened_model, msi, self.engine)
        else:
            strips = [slice(row, row + 64) for row in range(0, msi.shape[1], 64)]
            fused = np.concatenate([self._whitened(predict_block(self.model, msi[:, s])) for s in strips], axis=1)
        stack = np.concatenate([fused, guide(msi), msi])
        stack[:, ~np.isfinite(stack).all(axis=0)] = np.nan
        if zeros:
            black = np.concatenate([-(self.encode.T @ self.mean), np.zeros(len(stack) - len(fused))])
            stack[:, self.pair.beyond(*place)] = black.astype(np.float32)[:, None]
        return stack

    def _whitened(self, spectra: FloatArray) -> FloatArray:
        """(K, y, x) of (C, y, x)."""
        flat = spectra.reshape(len(spectra), -1) - self.mean.astype(np.float32)[:, None]
        return np.asarray(self.encode.T.astype(np.float32) @ flat).reshape(-1, *spectra.shape[1:])

    def process_windows(self, residual: ScratchArray, factors: ScratchArray) -> list[tuple[FloatArray, FloatArray]]:
        """Residual and factors where the process is fitted."""
        places = self.places
        if max(self.pair.shape) > WHOLE_LR:
            middles = [(_middle(rows, PROCESS_WINDOW_LR), _middle(cols, PROCESS_WINDOW_LR)) for rows, cols in places]
            places = middles if len(places) > 1 else _spread(self.pair.shape, PROCESS_WINDOW_LR)
        windows = [_agreed(residual.read(*place), factors.read(*place)) for place in places]
        counts = [int(np.isfinite(left[0]).sum()) for left, _ in windows]
        best = sorted(range(len(windows)), key=lambda index: -counts[index])[:MAX_WINDOWS]
        return [windows[index] for index in best if counts[index]]

    def solve(
        self, process: ResidualProcess, residual: ScratchArray, factors: ScratchArray, progress: Progress
    ) -> tuple[ScratchArray, dict[str, Any]]:
        """s β, turned back, on all HSI pixels, and the agreement with the HSI before and after."""
        solution = ScratchArray(residual.shape, self.folder)
        turned = process.rotation * (process.strength * process.trust)
        halo, shape = process.halo_lr, self.pair.shape
        metric = process.rotation.T @ (self.decode.T @ self.decode) @ process.rotation / len(self.decode)
        before = after = count = 0.0

        def solved(rows: slice, cols: slice) -> tuple[FloatArray, FloatArray]:
            wide, core = _widened((rows, cols), halo, shape)
            left, factor = _agreed(residual.read(*wide), factors.read(*wide))
            found = solve_block(process, left, factor, self.engine.device)
            return found[:, core[0], core[1]], left[:, core[0], core[1]]

        for (rows, cols), (found, left) in self._blocks(SOLVED_LR, solved, progress):
            solution.write(rows, cols, np.einsum("kl,lyx->kyx", turned, found).astype(np.float32))
            valid = np.isfinite(left[0])
            old = process.rotation.T @ left[:, valid].astype(np.float64)
            missed = np.where(process.strength[:, None] > 0, process.noise[:, None] * found[:, valid], old)
            new = old + process.trust[:, None] * (missed - old)
            before += float(np.einsum("kn,kl,ln->", old, metric, old))
            after += float(np.einsum("kn,kl,ln->", new, metric, new))
            count += int(valid.sum())
        errors = {"rmse_before": (before / count) ** 0.5, "rmse_after": (after / count) ** 0.5} if count else {}
        return solution, {"agreement_with_hsi": errors | {"pixels": int(count)}}

    def _blocks(
        self, edge: int, work: Callable[[slice, slice], Any], progress: Progress
    ) -> Iterator[tuple[Window, Any]]:
        """Do the blocks of the HSI's grid in threads; in order, few of them waiting."""
        height, width = self.pair.shape
        windows = [
            (slice(row, min(row + edge, height)), slice(col, min(col + edge, width)))
            for row in range(0, height, edge)
            for col in range(0, width, edge)
        ]
        under_way: deque[Future[Any]] = deque()
        with one_blas_thread(), ThreadPoolExecutor(self.threads) as pool:
            for done, window in enumerate(windows, start=1):
                ahead = windows[done - 1 + len(under_way) : done + self.threads]
                under_way.extend(pool.submit(work, *further) for further in ahead)
                yield window, under_way.popleft().result()
                progress(done / len(windows))


def _widened(window: Window, halo: int, shape: tuple[int, int]) -> tuple[Window, Window]:
    """A window with a halo as far as the grid goes, and where the window lies in it."""
    rows, cols = (
        slice(max(0, part.start - halo), min(size, part.stop + halo)) for part, size in zip(window, shape, strict=True)
    )
    down, across = (
        slice(part.start - wide.start, part.stop - wide.start) for part, wide in zip(window, (rows, cols), strict=True)
    )
    return (rows, cols), (down, across)


def _agreed(residual: FloatArray, factors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Make both invalid where either is."""
    invalid = ~(np.isfinite(residual).all(axis=0) & np.isfinite(factors).all(axis=0))
    residual[:, invalid] = np.nan
    factors[:, invalid] = np.nan
    return residual, factors


def _block_edge(ratio: int, margin: int) -> int:
    """Edge of the pieces in which the residual is formed, in HSI pixels."""
    edge = BLOCK_FINE_PX // ratio - 2 * margin
    least = MARGINS_PER_BLOCK * margin
    return max(4, edge) if edge >= least else max(least, LARGE_BLOCK_FINE_PX // ratio)


def _windows(pair: Pair, srf: DoubleArray, margin: int) -> list[Window]:
    """The scene, or of nine windows spread over it the four with most to tell."""
    height, width = pair.shape
    side, count = affordable_windows(pair.ratio, margin, WINDOW_LR, MAX_WINDOWS)
    if height * width <= 1.1 * count * side**2:
        return [(slice(0, height), slice(0, width))]
    told = []
    for rows, cols in _spread(pair.shape, side):
        image = apply_srf(pair.hsi(rows, cols), srf)
        valid = np.isfinite(image).all(axis=0)
        contrast = float(image[:, valid].std(axis=1).mean()) if valid.any() else 0.0
        told.append((float(valid.mean()) * contrast, (rows, cols)))
    return [window for _, window in sorted(told, key=lambda pair: -pair[0])[:count]]


def _spread(shape: tuple[int, int], side: int) -> list[Window]:
    """Nine windows spread over a grid."""
    starts = [[round(k * max(0, size - side) / 2) for k in range(3)] for size in shape]
    height, width = (min(side, size) for size in shape)
    return [(slice(row, row + height), slice(col, col + width)) for row in starts[0] for col in starts[1]]


def _middle(part: slice, side: int) -> slice:
    size = part.stop - part.start
    first = part.start + max(0, size - side) // 2
    return slice(first, first + min(side, size))
