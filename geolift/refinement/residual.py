"""What the inversion leaves of the HSI, formed and solved in blocks on the HSI's grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geolift.degradation.degrade import apply_srf
from geolift.degradation.sampling import FloatArray
from geolift.network.engine import Engine
from geolift.network.inference import predict_block
from geolift.network.model import SpectralModel
from geolift.pair.robust import robust_line
from geolift.refinement.footprint import Footprint
from geolift.refinement.guide import Guide
from geolift.refinement.misfit import HALO_LR, MisfitModel, fit_misfit
from geolift.refinement.pair import Pair, Window
from geolift.refinement.process import ResidualProcess
from geolift.refinement.solution import solve_block
from geolift.refinement.windows import (
    MAX_WINDOWS,
    STRIP_PX,
    Progress,
    block_edge,
    even_edges,
    in_blocks,
    middle,
    spread,
    standing_windows,
    widened,
)
from geolift.runtime.scratch import ScratchArray
from geolift.training.methods.subspace import subspace_of
from geolift.training.training_set import TrainingSet

if TYPE_CHECKING:
    from pathlib import Path

PROCESS_WINDOW_LR = 20
"""Middles of the windows that stand for the scene, in which the process is fitted."""

WHOLE_LR = 25
"""Up to this size a scene stands for itself when the process is fitted."""

CLEANED_LR, SOLVED_LR = 128, 160
"""Edge of the pieces that are freed of faults, and the longest of those solved, in HSI pixels. Fixed: law 1."""

MOST_APART_LR = 0.5
"""Bands of the HSI are followed up to so many of its pixels off their places."""

LEAST_MISFIT = 0.5
"""The misfit is never taken to be less noisy than so much of the HSI's own noise."""


