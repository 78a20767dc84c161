"""From a STAC API: search the multispectral scene of a hyperspectral one, choose the clearest, fuse.

    python examples/from_stac.py enmap.tif https://earth-search.aws.element84.com/v1 sentinel-2-c1-l2a fused.tif

The item is read from the API as it stands: its assets by band, their scale and offset, from where they lie. Needs
pystac-client (`pip install pystac-client`). An API whose assets want a signature: sign the item first, save it as JSON,
and pass that file to `geolift fuse`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pystac_client import Client

import geolift
from geolift.datamodel.alignment import bounds_in
from geolift.datamodel.cube import grid_of
from geolift.pipeline import files
from geolift.settings import FuseSettings


def clearest_item(hsi: Path, api: str, collection: str) -> str:
    """Search the scenes that meet the HSI, and return the address of the one with the fewest clouds."""
    from odc.geo.crs import CRS

    footprint = bounds_in(grid_of(geolift.open(hsi)), CRS("EPSG:4326"))
    items = list(Client.open(api).search(collections=[collection], bbox=footprint, max_items=50).items())
    if not items:
        raise SystemExit(f"{api}: no scene of {collection} meets {hsi}")
    best = min(items, key=lambda item: item.properties.get("eo:cloud_cover", 100.0))
    print(f"{len(items)} scenes; {best.id} has {best.properties.get('eo:cloud_cover', '?')} % of clouds")
    address = best.get_self_href()
    assert address is not None
    return str(address)


def main(hsi: Path, api: str, collection: str, output: Path, **options: Any) -> dict[str, Any]:
    """Search, choose, fuse; return the facts of the run."""
    item = clearest_item(hsi, api, collection)
    result = files.fuse_files(str(hsi), item, output, FuseSettings(sensor="sentinel2", **options))
    facts = result.to_json()
    for text in facts["warnings"]:
        print(f"warning: {text}")
    print(f"{result.output}: {facts['written']['valid_pixels']} pixels")
    return facts


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
