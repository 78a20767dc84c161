"""What the demo scene has inside its settlements: streets, houses, blocks, works, greenhouses and parks."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from geolift.demo.landscape.canvas import Canvas, Layer, Mask, Parcels, cut_parcels

_TABLE = 4096


def _by_lot(canvas: Canvas, *keys: NDArray[np.integer]) -> Layer:
    """One random number 0…1 for every combination of whole-number keys, shape of the canvas."""
    table = canvas.rng.random(_TABLE).astype(np.float32)
    mixed = np.zeros(canvas.cover.shape, np.int64)
    for key, prime in zip(keys, (73856093, 19349663, 83492791), strict=False):
        mixed ^= key.astype(np.int64) * prime
    return np.asarray(table[(mixed ^ (mixed >> 13)) % _TABLE])


def paint_town(canvas: Canvas, centre: tuple[float, float], radius: float, angle: float, core: float) -> None:
    """A town of blocks: dense about its middle (within ``core``), houses with gardens outside.

    ``centre`` (y, x), ``radius`` and ``core`` are fractions of the scene.
    """
    size = min(canvas.height, canvas.width)
    dy = (canvas.y_m - centre[0] * np.float32(canvas.height)) / size
    dx = (canvas.x_m - centre[1] * np.float32(canvas.width)) / size
    blocks = cut_parcels(*canvas.rotated(angle), 70, 135, canvas.rng, snap_m=18.0)
    far = np.sqrt(dy**2 + dx**2) + 0.13 * radius * canvas.noise(0.5 * radius * size, 1.6)
    block_far = _mean_by_parcel(far, blocks)
    inside = block_far < radius
    dense = block_far < core
    park = inside & (_by_lot(canvas, blocks.index) < 0.07)
    _paint_streets(canvas, blocks, inside)
    _paint_gardens(canvas, blocks, inside & ~dense)
    _paint_houses(canvas, blocks, inside & ~dense & ~park)
    _paint_core(canvas, blocks, dense & ~park)
    _paint_park(canvas, blocks, park)


def _mean_by_parcel(layer: Layer, parcels: Parcels) -> Layer:
    counts = np.bincount(parcels.index.ravel(), minlength=parcels.count)
    sums = np.bincount(parcels.index.ravel(), layer.ravel().astype(np.float64), minlength=parcels.count)
    return np.asarray((sums / np.maximum(counts, 1)).astype(np.float32)[parcels.index])


def _paint_streets(canvas: Canvas, blocks: Parcels, inside: Mask) -> None:
    age = _by_lot(canvas, blocks.index)
    canvas.paint(inside, "concrete", "grass", density=0.8, state=0.6)
    street = inside & (blocks.edge_m < 5.5)
    canvas.paint(street, "asphalt", state=np.clip(0.05 + 0.45 * age, 0, 1))


def _paint_gardens(canvas: Canvas, blocks: Parcels, where: Mask) -> None:
    lawn = where & (blocks.edge_m > 6.5)
    fine, tuft = canvas.noise(9, 1.0), canvas.noise(28)
    density = np.clip(0.78 + 0.15 * tuft, 0, 1)
    canvas.paint(lawn, "grass", "bright soil", density=density, state=np.clip(0.5 + 0.2 * tuft, 0, 1))
    trees = lawn & (fine + 0.5 * tuft > 0.95)
    canvas.paint(trees, "broadleaf", "grass", density=0.9, state=0.4, height_m=np.clip(7 + 2 * fine, 3, 14))
    avenue = where & (blocks.edge_m > 4.5) & (blocks.edge_m < 7.0) & (fine > 0.9)
    canvas.paint(avenue, "broadleaf", "asphalt", density=0.8, state=0.5, height_m=8.0)


def _paint_houses(canvas: Canvas, blocks: Parcels, where: Mask) -> None:
    lot_m = np.float32(18.0)
    lot_u, lot_v = (blocks.u / lot_m).astype(np.int32), (blocks.v / lot_m).astype(np.int32)
    keys = (lot_u, lot_v, blocks.index)
    at_u, at_v = blocks.u - (lot_u + 0.5) * lot_m, blocks.v - (lot_v + 0.5) * lot_m
    half_u, half_v = 4.2 + 2.6 * _by_lot(canvas, *keys), 4.0 + 2.4 * _by_lot(canvas, *keys)
    built = _by_lot(canvas, *keys) < np.where(blocks.edge_m < 27, 0.84, 0.18)
    house = where & built & (np.abs(at_u) < half_u) & (np.abs(at_v) < half_v) & (blocks.edge_m > 7.5)
    slope: Layer = np.where(half_u > half_v, np.sign(at_v), np.sign(at_u)).astype(np.float32)
    ridge = (7.5 - 0.5 * np.minimum(np.abs(at_u), np.abs(at_v))).astype(np.float32)
    _roof(canvas, house, _by_lot(canvas, *keys), _by_lot(canvas, *keys), 1 + 0.14 * slope, ridge)


def _paint_core(canvas: Canvas, blocks: Parcels, where: Mask) -> None:
    """Closed blocks around courtyards, as old towns have them."""
    span = np.float32(24.0)
    keys = ((blocks.u / span).astype(np.int32), (blocks.v / span).astype(np.int32), blocks.index)
    yard = where & (blocks.edge_m > 19)
    canvas.paint(yard & (_by_lot(canvas, *keys) < 0.45), "grass", "concrete", density=0.6, state=0.5)
    wing = where & (blocks.edge_m > 6.5) & (blocks.edge_m <= 19) & (_by_lot(canvas, *keys) < 0.93)
    slope: Layer = np.where(blocks.edge_m < 13, 0.12, -0.16).astype(np.float32)
    _roof(canvas, wing, _by_lot(canvas, *keys), _by_lot(canvas, *keys), 1 + slope, 15.0)


class Layers(TypedDict):
    """Layers of the canvas that a roof has."""

    brightness: Layer
    height_m: Layer | float
    state: Layer


def _roof(canvas: Canvas, where: Mask, kind: Layer, age: Layer, light: Layer, height_m: Layer | float) -> None:
    layers: Layers = {"brightness": light, "height_m": height_m, "state": age}
    canvas.paint(where & (kind < 0.68), "red tile", **layers)
    canvas.paint(where & (kind >= 0.68) & (kind < 0.88), "slate roof", **layers)
    canvas.paint(where & (kind >= 0.88) & (kind < 0.975), "concrete", **layers)
    canvas.paint(where & (kind >= 0.975), "metal roof", brightness=light, height_m=height_m, state=0.1 * age)


def _paint_park(canvas: Canvas, blocks: Parcels, where: Mask) -> None:
    inner = where & (blocks.edge_m > 6.0)
    canvas.paint(inner, "grass", "dark soil", density=0.95, state=0.2)
    clump = canvas.noise(35)
    canvas.paint(inner & (clump > 0.3), "broadleaf", "grass", state=0.3, height_m=11.0)
    path = inner & (np.abs(blocks.u - blocks.v) < 3)
    canvas.paint(path, "sand", "grass", density=0.8, state=0.3)


def paint_works(canvas: Canvas, centre: tuple[float, float], radii: tuple[float, float], angle: float) -> None:
    """An industrial estate: halls with metal roofs, yards, car parks; fractions (y, x) of the scene."""
    blocks = cut_parcels(*canvas.rotated(angle), 100, 200, canvas.rng, snap_m=10.0)
    dy = (canvas.y_m / np.float32(canvas.height) - centre[0]) / radii[0]
    dx = (canvas.x_m / np.float32(canvas.width) - centre[1]) / radii[1]
    where = np.asarray(_mean_by_parcel(np.maximum(np.abs(dy), np.abs(dx)), blocks) < 1)
    kind, age = _by_lot(canvas, blocks.index), _by_lot(canvas, blocks.index)
    speck = canvas.noise(4, 0.6)
    canvas.paint(where, "grass", "bright soil", density=0.7, state=0.6)
    canvas.paint(where & (blocks.edge_m > 9), "concrete", "asphalt", density=np.clip(age, 0.2, 1), state=0.5)
    canvas.paint(where & (blocks.edge_m < 5), "asphalt", state=0.2)
    cars = where & (blocks.edge_m > 9) & (kind < 0.2)
    canvas.paint(cars, "asphalt", "metal roof", density=np.clip(0.9 - 0.2 * speck, 0.4, 1), state=0.4)
    hall = where & (blocks.edge_m > 17) & (kind >= 0.2)
    strip = 1 - 0.12 * (np.floor(blocks.u / 14) % 2)
    state = np.where(kind > 0.80, 0.95, 0.1 + 0.15 * age)
    canvas.paint(hall, "metal roof", state=state, height_m=11.0, brightness=strip)
    canvas.paint(hall & (kind < 0.40), "slate roof", state=age, height_m=11.0, brightness=strip)


def paint_greenhouses(canvas: Canvas, centre: tuple[float, float], radius: float, angle: float) -> None:
    """Rows of plastic greenhouses among plots of vegetables; fractions of the scene."""
    u, v = canvas.rotated(angle)
    dy = (canvas.y_m / np.float32(canvas.height) - centre[0]) / radius
    dx = (canvas.x_m / np.float32(canvas.width) - centre[1]) / (1.6 * radius)
    blocks = cut_parcels(u, v, 60, 120, canvas.rng, snap_m=10.0)
    where = np.asarray(_mean_by_parcel(np.maximum(np.abs(dy), np.abs(dx)), blocks) < 1)
    roofed = _by_lot(canvas, blocks.index) < 0.6
    canvas.paint(where, "crop", "dark soil", density=0.5 + 0.4 * _by_lot(canvas, blocks.index), state=0.3)
    house = where & roofed & (blocks.edge_m > 4) & (blocks.v % 20 < 15)
    canvas.paint(house, "plastic film", state=_by_lot(canvas, blocks.index), height_m=3.0)
    canvas.paint(where & (blocks.edge_m < 3), "bright soil", state=0.2)
