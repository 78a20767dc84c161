"""A new MSI brought to the radiometry that a model was learned with.

A model is learned for the harmonised values of one MSI. What made them so travels in its file; another image, of
another date or atmosphere, is first related to that MSI where the two overlap, by the relation that sensors are
harmonised with, on pixels that did not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from geolift.datamodel.alignment import positions_on
from geolift.datamodel.cube import grid_of, window_values
from geolift.errors import InputError
from geolift.network.model import SpectralModel
from geolift.pair.harmonization import Harmonization, fit_harmonization
from geolift.provenance.record import HarmonizationFacts
from geolift.provenance.sidecar import plain

FloatArray = NDArray[np.float32]

BLOCK_PX = 4
"""Edge of the blocks whose means are compared: a pixel's rest of shift and noise count little in them."""

WINDOW_PX, WINDOWS_ALONG = 256, 4
"""Windows looked at, spread over the image, and how many along each edge at most."""

FEWEST_BLOCKS = 64
FEWEST_INLIERS = 0.5
"""Blocks that tell a relation, and the part of them that must follow it to be believed."""

MOST_OUTSIDE, SLACK = 0.05, 0.02
"""Part of the pixels that may lie outside what a model was learned from, widened by this part of its range."""


class Radiometry(Protocol):
    """What an MSI (c, ...) is set right by before a model is applied; NaN stays NaN."""

    def apply(self, msi: FloatArray) -> FloatArray: ...  # noqa: D102 - told above


@dataclass(frozen=True, eq=False)
class InTurn:
    """One relation after the other."""

    first: Radiometry
    second: Radiometry

    def apply(self, msi: FloatArray) -> FloatArray:
        """Apply both to (c, ...)."""
        return self.second.apply(self.first.apply(msi))


def radiometry_facts(relation: Harmonization | None) -> HarmonizationFacts | None:
    """Return what a model's file keeps of the relation that its MSI was harmonised by; None if it was left alone."""
    if relation is None or relation.is_identity:
        return None
    facts = {"model": relation.model, "matrix": relation.matrix, "offset": relation.offset, **relation.shape_json()}
    return HarmonizationFacts.model_validate(plain({key: facts[key] for key in facts if key != "local"}))


def relation_to_reference(
    msi: xr.DataArray, bands: Sequence[int], reference: xr.DataArray, reference_bands: Sequence[int]
) -> Harmonization:
    """Fit the relation that brings an MSI to a reference's radiometry, where they overlap and nothing changed.

    Raises InputError if the two share too few valid pixels, or too few of those follow one relation.
    """
    source = str(reference.attrs.get("source", "the reference"))
    parts = [
        (_means(one), _means(other)) for one, other in _overlap(msi, list(bands), reference, list(reference_bands))
    ]
    valid = sum(int((np.isfinite(one) & np.isfinite(other)).all(axis=0).sum()) for one, other in parts)
    if valid < FEWEST_BLOCKS:
        raise InputError(
            f"--reference {source}: only {valid * BLOCK_PX**2} valid pixels are shared with the MSI; needed are at "
            f"least {FEWEST_BLOCKS * BLOCK_PX**2}. Pass the MSI that the model was learned with, of overlapping ground."
        )
    seen, wanted = (_stacked([part[index] for part in parts]) for index in (0, 1))
    relation = fit_harmonization(wanted, seen, "auto")
    if relation.local is not None:  # windows side by side are no scene: what varies over them is a gain's rest
        relation = fit_harmonization(wanted, seen, "affine")
    if relation.inlier_fraction < FEWEST_INLIERS:
        raise InputError(
            f"--reference {source}: only {relation.inlier_fraction:.0%} of the shared pixels follow one relation; the "
            "images show different ground, or too much has changed. Pass another reference, or none."
        )
    return relation


def outside_of(model: SpectralModel, msi: xr.DataArray, bands: Sequence[int], relation: Radiometry | None) -> float:
    """Return the part of an MSI's pixels whose values lie outside what a model was learned from."""
    spread = SLACK * (model.training_high - model.training_low)
    low, high = (bound[:, None, None] for bound in (model.training_low - spread, model.training_high + spread))
    outside = count = 0
    for rows, cols in _windows((msi.shape[1], msi.shape[2])):
        values = np.asarray(window_values(msi.data, rows, cols)[list(bands)], np.float32)
        values = values if relation is None else relation.apply(values)
        valid = np.isfinite(values).all(axis=0)
        outside += int((((values < low) | (values > high)).any(axis=0) & valid).sum())
        count += int(valid.sum())
    return outside / count if count else 0.0


def _overlap(
    msi: xr.DataArray, bands: list[int], reference: xr.DataArray, reference_bands: list[int]
) -> list[tuple[FloatArray, FloatArray]]:
    """Windows of the MSI (c, y, x), and the reference's pixels at their places; NaN where it has none."""
    grid, other = grid_of(msi), grid_of(reference)
    pairs = []
    for rows, cols in _windows((msi.shape[1], msi.shape[2])):
        down, across = np.broadcast_arrays(*positions_on(grid[rows, cols], other))
        y, x = np.floor(down).astype(int), np.floor(across).astype(int)
        inside = (y >= 0) & (y < reference.shape[1]) & (x >= 0) & (x < reference.shape[2])
        if not inside.any():
            continue
        first = (
            slice(int(y[inside].min()), int(y[inside].max()) + 1),
            slice(int(x[inside].min()), int(x[inside].max()) + 1),
        )
        known = np.asarray(window_values(reference.data, *first)[reference_bands], np.float32)
        overlap = np.full((len(bands), *y.shape), np.nan, np.float32)
        overlap[:, inside] = known[:, y[inside] - first[0].start, x[inside] - first[1].start]
        pairs.append((np.asarray(window_values(msi.data, rows, cols)[bands], np.float32), overlap))
    return pairs


def _windows(shape: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Windows spread over an image, or all of a small one."""
    along = []
    for size in shape:
        count = min(WINDOWS_ALONG, max(1, -(-size // WINDOW_PX)))
        starts = np.linspace(0, max(0, size - WINDOW_PX), count).round().astype(int)
        along.append([slice(int(start), min(int(start) + WINDOW_PX, size)) for start in starts])
    return [(rows, cols) for rows in along[0] for cols in along[1]]


def _means(image: FloatArray) -> FloatArray:
    """(c, h, w) means of whole blocks of (c, y, x); NaN where a pixel is."""
    rows, cols = (size // BLOCK_PX for size in image.shape[1:])
    cut = image[:, : rows * BLOCK_PX, : cols * BLOCK_PX]
    means: FloatArray = cut.reshape(len(image), rows, BLOCK_PX, cols, BLOCK_PX).mean(axis=(2, 4), dtype=np.float32)
    return means


def _stacked(parts: list[FloatArray]) -> FloatArray:
    """One image of several (c, h, w), below each other, a row of NaN between."""
    width = max(part.shape[2] for part in parts)
    wide = [
        np.pad(part, ((0, 0), (0, 1), (0, width - part.shape[2])), constant_values=np.float32(np.nan)) for part in parts
    ]
    return np.concatenate(wide, axis=1)
