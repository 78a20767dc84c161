"""geolift: all the bands of a hyperspectral image at the pixels of a multispectral one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from geolift import benchmark as benchmark
    from geolift.pipeline.application import apply
    from geolift.pipeline.export import write
    from geolift.pipeline.fusion import Fusion, fuse, prepare, train
    from geolift.pipeline.mosaicking import mosaic
    from geolift.pipeline.pair_check import coregister
    from geolift.pipeline.place_spectra import spectra
    from geolift.pipeline.wald import evaluate
    from geolift.readers import open_cube as open
    from geolift.srf import SpectralResponse

# Loaded when first used: torch and xarray stand behind most of them.
_HOME = {
    "apply": ("geolift.pipeline.application", "apply"),
    "coregister": ("geolift.pipeline.pair_check", "coregister"),
    "evaluate": ("geolift.pipeline.wald", "evaluate"),
    "fuse": ("geolift.pipeline.fusion", "fuse"),
    "prepare": ("geolift.pipeline.fusion", "prepare"),
    "Fusion": ("geolift.pipeline.fusion", "Fusion"),
    "mosaic": ("geolift.pipeline.mosaicking", "mosaic"),
    "open": ("geolift.readers", "open_cube"),
    "spectra": ("geolift.pipeline.place_spectra", "spectra"),
    "train": ("geolift.pipeline.fusion", "train"),
    "write": ("geolift.pipeline.export", "write"),
    "SpectralResponse": ("geolift.srf", "SpectralResponse"),
}

__all__ = [
    "Fusion", "SpectralResponse", "__version__", "apply", "coregister", "evaluate", "fuse", "mosaic", "open",
    "prepare", "spectra", "train", "write",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    import importlib

    if name == "__version__":
        from importlib.metadata import version

        return version("geolift")
    if name == "benchmark":
        return importlib.import_module("geolift.benchmark")
    if name in _HOME:
        module, attribute = _HOME[name]
        return getattr(importlib.import_module(module), attribute)
    raise AttributeError(f"module 'geolift' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "benchmark"})
