"""Weights that turn hyperspectral bands into multispectral ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geolift.errors import InputError

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

SMALLEST_COVERAGE = 0.9
"""Share of an MSI band's response that good HSI bands must cover for the band to be used."""

SHARED_FLOOR = 0.5
"""Lower bound of the sum of HSI band responses by which a wavelength is shared among the bands.

At 0.5 a wavelength is fully covered where a single band responds with half its peak or more, and where two
neighbours up to 1.41 FWHM apart meet; in a wider gap or past the last band the share falls off with the
band's own response.
"""

CENTRE_TOLERANCE_NM = 1.0
"""How far the effective centre of a band may lie from its response's centre before it is brought back."""

_NODES_PER_FWHM = 4
_SMALLEST_STEP_NM = 0.1
_SMALLEST_DETECTOR = 8
_MICROMETRES_BELOW = 100.0


@dataclass(frozen=True, eq=False, kw_only=True)
class SrfWeights:
    """Weights that turn a hyperspectral spectrum into multispectral bands.

    Attributes
    ----------
    weights : array (kept MSI bands, HSI bands)
        Non-negative, each row sums to 1, zero at bad HSI bands.
    band_names : tuple of str
        The kept MSI bands, in the order of the rows.
    coverage : array (MSI bands,)
        Share in 0…1 of each asked band's response that good HSI bands cover.
    kept : bool array (MSI bands,)
        True where the coverage suffices.
    dropped : mapping
        Name and coverage of each band that was left out.
    centres_nm : array (kept MSI bands,)
        Effective centre of each row: its weights times the HSI band centres.
    recentred : mapping
        Name of each kept band whose plain weights had moved its centre by more than 1 nm, mostly because a
        gap or the end of the HSI's range cuts it, and that shift in nm; its weights are tilted to undo it.
    fwhm_assumed : bool array (HSI bands,)
        True where the HSI band had no FWHM and the band spacing was taken.
    """

    weights: FloatArray
    band_names: tuple[str, ...]
    coverage: FloatArray
    kept: BoolArray
    dropped: Mapping[str, float]
    centres_nm: FloatArray
    recentred: Mapping[str, float]
    fwhm_assumed: BoolArray

    def messages(self) -> tuple[str, ...]:
        """Return one line for each thing the user should know."""
        lines = [
            f"MSI band {name} is left out: good HSI bands cover {share:.1%} of its response, "
            + (f"{SMALLEST_COVERAGE:.0%} is needed" if share < SMALLEST_COVERAGE else "all on one side of its centre")
            for name, share in self.dropped.items()
        ]
        lines += [
            f"MSI band {name}: what HSI bands cover of its response is centred {shift_nm:+.1f} nm off; "
            "its weights are tilted to keep its centre"
            for name, shift_nm in self.recentred.items()
        ]
        if self.fwhm_assumed.any():
            count = int(self.fwhm_assumed.sum())
            lines.append(f"{count} of {self.fwhm_assumed.size} HSI bands have no FWHM; the band spacing is taken")
        return tuple(lines)


def weigh(
    wavelength_nm: FloatArray,
    response: FloatArray,
    band_names: Sequence[str],
    centres_nm: ArrayLike,
    fwhm_nm: ArrayLike | None = None,
    good: ArrayLike | None = None,
) -> SrfWeights:
    """Return the weights of the hyperspectral bands for each multispectral band.

    Each wavelength is shared among the good HSI bands in proportion to their Gaussian responses g of peak 1,
    so that overlapping detectors and uneven spacing count once; where no band responds, the wavelength is
    uncovered:

        w_j ∝ ∫ S(λ) g_j(λ) / max(Σ_k g_k(λ), 0.5) dλ

    A row whose effective centre ends up more than 1 nm off (a gap cuts the band) is multiplied by exp(a·λ_j): of all
    weights with the right centre these are nearest to it in the sense of Kullback and Leibler. Raises InputError if the
    arrays do not fit each other or no MSI band is covered.

    ``wavelength_nm`` (n,) increases, ``response`` (n, MSI bands) is linear between; the rest is as
    `geolift.srf.SpectralResponse.weights` takes it.
    """
    centres, fwhm, usable, assumed = _checked(centres_nm, fwhm_nm, good)
    grid, fine = _refined(wavelength_nm, response, float(fwhm[usable].min()))
    density = trapezoid_weights(grid)[:, None] * fine
    seen = density.any(axis=1)  # most of a table may lie beyond its sensor's bands
    # einsum's own loops: a BLAS product may round differently on another number of threads
    shared = np.einsum("gm,gb->mb", density[seen], _shares(grid[seen], centres[usable], fwhm[usable]))
    total = density.sum(axis=0)
    coverage = np.minimum(shared.sum(axis=1) / total, 1.0)
    rows, shifts_nm, on_centre = _recentred(shared, centres[usable], grid @ density / total)
    kept = (coverage >= SMALLEST_COVERAGE) & on_centre
    if not kept.any():
        raise _uncovered(dict(zip(band_names, coverage, strict=True)), centres[usable])
    weights = np.zeros((len(band_names), centres.size))
    weights[:, usable] = rows
    return SrfWeights(
        weights=weights[kept],
        band_names=tuple(name for name, ok in zip(band_names, kept, strict=True) if ok),
        coverage=coverage,
        kept=kept,
        dropped={name: float(share) for name, share, ok in zip(band_names, coverage, kept, strict=True) if not ok},
        centres_nm=rows[kept] @ centres[usable],
        recentred={
            name: float(shift) for name, shift, ok in zip(band_names, shifts_nm, kept, strict=True) if ok and shift
        },
        fwhm_assumed=assumed,
    )


