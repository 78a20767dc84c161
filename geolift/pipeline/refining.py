"""The two images of a fusion as the refinement reads them, and its correction on the tiles of the product."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geolift.datamodel.alignment import positions_on
from geolift.datamodel.cube import window_values
from geolift.pair.comparison import Comparison
from geolift.pair.geometry import with_wandering
from geolift.pair.harmonization import Harmonization
from geolift.pair.overlay import Overlay, overlay
from geolift.pair.scene_pair import ScenePair
from geolift.pipeline.run import Run
from geolift.pipeline.trained import TileCorrection, Trained
from geolift.runtime.machine import give_back_memory
from geolift.training.training_set import TrainingSet

if TYPE_CHECKING:
    from geolift.network.model import SpectralModel
    from geolift.refinement import Refined
    from geolift.refinement.correction import Places
    from geolift.refinement.pair import Pair


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
    relation
        Applied to the MSI.
    """

    overlap: Overlay
    hsi_data: object
    positions: np.ndarray
    relation: Harmonization

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

    def beyond(self, row: int, col: int, height: int, width: int, margin: int) -> np.ndarray:
        """Fine pixels of the same window beyond the MSI's image."""
        return self.overlap.beyond(row, col, height, width, margin)


def refine(
    pair: ScenePair, compared: Comparison | None, trained: Trained, training: TrainingSet, run: Run
) -> tuple[Trained, Refined | None, TileCorrection | None]:
    """Find the correction that makes the product agree with the HSI, and learn `auto` again where that helps.

    Returns
    -------
    tuple
        The model, the one given or the one learned on the refined product; what became of the refinement, None
        unasked; and what is added to the tiles. See `geolift.refinement`.
    """
    from geolift.refinement import Refined

    settings = run.settings
    if compared is None or settings.refine == "off":
        return trained, None, None
    if not (settings.refine == "on" or compared.located):
        return trained, Refined(None, "the place of the HSI on the MSI is not known well enough"), None
    displaced = pair.screening.displacement
    if displaced is not None and settings.refine != "on":
        return trained, Refined(None, f"HSI pixels are not where they say ({displaced.code})"), None
    overlap = overlay(pair.hsi, pair.used_msi, pair.region.ratio, whole=True)
    if overlap is None:
        return trained, Refined(None, "no HSI pixel lies under the MSI"), None
    overlap = _following(overlap, compared)
    images = FusionPair(
        overlap, pair.hsi.data[:, overlap.rows, overlap.cols], pair.learned_bands, compared.harmonization
    )
    trained, found = _learned(images, compared, trained, training, run)
    give_back_memory()
    if found.correction is None:
        return trained, found, None
    correction = found.correction
    region, ground = pair.region.grid, overlap.grid

    shape = (int(region.shape[0]), int(region.shape[1]))
    places = _undone(_places(region, ground), overlap)

    def coordinates(harmonised: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
        return correction.coordinates(harmonised, corner, shape, places)

    def withheld(rows: slice, cols: slice) -> tuple[np.ndarray, np.ndarray]:
        return correction.withheld(*places(rows, cols))

    return trained, found, TileCorrection(correction.decode, coordinates, withheld)


def _learned(
    images: FusionPair, compared: Comparison, trained: Trained, training: TrainingSet, run: Run
) -> tuple[Trained, Refined]:
    """The model and the refinement of its product; of a large scene, the first round sees some windows only."""
    from geolift.network.engine import choose_engine
    from geolift.refinement import Patchwork, find_refinement, learn_twice
    from geolift.training.fit import fit

    settings, overlap, engine = run.settings, images.overlap, choose_engine(run.settings.device)

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
            folder=run.scratch_folder,
            threads=run.threads,
            engine=engine,
            progress=run.progress("refining"),
        )

    if trained.model.method != "auto":
        return trained, refined(trained.model)
    large = Patchwork.is_worth_it(images.shape)
    seen = Patchwork(images) if large else images
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
        refine=lambda model, known: refined(model, images, known=known, forced=True),
        locate=locate,
        limit=settings.max_train_pixels,
        seed=settings.seed,
        engine=engine,
    )
    result = lesson.refined if lesson.applied or not large else refined(trained.model)
    return replace(trained, model=lesson.model), replace(
        result, facts=result.facts | {"learned_twice": lesson.to_json()}
    )


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
