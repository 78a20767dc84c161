"""Hooks of the documentation: the notebooks of examples/ are pages of it, with what they answer."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority

TOOLS = Path(__file__).resolve().parent
EXAMPLES = TOOLS.parent / "examples"


@event_priority(100)  # before mkdocs-jupyter looks for notebooks
def on_files(files: Any, config: Any) -> Any:
    """Add every notebook below notebooks/, run now; with GEOLIFT_RUN_NOTEBOOKS=0 as it is stored, without outputs."""
    from mkdocs.structure.files import File

    source = EXAMPLES
    if os.environ.get("GEOLIFT_RUN_NOTEBOOKS", "1") not in ("0", "false"):
        sys.path.append(str(TOOLS))
        from run_notebooks import executed

        source = Path(tempfile.mkdtemp(prefix="geolift-notebooks-"))
        (source / "notebooks").mkdir()
        for notebook in sorted(EXAMPLES.glob("notebooks/*.ipynb")):
            with tempfile.TemporaryDirectory() as desk:
                answered = executed(notebook, Path(desk))
            (source / "notebooks" / notebook.name).write_text(json.dumps(answered), encoding="utf-8")
    for notebook in sorted(source.glob("notebooks/*.ipynb")):
        name = f"notebooks/{notebook.name}"
        files.append(File(name, str(source), config.site_dir, config.use_directory_urls))
    return files
