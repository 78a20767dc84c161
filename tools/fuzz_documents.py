"""Damage documents and see that each is read, or refused in one line: no traceback, no hang.

    python tools/fuzz_documents.py --tries 2000 --seed 0

Kinds: the sidecar, a configuration and a manifest in TOML, a manifest, a wavelength table and a spectral response in
CSV, a model, a STAC item, an ENVI header, places in GeoJSON, and options as words. The damage is drawn from a seed, so
that a find can be repeated: ``--only KIND --seed N`` with the seed that is printed. Configurations and options are
those of every command; texts come in the encodings, line endings and separators that offices and editors save.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import copy
import io
import itertools
import json
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "helpers"))

from scenes import make_pair

from geolift.batch.manifest import read_manifest
from geolift.cli.options import _from_file, _validated
from geolift.errors import GeoliftError
from geolift.network.formula import Network
from geolift.network.model import SpectralModel, save_model
from geolift.pipeline.trained import load_trained
from geolift.provenance.record import read_record
from geolift.provenance.sidecar import dump_settings, settings_of_run, stac_item, write_json
from geolift.readers import envi_header, spectral_metadata
from geolift.readers.places import read_places
from geolift.readers.stac_item import read_item
from geolift.report import make_report
from geolift.settings import FuseSettings, commands
from geolift.settings.base import Settings
from geolift.srf import SpectralResponse

SECONDS = 60
COMMANDS = tuple(
    model for model in vars(commands).values() if isinstance(model, type) and model.__module__ == commands.__name__
)
ENCODINGS, SEPARATORS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252"), (",", ";", "\t", "|")
NASTY = (
    "null", "NaN", "-Infinity", "1e999", "-1", "0", "99999999999999999999", "true", '""', "[]", "{}", "[[[[]]]]",
    '"\\u0000"', '"../../../../etc/passwd"', "\x00", "\ufeff", "\r", ",,,,", ";", '"', "'", "=1+1", "\x1b[2J", "é",
    "\udcff", "1_0", "0x1F",
)  # fmt: skip

SHAPES: tuple[Any, ...] = (
    None, True, -1, 0, 1e308, float("nan"), float("inf"), 10**30, "", "x", "nan", "\x00", [], [None], {}, {"a": {}},
    [[1], 2],
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A document: what a sound one holds, its file name, and what reads it."""

    name: str
    sound: bytes
    read: Callable[[Path], object]


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Return a document with one to four damages."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data) + 1)
        length = draw.choice((1, 1, 2, 5, 30, 300))
        kind = draw.randrange(8)
        if kind == 0:
            data[at : at + length] = b""
        elif kind == 1:
            data[at:at] = bytes(draw.randrange(256) for _ in range(length))
        elif kind == 2:
            data[at : at + length] = bytes(byte ^ (1 << draw.randrange(8)) for byte in data[at : at + length])
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            data[at:at] = data[max(0, at - length) : at]
        else:
            data = bytearray(_other_word(bytes(data), draw))
    return bytes(data)


def reshaped(content: bytes, draw: random.Random) -> bytes:
    """Return a JSON document in which one to three values are of another kind, or gone."""
    document: Any = json.loads(content)
    for _ in range(draw.randint(1, 3)):
        node, steps = document, draw.randint(1, 6)
        while steps and isinstance(node, dict | list) and node:
            key = draw.choice(list(node)) if isinstance(node, dict) else draw.randrange(len(node))
            steps -= 1
            if steps == 0 or not isinstance(node[key], dict | list) or not node[key]:
                if draw.random() < 0.2:
                    del node[key]
                else:
                    node[key] = copy.deepcopy(draw.choice(SHAPES))
                break
            node = node[key]
    return json.dumps(document).encode()


def _other_word(content: bytes, draw: random.Random) -> bytes:
    """Put something nasty, or another word of the document, in the place of a word."""
    words = content.replace(b",", b" ").replace(b":", b" ").replace(b"\n", b" ").split()
    if not words:
        return content
    old = draw.choice(words)
    new = draw.choice(NASTY).encode("utf-8", "surrogateescape") if draw.random() < 0.7 else draw.choice(words)
    at = content.find(old, draw.randrange(len(content)))
    return content if at < 0 else content[:at] + new + content[at + len(old) :]


