"""Arrays as pictures inside the page: data URIs of bounded size."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geolift.plotting import to_display

FloatArray = NDArray[np.float32]

LARGEST_JPEG_BYTES = 130_000
QUALITIES = (88, 78, 65, 50, 35)
EMPTY_RGB = (217, 217, 217)
FEW_PX = 260
"""Pictures of fewer pixels along their longest edge are kept without loss: JPEG would smear their pixels."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture with what to say below it; ``pixelated`` if its pixels are to stay visible squares."""

    uri: str
    caption: str
    width: int
    height: int
    pixelated: bool
    marks: tuple[tuple[float, float], ...] = ()


def colour_picture(rgb: FloatArray, limits: tuple[float, float], caption: str) -> Picture:
    """Show red, green, blue (3, y, x) between black and white ``limits``; invalid pixels are grey."""
    return as_picture(_on_grey(to_display(rgb, limits)), caption)


def value_picture(values: FloatArray, limits: tuple[float, float], caption: str, palette: str = "viridis") -> Picture:
    """Show one quantity (y, x) on a palette; invalid pixels are grey."""
    from matplotlib import colormaps

    scaled = (values - limits[0]) / max(limits[1] - limits[0], 1e-12)
    rgba = colormaps[palette](np.clip(np.nan_to_num(scaled), 0, 1))
    rgba[..., 3] = np.isfinite(values)
    return as_picture(_on_grey(rgba), caption)


def palette_colours(palette: str = "viridis", count: int = 9) -> list[str]:
    """Return colours along a palette as #rrggbb, for a legend."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps[palette](share)) for share in np.linspace(0, 1, count)]


def as_picture(pixels: NDArray[np.uint8], caption: str, *, lossless: bool = True) -> Picture:
    """Encode (y, x, 3) bytes: small pictures as PNG, unless they may lose, others as JPEG of bounded size."""
    height, width = pixels.shape[:2]
    small = lossless and max(height, width) <= FEW_PX
    kind, data = ("png", _encoded(pixels, "png")) if small else ("jpeg", _jpeg(pixels))
    uri = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return Picture(uri=uri, caption=caption, width=width, height=height, pixelated=small)


def _on_grey(rgba: NDArray[np.floating]) -> NDArray[np.uint8]:
    alpha = rgba[..., 3:]
    mixed = rgba[..., :3] * alpha + np.asarray(EMPTY_RGB) / 255 * (1 - alpha)
    return np.asarray(np.rint(mixed * 255), np.uint8)


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    data = b""
    for quality in QUALITIES:
        data = _encoded(pixels, "jpeg", quality)
        if len(data) <= LARGEST_JPEG_BYTES:
            break
    return data


def _encoded(pixels: NDArray[np.uint8], kind: str, quality: int | None = None) -> bytes:
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    options = {"optimize": True} | ({} if quality is None else {"quality": quality})
    imsave(buffer, np.ascontiguousarray(pixels), format=kind, pil_kwargs=options)
    return buffer.getvalue()
