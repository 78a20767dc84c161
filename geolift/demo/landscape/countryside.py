"""What the demo scene has outside its settlements: fields, forest, river, lake, pit and roads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from geolift.demo.landscape.canvas import Canvas, Layer, Mask, Parcels, cut_parcels


@dataclass(frozen=True)
class Course:
    """A smooth line across the scene, given by its distance from every cell.

    ``distance_m`` is signed (positive to the right of a line running south, or below one running east);
    ``bend`` is positive where the line curves towards the positive side.
    """

    distance_m: Layer
    bend: Layer


def course(along_m: Layer, across_m: Layer, extent_m: float, middle_m: float, waves: list[list[float]]) -> Course:
    """Lay a line at ``middle_m`` across, swung by waves of (amplitude m, cycles per extent, phase)."""
    t = 2 * np.pi * along_m / np.float32(extent_m)
    position, slope, bend = np.full_like(t, middle_m), np.zeros_like(t), np.zeros_like(t)
    for amplitude, cycles, phase in waves:
        rate = 2 * np.pi * cycles / extent_m
        position += amplitude * np.sin(cycles * t + phase)
        slope += amplitude * rate * np.cos(cycles * t + phase)
        bend -= amplitude * rate**2 * np.sin(cycles * t + phase)
    distance = (across_m - position) / np.sqrt(1 + slope**2)
    return Course(distance.astype(np.float32), (bend * np.ones_like(distance)).astype(np.float32))


def river_course(canvas: Canvas) -> Course:
    """The river comes in from the north and leaves in the south."""
    w = canvas.width
    waves = [[0.075 * w, 1.0, 2.2], [0.026 * w, 2.4, 0.4]]
    return course(canvas.y_m, canvas.x_m, canvas.height, 0.37 * w, waves)


FIELD_KINDS: tuple[tuple[float, str, str, float, float, float], ...] = (
    # share, cover, ground, density, state, spread of both
    (0.17, "crop", "dark soil", 0.93, 0.15, 0.10),
    (0.12, "crop", "bright soil", 0.62, 0.55, 0.18),
    (0.08, "crop", "dark soil", 0.32, 0.40, 0.12),
    (0.20, "dry vegetation", "bright soil", 0.88, 0.15, 0.12),
    (0.11, "dry vegetation", "dark soil", 0.55, 0.70, 0.15),
    (0.12, "dark soil", "dark soil", 1.00, 0.30, 0.22),
    (0.08, "bright soil", "bright soil", 1.00, 0.25, 0.20),
    (0.12, "grass", "dark soil", 0.90, 0.45, 0.25),
)


def paint_fields(canvas: Canvas, east_bank: Mask) -> None:
    """Cover the whole scene with fields, laid out differently on either side of the river."""
    patchy, fine = canvas.noise(160), canvas.noise(14, 1.0)
    for side, angle in ((east_bank, -21.0), (~east_bank, 14.0)):
        parcels = cut_parcels(*canvas.rotated(angle), 120, 310, canvas.rng)
        share = np.asarray([kind[0] for kind in FIELD_KINDS])
        chosen = canvas.rng.choice(len(FIELD_KINDS), parcels.count, p=share / share.sum())
        rows = _crop_rows(parcels, canvas)
        for number, (_, cover, ground, density, state, spread) in enumerate(FIELD_KINDS):
            where = side & (chosen == number)[parcels.index]
            own = (canvas.rng.normal(0, spread, parcels.count).astype(np.float32))[parcels.index]
            thick = np.clip(density + 0.35 * own + spread * (0.45 * patchy + rows), 0.04, 1)
            aged = np.clip(state + own - 0.12 * patchy + 0.04 * fine, 0, 1)
            light = 1 + 0.02 * fine + 0.10 * rows + 0.12 * own
            canvas.paint(where, cover, ground, density=thick, state=aged, brightness=light)
        _paint_margins(canvas, parcels, side)


def _crop_rows(parcels: Parcels, canvas: Canvas) -> Layer:
    """Tramlines and working widths along each field's longer side, about -1…1."""
    long_u = (parcels.sides_m[:, 0] > parcels.sides_m[:, 1])[parcels.index]
    across = np.where(long_u, parcels.v, parcels.u)
    width = canvas.rng.choice([24.0, 36.0, 48.0], parcels.count).astype(np.float32)[parcels.index]
    phase = across / width
    tramline = (np.abs(phase - np.round(phase)) * width < 2.0).astype(np.float32)
    strips = np.sign(np.sin(2 * np.pi * phase / 2.0)) * 0.35 + 0.3 * np.sin(2 * np.pi * across / 95.0)
    return np.asarray(strips - 1.4 * tramline, np.float32)


