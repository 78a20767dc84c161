"""Which sensors the library knows, and what people call them."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypedDict, cast

from geolift.errors import InputError

_SENTINEL_2_BANDS = {f"b{number:02}" for number in range(1, 13)} | {"b8a"}


@dataclass(frozen=True)
class ResolvedSensor:
    """The library's name of a sensor, and how sure that is.

    Attributes
    ----------
    sensor_id : str
        Name of the sensor's file in the library.
    assumed : bool
        True where the name stood for several sensors and nothing told which one is meant.
    message : str
        One line for the user: empty where the name is the sensor's own.
    """

    sensor_id: str
    assumed: bool
    message: str


@dataclass(frozen=True, eq=False, kw_only=True)
class _Family:
    """A name that several sensors share, and what tells them apart."""

    names: tuple[str, ...]
    why: str
    default: str | None
    evidence: Mapping[str, re.Pattern[str]]
    by_count: Mapping[int, str]
    guess: bool
    hint: re.Pattern[str] | None

    @property
    def members(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.evidence, *self.by_count.values(), *filter(None, [self.default])]))

    def seen_in(self, evidence: str) -> tuple[str, ...]:
        return tuple(sensor for sensor, pattern in self.evidence.items() if pattern.search(evidence))


def list_sensors() -> tuple[str, ...]:
    """Return the names of all sensors of the library, sorted.

    >>> "sentinel-2a" in list_sensors()
    True
    """
    return _sensors_on_disk()


def sensor_names() -> tuple[str, ...]:
    """Return every name that `resolve_sensor` knows: the library's own, then families and aliases.

    >>> {"sentinel-2a", "sentinel2", "s2a"} <= set(sensor_names())
    True
    """
    families = [name for entry in _names()["family"] for name in entry["names"]]
    return tuple(dict.fromkeys([*list_sensors(), *families, *_names()["aliases"]]))


def library_text(sensor_id: str) -> str:
    """Return the text of one sensor's file. Raises InputError if the library has no sensor of exactly that name."""
    if sensor_id not in _sensors_on_disk():
        raise _unknown(sensor_id)
    text: str = _library_folder().joinpath(f"{sensor_id}.csv").read_text(encoding="utf-8")
    return text


def resolve_sensor(name: str, *, band_count: int | None = None, evidence: str = "") -> ResolvedSensor:
    """Find the sensor that a person means.

    Raises InputError if nothing has that name (close names are suggested), or if it fits several sensors that differ
    too much to assume one.

    Parameters
    ----------
    name : str
        What was typed; case, spaces, dots, hyphens, underscores and accents do not count.
    band_count : int, optional
        Number of bands of the file, for names that it decides (``planetscope``).
    evidence : str
        File name, folder or metadata text that may name the spacecraft (``S2B_MSIL2A_…``).

    Examples
    --------
    >>> resolve_sensor("S2A").sensor_id
    'sentinel-2a'
    >>> resolve_sensor("sentinel2", evidence="S2B_MSIL2A_20220724T100559").sensor_id
    'sentinel-2b'
    >>> resolve_sensor("sentinel2").assumed
    True
    """
    key = _key(name)
    exact = _exact_names().get(key)
    if exact is not None:
        return ResolvedSensor(exact, False, "")
    family = _families().get(key)
    if family is None:
        raise _unknown(name)
    seen = family.seen_in(evidence)
    if len(seen) == 1:
        return ResolvedSensor(seen[0], False, f"{name}: {seen[0]}, from the file's name or metadata")
    if band_count is not None and band_count in family.by_count:
        sensor = family.by_count[band_count]
        return ResolvedSensor(sensor, True, f"{name}: {sensor} assumed from {band_count} bands ({family.why})")
    if family.default is None:
        raise InputError(
            f"sensor {name!r}: {family.why}, and the file's name and metadata do not say which it is. "
            f"Pass --sensor with one of {', '.join(family.members)}."
        )
    others = ", ".join(member for member in family.members if member != family.default)
    way_out = f"; pass --sensor {others.replace(', ', ' or ')} if it is not" if others else ""
    return ResolvedSensor(family.default, True, f"{name}: {family.default} assumed ({family.why}){way_out}")


def twins_of(sensor_id: str) -> tuple[str, ...]:
    """Return the other spacecraft that carry the same instrument: those of a family any of which may be assumed.

    Examples
    --------
    >>> twins_of("sentinel-2b")
    ('sentinel-2a', 'sentinel-2c')
    >>> twins_of("ikonos-2")
    ()
    """
    alike = [family for family in _families().values() if family.default is not None and not family.by_count]
    near = {member for family in alike if sensor_id in family.members for member in family.members}
    return tuple(sorted(near - {sensor_id}))


