"""The report: one HTML file that tells a run to somebody who was not there, from its sidecar and its rasters."""

from __future__ import annotations

from geolift.report.page import default_path, make_report

__all__ = ["default_path", "make_report"]
