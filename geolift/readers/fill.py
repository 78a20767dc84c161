"""Fill that no tag declares: numbers that stand where there is no data, recognised by what fill is.

Two kinds are told apart. A *sentinel* (−9999, 1e20, …) that no measurement of the file can be marks a value, band by
band. A *filled spectrum*, one and the same in many pixels, at the end of the values of its bands, and reaching the
image's border, marks whole pixels: 0 in every band is no data there, 0 in one band is dark water.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from geolift.readers.source import Decoding, Stored, sample_windows

SENTINELS = (
    *(-99.0, -999.0, -9999.0, -99_999.0, -999_999.0, -9_999_999.0, -32_767.0, -32_768.0, -2_147_483_648.0),
    *(-1.0, -0.9999, 2_147_483_647.0, 9_969_209_968_386_869e21, 1e20, -1e20, 1e30, -1e30, 1e38, -1e38),
    # −9999 and −999 as unsigned integers of 16 and 32 bits hold them
    *(55_537.0, 64_537.0, 4_294_957_297.0, 4_294_966_297.0),
    *(float(np.finfo(kind).max) * sign for kind in (np.float32, np.float64) for sign in (1, -1)),
)
"""Numbers that programs put where there is no data; 0 and the largest integers, which data hold too, are not here."""

MOST_SAMPLED_BANDS = 64
"""Spread evenly; what is typical of a file is taken from them."""
BEYOND = 1e4
"""In floats, numbers so many times the typical one are no measurements."""
FEWEST_REPEATED, LEAST_REPEATED = 4, 1e-3
"""Pixels, and share of the pixels looked at, that one spectrum must fill."""
FEWEST_AT_BORDER = 3
EXTREME_IN, GAP_IN = 0.75, 0.25
"""Share of the bands in which a filled spectrum is an extreme, and in which nothing lies beside it."""
BESIDE, CROWDED = 0.02, 0.25
"""Beside = within this part of a band's range; crowded = more neighbours than this share of the repeated pixels.

Where reflectance is clipped at 0, values just above it are common; next to fill there is a gap.
"""
MOST_SPECTRA = 4
FEW_BANDS, MANY_BANDS = 3, 12


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Stored numbers of pixels spread over a raster.

    Attributes
    ----------
    bands : tuple of int
        0-based, at most 64, spread evenly.
    values : array (band, n)
        Stored numbers.
    usable : bool array (band, n)
        Finite, unmasked, and not the declared nodata.
    border, corner : bool arrays (n,)
        Pixels of the image's outermost rows and columns, and its four corners.
    """

    bands: tuple[int, ...]
    values: np.ndarray
    usable: np.ndarray
    border: np.ndarray
    corner: np.ndarray

    @property
    def count(self) -> int:
        """Number of pixels."""
        return int(self.values.shape[1])

    def without(self, hidden: np.ndarray) -> Sample:
        """Return the sample with some values (bool, broadcast to (band, n)) unusable."""
        return replace(self, usable=self.usable & ~hidden)

    def median(self) -> float | None:
        """Return the median of what is usable; None if nothing is."""
        found = self.values[self.usable]
        return float(np.median(found)) if found.size else None


def sample_of(stored: Stored, decoding: Decoding) -> Sample:
    """Read small windows of a raster, those at its borders among them."""
    layout = stored.layout
    bands = np.unique(np.linspace(0, layout.count - 1, min(layout.count, MOST_SAMPLED_BANDS)).astype(int)).tolist()
    own = decoding.take(bands)
    height, width = layout.shape
    values, usable, edges, corners = [], [], [], []
    for rows, cols in sample_windows(layout.shape):
        block, valid = stored.read(rows, cols, bands)
        values.append(block.reshape(len(bands), -1))
        usable.append(np.isfinite(own.apply(block, valid)).reshape(len(bands), -1))
        at_row, at_col = (np.isin(np.arange(p.start, p.stop), (0, n - 1)) for p, n in ((rows, height), (cols, width)))
        edges.append((at_row[:, None] | at_col).ravel())
        corners.append((at_row[:, None] & at_col).ravel())
    return Sample(
        bands=tuple(bands),
        values=np.concatenate(values, axis=1),
        usable=np.concatenate(usable, axis=1),
        border=np.concatenate(edges),
        corner=np.concatenate(corners),
    )


