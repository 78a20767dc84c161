"""Damages metadata as programs and transfers do: words for numbers, lines lost, files cut, bytes flipped. Seeded."""

from __future__ import annotations

import json
import re
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree
from typing import Any

import h5py
import numpy as np
import product_files as products
import scipy.io
from scenes import make_pair, spectra_of
from test_20_readers import envi
from test_22_netcdf import COLS, NM, PLAIN, ROWS
from test_22_netcdf import save as save_netcdf
from test_22_packed import save_eopf
from test_22_stac import save

from geolift.errors import GeoliftError
from geolift.readers import open_cube
from geolift.readers.mat_scene import open_mat_scene

NONSENSE = (
    "", "abc", "nan", "-inf", "1e999", "1,5", "0", "-7", "99999999999999999999", "½", "0x1F", "None", "1e-400", " ",
)  # fmt: skip
NUMBER = re.compile(rb"-?\d+\.?\d*(?:[eE][-+]?\d+)?")
TEXT_SUFFIXES = {".hdr", ".xml", ".txt", ".json", ".vrt", ".csv"}
LONGEST_S = 30.0


@dataclass(frozen=True)
class Specimen:
    """A sound product: what is opened, and the files that may be damaged."""

    name: str
    opened: Path
    damaged: tuple[Path, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a damaged product: fine, told, refused; or a fault: traceback, silent, slow."""

    specimen: str
    damage: str
    verdict: str
    detail: str = ""

    @property
    def is_fault(self) -> bool:
        """Whether this must not happen."""
        return self.verdict in ("traceback", "silent", "slow")


def specimens(folder: Path) -> list[Specimen]:
    """Write one small product of each family."""
    values = spectra_of(np.linspace(420, 2300, 8), 12, 9)
    nm = ", ".join(f"{w:.3f}" for w in np.linspace(420, 2300, 8))
    header = f"wavelength units = Nanometers\nwavelength = {{{nm}}}\nbbl = {{1, 1, 1, 1, 1, 1, 1, 0}}\n"
    header += "data ignore value = -9999\nreflectance scale factor = 10000\n"
    (folder / "envi").mkdir(parents=True)
    counts = np.rint(values * 10_000).astype(np.int16)
    image = envi(folder / "envi" / "a.img", counts, header)
    pair = make_pair(folder / "tif")
    glt = np.arange(1, 7).reshape(2, 3)
    swath = np.random.default_rng(1).random((6, 6, 4)).astype(np.float32)
    (folder / "emit").mkdir()
    emit = folder / "emit" / "EMIT_L2A_RFL.nc"
    products.emit(emit, glt, glt * 0 + 1, swath, [5.0, 0.001, 0.0, 45.0, 0.0, -0.001], products.UTM33)
    mat = folder / "mat"
    mat.mkdir()
    scipy.io.savemat(mat / "a.mat", {"Y": np.random.default_rng(2).random((5, 16)), "nRow": 4, "nCol": 4})
    scipy.io.savemat(mat / "b.mat", {"data": np.random.default_rng(2).random((4, 4, 5))})
    roots = {
        "enmap": products.enmap(_new(folder / "enmap")),
        "desis": products.desis(_new(folder / "desis")),
        "sentinel2": products.sentinel2(_new(folder / "s2") / "S2A.SAFE"),
        "landsat": products.landsat(_new(folder / "landsat")),
        "hyperion": products.hyperion(_new(folder / "hyperion")),
        "planetscope": products.planetscope(_new(folder / "planet")),
        "prisma": products.prisma(_new(folder / "prisma") / "PRS_L2D.he5"),
        "tanager": products.tanager(_new(folder / "tanager") / "t_ortho_sr.h5"),
        "aviris": products.aviris(_new(folder / "aviris") / "AV3_RFL_ORT.nc"),
        "neon": products.neon(_new(folder / "neon") / "n.h5"),
        "cf": save_netcdf(_new(folder / "cf") / "a.nc", spectra_of(NM, ROWS, COLS), "byx", names=PLAIN),
        "stac": save(folder / "stac", values[:4], {"raster:scale": 1e-4, "raster:offset": -0.1}),
    }
    if find_spec("zarr"):
        fine = dict(zip(("b02", "b03", "b04", "b08"), values[:4], strict=True))
        roots["eopf"] = save_eopf(folder / "eopf" / "S2B_MSIL2A_20230601T100031.zarr", fine, 3)
    found = [
        Specimen("envi", image, (image.with_suffix(".hdr"), image)),
        Specimen("tif", pair.hsi, (pair.hsi,)),
        Specimen("emit", emit, (emit,)),
        Specimen("mat", mat / "a.mat", (mat / "a.mat",)),
        Specimen("mat3d", mat / "b.mat", (mat / "b.mat",)),
    ]
    for name, path in roots.items():
        base = path if path.is_dir() else path.parent
        text = tuple(sorted(f for f in base.rglob("*") if f.suffix.lower() in TEXT_SUFFIXES))
        found.append(Specimen(name, path, text or (path,)))
    return found


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _words(raw: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """Put a word in the place of one number."""
    places = list(NUMBER.finditer(raw))
    place = places[int(rng.integers(len(places)))]
    word = NONSENSE[int(rng.integers(len(NONSENSE)))]
    return raw[: place.start()] + word.encode() + raw[place.end() :], f"{place[0][:20]!r} → {word!r}"


def _lose_line(raw: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    lines = raw.splitlines(keepends=True)
    lost = int(rng.integers(len(lines)))
    return b"".join(lines[:lost] + lines[lost + 1 :]), f"line {lost + 1} lost: {lines[lost][:40]!r}"


def _cut(raw: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    length = int(rng.integers(len(raw)))
    return raw[:length], f"cut to {length} of {len(raw)} bytes"


def _flip(raw: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    content = bytearray(raw)
    place = int(rng.integers(len(raw)))
    content[place] = int(rng.integers(256))
    return bytes(content), f"byte {place} is {content[place]}"


def damage_text(file: Path, rng: np.random.Generator) -> tuple[str, bool]:
    """Damage a text file; tells how, and whether values may change without anyone being able to see it."""
    how = (_words, _words, _words, _lose_line, _cut, _flip)[int(rng.integers(6))]
    raw, told = how(file.read_bytes(), rng)
    file.write_bytes(raw)
    return told, how is _flip


def damage_hdf5(file: Path, rng: np.random.Generator) -> tuple[str, bool]:
    """Damage an attribute or a small dataset of an HDF5 file, or the file itself."""
    if rng.random() < 0.2:
        raw, told = (_cut, _flip)[int(rng.integers(2))](file.read_bytes(), rng)
        file.write_bytes(raw)
        return told, True
    with h5py.File(file, "r+") as handle:
        holders: list[Any] = [handle]
        handle.visititems(lambda _, item: holders.append(item))
        attributes = [(holder, key) for holder in holders for key in holder.attrs]
        small = [h.name for h in holders if isinstance(h, h5py.Dataset) and h.size < 40]
        value = (np.nan, "abc", "", np.empty(0), np.zeros((2, 2)), -1, 1e300, b"\xff\xfe", None)[int(rng.integers(9))]
        if attributes and rng.random() < 0.6:
            holder, key = attributes[int(rng.integers(len(attributes)))]
            if value is None:
                del holder.attrs[key]
            else:
                holder.attrs[key] = value
            return f"{holder.name}@{key} = {value!r}", False
        names = small or [h.name for h in holders if isinstance(h, h5py.Dataset)]
        name = names[int(rng.integers(len(names)))]
        del handle[name]
        if value is not None:
            handle[name] = value
        return f"{name} = {value!r}", False


def damage_binary(file: Path, rng: np.random.Generator) -> tuple[str, bool]:
    """Damage bytes, where nobody can tell a changed value from a measured one."""
    raw, told = (_cut, _flip)[int(rng.integers(2))](file.read_bytes(), rng)
    file.write_bytes(raw)
    return told, True


def _damage_of(file: Path) -> Callable[[Path, np.random.Generator], tuple[str, bool]]:
    if file.suffix.lower() in TEXT_SUFFIXES:
        return damage_text
    return damage_hdf5 if file.suffix.lower() in (".h5", ".he5", ".nc") else damage_binary


def _look(path: Path) -> tuple[np.ndarray, list[str]]:
    opener = open_mat_scene if path.suffix == ".mat" else open_cube
    cube = opener(path)  # type: ignore[operator]
    return cube.values, list(cube.attrs.get("warnings", []))


def damaged(folder: Path, count: int, seed: int = 0) -> Iterator[Outcome]:
    """Damage ``count`` copies of the specimens, in turn, and tell what became of each."""
    sound = folder / "sound"
    sound.mkdir()
    plain = {}
    originals = specimens(sound)
    for specimen in originals:
        plain[specimen.name] = _look(specimen.opened)
    for number in range(count):
        specimen = originals[number % len(originals)]
        rng = np.random.default_rng((seed, number))
        base = sound / specimen.opened.relative_to(sound).parts[0]
        copy = folder / f"copy{number}"
        copytree(base, copy)
        file = specimen.damaged[int(rng.integers(len(specimen.damaged)))]
        told, invisible = _damage_of(file)(copy / file.relative_to(base), rng)
        opened = copy / specimen.opened.relative_to(base)
        yield _outcome(specimen, opened, f"{file.name}: {told}", plain[specimen.name], invisible=invisible)


def _outcome(
    specimen: Specimen, opened: Path, damage: str, plain: tuple[np.ndarray, list[str]], *, invisible: bool
) -> Outcome:
    start = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values, notes = _look(opened)
    except GeoliftError as error:
        one_line = "\n" not in str(error)
        return Outcome(specimen.name, damage, "refused" if one_line else "traceback", str(error))
    except Exception as error:
        return Outcome(specimen.name, damage, "traceback", f"{type(error).__name__}: {error}")
    if time.monotonic() - start > LONGEST_S:
        return Outcome(specimen.name, damage, "slow")
    before, known = plain
    new = [text for text in notes if text.rpartition("/")[2] not in {t.rpartition("/")[2] for t in known}]
    if len(new) > 0:
        return Outcome(specimen.name, damage, "told", new[0])
    same = values.shape == before.shape and _close(values, before)
    return Outcome(specimen.name, damage, "fine" if same or invisible else "silent")


def _close(values: np.ndarray, before: np.ndarray) -> bool:
    """Tell whether values are the same to 1 %, and valid in the same places."""
    both = np.isfinite(values) & np.isfinite(before)
    return bool(
        (np.isfinite(values) == np.isfinite(before)).all() and np.allclose(values[both], before[both], rtol=0.01)
    )


def table(outcomes: list[Outcome]) -> str:
    """Count verdicts per family, and list the faults."""
    names = sorted({o.specimen for o in outcomes})
    verdicts = ("fine", "told", "refused", "silent", "slow", "traceback")
    lines = [f"{'':12}" + "".join(f"{v:>10}" for v in verdicts)]
    for name in names:
        own = [o.verdict for o in outcomes if o.specimen == name]
        lines.append(f"{name:12}" + "".join(f"{own.count(v):>10}" for v in verdicts))
    lines += [
        json.dumps([o.specimen, o.damage, o.verdict, o.detail], ensure_ascii=False) for o in outcomes if o.is_fault
    ]
    return "\n".join(lines)
