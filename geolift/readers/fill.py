"""Fill that no tag declares: numbers that stand where there is no data, recognised by what fill is.

Two kinds are told apart. A *sentinel* (−9999, 1e20, …) that no measurement of the file can be marks a value, band by
band. A *filled spectrum*, one and the same in many pixels, at the end of the values of its bands, and reaching a
corner of the image or two of its sides, marks whole pixels: 0 in every band is no data there, 0 in one band is dark
water. Fill ends at once; water clipped at 0 is seen by its shore, where values rise, and by noise that stands above 0.
"""

from __future__ import annotations

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
FEWEST_SIDES = 2
"""A lake lies at one side of the image; a swath or strip of fill reaches two, the rest of a turned image a corner."""
EXTREME_IN, GAP_IN = 0.75, 0.25
"""Share of the bands in which a filled spectrum is an extreme, and in which no other pixel holds its number."""
CROWDED = 0.25
"""Where reflectance is clipped at 0, more pixels than this share of those that are 0 throughout are 0 in a band."""
NEGLIGIBLE = 0.25
"""In parts of a band's median: so little beside 0 is noise over dark water."""
RISING, FEWEST_PAIRS = 0.6, 8
"""Values next to the repeated ones are so much nearer to them than those two pixels further on: a shore, no fill."""
ENCLOSED, FEWEST_SPECKS = 6, 3
"""A pixel with so many of its eight neighbours among the repeated ones is a speck: noise over water; fill has none."""
EIGHT = np.ones((3, 3), bool)
SIDES = (1, 2, 4, 8)
TINY = 1e-12
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
    sides : uint8 array (n,)
        The image's sides a pixel lies at: 1 top, 2 bottom, 4 left, 8 right.
    shapes : tuple of (rows, cols)
        Of the windows that the pixels come from, one after the other.
    """

    bands: tuple[int, ...]
    values: np.ndarray
    usable: np.ndarray
    sides: np.ndarray
    shapes: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        """Number of pixels."""
        return int(self.values.shape[1])

    def without(self, hidden: np.ndarray) -> Sample:
        """Return the sample with some values (bool, broadcast to (band, n)) unusable."""
        return replace(self, usable=self.usable & ~hidden)

    def parts(self, of_pixels: np.ndarray) -> list[np.ndarray]:
        """Cut an array (n,) into the windows (rows, cols) that its pixels come from."""
        ends = np.cumsum([rows * cols for rows, cols in self.shapes])[:-1]
        return [p.reshape(shape) for p, shape in zip(np.split(of_pixels, ends), self.shapes, strict=True)]

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
    windows = sample_windows(layout.shape)
    values, usable, sides = [], [], []
    for rows, cols in windows:
        block, valid = stored.read(rows, cols, bands)
        values.append(block.reshape(len(bands), -1))
        usable.append(np.isfinite(own.apply(block, valid)).reshape(len(bands), -1))
        y, x = np.arange(rows.start, rows.stop)[:, None], np.arange(cols.start, cols.stop)
        at = (y == 0) + 2 * (y == height - 1) + 4 * (x == 0) + 8 * (x == width - 1)
        sides.append(at.astype(np.uint8).ravel())
    return Sample(
        bands=tuple(bands),
        values=np.concatenate(values, axis=1),
        usable=np.concatenate(usable, axis=1),
        sides=np.concatenate(sides),
        shapes=tuple((rows.stop - rows.start, cols.stop - cols.start) for rows, cols in windows),
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

    ``stored``, ``decoding``: the numbers, and what is known of them: mask and declared nodata.

    Returns
    -------
    decoding, sample, findings
        The decoding with what was found; a sample in which that is unusable; what was found, for people.
    """
    sample = sample_of(stored, decoding)
    findings: list[Finding] = []
    typical, whole = _typical_magnitude(sample), sample.usable
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
    for pixels in _filled_pixels(sample, whole):
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
    found = np.abs(sample.values[sample.usable & ~np.isin(sample.values, _sentinels(sample))])
    found = found[found > 0]
    return float(np.median(found)) if found.size else None


def _sentinels(sample: Sample) -> np.ndarray:
    """Return the sentinels that the stored type can hold, as it holds them."""
    kind = sample.values.dtype
    if kind.kind == "f":
        with np.errstate(over="ignore"):
            return np.asarray(SENTINELS, dtype=kind)
    limits = np.iinfo(kind)
    return np.array([n for n in SENTINELS if n == int(n) and limits.min <= n <= limits.max], dtype=kind)


def _impossible_sentinels(sample: Sample) -> list[float]:
    """List the sentinels that repeat and that lie far outside of what the bands that hold them hold besides."""
    numbers = _sentinels(sample)
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


