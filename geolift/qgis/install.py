"""Putting the QGIS plugin in place: which folders QGIS keeps plugins in, and what its forms are to offer."""

from __future__ import annotations

import configparser
import io
import json
import os
import shutil
import sys
import types
import typing
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BeforeValidator
from pydantic_core import PydanticUndefined

from geolift.errors import InputError, ResourceError
from geolift.provenance.sidecar import software_versions
from geolift.runtime.whole_files import write_whole
from geolift.settings import ApplySettings, EvaluateSettings, FuseSettings, MosaicSettings, PairSettings, Settings
from geolift.srf import list_sensors

NAME = "geolift"
SOURCE = Path(__file__).parent / "plugin"
# Names that stand for a family; which spacecraft it was is found in the file.
FAMILIES = ("sentinel2", "planetscope", "pleiades", "rgb")
FORMS: dict[str, type[Settings] | None] = {
    "fuse": FuseSettings,
    "check": PairSettings,
    "apply": ApplySettings,
    "evaluate": EvaluateSettings,
    "spectra": None,
    "mosaic": MosaicSettings,
    "info": None,
}
# What QGIS decides itself, or what concerns a terminal.
NOT_IN_FORMS = {"overwrite", "resume", "scheduler"}
HELP = {
    "fuse": "<p>Fuses a hyperspectral image (HSI) with a multispectral one (MSI): all the bands of the first, at the "
    "pixels of the second, on its grid.</p>"
    "<p>Name the sensor that took the MSI. Where the file does not tell which of its bands is which, say so: "
    "B02,B03,B04,B08.</p>"
    "<p>The log tells what was assumed and what looks wrong; <b>Check a pair</b> looks for that alone. A file .json "
    "beside the result tells everything about the run.</p>",
    "check": "<p>Looks for the mistakes that make a plausible, wrong result: scale, offset, band order, sensor, shift, "
    "clouds, change. The finding appears in the log, with the option that mends it.</p>",
    "apply": "<p>Applies a trained model to an MSI of its sensor: another date, the next tile. Bands that do not match "
    "are refused.</p>",
    "evaluate": "<p>Measures a product against its reference: RMSE, PSNR, SSIM, UIQI, ERGAS, SAM, over the pixels "
    "valid in both.</p>",
    "spectra": "<p>Writes the spectra of products at points and in polygons: HSI, MSI and product beside each other, "
    "with the standard error and the marks where Fuse wrote them. The suffix .sli makes an ENVI spectral library.</p>",
    "mosaic": "<p>Puts products of one grid and the same bands together; where they overlap they fade into each "
    "other.</p>",
    "info": "<p>Tells in the log what geolift understands of a file: grid, scale, nodata, wavelengths, bad bands, "
    "sensor.</p>",
}
FILTERS = {"save_model": "Models (*.safetensors)", "report": "HTML files (*.html)"}


@dataclass(frozen=True)
class Profile:
    """One user profile of QGIS: its name, its folder, and the major version that made it."""

    name: str
    folder: Path
    major: int

    @property
    def plugin(self) -> Path:
        """Where the plugin goes."""
        return self.folder / "python" / "plugins" / NAME

    @property
    def settings_file(self) -> Path:
        """The file in which QGIS keeps which plugins are switched on."""
        return self.folder / "QGIS" / f"QGIS{self.major}.ini"


def data_folders(environment: Mapping[str, str], home: Path, platform: str = sys.platform) -> list[Path]:
    """Return the folders in which QGIS may keep its profiles on this system, the usual one first."""
    custom = environment.get("QGIS_CUSTOM_CONFIG_PATH")
    if custom:
        return [Path(custom)]
    if platform == "win32":
        base = Path(environment.get("APPDATA", home / "AppData" / "Roaming"))
        return [base / "QGIS" / "QGIS3", base / "QGIS" / "QGIS4"]
    if platform == "darwin":
        base = home / "Library" / "Application Support"
        return [base / "QGIS" / "QGIS3", base / "QGIS" / "QGIS4"]
    base = Path(environment.get("XDG_DATA_HOME") or home / ".local" / "share")
    flatpak = home / ".var" / "app" / "org.qgis.qgis" / "data"
    return [root / "QGIS" / version for root in (base, flatpak) for version in ("QGIS3", "QGIS4")]


def find_profiles(name: str | None, folders: list[Path], *, given: bool = False) -> list[Profile]:
    """Return the profiles to install into: of every QGIS that has one of that name (default: its own default).

    Where QGIS was never started, its first folder is taken: QGIS finds the plugin there when it starts.

    ``given``: the folders are what somebody typed, and not where QGIS keeps them. Raises InputError if a profile was
    named that no QGIS has, or a folder given that is none of QGIS's.
    """
    for folder in folders if given else []:
        _require_profiles_folder(folder)
    found = []
    for folder in folders:
        profiles = folder / "profiles"
        wanted = name or _default_profile(profiles)
        if (profiles / wanted).is_dir():
            found.append(Profile(wanted, profiles / wanted, _major(folder)))
    if found:
        return found
    if name is not None and name != "default":
        known = [p.name for folder in folders for p in sorted((folder / "profiles").glob("*")) if p.is_dir()]
        listed = ", ".join(known) or "none"
        raise InputError(f"--profile {name}: QGIS has no such profile in {folders[0] / 'profiles'}; it has {listed}")
    return [Profile("default", folders[0] / "profiles" / "default", _major(folders[0]))]


def _require_profiles_folder(folder: Path) -> None:
    """Refuse a folder in which QGIS keeps no profiles, and that is not one that it would make. Raises InputError."""
    if (folder / "profiles").is_dir() or folder.name in ("QGIS3", "QGIS4"):
        return
    inside = next((parent for parent in folder.parents if parent.name == "profiles"), None)
    hint = f" Pass {inside.parent}." if inside is not None else ""
    raise InputError(f"--profiles-path {folder}: holds no folder profiles, so QGIS would not find the plugin.{hint}")


