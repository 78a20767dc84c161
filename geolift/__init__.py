"""geolift: all the bands of a hyperspectral image at the pixels of a multispectral one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geolift import benchmark as benchmark
    from geolift.pair_check import coregister
    from geolift.pipeline import apply, fuse, train
    from geolift.readers import open_cube as open
    from geolift.srf import SpectralResponse
    from geolift.wald import evaluate

# Loaded when first used: torch and xarray stand behind most of them.
_HOME = {
    "apply": ("geolift.pipeline", "apply"),
    "coregister": ("geolift.pair_check", "coregister"),
    "evaluate": ("geolift.wald", "evaluate"),
    "fuse": ("geolift.pipeline", "fuse"),
    "open": ("geolift.readers", "open_cube"),
    "train": ("geolift.pipeline", "train"),
    "SpectralResponse": ("geolift.srf", "SpectralResponse"),
}

__all__ = ["SpectralResponse", "apply", "coregister", "evaluate", "fuse", "open", "train"]


def __getattr__(name: str) -> Any:
    import importlib

    if name == "benchmark":
        return importlib.import_module("geolift.benchmark")
    if name in _HOME:
        module, attribute = _HOME[name]
        return getattr(importlib.import_module(module), attribute)
    raise AttributeError(f"module 'geolift' has no attribute {name!r}")
