"""Which format an output gets: its suffix says so, and `--of` may not say otherwise."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import rasterio

from geolift.errors import UsageError
from geolift.settings import WritingSettings

SUFFIXES = {"GTiff": ".tif", "COG": ".tif", "ENVI": ".img", "Zarr": ".zarr"}
"""What an output without a name of its own gets."""

TIFF = (".tif", ".tiff")
ENVI = {".img": None, ".dat": None, ".bsq": "BSQ", ".bil": "BIL", ".bip": "BIP"}
"""Suffix → interleave; None where the suffix leaves it open."""
LARGEST_COG_BLOCK = 2**25
"""Bytes, decoded: a viewer reads a whole one to show a pixel, and the COG driver holds several."""
COPIED_BLOCKS, COPIED_BYTES_PER_BAND = 8, 600_000
FITTING = {"GTiff": TIFF, "COG": TIFF, "ENVI": tuple(ENVI), "Zarr": (".zarr",)}

Writing = TypeVar("Writing", bound=WritingSettings)


def is_raster(path: Path) -> bool:
    """Tell whether a name is that of a raster that geolift writes."""
    return any(path.suffix.lower() in suffixes for suffixes in FITTING.values())


def is_envi(path: Path) -> bool:
    """Tell whether a name is that of an ENVI raster."""
    return path.suffix.lower() in ENVI


def image_of_header(path: Path) -> Path:
    """Return the image that an ENVI header stands for: the one beside it, or a new .img; other names as they are."""
    if path.suffix.lower() != ".hdr":
        return path
    there = (path.with_suffix(suffix) for suffix in ENVI)
    return next((image for image in there if image.exists()), path.with_suffix(".img"))


def format_of(path: Path) -> str:
    """Return the format that a suffix stands for. Raises UsageError if it stands for none."""
    suffix = path.suffix.lower()
    found = next((name for name, suffixes in FITTING.items() if suffix in suffixes), None)
    if found is None:
        known = ", ".join(f"{' '.join(FITTING[name])} ({name})" for name in ("GTiff", "ENVI", "Zarr"))
        said = f"the suffix {path.suffix}" if path.suffix else "no suffix"
        raise UsageError(f"{path}: {said} tells no format; there are {known}")
    return found


def settled_output(path: Path, settings: Writing) -> tuple[Path, Writing]:
    """Return an output's name, and the settings with the format and the interleave that its suffix stands for.

    Raises UsageError if the suffix is none of a format that is written, or contradicts ``--of`` or ``--co INTERLEAVE``.
    """
    path = image_of_header(path)
    said = settings.of if "of" in settings.model_fields_set else None
    if said is not None and path.suffix.lower() not in FITTING[said]:
        raise UsageError(f"{path}: --of {said} goes with the suffix {' or '.join(FITTING[said])}")
    given = settings.creation_options.get("INTERLEAVE")
    interleave = ENVI.get(path.suffix.lower())
    if interleave is not None and given not in (None, interleave):
        raise UsageError(f"{path}: --co INTERLEAVE={given} does not go with the suffix {path.suffix}")
    return path, _with_format(path, settings, said or format_of(path))


def settled_beside(path: Path, settings: Writing) -> Writing:
    """Return the settings of a side product: like the output's where its suffix allows that, else by its suffix.

    Raises UsageError if the suffix is none of a format that is written.
    """
    if path.suffix.lower() not in FITTING[settings.of]:
        return _with_format(path, settings.model_copy(update={"co": ()}), format_of(path))
    others = tuple(option for option in settings.co if not option.upper().startswith("INTERLEAVE="))
    own = ENVI.get(path.suffix.lower()) is not None
    return _with_format(path, settings.model_copy(update={"co": others}) if own else settings, settings.of)


def _with_format(path: Path, settings: Writing, of: str) -> Writing:
    interleave = ENVI.get(path.suffix.lower())
    says = interleave is not None and "INTERLEAVE" not in settings.creation_options
    co = (*settings.co, f"INTERLEAVE={interleave}") if says else settings.co
    return settings.model_copy(update={"of": of, "co": co})


def require_packages(of: str) -> None:
    """Refuse a format whose package is not installed. Raises UsageError."""
    if of == "Zarr" and find_spec("zarr") is None:
        raise UsageError("--of Zarr needs the package zarr: pip install 'geolift[zarr]'")


def cog_block(settings: WritingSettings, bands: int, itemsize: int) -> int:
    """Return the edge of a COG's blocks, which hold all bands: 512 where that leaves them small, or what is asked."""
    asked = settings.creation_options.get("BLOCKSIZE", "")
    if asked.isdecimal():
        return int(asked)
    return next((edge for edge in (512, 256) if edge**2 * bands * itemsize <= LARGEST_COG_BLOCK), 128)


def copying_bytes(settings: WritingSettings, bands: int, itemsize: int) -> int:
    """Return what making a COG of the finished file takes: it does not grow with the scene (GDAL 3.10, two threads)."""
    if settings.of != "COG":
        return 0
    return COPIED_BLOCKS * cog_block(settings, bands, itemsize) ** 2 * bands * itemsize + COPIED_BYTES_PER_BAND * bands


def ignored_options(settings: WritingSettings, gdal: str = rasterio.__gdal_version__) -> list[str]:
    """Return a sentence for each creation option that this GDAL does not know, and so passes over in silence."""
    version = tuple(int(part) for part in gdal.split(".")[:2])
    if settings.of == "COG" and "INTERLEAVE" in settings.creation_options and version < (3, 11):
        return [f"--co INTERLEAVE is ignored for COG by GDAL {gdal}, which interleaves by pixel; GDAL 3.11 knows it"]
    return []


def require_tiff(path: Path, option: str) -> None:
    """Refuse another suffix where only a GeoTIFF is written. Raises UsageError."""
    if path.suffix.lower() not in TIFF:
        raise UsageError(f"{option} {path}: is written as GeoTIFF; its suffix is {' or '.join(TIFF)}")
