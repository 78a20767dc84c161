"""Agreement with the HSI: what the per-pixel inversion leaves of it, brought back to the fine pixels.

The product of the inversion, seen through the HSI's footprint, should be the HSI. What is left is modelled as a
Gaussian process (`geolift.residual_process`) whose expectation is added to the product. Everything that takes more
than a window is done beforehand on the HSI's own grid, in blocks that depend on the inputs alone; a tile of the
product then only looks up the solution around it. `docs/method.md` gives equations and measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from geolift.coregistration import estimate_shift
from geolift.degrade import apply_srf
from geolift.footprint import DoubleArray, Footprint, fit_footprint, gaussian_footprint
from geolift.inference import predict_block
from geolift.methods.subspace import find_subspace
from geolift.model import SpectralModel
from geolift.network import one_torch_thread
from geolift.noise import quiet_noise
from geolift.residual_process import ResidualProcess, correction_fields, fit_process, solve_block
from geolift.sampling import LOST_WEIGHT, FloatArray
from geolift.scratch import Sheets
from geolift.training_set import TrainingSet

if TYPE_CHECKING:
    from pathlib import Path

SEARCH_MARGIN_LR = 8
MAX_GUIDES = 3
LEAST_VARIANCE, LEAST_TRUST = 1e-9, 0.6
"""A component of the MSI guides if so much of its variance is signal; its noise is estimated from quiet blocks. A
fourth component, whose sharp values HSI pixels never show, cost the demo scene 6 dB."""

GUIDE_LIMIT = 6.0
"""Guides are cut at so many standard deviations."""

FEWEST_PIXELS = 36
"""With fewer HSI pixels to compare, nothing is refined."""

WINDOW_LR, PROCESS_WINDOW_LR, MAX_WINDOWS = 40, 20, 4
"""Windows that stand for a large scene: for the footprint, and their middles for the process."""

WHOLE_LR = 25
"""Up to this size a scene stands for itself when the process is fitted."""

BLOCK_FINE_PX, SOLVED_LR, CELL_PX = 320, 64, 32
"""Edges of the pieces in which the residual is formed, solved, and brought to the product. Fixed: law 1."""

EDGE_PIXELS, EDGE_ERROR = 8, 2.0
DOUBT = 2.0
"""Standard errors by which the held-out gain must lie above zero."""

LEAST_EXPLAINED = 0.45
"""Share of the held-out residual that must be predicted. Where less is, it is mostly noise and what the footprint
leaves open: with 8 and 16 MSI bands at ratio 8 the product lost up to 0.2 dB at shares of 0.1 to 0.4."""

Progress = Callable[[float], None]


class Pair(Protocol):
    """Both images of a fusion, read by windows of HSI pixels.

    Parameters
    ----------
    shape
        (rows, cols) of the HSI pixels under the MSI.
    ratio
        Fine pixels per HSI pixel along one edge.
    """

    @property
    def shape(self) -> tuple[int, int]: ...  # noqa: D102 - told above

    @property
    def ratio(self) -> int: ...  # noqa: D102

    def hsi(self, rows: slice, cols: slice) -> FloatArray:
        """(C, y, x) good bands, NaN = invalid."""

    def msi(self, row: int, col: int, height: int, width: int, margin: int) -> FloatArray:
        """(c, (height + 2 margin) ratio, …): harmonised MSI on the nested fine grid, NaN = invalid or beyond."""

    def beyond(self, row: int, col: int, height: int, width: int, margin: int) -> NDArray[np.bool_]:
        """Fine pixels of the same window that lie beyond the MSI's image."""