def guess_sensor(evidence: str, band_names: Sequence[str | None], band_count: int) -> str | None:
    """Name the sensor of a file when the user named none, or None where the evidence is not strong.

    Parameters
    ----------
    evidence : str
        File name, folder or metadata text.
    band_names : sequence of str or None
        The file's own band names or descriptions.
    band_count : int
        Number of bands of the file.

    Returns
    -------
    str or None
        A name for `resolve_sensor`.

    Examples
    --------
    >>> guess_sensor("LC08_L2SP_204023_20200927_20201006_02_T1", [], 7)
    'landsat-8-oli'
    >>> guess_sensor("fields.tif", ["B02", "B03", "B04", "B8A"], 4)
    'sentinel2'
    >>> guess_sensor("fields.tif", ["Band_1", "Band_2"], 2) is None
    True
    """
    families = [family for family in dict.fromkeys(_families().values()) if family.guess]
    seen = {sensor for family in families for sensor in family.seen_in(evidence)}
    if not seen:
        seen = {family.names[0] for family in families if family.hint and family.hint.search(evidence)}
    if not seen:
        labels = {name.casefold() for name in band_names if name}
        if len(labels) > 2 and labels & {"b8a", "b08"} and labels <= _SENTINEL_2_BANDS:
            seen = {"sentinel2"}
        elif band_count == 8 and {"coastal_blue", "green_i", "yellow"} <= labels:
            seen = {"planetscope-psbsd"}
    return seen.pop() if len(seen) == 1 else None


def _key(name: str) -> str:
    plain = name.casefold().replace("é", "e").replace("µ", "u").replace("μ", "u").replace("ô", "o")
    return re.sub(r"[^a-z0-9+]", "", plain)


def _unknown(name: str) -> InputError:
    known = {**{key: key for key in _families()}, **_exact_names()}
    typed = _key(name)
    close = difflib.get_close_matches(typed, known, n=12, cutoff=0.6)
    close += [key for key in sorted(known) if len(typed) > 2 and (typed in key or (len(key) > 3 and key in typed))]
    sensors = list(dict.fromkeys(known[key] for key in close))[:4]
    hint = f" Close: {', '.join(sensors)}." if sensors else ""
    return InputError(
        f"unknown sensor {name!r}: the library has {len(list_sensors())} sensors.{hint} "
        "`geolift sensors` lists them; --srf FILE takes a table of your own."
    )


@cache
def _library_folder() -> Any:
    packaged = resources.files("geolift").joinpath("_srf_library")
    if packaged.is_dir():
        return packaged
    return Path(__file__).resolve().parent.parent.parent / "srf_library"


@cache
def _sensors_on_disk() -> tuple[str, ...]:
    folder = _library_folder()
    if not folder.is_dir():
        raise InputError(f"{folder}: the library of spectral responses is missing; install geolift again.")
    return tuple(sorted(entry.name[:-4] for entry in folder.iterdir() if entry.name.endswith(".csv")))


class _Names(TypedDict):
    """names.toml, which says what its tables mean."""

    aliases: dict[str, str]
    family: list[Mapping[str, Any]]


@cache
def _names() -> _Names:
    return cast(_Names, tomllib.loads(_library_folder().joinpath("names.toml").read_text(encoding="utf-8")))


@cache
def _exact_names() -> dict[str, str]:
    exact = {_key(alias): sensor for alias, sensor in _names()["aliases"].items()}
    return exact | {_key(sensor): sensor for sensor in list_sensors()}


@cache
def _families() -> dict[str, _Family]:
    families: dict[str, _Family] = {}
    for entry in _names()["family"]:
        family = _Family(
            names=tuple(entry["names"]),
            why=entry["why"],
            default=entry.get("default"),
            evidence=MappingProxyType(
                {sensor: re.compile(pattern, re.IGNORECASE) for sensor, pattern in entry["evidence"].items()}
            ),
            by_count=MappingProxyType({int(n): sensor for n, sensor in entry.get("by_count", {}).items()}),
            guess=bool(entry.get("guess", False)),
            hint=re.compile(entry["hint"], re.IGNORECASE) if "hint" in entry else None,
        )
        families.update({_key(name): family for name in family.names})
    return families
