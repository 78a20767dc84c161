"""A trained model with what must be known to use it: how it is learned from an HSI, and applied to an MSI."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import dask.array
import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from geolift.datamodel.cube import Bands, blocks_of, grid_of, make_cube, window_values
from geolift.datamodel.encoding import Counts, Encoding
from geolift.errors import InputError
from geolift.pair.spectra import SpectralPlan
from geolift.pipeline.radiometry import Radiometry
from geolift.provenance.record import HarmonizationFacts, ModelFacts
from geolift.provenance.sidecar import software_versions
from geolift.runtime.progress import advance, of_stage
from geolift.runtime.scratch import Piece
from geolift.settings import ApplySettings, FuseSettings, MethodSettings, TrainSettings
from geolift.training.training_set import Seam, TrainingSampler, TrainingSet
from geolift.writer import Lend, Tile, TileSource, choose_scale, tile_shape

if TYPE_CHECKING:
    from geolift.network.engine import Engine
    from geolift.network.model import SpectralModel

MIN_TRAIN_PIXELS = 16

# torch stands behind geolift.training.fit, .inference and .model: they are imported where they are needed, so that bad
# input is told at once.


@dataclass(frozen=True, eq=False)
class TileCorrection:
    """What is added to the product of a tile: ``decode`` (C, K) times its coordinates (K, y, x).

    ``coordinates``: of a harmonised tile (c, y, x) and its first row and column; ``pieces``: what they read, of its
    corner and shape, for a machine where the arrays are not. ``withheld``: of rows and columns of
    the product the share (y, x) of the correction that counts there, and bool (y, x) where the sensors differ.
    """

    decode: np.ndarray
    coordinates: Callable[[np.ndarray, tuple[int, int]], np.ndarray]
    withheld: Callable[[slice, slice], tuple[np.ndarray, np.ndarray]]
    pieces: Callable[[tuple[int, int], tuple[int, int]], list[Piece]]


@dataclass(frozen=True, eq=False)
class TileChange:
    """Where the MSI gives way to what the HSI shows; see `geolift.refinement.change`.

    ``applied``: a harmonised tile (c, y, x) with its first row and column. ``differs``: of rows and columns of the
    product, bool (y, x). ``pieces``: see `TileCorrection`.
    """

    applied: Callable[[np.ndarray, tuple[int, int]], np.ndarray]
    differs: Callable[[slice, slice], np.ndarray]
    pieces: Callable[[tuple[int, int], tuple[int, int]], list[Piece]]


class OutputBands(BaseModel):
    """The bands of the HSI that a model was learned from, bad ones in their places; None = not known."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    source: str = ""
    names: list[str]
    wavelength_nm: list[float | None]
    fwhm_nm: list[float | None]
    good: list[bool]


class TrainedFacts(ModelFacts):
    """What must be known to use a model; ``scales``: of the product, for each integer type it may be stored in."""

    method: str
    sensor: str
    srf_sha256: str = ""
    msi_bands: list[str]
    quantity: str
    scales: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]]
    hsi: OutputBands
    versions: dict[str, str] = Field({})
    radiometry: HarmonizationFacts | None = None

    def of_run(self) -> dict[str, object]:
        """Return what the sidecar of a product tells of its model."""
        return self.model_dump(exclude={"hsi", "versions"}, exclude_unset=True)


@dataclass(frozen=True)
class Trained:
    """A model with what must be known to use it: bands, sensor, quantity, output scales."""

    model: SpectralModel
    facts: TrainedFacts

    def save(self, path: str | Path) -> None:
        """Write the model with its facts, whole or not at all. Raises ResourceError."""
        from geolift.network.model import save_model

        unknown = {"radiometry"} if self.facts.radiometry is None else None
        save_model(path, self.model, self.facts.model_dump(exclude_unset=True, exclude=unknown))

    @property
    def bands(self) -> Bands:
        """The output bands, bad ones in their places."""
        hsi = self.facts.hsi
        wavelength, fwhm = (np.array(values, np.float64) for values in (hsi.wavelength_nm, hsi.fwhm_nm))
        return Bands(tuple(hsi.names), wavelength, fwhm, np.array(hsi.good, bool))

    @property
    def good(self) -> np.ndarray:
        """Positions of the learned bands among the output bands."""
        return np.flatnonzero(self.bands.good)

    def in_places(self, values: np.ndarray) -> list[float | None]:
        """Put one number for each learned band in its place among the output bands, with seven digits; None else."""
        placed: list[float | None] = [None] * len(self.bands)
        for band, value in zip(self.good, values, strict=True):
            placed[band] = float(f"{value:.7g}")
        return placed