@dataclass(frozen=True, eq=False)
class ArrayPair:
    """A pair of arrays that cover the same ground: HSI (C, h, w), MSI (c, h ratio, w ratio)."""

    hsi_values: FloatArray
    msi_values: FloatArray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the HSI."""
        return self.hsi_values.shape[1], self.hsi_values.shape[2]

    @property
    def ratio(self) -> int:
        """Fine pixels per HSI pixel."""
        return int(self.msi_values.shape[1] // self.hsi_values.shape[1])

    def hsi(self, rows: slice, cols: slice) -> FloatArray:
        """See `Pair`."""
        return self.hsi_values[:, rows, cols]

    def msi(self, row: int, col: int, height: int, width: int, margin: int) -> FloatArray:
        """See `Pair`."""
        out = np.full((len(self.msi_values), *self._size(height, width, margin)), np.nan, np.float32)
        inside, source = self._inside(row, col, height, width, margin)
        out[:, inside[0], inside[1]] = self.msi_values[:, source[0], source[1]]
        return out

    def beyond(self, row: int, col: int, height: int, width: int, margin: int) -> NDArray[np.bool_]:
        """See `Pair`."""
        out = np.ones(self._size(height, width, margin), bool)
        inside, _ = self._inside(row, col, height, width, margin)
        out[inside] = False
        return out

    def _size(self, height: int, width: int, margin: int) -> tuple[int, int]:
        return (height + 2 * margin) * self.ratio, (width + 2 * margin) * self.ratio

    def _inside(
        self, row: int, col: int, height: int, width: int, margin: int
    ) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        targets, sources = [], []
        sizes = zip((row, col), self._size(height, width, margin), self.msi_values.shape[1:], strict=True)
        for first_lr, length, size in sizes:
            first = (first_lr - margin) * self.ratio
            low, high = max(0, first), min(size, first + length)
            targets.append(slice(low - first, high - first))
            sources.append(slice(low, high))
        return (targets[0], targets[1]), (sources[0], sources[1])


@dataclass(frozen=True, eq=False)
class Guide:
    """φ(x): the MSI's leading principal components, of variance one.

    Parameters
    ----------
    mean, projection
        (c,) and (M, c).
    trust
        (M,) share of the variance that is not noise: what is seen of φ at a fine pixel is shrunk by it.
    """

    mean: DoubleArray
    projection: DoubleArray
    trust: DoubleArray

    def __call__(self, msi: FloatArray) -> FloatArray:
        """(M, y, x) of a fine MSI (c, y, x), not shrunk; NaN where a band is."""
        centred = msi - self.mean[:, None, None].astype(np.float32)
        values = np.zeros((len(self.projection), *msi.shape[1:]), np.float32)
        for row, weights in zip(values, self.projection.astype(np.float32), strict=True):
            for band, weight in zip(centred, weights, strict=True):  # term by term: no window changes the rounding
                row += weight * band
        return np.clip(values, -GUIDE_LIMIT, GUIDE_LIMIT)


def find_guide(fine: Sequence[FloatArray]) -> Guide:
    """Leading principal components of fine windows (c, y, x)."""
    pixels = np.concatenate([part[:, np.isfinite(part).all(axis=0)] for part in fine], axis=1).astype(np.float64)
    mean = pixels.mean(axis=1)
    variance, vectors = np.linalg.eigh(np.atleast_2d(np.cov(pixels, bias=True)))
    variance, vectors = variance[::-1][:MAX_GUIDES], vectors[:, ::-1][:, :MAX_GUIDES]
    vectors = vectors * np.where(vectors.sum(axis=0) < 0, -1.0, 1.0)
    # Of the components, not of the bands: texture that the bands share is not taken for noise of the weak components.
    images = [np.einsum("ck,cyx->kyx", vectors, part).astype(np.float32) for part in fine]
    noise = np.median([quiet_noise(image) for image in images], axis=0)
    trust = 1.0 - np.square(noise) / np.maximum(variance, 1e-300)
    kept = np.flatnonzero((trust > LEAST_TRUST) & (variance > LEAST_VARIANCE * variance[0]))
    scale = np.sqrt(variance[kept] * trust[kept])
    return Guide(mean, (vectors[:, kept] / scale).T, trust[kept])


@dataclass(frozen=True, eq=False)
class Refinement:
    """A correction ready to be added to the product, window by window.

    Parameters
    ----------
    process, guide
        See there.
    decode
        (C, K): from the whitened subspace to spectra.
    beta, factors
        The solution and D φ on the HSI's pixels.
    """

    process: ResidualProcess
    guide: Guide
    decode: FloatArray
    beta: Sheets
    factors: Sheets

    def cell(self, msi: FloatArray, rows_lr: DoubleArray, cols_lr: DoubleArray) -> FloatArray:
        """The correction (C, y, x) of fine pixels.

        Parameters
        ----------
        msi
            (c, y, x) harmonised.
        rows_lr, cols_lr
            Places in HSI pixels, the centre of pixel (0, 0) at 0: (y, 1) and (1, x), or both (y, x) where the grids
            are turned against each other.
        """
        guides = np.nan_to_num(self.guide(msi)) * self.guide.trust[:, None, None].astype(np.float32)
        fields = self._fields(rows_lr, cols_lr)
        whitened = fields[0]
        for guide, part in zip(guides, fields[1:], strict=True):
            whitened = whitened + guide * part
        with torch.inference_mode(), one_torch_thread():
            flat = torch.from_numpy(whitened.reshape(len(whitened), -1))
            return (torch.from_numpy(self.decode) @ flat).numpy().reshape(-1, *msi.shape[1:])

    def _fields(self, rows: DoubleArray, cols: DoubleArray) -> FloatArray:
        """(1 + M, K, y, x) at places in HSI pixels."""
        if rows.shape[1] == 1 and cols.shape[0] == 1:
            return self._fields_along(rows[:, 0], cols[0])
        # Turned against each other: on a fine grid along the HSI's axes first, then between its points.
        step = 0.5 / self.process.footprint.ratio
        along = [np.arange(places.min() - step, places.max() + 2 * step, step) for places in (rows, cols)]
        where = [(places - line[0]) / step for places, line in zip((rows, cols), along, strict=True)]
        fields = self._fields_along(along[0], along[1])
        flat = fields.reshape(-1, *fields.shape[2:])
        read = [ndimage.map_coordinates(field, where, order=1, mode="nearest") for field in flat]
        return np.stack(read).reshape(*fields.shape[:2], *rows.shape)

    def _fields_along(self, rows: DoubleArray, cols: DoubleArray) -> FloatArray:
        reach = max(self.process.reach_lr(length) for length, _, _ in self.process.terms)
        window = [
            slice(max(0, int(np.floor(places.min())) - reach), min(size, int(np.ceil(places.max())) + reach + 1))
            for places, size in zip((rows, cols), self.beta.shape[1:], strict=True)
        ]
        if any(part.start >= part.stop for part in window):
            return np.zeros((self.factors.shape[0], self.beta.shape[0], len(rows), len(cols)), np.float32)
        known = self.beta.read(*window), np.nan_to_num(self.factors.read(*window))
        return correction_fields(self.process, *known, (window[0].start, window[1].start), rows, cols)

    def refined(
        self, fused: FloatArray, msi: FloatArray, corner: tuple[int, int], shape: tuple[int, int], places: Places
    ) -> FloatArray:
        """Correct a tile of the product, in place.

        Parameters
        ----------
        fused, msi
            (C, y, x) and harmonised (c, y, x) of the tile.
        corner
            Its first row and column in the product.
        shape
            (rows, cols) of the whole product.
        places
            Rows and columns of a window of the product, in HSI pixels.
        """
        height, width = fused.shape[1:]
        for row in range(corner[0] // CELL_PX * CELL_PX, corner[0] + height, CELL_PX):
            for col in range(corner[1] // CELL_PX * CELL_PX, corner[1] + width, CELL_PX):
                # The whole cell each time: a piece of it would round differently.
                rows, cols = slice(row, min(row + CELL_PX, shape[0])), slice(col, min(col + CELL_PX, shape[1]))
                whole = np.zeros((len(msi), rows.stop - row, cols.stop - col), np.float32)
                inner, outer = _common((rows, cols), corner, (height, width))
                whole[:, inner[0], inner[1]] = msi[:, outer[0], outer[1]]
                fused[:, outer[0], outer[1]] += self.cell(whole, *places(rows, cols))[:, inner[0], inner[1]]
        return fused


Places = Callable[[slice, slice], tuple[DoubleArray, DoubleArray]]
Window = tuple[slice, slice]


def _common(cell: Window, corner: tuple[int, int], size: tuple[int, int]) -> tuple[Window, Window]:
    """What a cell and a tile share, counted in the cell and in the tile."""
    inner, outer = [], []
    for part, first, length in zip(cell, corner, size, strict=True):
        low, high = max(part.start, first), min(part.stop, first + length)
        inner.append(slice(low - part.start, high - part.start))
        outer.append(slice(low - first, high - first))
    return (inner[0], inner[1]), (outer[0], outer[1])


@dataclass(frozen=True, eq=False)
class Refined:
    """What became of the refinement.

    Parameters
    ----------
    refinement
        None where the product stays as the inversion gives it.
    reason
        One sentence: why, or why not.
    facts
        JSON-able: footprint, process, held-out evidence, agreement with the HSI before and after.
    """

    refinement: Refinement | None
    reason: str
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the document of the sidecar."""
        return {"applied": self.refinement is not None, "reason": self.reason, **self.facts}