def _filled_pixels(sample: Sample, declared: np.ndarray) -> list[np.ndarray]:
    """Find the groups of pixels (bool, n) that hold one spectrum that is fill and are not known to be throughout.

    ``declared`` (band, n): what is usable by what the file declares, sentinels among it: a part of the bands may hold
    one, the others 0.
    """
    informative = np.array([_varies(v[u]) for v, u in zip(sample.values, sample.usable, strict=True)], dtype=bool)
    if not informative.any() or (sample.values.dtype.itemsize == 1 and sample.values.shape[0] < FEW_BANDS):
        return []
    values = sample.values[informative]
    clean, usable = sample.usable[informative].all(axis=0), declared[informative].all(axis=0)
    usable &= sample.usable[informative].any(axis=0)
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
        others = values[:, clean & ~pixels & ~taken].astype(np.float64)
        numbers = columns[first[spectrum]].astype(np.float64)
        if not others.shape[1] or not _is_fill(numbers, others, pixels, sample):
            continue
        spread = np.ptp(np.quantile(others, (0.01, 0.99), axis=1), axis=0)[:, None]
        distance = np.full(sample.count, np.nan)
        distance[clean] = (np.abs(values[:, clean] - numbers[:, None]) / np.maximum(spread, TINY)).mean(axis=0)
        if not (_is_near_zero(numbers, others) and _is_shore(distance, pixels, sample)):
            found.append(pixels)
            taken |= pixels
    return found


def _varies(values: np.ndarray) -> bool:
    return bool(values.size and values.min() != values.max())


def _is_fill(spectrum: np.ndarray, others: np.ndarray, pixels: np.ndarray, sample: Sample) -> bool:
    """Judge a repeated spectrum (band,) by the other pixels' values (band, n) and by where its pixels lie."""
    kind, bands = sample.values.dtype, len(spectrum)
    touched = [int(side) for side in np.unique(sample.sides[pixels])]
    at_corner = any(side & 3 and side & 12 for side in touched)
    reached = sum(any(side & one for side in touched) for one in SIDES)
    if not at_corner and (bands < FEW_BANDS or reached < FEWEST_SIDES):
        return False
    lonely = (others == spectrum[:, None]).sum(axis=1) <= CROWDED * pixels.sum()
    if kind.itemsize == 1:  # 0 is an ordinary shadow in bytes
        return bool(at_corner and lonely.all() and (spectrum == 0).all() and pixels.mean() > 10 * LEAST_REPEATED)
    low, high = np.quantile(others, (0.01, 0.99), axis=1)
    below, above = spectrum <= low, spectrum >= high
    one_number = bool(np.ptp(spectrum) == 0)
    # bands have noise below 0: one number in many bands, or one that stands nowhere else, is fill for all that
    telling = one_number and spectrum[0] <= 0 and (bands > MANY_BANDS or bool(lonely.all()))
    if np.mean(below | above) < EXTREME_IN and not telling:
        return False
    # saturated roofs and snow end at any number but the largest that the type holds
    if np.mean(above & ~below) > EXTREME_IN and not (kind.kind in "iu" and spectrum[0] in (32_767, 65_535)):
        return False
    known = bool(np.isin(spectrum, [0, *_sentinels(sample)]).all())
    return bool(np.mean(lonely) >= GAP_IN) and (known or not _is_near_zero(spectrum, others))


def _is_near_zero(spectrum: np.ndarray, others: np.ndarray) -> bool:
    """Tell whether a spectrum (band,) is what dark water, or noise over it, can be among others (band, n)."""
    return bool(np.mean(np.abs(spectrum) <= NEGLIGIBLE * np.median(np.abs(others), axis=1)) > EXTREME_IN)


def _is_shore(distance: np.ndarray, pixels: np.ndarray, sample: Sample) -> bool:
    """Tell whether the repeated pixels (bool, n) are water: values rise from them, or noise stands among them.

    ``distance`` (n,) is how far a pixel lies from the repeated spectrum, in parts of the bands' ranges; NaN = unusable.
    """
    from scipy import ndimage  # few files come so far, and it takes long to import

    near, far, specks = [], [], 0
    for own, away in zip(sample.parts(pixels), sample.parts(distance), strict=True):
        if not own.any():
            continue
        first, second, third = (ndimage.binary_dilation(own, EIGHT, n) for n in (1, 2, 3))
        near.append(away[first & ~own])
        far.append(away[third & ~second])
        beside = ndimage.convolve(own.astype(np.uint8), EIGHT.astype(np.uint8), mode="constant")
        specks += int((~own & np.isfinite(away) & (beside >= ENCLOSED)).sum())
    close, remote = (found[np.isfinite(found)] for found in (np.concatenate(near), np.concatenate(far)))
    rises = min(close.size, remote.size) >= FEWEST_PAIRS and np.median(close) < RISING * np.median(remote)
    return bool(rises or specks >= FEWEST_SPECKS)


def _whole_spectrum(stored: Stored, sample: Sample, pixels: np.ndarray) -> np.ndarray:
    """Read the spectrum of filled pixels in all bands; NaN where a band does not hold one number there."""
    if len(sample.bands) == stored.layout.count:
        return _constant(sample.values[:, pixels])
    parts = sample.parts(pixels)
    fullest = int(np.argmax([part.sum() for part in parts]))
    block, _ = stored.read(*sample_windows(stored.layout.shape)[fullest])
    return _constant(block[:, parts[fullest]])


def _constant(values: np.ndarray) -> np.ndarray:
    """Return the number of each band (band, n) → (band,); NaN where it is not one."""
    numbers = values[:, 0].astype(np.float64)
    with np.errstate(invalid="ignore"):
        numbers[(values != values[:, :1]).any(axis=1)] = np.nan
    return numbers