def load_trained(path: str | Path) -> Trained:
    """Read a saved model with its facts. Raises InputError if the file is not one."""
    from geolift.network.model import load_model

    model, facts = load_model(path)
    try:
        trained = Trained(model, TrainedFacts.model_validate(facts))
        _require_fitting(trained)
    except ValueError as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        text = str(error) if first is None else f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
        raise InputError(
            f"{path}: damaged: what it tells of its bands does not fit its numbers ({text}). "
            "Pass a file written by 'geolift train' or --save-model."
        ) from error
    return trained


def _require_fitting(trained: Trained) -> None:
    """Refuse facts that do not describe the network they stand beside. Raises ValueError."""
    network, facts = trained.model.network, trained.facts
    if trained.good.size != network.offset.size:
        raise ValueError(f"{trained.good.size} good bands, but {network.offset.size} outputs")
    if len(facts.msi_bands) != trained.model.training_low.size:
        raise ValueError(f"{len(facts.msi_bands)} MSI bands, but {trained.model.training_low.size} inputs")


def kept_or(file: Path | None, learned: Callable[[], Trained]) -> Trained:
    """Return the model kept in a file, or learn it and keep it there; with no file, learn it."""
    if file is None:
        return learned()
    if not file.exists():
        learned().save(file)
    # Read back in any case: a run in two halves is to tell the same of its model as a run in one.
    return load_trained(file)


def survey(hsi: xr.DataArray, spectra: SpectralPlan, settings: MethodSettings) -> tuple[TrainingSet, np.ndarray]:
    """Read the HSI once, block by block: a bounded, seeded sample of its valid pixels, and where it is valid (y, x).

    Raises InputError if too few pixels are valid.
    """
    positions = np.asarray(spectra.hsi_bands)[list(spectra.good)]
    sampler = TrainingSampler(spectra.weights, limit=settings.max_train_pixels, seed=settings.seed)
    data, shape = hsi.data, (hsi.shape[1], hsi.shape[2])
    valid = np.zeros(shape, bool)
    windows = list(blocks_of(data))
    seam = Seam(positions.size, shape)
    for done, (rows, cols) in enumerate(windows, start=1):
        values = window_values(data, rows, cols)[positions]
        valid[rows, cols] = np.isfinite(values).all(axis=0)
        sampler.add(*seam.joined(values, rows, cols))
        advance("sampling", done / len(windows))
    if sampler.count < MIN_TRAIN_PIXELS:
        raise InputError(
            f"{hsi.attrs.get('source', 'HSI')}: {sampler.count} pixels are valid in all {positions.size} good bands; "
            f"at least {MIN_TRAIN_PIXELS} are needed to learn from."
        )
    return sampler.finish(), valid


def learn(
    hsi: xr.DataArray,
    training: TrainingSet,
    spectra: SpectralPlan,
    settings: TrainSettings | FuseSettings,
    threads: int | None = None,
) -> Trained:
    """Learn the spectral inversion from an HSI's training set, for the MSI bands of a spectral plan."""
    from geolift.network.engine import choose_engine
    from geolift.training.fit import fit

    told = of_stage("training")
    model = fit(
        settings.method,
        training,
        seed=settings.seed,
        device=choose_engine(settings.device).device,
        threads=threads,
        **settings.method_options,
        progress=lambda share, loss: told(share, f"loss {loss:.5f}" if loss == loss else ""),
    )
    quantity = str(hsi.attrs.get("quantity", "unknown"))
    bands = spectra.bands
    facts = TrainedFacts(
        method=settings.method,
        seed=settings.seed,
        sensor=spectra.sensor,
        srf_sha256=spectra.srf_sha256,
        msi_bands=list(spectra.msi_names),
        quantity=quantity,
        train_pixels=int(training.spectra.shape[0]),
        scales={dtype: choose_scale(dtype, quantity, training.spectra) for dtype in ("int16", "uint16")},
        hsi=OutputBands(
            source=str(hsi.attrs.get("source", "")),
            names=list(bands.names),
            wavelength_nm=[float(v) for v in bands.wavelength_nm],
            fwhm_nm=[float(v) if np.isfinite(v) else None for v in bands.fwhm_nm],
            good=[bool(v) for v in bands.good],
        ),
        versions=software_versions(),
    )
    return Trained(model, facts)