def _model(folder: Path) -> bytes:
    draw = np.random.default_rng(0)

    def numbers(*shape: int) -> np.ndarray:
        return draw.normal(size=shape).astype(np.float32)

    network = Network(
        weights=(numbers(6, 4),),
        biases=(numbers(6),),
        residuals=(-1,),
        slope=0.1,
        head=numbers(2, 6),
        skip=numbers(2, 4),
        basis=numbers(5, 2),
        offset=numbers(5),
    )
    facts = {
        "method": "auto", "sensor": "sentinel-2a", "quantity": "reflectance", "msi_bands": ["B02", "B03", "B04", "B08"],
        "scales": {"int16": 1e-4}, "hsi": {"names": list("abcde"), "wavelength_nm": [500.0, 600, 700, 800, 900],
        "fwhm_nm": [9.0] * 5, "good": [True] * 5},
    }  # fmt: skip
    save_model(folder / "m.safetensors", SpectralModel("auto", network, numbers(4), numbers(4)), facts)
    return (folder / "m.safetensors").read_bytes()


def _sidecar(folder: Path) -> bytes:
    from affine import Affine
    from odc.geo.geobox import GeoBox

    from geolift.datamodel.cube import Bands
    from geolift.datamodel.encoding import Encoding

    bands = Bands(tuple("ab"), np.array([500.0, 600.0]), np.full(2, 9.0), np.ones(2, bool))
    grid = GeoBox((3, 3), Affine(10, 0, 4e5, 0, -10, 5e6), "EPSG:32633")
    facts = {"settings": dump_settings(FuseSettings()), "inputs": {"hsi": {"href": "h.tif"}, "msi": {"href": "m.tif"}}}
    encoding = Encoding("int16", 1e-4, -32768.0)
    item = stac_item(folder / "p.tif", grid, bands, driver="GTiff", acquired=None, encoding=encoding, facts=facts)
    write_json(folder / "p.json", item)
    return (folder / "p.json").read_bytes()


def _configuration(path: Path, model: type[Settings] = FuseSettings) -> object:
    with click.Context(click.Command("fuse")):
        return _validated(model, _from_file(path, model))


def _options(path: Path, model: type[Settings] = FuseSettings) -> object:
    """Read lines NAME VALUE as a command line gives them."""
    words = [line.partition(" ") for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    return _validated(model, {name: value for name, _, value in words if name in model.model_fields})


def of_commands() -> Iterator[Kind]:
    """Give a configuration and a list of options for every command."""
    for model in COMMANDS:
        known = {name: value for name, value in dump_settings(model()).items() if isinstance(value, str | int | float)}
        known |= {name: value for name, value in map(str.split, OPTIONS.splitlines()) if name in model.model_fields}
        toml = "".join(f"{name} = {json.dumps(value)}\n" for name, value in known.items())
        lines = "".join(f"{name} {value}\n" for name, value in known.items())
        yield Kind(f"{model.__name__}.toml", toml.encode(), partial(_configuration, model=model))
        yield Kind(f"{model.__name__}.txt", lines.encode(), partial(_options, model=model))


def forms(kind: Kind) -> Iterator[Kind]:
    """Give a document in every encoding, line ending and, for tables, separator."""
    try:
        text = kind.sound.decode()
    except UnicodeDecodeError:
        yield kind
        return
    separators = SEPARATORS if kind.name.endswith(".csv") else (",",)
    for separator, newline, encoding in itertools.product(separators, ("\n", "\r\n", "\r"), ENCODINGS):
        other = text.replace(";", ",").replace(",", separator) if len(separators) > 1 else text
        with contextlib.suppress(UnicodeEncodeError):
            yield replace(kind, sound=other.replace("\n", newline).encode(encoding))


OPTIONS = (
    "memory 2GB\nbands 1-60,70-\nbounds 1,2,3,4\nof GTiff\nnodata -9999\ncoregister 1.5,-2\n"
    "threads 4\ntile_size 256\nhsi_scale 0.1\nmask auto\ndtype int16\nmsi_bands B02,B03\nseed 3\nmethod auto\n"
)


def kinds(folder: Path) -> list[Kind]:
    """Return every kind of document, each with a sound example."""
    make_pair(folder, rows=6, cols=6)
    item = {"type": "Feature", "stac_version": "1.0.0", "id": "a", "properties": {"datetime": "2024-01-01T00:00:00Z"},
            "assets": {"B02": {"href": "./msi.tif", "raster:bands": [{"scale": 1e-4, "nodata": 0}]}}}  # fmt: skip
    places = {"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {"name": "a"},
              "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [0, 1], [1, 1], [0, 0]]]}}]}  # fmt: skip
    toml = (
        'sensor = "sentinel-2a"\nbands = "1-60,70-"\n[[pair]]\n'
        'hsi = "hsi.tif"\nmsi = "msi.tif"\nout = "a.tif"\nseed = 3\n'
    )
    header = (
        "ENVI\nsamples = 6\nlines = 6\nbands = 2\ndata type = 2\ninterleave = bsq\n"
        "wavelength = {500, 600}\nfwhm = {9, 9}\n"
    )
    texts: dict[str, tuple[str, str, Callable[[Path], object]]] = {
        "config": ("c.toml", toml.partition("[[pair]]")[0], _configuration),
        "manifest.toml": ("m.toml", toml, read_manifest),
        "manifest.csv": ("m.csv", "hsi;msi;out;dtype\nh.tif;m.tif;a.tif;int16\nh2.tif;m.tif;b.tif;\n", read_manifest),
        "wavelengths": ("w.csv", "band,wavelength_nm,fwhm_nm,good\n1,500,9,1\n2,600,9,0\n3,700,9,1\n",
                        lambda path: spectral_metadata.from_table(path, 3, "h.tif", [])),
        "srf": ("s.csv", "wavelength_nm,B1,B2\n500,0,0\n510,1,0\n520,0,1\n530,0,0\n", SpectralResponse.from_csv),
        "stac": ("i.json", json.dumps(item, indent=1), lambda path: read_item(str(path))),
        "envi": ("e.hdr", header, envi_header.parse),
        "places": ("g.geojson", json.dumps(places), read_places),
        "options": ("o.txt", OPTIONS, _options),
    }  # fmt: skip
    found = [Kind(name, text.encode(), read) for name, (_, text, read) in texts.items()]
    files = {name: file for name, (file, _, _) in texts.items()}
    sidecar = _sidecar(folder)
    found += [Kind("sidecar", sidecar, lambda path: (read_record(path), settings_of_run(path)))]
    found += [Kind("model", _model(folder), load_trained), Kind("sidecar as config", sidecar, _configuration)]
    found += [Kind("report", sidecar, lambda path: make_report(path, path.with_suffix(".html")))]
    names: Mapping[str, str] = files | {
        "sidecar": "p.json", "model": "m.safetensors", "sidecar as config": "q.json", "report": "r.json"
    }  # fmt: skip
    return [Kind(names[kind.name], kind.sound, kind.read) for kind in found]


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise TimeoutError where a document is read for so long; POSIX only."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"read for more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring) if hasattr(signal, "SIGALRM") else None
    if before is not None:
        signal.alarm(seconds)
    try:
        yield
    finally:
        if before is not None:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)