@dataclass(frozen=True)
class Finding:
    """One kind of fill: its number in every band looked at (NaN = any), and the share of the pixels it marks."""

    spectrum: np.ndarray
    share: float
    whole_pixels: bool

    @property
    def text(self) -> str:
        """Say the numbers as messages do."""
        known = self.spectrum[np.isfinite(self.spectrum)]
        low, high = float(known.min()), float(known.max())
        number = f"{low:g}" if low == high else f"one number in each band ({low:g} to {high:g})"
        return f"{number}, the same in every band" if self.whole_pixels and low == high else number

    def told(self, path: str, declared: float | None) -> str:
        """Say what was taken for no data besides what the file declares."""
        nodata = "no nodata value is set" if declared is None else f"the nodata value set is {declared:g}"
        return (
            f"{path}: {nodata}, and {self.share:.2%} of the pixels looked at hold {self.text}: taken for no data. "
            "If they are data, pass nan as nodata (--hsi-nodata or --msi-nodata)."
        )


def recognise_fill(stored: Stored, decoding: Decoding) -> tuple[Decoding, Sample, list[Finding]]:
    """Find what stands for no data beside what is declared.

    Parameters
    ----------
    stored, decoding
        The numbers, and what is known of them: mask and declared nodata.

    Returns
    -------
    decoding, sample, findings
        The decoding with what was found; a sample in which that is unusable; what was found, for people.
    """
    sample = sample_of(stored, decoding)
    findings: list[Finding] = []
    typical = _typical_magnitude(sample)
    for number in _impossible_sentinels(sample):
        hidden = sample.usable & _equal(sample.values, number)
        findings.append(Finding(np.full(1, number), float(hidden.any(axis=0).mean()), whole_pixels=False))
        decoding = replace(decoding, invalid=(*decoding.invalid, number))
        sample = sample.without(hidden)
    if typical and sample.values.dtype.kind == "f":
        decoding = replace(decoding, limit=BEYOND * typical)
        hidden = sample.usable & (np.abs(sample.values) > BEYOND * typical)
        if hidden.any():
            extreme = sample.values[hidden][:1].astype(np.float64)
            findings.append(Finding(extreme, float(hidden.any(axis=0).mean()), whole_pixels=False))
            sample = sample.without(hidden)
    for pixels in _filled_pixels(sample):
        spectrum = _whole_spectrum(stored, sample, pixels)
        findings.append(Finding(spectrum, float(pixels.mean()), whole_pixels=True))
        decoding = replace(decoding, fills=(*decoding.fills, tuple(spectrum.tolist())))
        sample = sample.without(pixels)
    return decoding, sample, findings


def _equal(values: np.ndarray, number: float) -> np.ndarray:
    """Compare stored numbers with one that a float32 file keeps rounded."""
    if values.dtype != np.float32:
        return np.asarray(values == number)
    with np.errstate(over="ignore"):
        rounded = np.float32(number)
    return np.asarray(values == rounded) if np.isfinite(rounded) else np.zeros(values.shape, bool)


def _typical_magnitude(sample: Sample) -> float | None:
    """Return the median magnitude of what is neither a sentinel nor 0; None if there is nothing."""
    found = np.abs(sample.values[sample.usable & ~np.isin(sample.values, _stored(sample, SENTINELS))])
    found = found[found > 0]
    return float(np.median(found)) if found.size else None


def _stored(sample: Sample, numbers: Sequence[float]) -> np.ndarray:
    """Return those of some numbers that the stored type can hold, as it holds them."""
    kind = sample.values.dtype
    if kind.kind == "f":
        with np.errstate(over="ignore"):
            return np.asarray(numbers, dtype=kind)
    limits = np.iinfo(kind)
    return np.array([n for n in numbers if n == int(n) and limits.min <= n <= limits.max], dtype=kind)


def _impossible_sentinels(sample: Sample) -> list[float]:
    """List the sentinels that repeat and that lie far outside of what the bands that hold them hold besides."""
    numbers = _stored(sample, SENTINELS)
    is_sentinel = sample.usable & np.isin(sample.values, numbers)
    found = []
    for number in np.unique(sample.values[is_sentinel]):
        held = sample.usable & (sample.values == number)
        bands = np.flatnonzero(held.any(axis=1))
        if int(held.sum()) > 1 and all(_far_outside(sample, is_sentinel, int(band), float(number)) for band in bands):
            found.append(float(number))
    return found


def _far_outside(sample: Sample, is_sentinel: np.ndarray, band: int, number: float) -> bool:
    """Tell whether a number lies further from a band's other values than these spread."""
    others = sample.values[band][sample.usable[band] & ~is_sentinel[band]].astype(np.float64)
    if others.size == 0:
        return False
    low, high = np.quantile(others, (0.02, 0.98))
    return bool(number < low - (high - low) or number > high + (high - low)) and bool(
        number < others.min() or number > others.max()
    )