def complete_fwhm(centres_nm: ArrayLike, fwhm_nm: ArrayLike | None = None) -> tuple[FloatArray, BoolArray]:
    """Fill missing FWHM with the local band spacing.

    The spacing at a band is the median of the six differences around it, so that no gap beside it is taken
    for it. Where the file lists one detector after the other, each has its own spacing; else it is that of
    the sorted centres.

    ``centres_nm``: array (bands,), band centres in nm, in any order; bands without one (NaN) get no FWHM. ``fwhm_nm``:
    array (bands,), FWHM in nm; missing where NaN, infinite, zero or negative.

    Returns
    -------
    fwhm_nm : array (bands,)
    assumed : bool array (bands,)
        True where the spacing was taken.

    Examples
    --------
    >>> fwhm, assumed = complete_fwhm([400.0, 410, 420, 520, 530, 540], [9, 9, 9, 9, 9, float("nan")])
    >>> fwhm.tolist(), assumed.tolist()
    ([9.0, 9.0, 9.0, 9.0, 9.0, 10.0], [False, False, False, False, False, True])
    """
    centres = np.asarray(centres_nm, dtype=np.float64)
    missing = np.full(centres.shape, np.nan)
    fwhm = missing.copy() if fwhm_nm is None else np.array(fwhm_nm, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        assumed = ~(np.isfinite(fwhm) & (fwhm > 0)) & np.isfinite(centres)
    fwhm[~np.isfinite(fwhm) | (fwhm <= 0)] = np.nan
    if assumed.any():
        fwhm[assumed] = _spacing(centres)[assumed]
    return fwhm, assumed


def _spacing(centres_nm: FloatArray) -> FloatArray:
    """Return the local band spacing at each centre, by detector where the file's order tells them apart."""
    spacing = np.full(centres_nm.shape, np.nan)
    finite = np.flatnonzero(np.isfinite(centres_nm))
    steps = np.sign(np.diff(centres_nm[finite]))
    jumps = np.flatnonzero(steps != np.sign(steps.sum())) + 1
    detectors = np.split(finite, jumps)
    if min(detector.size for detector in detectors) < _SMALLEST_DETECTOR:
        detectors = [finite]
    for detector in detectors:
        known = np.unique(centres_nm[detector])
        if known.size < 2:
            raise InputError("a single HSI band has no FWHM and no neighbour to take the spacing from.")
        gaps = np.diff(known)
        medians = [np.median(gaps[max(0, i - 3) : i + 3]) for i in range(known.size)]
        spacing[detector] = np.interp(centres_nm[detector], known, medians)
    return spacing


def trapezoid_weights(grid: FloatArray) -> FloatArray:
    """Return the weight of each node in the trapezoid rule on an uneven grid."""
    gaps = np.diff(grid)
    weights = np.zeros_like(grid)
    weights[:-1] += gaps / 2
    weights[1:] += gaps / 2
    return weights


def _checked(
    centres_nm: ArrayLike, fwhm_nm: ArrayLike | None, good: ArrayLike | None
) -> tuple[FloatArray, FloatArray, BoolArray, BoolArray]:
    """Return centres, completed FWHM, the usable bands, and where the FWHM was assumed."""
    centres = np.asarray(centres_nm, dtype=np.float64)
    usable = np.ones(centres.shape, bool) if good is None else np.asarray(good, dtype=bool)
    if centres.ndim != 1 or usable.shape != centres.shape:
        raise InputError(f"{centres.shape} HSI band centres, {usable.shape} good-band flags; expected one each.")
    if fwhm_nm is not None and np.shape(fwhm_nm) != centres.shape:
        raise InputError(f"{centres.size} HSI band centres, {np.size(fwhm_nm)} FWHM; expected one each.")
    if not usable.any():
        raise InputError("all HSI bands are bad; at least one good band is needed.")
    if not np.isfinite(centres[usable]).all():
        count = int((~np.isfinite(centres[usable])).sum())
        raise InputError(f"{count} good HSI bands have no centre wavelength; each good band needs one.")
    if centres[usable].max() < _MICROMETRES_BELOW:
        raise InputError(f"HSI band centres end at {centres[usable].max():g}; expected nanometres.")
    fwhm, assumed = complete_fwhm(centres, fwhm_nm)
    return centres, fwhm, usable, assumed


def _refined(wavelength_nm: FloatArray, response: FloatArray, fwhm_nm: float) -> tuple[FloatArray, FloatArray]:
    """Return a grid fine enough for HSI bands of that FWHM, and the response interpolated on it."""
    step = max(fwhm_nm / _NODES_PER_FWHM, _SMALLEST_STEP_NM)
    gaps = np.diff(wavelength_nm)
    busy = (response[:-1] > 0).any(axis=1) | (response[1:] > 0).any(axis=1)
    pieces = np.where(busy, np.ceil(gaps / step), 1).astype(int)
    if (pieces == 1).all():
        return wavelength_nm, response
    starts = np.repeat(wavelength_nm[:-1], pieces)
    within = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    grid = np.append(starts + within * np.repeat(gaps / pieces, pieces), wavelength_nm[-1])
    return grid, np.stack([np.interp(grid, wavelength_nm, column) for column in response.T], axis=1)


def _shares(grid: FloatArray, centres_nm: FloatArray, fwhm_nm: FloatArray) -> FloatArray:
    """Return the share of each wavelength (rows) that each band (columns) sees; rows sum to 1 or less."""
    gaussians = np.exp(-4 * np.log(2) * ((grid[:, None] - centres_nm) / fwhm_nm) ** 2)
    shares: FloatArray = gaussians / np.maximum(gaussians.sum(axis=1, keepdims=True), SHARED_FLOOR)
    return shares


def _recentred(
    shared: FloatArray, centres_nm: FloatArray, targets_nm: FloatArray
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Normalise the rows and tilt those that are off centre.

    Returns the rows, the shifts in nm that were undone (0 where the row was left as it was), and True where
    the row is on its centre: a row with no band on one side of its centre cannot be brought back.
    """
    rows = shared / np.maximum(shared.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    shifts_nm = rows @ centres_nm - targets_nm
    off = np.abs(shifts_nm) > CENTRE_TOLERANCE_NM
    on_centre = ~off
    for number in np.flatnonzero(off):
        offsets_nm = centres_nm - targets_nm[number]
        seen = rows[number] > 0
        if seen.any() and offsets_nm[seen].min() < 0 < offsets_nm[seen].max():
            rows[number] = _tilted(rows[number], offsets_nm)
            on_centre[number] = True
    return rows, np.where(off, shifts_nm, 0.0), on_centre


def _tilted(row: FloatArray, offsets_nm: FloatArray) -> FloatArray:
    """Return the row times exp(a · offset), normalised, with the a that brings the mean offset to zero."""
    scale = np.sqrt(row @ offsets_nm**2)
    low, high = -50.0, 50.0
    tilted = row
    for _ in range(80):  # bisection: the mean offset grows with the slope
        slope = (low + high) / 2
        exponent = np.where(row > 0, slope * offsets_nm / scale, -np.inf)
        tilted = row * np.exp(exponent - exponent.max())
        tilted /= tilted.sum()
        if tilted @ offsets_nm > 0:
            high = slope
        else:
            low = slope
    return tilted


def _uncovered(shares: Mapping[str, float], centres_nm: FloatArray) -> InputError:
    listed = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    return InputError(
        f"the good HSI bands ({centres_nm.min():.0f} to {centres_nm.max():.0f} nm) cover no MSI band well "
        f"enough: {listed}; {SMALLEST_COVERAGE:.0%} is needed. Check the sensor, the wavelengths, their unit."
    )
