"""Write docs/sidecar.schema.json: a JSON schema of what a sidecar tells, from geolift/provenance/record.py.

python tools/build_sidecar_schema.py           # write
python tools/build_sidecar_schema.py --check   # exit 1 if it has fallen behind
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from geolift.provenance.record import RunRecord
from geolift.provenance.sidecar import EXTENSIONS, PREFIX

TARGET = Path(__file__).resolve().parent.parent / "docs" / "sidecar.schema.json"


def document() -> str:
    """Return the schema of the whole STAC Item; what is ours stands under its properties with our prefix."""
    record: dict[str, Any] = RunRecord.model_json_schema(by_alias=True)
    properties = {f"{PREFIX}{name}": rule for name, rule in record.pop("properties").items()}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Sidecar of a product of geolift",
        "description": "A STAC Item; see https://github.com/radiantearth/stac-spec for what is not ours.",
        "type": "object",
        "required": ["type", "stac_version", "stac_extensions", "id", "properties", "assets"],
        "properties": {
            "type": {"const": "Feature"},
            "stac_version": {"type": "string"},
            "stac_extensions": {"type": "array", "items": {"enum": list(EXTENSIONS)}},
            "properties": {"type": "object", "properties": properties},
        },
        "$defs": record.pop("$defs"),
    }
    return json.dumps(schema, indent=1) + "\n"


def main() -> int:
    """Write the schema, or tell whether it has fallen behind."""
    text = document()
    if "--check" in sys.argv:
        return int(TARGET.read_text(encoding="utf-8") != text)
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
