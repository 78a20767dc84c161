"""The whole job: understand both files, learn the spectral inversion, stream it over the MSI, tell what was done."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import dask
import numpy as np
import xarray as xr

from geolift import align
from geolift.comparison import Comparison, compare
from geolift.cube import Bands, bands_of, crop, grid_of, make_cube
from geolift.errors import InputError
from geolift.harmonization import Harmonization
from geolift.machine import available_cpus
from geolift.plan import (
    MIN_TRAIN_PIXELS,
    Plan,
    RegionPlan,
    SpectralPlan,
    cut_to_bounds,
    estimate_cost,
    file_facts,
    find_response,
    name_msi_bands,
    plan_region,
    plan_spectra,
)
from geolift.readers import open_cube
from geolift.settings import (
    ApplySettings,
    ComparisonSettings,
    FuseSettings,
    MethodSettings,
    SensorSettings,
    StreamingSettings,
    TrainSettings,
    WritingSettings,
)
from geolift.sidecar import dump_settings, input_facts, sidecar_path, software_versions, stac_item, write_json
from geolift.training_set import TrainingSampler, TrainingSet
from geolift.writer import Encoding, WriteReport, check_output, choose_scale, tile_edge, write_cube

if TYPE_CHECKING:
    from geolift.model import SpectralModel

# torch stands behind geolift.training, .inference and .model: they are imported where they are needed, so that bad
# input is told at once.


class Listener(Protocol):
    """Who wants to know how the work goes."""

    def progress(self, stage: str, fraction: float, detail: str = "") -> None:
        """Hear how much of a stage is done, 0 to 1."""

    def warn(self, text: str) -> None:
        """Hear what had to be assumed or looks wrong."""


class Silent:
    """A listener that wants to know nothing."""

    def progress(self, stage: str, fraction: float, detail: str = "") -> None:
        """Hear nothing."""

    def warn(self, text: str) -> None:
        """Hear nothing."""


SILENT = Silent()


@dataclass(frozen=True)
class Trained:
    """A model with what must be known to use it: bands, sensor, quantity, output scales."""

    model: SpectralModel
    facts: dict[str, Any]

    @property
    def bands(self) -> Bands:
        """The output bands, bad ones in their places."""
        hsi = self.facts["hsi"]
        to_nan = [[np.nan if v is None else v for v in hsi[key]] for key in ("wavelength_nm", "fwhm_nm")]
        return Bands(tuple(hsi["names"]), np.array(to_nan[0]), np.array(to_nan[1]), np.array(hsi["good"], bool))

    @property
    def good(self) -> np.ndarray:
        """Positions of the learned bands among the output bands."""
        return np.flatnonzero(self.bands.good)


def load_trained(path: str | Path) -> Trained:
    """Read a saved model with its facts. Raises InputError if the file is not one."""
    from geolift.model import load_model

    return Trained(*load_model(path))


# -- understanding ----------------------------------------------------------------------------------------------------


def plan_fusion(
    hsi: xr.DataArray, msi: xr.DataArray, settings: FuseSettings, output: Path | None = None
) -> Plan:
    """Settle everything before the first number is computed. Raises InputError or UsageError."""
    spectra = plan_spectra(hsi, settings, settings, msi)
    region = plan_region(hsi, msi, settings)
    shape = (int(region.grid.shape[0]), int(region.grid.shape[1]))
    threads = settings.threads or available_cpus()
    cost = estimate_cost(
        shape, len(spectra.hsi_bands), len(spectra.msi_bands), settings, settings.tile_size, threads
    )
    notes = [*hsi.attrs.get("warnings", []), *msi.attrs.get("warnings", []), *spectra.warnings]
    if region.ratio <= 1.0:
        notes.append(
            f"the MSI's pixels ({region.msi_gsd_m:.4g} m) are not finer than the HSI's ({region.hsi_gsd_m:.4g} m)"
        )
    return Plan(file_facts(hsi), file_facts(msi), spectra, region, cost, output, tuple(notes))


# -- learning ---------------------------------------------------------------------------------------------------------


def collect_training_set(
    hsi: xr.DataArray, spectra: SpectralPlan, settings: MethodSettings, listener: Listener = SILENT
) -> TrainingSet:
    """Read the HSI once, block by block, and keep a bounded, seeded sample of its valid pixels."""
    positions = np.asarray(spectra.hsi_bands)[list(spectra.good)]
    sampler = TrainingSampler(spectra.weights, limit=settings.max_train_pixels, seed=settings.seed)
    data, shape = hsi.data, hsi.shape[1:]
    windows = list(_windows(hsi))
    for done, (rows, cols) in enumerate(windows, start=1):
        # One pixel of margin, because the sample keeps the mean of each pixel's 3 × 3 neighbours.
        top, left = max(0, rows.start - 1), max(0, cols.start - 1)
        block = data[:, top : min(shape[0], rows.stop + 1), left : min(shape[1], cols.stop + 1)]
        (values,) = dask.compute(block, scheduler="synchronous")
        core = (slice(rows.start - top, rows.stop - top), slice(cols.start - left, cols.stop - left))
        sampler.add(values[positions], top, left, core)
        listener.progress("reading", done / len(windows))
    if sampler.count < MIN_TRAIN_PIXELS:
        raise InputError(
            f"{hsi.attrs.get('source', 'HSI')}: {sampler.count} pixels are valid in all {positions.size} good bands; "
            f"at least {MIN_TRAIN_PIXELS} are needed to learn from."
        )
    return sampler.finish()


def _windows(cube: xr.DataArray) -> Iterator[tuple[slice, slice]]:
    """Walk over the blocks a cube is read in."""
    if not hasattr(cube.data, "chunks"):
        yield slice(0, cube.shape[1]), slice(0, cube.shape[2])
        return
    row_ends, col_ends = (np.cumsum((0, *sizes)) for sizes in cube.data.chunks[1:])
    for row, row_end in zip(row_ends[:-1], row_ends[1:], strict=True):
        for col, col_end in zip(col_ends[:-1], col_ends[1:], strict=True):
            yield slice(int(row), int(row_end)), slice(int(col), int(col_end))


def learn(
    hsi: xr.DataArray,
    spectra: SpectralPlan,
    settings: MethodSettings,
    listener: Listener = SILENT,
    threads: int | None = None,
) -> Trained:
    """Learn the spectral inversion of one HSI for the MSI bands of a spectral plan."""
    training = collect_training_set(hsi, spectra, settings, listener)
    from geolift.training import fit

    model = fit(
        settings.method,
        training,
        seed=settings.seed,
        threads=threads or available_cpus(),
        progress=lambda share, loss: listener.progress("training", share, f"loss {loss:.5f}"),
    )
    quantity = str(hsi.attrs.get("quantity", "unknown"))
    bands = spectra.bands
    facts = {
        "method": settings.method,
        "seed": settings.seed,
        "sensor": spectra.sensor,
        "srf_sha256": spectra.srf_sha256,
        "msi_bands": list(spectra.msi_names),
        "quantity": quantity,
        "train_pixels": int(training.spectra.shape[0]),
        "scales": {dtype: choose_scale(dtype, quantity, training.spectra) for dtype in ("int16", "uint16")},
        "hsi": {
            "source": str(hsi.attrs.get("source", "")),
            "names": list(bands.names),
            "wavelength_nm": [float(v) for v in bands.wavelength_nm],
            "fwhm_nm": [float(v) if np.isfinite(v) else None for v in bands.fwhm_nm],
            "good": [bool(v) for v in bands.good],
        },
        "versions": software_versions(),
    }
    return Trained(model, facts)


def train(
    hsi: str | Path | xr.DataArray, *, listener: Listener = SILENT, **options: Any
) -> Trained:
    """Learn the spectral inversion of an HSI for a sensor; no MSI is needed.

    Parameters
    ----------
    hsi : path or DataArray (band, y, x)
    **options
        Fields of `geolift.settings.TrainSettings`, for example ``sensor="sentinel2"``.
    """
    settings = TrainSettings(**options)
    cube = _opened(hsi, settings.hsi_reading)
    spectra = plan_spectra(cube, settings, settings)
    for text in (*cube.attrs.get("warnings", []), *spectra.warnings):
        listener.warn(text)
    return learn(cube, spectra, settings, listener)


# -- applying ---------------------------------------------------------------------------------------------------------


def inverted(
    msi: xr.DataArray,
    msi_bands: tuple[int, ...],
    trained: Trained,
    settings: StreamingSettings,
    relation: Harmonization | None = None,
) -> xr.DataArray:
    """Harmonise an MSI and apply a model to it, lazily: one Dask block per tile, all output bands, bad ones NaN."""
    from geolift.inference import predict_block

    bands, good, model = trained.bands, trained.good, trained.model
    data = dask.array.asarray(msi.data)[list(msi_bands)]
    # The network needs all bands of a pixel at once; tiles of one size keep memory flat.
    edge = settings.tile_size
    data = data.rechunk((len(msi_bands), edge, edge))

    def fused_block(block: np.ndarray) -> np.ndarray:
        learned = predict_block(model, block if relation is None else relation.apply(block))
        if good.size == len(bands):
            return learned
        full = np.full((len(bands), *block.shape[1:]), np.nan, np.float32)
        full[good] = learned
        return full

    fused = data.map_blocks(
        fused_block,
        dtype=np.float32,
        chunks=((len(bands),), *data.chunks[1:]),
        meta=np.empty((0, 0, 0), np.float32),
    )
    attrs = {
        "quantity": trained.facts["quantity"],
        "acquired": msi.attrs.get("acquired"),
        "source": f"geolift {trained.facts['method']}",
    }
    return make_cube(fused, grid=grid_of(msi), bands=bands, attrs=attrs)


def fuse(
    hsi: str | Path | xr.DataArray,
    msi: str | Path | xr.DataArray,
    *,
    listener: Listener = SILENT,
    **options: Any,
) -> xr.DataArray:
    """Fuse an HSI with an MSI: all the bands of the one at the pixels of the other, lazily.

    Training happens here; the pixels are computed when they are asked for.

    Parameters
    ----------
    hsi, msi : path or DataArray (band, y, x)
        As `geolift.open` gives them.
    **options
        Fields of `geolift.settings.FuseSettings`, for example ``sensor="sentinel2"``.

    Returns
    -------
    xarray.DataArray (band, y, x)
        float32 on the MSI's grid, NaN = invalid.

    Raises
    ------
    InputError, UsageError
    """
    settings = FuseSettings(**options)
    hsi_cube = _opened(hsi, settings.hsi_reading)
    msi_cube = _opened(msi, settings.msi_reading, settings.tile_size)
    plan = plan_fusion(hsi_cube, msi_cube, settings)
    for text in plan.warnings:
        listener.warn(text)
    compared = compare_pair(hsi_cube, msi_cube, plan, settings, listener)
    trained = learn(hsi_cube, plan.spectra, settings, listener, settings.threads)
    window = crop(msi_cube, plan.region.rows, plan.region.cols)
    relation = None if compared is None else compared.harmonization
    return inverted(window, plan.spectra.msi_bands, trained, settings, relation)


def compare_pair(
    hsi: xr.DataArray, msi: xr.DataArray, plan: Plan, settings: ComparisonSettings, listener: Listener
) -> Comparison | None:
    """Hold the two sensors against each other, and tell the listener what was found."""
    listener.progress("comparing", 0.0)
    compared = compare(hsi, msi.isel(band=list(plan.spectra.msi_bands)), plan.spectra, plan.region, settings)
    listener.progress("comparing", 1.0)
    if compared is None:
        listener.warn("no HSI pixel lies under the MSI: the two sensors could not be compared")
        return None
    for text in compared.warnings:
        listener.warn(text)
    return compared


def _opened(source: str | Path | xr.DataArray, reading: Any, tile: int | None = None) -> xr.DataArray:
    return source if isinstance(source, xr.DataArray) else open_cube(source, reading, tile)


# -- files ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileResult:
    """What a run left on disk, and its sidecar's content."""

    output: Path
    sidecar: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON types."""
        facts = {
            key.partition(":")[2]: value
            for key, value in self.sidecar["properties"].items()
            if key.startswith("geolift:")
        }
        return {"output": str(self.output), **facts}


def open_pair(
    hsi: str | Path, msi: str | Path, settings: FuseSettings
) -> tuple[xr.DataArray, xr.DataArray]:
    """Open both files of a fusion."""
    tile = tile_edge(settings.tile_size, settings.creation_options)
    return open_cube(hsi, settings.hsi_reading), open_cube(msi, settings.msi_reading, tile)


def fuse_files(
    hsi: str | Path,
    msi: str | Path,
    output: Path,
    settings: FuseSettings,
    listener: Listener = SILENT,
) -> FileResult:
    """Fuse two files into a third; see `fuse`. The output appears whole or not at all."""
    started = time.perf_counter()
    check_output(output, settings.overwrite, (str(hsi), str(msi)))
    if settings.save_model is not None:
        check_output(settings.save_model, settings.overwrite, (str(hsi), str(msi)))
    hsi_cube, msi_cube = open_pair(hsi, msi, settings)
    plan = plan_fusion(hsi_cube, msi_cube, settings, output)
    for text in plan.warnings:
        listener.warn(text)
    compared = compare_pair(hsi_cube, msi_cube, plan, settings, listener)
    trained = learn(hsi_cube, plan.spectra, settings, listener, settings.threads)
    trained_s = time.perf_counter() - started
    msi_window = crop(msi_cube, plan.region.rows, plan.region.cols)
    relation = None if compared is None else compared.harmonization
    fused = inverted(msi_window, plan.spectra.msi_bands, trained, settings, relation)
    report = _write(fused, output, trained, settings, listener)
    facts = {
        **_run_facts(settings, {"hsi": str(hsi), "msi": str(msi)}, output, trained, report),
        "plan": plan.to_json(),
        **(
            {}
            if compared is None
            else {"coregistration": compared.shift_json(), "harmonization": compared.harmonization_json()}
        ),
        "pixels_without_hsi": pixels_without_hsi(hsi_cube, plan.region, plan.spectra),
        "warnings": [*plan.warnings, *(() if compared is None else compared.warnings)],
        "timings_s": {"understand_and_train": trained_s, "total": time.perf_counter() - started},
    }
    if settings.save_model is not None:
        from geolift.model import save_model

        save_model(settings.save_model, trained.model, trained.facts)
    return _finish(fused, output, settings, report, facts)


def apply(
    model: str | Path,
    msi: str | Path | xr.DataArray,
    *,
    listener: Listener = SILENT,
    **options: Any,
) -> xr.DataArray:
    """Apply a saved model to an MSI of its sensor, lazily.

    Raises
    ------
    InputError
        If the MSI's bands are not those the model was trained for.
    """
    settings = ApplySettings(**options)
    trained = load_trained(model)
    cube = _opened(msi, settings.msi_reading, settings.tile_size)
    window, bands, notes = _match(trained, cube, settings)
    for text in notes:
        listener.warn(text)
    return inverted(window, bands, trained, settings)


def apply_files(
    model: str | Path, msi: str | Path, output: Path, settings: ApplySettings, listener: Listener = SILENT
) -> FileResult:
    """Apply a saved model to a file; see `apply`. The output appears whole or not at all."""
    started = time.perf_counter()
    check_output(output, settings.overwrite, (str(model), str(msi)))
    trained = load_trained(model)
    cube = open_cube(msi, settings.msi_reading, tile_edge(settings.tile_size, settings.creation_options))
    window, bands, notes = _match(trained, cube, settings)
    for text in notes:
        listener.warn(text)
    fused = inverted(window, bands, trained, settings)
    if settings.drop_bad_bands:
        fused = fused.isel(band=trained.good)
    report = _write(fused, output, trained, settings, listener)
    facts = {
        **_run_facts(settings, {"model": str(model), "msi": str(msi)}, output, trained, report),
        "warnings": notes,
        "timings_s": {"total": time.perf_counter() - started},
    }
    return _finish(fused, output, settings, report, facts)


def plan_application(model: str | Path, msi: str | Path, settings: ApplySettings) -> dict[str, Any]:
    """Tell what applying a model to a file would do, without doing it."""
    trained = load_trained(model)
    cube = open_cube(msi, settings.msi_reading)
    window, bands, notes = _match(trained, cube, settings)
    rows, cols = window.shape[1:]
    threads = settings.threads or available_cpus()
    cost = estimate_cost((rows, cols), len(trained.bands), len(bands), settings, settings.tile_size, threads)
    return {
        "model": str(model),
        "msi": file_facts(cube),
        "msi_bands": trained.facts["msi_bands"],
        "hsi_bands": len(trained.bands),
        "shape": [rows, cols],
        "cost": asdict(cost),
        "warnings": notes,
    }


def _match(
    trained: Trained, msi: xr.DataArray, settings: ApplySettings
) -> tuple[xr.DataArray, tuple[int, ...], list[str]]:
    """Find the model's bands in an MSI file and cut its window; refuse what does not match."""
    source = str(msi.attrs.get("source", "MSI"))
    grid = grid_of(msi)
    align.require_north_up(grid, source)
    notes = list(msi.attrs.get("warnings", []))
    wanted = trained.facts["msi_bands"]
    names = _file_band_names(trained, msi, settings, notes)
    missing = [name for name in wanted if name not in names]
    if missing:
        raise InputError(
            f"{source}: the model needs {trained.facts['sensor']} bands {', '.join(wanted)}; "
            f"{', '.join(missing)} not found among {', '.join(str(n) for n in names)}. "
            "Pass --msi-bands with the bands of the file, in file order."
        )
    window = cut_to_bounds(grid, (slice(0, grid.shape[0]), slice(0, grid.shape[1])), settings, source)
    return crop(msi, *window), tuple(names.index(name) for name in wanted), notes


