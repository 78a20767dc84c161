# SPDX-License-Identifier: GPL-2.0-or-later
# mypy: disable-error-code="import-not-found,import-untyped,misc,no-untyped-call"
"""The plugin and its Processing provider."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsApplication, QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from .algorithms import ALGORITHMS
from .forms import EXECUTABLE_SETTING
from .gathering import GATHERING

HERE = Path(__file__).parent


class GeoliftProvider(QgsProcessingProvider):
    """Processing's list of geolift's algorithms."""

    def id(self) -> str:
        """Return the part before the colon in geolift:fuse."""
        return "geolift"

    def name(self) -> str:
        """Return what the toolbox shows."""
        return "geolift"

    def icon(self) -> Any:
        """Return the toolbox's picture."""
        return QIcon(str(HERE / "icon.svg"))

    def load(self) -> bool:
        """Add the provider's setting to Processing's options, then the algorithms."""
        ProcessingConfig.settingIcons[self.name()] = self.icon()
        label = "Command geolift (empty: find it)"
        ProcessingConfig.addSetting(Setting(self.name(), EXECUTABLE_SETTING, label, "", valuetype=Setting.FILE))
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self) -> None:
        """Take the setting away again."""
        ProcessingConfig.removeSetting(EXECUTABLE_SETTING)

    def loadAlgorithms(self) -> None:
        """Add the algorithms."""
        for kind in (*ALGORITHMS, *GATHERING):
            self.addAlgorithm(kind())


class GeoliftPlugin:
    """What QGIS loads; with or without a window."""

    def __init__(self, iface: Any) -> None:
        self.iface = iface
        self.provider: Any = None

    def initProcessing(self) -> None:
        """Add the provider; called by qgis_process as well."""
        self.provider = GeoliftProvider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self) -> None:
        """Add the provider; called by QGIS with a window."""
        self.initProcessing()

    def unload(self) -> None:
        """Remove the provider."""
        if self.provider is not None:
            QgsApplication.processingRegistry().removeProvider(self.provider)
            self.provider = None
