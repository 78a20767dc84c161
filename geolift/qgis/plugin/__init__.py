# SPDX-License-Identifier: GPL-2.0-or-later
"""geolift in QGIS's Processing toolbox."""

from __future__ import annotations

from typing import Any


def classFactory(iface: Any) -> Any:
    """Return the plugin; QGIS calls this once."""
    from .plugin import GeoliftPlugin

    return GeoliftPlugin(iface)