def tried(kind: Kind, folder: Path, seed: int) -> str | None:
    """Read one damaged document; return what is wrong, None if it was read or refused in one or two lines."""
    path = folder / kind.name
    draw = random.Random(seed)
    is_json = path.suffix in (".json", ".geojson")
    path.write_bytes(reshaped(kind.sound, draw) if is_json and draw.random() < 0.7 else damaged(kind.sound, draw))
    try:
        with limited(SECONDS), warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            kind.read(path)
    except (GeoliftError, click.UsageError) as error:
        text = str(error) or error.__class__.__name__
        return f"says {text.count(chr(10)) + 1} lines" if text.count("\n") > 3 else None
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:80]} ({Path(where.filename).name}:{where.lineno})"
    finally:
        path.write_bytes(kind.sound)
    return None


def hunt(tries: int, seed: int, only: str = "") -> dict[str, list[int]]:
    """Try so many damaged documents; return what is wrong → the seeds that show it."""
    found: dict[str, list[int]] = collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = [kind for kind in (*kinds(folder), *of_commands()) if only in kind.name]
        rounds = itertools.zip_longest(*map(forms, base))
        chosen = [kind for some in rounds for kind in some if kind is not None]
        for number in range(tries):
            kind = chosen[number % len(chosen)]
            wrong = tried(kind, folder, seed + number)
            if wrong is not None:
                found[f"{kind.name}: {wrong}"].append(seed + number)
    return dict(found)


def main() -> int:
    """Hunt, and print what was found."""
    parser = argparse.ArgumentParser(description="Damage documents and see that each is read, or refused in one line.")
    parser.add_argument("--tries", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    given, started = parser.parse_args(), time.monotonic()
    found: Mapping[str, Any] = hunt(given.tries, given.seed, given.only)
    for wrong, seeds in found.items():
        print(f"{wrong}: {len(seeds)} times, first with seed {seeds[0]}")
    print(f"{given.tries} tries, {len(found)} kinds of problems, {time.monotonic() - started:.0f} s")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