def find_refinement(
    pair: Pair,
    model: SpectralModel,
    training: TrainingSet,
    shift_px: tuple[float, float],
    blur_sigma_px: tuple[float, float],
    *,
    forced: bool = False,
    folder: Path | None = None,
    threads: int = 1,
    progress: Progress = lambda share: None,
) -> Refined:
    """Find the correction that makes a model's product agree with the HSI.

    Parameters
    ----------
    shift_px, blur_sigma_px
        (y, x) in fine pixels, as co-registration found them: where the search for the footprint begins.
    forced
        Apply it even if held-out pixels do not speak for it.
    folder
        Where large intermediate arrays go; without one they stay in memory.
    """
    work = _Work(pair, model, training, folder, threads)
    start = gaussian_footprint(pair.ratio, shift_px, blur_sigma_px)
    views = list(work.views(start.margin_lr))
    if sum(int(np.isfinite(low).all(axis=0).sum()) for low, _, _ in views) < FEWEST_PIXELS:
        return Refined(None, f"fewer than {FEWEST_PIXELS} HSI pixels to compare with")
    footprint = fit_footprint([(low, fine) for low, fine, _ in views], start, start.margin_lr)
    guide = find_guide([fine for _, fine, _ in views])
    zeros = _sees_zeros_beyond(views, footprint, start.margin_lr)
    residual, factors = work.residuals(footprint, guide, zeros, lambda share: progress(0.5 * share))
    windows = work.process_windows(residual, factors)
    if sum(int(np.isfinite(r[0]).sum()) for r, _ in windows) < FEWEST_PIXELS:
        return Refined(None, f"fewer than {FEWEST_PIXELS} HSI pixels see valid MSI pixels only")
    metric = work.decode.T @ work.decode / len(work.decode)
    process, explained, doubt = fit_process(windows, footprint, metric)
    facts = _facts(process, explained, doubt, zeros)
    if not forced and (not process.strength.any() or explained < max(DOUBT * doubt, LEAST_EXPLAINED)):
        return Refined(
            None,
            f"only {max(explained, 0):.0%} of what the inversion leaves of held-out HSI pixels is predicted",
            facts,
        )
    beta, agreement = work.solve(process, residual, factors, lambda share: progress(0.5 + 0.5 * share))
    chosen = Refinement(process, guide, work.decode.astype(np.float32), beta, factors)
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

    Parameters
    ----------
    hsi, msi
        (C, h, w) and (c, h ratio, w ratio) over the same ground.
    fused
        (C, h ratio, w ratio): the model's product, which stays as it is where nothing is refined.

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
    if result.refinement is None:
        return fused, result

    def places(rows: slice, cols: slice) -> tuple[DoubleArray, DoubleArray]:
        down, across = ((np.arange(part.start, part.stop) + 0.5) / pair.ratio - 0.5 for part in (rows, cols))
        return down[:, None], across[None]

    refined = result.refinement.refined(fused.copy(), pair.msi_values, (0, 0), (rows, cols), places)
    return refined, result


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


