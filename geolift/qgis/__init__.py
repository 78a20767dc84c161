"""The QGIS plugin, and its way into a profile."""
