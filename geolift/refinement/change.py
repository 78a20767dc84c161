"""Where the MSI does not show the ground that the HSI saw, and the HSI's own content in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geolift.degradation.degrade import apply_srf
from geolift.degradation.sampling import LOST_WEIGHT, FloatArray
from geolift.pair.robust import mad_sigma, robust_line
from geolift.refinement.changed_share import (
    LEAST_PRESENT,
    BoolArray,
    Scatter,
    Sight,
    centre_lr,
    changed_share,
    least_near,
    misfit_size,
    neighbours,
    shift_lr,
    shifts_of,
    slopes,
    variance_unchanged,
)
from geolift.refinement.footprint import DoubleArray, Footprint, fit_footprint, gaussian_footprint
from geolift.refinement.misfit import FEWEST_PIXELS, OUTLIER_SIGMA, quiet_sigma
from geolift.refinement.pair import Pair
from geolift.refinement.windows import STRIP_PX, block_edge, in_blocks, standing_windows, widened
from geolift.runtime.scratch import Piece, ScratchArray

if TYPE_CHECKING:
    from pathlib import Path

LEAST_SATURATED = 0.01
"""Part of an HSI pixel from which on it counts as saturated in the MSI."""

Saturated = Callable[[int, int, int, int, int], NDArray[Any]]
"""From row, column, height, width and margin of a window in HSI pixels to its saturated fine pixels."""

DISPLACED_LR, FEWEST_ALONG = 0.15, 8
"""Lines and columns of which most pixels are off their places by more, all alike, are not compared; and how many
pixels of them must tell."""

RIM_SLOPE, RIM_WINDOW = 20.0, 5
"""How steeply the share of a pixel at the rim of a change counts; edge of the window around it that is asked."""

BLOCK_LR = 32
"""Edge of the pieces in which changed pixels are looked for, in HSI pixels. Fixed: law 1."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Change:
    """The fine pixels at which the MSI gives way to what the HSI shows.

    Parameters
    ----------
    share
        (1, h ratio, w ratio) how much of the MSI gives way, 0 … 1, on the fine grid nested in the HSI's.
    shown
        (c, h, w) what the HSI shows instead, in the harmonised MSI's unit, where anything does give way; each value at
        the centre of what its pixel sees.
    seen
        (1, h, w) weight with which HSI pixels see what gives way, or may; one where they see saturated pixels.
    footprint
        How the HSI sees the fine image.
    pixels
        Fine pixels that give way; none where HSI pixels are hidden only.
    """

    share: ScratchArray
    shown: ScratchArray
    seen: ScratchArray
    footprint: Footprint
    pixels: int

    @property
    def part(self) -> float:
        """Of the fine pixels, those that give way."""
        return self.pixels / int(np.prod(self.share.shape))

    def share_at(self, rows_lr: DoubleArray, cols_lr: DoubleArray) -> FloatArray:
        """Share (y, x) at places in HSI pixels, the centre of pixel (0, 0) at 0: (y, 1) and (1, x), or both (y, x)."""
        (rows, cols), inside = self._fine(rows_lr, cols_lr)
        window = _hull(rows), _hull(cols)
        found = self.share.read(*window)[0][rows - window[0].start, cols - window[1].start]
        return np.where(inside, found, np.float32(0))

    def _fine(self, *places_lr: DoubleArray) -> tuple[list[NDArray[np.intp]], BoolArray]:
        """Fine rows and columns of places, and which lie on the HSI (the shift wanders across the border)."""
        ratio, found, inside = self.footprint.ratio, [], []
        for places, size in zip(places_lr, self.share.shape[1:], strict=True):
            fine = np.floor((places + 0.5) * ratio).astype(np.intp)
            inside.append((fine >= -ratio) & (fine < size + ratio))
            found.append(np.clip(fine, 0, size - 1))
        return found, inside[0] & inside[1]

    def applied(self, msi: FloatArray, rows_lr: DoubleArray, cols_lr: DoubleArray) -> FloatArray:
        """Let a harmonised MSI (c, y, x) at places in HSI pixels give way; NaN stays NaN."""
        share = self.share_at(rows_lr, cols_lr)
        if not share.any():
            return msi
        return np.asarray(np.where(share > 0, msi + share * (self._shown_at(rows_lr, cols_lr) - msi), msi), np.float32)

    def pieces(self, rows_lr: DoubleArray, cols_lr: DoubleArray) -> list[Piece]:
        """Return what `applied` reads at these places."""
        rows, cols = self._fine(rows_lr, cols_lr)[0]
        share = self.share.piece(_hull(rows), _hull(cols))
        between = self._between(rows_lr, cols_lr)
        return [share, self.shown.piece(*(window for window, _, _ in between))] if share.values.any() else [share]

    def _between(self, *places_lr: DoubleArray) -> list[tuple[slice, NDArray[np.intp], FloatArray]]:
        """By axis the pixels of ``shown`` that decide, which of them lies before each place, and how far it is past."""
        found = []
        for axis, (places, size) in enumerate(zip(places_lr, self.shown.shape[1:], strict=True)):
            low, share = neighbours(places - centre_lr(self.footprint, axis), size)
            window = slice(int(low.min()), min(int(low.max()) + 2, size))
            found.append((window, low - window.start, share))
        return found

    def _shown_at(self, rows_lr: DoubleArray, cols_lr: DoubleArray) -> FloatArray:
        (rows, down, y), (cols, across, x) = self._between(rows_lr, cols_lr)
        values = self.shown.read(rows, cols)
        below, right = (np.minimum(low + 1, n - 1) for low, n in zip((down, across), values.shape[1:], strict=True))
        upper = values[:, down, across] * (1 - x) + values[:, down, right] * x
        lower = values[:, below, across] * (1 - x) + values[:, below, right] * x
        return np.asarray(upper * (1 - y) + lower * y)