def _paint_margins(canvas: Canvas, parcels: Parcels, side: Mask) -> None:
    lot = canvas.rng.random(parcels.count).astype(np.float32)[parcels.index]
    ragged = canvas.noise(25)
    edge = parcels.edge_m
    canvas.paint(side & (edge < 2.6), "grass", "bright soil", density=0.7, state=0.8)
    canvas.paint(side & (edge < 2.2) & (lot > 0.55), "bright soil", "limestone", density=0.6, state=0.2)
    hedge = side & (edge > 1.0) & (edge < 7.0 + 2 * ragged) & (lot < 0.16) & (ragged > -0.5)
    canvas.paint(hedge, "broadleaf", "grass", density=0.85, state=0.4, height_m=6.0)


def paint_forest(canvas: Canvas, centre: tuple[float, float], radii: tuple[float, float], angle: float) -> None:
    """A wood of planted stands with rides and a clearing; ``centre`` and ``radii`` as fractions (y, x)."""
    dy = (canvas.y_m / np.float32(canvas.height) - centre[0]) / radii[0]
    dx = (canvas.x_m / np.float32(canvas.width) - centre[1]) / radii[1]
    inside = dy**2 + dx**2 + 0.22 * canvas.noise(420, 1.2) < 1.0
    stands = cut_parcels(*canvas.rotated(angle), 170, 380, canvas.rng)
    kind = canvas.rng.choice(4, stands.count, p=[0.44, 0.40, 0.12, 0.04])[stands.index]
    age = canvas.rng.normal(0, 0.2, stands.count).astype(np.float32)[stands.index]
    crowns, soft = canvas.noise(7.0, 1.1), canvas.noise(130)
    tall = np.clip(17 + 5 * age + 4.0 * crowns, 2, 32)
    state = np.clip(0.5 + age + 0.18 * soft + 0.10 * crowns, 0, 1)
    light = 1.0 + 0.07 * crowns + 0.03 * soft
    canvas.paint(inside, "broadleaf", "dark soil", density=0.95, state=state, height_m=tall, brightness=light)
    conifer = inside & ((kind == 0) | ((kind == 2) & (crowns > 0)))
    canvas.paint(conifer, "conifer", "dark soil", density=0.96, state=state, height_m=tall + 3, brightness=light)
    clearing = inside & (kind == 3)
    canvas.paint(clearing, "grass", "dry vegetation", density=0.45, state=state, brightness=light)
    ride = inside & (stands.edge_m < 4.0)
    canvas.paint(ride, "grass", "bright soil", density=0.6, state=0.6)


def paint_river(canvas: Canvas, river: Course) -> None:
    """The river with wooded banks, sand bars in its bends and a meadow strip."""
    wobble = canvas.noise(220)
    half = np.asarray(26.0 + 4.0 * wobble, np.float32)
    away = np.abs(river.distance_m)
    canvas.paint(away < half + 48, "grass", "dark soil", density=0.9, state=np.clip(0.4 + 0.15 * wobble, 0, 1))
    trees = (away < half + 26) & (canvas.noise(45) > -0.1)
    canvas.paint(trees, "broadleaf", "grass", state=0.35, height_m=12.0, brightness=1 + 0.05 * wobble)
    sharp = np.abs(river.bend) > 0.5 * np.abs(river.bend).max()
    bar = sharp & (np.sign(river.distance_m) == np.sign(river.bend)) & (away < half + 17 + 5 * wobble)
    canvas.paint(bar, "sand", "grass", density=0.85, state=np.clip((half + 15 - away) / 15, 0, 1))
    water = away < half
    shoal = np.clip(0.72 + (half - away) / 25, 0, 1)
    canvas.paint(water, "water", "sand", density=shoal, state=np.clip(0.72 + 0.05 * wobble, 0, 1))


