"""The drawing board on which the demo scene's place is laid out, finer than its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Layer = NDArray[np.float32]
Mask = NDArray[np.bool_]

SUN_DIRECTION = (0.80, 0.60)
"""(dy, dx) towards the sun, late in a northern morning: in the south-east, so shadows fall north-west."""


@dataclass
class Canvas:
    """Layers of the place, each (y, x) on cells of ``cell_m`` metres, row 0 in the north.

    ``cover`` lies on ``ground`` with ``density`` 0…1; both hold material numbers. ``state`` 0…1 goes between
    a material's two states, ``brightness`` multiplies its reflectance, ``height_m`` casts shadows.
    """

    rows: int
    cols: int
    cell_m: float
    rng: np.random.Generator
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        shape = (self.rows, self.cols)
        self.cover = np.zeros(shape, np.uint8)
        self.ground = np.zeros(shape, np.uint8)
        self.density = np.ones(shape, np.float32)
        self.state = np.full(shape, 0.5, np.float32)
        self.brightness = np.ones(shape, np.float32)
        self.height_m = np.zeros(shape, np.float32)
        self.y_m = ((np.arange(self.rows, dtype=np.float32) + 0.5) * np.float32(self.cell_m))[:, None]
        self.x_m = ((np.arange(self.cols, dtype=np.float32) + 0.5) * np.float32(self.cell_m))[None, :]

    @property
    def height(self) -> float:
        """North-south extent in metres."""
        return self.rows * self.cell_m

    @property
    def width(self) -> float:
        """East-west extent in metres."""
        return self.cols * self.cell_m

    def number(self, name: str) -> int:
        """Return the number of a material."""
        return self.names.index(name)

    def noise(self, length_m: float, slope: float = 1.5) -> Layer:
        """Smooth random field, mean 0, standard deviation 1, with features of ``length_m`` and below."""
        white = self.rng.standard_normal((self.rows, self.cols)).astype(np.float32)
        fy = (fft.fftfreq(self.rows, self.cell_m) * length_m).astype(np.float32)[:, None]
        fx = (fft.rfftfreq(self.cols, self.cell_m) * length_m).astype(np.float32)[None, :]
        gain = np.exp(np.float32(-slope) * np.log1p(fy**2 + fx**2))
        field = fft.irfft2(fft.rfft2(white) * gain, s=white.shape)
        field -= field.mean()
        return np.asarray(field / field.std(), dtype=np.float32)

    def rotated(self, degrees: float) -> tuple[Layer, Layer]:
        """Coordinates (u, v) in metres of every cell in a frame turned by ``degrees`` about the centre."""
        turn = np.deg2rad(degrees)
        x, y = self.x_m - np.float32(self.width / 2), self.y_m - np.float32(self.height / 2)
        u = np.float32(np.cos(turn)) * x + np.float32(np.sin(turn)) * y
        v = np.float32(np.cos(turn)) * y - np.float32(np.sin(turn)) * x
        return u, v

    def paint(self, where: Mask, cover: str, ground: str | None = None, **layers: Any) -> None:
        """Lay a material over the cells of ``where``; ``layers`` set density, state, brightness, height_m."""
        defaults: dict[str, object] = {"density": 1.0, "brightness": 1.0, "height_m": 0.0}
        self.cover[where] = self.number(cover)
        self.ground[where] = self.number(ground or cover)
        for name, value in {**defaults, **layers}.items():
            layer: Layer = getattr(self, name)
            layer[where] = value[where] if isinstance(value, np.ndarray) else value

    def sunlit(self, elevation_deg: float = 48.0) -> Mask:
        """Cells that see the sun past whatever is higher on the way to it."""
        drop_m = self.cell_m * float(np.tan(np.deg2rad(elevation_deg)))
        lit = np.ones((self.rows, self.cols), bool)
        for step in range(1, int(np.ceil(float(self.height_m.max()) / drop_m)) + 1):
            dy, dx = (round(step * component) for component in SUN_DIRECTION)
            blocker = _moved(self.height_m, dy, dx) - step * drop_m
            lit &= blocker <= self.height_m
        return lit


def _moved(layer: Layer, dy: int, dx: int) -> Layer:
    """``out[y, x] = layer[y + dy, x + dx]``, the border repeated."""
    rows = np.clip(np.arange(layer.shape[0]) + dy, 0, layer.shape[0] - 1)
    cols = np.clip(np.arange(layer.shape[1]) + dx, 0, layer.shape[1] - 1)
    return layer[rows[:, None], cols[None, :]]


@dataclass(frozen=True)
class Parcels:
    """A plane cut into rectangles, as seen by every cell.

    ``index`` numbers the rectangle; ``edge_m`` is the distance to its border; ``u`` and ``v`` are metres
    from its corner; ``sides_m`` holds each rectangle's (length along u, length along v).
    """

    index: NDArray[np.int32]
    edge_m: Layer
    u: Layer
    v: Layer
    sides_m: NDArray[np.float32]

    @property
    def count(self) -> int:
        """Number of rectangles."""
        return len(self.sides_m)


def cut_parcels(
    u: Layer, v: Layer, smallest_m: float, largest_m: float, rng: np.random.Generator, snap_m: float = 1.0
) -> Parcels:
    """Cut the plane (u, v) into rectangles by splitting again and again across the longer side.

    A rectangle is kept whole when its longer side is under ``largest_m`` (drawn anew for each, down to
    ``smallest_m``); cuts lie on multiples of ``snap_m``.
    """
    low_u, low_v = float(u.min()), float(v.min())
    queue = [(0.0, float(u.max()) - low_u + snap_m, 0.0, float(v.max()) - low_v + snap_m)]
    done: list[tuple[float, float, float, float]] = []
    while queue:
        u0, u1, v0, v1 = queue.pop()
        across_u = (u1 - u0) >= (v1 - v0)
        start, length = (u0, u1 - u0) if across_u else (v0, v1 - v0)
        cut = start + snap_m * round(length * rng.uniform(0.36, 0.64) / snap_m)
        if length < rng.uniform(smallest_m, largest_m) * 1.5 or not start < cut < start + length:
            done.append((u0, u1, v0, v1))
        elif across_u:
            queue += [(u0, cut, v0, v1), (cut, u1, v0, v1)]
        else:
            queue += [(u0, u1, v0, cut), (u0, u1, cut, v1)]
    return _look_up(u - np.float32(low_u), v - np.float32(low_v), np.asarray(done, np.float32))


def _look_up(u: Layer, v: Layer, boxes: NDArray[np.float32]) -> Parcels:
    step = 2.0  # metres per entry of the table; the distance to the border is exact again afterwards
    table = np.zeros((int(boxes[:, 3].max() / step) + 2, int(boxes[:, 1].max() / step) + 2), np.int32)
    for number, (u0, u1, v0, v1) in enumerate(boxes):
        table[int(v0 / step) : int(v1 / step) + 1, int(u0 / step) : int(u1 / step) + 1] = number
    index = table[(v / step).astype(np.int32), (u / step).astype(np.int32)]
    sides = np.stack([boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]], axis=1)
    from_u0, from_v0 = u - boxes[:, 0].take(index), v - boxes[:, 2].take(index)
    nearest_u = np.minimum(from_u0, sides[:, 0].take(index) - from_u0)
    nearest_v = np.minimum(from_v0, sides[:, 1].take(index) - from_v0)
    return Parcels(index, np.maximum(np.minimum(nearest_u, nearest_v), 0), from_u0, from_v0, sides)
