"""The two images of a fusion as the refinement reads them, and its correction on the tiles of the product."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geolift.datamodel.alignment import positions_on
from geolift.datamodel.cube import window_values
from geolift.pair.comparison import Comparison
from geolift.pair.geometry import with_wandering
from geolift.pair.harmonization import Harmonization
from geolift.pair.held import compared_ratio
from geolift.pair.overlay import Overlay, overlay
from geolift.pair.saturation import Saturation
from geolift.pair.scene_pair import ScenePair
from geolift.pipeline.run import Run
from geolift.pipeline.trained import TileChange, TileCorrection, Trained
from geolift.runtime.machine import give_back_memory
from geolift.runtime.progress import of_stage
from geolift.runtime.scratch import Piece
from geolift.settings import FuseSettings
from geolift.training.training_set import TrainingSet
from geolift.writer import Tile, tile_shape

if TYPE_CHECKING:
    from pathlib import Path

    from geolift.network.model import SpectralModel
    from geolift.refinement import Change, Refined
    from geolift.refinement.correction import Correction, Places
    from geolift.refinement.pair import Pair
    from geolift.training.methods.subspace import Subspace


@dataclass(frozen=True, eq=False, kw_only=True)
class Refinement:
    """What came of making the product agree with the HSI.

    Parameters
    ----------
    trained
        The model, the one given or the one learned on the refined product.
    refined
        What became of the refinement; None unasked.
    correction, change
        What is added to the tiles, and where the MSI gives way to the HSI before they are made; None = nothing.
    """

    trained: Trained
    refined: Refined | None = None
    correction: TileCorrection | None = None
    change: TileChange | None = None

    def differs(self, rows: slice, cols: slice) -> NDArray[np.bool_]:
        """Tell where in a window of the product the sensors do not show the same: (y, x)."""
        shape = (rows.stop - rows.start, cols.stop - cols.start)
        found = np.zeros(shape, bool)
        if self.correction is not None:
            found |= self.correction.withheld(rows, cols)[1]
        if self.change is not None:
            found |= self.change.differs(rows, cols)
        return found

    def lend(self, tile: Tile) -> list[Piece]:
        """Return what a tile of the product reads of the arrays behind ``correction`` and ``change``."""
        parts = [part for part in (self.correction, self.change) if part is not None]
        return [piece for part in parts for piece in part.pieces((tile.row, tile.col), (tile.rows, tile.cols))]


@dataclass(frozen=True, eq=False)
class FusionPair:
    """`geolift.refinement.pair.Pair` of an HSI and the MSI over it.

    Parameters
    ----------
    overlap
        All of it.
    hsi_data
        (C, y, x) of the overlap, lazy or in memory, all bands kept.
    positions
        Which of them are good.
    weights
        (c, C) SRF weights of these.
    relation
        Applied to the MSI.
    saturation
        Where its bands end before that.
    """

    overlap: Overlay
    hsi_data: object
    positions: np.ndarray
    weights: np.ndarray
    relation: Harmonization
    saturation: Saturation | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the overlap, in HSI pixels."""
        rows, cols = self.overlap.grid.shape
        return int(rows), int(cols)

    @property
    def ratio(self) -> int:
        """Fine pixels per HSI pixel."""
        return self.overlap.ratio

    def hsi(self, rows: slice, cols: slice) -> np.ndarray:
        """(C, y, x) good bands."""
        return np.asarray(window_values(self.hsi_data, rows, cols)[self.positions], np.float32)

    def msi(self, row: int, col: int, height: int, width: int, margin: int) -> np.ndarray:
        """The harmonised MSI on the nested fine grid; NaN = invalid or beyond the image."""
        return np.asarray(self.relation.apply(self.overlap.read(row, col, height, width, margin)))

    def saturated(self, row: int, col: int, height: int, width: int, margin: int) -> np.ndarray:
        """Fine pixels of the same window at which a band of the MSI is saturated."""
        assert self.saturation is not None
        return np.asarray(self.saturation.touched(self.overlap.read(row, col, height, width, margin))[0] > 0)

    def beyond(self, row: int, col: int, height: int, width: int, margin: int) -> np.ndarray:
        """Fine pixels of the same window beyond the MSI's image."""
        return self.overlap.beyond(row, col, height, width, margin)