class _Work:
    """The parts of `find_refinement` that read the pair."""

    def __init__(
        self, pair: Pair, model: SpectralModel, training: TrainingSet, folder: Path | None, threads: int
    ) -> None:
        self.pair, self.model, self.folder, self.threads = pair, model, folder, threads
        self.srf = training.weights.astype(np.float64)
        with one_torch_thread():
            subspace = find_subspace(torch.tensor(training.spectra, dtype=torch.float64))
        self.mean, self.encode, self.decode = (t.numpy() for t in (subspace.mean, subspace.encode, subspace.decode))

    def views(self, margin: int) -> Iterator[tuple[FloatArray, FloatArray, NDArray[np.bool_]]]:
        """Windows that stand for the scene: simulated MSI, fine MSI with a margin, what lies beyond the image."""
        self.places = _windows(self.pair, self.srf)
        for rows, cols in self.places:
            place = (rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start, margin)
            low = apply_srf(self.pair.hsi(rows, cols), self.srf).astype(np.float32)
            yield low, self.pair.msi(*place), self.pair.beyond(*place)

    def residuals(self, footprint: Footprint, guide: Guide, zeros: bool, progress: Progress) -> tuple[Sheets, Sheets]:
        """Residual (K, h, w) in the whitened subspace, and D φ (1 + M, h, w), on all HSI pixels."""
        margin = footprint.margin_lr
        edge = max(4, BLOCK_FINE_PX // self.pair.ratio - 2 * margin)
        count = self.encode.shape[1]
        residual = Sheets((count, *self.pair.shape), self.folder)
        factors = Sheets((1 + len(guide.projection), *self.pair.shape), self.folder)

        def form(rows: slice, cols: slice) -> tuple[FloatArray, FloatArray]:
            place = (rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start, margin)
            seen = footprint.degrade(self._fine(place, guide, zeros), margin)
            goal = self._whitened(self.pair.hsi(rows, cols))
            return goal - seen[:count], seen[count:]

        for (rows, cols), (left, factor) in self._blocks(edge, form, progress):
            residual.write(rows, cols, left)
            factors.write(rows, cols, factor)
        return residual, factors

    def _fine(self, place: tuple[int, int, int, int, int], guide: Guide, zeros: bool) -> FloatArray:
        """(K + 1 + M, y, x): the inversion in the whitened subspace, and φ; NaN = invalid."""
        msi = self.pair.msi(*place)
        strips = [slice(row, row + 64) for row in range(0, msi.shape[1], 64)]
        fused = np.concatenate([self._whitened(predict_block(self.model, msi[:, strip])) for strip in strips], axis=1)
        ones = np.where(np.isfinite(fused[:1]), np.float32(1), np.float32(np.nan))
        stack = np.concatenate([fused, ones, guide(msi)])
        stack[:, ~np.isfinite(stack).all(axis=0)] = np.nan
        if zeros:
            black = np.concatenate([-(self.encode.T @ self.mean), np.zeros(len(stack) - len(fused))])
            stack[:, self.pair.beyond(*place)] = black.astype(np.float32)[:, None]
        return stack

    def _whitened(self, spectra: FloatArray) -> FloatArray:
        """(K, y, x) of (C, y, x)."""
        with torch.inference_mode(), one_torch_thread():
            flat = torch.from_numpy(np.ascontiguousarray(spectra.reshape(len(spectra), -1)))
            centred = flat - torch.from_numpy(self.mean.astype(np.float32))[:, None]
            result = torch.from_numpy(self.encode.T.astype(np.float32)) @ centred
            return result.numpy().reshape(-1, *spectra.shape[1:])

    def process_windows(self, residual: Sheets, factors: Sheets) -> list[tuple[FloatArray, FloatArray]]:
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
        self, process: ResidualProcess, residual: Sheets, factors: Sheets, progress: Progress
    ) -> tuple[Sheets, dict[str, Any]]:
        """β on all HSI pixels, and the agreement with the HSI before and after."""
        beta = Sheets(residual.shape, self.folder)
        halo, shape = process.halo_lr, self.pair.shape
        metric = process.rotation.T @ (self.decode.T @ self.decode) @ process.rotation / len(self.decode)
        before = after = count = 0.0

        def solved(rows: slice, cols: slice) -> tuple[FloatArray, FloatArray]:
            wide = [
                slice(max(0, p.start - halo), min(n, p.stop + halo)) for p, n in zip((rows, cols), shape, strict=True)
            ]
            left, factor = _agreed(residual.read(*wide), factors.read(*wide))
            core = [slice(p.start - w.start, p.stop - w.start) for p, w in zip((rows, cols), wide, strict=True)]
            return solve_block(process, left, factor)[:, core[0], core[1]], left[:, core[0], core[1]]

        for (rows, cols), (found, left) in self._blocks(SOLVED_LR, solved, progress):
            beta.write(rows, cols, found)
            valid = np.isfinite(left[0])
            old = process.rotation.T @ left[:, valid].astype(np.float64)
            new = np.where(process.strength[:, None] > 0, process.noise[:, None] * found[:, valid], old)
            before += float(np.einsum("kn,kl,ln->", old, metric, old))
            after += float(np.einsum("kn,kl,ln->", new, metric, new))
            count += int(valid.sum())
        errors = {"rmse_before": (before / count) ** 0.5, "rmse_after": (after / count) ** 0.5} if count else {}
        return beta, {"agreement_with_hsi": errors | {"pixels": int(count)}}

    def _blocks(
        self, edge: int, work: Callable[[slice, slice], Any], progress: Progress
    ) -> Iterator[tuple[Window, Any]]:
        """Do the blocks of the HSI's grid in threads, a few at a time; in order."""
        height, width = self.pair.shape
        windows = [
            (slice(row, min(row + edge, height)), slice(col, min(col + edge, width)))
            for row in range(0, height, edge)
            for col in range(0, width, edge)
        ]
        with ThreadPoolExecutor(self.threads) as pool:
            for first in range(0, len(windows), self.threads):
                some = windows[first : first + self.threads]
                yield from zip(some, pool.map(lambda window: work(*window), some), strict=True)
                progress((first + len(some)) / len(windows))


