"""Hooks of the documentation: the notebooks of examples/ are pages of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@event_priority(100)  # before mkdocs-jupyter looks for notebooks
def on_files(files: Any, config: Any) -> Any:
    """Add every notebook below notebooks/."""
    from mkdocs.structure.files import File

    for notebook in sorted(EXAMPLES.glob("notebooks/*.ipynb")):
        name = f"notebooks/{notebook.name}"
        files.append(File(name, str(EXAMPLES), config.site_dir, config.use_directory_urls))
    return files
