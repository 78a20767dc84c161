"""`coregister` and `check` on files: read both, compare, tell; write the HSI with a corrected transform."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

import dask.array as da
import numpy as np
import xarray as xr

from geolift.datamodel.cube import bands_of, grid_of, make_cube, window_values
from geolift.errors import NoOverlapError, TrustError
from geolift.pair.checks import CheckResult, Finding
from geolift.pair.checks.crosscheck import CheckDocument, check, document, enforce
from geolift.pair.comparison import Comparison, ShiftDocument, compare
from geolift.pair.coregistration.cubic import resample
from geolift.pair.coregistration.local_shift import ShiftField
from geolift.pair.declared_offset import with_true_offset
from geolift.pair.fine_msi import look_at_fine_msi
from geolift.pair.region import plan_region
from geolift.pair.scene_pair import ScenePair, masked_pair
from geolift.pair.screening.screened_pair import screened_pair
from geolift.pair.spectra import plan_spectra
from geolift.pipeline.interpolation import with_worth
from geolift.pipeline.marked_ground import with_marked, would_mark
from geolift.pipeline.touched_files import Output, require_untouched
from geolift.readers import opened
from geolift.runtime.progress import Listener, heard_by, warn
from geolift.settings import PairSettings, RegionSettings, WritingSettings
from geolift.settings.typed import PairOptions
from geolift.settings.validation import validated
from geolift.writer import Encoding, require_tiff, write_cube
from geolift.writer.moved import write_moved

RESAMPLE_PX = 256


def open_pair(hsi: str | Path | xr.DataArray, msi: str | Path | xr.DataArray, settings: PairSettings) -> ScenePair:
    """Open both files, settle bands and region, screen the HSI, and tell what had to be assumed.

    Raises NoOverlapError if the two do not overlap.
    """
    hsi_cube = opened(hsi, settings.hsi_reading)
    msi_cube = opened(msi, settings.msi_reading, bands=settings.msi_bands)
    spectra = plan_spectra(hsi_cube, settings, settings, msi_cube)
    warn(*hsi_cube.attrs.get("warnings", []), *msi_cube.attrs.get("warnings", []), *spectra.warnings)
    region = plan_region(hsi_cube, msi_cube, RegionSettings())
    pair, told = with_true_offset(masked_pair(hsi_cube, msi_cube, spectra, region, settings))
    if told:
        warn(told)
    return screened_pair(pair, settings)


class PairDocument(CheckDocument):
    """What `geolift check --json` prints."""

    coregistration: ShiftDocument | None


def coregister(
    hsi: str | Path | xr.DataArray,
    msi: str | Path | xr.DataArray,
    settings: PairSettings | None = None,
    *,
    listener: Listener | None = None,
    **options: Unpack[PairOptions],
) -> ShiftDocument:
    """Estimate the shift that brings an HSI onto an MSI, +dy down, +dx right.

    Parameters
    ----------
    hsi, msi : path or DataArray (band, y, x)
        As `geolift.open` gives them.
    settings
        Every option at once; ``**options`` take precedence.
    **options
        Fields of `geolift.settings.PairSettings`, for example ``sensor="sentinel2"``.

    Returns
    -------
    dict
        What `geolift coregister --json` prints: ``shift_msi_px`` and ``shift_m`` with ``dy`` and ``dx``,
        ``confidence`` 0…1, ``applied``, and the evidence.

    Raises
    ------
    TrustError
        Under ``strict``, if the evidence is weak.
    InputError
        If the two do not overlap.
    """
    with heard_by(listener):
        return coregister_files(hsi, msi, None, validated(PairSettings, options, given=settings))


def coregister_files(
    hsi: str | Path | xr.DataArray, msi: str | Path | xr.DataArray, output: Path | None, settings: PairSettings
) -> ShiftDocument:
    """Estimate the shift that brings the HSI onto the MSI; with ``output`` also write the HSI moved by it.

    Raises TrustError under ``strict``, if the evidence is weak; InputError if the files do not overlap.
    """
    if output is not None:
        require_tiff(output, "-o")
        inputs = [name for name in (hsi, msi) if not isinstance(name, xr.DataArray)]
        require_untouched([*inputs, settings.srf, settings.wavelengths], [Output(output)], overwrite=settings.overwrite)
    pair = open_pair(hsi, msi, settings)
    warn(*pair.screening.sentences)
    compared = compare(pair, settings, look_for_variation=True)
    if compared is None:
        names = " and ".join(str(cube.attrs.get("source", "a cube")) for cube in (pair.hsi, pair.msi))
        raise NoOverlapError(f"{names}: no HSI pixel lies under the MSI")
    warn(*compared.warnings)
    document = compared.shift_json()
    if output is not None:
        if settings.coregister == "local" and compared.field is not None and compared.field.degree > 0:
            writing = WritingSettings(overwrite=settings.overwrite, dtype="float32")
            write_cube(
                followed(pair.hsi, compared.field, compared), output, writing, encoding=Encoding.of(writing, 1.0)
            )
        else:
            move = compared.overlay.shift_units(*compared.overlay.fine_shift(*compared.applied_px))
            write_moved(str(pair.hsi.attrs["source"]), output, *move)
        document["output"] = str(output)
    return document


def followed(hsi: xr.DataArray, field: ShiftField, compared: Comparison) -> xr.DataArray:
    """Move every pixel of the HSI by the field of shifts, on its own grid, lazily; beyond the overlap the field's edge.

    Cubic, so that the values are no longer those that were measured: for looking and comparing, not for training.
    """
    data, overlap = da.asarray(hsi.data), compared.overlay
    height, width = hsi.shape[1:]

    def block(block_info: Any = None) -> np.ndarray:
        (_, _), *spans = block_info[None]["array-location"]
        y, x = np.mgrid[spans[0][0] : spans[0][1], spans[1][0] : spans[1][1]].astype(np.float64)
        dy, dx = field.at(
            np.clip(y - overlap.rows.start, 0, field.shape[0] - 1),
            np.clip(x - overlap.cols.start, 0, field.shape[1] - 1),
        )
        y, x = y - dy / overlap.ratio, x - dx / overlap.ratio
        rows, cols = (
            slice(max(0, int(at.min()) - 2), max(0, min(size, int(at.max()) + 4)))
            for at, size in ((y, height), (x, width))
        )
        return resample(window_values(data, rows, cols), y - rows.start, x - cols.start)

    chunks = (len(hsi), *da.core.normalize_chunks((RESAMPLE_PX, RESAMPLE_PX), (height, width)))
    lazy = da.map_blocks(block, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
    return make_cube(lazy, grid=grid_of(hsi), bands=bands_of(hsi), attrs=hsi.attrs)


def check_files(hsi: str | Path, msi: str | Path, settings: PairSettings) -> PairDocument:
    """Check two files against each other; the document of `geolift check --json`.

    Raises TrustError under ``strict``, if anything was found that needs a hand.
    """
    quiet = settings.model_copy(update={"strict": False})
    try:
        pair = open_pair(hsi, msi, settings)
    except NoOverlapError as error:
        if settings.strict:
            raise TrustError(str(error)) from error
        return _apart(str(error))
    compared = compare(pair, quiet)
    if compared is None:
        return _apart("no HSI pixel lies under the MSI; look at both extents and CRSs (`geolift info FILE`)")
    result = check(pair, compared)
    if settings.strict:
        enforce(result)
    result = with_marked(result, would_mark(pair, compared, result))
    fine = look_at_fine_msi(compared)
    result = with_worth(result, pair, compared, None if fine is None else fine.noise)
    return {**document(result), "coregistration": compared.shift_json()}


def _apart(message: str) -> PairDocument:
    """Return the document of two images that cannot be compared: the same keys as any other's."""
    nothing = CheckResult(verdict=(Finding("no-overlap", message),), bands=(), n_pixels=0, outlier_fraction=0.0)
    return {**document(nothing), "coregistration": None}