def _agreed(residual: FloatArray, factors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Make both invalid where either is."""
    invalid = ~(np.isfinite(residual).all(axis=0) & np.isfinite(factors).all(axis=0))
    residual[:, invalid] = np.nan
    factors[:, invalid] = np.nan
    return residual, factors


def _windows(pair: Pair, srf: DoubleArray) -> list[Window]:
    """The scene, or of nine windows spread over it the four with most to tell."""
    height, width = pair.shape
    if height * width <= 1.1 * MAX_WINDOWS * WINDOW_LR**2:
        return [(slice(0, height), slice(0, width))]
    told = []
    for rows, cols in _spread(pair.shape, WINDOW_LR):
        image = apply_srf(pair.hsi(rows, cols), srf)
        valid = np.isfinite(image).all(axis=0)
        contrast = float(image[:, valid].std(axis=1).mean()) if valid.any() else 0.0
        told.append((float(valid.mean()) * contrast, (rows, cols)))
    return [window for _, window in sorted(told, key=lambda pair: -pair[0])[:MAX_WINDOWS]]


def _spread(shape: tuple[int, int], side: int) -> list[Window]:
    """Nine windows spread over a grid."""
    starts = [[round(k * max(0, size - side) / 2) for k in range(3)] for size in shape]
    height, width = (min(side, size) for size in shape)
    return [(slice(row, row + height), slice(col, col + width)) for row in starts[0] for col in starts[1]]


def _middle(part: slice, side: int) -> slice:
    size = part.stop - part.start
    first = part.start + max(0, size - side) // 2
    return slice(first, first + min(side, size))