def _default_profile(profiles: Path) -> str:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read(profiles / "profiles.ini", encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return "default"
    chosen = parser.get("core", "defaultProfile", fallback="default").strip('"')
    return chosen if (profiles / chosen).is_dir() else "default"


def _major(folder: Path) -> int:
    return 4 if folder.name == "QGIS4" else 3


def install(profile: Profile) -> Path:
    """Copy the plugin into a profile, tell it where geolift is, and switch it on.

    Raises ResourceError if the folder cannot be written.
    """
    new = profile.plugin.with_name(f".{NAME}.new")
    try:
        profile.plugin.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(SOURCE, new, ignore=shutil.ignore_patterns("__pycache__"))
        text = json.dumps(describe_commands(), indent=1, ensure_ascii=False)
        (new / "commands.json").write_text(text, encoding="utf-8")
        if profile.plugin.is_dir():
            shutil.rmtree(profile.plugin)
        new.replace(profile.plugin)
        _switch_on(profile.settings_file)
    except OSError as error:
        raise ResourceError(f"{profile.plugin}: cannot be written: {error.strerror or error}") from error
    return profile.plugin


def _switch_on(file: Path) -> None:
    """Add geolift=true to [PythonPlugins]; every other line stays as QGIS wrote it."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    heads = [i for i, line in enumerate(lines) if line.strip() == "[PythonPlugins]"]
    if not heads:
        lines += ["", "[PythonPlugins]", f"{NAME}=true"] if lines else ["[PythonPlugins]", f"{NAME}=true"]
    else:
        end = next((i for i in range(heads[0] + 1, len(lines)) if lines[i].startswith("[")), len(lines))
        section = [line for line in lines[heads[0] + 1 : end] if line.partition("=")[0].strip() != NAME]
        lines[heads[0] + 1 : end] = [f"{NAME}=true", *section]
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    part.replace(file)


# -- what the forms offer ---------------------------------------------------------------------------------------------


def describe_commands() -> dict[str, object]:
    """Return what the plugin's forms are built from: the command, the sensors, every option with its help."""
    commands = {}
    for command, model in FORMS.items():
        options = [] if model is None else _options(model)
        commands[command] = {"help": HELP[command], "options": options}
    return {"version": software_versions().get("geolift", ""), "command": own_command(), "commands": commands}


def own_command() -> list[str]:
    """Return how this geolift is started from anywhere."""
    beside = shutil.which("geolift", path=os.fspath(Path(sys.executable).parent))
    return [beside] if beside else [sys.executable, "-m", "geolift"]


def _options(model: type[Settings]) -> list[dict[str, object]]:
    # The sensor first: it is what everybody has to say. What only one method has comes last.
    offered = (name for name in model.model_fields if name not in NOT_IN_FORMS)
    names = sorted(offered, key=lambda name: (name != "sensor", name == "abundances"))
    return [_option(name, model.model_fields[name]) for name in names]


def _option(name: str, field: Any) -> dict[str, object]:
    kind, choices = _kind(name, field.annotation)
    default = None if field.default is PydanticUndefined else field.default
    if isinstance(default, tuple):
        default = None
    option = {"name": name, "kind": kind, "default": default, "help": field.description or ""}
    if choices:
        option["choices"] = choices
    if kind == "new file":
        option["filter"] = FILTERS.get(name, "Files (*.*)")
    return option


def _kind(name: str, annotation: Any) -> tuple[str, list[str]]:
    """Return which field of a form suits an option, and the choices of a drop-down."""
    if name == "sensor":
        return "choice", [*FAMILIES, *list_sensors()]
    kinds = FuseSettings.side_products()
    if name in kinds:
        return ("new raster" if kinds[name] == "raster" else "new file"), []
    if name == "bounds":
        return "extent", []
    if name.endswith("_crs"):
        return "crs", []
    parts = set(_parts(annotation)) - {type(None)}
    literals = [part for part in parts if typing.get_origin(part) is Literal]
    if literals and len(parts) == 1:
        return "choice", [str(choice) for choice in typing.get_args(literals[0])]
    for kind, word in ((bool, "boolean"), (int, "integer"), (float, "number"), (Path, "file")):
        if parts == {kind}:
            return word, []
    return "text", []


def _parts(annotation: Any) -> typing.Iterator[Any]:
    """Yield the members of a union, Annotated taken off."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        # What a validator reads first ("2GB", "1-60,70") is text to a form.
        bare, *rules = typing.get_args(annotation)
        yield from (str,) if any(isinstance(rule, BeforeValidator) for rule in rules) else _parts(bare)
    elif origin in (typing.Union, types.UnionType):
        for part in typing.get_args(annotation):
            yield from _parts(part)
    else:
        yield annotation


# -- the plugin as the plugin repository wants it --------------------------------------------------------------------


def write_zip(path: Path) -> Path:
    """Write the plugin as a ZIP for QGIS's own installer.

    It looks for the command by itself; its forms offer what this geolift can do. Raises ResourceError if it cannot be
    written.
    """
    stamp = (2020, 1, 1, 0, 0, 0)  # the same content makes the same file
    portable = describe_commands() | {"command": []}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(SOURCE.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                name = f"{NAME}/{file.relative_to(SOURCE).as_posix()}"
                archive.writestr(zipfile.ZipInfo(name, stamp), file.read_bytes())
        text = json.dumps(portable, indent=1, ensure_ascii=False)
        archive.writestr(zipfile.ZipInfo(f"{NAME}/commands.json", stamp), text)
    write_whole(path, content.getvalue(), "the plugin")
    return path