def refine(
    pair: ScenePair, compared: Comparison | None, trained: Trained, training: TrainingSet, run: Run
) -> Refinement:
    """Find where the MSI gives way to the HSI and the correction that makes the product agree with it.

    The method `auto` is learned again where that helps. See `geolift.refinement`.
    """
    from geolift.refinement import ChangedPair, Refined
    from geolift.training.methods.subspace import subspace_of

    settings = run.settings

    def left(reason: str) -> Refinement:
        return Refinement(trained=trained, refined=Refined(None, reason))

    if compared is None or settings.refine == "off":
        return Refinement(trained=trained)
    if not (settings.refine == "on" or compared.located):
        return left("the place of the HSI on the MSI is not known well enough")
    displaced = pair.screening.displacement
    if displaced is not None and settings.refine != "on":
        return left(f"HSI pixels are not where they say ({displaced.code})")
    overlap = overlay(pair.hsi, pair.used_msi, pair.region.ratio, whole=True)
    if overlap is None:
        return left("no HSI pixel lies under the MSI")
    overlap = _following(overlap, compared)
    given = fusion_pair(pair, overlap, compared)
    images: Pair = given
    change = changed_ground(given, compared, subspace_of(training), run.scratch_folder, run.threads)
    if change is not None:
        images = ChangedPair(images, change)
    refined = _refiner(pair, images, overlap, compared, training, run)
    trained, found = _learned(images, refined, overlap, trained, training, run)
    if change is not None:
        found = replace(found, facts=found.facts | {"changed_share": change.part})
    give_back_memory()
    region = pair.region.grid
    places = _undone(_places(region, overlap.grid), overlap)
    return Refinement(
        trained=trained,
        refined=found,
        correction=_tile_correction(found.correction, (int(region.shape[0]), int(region.shape[1])), places),
        change=_tile_change(change, places),
    )


def changed_ground(
    images: FusionPair, compared: Comparison, subspace: Subspace, folder: Path | None, threads: int
) -> Change | None:
    """Where the MSI gives way to what the HSI shows, whose ``subspace`` tells its noise."""
    from geolift.refinement import find_change
    from geolift.refinement.pair import AveragedPair

    weights = images.weights.astype(np.float64)
    noise = np.sqrt(np.square(weights) @ np.square(subspace.noise))
    known, geometry = compared.saturation, compared.geometry
    averaged = AveragedPair(images, compared_ratio(images.ratio))

    def saturated(*place: int) -> np.ndarray:
        return np.asarray(averaged.mean_of(lambda *part: images.saturated(*part)[None], *place)[0])

    px = images.ratio / averaged.ratio
    (dy, dx), (blur_y, blur_x) = images.overlap.fine_shift(*compared.applied_px), compared.blur_sigma_px
    apart_y, apart_x = (0.0, 0.0) if geometry is None else geometry.apart_px
    return find_change(
        averaged,
        weights,
        noise,
        (dy / px, dx / px),
        (blur_y / px, blur_x / px),
        wandering_px=0.0 if geometry is None else geometry.wandering_px / px,
        apart_px=(apart_y / px, apart_x / px),
        saturated=saturated if known is not None and known.found else None,
        folder=folder,
        threads=threads,
    )


def fusion_pair(pair: ScenePair, overlap: Overlay, compared: Comparison) -> FusionPair:
    """Return the pair, set right as it was compared, as the refinement reads it."""
    return FusionPair(
        overlap,
        pair.hsi.data[:, overlap.rows, overlap.cols],
        pair.learned_bands,
        pair.spectra.weights,
        compared.harmonization,
        compared.saturation,
    )


