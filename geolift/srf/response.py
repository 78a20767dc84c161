"""The spectral responses of one sensor, and what they make of hyperspectral bands."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geolift.errors import InputError
from geolift.srf.sensors import library_text, resolve_sensor
from geolift.srf.table import read_table
from geolift.srf.weights import SrfWeights, trapezoid_weights, weigh

_MICROMETRES_BELOW = 100.0


@dataclass(frozen=True, eq=False, kw_only=True)
class SpectralResponse:
    """The relative spectral response of the bands of a multispectral sensor.

    Attributes
    ----------
    sensor : str
        Name of the sensor (its file's name in the library).
    title : str
        Name for people.
    band_names : tuple of str
        One name per band.
    wavelength_nm : array (n,)
        Strictly increasing wavelengths in nanometres.
    response : array (n, bands)
        Relative response, zero or more, any peak; linear between the wavelengths, zero outside.
    approximated : bool
        True where the curves are drawn from centre and width only.
    source : str
        The document the curves stem from.
    orders : mapping
        Number of bands of a usual product to the names of its bands, in the order of its file.
    default_count : int or None
        The product taken when no file tells: a key of `orders`.
    gsd_m : mapping
        Ground sampling distance of each band in metres, where it is known.
    common_names : mapping
        Names that catalogues give to the bands (``red``, ``nir08``).

    Raises
    ------
    InputError
        At construction, if shapes do not fit, names repeat, wavelengths do not increase or are not
        nanometres, or a response is negative, not finite or nowhere positive.
    """

    sensor: str
    title: str
    band_names: tuple[str, ...]
    wavelength_nm: NDArray[np.float64]
    response: NDArray[np.float64]
    approximated: bool = False
    source: str = ""
    orders: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    default_count: int | None = None
    gsd_m: Mapping[str, float] = field(default_factory=dict)
    common_names: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("wavelength_nm", "response"):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        object.__setattr__(self, "band_names", tuple(self.band_names))
        for name in ("orders", "gsd_m", "common_names"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        self._refuse_bad_names()
        self._refuse_bad_curves()

    def _refuse_bad_names(self) -> None:
        names = self.band_names
        if not names or "" in names or len({_band_key(name) for name in names}) < len(names):
            raise InputError(f"{self.sensor}: the band names ({', '.join(names)}) are empty or repeat.")
        for count, order in self.orders.items():
            if len(order) != count or not set(order) <= set(names):
                raise InputError(f"{self.sensor}: order {count}: {','.join(order)} does not fit its bands.")
        if not {*self.gsd_m, *self.common_names.values()} <= set(names):
            raise InputError(f"{self.sensor}: gsd_m or common_names name bands that are not there.")
        if self.default_count is not None and self.default_count not in self.orders:
            raise InputError(f"{self.sensor}: the default of {self.default_count} bands has no order.")

    def _refuse_bad_curves(self) -> None:
        wavelength_nm, response = self.wavelength_nm, self.response
        if wavelength_nm.ndim != 1 or response.shape != (wavelength_nm.size, len(self.band_names)):
            raise InputError(
                f"{self.sensor}: responses of shape {response.shape} for {wavelength_nm.size} "
                f"wavelengths and {len(self.band_names)} bands; one per wavelength and band is expected."
            )
        if wavelength_nm.size < 2 or not np.isfinite(wavelength_nm).all() or (np.diff(wavelength_nm) <= 0).any():
            raise InputError(f"{self.sensor}: two or more wavelengths, increasing and each once, are needed.")
        if wavelength_nm[0] <= 0 or wavelength_nm[-1] < _MICROMETRES_BELOW:
            raise InputError(
                f"{self.sensor}: wavelengths from {wavelength_nm[0]:g} to {wavelength_nm[-1]:g} are not "
                "nanometres; in a table in micrometres, name the column wavelength_um."
            )
        if not np.isfinite(response).all() or (response < 0).any():
            raise InputError(f"{self.sensor}: each response must be a finite number, zero or more.")
        dark = [name for name, peak in zip(self.band_names, response.max(axis=0), strict=True) if peak == 0]
        if dark:
            raise InputError(f"{self.sensor}: {', '.join(dark)} responds at no wavelength.")

    @classmethod
    def from_library(cls, name: str) -> SpectralResponse:
        """Return a sensor of the library; any name that `resolve_sensor` knows will do.

        Raises
        ------
        InputError
            If nothing has that name, or it fits several sensors that differ too much to assume one.

        Examples
        --------
        >>> s2 = SpectralResponse.from_library("sentinel-2a")
        >>> s2.select(["B02", "B12"]).centres_nm.round().tolist()
        [493.0, 2202.0]
        """
        return _of_library(resolve_sensor(name).sensor_id)

    @classmethod
    def from_csv(cls, path: str | Path) -> SpectralResponse:
        """Read a table ``wavelength_nm,Band1,Band2,…``; empty cells are 0, ``# key: value`` lines may lead.

        Raises
        ------
        InputError
            If the file cannot be read or does not hold such a table; the message names the line.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError as err:
            raise InputError(f"{path}: no such file.") from err
        except (OSError, UnicodeDecodeError) as err:
            raise InputError(f"{path}: cannot be read as a text table ({err}).") from err
        return _read(text, path.stem, str(path))

    def select(self, names: Sequence[str]) -> SpectralResponse:
        """Return the bands of these names, in this order.

        Case, leading zeros (``B2`` is ``B02``) and punctuation do not count; catalogue names (``red``,
        ``nir08``) will do where the library has them.

        Raises
        ------
        InputError
            If no name is given, or a name is unknown or repeats.
        """
        columns = [column for name in names if (column := self._column_of(name)) is not None]
        if not columns or len(columns) < len(names):
            unknown = [name for name in names if self._column_of(name) is None]
            raise InputError(
                f"{self.sensor} has no band {', '.join(unknown) or '(none was named)'}; "
                f"its bands are {', '.join(self.band_names)}."
            )
        if len(set(columns)) < len(columns):
            raise InputError(f"{self.sensor}: {', '.join(names)} name a band twice; each band can be used once.")
        chosen = tuple(self.band_names[column] for column in columns)
        return replace(
            self,
            band_names=chosen,
            response=self.response[:, columns],
            orders={len(chosen): chosen},
            default_count=None,
            gsd_m={name: self.gsd_m[name] for name in chosen if name in self.gsd_m},
            common_names={common: name for common, name in self.common_names.items() if name in chosen},
        )

    def match_names(self, labels: Sequence[str | None]) -> tuple[str, ...] | None:
        """Return the bands that a file's own band labels mean; None unless each label means another band.

        >>> SpectralResponse.from_library("sentinel-2a").match_names(["B2, central wavelength 490 nm", "B8A"])
        ('B02', 'B8A')
        """
        found: list[str] = []
        for label in labels:
            first_word = re.split(r"[\s,;:(/]", (label or "").strip())[0]
            column = self._column_of(label or "")
            column = self._column_of(first_word) if column is None else column
            if column is None or self.band_names[column] in found:
                return None
            found.append(self.band_names[column])
        return tuple(found) or None

    def order_for(self, count: int) -> tuple[str, ...]:
        """Return the bands of the sensor's usual product of `count` bands, in the order of its file.

        Raises
        ------
        InputError
            If there is no such product; the message lists those there are.
        """
        if count in self.orders:
            return self.orders[count]
        choices = "; ".join(f"{n} = {','.join(order)}" for n, order in sorted(self.orders.items()))
        raise InputError(
            f"{self.sensor} has no usual product of {count} band{'s' * (count != 1)}. Known: {choices}. "
            "Name the file's bands with --msi-bands."
        )

    @property
    def default_bands(self) -> tuple[str, ...]:
        """The bands to take when no file tells."""
        return self.band_names if self.default_count is None else self.orders[self.default_count]

    @property
    def centres_nm(self) -> NDArray[np.float64]:
        """Mean wavelength of each band in nm, weighted by its response (bands,)."""
        density = trapezoid_weights(self.wavelength_nm)[:, None] * self.response
        centres: NDArray[np.float64] = self.wavelength_nm @ density / density.sum(axis=0)
        return centres

    @property
    def fwhm_nm(self) -> NDArray[np.float64]:
        """Distance in nm between the outermost wavelengths at half of each band's peak (bands,)."""
        return np.array([_full_width(self.wavelength_nm, column) for column in self.response.T])

    def weights(
        self, centres_nm: ArrayLike, fwhm_nm: ArrayLike | None = None, good: ArrayLike | None = None
    ) -> SrfWeights:
        """Return the weights of hyperspectral bands for each of this sensor's bands; see `geolift.srf.weights.weigh`.

        Parameters
        ----------
        centres_nm : array (HSI bands,)
            Band centres in nm, in any order; NaN only at bad bands.
        fwhm_nm : array (HSI bands,), optional
            FWHM in nm; where missing, NaN or not positive, the band spacing is taken (and flagged).
        good : bool array (HSI bands,), optional
            False at bands that must not be used; all good by default.

        Raises
        ------
        InputError
            If the arrays do not fit each other or no MSI band is covered.

        Examples
        --------
        >>> found = SpectralResponse.from_library("sentinel-2a").weights(np.arange(400, 1001, 5.0))
        >>> found.band_names[:3], list(found.dropped)
        (('B01', 'B02', 'B03'), ['B10', 'B11', 'B12'])
        >>> bool(np.allclose(found.weights.sum(axis=1), 1))
        True
        """
        return weigh(self.wavelength_nm, self.response, self.band_names, centres_nm, fwhm_nm, good)

    def _column_of(self, label: str) -> int | None:
        columns = {_band_key(name): column for column, name in enumerate(self.band_names)}
        common = {_band_key(alias): columns[_band_key(name)] for alias, name in self.common_names.items()}
        return {**common, **columns}.get(_band_key(label))


@cache
def _band_key(name: str) -> str:
    """Return what counts of a band's name: ``SR_B04`` and ``b4`` are one, ``Band_4`` is a mere number."""
    plain = re.sub(r"[^a-z0-9]", "", name.casefold())
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", re.sub(r"^sr(?=b[0-9])", "", plain))


def _full_width(wavelength_nm: NDArray[np.float64], response: NDArray[np.float64]) -> float:
    half = response.max() / 2
    first, last = np.flatnonzero(response >= half)[[0, -1]]
    ends = []
    for inner, outer in ((first, first - 1), (last, last + 1)):
        end = wavelength_nm[inner]
        if 0 <= outer < response.size:
            fraction = (response[inner] - half) / (response[inner] - response[outer])
            end += fraction * (wavelength_nm[outer] - wavelength_nm[inner])
        ends.append(end)
    return float(ends[1] - ends[0])


@cache
def _of_library(sensor_id: str) -> SpectralResponse:
    """Read a sensor once per process: the cross-sensor check asks for all of them, for every pair."""
    return _read(library_text(sensor_id), sensor_id, f"{sensor_id}.csv")


def _read(text: str, sensor: str, where: str) -> SpectralResponse:
    """Build a response from the text of a table; `where` names it in messages."""
    table = read_table(text, where)
    header = table.header
    try:
        return SpectralResponse(
            sensor=header.get("sensor", sensor),
            title=header.get("title", sensor),
            band_names=table.band_names,
            wavelength_nm=table.wavelength_nm,
            response=table.response,
            approximated=header.get("approximated", "no") == "yes",
            source=header.get("document", ""),
            orders={len(table.band_names): table.band_names} | table.orders(),
            default_count=int(header["default"]) if "default" in header else None,
            gsd_m={name: float(gsd) for name, gsd in table.pairs("gsd_m").items()},
            common_names=table.pairs("common_names"),
        )
    except ValueError as err:  # InputError is one
        raise InputError(f"{where}: {err}") from err