def _hull(indices: NDArray[np.intp]) -> slice:
    return slice(int(indices.min()), int(indices.max()) + 1)


@dataclass(frozen=True, eq=False)
class ChangedPair:
    """`Pair` whose MSI shows the ground that the HSI saw.

    HSI pixels that see what gives way, which is smoother than the ground, or saturates, are hidden: they tell nothing
    of the others.
    """

    pair: Pair
    change: Change

    @property
    def shape(self) -> tuple[int, int]:
        """See `Pair`."""
        return self.pair.shape

    @property
    def ratio(self) -> int:
        """See `Pair`."""
        return self.pair.ratio

    def hsi(self, rows: slice, cols: slice) -> FloatArray:
        """See `Pair`."""
        return np.where(self.hidden(rows, cols), np.float32(np.nan), self.pair.hsi(rows, cols))

    def hidden(self, rows: slice, cols: slice) -> BoolArray:
        """(y, x) HSI pixels that are."""
        return np.asarray(self.change.seen.read(rows, cols)[0] > LOST_WEIGHT)

    def msi(self, row: int, col: int, height: int, width: int, margin: int) -> FloatArray:
        """See `Pair`."""
        values = self.pair.msi(row, col, height, width, margin)
        rows, cols = (
            first - margin + (np.arange(size) + 0.5) / self.ratio - 0.5
            for first, size in zip((row, col), values.shape[1:], strict=True)
        )
        return self.change.applied(values, rows[:, None], cols[None])

    def beyond(self, row: int, col: int, height: int, width: int, margin: int) -> NDArray[np.bool_]:
        """See `Pair`."""
        return self.pair.beyond(row, col, height, width, margin)


def find_change(
    pair: Pair,
    srf: DoubleArray,
    least_sigma: DoubleArray,
    shift_px: tuple[float, float],
    blur_sigma_px: tuple[float, float],
    *,
    wandering_px: float = 0.0,
    apart_px: tuple[float, float] = (0.0, 0.0),
    saturated: Saturated | None = None,
    folder: Path | None = None,
    threads: int = 1,
) -> Change | None:
    """Find where the MSI gives way to what the HSI shows; None where it does nowhere and none is saturated.

    Parameters
    ----------
    srf
        (c, C).
    least_sigma
        (c,) what noise alone makes the two differ by, at least.
    shift_px, blur_sigma_px
        (y, x) in fine pixels, as co-registration found them.
    wandering_px
        How far the shift wanders over the scene, in fine pixels, undone in ``pair`` as far as it is known: what shows
        so near in the MSI has not changed.
    apart_px
        (y, x) by which bands of the HSI lie off their places, at most, in fine pixels.
    saturated
        Where the MSI is; it is too dark there, which is no change of ground. None = nowhere.
    folder
        Where large arrays go; without one they stay in memory.
    """
    start = gaussian_footprint(pair.ratio, shift_px, blur_sigma_px)
    windows, margin = _windows(pair, srf, start.margin_lr), start.margin_lr
    if sum(int(np.isfinite(low).all(axis=0).sum()) for low, _ in windows) < FEWEST_PIXELS:
        return None
    search = _Search(pair, srf, fit_footprint(windows, start, margin), saturated, folder, threads)
    search.wandering_lr = wandering_px / pair.ratio
    search.apart_lr = np.abs(apart_px) / pair.ratio
    scatter = search.learned(windows, margin, least_sigma)
    return None if scatter is None else search.found(scatter)