@dataclass(frozen=True, eq=False, kw_only=True)
class Inversion:
    """How a tile of an MSI becomes one of the product: harmonised, inverted, corrected.

    Parameters
    ----------
    model
        Gives the learned bands; with the correction's part, where there is one.
    good, count
        Positions of the learned bands among so many bands of the product; the others are NaN.
    correction
        What is added to a tile; see `geolift.pipeline.refining`.
    """

    model: SpectralModel
    good: np.ndarray
    count: int
    engine: Engine
    relation: Radiometry | None
    correction: TileCorrection | None

    @cached_property
    def _placed(self) -> SpectralModel:
        if self.good.size == self.count:
            return self.model
        return replace(self.model, network=self.model.network.placed(self.good, self.count))

    def _given(self, block: np.ndarray, place: tuple[int, int]) -> tuple[np.ndarray, np.ndarray | None]:
        """What the network takes: harmonised values and coordinates of the correction."""
        harmonised = block if self.relation is None else self.relation.apply(block)
        return harmonised, None if self.correction is None else self.correction.coordinates(harmonised, place)

    def values(self, block: np.ndarray, place: tuple[int, int]) -> np.ndarray:
        """Product (band, y, x) of an MSI block (c, y, x) whose first row and column are ``place``."""
        from geolift.network.inference import predict_block

        harmonised, coordinates = self._given(block, place)
        return predict_block(self._placed, harmonised, self.engine, coordinates)

    def encode(self, values: np.ndarray, tile: Tile, encoding: Encoding) -> tuple[np.ndarray, Counts]:
        """Stored numbers of a tile's MSI values (c, y, x): the product's values encoded."""
        from geolift.network.inference import encode_block
        from geolift.network.pixels import Placing

        place = tile.row, tile.col
        if encoding.dtype == "float32":
            return encoding.encode_block(self.values(values, place))
        harmonised, coordinates = self._given(values, place)
        placing = Placing(self.good, self.count)
        return encode_block(self.model, harmonised, encoding, placing, self.engine, coordinates)


@dataclass(frozen=True, eq=False)
class Inverted:
    """A product to come: its cube, lazy, and what its tiles are written from."""

    cube: xr.DataArray
    source: TileSource

    def lending(self, lend: Lend) -> Inverted:
        """Return it with what lends to its tiles on other machines what they read of the refinement."""
        return replace(self, source=replace(self.source, lend=lend))


def inverted(
    msi: xr.DataArray,
    msi_bands: tuple[int, ...],
    trained: Trained,
    settings: FuseSettings | ApplySettings,
    relation: Radiometry | None = None,
    correction: TileCorrection | None = None,
) -> Inverted:
    """Harmonise an MSI and apply a model to it, lazily: one Dask block per tile; bad bands are NaN, if they are kept.

    ``correction``: what is added to a tile; see `geolift.pipeline.refining`.
    """
    from geolift.network.engine import choose_engine

    bands, good, model = trained.bands, trained.good, trained.model
    if settings.drop_bad_bands:
        bands, good = bands.take(good), np.arange(good.size)
    if correction is not None:
        model = replace(model, network=replace(model.network, correction=correction.decode))
    engine = choose_engine(settings.device, settings.precision)
    inversion = Inversion(
        model=model, good=good, count=len(bands), engine=engine, relation=relation, correction=correction
    )
    data = dask.array.asarray(msi.data)[list(msi_bands)]
    # The network needs all bands of a pixel at once; tiles of one size keep memory flat.
    data = data.rechunk((len(msi_bands), *tile_shape(settings.tile_size, settings, (msi.shape[1], msi.shape[2]))))

    def fused_block(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        _, (row, _), (col, _) = block_info[0]["array-location"]
        return inversion.values(block, (row, col))

    fused = data.map_blocks(
        fused_block, dtype=np.float32, chunks=((len(bands),), *data.chunks[1:]), meta=np.empty((0, 0, 0), np.float32)
    )
    attrs = {
        "quantity": trained.facts.quantity,
        "acquired": msi.attrs.get("acquired"),
        "source": f"geolift {trained.facts.method}",
    }
    cube = make_cube(fused, grid=grid_of(msi), bands=bands, attrs=attrs)
    return Inverted(cube, TileSource(data, inversion.encode))