def paint_lake(
    canvas: Canvas, centre: tuple[float, float], radius: float, state: float, shore: str, shallow_m: float
) -> None:
    """A lake with a beach on one side; ``radius`` as a fraction of the scene, ``state`` 1 = full of silt."""
    scale = radius * min(canvas.height, canvas.width)
    dy = (canvas.y_m - centre[0] * np.float32(canvas.height)) / (0.8 * scale)
    dx = (canvas.x_m - centre[1] * np.float32(canvas.width)) / (1.25 * scale)
    inland_m = (np.sqrt(dy**2 + dx**2) - 1 + 0.17 * canvas.noise(1.1 * scale, 1.8)) * scale
    canvas.paint(inland_m < 30, "grass", "dark soil", density=0.9, state=0.3)
    wood = (inland_m < 26) & (canvas.noise(60) > 0.1)
    canvas.paint(wood, "broadleaf", "grass", state=0.4, height_m=13.0)
    beach = (inland_m < 20) & (dx - dy > 0.4)
    canvas.paint(beach, shore, shore, state=np.clip(1 - inland_m / 18, 0, 1))
    water = inland_m < 0
    depth = np.clip(0.55 - inland_m / shallow_m, 0, 1)
    canvas.paint(water, "water", shore, density=depth, state=np.clip(state + 0.05 * canvas.noise(200), 0, 1))


def paint_pit(canvas: Canvas, centre: tuple[float, float], radius: float) -> None:
    """A gravel pit: terraces of sand and limestone around a turquoise pond."""
    scale = radius * min(canvas.height, canvas.width)
    dy = (canvas.y_m - centre[0] * np.float32(canvas.height)) / scale
    dx = (canvas.x_m - centre[1] * np.float32(canvas.width)) / (1.3 * scale)
    depth = 1 - np.maximum(np.abs(dy + 0.2 * dx), np.abs(dx)) + 0.09 * canvas.noise(130, 2.4)
    terrace = np.asarray(0.80 + 0.22 * (np.floor(depth * 6) % 2) + 0.03 * canvas.noise(15), np.float32)
    canvas.paint(depth > 0, "sand", "dark soil", density=0.85, state=0.7, brightness=terrace)
    canvas.paint(depth > 0.22, "limestone", "sand", density=0.8, state=0.85, brightness=terrace)
    pond = (depth > 0.55) & (dx < 0.25)
    canvas.paint(pond, "water", "limestone", density=np.clip(0.55 + depth, 0, 0.93), state=0.35)


def paint_roads(canvas: Canvas) -> None:
    """Motorway, railway and country roads, bridges included."""
    w, h, x, y = canvas.width, canvas.height, canvas.x_m, canvas.y_m
    worn = np.clip(0.35 + 0.12 * canvas.noise(300), 0, 1)
    for middle, waves, half_m, lane in (
        (0.24 * h, [[0.06 * h, 0.8, 0.5]], 4.0, "asphalt"),
        (0.60 * h, [[0.05 * h, 0.7, 2.6], [0.01 * h, 2.1, 0.0]], 4.0, "asphalt"),
    ):
        _pave(canvas, course(x, y, w, middle, waves), half_m, lane, state=worn)
    lane_ns = course(y, x, h, 0.70 * w, [[0.07 * w, 0.7, 1.0]])
    _pave(canvas, lane_ns, 4.0, "asphalt", state=worn)
    rail = course(x - 0.25 * y, y + 0.25 * x, w, 0.80 * h, [[0.03 * h, 0.5, 0.0]])
    _pave(canvas, rail, 5.0, "limestone", state=1.0, brightness=0.62)
    motorway = course(x, y, w, 0.845 * h, [[0.055 * h, 0.55, 3.6]])
    _pave(canvas, motorway, 13.0, "asphalt", state=0.05)
    canvas.paint(np.abs(motorway.distance_m) < 2.0, "grass", "asphalt", density=0.7, state=0.7)


def _pave(canvas: Canvas, line: Course, half_m: float, lane: str, **layers: Any) -> None:
    away = np.abs(line.distance_m)
    over_water = canvas.cover == canvas.number("water")
    canvas.paint((away < half_m + 3.5) & ~over_water, "grass", "bright soil", density=0.75, state=0.7)
    canvas.paint(away < half_m, lane, **layers)