def _file_band_names(
    trained: Trained, msi: xr.DataArray, settings: ApplySettings, notes: list[str]
) -> list[str | None]:
    sensor = str(trained.facts["sensor"])
    try:
        srf, _ = find_response(SensorSettings(sensor=sensor), msi)
    except InputError:
        # A model trained with --srf: its own band names are all that is known.
        names = list(settings.msi_bands or bands_of(msi).names)
        if len(names) != msi.sizes["band"]:
            raise InputError(f"--msi-bands names {len(names)} bands, the file has {msi.sizes['band']}") from None
        return list(names)
    return name_msi_bands(srf, settings.msi_bands, msi, notes)


def _write(
    fused: xr.DataArray, output: Path, trained: Trained, settings: Any, listener: Listener
) -> WriteReport:
    scale = trained.facts["scales"].get(settings.dtype, 1.0)
    tags = {
        "TIFFTAG_SOFTWARE": f"geolift {software_versions().get('geolift', '')}",
        "GEOLIFT_METHOD": str(trained.facts["method"]),
        "GEOLIFT_SENSOR": str(trained.facts["sensor"]),
        "GEOLIFT_QUANTITY": str(trained.facts["quantity"]),
    }
    return write_cube(
        fused,
        output,
        settings,
        encoding=Encoding.of(settings, scale),
        threads=settings.threads or available_cpus(),
        tile_size=settings.tile_size,
        tags=tags,
        progress=lambda share: listener.progress("writing", share),
    )