def _windows(pair: Pair, srf: DoubleArray, margin: int) -> list[tuple[FloatArray, FloatArray]]:
    """Simulated and fine MSI of the windows that stand for the scene."""
    return [
        (
            apply_srf(pair.hsi(rows, cols), srf).astype(np.float32),
            pair.msi(rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start, margin),
        )
        for rows, cols in standing_windows(pair, srf, margin)
    ]


def _displaced(misfit: NDArray[np.floating], simulated: FloatArray) -> BoolArray:
    """HSI pixels (h, w) in lines or columns that lie off their places as a whole; both (c, h, w) in sigmas."""
    off = np.zeros(misfit.shape[1:], bool)
    for slope in slopes(simulated):
        shifts = shifts_of(misfit, slope)
        for axis in (0, 1):
            along = np.moveaxis(shifts, axis, 0)
            for line, values in enumerate(along):
                told = values[np.isfinite(values)]
                if told.size >= FEWEST_ALONG:
                    middle = float(np.median(told))
                    if abs(middle) > max(DISPLACED_LR, float(mad_sigma(told - middle))):
                        np.moveaxis(off, axis, 0)[line] = True
    return off


class _Search:
    """The steps of `find_change`."""

    def __init__(
        self,
        pair: Pair,
        srf: DoubleArray,
        footprint: Footprint,
        saturated: Saturated | None,
        folder: Path | None,
        threads: int,
    ) -> None:
        self.pair, self.srf, self.footprint, self.folder, self.threads = pair, srf, footprint, folder, threads
        self.saturated, self.wandering_lr, self.apart_lr = saturated, 0.0, np.zeros(2)
        self.line = np.zeros((2, len(srf), 1, 1), np.float32)

    def learned(
        self, windows: Sequence[tuple[FloatArray, FloatArray]], margin: int, least_sigma: DoubleArray
    ) -> Scatter | None:
        """Learn the common line of the misfit, and how it scatters; None where too few pixels are known."""
        misfits, seen, details, steep = [], [], [], []
        for low, fine in windows:
            sight = Sight(self.footprint, (low.shape[1], low.shape[2]), margin)
            coarse = self.footprint.degrade(fine, margin)
            known = np.isfinite(low - coarse).all(axis=0)
            misfits.append((low - coarse)[:, known])
            seen.append(coarse[:, known])
            steep.append(np.stack(slopes(low))[:, :, known])
            if known.any():
                inner = slice(margin * self.pair.ratio, -margin * self.pair.ratio or None)
                detail = (fine - sight.interpolated(sight.consistent(np.where(known, coarse, np.nan))))[:, inner, inner]
                details.append(detail[:, np.isfinite(detail).all(axis=0)])
        misfit, values = (np.concatenate(parts, axis=1) for parts in (misfits, seen))
        if misfit.shape[1] < FEWEST_PIXELS:
            return None
        lines = np.array([robust_line(x, y)[:2] for x, y in zip(values, misfit, strict=True)])
        self.line = lines.T[:, :, None, None].astype(np.float32)
        left = misfit - lines[:, :1] * values - lines[:, 1:]
        sigma = np.maximum(quiet_sigma(left), least_sigma)
        off = [shift_lr(left / sigma[:, None], slope / sigma[:, None]) for slope in np.concatenate(steep, axis=2)]
        detail = np.maximum(mad_sigma(np.concatenate(details, axis=1), axis=1), sigma)
        off = np.maximum(off, self.apart_lr).tolist()
        return Scatter(sigma.astype(np.float32), detail.astype(np.float32), (off[0], off[1]))

    def found(self, scatter: Scatter) -> Change | None:
        """Compare all of the scene, and look for changed pixels around the HSI pixels that differ."""
        shape, count = self.pair.shape, len(self.srf)
        compared = ScratchArray((2 * count + 1, *shape), self.folder)
        seen = ScratchArray((1, *shape), self.folder)
        any_suspect = any_saturated = False
        edge = block_edge(self.pair.ratio, self.footprint.margin_lr)
        for window, (values, suspects, saturated) in in_blocks(
            shape, edge, self.threads, lambda rows, cols: self._compared(rows, cols, scatter)
        ):
            compared.write(*window, np.concatenate([values, suspects[None].astype(np.float32)]))
            seen.write(*window, saturated[None].astype(np.float32))
            any_suspect |= bool(suspects.any())
            any_saturated |= bool(saturated.any())
        if not (any_suspect or any_saturated):
            return None
        ratio, margin = self.pair.ratio, self.footprint.margin_lr
        share = ScratchArray((1, shape[0] * ratio, shape[1] * ratio), self.folder)
        shown = ScratchArray((count, *shape), self.folder)
        pixels = 0

        def solved(rows: slice, cols: slice) -> tuple[FloatArray, FloatArray, FloatArray] | None:
            wide, core = widened((rows, cols), 2 * margin + 3, shape)
            around = compared.read(*wide)
            if not around[-1].any():
                return None
            found, *values = self._solved(wide, around, scatter)
            fine = [slice(part.start * ratio, part.stop * ratio) for part in core]
            return found[fine[0], fine[1]], values[0][:, *core], values[1][:, *core]

        for (rows, cols), result in in_blocks(shape, BLOCK_LR, self.threads, solved):
            if result is None:
                continue
            fine = [slice(part.start * ratio, part.stop * ratio) for part in (rows, cols)]
            share.write(fine[0], fine[1], result[0][None])
            shown.write(rows, cols, result[1])
            seen.write(rows, cols, np.maximum(seen.read(rows, cols), result[2]))
            pixels += int((result[0] > 0).sum())
        found = Change(share=share, shown=shown, seen=seen, footprint=self.footprint, pixels=pixels)
        return found if pixels or any_saturated else None

    def _compared(self, rows: slice, cols: slice, scatter: Scatter) -> tuple[FloatArray, BoolArray, BoolArray]:
        """Simulated MSI as the MSI has it and misfit (2 c, h, w), NaN = unknown; pixels that differ, or saturate."""
        margin, ratio = self.footprint.margin_lr, self.pair.ratio
        shape = rows.stop - rows.start, cols.stop - cols.start
        wide = shape[1] + 2 * margin

        def read(row: int, count: int) -> FloatArray:
            place = (rows.start + row, cols.start - margin, count, wide, 0)
            fine = self.pair.msi(*place)
            valid = np.isfinite(fine).all(axis=0)
            flags = np.stack([np.zeros_like(valid) if self.saturated is None else self.saturated(*place), valid])
            return np.concatenate([np.where(valid, fine, np.float32(0)), flags.astype(np.float32)])

        seen = self.footprint.degrade_by_rows(read, shape, max(1, STRIP_PX // (wide * ratio**2)))
        present, low = seen[-1], apply_srf(self.pair.hsi(rows, cols), self.srf).astype(np.float32)
        coarse = seen[:-2] / np.maximum(present, LEAST_PRESENT)
        low = low - self.line[0] * coarse - self.line[1]
        misfit = np.where(present < LEAST_PRESENT, np.float32(np.nan), low - coarse)
        saturated = np.asarray(seen[-2] > LEAST_SATURATED)
        misfit = np.where(saturated, np.minimum(misfit, 0), misfit)
        variance = variance_unchanged(scatter, present, low)
        misfit[:, _displaced(misfit / scatter.sigma[:, None, None], low / scatter.sigma[:, None, None])] = np.nan
        size = misfit_size(misfit, variance)
        # A simulated HSI may have seen zeros beyond the image.
        zeros = (present < 1 - LOST_WEIGHT) & (misfit_size(low - seen[:-2], variance) < np.minimum(size, OUTLIER_SIGMA))
        misfit[:, zeros] = np.nan
        suspects = np.isfinite(misfit[0]) & (size > OUTLIER_SIGMA)
        suspects[suspects] = least_near(low, coarse, variance, suspects, self.wandering_lr) > OUTLIER_SIGMA
        return np.concatenate([low, misfit]), suspects, saturated

    def _solved(
        self, wide: tuple[slice, slice], around: FloatArray, scatter: Scatter
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Share of the fine pixels of a window that gives way, what the HSI shows (c, h, w), and `Change.seen`."""
        (rows, cols), margin, ratio = wide, self.footprint.margin_lr, self.pair.ratio
        low, misfit = np.split(around[:-1], 2)
        shape = rows.stop - rows.start, cols.stop - cols.start
        sight = Sight(self.footprint, shape, margin)
        shown = sight.consistent(np.where(np.isfinite(low).all(axis=0), low, np.float32(np.nan)))
        msi = self.pair.msi(rows.start, cols.start, *shape, margin)
        fine = sight.interpolated(shown)
        share = changed_share(
            sight, msi, fine, misfit, around[-1] > 0,
            lambda present: variance_unchanged(scatter, present, low), scatter.detail,
        )  # fmt: skip
        inner = [slice(margin * ratio, size - margin * ratio) for size in share.shape]
        own, missed = msi[:, *inner], sight.interpolated(sight.consistent(misfit))[:, *inner]
        # half of it and less is doubt: a clear pixel beside a change stays as it is
        confined = _confined(share[*inner], own, scatter.detail)
        confined = _worthwhile(confined, missed, own + missed - fine[:, *inner], scatter.detail, ratio**2)
        return confined, shown, sight.seen(share)[None]


def _confined(share: FloatArray, msi: FloatArray, sigma: FloatArray) -> FloatArray:
    """Share (y, x) of an MSI (c, y, x) that gives way: clear pixels beside a change stay as they are.

    Half of a share and less is doubt. A pixel at the rim of what is left has to give way as a whole, and counts as far
    as it looks more like the changed pixels beside it than like those that stay (the membership of fuzzy c-means,
    Bezdek, doi:10.1007/978-1-4757-0450-1).

    Parameters
    ----------
    sigma
        (c,) by which pixels of one kind differ.
    """
    given = np.clip(2 * share - 1, 0, 1)
    core = ndimage.binary_erosion(given > 0, np.ones((3, 3)), border_value=1)
    rim = ndimage.binary_dilation(core, np.ones((3, 3))) & (given > 0) & ~core
    scaled = np.nan_to_num(msi) / sigma[:, None, None]
    changed, clear = (np.maximum(_unlike(scaled, mask), 1e-6) for mask in (core, given == 0))
    member = 1 / (1 + changed / clear)
    steep = np.clip(RIM_SLOPE * (share - 1) + 1, 0, 1) * np.clip(2 * member - 1, 0, 1)
    return np.where(core, given, np.where(rim, steep, 0)).astype(np.float32)


def _worthwhile(share: FloatArray, won: FloatArray, lost: FloatArray, sigma: FloatArray, fewest: int) -> FloatArray:
    """Share (y, x) without the areas where more is lost than won.

    Parameters
    ----------
    won
        (c, y, x) by how much the MSI, seen coarsely, is wrong there.
    lost
        (c, y, x) the MSI's own detail. Where that is the larger it is the radiometry that differs, not the ground.
    fewest
        Pixels that change together: what is smaller than an HSI pixel cannot be told from a shift of what lies there.
    """
    areas, _ = ndimage.label(share > 0, np.ones((3, 3)))
    balance = (np.nan_to_num(np.square(won) - np.square(lost)) / np.square(sigma)[:, None, None]).sum(axis=0)
    kept = (np.bincount(areas.ravel()) >= fewest) & (np.bincount(areas.ravel(), balance.ravel()) > 0)
    return np.where(kept[areas], share, np.float32(0))


def _unlike(values: FloatArray, mask: BoolArray) -> FloatArray:
    """Squared distance (y, x) of values (c, y, x) from the mean of those in a mask around, by how far these lie.

    Their noise is included; infinite without any.
    """
    weight = ndimage.uniform_filter(mask.astype(np.float32), RIM_WINDOW)
    total = ndimage.uniform_filter(np.where(mask, values, np.float32(0)), (0, RIM_WINDOW, RIM_WINDOW))
    few = 0.5 / RIM_WINDOW**2
    mean = total / np.maximum(weight, few)
    squares = ndimage.uniform_filter(np.where(mask, np.square(values).sum(axis=0), np.float32(0)), RIM_WINDOW)
    scatter = np.maximum(squares / np.maximum(weight, few) - np.square(mean).sum(axis=0), 0) + len(values)
    distance = np.square(values - mean).sum(axis=0) / scatter
    return np.where(weight > few, distance, np.inf)