def _filled_pixels(sample: Sample) -> list[np.ndarray]:
    """Find the groups of pixels (bool, n) that hold one spectrum that is fill."""
    informative = np.array([_varies(v[u]) for v, u in zip(sample.values, sample.usable, strict=True)], dtype=bool)
    if not informative.any() or (sample.values.dtype.itemsize == 1 and sample.values.shape[0] < FEW_BANDS):
        return []
    values, usable = sample.values[informative], sample.usable[informative].all(axis=0)
    columns = np.ascontiguousarray(values[:, usable].T + np.zeros((), values.dtype))  # −0 becomes 0
    if columns.shape[0] == 0:
        return []
    rows = columns.view(np.dtype((np.void, columns.dtype.itemsize * columns.shape[1]))).ravel()
    _, first, inverse, counts = np.unique(rows, return_index=True, return_inverse=True, return_counts=True)
    needed = max(FEWEST_REPEATED, LEAST_REPEATED * sample.count)
    found: list[np.ndarray] = []
    taken = np.zeros(sample.count, bool)
    for spectrum in np.argsort(counts)[::-1][:MOST_SPECTRA]:
        if counts[spectrum] < needed:
            break
        pixels = np.zeros(sample.count, bool)
        pixels[np.flatnonzero(usable)[inverse.ravel() == spectrum]] = True
        others = values[:, usable & ~pixels & ~taken].astype(np.float64)
        if others.shape[1] and _is_fill(columns[first[spectrum]].astype(np.float64), others, pixels, sample):
            found.append(pixels)
            taken |= pixels
    return found


def _varies(values: np.ndarray) -> bool:
    return bool(values.size and values.min() != values.max())


def _is_fill(spectrum: np.ndarray, others: np.ndarray, pixels: np.ndarray, sample: Sample) -> bool:
    """Judge a repeated spectrum (band,) by the other pixels' values (band, n) and by where its pixels lie."""
    kind = sample.values.dtype
    at_corner, at_border = int((pixels & sample.corner).sum()), int((pixels & sample.border).sum())
    low, high = np.quantile(others, (0.01, 0.99), axis=1)
    below, above = spectrum <= low, spectrum >= high
    # HSI bands have noise below 0: one number in many bands is fill for all that
    one_in_many = len(spectrum) > MANY_BANDS and np.ptp(spectrum) == 0 and spectrum[0] <= 0
    if np.mean(below | above) < EXTREME_IN and not one_in_many:
        return False
    # saturated roofs stand anywhere; the largest integer as fill begins in a corner
    greatest = np.mean(above & ~below) > EXTREME_IN
    if greatest and not (kind.kind in "iu" and at_corner and spectrum[0] in (np.iinfo(kind).max, 32_767, 65_535)):
        return False
    if not at_corner and (len(spectrum) < FEW_BANDS or at_border < FEWEST_AT_BORDER):
        return False
    beside = np.abs(others - spectrum[:, None]) <= BESIDE * (high - low)[:, None]
    lonely = beside.sum(axis=1) <= CROWDED * pixels.sum()
    if kind.itemsize == 1:  # 0 is an ordinary shadow in bytes
        return bool(at_corner and lonely.all() and (spectrum == 0).all() and pixels.mean() > 10 * LEAST_REPEATED)
    return bool(np.mean(lonely) >= GAP_IN)


def _whole_spectrum(stored: Stored, sample: Sample, pixels: np.ndarray) -> np.ndarray:
    """Read the spectrum of filled pixels in all bands; NaN where a band does not hold one number there."""
    if len(sample.bands) == stored.layout.count:
        return _constant(sample.values[:, pixels])
    windows = sample_windows(stored.layout.shape)
    sizes = [(rows.stop - rows.start) * (cols.stop - cols.start) for rows, cols in windows]
    parts = np.split(pixels, np.cumsum(sizes)[:-1])
    fullest = int(np.argmax([part.sum() for part in parts]))
    block, _ = stored.read(*windows[fullest])
    return _constant(block.reshape(block.shape[0], -1)[:, parts[fullest]])


def _constant(values: np.ndarray) -> np.ndarray:
    """Return the number of each band (band, n) → (band,); NaN where it is not one."""
    numbers = values[:, 0].astype(np.float64)
    with np.errstate(invalid="ignore"):
        numbers[(values != values[:, :1]).any(axis=1)] = np.nan
    return numbers