def _tile_correction(correction: Correction | None, shape: tuple[int, int], places: Places) -> TileCorrection | None:
    if correction is None:
        return None
    found = correction

    def coordinates(harmonised: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
        return found.coordinates(harmonised, corner, shape, places)

    def withheld(rows: slice, cols: slice) -> tuple[np.ndarray, np.ndarray]:
        return found.withheld(*places(rows, cols))

    def pieces(corner: tuple[int, int], size: tuple[int, int]) -> list[Piece]:
        return found.pieces(corner, size, shape, places)

    return TileCorrection(found.decode, coordinates, withheld, pieces)


def _tile_change(change: Change | None, places: Places) -> TileChange | None:
    if change is None or not change.pixels:
        return None
    found = change

    def at(corner: tuple[int, int], size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        rows, cols = (slice(first, first + n) for first, n in zip(corner, size, strict=True))
        return places(rows, cols)

    return TileChange(
        applied=lambda harmonised, corner: found.applied(harmonised, *at(corner, harmonised.shape[1:])),
        differs=lambda rows, cols: found.share_at(*places(rows, cols)) > 0,
        pieces=lambda corner, size: found.pieces(*at(corner, size)),
    )


def product_input(
    pair: ScenePair, relation: Harmonization | None, change: TileChange | None, settings: FuseSettings
) -> tuple[xr.DataArray, tuple[int, ...], Harmonization | None]:
    """The MSI that the product is made of, lazily, its bands that are used, and the relation still to be applied."""
    used = pair.spectra.msi_bands
    if change is None:
        return pair.product_msi, used, relation
    msi = pair.product_msi.isel(band=list(used))
    # By tile, so that a tile reads what belongs to it alone.
    data = da.asarray(msi.data).rechunk(
        (len(used), *tile_shape(settings.tile_size, settings, (msi.shape[1], msi.shape[2])))
    )
    given = change

    def block(values: np.ndarray, block_info: Any = None) -> np.ndarray:
        _, (row, _), (col, _) = block_info[0]["array-location"]
        return given.applied(values if relation is None else relation.apply(values), (row, col))

    shown = data.map_blocks(block, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
    return msi.copy(data=shown), tuple(range(len(used))), None


def _refiner(
    pair: ScenePair, images: Pair, overlap: Overlay, compared: Comparison, training: TrainingSet, run: Run
) -> Callable[..., Refined]:
    """What refines a model's product of the pair, or of some windows of it."""
    from geolift.network.engine import choose_engine
    from geolift.refinement import BandsApart, find_refinement

    settings, engine = run.settings, choose_engine(run.settings.device)
    keystone, bands = None if compared.geometry is None else compared.geometry.keystone, pair.spectra
    apart = None if keystone is None else BandsApart(keystone.axis, bands.bands.wavelength_nm[list(bands.good)])

    def refined(
        model: SpectralModel, seen: Pair = images, *, known: Refined | None = None, forced: bool = False
    ) -> Refined:
        return find_refinement(
            seen,
            model,
            training,
            overlap.fine_shift(*compared.applied_px),
            compared.blur_sigma_px,
            forced=forced or settings.refine == "on",
            known=known,
            keystone=apart,
            folder=run.scratch_folder,
            threads=run.threads,
            engine=engine,
            progress=of_stage("refining"),
        )

    return refined


def _learned(
    images: Pair, refined: Callable[..., Refined], overlap: Overlay, trained: Trained, training: TrainingSet, run: Run
) -> tuple[Trained, Refined]:
    """The model and the refinement of its product; of a large scene, the first round sees some windows only."""
    from geolift.network.engine import choose_engine
    from geolift.refinement import Patchwork, learn_twice
    from geolift.training.fit import fit

    settings, engine = run.settings, choose_engine(run.settings.device)
    if trained.model.method != "auto":
        return trained, refined(trained.model)
    seen: Pair = Patchwork(images) if Patchwork.is_worth_it(images.shape) else images
    first = refined(trained.model, seen)

    def learned(part: TrainingSet, **options: Any) -> SpectralModel:
        return fit("auto", part, seed=settings.seed, device=engine.device, threads=run.threads, **options)

    def locate(rows: NDArray[np.int64], cols: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        rows, cols = seen.placed(rows, cols) if isinstance(seen, Patchwork) else (rows, cols)
        return rows + overlap.rows.start, cols + overlap.cols.start

    lesson = learn_twice(
        seen,
        trained.model,
        training,
        first,
        fit=learned,
        trial=lambda part: learned(part, learned=False),
        refine=lambda model, known: refined(model, seen, known=known, forced=True),
        locate=locate,
        hidden=_hidden(images, overlap, training),
        limit=settings.max_train_pixels,
        seed=settings.seed,
        engine=engine,
    )
    result = lesson.refined
    if seen is not images:  # what was found and judged on the windows is applied to the scene
        result = refined(lesson.model, known=lesson.refined, forced=lesson.applied)
        if lesson.applied and result.correction is None:
            lesson = replace(lesson, model=trained.model, applied=False, reason=result.reason)
            result = refined(trained.model, known=first)
    facts = result.facts | {"learned_twice": lesson.to_json()}
    return replace(trained, model=lesson.model), replace(result, facts=facts)


def _hidden(images: Pair, overlap: Overlay, training: TrainingSet) -> TrainingSet | None:
    """Training pixels that a pair hides from its refinement; None if there are none."""
    from geolift.refinement import ChangedPair

    if not isinstance(images, ChangedPair):
        return None
    height, width = images.shape
    rows, cols = training.rows - overlap.rows.start, training.cols - overlap.cols.start
    inside = np.flatnonzero((rows >= 0) & (rows < height) & (cols >= 0) & (cols < width))
    hidden = images.hidden(slice(0, height), slice(0, width))
    chosen = inside[hidden[rows[inside], cols[inside]]]
    return training.subset(chosen) if chosen.size else None


def _following(overlap: Overlay, compared: Comparison) -> Overlay:
    """Return the whole overlay with the MSI brought to the HSI where the shift wanders."""
    if compared.geometry is None or compared.geometry.wandering is None:
        return overlap
    part = compared.overlay
    wandering = compared.geometry.wandering.moved(
        part.rows.start - overlap.rows.start, part.cols.start - overlap.cols.start
    )
    return with_wandering(overlap, wandering, compared.geometry.fine_shift_px)


def _undone(places: Places, overlap: Overlay) -> Places:
    """Places of the product once the wandering of the shift is undone."""
    wandering = overlap.wandering
    if wandering is None:
        return places

    def undone(rows: slice, cols: slice) -> tuple[np.ndarray, np.ndarray]:
        down, across = np.broadcast_arrays(*places(rows, cols))
        return wandering.brought(down, across, overlap.ratio)

    return undone


def _places(product: GeoBox, ground: GeoBox) -> Places:
    """Where the pixels of a window of the product lie on the HSI's grid, the centre of its first pixel at 0."""

    def places(rows: slice, cols: slice) -> tuple[np.ndarray, np.ndarray]:
        down, across = positions_on(product[rows, cols], ground)
        return down - 0.5, across - 0.5

    if product.crs != ground.crs:
        return places
    down, across = places(slice(None), slice(None))
    return lambda rows, cols: (down[rows], across[:, cols])