@dataclass(frozen=True, eq=False)
class BandsApart:
    """Bands of the HSI, at ``wavelength_nm`` (C,), that lie apart along an axis (0: y, 1: x) by their wavelength."""

    axis: int
    wavelength_nm: NDArray[np.float64]


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
        subspace = subspace_of(training)
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
        self.places = standing_windows(self.pair, self.srf, margin)
        for rows, cols in self.places:
            place = (rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start, margin)
            low = apply_srf(self.pair.hsi(rows, cols), self.srf).astype(np.float32)
            yield low, self.pair.msi(*place), self.pair.beyond(*place)

    def residuals(
        self,
        footprint: Footprint,
        guide: Guide,
        zeros: bool,
        progress: Progress,
        keystone: BandsApart | None = None,
    ) -> tuple[ScratchArray, ScratchArray, ScratchArray]:
        """Residual (K, h, w) in the whitened subspace, factors D φ (1 + M, h, w), and misfit with D M (2 c, h, w).

        With a ``keystone`` each band of the HSI is held against the product where it saw it.
        """
        edge = block_edge(self.pair.ratio, footprint.margin_lr)
        count, bands, terms = self.encode.shape[1], len(self.srf), 1 + len(guide.projection)
        arrays = tuple(ScratchArray((size, *self.pair.shape), self.folder) for size in (count, terms, 2 * bands))
        apart = None if keystone is None else self._apart(footprint, guide, zeros, keystone)

        def form(rows: slice, cols: slice) -> tuple[FloatArray, FloatArray, FloatArray]:
            seen = self._seen(footprint, guide, zeros, rows, cols)
            spectra = self.pair.hsi(rows, cols)
            if keystone is not None and apart is not None:
                spectra = spectra - self._moved(seen[:count], footprint, guide, zeros, (rows, cols), keystone, apart)
            degraded = seen[count + terms :]
            misfit = apply_srf(spectra, self.srf).astype(np.float32) - degraded
            return (
                self._whitened(spectra) - seen[:count],
                seen[count : count + terms],
                np.concatenate([misfit, degraded]),
            )

        for window, parts in in_blocks(self.pair.shape, edge, self.threads, form, progress):
            for array, part in zip(arrays, parts, strict=True):
                array.write(*window, part)
        return arrays[0], arrays[1], arrays[2]

    def _seen(self, footprint: Footprint, guide: Guide, zeros: bool, rows: slice, cols: slice) -> FloatArray:
        """(K + 1 + M + c, h, w) what HSI pixels of a window see of what `_fine` gives."""
        margin, shape = footprint.margin_lr, (rows.stop - rows.start, cols.stop - cols.start)
        wide = shape[1] + 2 * margin
        strip = max(1, STRIP_PX // (wide * self.pair.ratio**2))

        def read(row: int, count: int) -> FloatArray:
            return self._fine((rows.start + row, cols.start - margin, count, wide, 0), guide, zeros)

        return footprint.degrade_by_rows(read, shape, strip)

    def _steps(
        self, seen: FloatArray, footprint: Footprint, guide: Guide, zeros: bool, window: Window, axis: int
    ) -> tuple[FloatArray, FloatArray]:
        """First and second difference (K, h, w) along an axis, per fine pixel, of what HSI pixels see; zero beyond."""
        ahead, behind = (
            self._seen(footprint.moved(axis, step), guide, zeros, *window)[: len(seen)] for step in (1, -1)
        )
        first, second = 0.5 * (ahead - behind), ahead - 2 * seen + behind
        return np.nan_to_num(first, copy=False), np.nan_to_num(second, copy=False)

    def _moved(
        self,
        seen: FloatArray,
        footprint: Footprint,
        guide: Guide,
        zeros: bool,
        window: Window,
        keystone: BandsApart,
        apart_px: NDArray[np.float64],
    ) -> FloatArray:
        """(C, h, w) by which bands so many fine pixels apart differ for that from the product ``seen`` (K, h, w)."""
        first, second = self._steps(seen, footprint, guide, zeros, window, keystone.axis)
        by_band = (np.einsum("ck,kyx->cyx", self.decode, values, optimize=True) for values in (first, second))
        weights = (apart_px[:, None, None], 0.5 * np.square(apart_px)[:, None, None])
        return np.asarray(sum(w * values for w, values in zip(weights, by_band, strict=True)), np.float32)

    def _apart(self, footprint: Footprint, guide: Guide, zeros: bool, keystone: BandsApart) -> NDArray[np.float64]:
        """(C,) how far the bands lie off the footprint, in fine pixels: a robust line along the wavelength."""
        told, power = np.zeros(len(self.decode)), np.zeros(len(self.decode))
        for rows, cols in self.places:
            seen = self._seen(footprint, guide, zeros, rows, cols)[: self.encode.shape[1]]
            first, _ = self._steps(seen, footprint, guide, zeros, (rows, cols), keystone.axis)
            left = self._whitened(self.pair.hsi(rows, cols)) - seen
            known = np.isfinite(left).all(axis=0)
            steep, missed = (self.decode @ values[:, known].astype(np.float64) for values in (first, left))
            told, power = told + (steep * missed).sum(axis=1), power + np.square(steep).sum(axis=1)
        slope, intercept, _ = robust_line(keystone.wavelength_nm, told / np.maximum(power, 1e-300))
        most = MOST_APART_LR * self.pair.ratio
        return np.clip(slope * keystone.wavelength_nm + intercept, -most, most)

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
            wide, core = widened((rows, cols), HALO_LR, shape)
            misfit, seen = np.split(visible.read(*wide), 2)
            left, outliers = model.cleaned(residual.read(*wide), misfit, seen)
            return left[:, core[0], core[1]], np.float32(1) - outliers[None, core[0], core[1]]

        outliers = compared = 0
        for window, (left, counts) in in_blocks(shape, CLEANED_LR, self.threads, clean):
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
            middles = [(middle(rows, PROCESS_WINDOW_LR), middle(cols, PROCESS_WINDOW_LR)) for rows, cols in places]
            places = middles if len(places) > 1 else spread(self.pair.shape, PROCESS_WINDOW_LR)
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
            wide, core = widened((rows, cols), halo, shape)
            left, factor = _agreed(residual.read(*wide), factors.read(*wide))
            found = solve_block(process, left, factor, self.engine.device)
            return found[:, core[0], core[1]], left[:, core[0], core[1]]

        edges = even_edges(shape, SOLVED_LR)
        for (rows, cols), (found, left) in in_blocks(shape, edges, self.threads, solved, progress):
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


def _agreed(residual: FloatArray, factors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Make both invalid where either is."""
    invalid = ~(np.isfinite(residual).all(axis=0) & np.isfinite(factors).all(axis=0))
    residual[:, invalid] = np.nan
    factors[:, invalid] = np.nan
    return residual, factors
