"""What the methods share."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float, float], None]
"""Told the finished fraction (0 … 1) and the current loss; ends the training by raising."""