def _run_facts(
    settings: Any, inputs: dict[str, str], output: Path, trained: Trained, report: WriteReport
) -> dict[str, Any]:
    return {
        "settings": dump_settings(settings),
        "inputs": {name: input_facts(path) for name, path in inputs.items()},
        "output": str(output),
        "model": {key: value for key, value in trained.facts.items() if key not in ("hsi", "versions")},
        "choices": trained.model.choices,
        "training_curve": [asdict(step) for step in trained.model.history],
        "written": {
            "valid_pixels": report.n_valid_pixels,
            "values": report.n_values,
            "clipped_values": report.n_clipped,
        },
    }


def _finish(
    fused: xr.DataArray, output: Path, settings: WritingSettings, report: WriteReport, facts: dict[str, Any]
) -> FileResult:
    encoding = report.encoding
    item = stac_item(
        output,
        grid_of(fused),
        bands_of(fused),
        driver=settings.of,
        acquired=fused.attrs.get("acquired"),
        raster={"data_type": encoding.dtype, "scale": encoding.scale, "offset": 0.0, "nodata": encoding.nodata},
        facts=facts,
    )
    write_json(sidecar_path(output), item)
    return FileResult(output, item)


def pixels_without_hsi(hsi: xr.DataArray, region: RegionPlan, spectra: SpectralPlan) -> int:
    """Count the output pixels whose centre lies on no valid HSI pixel; they are fused all the same."""
    positions = np.asarray(spectra.hsi_bands)[list(spectra.good)]
    valid = np.zeros(hsi.shape[1:], bool)
    for rows, cols in _windows(hsi):
        (block,) = dask.compute(hsi.data[:, rows, cols], scheduler="synchronous")
        valid[rows, cols] = np.isfinite(block[positions]).all(axis=0)
    missing, height = 0, int(region.grid.shape[0])
    for row in range(0, height, 512):
        part = region.grid[row : min(row + 512, height), :]
        missing += int((~align.covered(part, grid_of(hsi), valid)).sum())
    return missing
