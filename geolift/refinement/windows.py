"""Windows of the HSI's grid: those that stand for a scene, and the blocks that all of it is worked through in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from geolift.degradation.degrade import apply_srf
from geolift.pair.coregistration import affordable_windows
from geolift.refinement.footprint import DoubleArray
from geolift.refinement.pair import Pair, Window
from geolift.runtime.blas import one_blas_thread

WINDOW_LR, MAX_WINDOWS = 40, 4
"""Windows that stand for a large scene."""

BLOCK_FINE_PX = 320
"""Edge of the blocks in which the fine image is seen through the footprint, in fine pixels. Fixed: law 1."""

LARGE_BLOCK_FINE_PX, MARGINS_PER_BLOCK, STRIP_PX = 2048, 14, 300_000
"""Where margins would be a large part of such a piece it is larger, and comes in strips of so many fine pixels: what is
read twice, margins and parts of the MSI's blocks, stays below a third."""

Progress = Callable[[float], None]


def in_blocks(
    shape: tuple[int, int],
    edge: int | tuple[int, int],
    threads: int,
    work: Callable[[slice, slice], Any],
    progress: Progress = lambda share: None,
) -> Iterator[tuple[Window, Any]]:
    """Do the blocks of the HSI's grid in threads; in order, few of them waiting."""
    (height, width), (down, across) = shape, (edge, edge) if isinstance(edge, int) else edge
    windows = [
        (slice(row, min(row + down, height)), slice(col, min(col + across, width)))
        for row in range(0, height, down)
        for col in range(0, width, across)
    ]
    under_way: deque[Future[Any]] = deque()
    with one_blas_thread(), ThreadPoolExecutor(threads) as pool:
        for done, window in enumerate(windows, start=1):
            ahead = windows[done - 1 + len(under_way) : done + threads]
            under_way.extend(pool.submit(work, *further) for further in ahead)
            yield window, under_way.popleft().result()
            progress(done / len(windows))


def widened(window: Window, halo: int, shape: tuple[int, int]) -> tuple[Window, Window]:
    """A window with a halo as far as the grid goes, and where the window lies in it."""
    rows, cols = (
        slice(max(0, part.start - halo), min(size, part.stop + halo)) for part, size in zip(window, shape, strict=True)
    )
    down, across = (
        slice(part.start - wide.start, part.stop - wide.start) for part, wide in zip(window, (rows, cols), strict=True)
    )
    return (rows, cols), (down, across)


def even_edges(shape: tuple[int, int], most: int) -> tuple[int, int]:
    """Rows and columns of the fewest blocks of nearly equal size, none longer than ``most``: least lies in halos."""
    height, width = (-(-size // -(-size // most)) for size in shape)
    return height, width


def block_edge(ratio: int, margin: int) -> int:
    """Edge of the pieces in which the residual is formed, in HSI pixels."""
    edge = BLOCK_FINE_PX // ratio - 2 * margin
    least = MARGINS_PER_BLOCK * margin
    return max(4, edge) if edge >= least else max(least, LARGE_BLOCK_FINE_PX // ratio)


def standing_windows(pair: Pair, srf: DoubleArray, margin: int) -> list[Window]:
    """The scene, or of nine windows spread over it the four with most to tell."""
    height, width = pair.shape
    side, count = affordable_windows(pair.ratio, margin, WINDOW_LR, MAX_WINDOWS)
    if height * width <= 1.1 * count * side**2:
        return [(slice(0, height), slice(0, width))]
    told = []
    for rows, cols in spread(pair.shape, side):
        image = apply_srf(pair.hsi(rows, cols), srf)
        valid = np.isfinite(image).all(axis=0)
        contrast = float(image[:, valid].std(axis=1).mean()) if valid.any() else 0.0
        told.append((float(valid.mean()) * contrast, (rows, cols)))
    return [window for _, window in sorted(told, key=lambda pair: -pair[0])[:count]]


def spread(shape: tuple[int, int], side: int) -> list[Window]:
    """Nine windows spread over a grid."""
    starts = [[round(k * max(0, size - side) / 2) for k in range(3)] for size in shape]
    height, width = (min(side, size) for size in shape)
    return [(slice(row, row + height), slice(col, col + width)) for row in starts[0] for col in starts[1]]


def middle(part: slice, side: int) -> slice:
    """The middle of a part of an axis, at most so long."""
    size = part.stop - part.start
    first = part.start + max(0, size - side) // 2
    return slice(first, first + min(side, size))
